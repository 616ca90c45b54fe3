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
    "math-500": "sorsa.evaluation.math_500",
    "humaneval+": "sorsa.evaluation.humaneval_plus",
    "perplexity": "sorsa.evaluation.perplexity",
    "lm-eval": "sorsa.evaluation.lm_eval_tasks",  # named with its tasks: lm-eval:piqa,boolq
}


def find_benchmark(name: str) -> ModuleType:
    """Import the module of a registered benchmark.

    Args:
        name: A key of BENCHMARKS, or `lm-eval:` and tasks.

    Raises:
        UsageError: No benchmark has this name.
    """
    key = name.split(":")[0] if name.startswith("lm-eval:") else name
    if key not in BENCHMARKS:
        raise UsageError(f"unknown test dataset {name!r}.{did_you_mean(name, BENCHMARKS)}")
    return importlib.import_module(BENCHMARKS[key])


def find_graded(name: str, mode: str) -> ModuleType:
    """Import the module of a benchmark whose answers are words, to be graded.

    Args:
        name: As for `find_benchmark`.
        mode: The flag of the mode that grades, for the message.

    Raises:
        UsageError: No benchmark has this name, or it has no such answers.
    """
    module = find_benchmark(name)
    if hasattr(module, "run"):
        raise UsageError(f"{mode} needs answers in words, and {name} has none: run it with --test")
    return module


def test(config: RunConfig) -> None:
    """Test a model and write `results/` (mode `--test`): generate answers and grade them, or what the benchmark says.

    Args:
        config: A validated run configuration with `test_dataset` set.

    Raises:
        UsageError: Unknown dataset, no merged model, bad question file, no consent to run code, or more processes than
            the benchmark can use.
    """
    module = find_benchmark(config.test_dataset)
    if hasattr(module, "run"):
        from sorsa.evaluation.processes import launched
        from sorsa.evaluation.subject import find_subject

        if launched() > 1:
            raise UsageError(
                f"{config.test_dataset} is tested by one process, and {launched()} were started: run it without "
                "torchrun or accelerate launch"
            )
        return module.run(config, find_subject(config))
    from sorsa.evaluation.results import run_test

    return run_test(config)


def regrade(config: RunConfig, show_disagreements: bool = False) -> None:
    """Grade the answers of an earlier test again, without its model, and write `results/` anew (mode `--regrade`).

    Args:
        config: A validated run configuration with `test_dataset` set.
        show_disagreements: Whether to print each question on which the rules differ.

    Raises:
        UsageError: There is no complete test of these questions, or no consent to run code.
    """
    from sorsa.evaluation.regrading import run_regrade

    run_regrade(config, show_disagreements)


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
        output: JSONL to write: each row in order with `correct`, `extracted`, `reason` and the `verdicts` of all rules.
        rule: The grading rule behind `correct`: `ours` or `authors`.
        allow_code_execution: Consent to run the code in the rows (humaneval and humaneval+ only).
        allow_unsandboxed: Consent to run it with resource limits alone where no sandbox works.
        test_file: The problems with their tests (humaneval+; for humaneval in place of the package's).

    Raises:
        UsageError: Unknown dataset or rule, a bad row (file and line are named), no consent, or no sandbox.
    """
    from sorsa.evaluation.grading import grade_rows

    grade_rows(Path(source), dataset, Path(output), rule, allow_code_execution, allow_unsandboxed, test_file)
