"""Groups of runs that differ in their seed alone, and the table of one comparison: scores, cost, drift of the weights.

Drift and condition numbers are those of the paper's section 6.1 (`analysis/drift.json`): means over the adapted
matrices at the last analysed step.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Sequence
from typing import Any

from sorsa.report.records import BASE
from sorsa.report.tables import Column, Estimate, Table, bounds

LAST_STEPS = 10  # whose mean loss is shown: one step's loss is mostly that of its rows
DRIFT = ("dSigma", "dD", "condition_principal", "condition_merged", "orthonormality_U", "orthonormality_V")
DRIFT += ("effective_rank",)
SINGLE = "single runs"  # in place of a comparison's name


@dataclasses.dataclass(frozen=True)
class Group:
    """Runs of one configuration at one learning rate, tested, one per seed.

    Args:
        comparison: The comparison they belong to, or None.
        name: Of the configuration, with the learning rate where the comparison tested several.
        records: The runs.
    """

    comparison: str | None
    name: str
    records: tuple[dict[str, Any], ...]

    def mean(self, number: Callable[[dict[str, Any]], float | None]) -> Estimate | None:
        """Return mean and standard deviation over the seeds of a number of each record; None where one lacks it.

        Args:
            number: Record -> number or None.
        """
        values = [number(record) for record in self.records]
        if any(value is None for value in values):
            return None
        return Estimate(statistics.fmean(values), sd=statistics.stdev(values) if len(values) > 1 else None)

    def accuracy(self, stem: str) -> Estimate | None:
        """Return the accuracy on a benchmark, with the interval that counts both seeds and questions.

        Args:
            stem: Of the benchmark's results.

        Returns:
            None where a run lacks the test, or the seeds answered different questions.
        """
        return accuracy([record["verdicts"].get(stem) for record in self.records])


def accuracy(verdicts: Sequence[dict[str, str] | None]) -> Estimate | None:
    """Return mean accuracy, standard deviation over seeds, and the interval that counts both seeds and questions.

    Args:
        verdicts: Of each seed, as a record has them.

    Returns:
        None where one is missing, or they are about different questions.
    """
    from sorsa.evaluation.statistics import seeds_and_questions_interval

    if not verdicts or None in verdicts or len({one["questions"] for one in verdicts}) > 1:
        return None
    rows = [[letter == "1" for letter in one["correct"]] for one in verdicts]  # (seeds, questions)
    spread = seeds_and_questions_interval(rows)
    each = [sum(row) / len(row) for row in rows]
    return Estimate(spread.value, spread.interval_95, statistics.stdev(each) if len(each) > 1 else None)


def is_tested(record: dict[str, Any]) -> bool:
    """Return whether the run itself was tested, and not only its base model."""
    return any(not stem.startswith(BASE) for stem in record["results"])


def by_comparison(records: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Return the records of each comparison by its name, in order of appearance, last those of single runs."""
    found: dict[str, list[dict[str, Any]]] = {}
    for record in sorted(records, key=lambda one: one["comparison"] is None):
        found.setdefault(record["comparison"] or SINGLE, []).append(record)
    return found


def groups(records: Sequence[dict[str, Any]]) -> list[Group]:
    """Return the tested runs by comparison, configuration and learning rate, in order of appearance.

    Args:
        records: Any; learning rates that were only validated have no test and are in no group.
    """
    found: dict[tuple[str | None, str, float | None], list[dict[str, Any]]] = {}
    for record in filter(is_tested, records):
        key = (record["comparison"], record["group"], learning_rate(record))
        found.setdefault(key, []).append(record)
    names = [(comparison, name) for comparison, name, _ in found]
    return [
        Group(comparison, name if names.count((comparison, name)) == 1 else f"{name}, lr {lr}", tuple(runs))
        for (comparison, name, lr), runs in found.items()
    ]


def learning_rate(record: dict[str, Any]) -> float | None:
    """Return a run's highest learning rate; None of a run that was not trained here."""
    return (record["training"].get("config") or {}).get("lr")


def benchmarks(records: Sequence[dict[str, Any]]) -> list[str]:
    """Return the stems of all results with right and wrong answers, those of base models left out."""
    return sorted({stem for record in records for stem in record["verdicts"] if not stem.startswith(BASE)})


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
    columns = [Column("group", "run"), Column("comparison", "comparison")]
    columns += [Column(stem, f"{stem}, %", "percent", ("sd", "interval")) for stem in stems]
    columns += [Column("loss", "loss", "loss", ("sd",))]
    columns += [Column("perplexity_before", "before", "number", ("interval",), "perplexity")]
    columns += [Column("perplexity_after", "after", "number", ("sd", "interval"), "perplexity")]
    columns += [Column(key, title, "number", ("sd",), span) for key, title, span in _drift_titles()]
    columns += [Column("method", "method"), Column("lr", "learning rate", "rate"), Column("seeds", "seeds", "plain")]
    columns += [Column("trainable_parameters", "trainable parameters", "count")]
    columns += [Column("tokens", "tokens seen", "count")]
    columns += [Column("seconds_per_step", "seconds per step", "seconds", ("sd",))]
    rows = [_group_row(group, stems, records) for group in groups(records)]
    base = _base_row(stems, records)
    rows = tuple({"comparison": name} | row for row in ([base, *rows] if base else rows))
    return Table(f"comparison-{name.replace(' ', '-')}", name, "", tuple(columns), rows)


def _drift_titles() -> list[tuple[str, str, str]]:
    """Return key, title and span of the columns about weights."""
    titles = ("ΔΣ", "ΔD", "of Wp", "merged", "‖UᵀU − I‖", "‖VᵀV − I‖", "effective rank of the update")
    spans = ("drift", "drift", "condition number", "condition number", "orthonormality", "orthonormality", "")
    return list(zip(DRIFT, titles, spans, strict=True))


def _group_row(group: Group, stems: Sequence[str], records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the row of one group."""
    training = group.records[0]["training"]
    row = {
        "group": group.name,
        "method": (training.get("config") or {}).get("peft"),
        "lr": learning_rate(group.records[0]),
        "seeds": len(group.records),
        "trainable_parameters": training.get("trainable_parameters"),
        "loss": group.mean(final_loss),
        "tokens": _value(group.mean(lambda record: record["training"].get("tokens"))),
        "perplexity_before": _perplexity_before(group, records),
        "perplexity_after": _perplexity_after(group),
        "seconds_per_step": group.mean(seconds_per_step),
    }
    row |= {key: group.mean(lambda record, key=key: last_drift(record).get(key)) for key in DRIFT}
    return row | {stem: group.accuracy(stem) for stem in stems}


def _value(estimate: Estimate | None) -> float | None:
    return estimate.value if estimate else None


def _base_row(stems: Sequence[str], records: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the row of the base model, None where it was not tested."""
    tested = {stem: record["verdicts"].get(BASE + stem) for stem in stems if (record := base_result(records, stem))}
    row = {stem: accuracy([verdicts]) for stem, verdicts in tested.items() if verdicts}
    text = base_result(records, "perplexity")
    if text:
        row["perplexity_before"] = _perplexity(text["results"][f"{BASE}perplexity"])
    return {"group": "base model"} | row if row else None


def _perplexity_before(group: Group, records: Sequence[dict[str, Any]]) -> Estimate | None:
    """Return the base model's perplexity on the text of the group's own tests."""
    own, base = group.records[0]["results"].get("perplexity"), base_result(records, "perplexity")
    before = base["results"][f"{BASE}perplexity"] if base else None
    if not own or not before or own.get("text") != before.get("text"):
        return None
    return _perplexity(before)


def _perplexity_after(group: Group) -> Estimate | None:
    """Return the perplexity after training: with one seed its own interval, over windows of the text."""
    results = [record["results"].get("perplexity") for record in group.records]
    if len(results) == 1:
        return _perplexity(results[0]) if results[0] else None
    return group.mean(lambda record: record["results"].get("perplexity", {}).get("perplexity"))


def _perplexity(result: dict[str, Any]) -> Estimate | None:
    """Return what one test of perplexity found."""
    value = result.get("perplexity")
    return Estimate(value, bounds(result.get("interval_95"))) if value is not None else None


def final_loss(record: dict[str, Any]) -> float | None:
    """Return the mean loss of a run's last steps, nats per response token; None where it has none or diverged."""
    losses = (record["metrics"].get("loss") or [])[-LAST_STEPS:]
    return statistics.fmean(losses) if losses and None not in losses else None


def seconds_per_step(record: dict[str, Any]) -> float | None:
    """Return the seconds that one optimizer step of a run took, saving included."""
    seconds, steps = record["training"].get("seconds"), record["training"].get("steps_done")
    return seconds / steps if seconds and steps else None


def last_drift(record: dict[str, Any]) -> dict[str, float | None]:
    """Return the means over a run's matrices at its last analysed step; empty where it was not analysed."""
    rows = (record["drift"] or {}).get("mean") or []
    return rows[-1] if rows else {}
