"""The difference between two groups of seeds, with its 95% interval, and what that says about a claim.

Over seeds alone: Student's t on the differences of seeds that both have, or Welch's test (B. L. Welch, Biometrika 34
(1947) 28-35) where the seeds differ. Accuracies, which vary over questions too: `sorsa.evaluation.statistics`.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import statistics
from collections.abc import Mapping, Sequence

import numpy as np

from sorsa.evaluation.statistics import difference_over_seeds, student_quantile, student_tail

YES, NO, NOT_SHOWN, NOT_MEASURED = "yes", "no", "not shown", "not measured"
ENOUGH = 2  # seeds on each side: one has no spread
_quantile = functools.lru_cache(maxsize=256)(student_quantile)  # a bisection; most comparisons share their 4 degrees


@dataclasses.dataclass(frozen=True)
class Difference:
    """Ours minus theirs.

    Args:
        ours: Our mean.
        theirs: Their mean.
        seeds: Seeds on the side that has fewer.
        how: How the interval was made, for a reader.
        interval_95: None with one seed on a side, or where all seeds say exactly the same.
        p_value: Two-sided, of no difference; None where there is no interval.
    """

    ours: float
    theirs: float
    seeds: int
    how: str
    interval_95: tuple[float, float] | None = None
    p_value: float | None = None

    @property
    def value(self) -> float:
        """Ours minus theirs."""
        return self.ours - self.theirs

    def holds(self, higher: bool) -> str:
        """Return whether the claim that ours is higher (or lower) holds: `yes`, `no` or `not shown`."""
        if self.interval_95 is None:
            return NOT_SHOWN
        low, high = self.interval_95 if higher else (-self.interval_95[1], -self.interval_95[0])
        return YES if low > 0 else NO if high < 0 else NOT_SHOWN


def over_seeds(ours: Mapping[int, float], theirs: Mapping[int, float]) -> Difference | None:
    """Return the difference of two means over seeds.

    Args:
        ours: Seed -> value.
        theirs: Seed -> value; paired with ours where the seeds are the same.

    Returns:
        None where a side has no value.
    """
    if not ours or not theirs:
        return None
    means, seeds = (statistics.fmean(ours.values()), statistics.fmean(theirs.values())), min(len(ours), len(theirs))
    if seeds < ENOUGH:
        return Difference(*means, seeds, "one seed: no interval")
    if ours.keys() == theirs.keys():
        variance = statistics.variance(ours[seed] - theirs[seed] for seed in ours) / seeds
        df, how = seeds - 1.0, f"paired over {seeds} seeds"
    else:
        parts = [(statistics.variance(side.values()) / len(side), len(side) - 1) for side in (ours, theirs)]
        variance = math.fsum(part for part, _ in parts)
        spread = math.fsum(part**2 / free for part, free in parts)
        df = variance**2 / spread if spread else 1.0
        how = f"{len(ours)} against {len(theirs)} seeds, not all the same, so not paired"
    if not variance:  # as of whole numbers of steps: an interval without width would claim too much
        return Difference(*means, seeds, f"{how}, which do not differ in it: no interval")
    value, error = means[0] - means[1], math.sqrt(variance)
    half = _quantile(0.975, df) * error
    p_value = 2 * student_tail(abs(value) / error, df)
    return Difference(*means, seeds, how, (value - half, value + half), p_value)


def over_seeds_and_questions(ours: np.ndarray | None, theirs: np.ndarray | None) -> Difference | None:
    """Return the difference of two accuracies on the same questions.

    Args:
        ours: Verdicts (seeds, questions) of 0 and 1; None: not tested.
        theirs: The same, with their number of seeds.

    Returns:
        None where a side was not tested.
    """
    if ours is None or theirs is None:
        return None
    means, seeds = (float(ours.mean()), float(theirs.mean())), min(len(ours), len(theirs))
    if seeds < ENOUGH:
        return Difference(*means, seeds, "one seed: no interval")
    spread = difference_over_seeds(theirs, ours)
    how = f"counts {len(ours)} and {len(theirs)} seeds and {ours.shape[1]} questions"
    return Difference(*means, seeds, how, spread.interval_95, spread.p_value)


def ratio(logarithm: float) -> str:
    """Return the ratio whose logarithm is given, four significant digits; in words where no number holds it.

    Args:
        logarithm: Natural.
    """
    return f"{math.exp(logarithm):.4g}" if logarithm < math.log(1e300) else "more than 1e300"


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values of a family of comparisons, adjusted for their number.

    Args:
        p_values: In any order.

    Source: S. Holm, Scandinavian Journal of Statistics 6 (1979) 65-70.
    """
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted
