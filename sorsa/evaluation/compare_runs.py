"""Is run B better than run A? Both tested on the same questions, compared question by question (`--compare-runs A B`).

    python run.py --compare-runs base:X X                   did fine-tuning help?
    python run.py --compare-runs X Y --test-dataset math    one run each: Newcombe's interval, McNemar's exact test
    python run.py --compare-runs X1,X2,X3 Y1,Y2,Y3          several seeds: both seeds and questions are a sample

Differences are B - A. A question has flipped where most seeds of one side have it right, at most half of the other's.
"""

from __future__ import annotations

import itertools
import json
import statistics
from pathlib import Path
from typing import Any

import numpy as np

from sorsa.errors import UsageError
from sorsa.evaluation.statistics import difference_over_seeds, paired_counts, seeds_and_questions_interval
from sorsa.evaluation.terminal import gold_text, readable
from sorsa.evaluation.tested_runs import Results, Side, check_same_questions, choose_rule
from sorsa.files import write_json

SHOWN = 10  # flipped questions that are printed; the JSON has all
ONE_RUN = "one run each: Wilson's intervals, Newcombe's for the paired difference (method 10), McNemar's exact test"
SEEDS = "seeds and questions: crossed random effects, Student's t with Satterthwaite's degrees of freedom"
ONE_SIDE = "questions, and seeds of one side only: random effects, Student's t with Satterthwaite's degrees of freedom"


def compare_runs(
    first: str,
    second: str,
    run_path: Path,
    dataset: str | None = None,
    rule: str | None = None,
    as_json: bool = False,
    output: Path | None = None,
) -> dict[str, Any]:
    """Compare two tested runs, or two groups of seeds, on every benchmark that both have.

    Args:
        first: A: a run, `base:RUN`, `unmerged:RUN`, or several joined by commas.
        second: B.
        run_path: The folder of all runs.
        dataset: The only benchmark to compare; default: all that both have.
        rule: The grading rule to compare by, where it is not the headline of both.
        as_json: Print JSON instead of text.
        output: A JSON file to write as well.

    Returns:
        What is printed as JSON.

    Raises:
        UsageError: A run or its results are not there or damaged, the questions or rules differ, or `output` cannot be
            written.
    """
    if output is not None and output.is_dir():
        raise UsageError(f"--output {output} is a folder; name a .json file")
    a, b = Results(first, run_path), Results(second, run_path)
    if a.folders & b.folders:
        raise UsageError(f"--compare-runs {first} {second}: a run cannot be compared with itself")
    benchmarks = _wanted(dataset) if dataset else [name for name in a.benchmarks if name in b.benchmarks]
    for name in benchmarks:
        a.require(name)
        b.require(name)
    if not benchmarks:
        raise UsageError(
            f"no benchmark that both have: {first} has {', '.join(a.benchmarks)}, {second} {', '.join(b.benchmarks)}"
        )
    found = {name: _compare(name, a.read(name), b.read(name), rule) for name in benchmarks}
    result = {"a": a.runs, "b": b.runs, "difference": "b - a", "benchmarks": found}
    if output is not None:
        try:
            write_json(output, result)
        except OSError as error:
            raise UsageError(f"--output {output}: cannot be written ({error.strerror or error})") from error
    print(json.dumps(result, indent=2, ensure_ascii=False) if as_json else as_text(result))
    return result


def _wanted(dataset: str) -> list[str]:
    """Return the benchmarks that a `--test-dataset` names; each task of lm-eval is one."""
    if not dataset.startswith("lm-eval:"):
        return [dataset]
    from sorsa.evaluation.lm_eval_tasks import task_names

    return [f"lm-eval:{task}" for task in task_names(dataset)]


def _compare(dataset: str, a: Side, b: Side, asked: str | None) -> dict[str, Any]:
    """Return everything about one benchmark."""
    tests = (*a.tests, *b.tests)
    rule = choose_rule(dataset, tests, asked)
    check_same_questions(dataset, tests)
    order = list(tests[0].rows)
    a, b = a.ordered(order), b.ordered(order)
    left, right = a.verdicts(rule), b.verdicts(rule)  # (seeds, questions)
    difference = difference_over_seeds(left, right)
    return {
        "rule": rule,
        "questions": len(order),
        "method": _method(len(left), len(right)),
        "a": _side(left),
        "b": _side(right),
        "difference": {
            "value": difference.value,
            "interval_95": list(difference.interval_95),
            "p_value": difference.p_value,
            "degrees_of_freedom": difference.df,
        },
        "counts": _counts(left, right),
        "same_text": _same_text(a, b),
        "flipped": _flipped(a, b, rule),
        "warnings": _warnings(a, b),
        "seeds_unknown": [side for side, rows in (("A", left), ("B", right)) if _one_of_two(rows, left, right)],
    }


def _method(seeds_a: int, seeds_b: int) -> str:
    """Return how interval and p-value of the difference were worked out."""
    if seeds_a == seeds_b == 1:
        return ONE_RUN
    return ONE_SIDE if 1 in (seeds_a, seeds_b) else SEEDS


def _one_of_two(rows: np.ndarray, *sides: np.ndarray) -> bool:
    """Return whether a side has one seed where the other has several."""
    return len(rows) == 1 < max(map(len, sides))


def _side(verdicts: np.ndarray) -> dict[str, Any]:
    """Return accuracy, interval and what each seed reached."""
    spread = seeds_and_questions_interval(verdicts)
    each = [float(row.mean()) for row in verdicts]
    sd = statistics.stdev(each) if len(each) > 1 else None
    return {"accuracy": spread.value, "interval_95": list(spread.interval_95), "runs": each, "sd": sd}


def _counts(left: np.ndarray, right: np.ndarray) -> dict[str, float]:
    """Return how many questions both have right, one alone, none: the mean over all pairs of a seed of each side."""
    pairs = [paired_counts(one, other) for one, other in itertools.product(left, right)]
    both, only_a, only_b, neither = (sum(column) / len(pairs) for column in zip(*pairs, strict=True))
    return {"both": both, "only_a": only_a, "only_b": only_b, "neither": neither}


def _same_text(a: Side, b: Side) -> float:
    """Return the share of completions that are the same text, over all pairs of a seed of each side."""
    pairs = list(itertools.product(a.tests, b.tests))
    same = sum(
        row["completion"] == other.rows[key]["completion"] for one, other in pairs for key, row in one.rows.items()
    )
    return same / (len(pairs) * len(a.tests[0].rows))


def _flipped(a: Side, b: Side, rule: str) -> list[dict[str, Any]]:
    """Return the questions on which most seeds of the sides differ, in order."""
    share_a, share_b = a.verdicts(rule).mean(axis=0), b.verdicts(rule).mean(axis=0)
    rows = []
    for index, (key, row) in enumerate(a.tests[0].rows.items()):
        if (share_a[index] > 0.5) != (share_b[index] > 0.5):
            read = [[test.rows[key]["verdicts"][rule].get("extracted") for test in side.tests] for side in (a, b)]
            shares = {"right_in_a": float(share_a[index]), "right_in_b": float(share_b[index])}
            rows.append({"id": key, **shares, "gold": row.get("gold"), "extracted_a": read[0], "extracted_b": read[1]})
    return rows


def _warnings(a: Side, b: Side) -> list[str]:
    """Return in what the two sides' tests were not done alike."""
    keys = sorted({key for side in (a, b) for test in side.tests for key in test.how()})
    found = []
    for key in keys:
        said = [sorted({test.how().get(key, "not recorded") for test in side.tests}) for side in (a, b)]
        if said[0] != said[1] or len(said[0]) > 1:
            found.append(f"{key}: {', '.join(said[0])} in A, {', '.join(said[1])} in B")
    return found


def as_text(result: dict[str, Any]) -> str:
    """Return the comparison for a terminal.

    Args:
        result: What `compare_runs` returns.
    """
    lines = [f"A: {', '.join(result['a'])}", f"B: {', '.join(result['b'])}"]
    for name, facts in result["benchmarks"].items():
        lines += ["", *_benchmark_lines(name, facts)]
    return "\n".join(lines)


def _benchmark_lines(name: str, facts: dict[str, Any]) -> list[str]:
    """Return the lines about one benchmark."""
    lines = [f"{name}, rule {facts['rule']}, {facts['questions']} questions ({facts['method']})"]
    for side in ("a", "b"):
        one = facts[side]
        sd = "" if one["sd"] is None else f", sd over {len(one['runs'])} seeds {100 * one['sd']:.2f}"
        lines.append(f"  {side.upper()}: {100 * one['accuracy']:.2f}% {_interval(one['interval_95'])}{sd}")
    gap, counts = facts["difference"], facts["counts"]
    lines.append(f"  B - A: {100 * gap['value']:+.2f} points {_interval(gap['interval_95'])}, p = {gap['p_value']:.3g}")
    lines.append(
        f"  right in both {counts['both']:g}, only in A {counts['only_a']:g}, only in B {counts['only_b']:g}, "
        f"in neither {counts['neither']:g}; same text in {facts['same_text']:.1%}"
    )
    lines += [f"  warning, not done alike: {warning}" for warning in facts["warnings"]]
    for side in facts["seeds_unknown"]:
        lines.append(f"  warning: {side} has one seed, whose spread is unknown: the true interval is wider, p larger")
    flipped = facts["flipped"]
    lines += [f"  {_flipped_line(row)}" for row in flipped[:SHOWN]]
    if len(flipped) > SHOWN:
        lines.append(f"  ... and {len(flipped) - SHOWN} more: all are in the JSON (--json, or --output FILE)")
    return lines


def _flipped_line(row: dict[str, Any]) -> str:
    """Return one flipped question: who has it right, the gold answer, what was read as the answers."""
    read = {side: row[f"extracted_{side.lower()}"] for side in "AB"}
    right = {side: round(row[f"right_in_{side.lower()}"] * len(read[side])) for side in "AB"}
    if len(read["A"]) == len(read["B"]) == 1:
        won = f"right in {'A' if right['A'] else 'B'} only"
    else:
        won = "right in " + ", ".join(f"{right[side]} of {len(read[side])} seeds of {side}" for side in "AB")
    answers = "; ".join(f"{side} read {', '.join(readable(one, 60) for one in read[side])}" for side in "AB")
    return f"{won}: {row['id']}, gold {gold_text(row['gold'], 60)}; {answers}"


def _interval(bounds: list[float]) -> str:
    return f"({100 * bounds[0]:.2f} to {100 * bounds[1]:.2f})"
