"""Finding the final answer inside a completion or a solution. Every function is linear in the length of the text."""

from __future__ import annotations

import collections
import re

AUTHORS_MARKER = "The answer is: "  # exactly what MetaMathQA teaches; the authors' release splits at it
_MARKER = re.compile(r"the\s+(?:final\s+)?answer\s+is\s*:?", re.IGNORECASE)
_BOXED = re.compile(r"\\(?:boxed|fbox)(?![a-zA-Z])")
MAX_ANSWER = 20_000  # characters looked at after a marker; no real answer is near this long


def _last(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    newest = collections.deque(pattern.finditer(text), maxlen=1)
    return newest[0] if newest else None


def after_authors_marker(text: str) -> str | None:
    """Return what follows the last `The answer is: `, or None where the marker is missing."""
    _, marker, after = text.rpartition(AUTHORS_MARKER)
    return after if marker else None


def after_marker(text: str) -> str | None:
    """Return what follows the last `The answer is` (any case, colon or not), or None; at most MAX_ANSWER characters."""
    last = _last(_MARKER, text)
    return None if last is None else text[last.end() : last.end() + MAX_ANSWER]


def after_hashes(text: str) -> str | None:
    """Return the rest of the line after the last `####`, GSM-8K's own mark, or None."""
    _, marker, after = text.rpartition("####")
    return after.partition("\n")[0] if marker else None


def matching_brace(text: str, start: int) -> int:
    """Return the index of the brace that closes the `{` at `start`, or -1; an escaped brace does not count."""
    depth = 0
    for match in re.compile(r"\\.|[{}]", re.DOTALL).finditer(text, start):
        if match.group() == "{":
            depth += 1
        elif match.group() == "}":
            depth -= 1
            if depth == 0:
                return match.start()
    return -1


def last_boxed(text: str) -> str | None:
    r"""Return the content of the last `\boxed{...}` (or `\boxed 5`, `\fbox{...}`), or None where none is complete."""
    last = _last(_BOXED, text)
    if last is None:
        return None
    rest = text[last.end() :].lstrip()
    if rest.startswith("{"):
        end = matching_brace(rest, 0)
        return rest[1:end] if end > 0 else None
    word = re.match(r"[^\s$.,]+", rest)
    return word.group() if word else None


def first_line(text: str) -> str:
    r"""Return the first non-empty line, going on while a brace or a `\begin` is open (a matrix may span lines)."""
    kept: list[str] = []
    depth = 0
    for line in text.strip().split("\n"):
        kept.append(line)
        depth += line.count("{") - line.count("}") + line.count("\\begin") - line.count("\\end")
        if depth <= 0:
            break
    # an answer that never closes its brace is cut at its first line, not swallowed with all that follows
    return "\n".join(kept).strip() if depth <= 0 else kept[0].strip()
