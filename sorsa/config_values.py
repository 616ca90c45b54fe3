"""Checking settings one by one and together. Every function returns problems as sentences; none stops at the first."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from sorsa.config import RunConfig
from sorsa.errors import did_you_mean

SPLIT = re.compile(r"\[(\d*):(\d*)\]")
DATA_SUFFIXES = (".jsonl", ".json", ".parquet")
FIELDS = {field.name: field for field in dataclasses.fields(RunConfig)}


def _whole_number(value: Any, from_flag: bool) -> int:
    """Read an int; text only from a flag, so that a quoted number in a YAML is reported."""
    if isinstance(value, str) and from_flag:
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise ValueError


def _number(value: Any, from_flag: bool) -> float:
    """Read a finite float. YAML 1.1 reads `3e-5` as text, so text that is a number is accepted."""
    if isinstance(value, bool) or not isinstance(value, int | float | str) or not math.isfinite(float(value)):
        raise ValueError
    return float(value)


def _text(value: Any, from_flag: bool) -> str:
    """Read a string."""
    if not isinstance(value, str):
        raise ValueError
    return value


def _yes_no(value: Any, from_flag: bool) -> bool:
    """Read a bool."""
    if not isinstance(value, bool):
        raise ValueError
    return value


def _words(value: Any, from_flag: bool) -> list[str]:
    """Read a non-empty list of strings."""
    if not isinstance(value, list) or not value or not all(isinstance(item, str) and item for item in value):
        raise ValueError
    return value


def _numbers(value: Any, from_flag: bool) -> list[float]:
    """Read a non-empty list of finite floats."""
    if not isinstance(value, list) or not value:
        raise ValueError
    return [_number(item, from_flag) for item in value]


def _text_or_words(value: Any, from_flag: bool) -> str | list[str]:
    """Read `target_modules`: a flag always arrives as a list, whose only word may be `all-linear`."""
    if from_flag and value == ["all-linear"]:
        return "all-linear"
    return value if isinstance(value, str) else _words(value, from_flag)


def _ranks(value: Any, from_flag: bool) -> dict[str, int]:
    """Read `rank_pattern`: a mapping in YAML, `NAME=RANK` words from the flag."""
    pairs = dict(word.split("=", 1) for word in value) if from_flag else value
    if not isinstance(pairs, dict) or not all(isinstance(name, str) for name in pairs):
        raise ValueError
    # sorted, as PEFT writes them: the first pattern that matches counts, before and after saving
    ranks = {name: _whole_number(rank, from_flag) for name, rank in sorted(pairs.items())}
    if any(rank < 1 for rank in ranks.values()):
        raise ValueError
    return ranks


READERS: dict[str, tuple[Callable[[Any, bool], Any], str]] = {
    "int": (_whole_number, "a whole number"),
    "float": (_number, "a finite number"),
    "str": (_text, "text"),
    "bool": (_yes_no, "true or false"),
    "list[str]": (_words, "a list of words"),
    "list[float]": (_numbers, "a list of finite numbers"),
    "str | list[str]": (_text_or_words, "text or a list of words"),
    "dict[str, int]": (_ranks, "pairs of a module's name and a rank of at least 1"),
}


def read_value(name: str, value: Any, source: str) -> tuple[Any, list[str]]:
    """Convert one setting to its field's type and check its range.

    Args:
        name: A field of `RunConfig`.
        value: What the YAML or the flag holds.
        source: Where it came from, `flag` or the YAML's path; named in the problems.

    Returns:
        The typed value, and the problems found (then the value is unusable).
    """
    field = FIELDS[name]
    kind = str(field.type)
    if value is None and kind.endswith(" | None"):
        return None, []
    reader, expected = READERS[kind.removesuffix(" | None")]
    where = f"{_spelling(name, source)} = {value!r}" + ("" if source == "flag" else f" ({source})")
    try:
        typed = reader(value, source == "flag")
    except (ValueError, TypeError, OverflowError):
        hint = ", in quotes" if name == "split" and isinstance(value, list) else ""
        return None, [f"{where}: must be {expected}{hint}"]
    return typed, [f"{where}: {problem}" for problem in _outside(typed, field.metadata["limits"])]


def _spelling(name: str, source: str) -> str:
    """Return the setting's name as the user wrote it: `--batch-size` or `batch_size`."""
    return "--" + name.replace("_", "-") if source == "flag" else name


def _outside(value: Any, limits: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with a typed value given its field's limits."""
    problems = []
    for item in value if isinstance(value, list) else [value]:
        if "low" in limits and item < limits["low"]:
            problems.append(f"must be at least {limits['low']}")
        if "above" in limits and item <= limits["above"]:
            problems.append(f"must be above {limits['above']}")
        if "high" in limits and item > limits["high"]:
            problems.append(f"must be at most {limits['high']}")
        if "below" in limits and item >= limits["below"]:
            problems.append(f"must be below {limits['below']}")
        if "choices" in limits and item not in limits["choices"]:
            problems.append(f"{item!r} is unknown.{did_you_mean(item, limits['choices'])}")
    return problems


def parse_split(split: str) -> tuple[int, int | None] | None:
    """Return `(start, stop)` of `[start:stop]` (stop None: to the end), or None when `split` is malformed or empty."""
    if not split:
        return 0, None
    match = SPLIT.fullmatch(split)
    if match is None:
        return None
    start, stop = int(match[1] or 0), int(match[2]) if match[2] else None
    return None if stop is not None and stop <= start else (start, stop)


def check_together(config: RunConfig, mode: str) -> list[str]:
    """Return the problems of a config whose fields are each well-typed: names, files, fields needed by the mode.

    Args:
        config: The typed settings.
        mode: `train`, `merge`, `test`, `regrade`, `export` or `plan`.
    """
    problems = _check_names(config)
    if parse_split(config.split) is None:
        problems.append(f"split = {config.split!r}: must look like [:100000] or [1000:2000], with at least one row")
    if len(set(config.mix_precision) & {"bf16", "fp16", "fp32"}) > 1:
        problems.append(
            f"mix_precision = {config.mix_precision}: give only one of bf16, fp16, fp32 (tf32 may be added)"
        )
    patterns = [*config.rank_pattern, *([config.target_modules] if isinstance(config.target_modules, str) else [])]
    problems += [f"{pattern!r}: not a regular expression ({why})" for pattern, why in _unreadable(patterns)]
    if not config.model:
        problems.append("model is missing: give a hub id or a directory (model: in the YAML, or --model)")
    if mode in ("train", "plan"):
        problems += _check_train_dataset(config)
    if mode in ("test", "regrade"):
        problems += check_benchmark(config.test_dataset)
    for name in ("test_file", "valid_file", "forgetting_file") if mode in ("train", "test", "regrade") else ():
        given = getattr(config, name)
        if given and not Path(given).is_file():
            problems.append(f"{name} = {given!r}: no such file")
    return problems


def _unreadable(patterns: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield the regular expressions that do not compile, with the reason."""
    for pattern in patterns:
        try:
            re.compile(pattern)
        except re.error as error:
            yield pattern, str(error)


def check_name(name: str) -> list[str]:
    """Return the problems of a run name, which becomes a file and a folder name."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        return [f"name = {name!r}: must be letters, digits, '.', '_' or '-', and start with a letter or digit"]
    return []


def _check_names(config: RunConfig) -> list[str]:
    """Return the problems of the run's name and of the method's."""
    from sorsa.methods import METHODS

    problems = check_name(config.name)
    if config.peft not in METHODS:
        problems.append(f"peft = {config.peft!r}: unknown method.{did_you_mean(config.peft, METHODS)}")
    return problems


def _check_train_dataset(config: RunConfig) -> list[str]:
    """Return what is wrong with the name or path of the training set."""
    from sorsa.data import DATASETS

    given = config.train_dataset
    if not given:
        return [f"train_dataset is missing: give one of {', '.join(DATASETS)}, or a {'/'.join(DATA_SUFFIXES)} file"]
    if given in DATASETS:
        return []
    path = Path(given)
    if path.suffix not in DATA_SUFFIXES:
        kind = f"{path.suffix!r} is not a format that is read" if path.exists() else "unknown data set"
        formats = f" Or a file ending in {', '.join(DATA_SUFFIXES)}."
        return [f"train_dataset = {given!r}: {kind}.{did_you_mean(given, DATASETS)}{formats}"]
    return [] if path.is_file() else [f"train_dataset = {given!r}: no such file"]


def check_benchmark(given: str | None) -> list[str]:
    """Return what is wrong with the name of a benchmark, if anything."""
    from sorsa.evaluation import BENCHMARKS

    if not given:
        return [f"test_dataset is missing: give --test-dataset with one of {', '.join(BENCHMARKS)}"]
    name, _, tasks = given.partition(":")
    if name == "lm-eval":
        known = all(re.fullmatch(r"[\w.+-]+", task) for task in tasks.split(","))
        return [] if known else [f"test_dataset = {given!r}: must name tasks, as in lm-eval:piqa,boolq"]
    return [] if given in BENCHMARKS else [f"test_dataset = {given!r}: unknown.{did_you_mean(given, BENCHMARKS)}"]
