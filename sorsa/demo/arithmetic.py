"""The four operations on small whole numbers that every text of the demo is made of."""

from __future__ import annotations

import operator

LARGEST = 150  # every operand and result of a word problem lies in 1..LARGEST; pre-training practises exactly this
OPERATIONS = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.floordiv}


def evaluate(left: int, sign: str, right: int) -> int | None:
    """Return `left sign right`, or None where it is not a whole number in 1..LARGEST.

    Args:
        left: First operand, at least 1.
        sign: One of `+ - * /`.
        right: Second operand, at least 1.
    """
    if sign == "/" and left % right:
        return None
    result = OPERATIONS[sign](left, right)
    return result if 1 <= result <= LARGEST else None


def equation(left: int, sign: str, right: int, result: int) -> str:
    """Write one step the way all demo texts do: `5 + 7 = 12`."""
    return f"{left} {sign} {right} = {result}"
