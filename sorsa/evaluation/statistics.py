"""Intervals for accuracies: of one test, of the difference between two on the same questions, and over several seeds.

Where there is one seed, only the questions are a sample, and intervals that hold for few of them are used (Wilson,
Newcombe). With several seeds both are: another seed gives another model, another test set other questions. Verdicts
then follow the crossed model

    y[s, q] = mean + seed[s] + question[q] + rest[s, q]

whose mean squares say how much of the spread comes from each (Searle, Casella and McCulloch, Variance Components,
1992, chapter 4). A standard deviation over seeds alone counts the questions as if they were all there are.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

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


def mcnemar_exact(b: int, c: int) -> float:
    """Return the two-sided exact p-value that two tests of the same questions are equally good.

    Args:
        b: Questions that only the first has right.
        c: Questions that only the second has right.

    Returns:
        Probability of a split of b + c at least as uneven if each side were as likely; in whole numbers until the
        last division.

    Raises:
        ValueError: A count is negative.

    Source: the sign test on the discordant pairs, Q. McNemar, Psychometrika 12 (1947) 153-157.
    """
    if min(b, c) < 0:
        raise ValueError(f"counts must not be negative; got {b} and {c}")
    n, term, tail = b + c, 1, 0
    for k in range(min(b, c) + 1):
        tail += term
        term = term * (n - k) // (k + 1)
    return 1.0 if b == c else min(1.0, (2 * tail) / (1 << n))


def paired_interval(both: int, only_a: int, only_b: int, neither: int) -> tuple[float, float]:
    """Return the 95% interval of accuracy(b) - accuracy(a) on the same questions.

    Args:
        both: Questions right in both.
        only_a: Questions right in a alone.
        only_b: Questions right in b alone.
        neither: Questions right in neither.

    Returns:
        Bounds in [-1, 1]; (-1, 1) without questions.

    Source: method 10 of R. G. Newcombe, Statistics in Medicine 17 (1998) 2635-2650: the Wilson bounds of the two
    accuracies, put together with their correlation, which is shrunk where it is positive. It keeps its 95% for few
    questions and few differences, where the textbook's normal interval does not.
    """
    n = both + only_a + only_b + neither
    if n == 0:
        return -1.0, 1.0
    a, b = both + only_a, both + only_b
    (low_a, high_a), (low_b, high_b) = wilson_interval(a, n), wilson_interval(b, n)
    p_a, p_b = a / n, b / n
    phi = 0.0
    if 0 < a < n and 0 < b < n:
        cross = both * neither - only_a * only_b
        cross = max(cross - n / 2, 0.0) if cross > 0 else cross
        phi = cross / math.sqrt(a * (n - a) * b * (n - b))

    def reach(one: float, other: float) -> float:
        return math.sqrt(max(0.0, one * one - 2 * phi * one * other + other * other))

    difference = p_b - p_a
    low = difference - reach(p_b - low_b, high_a - p_a)
    high = difference + reach(high_b - p_b, p_a - low_a)
    return max(-1.0, low), min(1.0, high)


def student_quantile(p: float, df: float) -> float:
    """Return the quantile of Student's t distribution.

    Args:
        p: Probability below it, in (0.5, 1).
        df: Degrees of freedom, above 0, not necessarily whole.

    Returns:
        The t with P(T < t) = p, to nine digits.

    Raises:
        ValueError: p or df is outside its range.
    """
    if not 0.5 < p < 1 or not df > 0:
        raise ValueError(f"p must lie in (0.5, 1) and df be positive; got {p} and {df}")
    low, high = 0.0, 1.0
    while student_tail(high, df) > 1 - p:
        low, high = high, 2 * high
    while high - low > 1e-9 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if student_tail(middle, df) > 1 - p else (low, middle)
    return (low + high) / 2


def student_tail(t: float, df: float) -> float:
    """Return P(T > t) of Student's t distribution for t >= 0, by the incomplete beta function."""
    import mpmath  # SymPy's own arithmetic; importing it here keeps the command line quick

    return float(mpmath.betainc(df / 2, 0.5, 0, df / (df + t * t), regularized=True)) / 2


@dataclasses.dataclass(frozen=True)
class Spread:
    """An estimate over seeds and questions.

    Args:
        value: The estimate.
        interval_95: Its bounds.
        p_value: Two-sided, of the value being 0; None where that is no question.
        df: Degrees of freedom of the t quantile; None where an interval for one seed was used.
    """

    value: float
    interval_95: tuple[float, float]
    p_value: float | None
    df: float | None


def seeds_and_questions_interval(verdicts: Sequence[Sequence[bool]] | np.ndarray) -> Spread:
    """Return mean accuracy and the 95% interval that counts both seeds and questions.

    Args:
        verdicts: (seeds, questions), right or wrong; the same questions in every row.

    Returns:
        With one seed, or where no spread is seen at all, the Wilson interval of the questions.

    Raises:
        ValueError: There is no verdict, or the rows differ in length.
    """
    table = _table(verdicts)  # (S, Q)
    mean = float(table.mean())
    seeds, questions = table.shape
    variance, df = _variance([table], table.mean(axis=0)) if seeds > 1 and questions > 1 else (0.0, 1.0)
    if variance <= 0:
        return Spread(mean, wilson_interval(round(mean * questions), questions), None, None)
    half = student_quantile(0.975, df) * math.sqrt(variance)
    return Spread(mean, (max(0.0, mean - half), min(1.0, mean + half)), None, df)


def difference_over_seeds(a: Sequence[Sequence[bool]], b: Sequence[Sequence[bool]]) -> Spread:
    """Return accuracy(b) - accuracy(a) with the 95% interval and p-value that count both seeds and questions.

    Questions are paired; seeds are not: what two methods share under one seed, the order of the rows, says little of
    which questions they answer, and unpaired the interval errs on the wide side.

    Args:
        a: Verdicts (seeds, questions) of the first.
        b: Of the second, on the same questions; it may have another number of seeds.

    Returns:
        The t test of the crossed model. Where that sees no spread at all, or each side has one seed: Newcombe's
        interval and McNemar's exact test of the first seeds.

    Raises:
        ValueError: There is no verdict, or the numbers of questions differ.
    """
    left, right = _table(a), _table(b)
    if left.shape[1] != right.shape[1]:
        raise ValueError(f"a has {left.shape[1]} questions, b has {right.shape[1]}")
    per_question = right.mean(axis=0) - left.mean(axis=0)  # (Q,)
    value = float(per_question.mean())
    several = max(len(left), len(right)) > 1 and left.shape[1] > 1
    variance, df = _variance([left, right], per_question) if several else (0.0, 1.0)
    if variance <= 0:
        both, only_a, only_b, neither = paired_counts(left[0] > 0, right[0] > 0)
        return Spread(value, paired_interval(both, only_a, only_b, neither), mcnemar_exact(only_a, only_b), None)
    error = math.sqrt(variance)
    half = student_quantile(0.975, df) * error
    p_value = 2 * student_tail(abs(value) / error, df)
    return Spread(value, (max(-1.0, value - half), min(1.0, value + half)), p_value, df)


def paired_counts(a: Sequence[bool] | np.ndarray, b: Sequence[bool] | np.ndarray) -> tuple[int, int, int, int]:
    """Return how many questions both have right, only a, only b, and neither."""
    left, right = np.asarray(a, bool), np.asarray(b, bool)
    both, only_a, only_b = int((left & right).sum()), int((left & ~right).sum()), int((~left & right).sum())
    return both, only_a, only_b, len(left) - both - only_a - only_b


def _table(verdicts: Sequence[Sequence[bool]] | np.ndarray) -> np.ndarray:
    """Return verdicts as floats (S, Q)."""
    if len({len(row) for row in verdicts}) != 1 or not len(verdicts[0]):
        raise ValueError("every seed needs the same questions, at least one")
    return np.asarray(verdicts, dtype=float)


def _variance(tables: Sequence[np.ndarray], per_question: np.ndarray) -> tuple[float, float]:
    """Return the variance of a mean over questions of sums of seed means, and Satterthwaite's degrees of freedom.

    Args:
        tables: One (S, Q) for a mean, two for a difference; one with S = 1 says nothing about seeds and adds nothing.
        per_question: (Q,), the value of each question, averaged over seeds.

    For one table this is (MS_seeds + MS_questions - MS_rest) / (S Q), since MS_questions / S is the variance of
    per_question. Seeds that differ less than chance would make them are taken as no spread, not as a negative one.

    Source: F. E. Satterthwaite, Biometrics Bulletin 2 (1946) 110-114.
    """
    questions = len(per_question)
    parts = [(float(per_question.var(ddof=1)) / questions, questions - 1)]
    for table in tables:
        seeds = len(table)
        if seeds == 1:
            continue
        rest = table - table.mean(axis=1, keepdims=True) - table.mean(axis=0, keepdims=True) + table.mean()
        ms_rest = float((rest**2).sum()) / ((seeds - 1) * (questions - 1))
        ms_seeds = questions * float(table.mean(axis=1).var(ddof=1))
        if ms_seeds > ms_rest:
            parts.append((ms_seeds / (seeds * questions), seeds - 1))
            parts.append((-ms_rest / (seeds * questions), (seeds - 1) * (questions - 1)))
    variance = sum(part for part, _ in parts)
    spread = sum(part**2 / df for part, df in parts)
    return variance, (variance**2 / spread if spread else 1.0)
