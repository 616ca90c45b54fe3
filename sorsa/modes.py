"""The modes of the command line: their flags, and what those do that need no configuration of a run.

`sorsa.cli` reads this table; a mode with a run's configuration is one line in `sorsa.cli.run`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sorsa.config import RunConfig
from sorsa.errors import UsageError

MODES = {"train": "--train", "merge": "--merge", "test": "--test", "export": "--export-lora", "grade": "--grade"}
MODES |= {"regrade": "--regrade", "plan": "--plan", "compare": "--compare", "compare_runs": "--compare-runs"}
MODES |= {"convert": "--convert", "analyze": "--analyze", "theory": "--theory", "report": "--report"}
# flag that is no setting -> the modes it is for
NOT_SETTINGS = {"output": ("grade", "compare_runs", "theory", "report"), "json": ("plan", "compare_runs")}
NOT_SETTINGS |= {"measure": ("plan",), "seeds": ("compare",), "show_disagreements": ("regrade",)}
NOT_SETTINGS |= {"problems": ("theory",)}
NOT_SETTINGS |= {"svd_precision": ("analyze",), "processes": ("analyze", "compare")}
NOT_SETTINGS |= {"records": ("report",), "allow_mixed": ("report",)}
_GENERATION = ("engine", "decoding", "max_new_tokens", "overwrite", "test_precision", "valid_batch_size")


def add_modes(parser: argparse.ArgumentParser) -> None:
    """Give a parser the flags of all modes and of what belongs to one of them alone."""
    modes = parser.add_argument_group("modes")
    modes.add_argument("-t", "--train", action="store_true", help="train; the same command again resumes")
    modes.add_argument("-m", "--merge", action="store_true", help="merge the adapter into the base model")
    modes.add_argument("-T", "--test", action="store_true", help="answer a benchmark's questions and grade the answers")
    modes.add_argument(
        "--regrade", action="store_true", help="grade the answers of an earlier test again, without the model"
    )
    modes.add_argument(
        "--show-disagreements", action="store_true", help="--regrade: print the questions on which the rules differ"
    )
    modes.add_argument("--export-lora", dest="export", action="store_true", help="write the adapter as a plain LoRA")
    modes.add_argument("--grade", metavar="FILE", help="grade the completions of a .jsonl file, without a model")
    modes.add_argument("--plan", action="store_true", help="say what training will cost, without the model's weights")
    modes.add_argument("--measure", action="store_true", help="--plan: time a few real steps on this machine")
    modes.add_argument(
        "--compare", metavar="FILE", nargs="+", help="train, merge and test several configurations with several seeds"
    )
    modes.add_argument("--seeds", metavar="N", type=int, help="--compare: seeds per method [5]")
    modes.add_argument(
        "--analyze", action="store_true", help="how far the weights have moved, at each of a run's --snapshots"
    )
    modes.add_argument("--svd-precision", metavar="TEXT", help="--analyze: fp64 or fp32 [fp64]")
    modes.add_argument(
        "--processes",
        metavar="N",
        type=int,
        help="--analyze: matrices at a time [the CPUs]; --compare: methods at a time [1]",
    )
    modes.add_argument(
        "--compare-runs",
        metavar=("A", "B"),
        nargs=2,
        help="say whether B is better than A on the same questions: names of tested runs, base:NAME, unmerged:NAME, "
        "or several seeds as A1,A2,A3",
    )
    modes.add_argument("--json", action="store_true", help="--plan, --compare-runs: print JSON")
    modes.add_argument(
        "--report", action="store_true", help="tables, figures and a page of what all runs show beside the paper"
    )
    modes.add_argument("--records", metavar="DIR", nargs="+", help="--report: folders of committed records to read")
    modes.add_argument(
        "--allow-mixed", action="store_true", help="--report: take records of different versions together"
    )
    modes.add_argument(
        "--output",
        metavar="PATH",
        help="the file that --grade (JSONL) or --compare-runs (JSON) writes, the folder of --theory [theory] or "
        "--report [report]",
    )
    modes.add_argument(
        "--convert", metavar=("SOURCE", "TARGET"), nargs=2, help="RWKV6: a .pth file to a model directory, or back"
    )
    modes.add_argument("--theory", action="store_true", help="check the statements of the paper's section 5")
    modes.add_argument("--problems", metavar="N", type=int, help="--theory: random trainings per setting [40]")


def grade(flags: dict[str, Any]) -> None:
    """Grade a file of completions."""
    consent = ("allow_code_execution", "allow_unsandboxed")
    _only(flags, "grade", "test_dataset", "output", "grading_rule", "test_file", *consent)
    from sorsa.config_values import check_benchmark, read_value
    from sorsa.evaluation import grade_file

    source = Path(flags["grade"])
    problems = check_benchmark(flags.get("test_dataset"))
    if not source.is_file():
        problems.append(f"--grade {flags['grade']}: no such file")
    if not flags.get("output"):
        problems.append("--output is missing: name the .jsonl file to write")
    rule, wrong = read_value("grading_rule", flags.get("grading_rule", RunConfig.grading_rule), "flag")
    problems += wrong
    if problems:
        raise UsageError("; ".join(problems))
    consents = (flags.get(key, False) for key in consent)
    grade_file(source, flags["test_dataset"], Path(flags["output"]), rule, *consents, flags.get("test_file"))


def compare(flags: dict[str, Any]) -> None:
    """Train, merge and test several configurations."""
    from sorsa.comparison import compare as action

    action(flags)


def compare_runs(flags: dict[str, Any]) -> None:
    """Say whether one tested run is better than another."""
    _only(flags, "compare_runs", "test_dataset", "grading_rule", "run_path", "json", "output")
    from sorsa.config_values import check_benchmark
    from sorsa.evaluation.compare_runs import compare_runs as action

    problems = check_benchmark(flags["test_dataset"]) if "test_dataset" in flags else []
    rule = flags.get("grading_rule")  # any that the tests have, lm-eval's acc_norm too
    if problems:
        raise UsageError("; ".join(problems))
    output = Path(flags["output"]) if flags.get("output") else None
    run_path = Path(flags.get("run_path", RunConfig.run_path))
    first, second = flags["compare_runs"]
    action(first, second, run_path, flags.get("test_dataset"), rule, flags.get("json", False), output)


def convert(flags: dict[str, Any]) -> None:
    """Convert an RWKV6 checkpoint."""
    _only(flags, "convert", "overwrite")
    from sorsa.rwkv6.convert import convert as action

    source, target = flags["convert"]
    action(source, target, flags.get("overwrite", False))
    print(f"converted {source}: {target}")


def theory(flags: dict[str, Any]) -> None:
    """Check the statements of section 5 on random problems."""
    _only(flags, "theory", "output", "seed", "problems")
    from sorsa.analysis.theory import PROBLEMS, check_theory
    from sorsa.config_values import read_value

    seed, wrong = read_value("seed", flags.get("seed", RunConfig.seed), "flag")
    if wrong:
        raise UsageError("; ".join(wrong))
    check_theory(Path(flags.get("output", "theory")), seed, flags.get("problems", PROBLEMS))


def report(flags: dict[str, Any]) -> None:
    """Write the report of all runs."""
    _only(flags, "report", "run_path", "records", "output", "allow_mixed")
    from sorsa.report import report as action

    records = [Path(word) for word in flags.get("records", [])]
    # records that are named are all that is asked for: ./runs is only looked at where nothing is
    run_path = flags.get("run_path", None if records else RunConfig.run_path)
    output = Path(flags.get("output", "report"))
    action(Path(run_path) if run_path else None, records, output, flags.get("allow_mixed", False))


def _only(flags: dict[str, Any], mode: str, *allowed: str) -> None:
    """Refuse flags that a mode has no use for."""
    foreign = sorted(set(flags) - {mode, *allowed})
    if foreign:
        names = ["--" + name.replace("_", "-") for name in allowed]
        does = "does" if len(names) == 1 else "do"
        raise UsageError(
            f"--{foreign[0].replace('_', '-')} does not go with {MODES[mode]}, only {', '.join(names)} {does}"
        )


def check_regrade(flags: dict[str, Any]) -> None:
    """Refuse flags about how answers are generated: `--regrade` takes those that are there.

    Args:
        flags: The flags given, keyed by field name.

    Raises:
        UsageError: One of them is among the flags.
    """
    foreign = [name for name in _GENERATION if name in flags]
    if foreign:
        raise UsageError(
            f"--{foreign[0].replace('_', '-')} does not go with --regrade, which generates nothing: use --test"
        )


WITHOUT_CONFIG: dict[str, Callable[[dict[str, Any]], None]] = {
    "grade": grade,
    "compare": compare,
    "compare_runs": compare_runs,
    "convert": convert,
    "theory": theory,
    "report": report,
}
