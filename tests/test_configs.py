"""Every YAML in configs/ is a valid run, has the paper's values, and its header says what STYLE asks of a lab note."""

from __future__ import annotations

import functools
import itertools
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from torch import nn

from sorsa import evaluation, paper
from sorsa.config import RunConfig
from sorsa.config_files import CHECKOUT, load_config
from sorsa.config_values import FIELDS, parse_split
from sorsa.methods import METHODS, find_method, lacks
from sorsa.planning.architectures import build_skeleton
from sorsa.training.adapter import check_adapter

CONFIGS = sorted((CHECKOUT / "configs").glob("*.yaml"))
PARENTS = sorted((CHECKOUT / "configs" / "parents").glob("*.yaml"))
QUOTED = [row for row in paper.scores() if row.quoted]
SHOWN = {"GSM-8K": "gsm-8k", "MATH": "math", "HumanEval": "humaneval"}
# What identifies a run is said in its YAML even where it is the default, so that a new default changes no run.
SAID_ANYWAY = {"peft", "rank", "lr", "gamma", "regularizer_form", "regularizer_scaling"}
SAID_ANYWAY |= {"init_rank", "t_init", "t_final", "beta1", "beta2"}

every_config = pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
every_file = pytest.mark.parametrize("path", CONFIGS + PARENTS, ids=lambda path: path.stem)


def chain(path: Path) -> list[dict[str, Any]]:
    """Return what a YAML says itself, then what its parent says, and so on."""
    settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    parent = settings.pop("parent", None)
    return [settings, *(chain(path.parent / f"{parent}.yaml") if parent else [])]


def header(path: Path) -> str:
    """Return the comment that a YAML opens with, on one line."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return " ".join(line.lstrip("# ") for line in itertools.takewhile(lambda line: line.startswith("#"), lines))


def same(left: Any, right: Any) -> bool:
    """Return whether two settings are equal; YAML's `1` and the config's `1.0` are, lists in any order too."""
    return sorted(left) == sorted(right) if isinstance(left, list) and isinstance(right, list) else left == right


@every_config
@pytest.mark.parametrize("mode", ["train", "merge", "test", "export", "plan"])
def test_validates(path: Path, mode: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)  # no run folder, and the shipped files are found from anywhere
    config = load_config(path.stem, mode, {"test_dataset": "gsm-8k"})
    for name, value in chain(path)[0].items():
        found = getattr(config, name)
        assert same(found, value) or str(found).endswith(str(value)), name


@functools.cache
def skeleton(model: str) -> nn.Module:
    """Return a model without weights, built once."""
    return build_skeleton(RunConfig(model=model, local=True))


@every_config
def test_the_method_fits_the_model(path: Path) -> None:
    """Ranks, module names, and AdaLoRA's schedule against the steps."""
    config = load_config(path.stem, "train", {})
    check_adapter(skeleton(config.model), config)
    method = find_method(config.peft)
    if method.peft_config:
        steps = config.max_steps or parse_split(config.split)[1] // (config.batch_size * config.accum_steps)
        method.peft_config(config, steps)


@every_file
def test_holds_only_what_differs(path: Path) -> None:
    own, *parents = chain(path)
    inherited: dict[str, Any] = {}
    for settings in reversed(parents):
        inherited |= settings
    repeated = [name for name in own if name in inherited and same(own[name], inherited[name])]
    assert not repeated, f"{path.name}: already in its parents: {repeated}"
    if path.stem == "paper":
        return  # the paper's common set-up is spelled out, although our defaults follow it
    defaults = {name: field.default for name, field in FIELDS.items() if name not in inherited}
    repeated = [name for name in own.keys() - SAID_ANYWAY if name in defaults and same(own[name], defaults[name])]
    assert not repeated, f"{path.name}: already the default: {repeated}"


@every_config
def test_names_only_settings_that_its_method_has(path: Path) -> None:
    peft = load_config(path.stem, "plan", {}).peft
    foreign = [name for settings in chain(path) for name in settings if lacks(peft, name)]
    assert not foreign


@every_config
def test_says_which_method_it_is_by_name(path: Path) -> None:
    config = load_config(path.stem, "plan", {})
    rank = f"_r{config.rank}" if not lacks(config.peft, "rank") else ""
    name = path.stem.removesuffix(paper.CODE_SUFFIX)
    model, _, rest = name.partition("_")
    if model == "analysis":
        assert rest.removesuffix("_noreg") == config.peft
        return
    variant = "_noreg" if config.peft == "sorsa" and not config.gamma else ""
    variant = "_squared" if not variant and config.regularizer_form == "squared" else variant
    assert rest == config.peft + rank + variant
    assert path.stem.endswith(paper.CODE_SUFFIX) == (config.train_dataset == "code")
    own_model = {"llama2": "Llama-2-7b", "rwkv6": "v6-Finch-7B", "mistral": "Mistral-7B-v0.1", "gemma": "gemma-7b"}
    own_model |= {"smollm2": "SmolLM2-135M", "demorwkv6": "sorsa/demo/model_rwkv6"}
    own_model |= dict.fromkeys(("demo", "ablation"), "sorsa/demo/model")
    assert own_model[model] in config.model
    assert bool(config.rwkv) == ("rwkv6" in model)


@every_config
def test_header_has_commands_hardware_and_scores(path: Path) -> None:
    text = header(path)
    commands = re.findall(rf"python run\.py --name {path.stem} --(train|merge|test|analyze)\b", text)
    assert commands == (["train", "analyze"] if path.stem.startswith("analysis") else ["train", "merge", "test"])
    assert len(re.findall(r"run\.py", text)) == len(commands), "another run's command"
    assert "Hardware: " in text and "The paper: " in text
    if path.stem.startswith(("demo", "ablation")):
        assert re.search(r"Ours: .*\((sorsa/demo/README\.md|results/(demo|ablation))\)", text)
    else:
        assert "Ours: not yet run." in text  # until a record exists


@every_config
def test_header_has_the_papers_score(path: Path) -> None:
    text = header(path)
    found = {SHOWN[name]: float(number) for name, number in re.findall(r"(GSM-8K|MATH|HumanEval) (\d+\.\d\d)", text)}
    row = paper.find_score(path.stem)
    if row is None:
        assert not found and "not in the paper" in text
        return
    benchmarks = ["humaneval"] if path.stem.endswith(paper.CODE_SUFFIX) else ["gsm-8k", "math"]
    assert found == {name: row.accuracy[name] for name in benchmarks}
    assert len(re.findall(r"\d†", text)) == (len(found) if row.quoted else 0)
    assert f"; {row.million}M trainable parameters." in text
    assert ("quoted" in text) == row.quoted


def check_training(config: RunConfig, settings: dict[str, Any]) -> None:
    """Compare a config with one column of the paper's hyperparameters."""
    ours = {name: getattr(config, name) for name in settings}
    ours["batch_size"] = config.batch_size * config.accum_steps  # the paper's is the global batch
    if settings["grad_clip"] is False:
        ours["grad_clip"] = config.grad_clip != 0
    different = {name: (value, ours[name]) for name, value in settings.items() if not same(value, ours[name])}
    assert not different, "setting: (the paper's, ours)"
    assert (config.scheduler, config.split) == ("cosine", "[:100000]")  # appendix A, in words


@pytest.mark.parametrize("column", paper.training(), ids=lambda column: f"table{column.table}-{column.run}")
def test_hyperparameters_of_tables_2_3_and_5(column: paper.Column) -> None:
    config = load_config(column.run, "train", {})
    assert config.peft == column.method and config.train_dataset == "metamath"
    check_training(config, column.settings)
    assert config.target_modules == (["q_proj", "v_proj"] if column.table == 2 else "all-linear")
    if column.table != 2:
        code = load_config(column.run + paper.CODE_SUFFIX, "train", {})
        assert code.train_dataset == "code"
        check_training(code, column.settings)


@pytest.mark.parametrize("row", QUOTED, ids=lambda row: row.run)
@pytest.mark.parametrize("suffix", ["", paper.CODE_SUFFIX], ids=["math", "code"])
def test_quoted_rows_are_set_up_as_in_the_pissa_paper(row: paper.Score, suffix: str) -> None:
    config = load_config(row.run + suffix, "train", {})
    ours = next(column for column in paper.training() if column.model == row.model and column.method == "sorsa")
    common = {name: ours.settings[name] for name in ("mix_precision", "epochs", "batch_size", "length", "wd", "warmup")}
    check_training(config, common | {"lr": 2e-5, "grad_clip": 1.0})
    assert (config.peft, config.alpha, config.dropout) == (row.method, None, 0.0)  # no alpha: alpha = rank
    assert row.method == "full" or config.rank == load_config(ours.run, "train", {}).rank


@pytest.mark.parametrize("column", paper.evaluation(), ids=lambda column: f"table{column.table}-{column.run}")
def test_hyperparameters_of_tables_4_and_6(column: paper.Column) -> None:
    for run in (column.run, column.run + paper.CODE_SUFFIX):
        for benchmark, tokens in column.settings["max_new_tokens"].items():
            config = load_config(run, "test", {"test_dataset": benchmark})
            assert config.test_precision == column.settings["test_precision"]
            assert (config.max_new_tokens or evaluation.find_benchmark(benchmark).MAX_NEW_TOKENS) == tokens


@every_config
def test_optimizer_steps(path: Path) -> None:
    config = load_config(path.stem, "train", {})
    rows = parse_split(config.split)[1] or 2400  # the demo's training set
    steps = config.max_steps or rows // (config.batch_size * config.accum_steps)
    expected = {"demo": 180, "ablation": 180, "demorwkv6": 180, "smollm2": 250}
    assert steps == expected.get(path.stem.split("_")[0], 781)
    if config.peft == "adalora":
        assert config.t_init + config.t_final < steps


@pytest.mark.parametrize("model", ["demo", "smollm2"])
@pytest.mark.parametrize("peft", METHODS)
def test_small_runs_exist_for_every_method(model: str, peft: str) -> None:
    assert [path.stem for path in CONFIGS if re.fullmatch(rf"{model}_{peft}(_r\d+)?", path.stem)]


@pytest.mark.parametrize("path", [path for path in CONFIGS if path.stem.startswith("demo")], ids=lambda path: path.stem)
def test_the_demo_can_be_compared(path: Path) -> None:
    config = load_config(path.stem, "train", {})
    assert len(config.lr_grid) >= 3 and config.lr_grid == sorted(config.lr_grid)
    assert config.lr_grid[0] <= config.lr <= config.lr_grid[-1]
    assert Path(config.valid_file).name == "valid.jsonl" and Path(config.test_file).name == "test.jsonl"


def test_the_demos_runs_can_be_compared_with_each_other() -> None:
    configs = [load_config(path.stem, "train", {}) for path in CONFIGS if path.stem.startswith("demo_")]
    assert {config.model for config in configs} == {configs[0].model}  # --compare configs/demo_*.yaml
    kinds = {"full": "weights", "partial": "weights", "osora": "vectors", "vera": "vectors"}
    # AdaLoRA's best one lay at the end of the others' grid: its grid is theirs and one more
    grids = {(kinds.get(config.peft, "matrices"), tuple(config.lr_grid[:5])) for config in configs}
    assert len(grids) == 3, "all methods of a kind choose from the same learning rates"
    assert {config.peft for config in configs if len(config.lr_grid) > 5} == {"adalora"}


@every_file
def test_lines_are_of_the_codes_length(path: Path) -> None:
    assert max(map(len, path.read_text(encoding="utf-8").splitlines())) <= 120
