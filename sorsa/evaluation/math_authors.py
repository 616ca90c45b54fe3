r"""The verdicts of the authors' MATH comparison, faults included, but nothing is run (README, differences 9, 14).

Theirs is: normalise both texts; equal as numbers (relative 1e-4, also times or divided by 100), as texts, part by part
in equal brackets, or symbolically. If normalising fails, the gold text is compared with itself, which is right. Their
symbolic step read text with parsers that can execute it; ours reads with `sorsa.evaluation.latex`, which knows some
texts that theirs do not and the reverse, so verdicts differ in both directions (76 of 551 pairs chosen to differ).
Behaviour: github.com/Gunale0926/SORSA (inference/), read at commit 309ca89.
"""

from __future__ import annotations

import math
import re

from sorsa.evaluation.exact import OutOfBounds
from sorsa.evaluation.extraction import after_authors_marker, matching_brace
from sorsa.evaluation.latex import Node, parse
from sorsa.evaluation.latex_tokens import MAX_LENGTH, Unreadable
from sorsa.evaluation.symbolic import SymbolicError, SymbolicWorker

_REMOVED = ("\n", "\\!")
_REMOVED_AFTER = ("\\left", "\\right", "^{\\circ}", "^\\circ", "\\$")
_PARTS_LIMIT = 200


class CannotNormalise(Exception):
    """Their normalising raises an exception for this text."""


def extract(completion: str) -> str | None:
    """Return the text after the last `The answer is: `, up to a full stop that ends a line."""
    after = after_authors_marker(completion)
    if after is None:
        return None
    return after.split(".\n")[0].strip().removesuffix(".").strip()


def gold_answer(solution: str) -> str | None:
    r"""Return the content of the last `\boxed{...}`; None where it is not complete or has no braces."""
    start = solution.rfind("\\boxed")
    if start < 0:
        return None
    opening = start + len("\\boxed")
    end = matching_brace(solution, opening) if solution[opening : opening + 1] == "{" else -1
    return solution[opening + 1 : end] if end >= 0 else None


def same_answer(gold: str, answer: str, worker: SymbolicWorker) -> bool:
    """Return their verdict on two texts; a missing one is the text `None`, as in their code.

    Raises:
        SymbolicTimeout: The symbolic comparison took too long.
    """
    try:
        first, second = normalise(gold), normalise(answer)
    except CannotNormalise:
        return bool(gold)  # the first text compared with itself; only an empty one fails that
    if first == second:
        return True
    # beyond this length theirs would take hours to find what cannot be equal anyway
    return max(len(first), len(second)) <= MAX_LENGTH and _equal(first, second, worker)


def normalise(text: str) -> str:
    """Return their normal form of an answer.

    Raises:
        CannotNormalise: Where their code raises: `x/2`, a final `\\frac`, a second `\\text{ `.
    """
    for mark in _REMOVED:
        text = text.replace(mark, "")
    text = text.replace("\\\\", "\\").replace("tfrac", "frac").replace("dfrac", "frac")
    for mark in _REMOVED_AFTER:
        text = text.replace(mark, "")
    text = _without_unit(text).replace("\\%", "")
    text = text.replace(" .", " 0.").replace("{.", "{0.")
    if not text:
        return text
    if text[0] == ".":
        text = "0" + text
    sides = text.split("=")
    if len(sides) == 2 and len(sides[0]) <= 2:
        text = sides[1]
    text = _braced_roots(text).replace(" ", "")
    text = _braced_fractions(text)
    return _slash("\\frac{1}{2}" if text == "0.5" else text)


def _without_unit(text: str) -> str:
    pieces = text.split("\\text{ ")
    if len(pieces) > 2:
        raise CannotNormalise("two units")
    return pieces[0]


def _braced_roots(text: str) -> str:
    head, *tails = text.split("\\sqrt")
    if not all(tails):
        raise CannotNormalise("a root of nothing")
    return head + "".join("\\sqrt" + (t if t[0] == "{" else "{" + t[0] + "}" + t[1:]) for t in tails)


def _braced_fractions(text: str) -> str:
    head, *tails = text.split("\\frac")
    for tail in tails:
        if not tail:
            raise CannotNormalise("a fraction of nothing")
        if tail[0] == "{":
            head += "\\frac" + tail
        elif len(tail) < 2:
            return text
        else:
            under = tail[1:] if tail[1] == "{" else "{" + tail[1] + "}" + tail[2:]
            head += "\\frac{" + tail[0] + "}" + under
    return head


def _slash(text: str) -> str:
    """`3/4` becomes a fraction; anything else with one slash made their code fail, which is fault 5.9."""
    parts = text.split("/")
    if len(parts) != 2:
        return text
    try:
        over, under = (int(part) for part in parts)
    except ValueError as error:
        raise CannotNormalise("a slash without integers") from error
    return f"\\frac{{{over}}}{{{under}}}" if text == f"{over}/{under}" else text


def _number(text: str) -> float | None:
    try:
        return float(text.replace(",", ""))
    except ValueError:
        return None


def _equal(first: str, second: str, worker: SymbolicWorker) -> bool:
    x, y = _number(first), _number(second)
    if x is not None and y is not None:
        return any(math.isclose(value, x, rel_tol=1e-4) for value in (y / 100, y, y * 100))
    if not first:
        return False
    first, second = first.strip(), second.strip()
    if _same_text(first, second):
        return True
    if any(_enclosed(first, pair) and _enclosed(second, pair) for pair in ("[]", "()")):
        parts, others = first[1:-1].split(","), second[1:-1].split(",")
        if len(parts) == len(others) <= _PARTS_LIMIT and all(map(lambda a, b: _equal(a, b, worker), parts, others)):
            return True
    try:
        return worker.compare("close", _natural(parse(first)), _natural(parse(second)))
    except (Unreadable, OutOfBounds, SymbolicError):
        return False


def _natural(node: Node) -> Node:
    r"""Return a node with `\log` as `\ln`, which their parsers take it for."""
    if node[:2] == ["fn", "log"]:
        node = ["fn", "ln", node[2]]
    return [_natural(child) if isinstance(child, list) else child for child in node]


def _enclosed(text: str, pair: str) -> bool:
    return text.startswith(pair[0]) and text.endswith(pair[1])


def _same_text(first: str, second: str) -> bool:
    """Equal once brackets are dropped; square ones are first dropped only where their condition holds."""
    loose = (_enclosed(first, "[]") and not second.startswith("(")) or (
        _enclosed(first, "()") and not second.startswith("[")
    )
    if loose:
        first, second = first.strip("[]()"), second.strip("[]()")
    return re.sub(r"[{}()]", "", first) == re.sub(r"[{}()]", "", second)
