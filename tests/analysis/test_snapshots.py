"""Snapshots during training, and the weights W_t made from them, for every method."""

from __future__ import annotations

import dataclasses
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from sorsa.analysis.matrices import read_matrices
from sorsa.analysis.snapshots import snapshot_files, steps_to_keep
from sorsa.errors import UsageError
from sorsa.merging import merge
from sorsa.methods import METHODS
from sorsa.run_folder import RunFolder
from sorsa.training import train
from sorsa.training.callbacks import GracefulStop

OWN = {"adalora": {"t_init": 1, "t_final": 1, "init_rank": 6}, "vera": {"lr": 0.05}, "osora": {"lr": 0.05}}
OWN |= {"partial": {"target_modules": ["q_proj", "v_proj"]}}


def test_which_steps_are_kept() -> None:
    assert steps_to_keep(4, 180) == {0, 45, 90, 135, 180}
    assert steps_to_keep(8, 3) == {0, 1, 2, 3}


@pytest.fixture(params=METHODS)
def trained(request: pytest.FixtureRequest, tiny_config: Callable[..., Any]) -> Any:
    """The settings of a training of six steps with snapshots at 0, 3 and 6, by every method in turn."""
    config = tiny_config(name=request.param, peft=request.param, snapshots=2, **OWN.get(request.param, {}))
    train(config)
    return config


def test_the_weights_are_the_bases_at_first_and_the_merged_models_at_last(trained: Any) -> None:
    folder = RunFolder(trained.run_path, trained.name)
    assert list(snapshot_files(folder.snapshots)) == [0, 3, 6]
    merge(trained)
    base, merged = load_file(Path(trained.model) / "model.safetensors"), load_file(folder.merged / "model.safetensors")
    matrices = read_matrices(trained, folder.snapshots)
    assert len(matrices) == (4 if trained.peft == "partial" else 14)
    moved = 0
    for matrix in matrices:
        name = f"{matrix.name}.weight"
        torch.testing.assert_close(matrix.at(0)[0], base[name], rtol=1e-6, atol=1e-7)
        torch.testing.assert_close(matrix.at(6)[0], merged[name], rtol=1e-5, atol=1e-6)
        middle = matrix.at(3)[0]
        moved += not torch.equal(middle, base[name]) and not torch.equal(middle, merged[name])
    assert moved == len(matrices)
    assert {matrix.number for matrix in matrices} == {0, 1}


def test_no_base_weight_is_in_an_adapters_snapshot(trained: Any) -> None:
    files = snapshot_files(RunFolder(trained.run_path, trained.name).snapshots)
    with safe_open(files[3], framework="pt") as file:
        names = set(file.keys())
    assert names and not any("base_layer" in name for name in names)
    if trained.peft == "sorsa":
        assert not any("0." in name.partition("sorsa_")[2] for name in names), "the initial factors are step 0's"


def test_the_factors_multiply_to_the_principal_part(tiny_config: Callable[..., Any]) -> None:
    config = tiny_config(peft="sorsa", snapshots=1)
    train(config)
    for matrix in read_matrices(config, RunFolder(config.run_path, config.name).snapshots):
        weight, factors = matrix.at(6)
        _, start = matrix.at(0)
        change = (factors.U * factors.S) @ factors.Vt - (start.U * start.S) @ start.Vt
        torch.testing.assert_close(weight - matrix.weight, change, rtol=1e-4, atol=1e-6)


def test_a_resumed_run_has_the_snapshots_of_an_undisturbed_one(
    tiny_config: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, part = (tiny_config(name=name, peft="sorsa", snapshots=3, save_steps=1) for name in ("whole", "part"))
    train(whole)

    def stop(self: Any, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        control.should_save = control.should_training_stop = state.global_step == 3

    with monkeypatch.context() as patch:
        patch.setattr(GracefulStop, "on_step_end", stop)
        with pytest.raises(KeyboardInterrupt):
            train(part)
    stale = RunFolder(part.run_path, "part").snapshots / "step-000005.safetensors"
    save_file({"x": torch.zeros(1)}, stale)
    train(part)
    assert not stale.exists()
    left, right = (snapshot_files(RunFolder(whole.run_path, name).snapshots) for name in ("whole", "part"))
    assert list(left) == list(right) == [0, 2, 4, 6]
    for step in left:
        a, b = load_file(left[step]), load_file(right[step])
        assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_a_resumed_run_without_its_first_snapshot(tiny_config: Callable[..., Any]) -> None:
    from transformers import TrainerControl, TrainerState

    from sorsa.analysis.snapshots import SnapshotWriter

    folder = RunFolder(tiny_config().run_path, "gone")
    writer = SnapshotWriter(folder.snapshots, 2)
    with pytest.raises(UsageError, match=r"step-000000\.safetensors: missing, and the snapshots to come need it"):
        writer.on_train_begin(None, TrainerState(global_step=3), TrainerControl(), torch.nn.Linear(2, 2))


def test_a_step_that_changes_nothing(tiny_config: Callable[..., Any]) -> None:
    """The first step of a warm-up has a learning rate of 0."""
    config = tiny_config(peft="lora", snapshots=6, max_steps=6, warmup=0.5)
    train(config)
    folder = RunFolder(config.run_path, "tiny")
    for matrix in read_matrices(config, folder.snapshots):
        assert torch.equal(matrix.at(1)[0], matrix.weight) and not torch.equal(matrix.at(6)[0], matrix.weight)


def test_a_run_without_snapshots(tiny_config: Callable[..., Any]) -> None:
    with pytest.raises(UsageError, match=r"run 'tiny' has no snapshots .* by --snapshots N"):
        read_matrices(tiny_config(), Path("nowhere"))


def test_steps_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for step in ("000000", "999999", "1000000", "x"):
        (tmp_path / f"step-{step}.safetensors").touch()
    assert list(snapshot_files(tmp_path)) == [0, 999_999, 1_000_000]


@pytest.fixture(scope="module")
def two(make_config: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """The settings of a SORSA run and of a LoRA run with snapshots at the steps 0 and 6."""
    folder = tmp_path_factory.mktemp("two")
    configs = tuple(make_config(folder, name=peft, peft=peft, snapshots=1) for peft in ("sorsa", "lora"))
    for config in configs:
        train(config)
    return configs


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (0, r"step-000000\.safetensors: its tensors are not those of this run's method and rank \(no model\.layers\.0"),
        (6, r"step-000006\.safetensors: of another run \(step 0 has no model\.layers\.0\.\S*lora_A"),
    ],
)
def test_a_snapshot_of_another_run(two: tuple[Any, Any], tmp_path: Path, step: int, message: str) -> None:
    sorsa, lora = (RunFolder(config.run_path, config.name).snapshots for config in two)
    mixed = shutil.copytree(sorsa, tmp_path / "mixed")
    shutil.copy(snapshot_files(lora)[step], mixed)
    with pytest.raises(UsageError, match=message):
        read_matrices(two[0], mixed)


def test_settings_that_the_run_was_not_trained_with(two: tuple[Any, Any]) -> None:
    for changes in ({"rank": 2}, {"target_modules": ["lm_head"]}, {"peft": "lora"}):
        with pytest.raises(UsageError, match="not those of this run's method and rank"):
            read_matrices(dataclasses.replace(two[0], **changes), RunFolder(two[0].run_path, "sorsa").snapshots)


def test_the_first_snapshot_is_gone(two: tuple[Any, Any], tmp_path: Path) -> None:
    rest = shutil.copytree(RunFolder(two[0].run_path, "sorsa").snapshots, tmp_path / "rest")
    (rest / "step-000000.safetensors").unlink()
    with pytest.raises(UsageError, match=r"step-000000\.safetensors: missing, and the others stand on it"):
        read_matrices(two[0], rest)


def test_a_base_model_of_no_numbers(two: tuple[Any, Any], tmp_path: Path) -> None:
    other = shutil.copytree(two[0].model, tmp_path / "other")
    tensors = load_file(other / "model.safetensors")
    broken = {name: tensor * float("nan") if "q_proj" in name else tensor for name, tensor in tensors.items()}
    save_file(broken, other / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UsageError, match="q_proj is not the one that run 'sorsa' was trained on"):
        read_matrices(dataclasses.replace(two[0], model=str(other)), RunFolder(two[0].run_path, "sorsa").snapshots)


def test_another_base_model(tiny_config: Callable[..., Any], tmp_path: Path) -> None:
    config = tiny_config(peft="pissa", snapshots=1)
    train(config)
    other = tmp_path / "other"
    shutil.copytree(config.model, other)
    tensors = load_file(other / "model.safetensors")
    name = "model.layers.1.mlp.up_proj.weight"
    save_file(tensors | {name: tensors[name] * 1.001}, other / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        UsageError, match=r"its model\.layers\.1\.mlp\.up_proj is not the one that run 'tiny' was train"
    ):
        read_matrices(dataclasses.replace(config, model=str(other)), RunFolder(config.run_path, "tiny").snapshots)


def test_a_damaged_snapshot(tiny_config: Callable[..., Any], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    config = tiny_config(peft="lora", snapshots=1)
    train(config)
    folder = RunFolder(config.run_path, "tiny")
    last = snapshot_files(folder.snapshots)[6]
    last.write_bytes(last.read_bytes()[:-10])
    with pytest.raises(UsageError, match=r"step-000006\.safetensors: not a complete snapshot"):
        read_matrices(config, folder.snapshots)
