"""Evaluation: greedy generation, grading by two named rules, and results with intervals (paper section 6.2, Table 1).

Nothing heavy is imported here. A new benchmark is one file beside this one and one line in BENCHMARKS; the file offers
what `sorsa.evaluation.benchmark` lists.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from sorsa.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from sorsa.config import RunConfig

# name on the command line -> module that implements it
BENCHMARKS = {
    "gsm-8k": "sorsa.evaluation.gsm8k",
    "math": "sorsa.evaluation.math",
    "humaneval": "sorsa.evaluation.humaneval",
    "humaneval+": "sorsa.evaluation.humaneval_plus",
}


def find_benchmark(name: str) -> ModuleType:
    """Import the module of a registered benchmark.

    Args:
        name: A key of BENCHMARKS.

    Raises:
        UsageError: No benchmark has this name.
    """
    if name not in BENCHMARKS:
        raise UsageError(f"unknown test dataset {name!r}.{did_you_mean(name, BENCHMARKS)}")
    return importlib.import_module(BENCHMARKS[name])


def test(config: RunConfig) -> None:
    """Generate answers with a merged run, grade them, and write `results/` (mode `--test`).

    Args:
        config: A validated run configuration with `test_dataset` set.

    Raises:
        UsageError: Unknown dataset, no merged model, bad question file, or no consent to run code.
    """
    from sorsa.evaluation.results import run_test

    run_test(config)


def grade_file(
    source: Path,
    dataset: str,
    output: Path,
    rule: str = "ours",
    allow_code_execution: bool = False,
    allow_unsandboxed: bool = False,
    test_file: str | None = None,
) -> None:
    """Grade completions made elsewhere, without a model (mode `--grade`).

    Args:
        source: JSONL; rows `{completion or prediction, gold}`, for humaneval `{task_id, completion}`.
        dataset: A key of BENCHMARKS.
        output: JSONL to write: each row in order with `correct`, `extracted` and `reason`.
        rule: The grading rule behind `correct`: `ours` or `authors`.
        allow_code_execution: Consent to run the code in the rows (humaneval and humaneval+ only).
        allow_unsandboxed: Consent to run it with resource limits alone where no sandbox works.
        test_file: The problems with their tests (humaneval+; for humaneval in place of the package's).

    Raises:
        UsageError: Unknown dataset or rule, a bad row (file and line are named), no consent, or no sandbox.
    """
    from sorsa.evaluation.grading import grade_rows

    grade_rows(Path(source), dataset, Path(output), rule, allow_code_execution, allow_unsandboxed, test_file)
