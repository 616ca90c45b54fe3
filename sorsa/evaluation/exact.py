"""Numbers and arithmetic as people write them, as exact fractions within fixed bounds; no float, no evaluation."""

from __future__ import annotations

import math
import re
from fractions import Fraction
from typing import Any

MAX_DIGITS = 2000  # int() of longer literals is quadratic, and refused above 4300 by Python
MAX_EXPONENT = 1000  # 1e999999999 must not become a billion-digit integer
MAX_BITS = 20_000  # of a fraction worked out: adding fractions takes the square of it
_LITERAL = re.compile(r"([-+]?)(\d*)(?:\.(\d*))?(?:[eE]([-+]?\d+))?")


class OutOfBounds(ValueError):
    """A number is longer than any honest answer; it is graded as unreadable."""


def decimal(literal: str) -> Fraction:
    """Return the exact value of a decimal literal such as `-12`, `.5`, `3.`, `1.5e3`.

    Args:
        literal: Digits with optional sign, point and exponent; thousands separators already removed.

    Raises:
        OutOfBounds: More than MAX_DIGITS digits, or an exponent beyond +-MAX_EXPONENT.
        ValueError: Not such a literal.
    """
    if len(literal) > MAX_DIGITS:
        raise OutOfBounds(f"a number of {len(literal)} characters")
    match = _LITERAL.fullmatch(literal)
    if not match or not (match[2] or match[3]):
        raise ValueError(f"not a decimal number: {literal[:40]!r}")
    sign, whole, part, exponent = match[1], match[2], match[3] or "", match[4] or "0"
    if len(exponent) > 6 or abs(int(exponent)) > MAX_EXPONENT:
        raise OutOfBounds(f"an exponent of {exponent[:12]}")
    value = Fraction(int(whole + part or "0"), 10 ** len(part)) * Fraction(10) ** int(exponent)
    return -value if sign == "-" else value


def power(base: Fraction, exponent: Fraction) -> Fraction | None:
    """Return base**exponent where it is rational and small enough to write down, None where it is irrational.

    Raises:
        OutOfBounds: The result would have too many digits.
        ZeroDivisionError: 0 to a negative power.
    """
    if exponent.denominator != 1:
        return None
    bits = max(base.numerator.bit_length(), base.denominator.bit_length())
    if abs(exponent.numerator) * bits > 4 * MAX_DIGITS and bits > 1:
        raise OutOfBounds("a power with too many digits")
    # a base of 0, 1 or -1 has one bit and stays small, but its exponent may not be a loop bound
    return base ** (exponent.numerator if bits > 1 else _small_exponent(base, exponent.numerator))


def _small_exponent(base: Fraction, exponent: int) -> int:
    if base == 0 and exponent < 0:
        raise ZeroDivisionError("0 to a negative power")
    return exponent % 2 + (2 if exponent else 0) if base else min(exponent, 1)


def exact_value(node: list[Any]) -> Fraction | None:
    """Return the rational value of an expression, or None where it has none or needs symbolic work.

    Args:
        node: A node of `latex.py`.

    Raises:
        OutOfBounds: A power or factorial too large to write out.
    """
    if node[0] == "num":
        return Fraction(node[1])
    if node[0] not in ARITHMETIC:
        return None
    values = [exact_value(child) for child in node[1:]]
    if any(value is None for value in values):
        return None
    try:
        value = _OPERATIONS[node[0]](*values)
    except ZeroDivisionError:
        return None
    if value is not None and max(value.numerator.bit_length(), value.denominator.bit_length()) > MAX_BITS:
        raise OutOfBounds("a fraction with too many digits")
    return value


def _factorial(n: Fraction) -> Fraction | None:
    if n.denominator != 1 or n < 0:
        return None
    if n > 500:  # 500! has 1135 digits, within MAX_DIGITS
        raise OutOfBounds("a factorial with too many digits")
    return Fraction(math.factorial(int(n)))


def _root(value: Fraction, index: Fraction) -> Fraction | None:
    if index != 2 or value < 0:
        return None
    over, under = math.isqrt(value.numerator), math.isqrt(value.denominator)
    return Fraction(over, under) if over**2 == value.numerator and under**2 == value.denominator else None


_OPERATIONS = {
    "add": lambda a, b: a + b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "neg": lambda a: -a,
    "pow": power,
    "fact": _factorial,
    "root": _root,
}
ARITHMETIC = frozenset(_OPERATIONS)  # kinds of nodes
