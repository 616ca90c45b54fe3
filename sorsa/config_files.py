"""From `--name X` and flags to a checked `RunConfig`: finding configs/X.yaml, its parents, and what flags override.

Later layers win: defaults, the parents of configs/X.yaml, configs/X.yaml, then flags. After training, the run folder's
own config.yaml decides what the adapter was trained with (`TRAINED_WITH`), whatever the YAML says by then.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from sorsa.config import RunConfig
from sorsa.config_values import DATA_SUFFIXES, FIELDS, check_name, check_together, read_value
from sorsa.errors import UsageError, did_you_mean
from sorsa.methods import METHODS, lacks
from sorsa.run_folder import RunFolder

CHECKOUT = Path(__file__).resolve().parent.parent
TRAINED_WITH = ("model", "revision", "tokenizer", "rwkv", "peft", "rank", "init_rank", "alpha", "dropout")
TRAINED_WITH += ("target_modules", "exclude_modules", "rank_pattern", "decomposition", "osora_train")
# never carried to a later command
ASKED_EACH_TIME = ("overwrite", "allow_code_execution", "allow_unsandboxed", "base", "unmerged", "limit", "run_path")
PATHS = ("model", "tokenizer", "train_dataset", "test_file", "valid_file", "forgetting_file")

Layer = dict[str, tuple[Any, str]]  # setting -> (raw value, where it came from)


class _Loader(yaml.SafeLoader):
    """YAML's safe loader, except that a key written twice is an error instead of silently the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        """Build a dict from a mapping node, refusing repeated keys."""
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"{key!r} is written twice", node.start_mark)
        return super().construct_mapping(node, deep)


def load_config(name: str, mode: str, flags: Mapping[str, Any], config_dir: str | None = None) -> RunConfig:
    """Return the checked settings of run `name`.

    Args:
        name: The run; configs/NAME.yaml is read when it exists.
        mode: `train`, `merge`, `test`, `export` or `plan`: decides which settings must be there.
        flags: The flags given, keyed by field name; values as typed (text), true/false or lists of text.
        config_dir: Where the YAML files are; default `configs` in the working directory, then in the checkout.

    Raises:
        UsageError: Everything that is wrong, in one message; or `name` is unknown and the flags do not make a run.
    """
    problems = check_name(name)
    if problems:
        raise UsageError(problems[0])
    yaml_path = find_yaml(name, config_dir)
    layer = _read_layers(yaml_path) if yaml_path else {}
    run_path = flags.get("run_path") or layer.get("run_path", (RunConfig.run_path,))[0]
    before = RunFolder(str(run_path), name).config
    layer |= _trained_with(before, mode, whole=yaml_path is None)
    layer |= {key: (value, "flag") for key, value in flags.items()}
    if yaml_path is None:
        _require_a_run(name, mode, layer, config_dir)
    foreign = _leave_out_foreign(layer, str(before))
    return _resolve(name, mode, layer, foreign)


def _leave_out_foreign(layer: Layer, run_config: str) -> list[str]:
    """Take out settings that the method does not have, and return those that are a mistake as problems.

    No mistake: settings of a YAML whose method was overruled (by `--peft`, or by what the run was trained with).
    """
    peft, decided_by = layer.get("peft", (RunConfig.peft, "default"))
    if not isinstance(peft, str) or peft not in METHODS:
        return []  # the checks of the settings name what is wrong with it
    problems = []
    for key in [key for key in layer if lacks(peft, key)]:
        _, source = layer.pop(key)
        if source == "flag" or (source != run_config and decided_by not in ("flag", run_config)):
            shown = f"--{key.replace('_', '-')}" if source == "flag" else f"{key} ({source})"
            owners = [method for method in METHODS if not lacks(method, key)]
            problems.append(f"{shown}: the method {peft!r} has no such setting, only {', '.join(owners)}; leave it out")
    return problems


def find_yaml(name: str, config_dir: str | None = None) -> Path | None:
    """Return the path of configs/NAME.yaml, or None.

    Raises:
        UsageError: `config_dir` is given and is not a directory.
    """
    return next((path for folder in _folders(config_dir) if (path := folder / f"{name}.yaml").is_file()), None)


def known_names(config_dir: str | None = None) -> list[str]:
    """Return the names of all configs that `--name` finds, sorted."""
    return sorted({path.stem for folder in _folders(config_dir) for path in folder.glob("*.yaml")})


def _folders(config_dir: str | None) -> list[Path]:
    """Return the folders that hold configs, the first to be searched first."""
    if config_dir is None:
        return [Path("configs"), CHECKOUT / "configs"]
    if not Path(config_dir).is_dir():
        raise UsageError(f"--config-dir {config_dir!r}: no such directory")
    return [Path(config_dir)]


def _read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML file.

    Raises:
        UsageError: It is unreadable, not YAML, or not a mapping.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        line = f" line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UsageError(f"{path}{line}: not valid YAML: {error.problem}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not valid YAML: {str(error).splitlines()[0]}") from None
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise UsageError(f"{path}: must hold `setting: value` lines, not {type(content).__name__}")
    return content


def _read_layers(path: Path, children: tuple[Path, ...] = ()) -> Layer:
    """Return the settings of a YAML and of the YAMLs its `parent:` names, relative to the folder it lies in."""
    content = _read_yaml(path)
    parent = content.pop("parent", None)
    layer = {key: (value, str(path)) for key, value in content.items()}
    if parent is None:
        return layer
    parent_path = path.parent / f"{parent}.yaml"
    if parent_path.resolve() in [known.resolve() for known in (path, *children)]:
        raise UsageError(f"{path}: parent = {parent!r} leads back to itself")
    if not parent_path.is_file():
        there = [file.stem for file in path.parent.glob("*.yaml")]
        raise UsageError(f"{path}: parent = {parent!r}: no {parent_path}.{did_you_mean(str(parent), there)}")
    inherited = _read_layers(parent_path, (path, *children))
    inherited.pop("name", None)
    return inherited | layer


def _trained_with(path: Path, mode: str, whole: bool) -> Layer:
    """Return what an existing run folder's config.yaml decides: how it was trained, or everything if `whole`."""
    if mode in ("train", "plan") or not path.is_file():
        return {}
    content = _read_yaml(path)
    keys = FIELDS.keys() - ASKED_EACH_TIME if whole else TRAINED_WITH
    return {key: (content[key], str(path)) for key in keys if key in content}


def _require_a_run(name: str, mode: str, layer: Layer, config_dir: str | None) -> None:
    """Raise UsageError unless flags (or a run folder) give what a run without a YAML needs."""
    needed = ("model", "train_dataset") if mode in ("train", "plan") else ("model",)
    missing = ["--" + key.replace("_", "-") for key in needed if key not in layer]
    if not missing:
        return
    folder = config_dir or "configs"
    raise UsageError(
        f"no configuration {name!r}: {folder}/{name}.yaml does not exist.{did_you_mean(name, known_names(config_dir))} "
        f"To run it from flags alone, add {' and '.join(missing)}."
    )


def _resolve(name: str, mode: str, layer: Layer, problems: list[str]) -> RunConfig:
    """Turn raw values into a RunConfig, or raise one UsageError with every problem, those found before included."""
    values: dict[str, Any] = {}
    for key, (raw, source) in layer.items():
        if key not in FIELDS:
            problems.append(f"{key} ({source}): unknown setting.{did_you_mean(key, FIELDS)}")
            continue
        value, wrong = read_value(key, raw, source)
        problems += wrong
        if wrong:
            continue
        values[key] = _locate(value) if key in PATHS and source != "flag" else value
    if values.setdefault("name", name) != name:
        problems.append(f"name = {values['name']!r} ({layer['name'][1]}): differs from --name {name}; leave it out")
    # a setting that is wrong keeps its default here, so that the remaining checks can still report theirs
    config = RunConfig(**values)
    broken = {problem.split(" ", 1)[0].lstrip("-").replace("-", "_") for problem in problems}
    problems += [text for text in check_together(config, mode) if text.split(" ", 1)[0] not in broken]
    if problems:
        raise UsageError(_one_message(name, problems))
    return config


def _one_message(name: str, problems: list[str]) -> str:
    """Return one line for one problem, a list for several."""
    if len(problems) == 1:
        return f"configuration {name!r}: {problems[0]}"
    return "\n  - ".join([f"configuration {name!r} has {len(problems)} problems:", *problems])


def _locate(value: Any) -> Any:
    """Return a path of a YAML, in the checkout if it starts with `sorsa/` and the working directory lacks it."""
    if isinstance(value, str) and value.startswith("sorsa/") and not Path(value).exists():
        shipped = CHECKOUT / value
        if shipped.exists() or shipped.suffix in DATA_SUFFIXES:
            return str(shipped)
    return value
