"""The paper's claims, each with what the records show: a difference, its 95% interval, and whether the claim holds.

Sections 5 and 6 of the paper say that SORSA converges faster than LoRA and PiSSA, changes singular values and vectors
less, has a better conditioned Wp with its regularizer than without, is more accurate, and forgets less of what the
model knew. A claim holds ("yes") where the whole interval lies on its side of 0, does not ("no") where the whole
interval lies on the other side, and is "not shown" in between or where a side has fewer than two seeds. Of accuracies,
which are compared with every method, the p-value adjusted for their number has to be below 0.05 as well. What the
records do not have is "not measured".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from sorsa.report.claims_measured import ACCURACY, LOG, Row, comparisons, label
from sorsa.report.claims_statistics import NOT_MEASURED, NOT_SHOWN, YES, Difference, holm, ratio
from sorsa.report.record_sets import Group, Record, record_sets

SIGNIFICANT = 0.05  # of an adjusted p-value
_LARGEST_SHARE = 5.0  # a relative effect beyond 500% says only that the other value is almost 0


def claims(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Return what the records show about each claim of the paper.

    Args:
        records: Run records of any models and data; only those of one model, training set and test are compared.

    Returns:
        One dict per comparison: `set` (model, training set, test), `claim`, `measure`, `method`, `against`,
        `difference` (the method's value minus the other's in the measure's unit; accuracies are shares), `interval_95`,
        `n_seeds` (of the side that has fewer), `holds` (`yes`, `no`, `not shown`, `not measured`) and `text`. What is
        not measured has neither difference nor interval. A set without SORSA has none.
    """
    return [facts for one in record_sets(records) for facts in _in_words(one.name, list(comparisons(one)))]


def _in_words(name: str, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return the comparisons of one set as dicts; Holm's adjustment is over the accuracies of each benchmark."""
    adjusted: dict[int, tuple[float, int]] = {}  # index of a row -> adjusted p-value, number of comparisons
    for measure in {row.measure for row in rows if row.kind == ACCURACY}:
        family = [index for index, row in enumerate(rows) if row.measure == measure and _p_value(row) is not None]
        p_values = holm([_p_value(rows[index]) for index in family])
        adjusted |= {index: (p, len(family)) for index, p in zip(family, p_values, strict=True)}
    intervals = sum(row.difference is not None and row.difference.interval_95 is not None for row in rows)
    return [_facts(name, row, adjusted.get(index), intervals) for index, row in enumerate(rows)]


def _p_value(row: Row) -> float | None:
    return row.difference.p_value if row.difference else None


def _facts(name: str, row: Row, adjusted: tuple[float, int] | None, intervals: int) -> dict[str, Any]:
    """Return one comparison as a dict.

    Args:
        name: The set.
        row: The comparison.
        adjusted: Holm's p-value, and over how many comparisons; None where it is not of a family.
        intervals: Number of intervals in the set.
    """
    facts = {"set": name, "claim": row.claim, "measure": row.measure}
    facts |= {"method": label(row.ours), "against": label(row.theirs)}
    missing = [side for side in (row.ours, row.theirs) if isinstance(side, str)]
    if missing or row.difference is None:
        reason = f"no finished run of {' or '.join(missing)}" if missing else row.reason
        nothing = {"difference": None, "interval_95": None, "n_seeds": 0}
        return facts | nothing | {"holds": NOT_MEASURED, "text": f"Not measured: {reason}."}
    found = row.difference
    return facts | {
        "difference": found.value,
        "interval_95": found.interval_95 and list(found.interval_95),
        "n_seeds": found.seeds,
        "holds": _holds(row, found, adjusted),
        "text": _text(row, found, adjusted, intervals),
    }


def _holds(row: Row, found: Difference, adjusted: tuple[float, int] | None) -> str:
    """Return whether a claim holds: as its interval says, if that stands after the correction for their number."""
    holds = found.holds(row.higher)
    if (adjusted and adjusted[0] >= SIGNIFICANT) or (row.censored and holds == YES):
        return NOT_SHOWN
    return holds


def _text(row: Row, found: Difference, adjusted: tuple[float, int] | None, intervals: int) -> str:
    """Return the sentences about one comparison: values, effect, how, and how many comparisons there are."""
    ours = f"{_value(row, found.ours)} ({label(row.ours)})"
    theirs = f"{_value(row, found.theirs)} ({label(row.theirs)})"
    sentences = [f"{ours} against {theirs}: {_effect(row, found)}; {found.how}."]
    if row.note:
        sentences.append(f"{row.note[0].upper()}{row.note[1:]}.")
    rates = [side.lr for side in (row.ours, row.theirs) if isinstance(side, Group)]
    if None not in rates:
        sentences.append(f"Learning rates {rates[0]:g} and {rates[1]:g}.")
    if adjusted:
        corrected = f"adjusted for {adjusted[1]} comparisons of accuracy (Holm) {_p(adjusted[0])}"
        sentences.append(f"{_p(found.p_value)}, {corrected}.")
    elif found.interval_95:
        sentences.append(f"One of {intervals} intervals, not corrected for their number.")
    return " ".join(sentences)


def _value(row: Row, value: float) -> str:
    if row.kind == ACCURACY:
        return f"{100 * value:.1f}%"
    return ratio(value) if row.kind == LOG else f"{value:.4g}"


def _effect(row: Row, found: Difference) -> str:
    """Return difference and interval in the reader's unit, and the relative effect."""
    bounds = found.interval_95
    if row.kind == LOG:  # differences of logarithms are ratios
        text = f"a factor of {ratio(found.value)}"
        text += f" (95% {ratio(bounds[0])} to {ratio(bounds[1])})" if bounds else ""
        return text + (f", {change:+.1%}" if (change := _growth(found.value)) < _LARGEST_SHARE else "")
    scale, form = (100, ".1f") if row.kind == ACCURACY else (1, ".3g")
    text = f"{scale * found.value:+{form}}" + (" points" if row.kind == ACCURACY else "")
    text += f" (95% {scale * bounds[0]:{form}} to {scale * bounds[1]:{form}})" if bounds else ""
    share = found.value / found.theirs if found.theirs > 0 else math.inf
    return text + (f", {share:+.1%}" if abs(share) < _LARGEST_SHARE else "")


def _growth(logarithm: float) -> float:
    """Return the relative change that a difference of logarithms is."""
    return math.expm1(logarithm) if logarithm < math.log1p(_LARGEST_SHARE) else math.inf


def _p(value: float) -> str:
    return f"p = {value:.2g}" if value >= 0.001 else "p < 0.001"
