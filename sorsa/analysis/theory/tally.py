"""Counting how often a claim of the paper holds, and the verdict that follows from the counts.

A claim is an inequality. For every random problem its checker computes one number, the claim's *value*, such as left
side / right side; the claim holds for the problem when the value is at most the *limit*. A claim with `tie` is a strict
inequality: a value that differs from the limit by no more than `tie` is counted as a tie, and a tie does not hold.

The verdict's thresholds, in this order:
    holds            in every problem
    holds only when  not in all, but in every problem that meets one named condition, if at least MIN_PROBLEMS meet it
    fails            otherwise
"""

from __future__ import annotations

import dataclasses
import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

MIN_PROBLEMS = 20  # so few exceptions from a rule could be missed by chance in a smaller group
LEVELS = tuple(step / 20 for step in range(21))  # of the quantiles that are recorded

Role = Literal["statement", "reading", "proof step", "repair", "code"]


@dataclasses.dataclass
class Tally:
    """The counts of one claim.

    Args:
        key: Short name, unique in its statement.
        role: `statement` for what the paper states with its assumptions met, `reading` for another reading of it or
            assumptions not met, `proof step` for a step of the proof, `repair` for what can be proven instead, `code`
            for what this package computes.
        claim: The inequality in words and symbols.
        measure: What the value is.
        limit: The claim holds for values up to here; includes the tolerance for rounding, where there is one.
        tie: Half width of the band around `limit` in which a strict inequality is a tie; 0: not strict.
        why: What the mathematics says about failures; reported only if there are any.
    """

    key: str
    role: Role
    claim: str
    measure: str
    limit: float
    tie: float = 0.0
    why: str = ""

    def __post_init__(self) -> None:
        self._values: list[Tensor] = []
        self._worst: tuple[float, dict[str, Any]] | None = None
        self._inside: dict[str, list[int]] = {}  # condition -> checks, holds
        self._by: dict[str, dict[str, Tensor]] = defaultdict(dict)  # factor -> its value -> (problems, holds, ties)

    def add(
        self,
        values: Tensor,
        problem: Callable[[int], dict[str, Any]],
        when: Mapping[str, Tensor] | None = None,
        by: Mapping[str, str | Sequence[Any]] | None = None,
    ) -> None:
        """Count a batch of problems.

        Args:
            values: (B,), one value per problem; one that is not finite counts as a violation.
            problem: Returns the description of problem i, JSON types; called for the worst one alone.
            when: Condition -> (B,) whether each problem meets it; the first one is tried first for the verdict.
            by: Factor -> its value, for the whole batch or for each problem: the counts are also kept apart by it.
        """
        values = torch.where(values.isfinite(), values, math.inf).detach()
        ties = (values - self.limit).abs() <= self.tie if self.tie else torch.zeros_like(values, dtype=torch.bool)
        holds = (values <= self.limit) & ~ties
        self._values.append(values)
        worst = int(values.argmax())
        if self._worst is None or values[worst].item() > self._worst[0]:
            self._worst = values[worst].item(), problem(worst)
        for condition, met in (when or {}).items():
            counts = self._inside.setdefault(condition, [0, 0])
            counts[0] += int(met.sum())
            counts[1] += int((met & holds).sum())
        flags = torch.stack([torch.ones_like(holds), holds, ties], 1).long()  # (B, 3)
        for factor, names in (by or {}).items():
            counts = self._by[factor]
            if isinstance(names, str):
                counts[names] = counts.get(names, 0) + flags.sum(0)
                continue
            kinds = {name: kind for kind, name in enumerate(dict.fromkeys(names))}
            places = torch.tensor([kinds[name] for name in names])
            sums = torch.zeros(len(kinds), 3, dtype=torch.long).index_add_(0, places, flags)
            for name, kind in kinds.items():
                counts[str(name)] = counts.get(str(name), 0) + sums[kind]

    def as_json(self) -> dict[str, Any]:
        """Return the claim and its counts; `by` has [problems, holds, ties], `quantiles` are those of `LEVELS`.

        A value that is not finite is null.
        """
        values = torch.cat(self._values)
        ties = int(((values - self.limit).abs() <= self.tie).sum()) if self.tie else 0
        holds = int((values <= self.limit).sum()) if not self.tie else int((values < self.limit - self.tie).sum())
        finite = values[values.isfinite()]
        levels = torch.tensor(LEVELS, dtype=values.dtype)
        value, problem = self._worst
        return {
            **{field.name: getattr(self, field.name) for field in dataclasses.fields(self)},
            "problems": len(values),
            "holds": holds,
            "ties": ties,
            "not_finite": len(values) - len(finite),
            "fraction": holds / len(values),
            "worst": {"value": value if math.isfinite(value) else None, "problem": problem},
            "quantiles": _quantiles(finite, levels),
            "when": [
                {"condition": text, "problems": counts[0], "holds": counts[1]} for text, counts in self._inside.items()
            ],
            "by": {f: {name: counts.tolist() for name, counts in names.items()} for f, names in self._by.items()},
        }


def _quantiles(values: Tensor, levels: Tensor) -> list[float]:
    """Return the values at the given levels of the sorted values, without interpolation; none for no values."""
    if not len(values):
        return []
    ranked = values.sort().values
    return ranked[(levels * (len(ranked) - 1)).round().long()].tolist()


def verdict(claim: Mapping[str, Any]) -> tuple[str, str]:
    """Return the verdict on a claim, as a word and as a sentence, from its counts alone.

    Args:
        claim: What `Tally.as_json` returns.

    Returns:
        `holds`, `holds only when` or `fails`; and the sentence with the numbers behind it.
    """
    problems, holds = claim["problems"], claim["holds"]
    if holds == problems:
        return "holds", f"holds in all {problems:,} problems"
    for group in claim["when"]:
        if group["problems"] >= MIN_PROBLEMS and group["holds"] == group["problems"]:
            rest, held = problems - group["problems"], holds - group["holds"]
            elsewhere = f"elsewhere in {percent(held, rest)} of {rest:,}"
            return (
                "holds only when",
                f"holds only when {group['condition']}: in all {group['problems']:,} such problems, {elsewhere}",
            )
    return "fails", f"fails: holds in {percent(holds, problems)} of {problems:,} problems{_others(claim)}"


def in_words(claim: Mapping[str, Any]) -> str:
    """Return the verdict on a claim without its numbers, with the condition where there is one."""
    word, sentence = verdict(claim)
    return sentence.split(":")[0] if word == "holds only when" else word


def _others(claim: Mapping[str, Any]) -> str:
    """Return how the problems in which a claim does not hold divide into ties, reversals and infinite values."""
    ties, wild = claim["ties"], claim["not_finite"]
    parts = [f"a tie in {percent(ties, claim['problems'])}"] if claim["tie"] else []
    if claim["tie"]:
        parts.append(f"reversed in {percent(claim['problems'] - claim['holds'] - ties, claim['problems'])}")
    if wild:
        parts.append(f"no finite value in {percent(wild, claim['problems'])}")
    return "".join(f", {part}" for part in parts)


def percent(part: int, whole: int) -> str:
    """Return a share as text with one decimal; 0.0% and 100.0% only where that is exact."""
    if not whole:
        return "none"
    share = 100 * part / whole
    if 0 < part < whole and not 0.05 <= share < 99.95:
        return "below 0.1%" if share < 50 else "above 99.9%"
    return f"{share:.1f}%"
