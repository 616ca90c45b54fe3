"""Settings: types and ranges, YAML files and their parents, what overrides what, and one message for all problems."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from sorsa.config import RunConfig
from sorsa.config_files import CHECKOUT, load_config
from sorsa.config_values import FIELDS, parse_split, read_value
from sorsa.errors import UsageError

GOOD = {"model": "org/model", "train_dataset": "metamath"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty working directory with an empty configs/ in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").mkdir()
    return tmp_path


def write(folder: Path, text: str, name: str = "x") -> None:
    """Write configs/NAME.yaml."""
    (folder / "configs" / f"{name}.yaml").write_text(text, encoding="utf-8")


def load(text: str, folder: Path, mode: str = "train", **flags: object) -> RunConfig:
    """Load configs/x.yaml with that text on top of the two required settings."""
    write(folder, "model: org/model\ntrain_dataset: metamath\n" + text)
    return load_config("x", mode, flags, "configs")


def test_flags_override_yaml_which_overrides_defaults(folder: Path) -> None:
    config = load("rank: 16\nlr: 1.0e-3\n", folder, lr="2e-3", accum_steps="4")
    assert (config.rank, config.lr, config.accum_steps, config.batch_size) == (16, 2e-3, 4, 2)
    assert (config.name, config.model) == ("x", "org/model")


def test_defaults_are_the_papers_run(folder: Path) -> None:
    config = load("", folder)
    assert config.batch_size * config.accum_steps == 128
    assert (config.lr, config.wd, config.warmup, config.scheduler) == (3e-5, 0.0, 0.03, "cosine")
    assert (config.length, config.epochs, config.grad_clip) == (512, 1.0, 1.0)
    assert config.mix_precision == ["bf16", "tf32"]
    assert (config.regularizer_form, config.regularizer_scaling, config.gamma) == ("frobenius", "as_run", 4e-4)


def test_yaml_1_1_reads_3e_5_as_text_and_we_read_it_as_a_number(folder: Path) -> None:
    assert load("lr: 3e-5\n", folder).lr == 3e-5


def test_resolved_yaml_reads_back_equal(folder: Path) -> None:
    config = load("rank_pattern: {q_proj: 8}\ntarget_modules: [q_proj, v_proj]\nsplit: '[:10]'\n", folder)
    (folder / "again").mkdir()
    (folder / "again" / "x.yaml").write_text(config.to_yaml(), encoding="utf-8")
    assert load_config("x", "train", {}, "again") == config


def test_parents_are_read_and_overridden(folder: Path) -> None:
    write(folder, "model: org/model\nrank: 4\nlr: 0.1\n", "base")
    write(folder, "parent: base\nrank: 8\ntrain_dataset: code\n", "middle")
    write(folder, "parent: middle\nlr: 0.2\n", "x")
    config = load_config("x", "train", {})
    assert (config.model, config.rank, config.lr, config.train_dataset) == ("org/model", 8, 0.2, "code")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("rank: -3", r"rank = -3 \(configs/x.yaml\): must be at least 1"),
        ("rank: many", r"rank = 'many' \(configs/x.yaml\): must be a whole number"),
        ("rank: '16'", r"rank = '16' .*must be a whole number"),
        ("rank: 1.5", r"rank = 1.5 .*must be a whole number"),
        ("rank: true", r"rank = True .*must be a whole number"),
        ("rank:", r"rank = None .*must be a whole number"),
        ("lr: fast", r"lr = 'fast' .*must be a finite number"),
        ("lr: .nan", r"lr = nan .*must be a finite number"),
        ("lr: 0", r"lr = 0 .*must be above 0"),
        ("lr: 30", r"lr = 30 .*must be at most 10"),
        ("dropout: 1", r"dropout = 1 .*must be below 1"),
        ("gamma: -1", r"gamma = -1 .*must be at least 0"),
        ("length: 1", r"length = 1 .*must be at least 2"),
        ("seed: -1", r"seed = -1 .*must be at least 0"),
        ("overwrite: maybe", r"overwrite = 'maybe' .*must be true or false"),
        ("tokenizer: 7", r"tokenizer = 7 .*must be text"),
        ("mix_precision: bf16", r"mix_precision = 'bf16' .*must be a list of words"),
        ("mix_precision: [bf17]", r"'bf17' is unknown. Did you mean 'bf16'"),
        ("mix_precision: [bf16, fp16]", r"give only one of bf16, fp16, fp32"),
        ("truncation: samples", r"truncation = 'samples' .*Did you mean 'sample'\?"),
        ("rank_pattern: {q_proj: 0}", r"rank_pattern = .*a rank of at least 1"),
        ("split: '[100]'", r"split = '\[100\]': must look like \[:100000\]"),
        ("split: '[:0]'", r"split = '\[:0\]': must look like .* with at least one row"),
        ("split: '[5:5]'", r"split = '\[5:5\]': must look like"),
        ("split: [a]", r"split = \['a'\] .*must be text, in quotes"),
        ("rnak: 8", r"rnak \(configs/x.yaml\): unknown setting. Did you mean 'rank'\?"),
        ("peft: srosa", r"peft = 'srosa': unknown method. Did you mean 'sorsa'\? Known: adalora, dora"),
        ("name: other", r"name = 'other' \(configs/x.yaml\): differs from --name x"),
        ("train_dataset: code", r"configs/x.yaml line 1: not valid YAML: 'train_dataset' is written twice"),
        ("test_file: none.jsonl", r"test_file = 'none.jsonl': no such file"),
        ("parent: bsae", r"parent = 'bsae': no configs/bsae.yaml. Known: "),
        ("parent: x", r"parent = 'x' leads back to itself"),
    ],
)
def test_a_wrong_line_is_named_with_its_value(folder: Path, line: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load(line + "\n", folder)


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        ("metamaht", r"train_dataset = 'metamaht': unknown data set. Did you mean 'metamath'\? Known: code, metamath"),
        ("data/none.jsonl", r"train_dataset = 'data/none.jsonl': no such file"),
        ("rows.csv", r"train_dataset = 'rows.csv': '.csv' is not a format that is read"),
    ],
)
def test_training_sets_are_looked_up_before_anything_is_loaded(folder: Path, dataset: str, message: str) -> None:
    (folder / "rows.csv").write_text("query,response\n", encoding="utf-8")
    with pytest.raises(UsageError, match=message):
        load_config("new", "train", {"model": "m", "train_dataset": dataset})


def test_all_problems_come_in_one_message(folder: Path) -> None:
    with pytest.raises(UsageError) as caught:
        load("rank: -3\nlenght: 5\nsplit: x\npeft: pissas\n", folder, lr="x", epochs="-1")
    text = str(caught.value)
    assert text.startswith("configuration 'x' has 6 problems:\n")
    for part in ("rank = -3", "lenght", "split = 'x'", "peft = 'pissas'", "--lr = 'x'", "--epochs = '-1'"):
        assert text.count(part) == 1, part


def test_one_problem_is_one_line(folder: Path) -> None:
    with pytest.raises(UsageError) as caught:
        load("rank: -3\n", folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["../x", "a/b", "..", ".x", "", "a\\b", "a b"])
def test_a_name_that_would_leave_the_run_folder_is_refused(folder: Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"must be letters, digits"):
        load_config(name, "train", GOOD)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rank: [1", r"configs/x.yaml line 2: not valid YAML"),
        ("- rank", r"must hold `setting: value` lines, not list"),
        ("rank: 8\nrank: 9", r"configs/x.yaml line 1: not valid YAML: 'rank' is written twice"),
        ("a: \x00", r"configs/x.yaml: not valid YAML"),
    ],
)
def test_a_file_that_is_not_a_config(folder: Path, text: str, message: str) -> None:
    write(folder, text + "\n")
    with pytest.raises(UsageError, match=message):
        load_config("x", "train", {})


def test_an_unknown_name_lists_configs_and_the_missing_flags(folder: Path) -> None:
    write(folder, "", "llama2_r128")
    expected = (
        r"no configuration 'llama2_r12': configs/llama2_r12.yaml .*'llama2_r128'\?.*add --model and --train-dataset"
    )
    with pytest.raises(UsageError, match=expected):
        load_config("llama2_r12", "train", {})


def test_flags_alone_make_a_run(folder: Path) -> None:
    config = load_config("new", "train", GOOD | {"rank": "4"})
    assert (config.name, config.rank, config.train_dataset) == ("new", 4, "metamath")


def test_a_config_dir_that_is_missing(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"--config-dir 'nowhere': no such directory"):
        load_config("x", "train", GOOD, "nowhere")


def test_after_training_the_run_folder_says_how_it_was_trained(folder: Path) -> None:
    trained = load("rank: 16\n", folder, model="org/other", lr="0.1")
    (folder / "runs" / "x").mkdir(parents=True)
    (folder / "runs" / "x" / "config.yaml").write_text(trained.to_yaml(), encoding="utf-8")
    merged = load("rank: 32\nvalid_batch_size: 3\n", folder, "merge")
    assert (merged.model, merged.rank, merged.valid_batch_size) == ("org/other", 16, 3)
    assert load("rank: 32\n", folder, "train").rank == 32  # a new training is as the YAML says


def test_a_run_from_flags_is_merged_from_its_folder_but_consents_are_asked_anew(folder: Path) -> None:
    flags = GOOD | {"rank": "4", "overwrite": True, "allow_code_execution": True}
    trained = load_config("new", "train", flags)
    (folder / "runs" / "new").mkdir(parents=True)
    (folder / "runs" / "new" / "config.yaml").write_text(trained.to_yaml(), encoding="utf-8")
    tested = load_config("new", "test", {"test_dataset": "gsm-8k"})
    assert (tested.model, tested.rank) == ("org/model", 4)
    assert not tested.overwrite and not tested.allow_code_execution


def test_a_benchmark_is_needed_for_testing_only(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"test_dataset is missing: give --test-dataset with one of gsm-8k"):
        load("", folder, "test")
    with pytest.raises(UsageError, match=r"test_dataset = 'gsm8k': unknown. Did you mean 'gsm-8k'"):
        load("", folder, "test", test_dataset="gsm8k")
    assert load("", folder, "merge").test_dataset is None


def test_model_is_needed(folder: Path) -> None:
    write(folder, "train_dataset: metamath\n")
    with pytest.raises(UsageError, match=r"model is missing: give a hub id or a directory"):
        load_config("x", "train", {})


def test_shipped_paths_are_found_from_any_directory(folder: Path) -> None:
    write(folder, "model: sorsa/demo\ntrain_dataset: metamath\n")
    assert load_config("x", "train", {}).model == str(CHECKOUT / "sorsa" / "demo")


@pytest.mark.parametrize(
    ("split", "bounds"),
    [("", (0, None)), ("[:100000]", (0, 100000)), ("[5:9]", (5, 9)), ("[5:]", (5, None)), ("[:]", (0, None))],
)
def test_splits(split: str, bounds: tuple[int, int | None]) -> None:
    assert parse_split(split) == bounds


@pytest.mark.parametrize("split", ["[9:5]", "[:-1]", ":10", "[:10%]", "train[:10]", "[10]", "[::2]"])
def test_malformed_splits(split: str) -> None:
    assert parse_split(split) is None


def test_flags_of_every_type() -> None:
    assert read_value("target_modules", ["all-linear"], "flag") == ("all-linear", [])
    assert read_value("target_modules", ["q_proj"], "flag") == (["q_proj"], [])
    assert read_value("rank_pattern", ["q_proj=8", "o=4"], "flag") == ({"q_proj": 8, "o": 4}, [])
    assert read_value("rank_pattern", ["q_proj"], "flag")[1] == [
        "--rank-pattern = ['q_proj']: must be pairs of a module's name and a rank of at least 1"
    ]


def test_every_setting_has_a_text_and_a_readable_type() -> None:
    for name, field in FIELDS.items():
        assert field.metadata["text"], name
        value = getattr(RunConfig(), name)
        assert read_value(name, value, "test")[1] == [] or name == "split", name
    assert dataclasses.is_dataclass(RunConfig)


def test_a_setting_that_the_method_lacks(folder: Path) -> None:
    (folder / "configs" / "l.yaml").write_text(
        "model: m\ntrain_dataset: code\npeft: lora\ngamma: 1\n", encoding="utf-8"
    )
    message = r"gamma \(configs/l.yaml\): the method 'lora' has no such setting, only sorsa; leave it out"
    with pytest.raises(UsageError, match=message):
        load_config("l", "train", {})
    with pytest.raises(UsageError, match=r"--t-init: the method 'sorsa' has no such setting, only adalora"):
        load_config("l", "train", {"peft": "sorsa", "t_init": "3"})


def test_a_method_from_a_flag_leaves_the_yamls_other_settings_out(folder: Path) -> None:
    (folder / "configs" / "s.yaml").write_text("model: m\ntrain_dataset: code\ngamma: 1\nrank: 7\n", encoding="utf-8")
    config = load_config("s", "train", {"peft": "lora"})
    assert (config.peft, config.rank) == ("lora", 7)
    assert "gamma" not in config.to_yaml() and "rank: 7" in config.to_yaml()
    run = folder / "runs" / "s"
    run.mkdir(parents=True)
    (run / "config.yaml").write_text(config.to_yaml(), encoding="utf-8")
    assert load_config("s", "merge", {}).peft == "lora"  # what it was trained with, and no complaint about gamma


@pytest.mark.parametrize(("grid", "expected"), [(["1e-3", "2e-3"], [1e-3, 2e-3]), (None, None)])
def test_a_grid_of_learning_rates(folder: Path, grid: list[str] | None, expected: list[float] | None) -> None:
    flags = {"model": "m", "train_dataset": "code"} | ({"lr_grid": grid} if grid else {})
    assert load_config("g", "train", flags).lr_grid == expected
    with pytest.raises(UsageError, match=r"--lr-grid = \['0', '1'\]: must be above 0"):
        load_config("g", "train", flags | {"lr_grid": ["0", "1"]})


def test_a_method_that_is_no_text(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"peft = \['lora'\] .*: must be text"):
        load("peft: [lora]\n", folder)


def test_a_parent_loop_through_other_spellings(folder: Path) -> None:
    write(folder, f"parent: ../{folder.name}/configs/b\n".replace(f"../{folder.name}/", "../"), "a")
    write(folder, "parent: ../configs/a\n", "b")
    with pytest.raises(UsageError, match=r"parent = .* leads back to itself"):
        load_config("a", "train", {}, "configs")


def test_rank_patterns_are_sorted_as_peft_writes_them(folder: Path) -> None:
    config = load("rank_pattern: {q_proj: 2, layers.0.self_attn.q_proj: 3}\n", folder)
    assert list(config.rank_pattern) == ["layers.0.self_attn.q_proj", "q_proj"]
