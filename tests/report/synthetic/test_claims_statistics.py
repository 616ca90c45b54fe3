"""Differences over seeds against reference values, a simulation of their coverage, and Holm's adjustment."""

from __future__ import annotations

import numpy as np
import pytest

from sorsa.report.claims_statistics import Difference, holm, over_seeds, over_seeds_and_questions


def test_paired_by_seed() -> None:
    # scipy 1.17: ttest_1samp([1, 2, 3], 0); the seeds' own levels (10, 200, 3000) must not count
    found = over_seeds({7: 11.0, 8: 202.0, 9: 3003.0}, {9: 3000.0, 8: 200.0, 7: 10.0})
    assert found is not None and found.value == pytest.approx(2.0)
    assert found.interval_95 == pytest.approx((-0.484138, 4.484138), abs=1e-5)
    assert found.p_value == pytest.approx(0.074180, abs=1e-5)
    assert found.seeds == 3 and found.how == "paired over 3 seeds"


def test_other_seeds_are_not_paired() -> None:
    # scipy 1.17: ttest_ind([1, 2, 3, 4], [2, 4, 9], equal_var=False)
    found = over_seeds(dict(enumerate((1.0, 2.0, 3.0, 4.0))), {0: 2.0, 1: 4.0, 5: 9.0})
    assert found is not None and found.value == pytest.approx(-2.5)
    assert found.interval_95 == pytest.approx((-10.557544, 5.557544), abs=1e-4)
    assert found.p_value == pytest.approx(0.353209, abs=1e-5)
    assert found.seeds == 3 and "not paired" in found.how


def test_one_seed_has_no_interval() -> None:
    found = over_seeds({0: 1.0}, {0: 2.0, 1: 3.0})
    assert found is not None and found.value == -1.5 and found.interval_95 is None and found.p_value is None
    assert found.holds(higher=True) == found.holds(higher=False) == "not shown"
    assert over_seeds({}, {0: 1.0}) is None
    one, two = np.ones((1, 4), int), np.zeros((2, 4), int)
    pair = over_seeds_and_questions(one, two)
    assert pair is not None and pair.value == 1.0 and pair.interval_95 is None
    assert over_seeds_and_questions(None, two) is None


def test_no_spread_at_all() -> None:
    for seeds in ({0: 1.0, 1: 1.0}, {0: 1.0, 5: 1.0}):
        found = over_seeds({0: 3.0, 1: 3.0}, seeds)
        assert found is not None and found.value == 2.0 and found.interval_95 is None
        assert found.holds(higher=True) == "not shown" and "do not differ" in found.how


@pytest.mark.parametrize(
    ("interval", "higher", "holds"),
    [
        ((0.1, 0.3), True, "yes"),
        ((0.1, 0.3), False, "no"),
        ((-0.3, -0.1), True, "no"),
        ((-0.3, -0.1), False, "yes"),
        ((-0.1, 0.3), True, "not shown"),
        ((0.0, 0.3), True, "not shown"),
        ((0.0, 0.3), False, "not shown"),
    ],
)
def test_what_an_interval_says(interval: tuple[float, float], higher: bool, holds: str) -> None:
    assert Difference(1.0, 0.9, 5, "", interval).holds(higher) == holds


def test_coverage_of_paired_intervals() -> None:
    """In about 95% of many made-up experiments of five seeds the interval holds the true difference."""
    rng, inside = np.random.default_rng(0), 0
    for _ in range(1000):
        level = rng.normal(0, 10, 5)  # what the seeds share
        ours, theirs = level + rng.normal(1, 1, 5), level + rng.normal(0, 1, 5)
        found = over_seeds(dict(enumerate(ours)), dict(enumerate(theirs)))
        assert found is not None and found.interval_95 is not None
        inside += found.interval_95[0] <= 1 <= found.interval_95[1]
    assert 0.93 < inside / 1000 < 0.97


def test_holm() -> None:
    # by hand: 4 x 0.005, 3 x 0.01, 2 x 0.03, then 1 x 0.04, which must not fall below the one before
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0] and holm([]) == []
