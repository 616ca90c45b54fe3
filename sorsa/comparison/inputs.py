"""From the words after `--compare` to the methods to run; everything that is wrong with them is found here."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

import yaml

from sorsa.comparison.runs import Comparison, Method, Run
from sorsa.config import RunConfig
from sorsa.config_files import load_config
from sorsa.config_values import check_benchmark, check_name
from sorsa.errors import UsageError
from sorsa.evaluation import BENCHMARKS, find_graded
from sorsa.evaluation.benchmark import Question

SEEDS = 5  # enough for a standard deviation that means something, few enough for an evening
NO_BENCHMARK = f"test_dataset is missing: write one of {', '.join(BENCHMARKS)} into the YAML"
FLAGS = ("compare", "seeds", "run_path", "name")
# What has to be the same for scores to be comparable: the model, the data, the tokens seen, the test.
SAME = ("model", "revision", "tokenizer", "train_dataset", "split", "length", "truncation")
SAME += ("epochs", "max_steps", "seed")
SAME += ("test_dataset", "test_file", "limit", "max_new_tokens", "test_precision", "grading_rule")
SAME += ("engine", "decoding", "stop_at_answer", "forgetting_file")
# Settings of a run that may change before it is continued: they say where and how fast, not what.
ELSEWHERE = frozenset({"run_path", "cache_path", "svd_cache_path", "local", "workers", "save_steps"})
ELSEWHERE |= {"valid_batch_size", "tensor_parallel", "allow_code_execution", "allow_unsandboxed"}


def read_comparison(flags: dict[str, Any]) -> Comparison:
    """Return the comparison that the flags describe.

    Args:
        flags: `compare`, and optionally `seeds`, `run_path`, `name`.

    Raises:
        UsageError: Anything is wrong with the flags, the files, the methods, the questions, or earlier runs.
    """
    foreign = sorted(set(flags) - set(FLAGS))
    if foreign:
        raise UsageError(
            f"--{foreign[0].replace('_', '-')} does not go with --compare: the settings are those of the YAML files; "
            "only --seeds, --processes, --run-path and --name go with it"
        )
    seeds = flags.get("seeds", SEEDS)
    if seeds < 1:
        raise UsageError(f"--seeds {seeds}: must be at least 1")
    paths = [Path(word) for word in flags["compare"]]
    configs = _read_configs(paths)
    name = flags.get("name") or _common_name([config.name for config in configs])
    problems = check_name(name)
    if problems:
        raise UsageError(problems[0])
    _check_comparable(configs)
    _check_questions(configs)
    _check_adapters(configs)
    home = Path(flags.get("run_path", configs[0].run_path)) / f"comparison-{name}"
    numbers = tuple(range(configs[0].seed, configs[0].seed + seeds))
    methods = tuple(Method(config, path, numbers, home) for config, path in zip(configs, paths, strict=True))
    for method in methods:
        for run in method.possible_runs():
            _check_unchanged(run)
    return Comparison(name, home, methods)


def _read_configs(paths: Sequence[Path]) -> list[RunConfig]:
    """Return the settings in the YAML files; raises UsageError for a file that is no run's, or a name given twice."""
    for path in paths:
        if not path.is_file():
            raise UsageError(f"--compare {path}: no such file")
        if path.suffix != ".yaml":
            raise UsageError(f"--compare {path}: not a configuration; their files end in .yaml")
    name, times = Counter(path.stem for path in paths).most_common(1)[0]
    if times > 1:
        both = ", ".join(str(path) for path in paths if path.stem == name)
        raise UsageError(f"--compare: {times} configurations are called {name!r} ({both}); give each name once")
    return [load_config(path.stem, "train", {}, str(path.parent)) for path in paths]


def _common_name(names: Sequence[str]) -> str:
    """Return the words with which all names begin: `demo` for demo_sorsa_r16 and demo_full."""
    columns = zip(*(name.split("_") for name in names), strict=False)
    return "_".join(column[0] for column in takewhile(lambda column: len(set(column)) == 1, columns)) or "methods"


def _check_comparable(configs: Sequence[RunConfig]) -> None:
    """Refuse configurations whose scores could not be compared, or that lack what a comparison needs."""
    for config in configs:
        problems = check_benchmark(config.test_dataset) if config.test_dataset else [NO_BENCHMARK]
        if config.lr_grid and not config.valid_file:
            problems.append(
                "valid_file is missing: lr_grid needs questions to choose the learning rate on, other than the test's"
            )
        if problems:
            raise UsageError(f"configuration {config.name!r}: {'; '.join(problems)}")
    for setting in SAME:
        _check_same(configs, setting, [getattr(config, setting) for config in configs])
    _check_same(configs, "batch_size x accum_steps", [config.batch_size * config.accum_steps for config in configs])
    with_grid = [config for config in configs if config.lr_grid]
    _check_same(with_grid, "valid_file", [config.valid_file for config in with_grid])


def _check_same(configs: Sequence[RunConfig], setting: str, values: Sequence[Any]) -> None:
    """Refuse two values of one setting, naming who has which."""
    for config, value in zip(configs, values, strict=True):
        if value != values[0]:
            raise UsageError(
                f"--compare: {setting} differs: {values[0]!r} in {configs[0].name}, {value!r} in {config.name}; "
                "scores can only be compared on the same model and data"
            )


def _check_questions(configs: Sequence[RunConfig]) -> None:
    """Read the questions now rather than after the first training, and refuse to choose on those of the test.

    Args:
        configs: Comparable ones, so that the questions are the same for all.
    """
    from sorsa.evaluation.results import require_consent

    benchmark = find_graded(configs[0].test_dataset, "--compare")
    for config in configs:
        require_consent(benchmark.RUNS_CODE, config.test_dataset, config.allow_code_execution)
    test: list[Question] = benchmark.load(configs[0])
    chooser = next((config for config in configs if config.lr_grid), None)
    if chooser is None:
        return
    valid = benchmark.load(dataclasses.replace(chooser, test_file=chooser.valid_file))
    shared = {question.prompt for question in test} & {question.prompt for question in valid}
    if shared:
        raise UsageError(
            f"valid_file = {chooser.valid_file!r}: {len(shared)} of its questions are also the test's; the learning "
            "rate must not be chosen on them"
        )


def _check_adapters(configs: Sequence[RunConfig]) -> None:
    """Refuse a method that does not fit the model: the tenth method's mistake would show after the nine others.

    Args:
        configs: Comparable ones, so that the model is the same for all.
    """
    from sorsa.methods import build_peft_config, find_method
    from sorsa.models import load_skeleton
    from sorsa.training.adapter import check_adapter

    model = load_skeleton(configs[0])
    for config in configs:
        try:
            check_adapter(model, config)
            if config.max_steps and find_method(config.peft).peft_config:
                build_peft_config(config, config.max_steps)  # AdaLoRA's schedule against the steps
        except UsageError as error:
            raise UsageError(f"configuration {config.name!r}: {error}") from error


def _check_unchanged(run: Run) -> None:
    """Refuse to continue a run whose settings were others when it began."""
    if not run.yaml.is_file() or not run.folder.path.exists():
        return
    try:
        before: dict[str, Any] = yaml.safe_load(run.yaml.read_text(encoding="utf-8")) or {}
    except yaml.YAMLError as error:
        raise UsageError(f"{run.yaml}: not YAML; delete {run.home} to start anew") from error
    now = run.config.settings()
    changed = [
        f"{name} was {before[name]!r}, now {value!r}"
        for name, value in now.items()
        if name not in ELSEWHERE and name in before and before[name] != value
    ]
    if changed:
        raise UsageError(
            f"{run.home} holds the run {run.name!r} with other settings ({'; '.join(changed)}); give the new "
            "comparison another --name, or delete that folder"
        )
