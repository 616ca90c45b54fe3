r"""Answers that are nearly right and must count as wrong; used by graders.py, as grader_rewritings.py is.

Each function takes the gold answer and yields (kind, text of the final answer).
"""

from __future__ import annotations

import re

from grader_rewritings import THOUSANDS, Pairs, value_of


def gsm8k(gold: str) -> Pairs:
    """Answers one slip away from a whole number, none of which states it."""
    number = int(gold.replace(",", ""))
    yield from math(gold)
    yield "half more", f"{number}.5"
    yield "and a half", f"{number} and a half"
    yield "range", f"{number} to {number + 2}"
    yield "choice", f"{number} or {number + 1}"
    yield "two values", f"{number} apples and {abs(number) + 5} oranges"
    yield "expression", f"{number} + 5"
    yield "formula", f"{number} + x"
    yield "root", f"\\sqrt{{{number * number + 1}}}"
    yield "square", f"{number}^2"
    yield "thousand", f"{number} thousand" if number else "1 thousand"
    yield "time", f"{abs(number)} hours 30 minutes"
    yield "two values, comma", f"{number}, {number + 2}"
    yield "two values, semicolon", f"{number}; {number + 2}"
    yield "two values, brackets", f"({number}, {number + 2})"
    yield "two values, side by side", f"{number} & {number + 2}"
    yield "two values, things", f"{number} apples, {abs(number) + 5} pears"
    yield "two names", f"x = {number} or x = {number + 2}"
    yield "times", f"{number} times 3"
    yield "plus", f"{number} plus 12"
    yield "out of", f"{number} out of {abs(number) + 4}"
    yield "half of", f"half of {number}" if number else "half of 2"
    yield "dozen", f"{number} dozen" if number else "1 dozen"
    yield "unknown", f"{number}x"
    yield "more than", f"more than {number}"
    yield "continued", f"{number} * 3 = {3 * number + 1}"


def math(gold: str) -> Pairs:
    """Answers one slip away from the gold one, none of which means the same."""
    if re.fullmatch(r"-?\d{1,3}", gold):
        number = int(gold)
        yield "two values, comma", f"{number}, {number + 2}"
        yield "minus in words", f"{number} minus 1"
        yield "squared in words", f"{number if number > 1 else 7} squared"
        yield "rejected", f"{number} \\text{{ is wrong}}"
        yield "dozen", f"{number or 1} \\text{{ dozen}}"
        yield "unsolved", f"{number}x = {number}"
    if digit := list(re.finditer(r"(?<![\d.,\\])\d+(?![\d.]|,\d{3})", gold)):
        last = digit[-1]
        yield "plus one", gold[: last.start()] + str(int(last.group()) + 1) + gold[last.end() :]
    value = value_of(gold)
    if value:
        yield "sign", gold[1:] if gold.startswith("-") else f"-{gold}"
        yield "ten times", str(10 * value) if value.denominator == 1 else f"{10 * value}"
        yield "almost", f"{float(value) * 1.00001:.12f}"
        yield "inverse", f"{value.denominator}/{value.numerator}" if abs(value) != 1 else "0"
        yield "other unknown", f"\\frac{{{gold}}}{{x}}"
    if point := re.fullmatch(r"(\\left)?\( *([^,()]+), *([^,()]+?) *(\\right)?\)", gold):
        if point[2].strip() != point[3].strip():
            yield "swapped", f"({point[3]}, {point[2]})"
        yield "other brackets", f"[{point[2]}, {point[3]}]"
    if interval := re.fullmatch(r"\[([^,()\[\]]+),([^,()\[\]]+)\]", gold):
        yield "open", f"({interval[1]},{interval[2]})"
    items = gold.split(",")
    if len(items) > 1 and not re.search(r"[()\[\]{}]", gold) and not THOUSANDS.search(gold):
        yield "one missing", ",".join(items[1:])
        yield "one more", f"{gold},77"
    if len(items) == 2 and (names := re.findall(r"([a-zA-Z]) *= *([^=]+)", gold)) and len(names) == 2:
        (first, one), (second, other) = names
        yield "names swapped", f"{second} = {one.strip(' ,')}, {first} = {other}"
