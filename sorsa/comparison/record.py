"""comparison.json and the printed table, both made from what the runs wrote (`sorsa.comparison` has the schema)."""

from __future__ import annotations

import datetime
import json
import shlex
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sorsa.comparison.runs import Comparison, Method, Run
from sorsa.evaluation.statistics import seeds_and_questions_interval
from sorsa.files import write_json
from sorsa.methods import lacks

GAMMA_RULE = "gamma = the YAML's gamma x lr / the YAML's lr: the regularizer keeps its weight gamma / lr (Eq. 3)"
_COPIED = ("first_loss", "last_loss", "tokens", "seconds", "peak_host_bytes", "peak_gpu_bytes")  # from record.json
_GB = 1e9


def write_record(comparison: Comparison) -> dict[str, Any]:
    """Write comparison.json, whole or not at all, and return its content.

    Args:
        comparison: The methods; everything else is read from their runs' folders.

    Raises:
        UsageError: A file of a run is not JSON.
        OSError: The disk is full; the old file is untouched.
    """
    methods = [_method_facts(method) for method in comparison.methods]
    config, seeds = comparison.methods[0].config, comparison.methods[0].seeds
    record = {
        "name": comparison.name,
        "status": "finished" if all(map(_complete, comparison.methods)) else "running",
        "started": _started(comparison.record),
        "command": shlex.join([Path(sys.executable).name, *sys.argv]),
        **{key: getattr(config, key) for key in ("model", "train_dataset", "test_dataset", "test_file", "limit")},
        "forgetting_file": config.forgetting_file,
        "perplexity_before": (comparison.first.perplexity_before() or {}).get("perplexity"),
        "valid_file": next((one.config.valid_file for one in comparison.methods if one.has_grid), None),
        "rule": config.grading_rule,
        "seeds": list(seeds),
        "gamma_rule": GAMMA_RULE,
        "environments": _environments(comparison),
        "methods": methods,
    }
    write_json(comparison.record, record)
    return record


def _complete(method: Method) -> bool:
    """Return whether nothing is left to do: the runs of all seeds are complete, or the whole grid diverged."""
    if method.has_grid and all(run.diverged for run in method.candidates):
        return True
    runs = method.runs()
    return bool(runs) and all(run.complete for run in runs)


def _started(path: Path) -> str:
    """Return when the comparison began: now, or what an earlier call wrote."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))["started"]
    except (OSError, ValueError, KeyError, TypeError):
        return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _environments(comparison: Comparison) -> list[dict[str, Any]]:
    """Return the distinct versions, git states and machines of the runs."""
    found: list[dict[str, Any]] = []
    for method in comparison.methods:
        for run in {run.name: run for run in [*method.candidates, *method.runs()]}.values():
            record = run.folder.read_record()
            facts = {key: record[key] for key in ("git", "versions", "host") if key in record}
            if facts and facts not in found:
                found.append(facts)
    return found


def _method_facts(method: Method) -> dict[str, Any]:
    """Return the entry of one method."""
    config, chosen = method.config, method.chosen()
    trained = next((record for run in method.candidates if (record := run.folder.read_record())), {})
    grid = [_candidate_facts(run) for run in method.candidates] if method.has_grid else []
    best = chosen.validation_result() if chosen and method.has_grid else None
    tested = method.runs()
    runs = [_run_facts(run) for run in tested]
    return {
        "config": config.name,
        "file": str(method.file),
        "peft": config.peft,
        "rank": None if lacks(config.peft, "rank") else config.rank,
        "trainable_parameters": trained.get("trainable_parameters"),
        "total_parameters": trained.get("total_parameters"),
        "grid": grid,
        "lr": chosen.config.lr if chosen else None,
        "gamma": _gamma(chosen) if chosen else None,
        "validation_accuracy": best["accuracy"] if best else None,
        "runs": runs,
        "test": _spread(tested, [run["test"]["accuracy"] for run in runs if run["test"]]),
    }


def _candidate_facts(run: Run) -> dict[str, Any]:
    """Return the entry of one learning rate of a grid."""
    validation = _score(run.validation_result())
    return {
        "lr": run.config.lr,
        "gamma": _gamma(run),
        "run": run.name,
        "validation": validation,
        "diverged": run.diverged,
    }


def _run_facts(run: Run) -> dict[str, Any]:
    """Return the entry of one seed."""
    record = run.folder.read_record()
    seconds, steps = record.get("seconds"), record.get("steps_done")
    return {
        "seed": run.config.seed,
        "run": run.name,
        "test": _score(run.test_result()),
        "perplexity": (run.perplexity() or {}).get("perplexity"),
        "drift": _last_drift(run),
        "diverged": run.diverged,
        "steps": steps,
        "seconds_per_step": round(seconds / steps, 4) if seconds and steps else None,
        **{key: record.get(key) for key in _COPIED},
    }


def _last_drift(run: Run) -> dict[str, Any] | None:
    """Return the means over the matrices at the last step, None before `--analyze`."""
    drift = run.drift()
    return drift["mean"][-1] if drift else None


def _gamma(run: Run) -> float | None:
    """Return a run's gamma, None for a method without."""
    return None if lacks(run.config.peft, "gamma") else run.config.gamma


def _score(result: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return the score in the record of a test."""
    if result is None:
        return None
    correct = result["rules"][result["rule"]]["correct"]
    return {
        "correct": correct,
        "total": result["graded"],
        "accuracy": result["accuracy"],
        "interval_95": result["interval_95"],
    }


def _spread(runs: Sequence[Run], accuracies: Sequence[float]) -> dict[str, Any] | None:
    """Return number, mean, sample standard deviation over seeds, and interval over both; None without any.

    The interval is of the same runs as the rest: None where the rows of one are gone.
    """
    if not accuracies:
        return None
    sd = statistics.stdev(accuracies) if len(accuracies) > 1 else None
    verdicts = [run.test_verdicts() for run in runs if run.test_result()]
    interval = _seeds_and_questions([one for one in verdicts if one]) if all(verdicts) else None
    return {"n": len(accuracies), "mean": statistics.fmean(accuracies), "sd": sd, "interval_95": interval}


def _seeds_and_questions(verdicts: Sequence[dict[str, bool]]) -> list[float] | None:
    """Return the interval that counts both seeds and questions; None where the rows do not belong together."""
    if not verdicts or any(other.keys() != verdicts[0].keys() for other in verdicts):
        return None
    table = [[one[question] for question in verdicts[0]] for one in verdicts]
    return list(seeds_and_questions_interval(table).interval_95)


def table(record: dict[str, Any]) -> str:
    """Return the methods of a comparison.json as an aligned table, one line each.

    Args:
        record: What `write_record` returned.
    """
    titles = (
        "method",
        "trainable",
        "lr",
        "validation",
        "test: mean +- sd over seeds",
        "95%: seeds and questions",
        "s/step",
        "peak memory",
    )
    rows = [titles, *(_row(method) for method in record["methods"])]
    widths = [max(len(row[column]) for row in rows) for column in range(len(titles))]
    lines = (zip(row, widths, strict=True) for row in rows)
    return "\n".join("  ".join(cell.ljust(width) for cell, width in line).rstrip() for line in lines)


def _row(method: dict[str, Any]) -> tuple[str, ...]:
    """Return the cells of one method."""
    runs = method["runs"]
    steps = [run["seconds_per_step"] for run in runs if run["seconds_per_step"]]
    gpu, host = ([run[key] for run in runs if run[key]] for key in ("peak_gpu_bytes", "peak_host_bytes"))
    peak = max(gpu or host, default=None)
    return (
        method["config"],
        _cell(method["trainable_parameters"], "{:,}"),
        _cell(method["lr"], "{:g}"),
        _cell(method["validation_accuracy"], "{:.1%}"),
        _cell_of_test(method["test"]),
        _cell_of_interval(method["test"]),
        _cell(statistics.fmean(steps) if steps else None, "{:.3f}"),
        _cell(peak / _GB if peak else None, "{:.2f} GB " + ("GPU" if gpu else "host")),
    )


def _cell_of_test(test: dict[str, Any] | None) -> str:
    """Return mean, standard deviation (one run has none) and number of runs."""
    if test is None:
        return "-"
    deviation = "" if test["sd"] is None else f" +- {test['sd']:.1%}"
    return f"{test['mean']:.1%}{deviation} (n = {test['n']})"


def _cell_of_interval(test: dict[str, Any] | None) -> str:
    """Return the interval that counts both seeds and questions."""
    if test is None or test["interval_95"] is None:
        return "-"
    low, high = test["interval_95"]
    return f"{low:.1%} to {high:.1%}"


def _cell(value: float | None, form: str) -> str:
    """Return a formatted value, `-` for none."""
    return "-" if value is None else form.format(value)
