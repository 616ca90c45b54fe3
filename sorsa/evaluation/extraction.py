"""Finding the final answer inside a completion or a solution. Every function is linear in the length of the text."""

from __future__ import annotations

import collections
import re

AUTHORS_MARKER = "The answer is: "  # exactly what MetaMathQA teaches; the authors' release splits at it
_MARKER = re.compile(r"the\s+(?:final\s+)?answer\s+is[\s*]*:?|final\s+answer[\s*]*:", re.IGNORECASE)
_BOXED = re.compile(r"\\(?:boxed|fbox)(?![a-zA-Z])")
_OPENERS, _CLOSERS = ("{", "\\begin", "\\[", "\\("), ("}", "\\end", "\\]", "\\)")
_NESTING = re.compile(r"\\\\|\\\$|\\begin|\\end|\\[\[\]()]|\$\$|[{}]")  # `\\[2pt]` and `\$` open nothing
_FRAME = " \t\r\n*_$:`\\[](){}"  # a line of nothing else states no answer yet
MAX_ANSWER = 20_000  # characters looked at after a marker; no real answer is near this long


def _last(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    newest = collections.deque(pattern.finditer(text), maxlen=1)
    return newest[0] if newest else None


def after_authors_marker(text: str) -> str | None:
    """Return what follows the last `The answer is: `, or None where the marker is missing."""
    _, marker, after = text.rpartition(AUTHORS_MARKER)
    return after if marker else None


def after_marker(text: str) -> str | None:
    """Return what follows the last marker that anything follows, or None; at most MAX_ANSWER characters.

    A marker is `The answer is` or `Final answer:`, in any case. An answer that was cut off, or that repeats itself,
    ends in a marker with nothing behind it: the one before counts.
    """
    found, start = None, -1
    for marker in _MARKER.finditer(text):
        if start >= 0 and text[start : marker.start()].strip(_FRAME):
            found = text[start : marker.start()]
        start = marker.end()
    if start >= 0 and text[start:].strip(_FRAME):
        found = text[start:]
    return None if found is None else found[:MAX_ANSWER]


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
    """Return the line that states the answer, see `statement`; one that stays open is cut at its first line."""
    return text[: statement(text)[0]].strip()


def statement(text: str, start: int = 0) -> tuple[int, bool]:
    r"""Return the end of the first line that is more than a frame, and whether everything opened in it is closed.

    It goes on while a brace, a `\begin`, or the display of a formula (`\[`, `\(`, `$$`) is open. Where one stays open,
    the end is that of the first such line, lest all that follows is swallowed.
    """
    depth, dollars, first, position = 0, False, None, start
    while position < len(text):
        newline = text.find("\n", position)
        end = len(text) if newline < 0 else newline + 1
        line, position = text[position:end], end
        for mark in _NESTING.findall(line):
            depth += (mark in _OPENERS) - (mark in _CLOSERS)
            dollars ^= mark == "$$"
        if first is None and line.strip(_FRAME):
            first = end
        if first is not None and depth <= 0 and not dollars:
            return end, True
    return len(text) if first is None else first, False
