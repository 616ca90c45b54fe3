"""Intervals and p-values against published values, brute force, and simulated coverage with a fixed seed."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest

from sorsa.evaluation.statistics import (
    difference_over_seeds,
    mcnemar_exact,
    paired_counts,
    paired_interval,
    seeds_and_questions_interval,
    student_quantile,
    student_tail,
    wilson_interval,
)


def test_known_value() -> None:
    # R 4.3: prop.test(739, 1319, correct = FALSE)$conf.int for SORSA's 56.03% of Table 1
    assert wilson_interval(739, 1319) == pytest.approx((0.533339, 0.586847), abs=2e-4)
    assert wilson_interval(5, 10) == pytest.approx((0.236593, 0.763407), abs=1e-6)


def test_edges() -> None:
    assert wilson_interval(0, 0) == (0.0, 1.0)
    assert wilson_interval(0, 10)[0] == 0.0 and wilson_interval(10, 10)[1] == 1.0
    with pytest.raises(ValueError, match=r"\[0, 3\]"):
        wilson_interval(4, 3)


def test_mcnemar_counts_every_outcome() -> None:
    for n in range(9):
        outcomes = [sum(coins) for coins in itertools.product((0, 1), repeat=n)]
        for b in range(n + 1):
            as_uneven = sum(abs(2 * heads - n) >= abs(2 * b - n) for heads in outcomes)
            assert mcnemar_exact(b, n - b) == pytest.approx(float(Fraction(as_uneven, 2**n)), abs=1e-15)
    assert mcnemar_exact(20_000, 0) == 0.0 and mcnemar_exact(5000, 5000) == 1.0  # beyond a float's powers of two
    with pytest.raises(ValueError, match="negative"):
        mcnemar_exact(-1, 2)


def test_paired_interval_published() -> None:
    # Newcombe 1998, table III, example (a, b, c, d) = (36, 12, 2, 0), method 10: 0.0569 to 0.3404
    assert paired_interval(36, 2, 12, 0) == pytest.approx((0.0569, 0.3404), abs=5e-5)
    low, high = paired_interval(36, 12, 2, 0)  # the sides exchanged
    assert (-high, -low) == pytest.approx((0.0569, 0.3404), abs=5e-5)
    # the same table, (18, 12, 2, 18) and (53, 0, 0, 1): ad > bc, so that the correction for continuity counts
    assert paired_interval(18, 2, 12, 18) == pytest.approx((0.0562, 0.3290), abs=5e-5)
    assert paired_interval(53, 0, 0, 1) == pytest.approx((-0.0729, 0.0729), abs=5e-5)
    assert paired_interval(0, 0, 0, 0) == (-1.0, 1.0)
    low, high = paired_interval(10, 0, 0, 0)
    assert -0.4 < low < 0 < high < 0.4


def test_paired_interval_coverage_by_enumeration() -> None:
    """Every outcome of 14 questions, weighted exactly: the mean coverage over several truths is about 95%."""
    n, found = 14, []
    splits = [s for s in itertools.product(range(n + 1), repeat=4) if sum(s) == n]
    bounds = np.array([paired_interval(*split) for split in splits])
    ways = np.array([math.factorial(n) / math.prod(map(math.factorial, split)) for split in splits])
    for truth in ((0.4, 0.1, 0.2, 0.3), (0.6, 0.05, 0.05, 0.3), (0.2, 0.3, 0.1, 0.4), (0.7, 0.0, 0.2, 0.1)):
        weight = ways * np.prod(np.array(truth) ** np.array(splits), axis=1)
        difference = truth[2] - truth[1]
        found.append(weight[(bounds[:, 0] <= difference) & (difference <= bounds[:, 1])].sum())
        assert weight.sum() == pytest.approx(1)
    assert 0.94 < float(np.mean(found)) < 0.98 and min(found) > 0.92


def test_student_against_tables() -> None:
    # any printed table of t: 0.975 quantiles
    for df, value in ((1, 12.7062), (2, 4.3027), (4, 2.7764), (10, 2.2281), (30, 2.0423), (1e6, 1.95997)):
        assert student_quantile(0.975, df) == pytest.approx(value, abs=6e-5)
    # one and two degrees of freedom have closed forms
    assert student_tail(1.0, 1) == pytest.approx(0.25, abs=1e-12)
    assert student_tail(1.5, 2) == pytest.approx(0.5 - 1.5 / (2 * math.sqrt(2 + 1.5**2)), abs=1e-12)
    with pytest.raises(ValueError, match="df be positive"):
        student_quantile(0.975, 0)


def test_crossed_variance_by_hand() -> None:
    table = np.array([[1, 1, 0, 0, 1], [1, 0, 0, 0, 1], [1, 1, 1, 0, 1]], float)
    seeds, questions, mean = 3, 5, table.mean()
    ms_seeds = questions * sum((row.mean() - mean) ** 2 for row in table) / 2
    ms_questions = seeds * sum((column.mean() - mean) ** 2 for column in table.T) / 4
    total = ((table - mean) ** 2).sum()
    ms_rest = (total - 2 * ms_seeds - 4 * ms_questions) / 8
    variance = (ms_seeds + ms_questions - ms_rest) / 15
    df = (ms_seeds + ms_questions - ms_rest) ** 2 / (ms_seeds**2 / 2 + ms_questions**2 / 4 + ms_rest**2 / 8)
    found = seeds_and_questions_interval(table)
    half = student_quantile(0.975, df) * math.sqrt(variance)
    assert found.value == mean and found.df == pytest.approx(df)
    assert found.interval_95 == pytest.approx((max(0, mean - half), min(1, mean + half)))


def test_seeds_more_alike_than_chance_are_no_negative_spread() -> None:
    """Two seeds with the same mean that differ in two questions: only the spread of the questions is left."""
    table = [[1, 0, 1, 0, 1, 1], [0, 1, 1, 0, 1, 1]]
    per_question = np.array([0.5, 0.5, 1, 0, 1, 1])
    half = student_quantile(0.975, 5) * per_question.std(ddof=1) / math.sqrt(6)
    found = seeds_and_questions_interval(table)
    mean = 4 / 6
    assert found.df == pytest.approx(5) and found.interval_95 == pytest.approx((mean - half, min(1, mean + half)))


def test_fall_back_on_questions() -> None:
    one = [[True] * 7 + [False] * 3]
    assert seeds_and_questions_interval(one).interval_95 == wilson_interval(7, 10)
    assert seeds_and_questions_interval([[True] * 10] * 3).interval_95 == wilson_interval(10, 10)
    assert seeds_and_questions_interval([[True, False], [False, True]]).interval_95 == wilson_interval(1, 2)
    # seeds that agree on every answer are worth no more than one
    low, high = seeds_and_questions_interval(one * 4).interval_95
    assert high - low > 0.9 * (wilson_interval(7, 10)[1] - wilson_interval(7, 10)[0])
    for bad in ([], [[]], [[True], [True, False]]):
        with pytest.raises(ValueError, match="every seed needs the same questions"):
            seeds_and_questions_interval(bad)


def draws(generator: np.random.Generator, seeds: int, questions: int, shift: float, hard: np.ndarray) -> np.ndarray:
    """Verdicts (seeds, questions) whose chance depends on the question, on the seed, and on the method's shift."""
    level = shift + hard[None] + generator.normal(0, 0.15, seeds)[:, None]
    return generator.random((seeds, questions)) < 1 / (1 + np.exp(-level))


def test_coverage_over_seeds_and_questions() -> None:
    """The interval holds the true mean in about 95% of 600 simulated studies; one of the seeds alone does not."""
    generator, hits, by_seeds_alone, quantile = np.random.default_rng(5), 0, 0, student_quantile(0.975, 4)
    for _ in range(600):
        table = draws(generator, 5, 120, 0.0, generator.normal(0, 1.5, 120))
        low, high = seeds_and_questions_interval(table).interval_95
        hits += low <= 0.5 <= high  # by symmetry the true mean is a half
        means = table.mean(axis=1)
        half = quantile * means.std(ddof=1) / math.sqrt(5)
        by_seeds_alone += abs(means.mean() - 0.5) <= half
    assert 0.93 <= hits / 600 <= 0.975
    assert by_seeds_alone / 600 < 0.90


def test_coverage_of_a_difference() -> None:
    """No true difference: the interval holds 0, and p < 0.05 happens, in about 95% and 5% of 500 studies."""
    generator, hits, rejected = np.random.default_rng(6), 0, 0
    for _ in range(500):
        hard = generator.normal(0, 1.5, 100)
        found = difference_over_seeds(draws(generator, 3, 100, 0, hard), draws(generator, 4, 100, 0, hard))
        hits += found.interval_95[0] <= 0 <= found.interval_95[1]
        rejected += found.p_value < 0.05
        assert (found.p_value < 0.05) == (not found.interval_95[0] <= 0 <= found.interval_95[1])
    assert 0.93 <= hits / 500 <= 0.985 and rejected == 500 - hits


def test_difference_falls_back_on_one_run_each() -> None:
    a, b = [[True, True, False, False, True]], [[True, False, True, True, True]]
    counts = paired_counts(a[0], b[0])
    assert counts == (2, 1, 2, 0)
    found = difference_over_seeds(a, b)
    assert found.value == pytest.approx(0.2) and found.df is None
    assert found.interval_95 == paired_interval(*counts) and found.p_value == mcnemar_exact(1, 2)
    always = difference_over_seeds([[False] * 8] * 2, [[True] * 8] * 2)
    assert always.value == 1 and always.p_value == mcnemar_exact(0, 8) and always.interval_95[0] > 0.5
    with pytest.raises(ValueError, match="a has 2 questions, b has 1"):
        difference_over_seeds([[True, False]], [[True]])
