"""The Wilson interval against published values and its edges."""

from __future__ import annotations

import pytest

from sorsa.evaluation.statistics import wilson_interval


def test_known_value() -> None:
    # R 4.3: prop.test(739, 1319, correct = FALSE)$conf.int for SORSA's 56.03% of Table 1
    assert wilson_interval(739, 1319) == pytest.approx((0.533339, 0.586847), abs=2e-4)
    assert wilson_interval(5, 10) == pytest.approx((0.236593, 0.763407), abs=1e-6)


def test_edges() -> None:
    assert wilson_interval(0, 0) == (0.0, 1.0)
    assert wilson_interval(0, 10)[0] == 0.0 and wilson_interval(10, 10)[1] == 1.0
    with pytest.raises(ValueError, match=r"\[0, 3\]"):
        wilson_interval(4, 3)
