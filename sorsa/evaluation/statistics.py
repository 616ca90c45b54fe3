"""Intervals for accuracies."""

from __future__ import annotations

import math

Z_95 = 1.959963984540054  # two-sided 95% quantile of the standard normal distribution


def wilson_interval(successes: int, n: int) -> tuple[float, float]:
    """Return the 95% Wilson score interval of a proportion.

    Args:
        successes: Number of right answers, 0 to n.
        n: Number of answers; with 0 nothing is known and the interval is (0, 1).

    Returns:
        Lower and upper bound, each in [0, 1].

    Raises:
        ValueError: successes is not in [0, n].

    Source: E. B. Wilson, J. Am. Stat. Assoc. 22 (1927) 209-212.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"successes must lie in [0, {n}]; got {successes}")
    if n == 0:
        return 0.0, 1.0
    p, z2 = successes / n, Z_95**2
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = Z_95 * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    # exact ends where rounding would leave 1e-17
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == n else min(1.0, centre + half)
    return low, high
