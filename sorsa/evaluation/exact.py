"""Numbers as people write them, read into exact fractions within fixed bounds. No float and no Python evaluation."""

from __future__ import annotations

import re
from fractions import Fraction

MAX_DIGITS = 2000  # int() of longer literals is quadratic, and refused above 4300 by Python
MAX_EXPONENT = 1000  # 1e999999999 must not become a billion-digit integer
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
