"""Counting and verdicts: what is said follows from the counts, at the thresholds that are stated."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from sorsa.analysis.theory.tally import MIN_PROBLEMS, Tally, percent, verdict


def counted(values: list[float], tie: float = 0.0, **groups: Any) -> dict[str, Any]:
    """Count some values against the limit 1."""
    tally = Tally("key", "statement", "claim", "measure", 1.0, tie)
    tally.add(torch.tensor(values, dtype=torch.float64), lambda i: {"i": i}, **groups)
    return tally.as_json()


def first(count: int, of: int) -> Tensor:
    return torch.arange(of) < count


def test_holds_up_to_the_limit() -> None:
    claim = counted([0.5, 1.0])
    assert (claim["problems"], claim["holds"], claim["fraction"]) == (2, 2, 1.0)
    assert verdict(claim) == ("holds", "holds in all 2 problems")


def test_one_violation_is_a_failure_and_named() -> None:
    claim = counted([0.5, 3.0, 2.0, 1.0])
    assert claim["worst"] == {"value": 3.0, "problem": {"i": 1}}
    assert verdict(claim) == ("fails", "fails: holds in 50.0% of 4 problems")


@pytest.mark.parametrize("wild", [math.nan, math.inf])
def test_what_is_not_finite_is_a_violation_and_the_worst(wild: float) -> None:
    claim = counted([0.5, wild, 2.0])
    assert (claim["holds"], claim["not_finite"], claim["worst"]) == (1, 1, {"value": None, "problem": {"i": 1}})
    assert verdict(claim)[1] == "fails: holds in 33.3% of 3 problems, no finite value in 33.3%"
    assert claim["quantiles"][0] == 0.5 and claim["quantiles"][-1] == 2.0


def test_a_tie_does_not_hold_and_is_no_reversal() -> None:
    claim = counted([0.5, 1 - 1e-12, 1 + 1e-12, 1.1], tie=1e-10)
    assert (claim["holds"], claim["ties"]) == (1, 2)
    assert verdict(claim)[1] == "fails: holds in 25.0% of 4 problems, a tie in 50.0%, reversed in 25.0%"


def test_a_condition_that_saves_the_claim() -> None:
    n = MIN_PROBLEMS
    values = [0.5] * n + [2.0, 0.5]
    word, sentence = verdict(counted(values, when={"x > 1": first(n, n + 2)}))
    assert word == "holds only when"
    assert sentence == f"holds only when x > 1: in all {n} such problems, elsewhere in 50.0% of 2"


def test_a_condition_with_too_few_problems_or_an_exception_saves_nothing() -> None:
    n = MIN_PROBLEMS
    few = counted([0.5] * (n - 1) + [2.0], when={"x": first(n - 1, n)})
    broken = counted([0.5] * n + [2.0], when={"x": first(n + 1, n + 1)})
    assert verdict(few)[0] == verdict(broken)[0] == "fails"


def test_counts_by_factor_add_up_over_batches() -> None:
    tally = Tally("key", "statement", "claim", "measure", 1.0, 1e-10)
    tally.add(torch.tensor([0.5, 1.0, 2.0]), lambda i: {}, by={"kind": ["a", "b", "a"], "all": "x"})
    tally.add(torch.tensor([0.5]), lambda i: {}, by={"kind": ["b"], "all": "x"})
    assert tally.as_json()["by"] == {"kind": {"a": [2, 1, 0], "b": [2, 1, 1]}, "all": {"x": [4, 2, 1]}}


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [(0, 9, "0.0%"), (9, 9, "100.0%"), (1, 10**5, "below 0.1%"), (10**5 - 1, 10**5, "above 99.9%"), (0, 0, "none")],
)
def test_percent_never_rounds_to_all_or_nothing(part: int, whole: int, text: str) -> None:
    assert percent(part, whole) == text
