"""lm-eval's tasks by name, and task files read as data: finding them, and keeping what they say from running.

lm-eval itself takes a task file for code: `!function` imports Python, templates may reach any object, and a metric that
it does not know is fetched from the hub.
"""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from sorsa.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from sorsa.config import RunConfig

PACKAGE = "lm-eval>=0.4.13,<0.5"  # 0.4.13 was tried; TaskManager.load is not in older ones
_METRICS = ("acc", "acc_norm", "acc_bytes")  # of lm-eval's own, for multiple choice


def require_package() -> None:
    """Raise UsageError unless lm-eval is installed."""
    if importlib.util.find_spec("lm_eval") is None:
        raise UsageError(f"the package lm-eval is not installed in {sys.executable}; pip install '{PACKAGE}'")


def task_manager(config: RunConfig, names: list[str]) -> tuple[Any, list[Any]]:
    """Return lm-eval's task manager and what it shall load: names, or the content of the task file.

    Args:
        config: test_file, allow_code_execution and cache_path are read.
        names: Of the tasks.

    Raises:
        UsageError: A name is unknown, or the task file is bad or runs code.
    """
    from lm_eval.tasks import TaskManager

    own = _read_task(config, names) if config.test_file else {}
    manager = TaskManager(include_defaults=any(name not in own for name in names))  # thousands of files
    for name in names:
        if name not in own and name not in manager.all_tasks:
            close = did_you_mean(name, manager.all_tasks).split(" Known:")[0]  # some 15000
            raise UsageError(f"lm-eval has no task {name!r}.{close} List them with: lm_eval ls tasks")
    return manager, [own.get(name, name) for name in names]


def _read_task(config: RunConfig, names: list[str]) -> dict[str, Any]:
    """Return {name: content} of a task file; {name: path}, for lm-eval to read, where it may run code."""
    path = Path(config.test_file)
    if path.suffix.lower() not in (".yaml", ".yml"):
        raise UsageError(
            f"test_file = {str(path)!r}: lm-eval reads a task file: --test-file TASK.yaml, or --test-file '' for its "
            f"own tasks (without the flag, test_file of configs/{config.name}.yaml is taken)"
        )
    try:
        task = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.constructor.ConstructorError as error:
        if "!function" not in str(error.problem):
            raise UsageError(f"{path}: not a task file: {error.problem}") from error
        if not config.allow_code_execution:
            raise UsageError(
                f"{path} runs Python code (!function): write it with templates, or add --allow-code-execution to agree"
            ) from error
        return dict.fromkeys(names[:1], str(path))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not a task file: {str(error).splitlines()[0]}") from error
    if not isinstance(task, dict) or not isinstance(task.get("task"), str):
        raise UsageError(f"{path}: not a task file of lm-eval: it needs a line `task: NAME`")
    if task["task"] not in names:
        raise UsageError(f"{path} holds the task {task['task']!r}: name it with --test-dataset lm-eval:{task['task']}")
    _check_data_only(path, task)
    options = dict(task.get("dataset_kwargs") or {})
    if "data_files" in options:
        options["data_files"] = _beside(path.parent, options["data_files"])
    if config.cache_path:
        options["cache_dir"] = config.cache_path
    return {task["task"]: task | {"dataset_kwargs": options}}


def _check_data_only(path: Path, task: dict[str, Any]) -> None:
    """Refuse what is read from elsewhere or may run code."""
    for key in ("include", "class", "group"):
        if key in task:
            raise UsageError(f"{path}: `{key}` is not read here; write the whole task into the file")
    for key, kind in (("metric_list", list), ("dataset_kwargs", dict)):
        if not isinstance(task.get(key) or kind(), kind):
            what = "a list" if kind is list else "a mapping"
            raise UsageError(f"{path}: `{key}` must be {what}, got {type(task[key]).__name__}")
    for metric in task.get("metric_list") or []:
        name = metric.get("metric") if isinstance(metric, dict) else metric
        if name not in _METRICS or (isinstance(metric, dict) and metric.get("hf_evaluate")):
            raise UsageError(f"{path}: metric {name!r} is not one of {', '.join(_METRICS)}")


def _beside(folder: Path, files: Any) -> Any:
    """Return data files that lie beside the task file with their whole path; other ones as they are."""
    if isinstance(files, dict):
        return {key: _beside(folder, value) for key, value in files.items()}
    if isinstance(files, list):
        return [_beside(folder, value) for value in files]
    found = folder / str(files)
    return str(found.resolve()) if found.is_file() else files


@contextlib.contextmanager
def sandboxed_templates() -> Iterator[None]:
    """Make lm-eval render templates in Jinja's sandbox, where they reach no attribute that leads to Python."""
    from jinja2 import BaseLoader, StrictUndefined
    from jinja2.sandbox import SandboxedEnvironment
    from lm_eval import utils

    before = utils.env
    utils.env = SandboxedEnvironment(loader=BaseLoader(), undefined=StrictUndefined, keep_trailing_newline=True)
    utils.env.filters.update(before.filters)
    try:
        yield
    finally:
        utils.env = before
