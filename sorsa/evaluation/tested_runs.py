"""Finding tested runs by what a user writes after `--compare-runs`, and reading their results.

`X` is the merged run X, `base:X` its base model, `unmerged:X` base and adapter side by side; `X1,X2,X3` are several
seeds of one method. Everything comes from `results/`: nothing is loaded, generated or graded.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sorsa.errors import UsageError, did_you_mean
from sorsa.evaluation.result_files import read_graded_rows, read_record
from sorsa.run_folder import RunFolder

logger = logging.getLogger(__name__)

KINDS = ("merged", "base", "unmerged")
_NOT_ABOUT_HOW = {
    "model",
    "tokenizer",
    "prompts",
    "questions",
}  # settings that are compared elsewhere, or have to differ


@dataclasses.dataclass(frozen=True)
class Test:
    """One test of one run on one benchmark.

    Args:
        run: The run as the user wrote it.
        record: Its results/DATASET.json.
        rows: Its results/DATASET.jsonl by question id, in order.
    """

    run: str
    record: dict[str, Any]
    rows: dict[str, dict[str, Any]]

    def correct(self, rule: str) -> list[bool]:
        """Return one rule's verdicts in the order of the questions."""
        return [row["verdicts"][rule]["correct"] for row in self.rows.values()]

    def how(self) -> dict[str, str]:
        """Return everything about how the test was done that another one should share, as text."""
        facts = {key: value for key, value in self.record.get("settings", {}).items() if key not in _NOT_ABOUT_HOW}
        facts |= {key: self.record[key] for key in ("precision", "sandbox", "task_version") if key in self.record}
        made = self.record.get("environment", {})
        judged = self.record.get("regraded", made)
        facts |= {f"version of {name}": made.get("versions", {}).get(name) for name in ("torch", "transformers")}
        facts["code that graded (git commit)"] = (judged.get("git") or {}).get("commit")
        return {key: str(value) for key, value in facts.items()}


@dataclasses.dataclass(frozen=True)
class Side:
    """The tests of one side of a comparison, one per seed.

    Args:
        tests: On the same questions.
    """

    tests: tuple[Test, ...]

    def ordered(self, ids: Sequence[str]) -> Side:
        """Return the same tests with their rows in the order of `ids`."""
        rows = [{key: test.rows[key] for key in ids} for test in self.tests]
        return Side(tuple(dataclasses.replace(test, rows=one) for test, one in zip(self.tests, rows, strict=True)))

    def verdicts(self, rule: str) -> np.ndarray:
        """Return (seeds, questions), right or wrong."""
        return np.array([test.correct(rule) for test in self.tests], bool)


class Results:
    """The results of one side's runs, found but not read.

    Args:
        word: What the user wrote: runs joined by commas.
        run_path: The folder of all runs.

    Raises:
        UsageError: A run is unknown, named twice, or has no results of this kind.
    """

    def __init__(self, word: str, run_path: Path) -> None:
        self.runs = word.split(",")
        self._found = {run: _results_of(run, run_path) for run in self.runs}
        # `X`, `merged:X` and `./X` are one run
        self.folders = {(kind, (run_path / name).resolve()) for kind, name in map(_split, self.runs)}
        if len(self.folders) < len(self.runs):
            raise UsageError(f"--compare-runs {word}: a run is named twice; each seed counts once")

    @property
    def benchmarks(self) -> list[str]:
        """The benchmarks that every run of this side has."""
        first, *rest = self._found.values()
        return [dataset for dataset in first if all(dataset in other for other in rest)]

    def require(self, dataset: str) -> None:
        """Raise UsageError where a run was not tested on a benchmark."""
        for run, found in self._found.items():
            if dataset not in found:
                raise UsageError(f"run {run!r} has no results on {dataset}; it has {', '.join(found)}")

    def read(self, dataset: str) -> Side:
        """Return the tests on one benchmark. Raises UsageError where a file is broken."""
        tests: list[Test] = []
        for run, found in self._found.items():
            record, path = found[dataset]
            rows = read_graded_rows(path)
            if len(rows) != record.get("graded"):
                raise UsageError(f"{path} does not hold the {record.get('graded')} graded rows of its test; test again")
            tests.append(Test(run, record, rows))
        return Side(tuple(tests))


def _split(run: str) -> tuple[str, str]:
    """Return kind of model and name of a run as the user wrote it."""
    kind, _, name = run.rpartition(":")
    return kind or "merged", name


def _results_of(run: str, run_path: Path) -> dict[str, tuple[dict[str, Any], Path]]:
    """Return benchmark -> (record, file of rows) of one run, for the kind of model that the word asks for."""
    kind, name = _split(run)
    if kind not in KINDS:
        raise UsageError(f"--compare-runs {run}: {kind!r} is no kind of model.{did_you_mean(kind, KINDS)}")
    folder = RunFolder(run_path, name)
    if not name or not folder.path.is_dir():
        known = [path.name for path in run_path.iterdir() if path.is_dir()] if run_path.is_dir() else []
        raise UsageError(f"no run {name!r} in {run_path}.{did_you_mean(name, known)}")
    found: dict[str, tuple[dict[str, Any], Path]] = {}
    broken: list[UsageError] = []
    for path in sorted(folder.results.glob("*.json")):
        try:
            record = read_record(path)
        except UsageError as error:  # perhaps of another benchmark than the one that is asked for
            broken.append(error)
            continue
        rows = path.with_suffix(".jsonl")
        if record.get("kind", "merged") == kind and "rules" in record and rows.is_file():
            missing = [key for key in ("dataset", "rule") if key not in record]
            if missing:
                raise UsageError(f"{path}: no {' and no '.join(missing)}; test again")
            found[record["dataset"]] = (record, rows)
    if not found and broken:
        raise broken[0]
    for error in broken:
        logger.warning("left out: %s", error)
    if not found:
        flag = {"merged": "", "base": " --base", "unmerged": " --unmerged"}[kind]
        raise UsageError(f"run {run!r} has no results: run {folder.command('test')}{flag} --test-dataset NAME first")
    return found


def choose_rule(dataset: str, tests: Sequence[Test], asked: str | None) -> str:
    """Return the rule to compare by: the one asked for, else the headline that these tests share.

    Raises:
        UsageError: Not every row has a verdict by it, or none was asked for and the headlines differ.
    """
    rules = {test.record["rule"]: test.run for test in tests}
    if not asked and len(rules) > 1:
        by = ", ".join(f"{rule!r} in {run}" for rule, run in rules.items())
        raise UsageError(f"{dataset}: the headline rules differ ({by}); name one with --grading-rule")
    rule = asked or next(iter(rules))
    first, *rest = (set(row["verdicts"]) for test in tests for row in test.rows.values())
    shared = sorted(first.intersection(*rest))
    if rule not in shared:
        raise UsageError(
            f"{dataset}: these tests have no verdicts by the rule {rule!r}, only by {', '.join(shared) or 'none'}; "
            "name one of them with --grading-rule, or another benchmark with --test-dataset"
        )
    return rule


def check_same_questions(dataset: str, tests: Sequence[Test]) -> None:
    """Refuse to compare answers to different questions.

    Raises:
        UsageError: Names the first difference: numbers, ids, prompts or gold answers.
    """
    first, *rest = tests
    for other in rest:
        if first.rows.keys() != other.rows.keys():
            raise UsageError(
                f"{dataset}: {first.run} answered {len(first.rows)} questions, {other.run} {len(other.rows)}, and not "
                "the same ones: test both with the same --test-file and --limit"
            )
        for key, what in (("prompt", "another prompt"), ("gold", "another gold answer"), ("choices", "other choices")):
            changed = [one for one, row in first.rows.items() if row.get(key) != other.rows[one].get(key)]
            if changed:
                raise UsageError(
                    f"{dataset}: {len(changed)} questions, the first has id {changed[0]}, have {what} in {other.run} "
                    f"than in {first.run}: test both on the same file"
                )
