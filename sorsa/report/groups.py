"""The table of one comparison: a row per group of seeds with scores, cost, and how far the weights moved.

Which runs are a group is said in `sorsa.report.record_sets`; of a group the tested runs count. Drift and condition
numbers are those of the paper's section 6.1 (`analysis/drift.json`), at the last analysed step.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Any

from sorsa.report.measures import benchmarks, complete_series, drift_series, final_loss, test_of, text_of
from sorsa.report.record_sets import Group, RecordSet, record_sets
from sorsa.report.records import BASE
from sorsa.report.tables import Column, Estimate, Table, bounds

DRIFT = ("dSigma", "dD", "condition_principal", "condition_merged", "orthonormality_U", "orthonormality_V")
DRIFT += ("effective_rank",)
SINGLE = "single runs"  # in place of a comparison's name


def is_tested(record: dict[str, Any]) -> bool:
    """Return whether the run itself was tested, and not only its base model."""
    return any(not stem.startswith(BASE) for stem in record["results"])


def by_comparison(records: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Return the records of each comparison by its name, in order of appearance, last those of single runs."""
    found: dict[str, list[dict[str, Any]]] = {}
    for record in sorted(records, key=lambda one: one["comparison"] is None):
        found.setdefault(record["comparison"] or SINGLE, []).append(record)
    return found


def slug(name: str) -> str:
    """Return the part of file names and anchors that stands for a comparison; none is called as single runs are."""
    return "_" + SINGLE.replace(" ", "-") if name == SINGLE else name


def over_seeds(runs: Sequence[dict[str, Any]], number: Callable[[dict[str, Any]], float | None]) -> Estimate | None:
    """Return mean and standard deviation over the seeds of a number of each record; None where one lacks it.

    Args:
        runs: The records of a group.
        number: Record -> number or None.
    """
    return _estimate([number(run) for run in runs])


def _estimate(values: Sequence[float | None]) -> Estimate | None:
    """Return mean and standard deviation of what each seed has."""
    if not values or any(value is None for value in values):
        return None
    return Estimate(statistics.fmean(values), sd=statistics.stdev(values) if len(values) > 1 else None)


def tested_runs(group: Group) -> list[dict[str, Any]]:
    """Return the runs of a group that were tested: some may still be waiting for it."""
    return [run for run in group.runs if is_tested(run)]


def accuracy(runs: Sequence[dict[str, Any]], stem: str) -> Estimate | None:
    """Return mean accuracy, standard deviation over seeds, and the interval that counts both seeds and questions.

    Args:
        runs: The record of each seed.
        stem: The benchmark.

    Returns:
        None where one was not tested, or not in the same way (`sorsa.report.measures.test_of`).
    """
    from sorsa.evaluation.statistics import seeds_and_questions_interval

    tests = {test_of(run, stem) for run in runs}
    if len(tests) != 1 or None in tests:
        return None
    rows = [[letter == "1" for letter in run["verdicts"][stem]["correct"]] for run in runs]  # (seeds, questions)
    spread = seeds_and_questions_interval(rows)
    each = [sum(row) / len(row) for row in rows]
    return Estimate(spread.value, spread.interval_95, statistics.stdev(each) if len(each) > 1 else None)


def learning_rate(record: dict[str, Any]) -> float | None:
    """Return a run's highest learning rate; None of a run that was not trained here."""
    return (record["training"].get("config") or {}).get("lr")


def base_result(records: Sequence[dict[str, Any]], stem: str) -> dict[str, Any] | None:
    """Return the first record that has its base model's result on a benchmark."""
    return next((record for record in records if BASE + stem in record["results"]), None)


def comparison_table(name: str, records: Sequence[dict[str, Any]]) -> Table:
    """Return everything about one comparison: a row for the base model where it was tested, one per group.

    Args:
        name: Of the comparison.
        records: Its runs'.
    """
    stems = benchmarks(records)
    columns = [Column("group", "run"), Column("comparison", "comparison"), Column("set", "runs of")]
    columns += [Column(stem, f"{stem}, %", "percent", ("sd", "interval")) for stem in stems]
    columns += [Column("loss", "loss", "loss", ("sd",))]
    columns += [Column("perplexity_before", "before", "number", ("interval",), "perplexity")]
    columns += [Column("perplexity_after", "after", "number", ("sd", "interval"), "perplexity")]
    columns += [Column(key, title, "number", ("sd",), span) for key, title, span in _drift_titles()]
    columns += [Column("matrices", "matrices", "plain"), Column("left_out", "matrices left out")]
    columns += [Column("method", "method")]
    columns += [Column("lr", "learning rate", "rate"), Column("seeds", "seeds", "plain")]
    columns += [Column("trainable_parameters", "trainable parameters", "count")]
    columns += [Column("tokens", "tokens seen", "count")]
    columns += [Column("seconds_per_step", "seconds per step", "seconds", ("sd",))]
    rows = [row | {"comparison": name, "set": one.name} for one in record_sets(records) for row in _rows(one, records)]
    return Table(f"comparison-{slug(name)}", name, "", tuple(columns), tuple(rows))


def _rows(one: RecordSet, records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of a set of comparable runs: of its base model, where that was tested, and of its groups."""
    names = {run["name"] for group in one.groups for run in group.runs} | set(one.left_out)
    own = [record for record in records if record["name"] in names]
    stems = benchmarks(own)
    found = [(group, runs) for group in one.groups if (runs := tested_runs(group))]
    rows = [_group_row(group, runs, stems, own) for group, runs in found]
    base = _base_row(stems, own)
    return [base, *rows] if base and rows else rows


def _drift_titles() -> list[tuple[str, str, str]]:
    """Return key, title and span of the columns about weights."""
    titles = ("ΔΣ", "ΔD", "of Wp", "merged", "‖UᵀU − I‖", "‖VᵀV − I‖", "effective rank of the update")
    spans = ("drift", "drift", "condition number", "condition number", "orthonormality", "orthonormality", "")
    return list(zip(DRIFT, titles, spans, strict=True))


def _group_row(
    group: Group, runs: list[dict[str, Any]], stems: Sequence[str], records: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """Return the row of one group."""
    tokens = over_seeds(runs, lambda record: record["training"].get("tokens"))
    row = {
        "group": group.name,
        "method": group.label,
        "lr": group.lr,
        "seeds": len(runs),
        "trainable_parameters": runs[0]["training"].get("trainable_parameters"),
        "loss": over_seeds(runs, final_loss),
        "tokens": tokens.value if tokens else None,
        "perplexity_before": _perplexity_before(runs, records),
        "perplexity_after": _perplexity_after(runs),
        "seconds_per_step": over_seeds(runs, seconds_per_step),
    }
    row |= {stem: accuracy(runs, stem) for stem in stems}
    return row | _drift_cells(runs)


def _drift_cells(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the cells about the weights: means over the matrices at the last step, geometric of condition numbers.

    A matrix with a value that is not finite in one of the runs is left out of all of them, and said; where those are
    the most, the mean of the others would stand for what they are not, and the cell says so instead.
    """
    cells: dict[str, Any] = {"matrices": len(drift_series(runs[0], "dSigma")) or None}
    left_out = []
    for key, title, span in _drift_titles():
        _, names, values, without = complete_series(runs, key, last=True)  # (runs, matrices, 1)
        geometric = key.startswith("condition")
        if not names or not all(drift_series(run, key) for run in runs) or (geometric and (values <= 0).any()):
            continue  # not of every seed, or no condition numbers at all
        if without > len(names):
            cells[key] = f"none in {without} of {len(names) + without}"
            continue
        mean = statistics.geometric_mean if geometric else statistics.fmean
        cells[key] = _estimate([mean(map(float, run[:, -1])) for run in values])
        if without:
            left_out.append(f"{span or 'effective rank'} {title if span else ''}".strip() + f": {without}")
    return cells | {"left_out": "; ".join(left_out) or None}


def _base_row(stems: Sequence[str], records: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the row of the base model, None where it was not tested."""
    tested = {stem: base_result(records, stem) for stem in stems}
    row = {stem: accuracy([record], BASE + stem) for stem, record in tested.items() if record}
    text = base_result(records, "perplexity")
    if text:
        row["perplexity_before"] = _perplexity(text["results"][f"{BASE}perplexity"])
    return {"group": "base model"} | row if row else None


def _perplexity_before(runs: Sequence[dict[str, Any]], records: Sequence[dict[str, Any]]) -> Estimate | None:
    """Return the base model's perplexity on the text of the runs' own tests."""
    own, base = runs[0]["results"].get("perplexity"), base_result(records, "perplexity")
    before = base["results"][f"{BASE}perplexity"] if base else None
    if not own or not before or text_of(own) != text_of(before):
        return None
    return _perplexity(before)


def _perplexity_after(runs: Sequence[dict[str, Any]]) -> Estimate | None:
    """Return the perplexity after training: with one seed its own interval, over windows of the text."""
    results = [record["results"].get("perplexity") for record in runs]
    if len(results) == 1:
        return _perplexity(results[0]) if results[0] else None
    return over_seeds(runs, lambda record: record["results"].get("perplexity", {}).get("perplexity"))


def _perplexity(result: dict[str, Any]) -> Estimate | None:
    """Return what one test of perplexity found."""
    value = result.get("perplexity")
    return Estimate(value, bounds(result.get("interval_95"))) if value is not None else None


def seconds_per_step(record: dict[str, Any]) -> float | None:
    """Return the seconds that one optimizer step of a run took, saving included."""
    seconds, steps = record["training"].get("seconds"), record["training"].get("steps_done")
    return seconds / steps if seconds and steps else None
