"""Taking a function out of a chat-like answer, by named rules; the name stands in the results beside each verdict.

First where the code stands (`find_code`): a fenced block, or the whole answer. Then how it becomes a program together
with HumanEval's prompt (`spellings`). Of all of them (`programs`) the first that compiles runs.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from typing import NamedTuple

MAX_CODE = 100_000  # characters; longer answers are cut, no function needs them
MAX_BLOCKS = 8  # of one answer that are tried

PYTHON_FENCE, PLAIN_FENCE, APOSTROPHES = "python fence", "plain fence", "apostrophe fence"
NO_FENCE = "no fence"
UNCLOSED, OF_SEVERAL, JOINED = "unclosed ", ", one of several", ", those before it joined"
INSTEAD = ", instead of one that does not compile"

WHOLE, BODY, BODY_MOVED, BODY_FIRST_LINE = "whole function", "body", "body, indented anew", "body, first line indented"
WHOLE_MOVED, FROM_TEXT, CLASS = "whole function, indented anew", "function out of text", "method of a class"
BODY_CUT = "body, text after it cut off"
NOT_PYTHON = "not Python"
_CUT = (FROM_TEXT, BODY_CUT)  # what leaves something of a block out, when no block compiles as it is

_LABELS = ("python", "python3", "py")
_BACKTICKS = re.compile(r"(?:^|[^`])```+[ \t]*(?:([\w+#.-]+)[ \t]*)?$")
# A fence of three apostrophes, which the paper's prompt asks for, needs its label and stands at the margin: ''' also
# quotes docstrings.
_QUOTES = re.compile(r"^'''[ \t]*(\w+)[ \t]*$")
_CODE_START = re.compile(r"^(?:def|class|from|import|async def|@\w)", re.MULTILINE)
# Lines at the margin with which code goes on after its first line: keywords, assignments, calls, closing brackets.
_CODE_LINE = re.compile(
    r"\s|$|#|[)\]}]|@\w|(?:def|class|async|from|import|if|elif|else|for|while|try|except|finally|with|return|assert|"
    r"raise|print|del|global)\b.*(?:[:(\[{,\\\"']|\bimport\b|\bas\b|==|\w)\s*|"
    r"[A-Za-z_][\w.\[\], ]*[-+*/|&%]?=[^=]|[\w.]+\("
)
_ENGLISH = re.compile(r"\n(?=[A-Z][a-z][^=(\[\n]*(?:[.:!]|[ \t]\w+[ \t]\w+))")  # a line of English after the code
_HEAD_END = re.compile(r":[ \t]*(?:#.*)?$")
_PLACEHOLDER = re.compile(r"[ \t]*(?:(?:pass|\.\.\.|raise NotImplementedError\b.*)[ \t]*)?(?:#.*)?")
_DEFINITION_LINE = re.compile(r"\s|$|#|@\w|\)|(?:async )?def |class |import |from [\w.]+ import ")
_RETURN = re.compile(r"^[ \t]*(?:return|yield)\b", re.MULTILINE)
_FUTURE = re.compile(r"^from __future__ import .*\n?", re.MULTILINE)


class Program(NamedTuple):
    """A program that an answer may mean: the code in it, where that stood, and the rule that made `text` of it."""

    code: str
    where: str
    rule: str
    text: str


def programs(answer: str, prompt: str, entry_point: str) -> list[Program]:
    """Return the programs to try in order; the first that compiles runs.

    A block that compiles only in part comes after one that does as a whole.

    Args:
        answer: The model's text.
        prompt: HumanEval's.
        entry_point: The function's name.
    """
    found = [
        Program(code, where, rule, text)
        for code, where in find_code(answer, entry_point)
        for rule, text in spellings(code, prompt, entry_point)
    ]
    unique: dict[str, Program] = {}
    for one in sorted(found, key=lambda one: one.rule in _CUT):
        unique.setdefault(one.text, one)
    return list(unique.values())


def find_code(answer: str, entry_point: str) -> list[tuple[str, str]]:
    """Return (code, where it stood): the first fenced block that defines the function, else the first block of Python.

    Later ones of the same kind follow, for when it does not compile. A block that only shows the function's head gives
    way to a later one that defines it; blocks before it that hold just imports and definitions belong to it. Blocks
    with another language's label do not count; an answer without a block is code as a whole, and so is what stands
    before a last fence that opens nothing.

    Args:
        answer: The model's text; only the first MAX_CODE characters are read.
        entry_point: The function's name.
    """
    answer = answer[:MAX_CODE].replace("\r\n", "\n")
    blocks = [(code, where) for code, where in _blocks(answer) if code.strip()]
    defining = [block for block in blocks if _defines(block[0], entry_point)]
    if not defining and blocks and blocks[0][1].startswith(UNCLOSED):
        before = answer[: answer.rindex(blocks[0][0])].rstrip().rpartition("\n")[0]  # without the fence's line
        if _defines(before, entry_point) or before.lstrip("\n")[:1] in (" ", "\t"):
            return [(before + "\n", NO_FENCE)]
    real = [block for block in defining if not is_stub(block[0], entry_point)]
    bodies = blocks[:1] + [block for block in blocks[1:] if _RETURN.search(block[0])]  # others show how to call it
    found: list[tuple[str, str]] = []
    for block in (real or defining or bodies or [(answer, NO_FENCE)])[:MAX_BLOCKS]:
        code, where = block
        if len(blocks) > 1:
            where += OF_SEVERAL
        if defining:
            earlier = [text for text, _ in blocks[: blocks.index(block)] if _only_defines(text, entry_point)]
            if earlier:
                code = "\n\n".join([*map(textwrap.dedent, earlier), textwrap.dedent(code)])
                where += JOINED
        found.append((code, where + INSTEAD if found else where))
    return found


def _blocks(answer: str) -> Iterator[tuple[str, str]]:
    """Yield (content, kind of fence) of the blocks that may hold Python."""
    kind: str | None = None  # of the block that is open; "" where its language is another
    fence, lines = "", []
    for line in answer.split("\n"):
        if kind is None:
            opened = _BACKTICKS.search(line) or _QUOTES.match(line)
            label = (opened[1] or "").lower() if opened else ""
            if opened and (opened.re is _BACKTICKS or label in _LABELS):
                fence, lines = ("```" if opened.re is _BACKTICKS else "'''"), []
                kind = _kind(fence, label)
        elif _closes(line, fence):
            if kind:  # code may stand before the fence on its line
                before = "" if line.strip().startswith(fence) else line.rstrip().rstrip("`")
                yield "\n".join([*lines, before]), kind
            kind = None
        else:
            lines.append(line)
    if kind:
        yield "\n".join(lines), UNCLOSED + kind


def _kind(fence: str, label: str) -> str:
    if fence == "'''":
        return APOSTROPHES
    return PYTHON_FENCE if label in _LABELS else "" if label else PLAIN_FENCE


def _closes(line: str, fence: str) -> bool:
    # backticks close at the end of a line of code too; apostrophes there would be a docstring's
    return line.strip().startswith(fence) or line.rstrip().endswith(fence) if fence == "```" else line.startswith(fence)


def _defines(code: str, entry_point: str) -> bool:
    return re.search(rf"^[ \t]*(?:async )?def {re.escape(entry_point)}\b", code, re.MULTILINE) is not None


def is_stub(code: str, entry_point: str) -> bool:
    """Return whether the function is only begun: a head with nothing, a docstring or a placeholder under it.

    By its text, for the grader must not parse what a model wrote.

    Args:
        code: A block that defines the function.
        entry_point: The function's name.
    """
    head = re.search(rf"^([ \t]*)(?:async )?def {re.escape(entry_point)}\b", code, re.MULTILINE)
    if head is None:
        return False
    lines = code[head.start() :].split("\n")
    end = next((index for index, line in enumerate(lines) if _HEAD_END.search(line)), None)
    if end is None:  # one line, or no end
        return _PLACEHOLDER.fullmatch(lines[0].rpartition(":")[2]) is not None
    body: list[str] = []
    for line in lines[end + 1 :]:
        if line.strip() and len(line) - len(line.lstrip()) <= len(head[1]):
            break
        body.append(line)
    text = "\n".join(body).strip()
    for quotes in ('"""', "'''"):
        start = text.find(quotes, 0, 4)  # a letter may stand before it
        if start >= 0:
            text = text[start + 3 :].partition(quotes)[2]
    return all(_PLACEHOLDER.fullmatch(line) for line in text.split("\n"))


def _only_defines(code: str, entry_point: str) -> bool:
    """Return whether a block holds nothing but imports and definitions, none of them of the function."""
    if _defines(code, entry_point) or not _CODE_START.search(code):
        return False
    lines = textwrap.dedent(code).rstrip().split("\n")
    return not lines[-1].endswith(":") and all(_DEFINITION_LINE.match(line) for line in lines)


def spellings(code: str, prompt: str, entry_point: str) -> list[tuple[str, str]]:
    """Return (rule, program) pairs to try in order; the first that compiles runs.

    Args:
        code: What was taken out of the answer: a function body, or a whole function with or without its imports.
        prompt: HumanEval's: imports, helpers, and the function's head with its docstring, which also is a program.
        entry_point: The function's name.
    """
    name = WHOLE if _defines(code, entry_point) else BODY
    call = _call_of_method(code, entry_point)
    if call:
        start = _CODE_START.search(code)
        kept = _code_lines(code[start.start() :] if start else code)
        return [(CLASS, f"{prompt}\n{code}\n\n{call}\n"), (CLASS, f"{prompt}\n{kept}\n\n{call}\n")]
    body = textwrap.dedent(code).strip("\n")
    first, _, rest = body.partition("\n")
    found = [
        (name, prompt + code),
        (WHOLE_MOVED if name == WHOLE else BODY_MOVED, prompt + "\n" + textwrap.dedent(code)),
        (BODY_MOVED, prompt + textwrap.indent(body, "    ")),
        (BODY_FIRST_LINE, prompt + "    " + first.lstrip() + "\n" + rest),  # only the first line lost its indentation
    ]
    if start := _CODE_START.search(code):
        function = code[start.start() :]
        found += [
            (FROM_TEXT, prompt + "\n" + function),
            (FROM_TEXT, prompt + "\n" + _code_lines(function)),
            (FROM_TEXT, prompt + "\n" + _ENGLISH.split(function, maxsplit=1)[0]),
        ]
    cut = (_ENGLISH.split(code, maxsplit=1)[0], _indented_lines(code))
    found += [(BODY_CUT, prompt + piece) for piece in cut if piece.strip()]  # the prompt alone is a program too
    unique: dict[str, str] = {}
    for rule, program in found:
        unique.setdefault(_future_first(program), rule)
    return [(rule, program) for program, rule in unique.items()]


def _future_first(program: str) -> str:
    """Return a program with its `from __future__` imports at the top, where alone Python takes them."""
    lines = _FUTURE.findall(program)
    return "".join(line.rstrip() + "\n" for line in lines) + _FUTURE.sub("", program) if lines else program


def _code_lines(code: str) -> str:
    """Return the lines up to the first at the margin that cannot be code."""
    kept: list[str] = []
    for line in code.split("\n"):
        if not _CODE_LINE.match(line):
            break
        kept.append(line)
    return "\n".join(kept) + "\n"


def _indented_lines(code: str) -> str:
    """Return the lines up to the first at the margin."""
    lines = code.split("\n")
    end = next((index for index, line in enumerate(lines) if line[:1].strip()), len(lines))
    return "\n".join(lines[:end]) + "\n"


def _call_of_method(code: str, entry_point: str) -> str | None:
    """Return the line that names a method as the function, where only a class defines it; else None."""
    if re.search(rf"^(?:async )?def {re.escape(entry_point)}\b", code, re.MULTILINE):
        return None
    method = re.search(rf"^[ \t]+def {re.escape(entry_point)}\(\s*(\w*)", code, re.MULTILINE)
    holders = re.findall(r"^class (\w+)", code[: method.start()], re.MULTILINE) if method else []
    if not holders:
        return None
    holder = f"{holders[-1]}()" if method[1] in ("self", "cls") else holders[-1]
    return f"{entry_point} = {holder}.{entry_point}"
