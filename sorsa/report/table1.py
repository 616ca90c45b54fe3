"""The paper's Table 1, ours beside it: each of its 19 rows, each benchmark, run or not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from sorsa import paper
from sorsa.report.groups import accuracy, is_tested
from sorsa.report.tables import Column, Estimate, Table

NOT_RUN = "not run"
TITLES = {"gsm-8k": "GSM-8K", "math": "MATH", "humaneval": "HumanEval"}
ABOUT = (
    "Accuracy in percent; the paper's by the authors' grading rule, ours by the rule of each run (default: ours) and "
    "with its switches, which stand in the last table. A row is compared where a run of its configuration was trained "
    "and tested as the paper's tables say, on the whole test set; everything else is shown and not compared. The 95% "
    "interval of a difference counts the questions of both sides, and the seeds where there are several. The paper's "
    "answers are not public, so its score enters as if it stood on other questions, which makes the interval wider "
    "than a paired one. Rows marked as quoted were taken by the paper from the PiSSA paper (arXiv 2404.02948)."
)


def table1(records: Sequence[dict[str, Any]]) -> Table:
    """Return Table 1 with the paper's values and ours.

    Args:
        records: Of all runs; those of other configurations are not looked at.
    """
    columns = [Column("model", "model"), Column("method", "method"), Column("million", "trainable, M", "count")]
    for name in paper.BENCHMARKS:
        title = TITLES[name]
        columns += [Column(f"{name}_paper", "paper", "percent2", span=title)]
        columns += [Column(f"{name}_ours", "ours", "percent2", ("sd", "interval"), title)]
        columns += [Column(f"{name}_difference", "difference", "points", ("interval",), title)]
    columns += [Column("source", "paper's score")]
    rows = tuple(_row(row, records) for row in paper.scores())
    ours = sum(isinstance(row[f"{name}_ours"], Estimate) for row in rows for name in paper.BENCHMARKS)
    about = f"{ABOUT} Compared: {ours} of {len(rows) * len(paper.BENCHMARKS)} scores."
    return Table("table1", "The paper's Table 1", about, tuple(columns), rows)


def _row(row: paper.Score, records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return one row of the table."""
    cells: dict[str, Any] = {
        "model": paper.model_titles()[row.model],
        "method": row.method,
        "million": row.million,
        "source": "quoted" if row.quoted else "its own",
    }
    for name in paper.BENCHMARKS:
        theirs = row.accuracy[name] / 100
        ours = _ours(row, name, records)
        cells |= {f"{name}_paper": theirs, f"{name}_ours": ours}
        cells[f"{name}_difference"] = _difference(ours, theirs, name) if isinstance(ours, Estimate) else None
    return cells


def _ours(row: paper.Score, benchmark: str, records: Sequence[dict[str, Any]]) -> Estimate | str:
    """Return our accuracy, or in words why there is none to compare."""
    run = row.run + (paper.CODE_SUFFIX if benchmark == "humaneval" else "")
    tested = [one for one in records if one["group"] == run and is_tested(one) and benchmark in one["results"]]
    reasons = [_why_not(one, benchmark, row) for one in tested]
    whole = [one for one, reason in zip(tested, reasons, strict=True) if reason is None]
    if whole:
        return accuracy(whole, benchmark) or "seeds that were tested differently"
    return reasons[0] if reasons else NOT_RUN


def _why_not(record: dict[str, Any], benchmark: str, row: paper.Score) -> str | None:
    """Return why a run does not stand for the paper's, None where it does."""
    result, training = record["results"][benchmark], record["training"]
    value = result.get("accuracy")
    found = f"{100 * value:.2f} " if value is not None else ""
    if result.get("graded") != paper.QUESTIONS[benchmark]:
        return f"{found}on {result.get('graded')} of {paper.QUESTIONS[benchmark]} questions"
    config, trained = training.get("config") or {}, training.get("trainable_parameters")
    if training.get("status") != "finished" or trained is None:
        return f"{found}without the record of its training"
    if round(trained / 1e6) != row.million:
        return f"{found}with {trained:,} trainable parameters"
    if config.get("peft") != row.method:
        return f"{found}with the method {config.get('peft')}"
    if training.get("steps") != paper.STEPS:
        return f"{found}after {training.get('steps')} steps, not {paper.STEPS}"
    other = _other_settings(training, row) + _other_decoding(result, benchmark, row)
    return f"{found}with {', '.join(other)}" if other else None


def _other_settings(training: dict[str, Any], row: paper.Score) -> list[str]:
    """Return the settings of a training that differ from the paper's Tables 3 and 5, where the row is in them."""
    column = next((one for one in paper.training() if one.run == row.run), None)
    ours = training["config"] | {"batch_size": training.get("global_batch")} if training.get("config") else {}
    wanted = {key: value or 0 for key, value in column.settings.items()} if column else {}  # no clipping is 0 here
    return [f"{key} {ours[key]}, not {value}" for key, value in wanted.items() if ours.get(key, value) != value]


def _other_decoding(result: dict[str, Any], benchmark: str, row: paper.Score) -> list[str]:
    """Return in what a test differs from the paper's Tables 4 and 6, where the row is in them."""
    column = next((one for one in paper.evaluation() if one.run == row.run), None)
    if column is None:
        return []
    wanted = {"precision": column.settings["test_precision"]}
    wanted["max_new_tokens"] = column.settings["max_new_tokens"][benchmark]
    return [f"{key} {result[key]}, not {value}" for key, value in wanted.items() if result.get(key, value) != value]


def _difference(ours: Estimate, theirs: float, benchmark: str) -> Estimate:
    """Return ours - theirs; the two intervals put together as those of independent samples.

    Source: the square-and-add rule of method 10 of R. G. Newcombe, Statistics in Medicine 17 (1998) 873-890.
    """
    from sorsa.evaluation.statistics import wilson_interval

    total = paper.QUESTIONS[benchmark]
    low, high = wilson_interval(round(theirs * total), total)
    gap = ours.value - theirs
    down = math.hypot(ours.value - ours.interval[0], high - theirs)
    up = math.hypot(ours.interval[1] - ours.value, theirs - low)
    return Estimate(gap, (max(-1.0, gap - down), min(1.0, gap + up)))
