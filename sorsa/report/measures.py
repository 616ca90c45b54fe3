"""The numbers that figures and claims are made of, each read from run records alone.

A value that a record does not have is None (or left out of a series), never a guess.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from sorsa.report.record_sets import Record

SMOOTHING = 0.05  # share of the steps in a trailing mean: 9 of the miniature's 180, 39 of the paper's 781
PERPLEXITY = "perplexity"  # stem of its results; the base model's is `base-perplexity`
_SAME_TEXT = ("text", "windows", "start_token", "precision")  # of two perplexities that may be compared
_SAME_TEST = ("rule", "precision", "decoding", "max_new_tokens")  # of two accuracies on the same questions


def curve(run: Record, column: str) -> tuple[np.ndarray, np.ndarray]:
    """Return steps and values of one column of a run's metrics, without steps that have no finite value.

    Args:
        run: A run's record.
        column: `loss`, `grad_norm`, ...

    Returns:
        Two arrays of one length, 0 where the run has no such column.
    """
    metrics = run.get("metrics") or {}
    pairs = zip(metrics.get("step", ()), metrics.get(column, ()), strict=False)
    found = [(step, value) for step, value in pairs if _is_number(value)]
    steps, values = zip(*found, strict=True) if found else ((), ())
    return np.array(steps, dtype=int), np.array(values, dtype=float)


def window(count: int) -> int:
    """Return the number of steps in a trailing mean over a run of `count` steps, at least 1."""
    return max(1, round(SMOOTHING * count))


def smoothed(steps: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the trailing mean of a curve over `window` steps; it begins at the first step that ends a full window.

    Args:
        steps: (T,)
        values: (T,)

    Returns:
        Steps and means, both (T - window + 1,).
    """
    width = window(len(steps))
    if not len(steps):
        return steps, values
    sums = np.concatenate([[0.0], np.cumsum(values)])
    return steps[width - 1 :], (sums[width:] - sums[:-width]) / width


def mean_loss(run: Record, share: float = 1.0) -> float | None:
    """Return the mean training loss over the first `share` of a run's steps, nats per response token."""
    _, loss = curve(run, "loss")
    return float(loss[: max(1, round(share * len(loss)))].mean()) if len(loss) else None


def final_loss(run: Record) -> float | None:
    """Return the mean training loss over the last `window` steps."""
    _, loss = smoothed(*curve(run, "loss"))
    return float(loss[-1]) if len(loss) else None


def steps_to(run: Record, target: float) -> int | None:
    """Return the first step at which a run's smoothed loss is at most `target`; its last step where it never is."""
    steps, loss = smoothed(*curve(run, "loss"))
    if not len(loss):
        return None
    # The last value is a sum in another order than `target` where that is this run's own final loss.
    reached = np.flatnonzero(loss <= target * (1 + 1e-9))
    return int(steps[reached[0]] if len(reached) else steps[-1])


def reaches(run: Record, target: float) -> bool:
    """Return whether a run's smoothed loss is ever at most `target`."""
    _, loss = smoothed(*curve(run, "loss"))
    return bool((loss <= target * (1 + 1e-9)).any())


def drift_series(run: Record, key: str) -> dict[str, dict[int, float | None]]:
    """Return matrix -> step -> value of one column of a run's spectral analysis; empty where there was none.

    Args:
        run: A run's record.
        key: `dSigma`, `condition_principal`, ...
    """
    matrices = (run.get("drift") or {}).get("matrices") or ()
    return {
        matrix["name"]: {row["step"]: row.get(key) if _is_number(row.get(key)) else None for row in matrix["steps"]}
        for matrix in matrices
    }


def complete_series(
    runs: Sequence[Record], key: str, last: bool = False
) -> tuple[list[int], list[str], np.ndarray, int]:
    """Return one column of the spectral analyses of several runs, as far as all have it.

    Args:
        runs: Those without an analysis are passed over.
        key: `dSigma`, `condition_principal`, ...
        last: Only the last step that any has, of which nothing is known where another run lacks it; instead of every
            one that all have, from the first that has any value. (LoRA's product is 0 at step 0, its condition number
            infinite.)

    Returns:
        The steps, the names of the matrices, the values (runs, matrices, steps), and how many matrices were left out
        because a run has no finite value of theirs at one of the steps.
    """
    series = [found for run in runs if (found := drift_series(run, key))]
    names = [name for name in series[0] if all(name in one for one in series)] if series else []
    every = [{*one[name]} for one in series for name in names]
    steps = sorted(set.intersection(*every)) if names else []
    if last and steps and steps[-1] != max(set.union(*every)):
        return [], [], np.empty((0, 0, 0)), 0
    while steps and all(one[name][steps[0]] is None for one in series for name in names):
        steps = steps[1:]
    steps = steps[-1:] if last else steps
    whole = [name for name in names if all(one[name][step] is not None for one in series for step in steps)]
    if not whole or not steps:
        return [], [], np.empty((0, 0, 0)), len(names)
    values = np.array([[[one[name][step] for step in steps] for name in whole] for one in series], dtype=float)
    return steps, whole, values, len(names) - len(whole)


def benchmarks(runs: Iterable[Record]) -> list[str]:
    """Return the stems of the results with verdicts on the merged model, sorted.

    Args:
        runs: Records of runs.
    """
    found = {stem for run in runs for stem in run["verdicts"]}
    return sorted(stem for stem in found if not stem.startswith(("base-", "unmerged-")))


def questions_of(run: Record, stem: str) -> str | None:
    """Return what tells the questions of a test from all others; None where the run was not tested.

    Ids alone do not: those of GSM-8K and MATH count from 0. The prompts do, or at least the file they are from.

    Args:
        run: A run's record.
        stem: The benchmark; `base-` before it for the base model.
    """
    if stem not in run["verdicts"]:
        return None
    result = run["results"].get(stem) or {}
    prompts = (result.get("settings") or {}).get("prompts") or result.get("source")
    return json.dumps([result.get("dataset"), run["verdicts"][stem]["questions"], prompts])


def test_of(run: Record, stem: str) -> str | None:
    """Return what has to be the same for two accuracies to be comparable: questions, grading rule and decoding."""
    questions, result = questions_of(run, stem), run["results"].get(stem) or {}
    stops = (result.get("settings") or {}).get("stop_at_answer")
    return questions and json.dumps([questions, stops, *(result.get(key) for key in _SAME_TEST)])


def common_test(runs: Iterable[Record], stem: str) -> str | None:
    """Return the test (`test_of`) that most runs took in a benchmark; None where none did."""
    seen = [test for run in runs if (test := test_of(run, stem))]
    return max(sorted(set(seen)), key=seen.count) if seen else None


def verdict_table(runs: Iterable[Record], stem: str, test: str | None) -> np.ndarray | None:
    """Return the verdicts of several seeds in one test.

    Args:
        runs: Records; those that were not tested, or in another way, are passed over.
        stem: The benchmark.
        test: What `common_test` returned.

    Returns:
        (seeds, questions) of 0 and 1; None without any.
    """
    own = [run["verdicts"][stem]["correct"] for run in runs if test and test_of(run, stem) == test]
    return np.array([[int(one) for one in correct] for correct in own], dtype=int) if own else None


def text_of(result: dict[str, Any]) -> list[Any]:
    """Return what has to be the same for two perplexities to be comparable."""
    return [result.get(key) for key in _SAME_TEXT]


def perplexity_text(runs: Iterable[Record]) -> Any:
    """Return what identifies the text that most runs' perplexities were measured on; None where none was."""
    seen = [text_of(run["results"][PERPLEXITY]) for run in runs if _has_nll(run, PERPLEXITY)]
    return max(seen, key=seen.count) if seen else None


def nats_per_token(run: Record, text: Any, base: bool = False) -> float | None:
    """Return the negative log-likelihood per token of the forgetting text; perplexity is its exponential.

    Args:
        run: A run's record.
        text: What `perplexity_text` returned; a measurement on another text does not count.
        base: Of the base model, as this run's folder has it, instead of the trained one.
    """
    stem = f"base-{PERPLEXITY}" if base else PERPLEXITY
    if not _has_nll(run, stem) or text_of(run["results"][stem]) != text:
        return None
    return run["results"][stem]["nll_per_token"]


def base_nats(runs: Iterable[Record], text: Any) -> float | None:
    """Return the base model's negative log-likelihood per token, from the first run that measured it on `text`."""
    return next((nll for run in runs if (nll := nats_per_token(run, text, base=True)) is not None), None)


def exponential(nats: float | None) -> float | None:
    """Return the perplexity of a negative log-likelihood per token; None where it is not known or too large to draw."""
    return None if nats is None or nats > math.log(1e300) else math.exp(nats)


def base_accuracy(runs: Iterable[Record], stem: str, test: str | None) -> float | None:
    """Return the base model's accuracy in the same test, a share; None where no run measured it."""
    table = verdict_table(runs, f"base-{stem}", test)
    return None if table is None else float(table[0].mean())


def finite_mean(values: Iterable[float | None]) -> float | None:
    """Return the mean of the values that are there; None without any."""
    found = [value for value in values if value is not None]
    return math.fsum(found) / len(found) if found else None


def _has_nll(run: Record, stem: str) -> bool:
    return _is_number((run["results"].get(stem) or {}).get("nll_per_token"))


def _is_number(value: Any) -> bool:
    """Return whether a value of a record is a finite number; JSON of other programs may hold NaN."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
