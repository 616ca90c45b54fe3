"""Each of the ten methods through the same path: trained, resumed, saved, merged, reloaded, on the tiny Llama."""

from __future__ import annotations

import dataclasses
import errno
import os
import shutil
import signal
import subprocess
import sys

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, TrainerCallback

from sorsa.adapters.export import export_run
from sorsa.errors import UsageError
from sorsa.merging import merge
from sorsa.methods import METHODS, find_method
from sorsa.models import load_base_model
from sorsa.run_folder import RunFolder, read_metrics
from sorsa.training import run, train
from sorsa.training.rank_allocation import RankAllocation

IDS = torch.arange(2, 66).reshape(2, 32)
SETTINGS = {
    # six steps: one of warm-up, cuts after steps 2 and 3 (from 6 triplets to 4 on average), the rest as they are
    "adalora": {"init_rank": 6, "t_init": 1, "t_final": 3},
    "partial": {"target_modules": ["q_proj", "v_proj"]},
}


def _logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(IDS).logits


def _weights(folder: RunFolder) -> dict[str, torch.Tensor]:
    return {k: v for file in sorted(folder.adapter.glob("*.safetensors")) for k, v in load_file(file).items()}


class _End(TrainerCallback):
    """Keeps the trained model's logits, taken from the very model that was trained."""

    def on_train_end(self, args, state, control, model, **kwargs):
        self.logits = _logits(model)


class _Stop(TrainerCallback):
    """Presses Ctrl-C in the middle of the step after `done`."""

    def __init__(self, done):
        self.done = done

    def on_substep_end(self, args, state, control, **kwargs):
        if state.global_step == self.done:
            os.kill(os.getpid(), signal.SIGINT)


def _settings(peft: str) -> dict:
    return {"peft": peft, "name": peft, "lr": 1e-2, **SETTINGS.get(peft, {})}


@pytest.fixture(scope="module", params=METHODS)
def trained(request, make_config, tmp_path_factory):
    """The settings of a run of 6 steps, and the logits of the model at its end."""
    config = make_config(tmp_path_factory.mktemp(request.param), **_settings(request.param))
    end, original = _End(), run._callbacks
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "_callbacks", lambda *a: [*original(*a), end])
        train(config)
    merge(config)
    return config, end.logits


def test_what_is_merged_is_what_was_trained(trained):
    config, logits = trained
    folder = RunFolder(config.run_path, config.name)
    merged = _logits(AutoModelForCausalLM.from_pretrained(folder.merged, dtype=torch.float32))
    plain = _logits(load_base_model(config, torch.float32))
    scale = logits.abs().max()
    assert (merged - logits).abs().max() / scale < 1e-5
    assert (merged - plain).abs().max() / scale > 1e-3  # or the line above would show nothing


# SORSA and OSoRA have this test among their own; full and partial are loaded by merging only
@pytest.mark.parametrize("trained", ["pissa", "olora", "adalora", "vera"], indirect=True)
def test_the_adapter_reloads_to_the_same_function_in_a_new_process(trained, tmp_path):
    config, logits = trained
    folder = RunFolder(config.run_path, config.name)
    code = (
        "import sys, torch, transformers, peft, sorsa\n"
        "def refuse(*a, **k): raise AssertionError('decomposed at loading')\n"
        "for f in ('svd', 'qr'): setattr(torch.linalg, f, refuse)\n"
        f"base = transformers.AutoModelForCausalLM.from_pretrained({config.model!r}, dtype=torch.float32)\n"
        f"model = peft.PeftModel.from_pretrained(base, {str(folder.adapter)!r}).eval()\n"
        "logits = model(torch.arange(2, 66).reshape(2, 32)).logits.detach()\n"
        "import safetensors.torch as s; s.save_file({'logits': logits}, sys.argv[1])\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "l")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    reloaded = load_file(tmp_path / "l")["logits"]
    assert (reloaded - logits).abs().max() / logits.abs().max() < 1e-5


def test_interrupted_and_resumed_is_as_undisturbed(trained, tmp_path, monkeypatch):
    config, _ = trained
    config = dataclasses.replace(config, run_path=str(tmp_path / "runs"))
    original = run._callbacks

    monkeypatch.setattr(run, "_callbacks", lambda *a: [*original(*a), _Stop(3)])
    with pytest.raises(KeyboardInterrupt):
        train(config)
    monkeypatch.setattr(run, "_callbacks", original)
    if find_method(config.peft).moves_base:  # a resumed run begins from what was kept
        monkeypatch.setattr(torch.linalg, "svd", None)
        monkeypatch.setattr(torch.linalg, "qr", None)
    train(config)
    folder, whole = (RunFolder(c.run_path, c.name) for c in (config, trained[0]))
    assert [row["step"] for row in read_metrics(folder.metrics)] == [1, 2, 3, 4, 5, 6]
    ours, theirs = _weights(folder), _weights(whole)
    assert ours.keys() == theirs.keys()
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-5, atol=1e-6, msg=name)


def test_counts_in_the_record(trained):
    config, _ = trained
    matrices = [(32, 32), (16, 32), (16, 32), (32, 32), (48, 32), (48, 32), (32, 48)] * 2
    low_rank = sum(4 * (m + n) for m, n in matrices)
    expected = {
        "sorsa": low_rank + 4 * 14,
        "lora": low_rank, "pissa": low_rank, "olora": low_rank,
        "dora": low_rank + sum(m for m, _ in matrices),
        "adalora": sum(6 * (m + n + 1) for m, n in matrices),
        "vera": sum(4 + m for m, _ in matrices), "osora": sum(4 + m for m, _ in matrices),
        "full": 2 * sum(m * n for m, n in matrices[:7]) + 5 * 32 + 2 * 258 * 32,
        "partial": 2 * (32 * 32 + 16 * 32),
    }  # fmt: skip
    record = RunFolder(config.run_path, config.name).read_record()
    assert record["trainable_parameters"] == expected[config.peft]


@pytest.mark.parametrize("trained", ["pissa", "olora"], indirect=True)
def test_a_moved_base_is_saved_as_a_lora_of_twice_the_rank(trained):
    config, _ = trained
    base = load_base_model(config, torch.float32)
    model = PeftModel.from_pretrained(base, str(RunFolder(config.run_path, config.name).adapter))
    peft_config = model.peft_config["default"]
    assert (peft_config.r, peft_config.lora_alpha, peft_config.init_lora_weights) == (8, 8, True)


@pytest.mark.parametrize("trained", ["adalora"], indirect=True)
def test_adalora_cuts_to_the_target(trained):
    config, _ = trained
    weights = _weights(RunFolder(config.run_path, config.name))
    ranks = [tensor.shape[0] for name, tensor in weights.items() if name.endswith("lora_E")]
    assert sum(ranks) == 4 * 14 and len(set(ranks)) > 1  # of 6 x 14; not the same number everywhere
    assert all(torch.all(tensor != 0) for name, tensor in weights.items() if name.endswith("lora_E"))


@pytest.mark.parametrize("trained", ["full", "partial"], indirect=True)
def test_trained_weights_are_refused_by_another_base(trained, tmp_path):
    config, _ = trained
    other = shutil.copytree(config.model, tmp_path / "other")
    weights = load_file(other / "model.safetensors")
    weights["model.layers.1.self_attn.q_proj.weight"] *= 1.5
    save_file(weights, other / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UsageError, match=r"does not fit the base model .*q_proj.weight was trained from other weights"):
        merge(dataclasses.replace(config, model=str(other), overwrite=True))


@pytest.mark.parametrize("trained", ["partial"], indirect=True)
def test_partial_saves_the_named_modules_only(trained):
    config, _ = trained
    folder = RunFolder(config.run_path, config.name)
    names = {f"model.layers.{i}.self_attn.{p}_proj.weight" for i in range(2) for p in "qv"}
    assert load_file(folder.adapter / "trained_weights.safetensors").keys() == names
    (folder.adapter / "trained_weights.safetensors").rename(tmp := folder.path / ".hidden")
    try:
        with pytest.raises(UsageError, match=r"4 trained tensors are missing, the first is model.layers.0"):
            merge(dataclasses.replace(config, overwrite=True))
    finally:
        tmp.rename(folder.adapter / "trained_weights.safetensors")


def test_adalora_as_in_table_5_has_nothing_to_cut(tiny_config):
    """r_init = r_target: PEFT's cutting fails on it, the scores are updated all the same."""
    config = tiny_config(peft="adalora", t_init=1, t_final=3)
    train(config)
    folder = RunFolder(config.run_path, config.name)
    ranks = {tensor.shape[0] for name, tensor in _weights(folder).items() if name.endswith("lora_E")}
    assert ranks == {4}
    averages = load_file(folder.checkpoints / "checkpoint-6" / "rank_allocator.safetensors")
    assert len(averages) == 2 * 3 * 14 and any(tensor.abs().max() > 0 for tensor in averages.values())


def test_adaloras_schedule_must_fit_the_run(tiny_config):
    message = r"t_init = 3, t_final = 3: their sum must be below the 6 optimizer steps of this run"
    with pytest.raises(UsageError, match=message):
        train(tiny_config(peft="adalora", t_init=3, t_final=3))


@pytest.mark.parametrize("peft", ["sorsa", "lora", "pissa"])
def test_patterns_alpha_and_dropout_survive_the_disk(tiny_config, monkeypatch, peft):
    """Two patterns fit a matrix: the same one must count before and after saving, and when resuming."""
    pattern = {"layers.0.self_attn.q_proj": 3, "q_proj": 2}
    config = tiny_config(peft=peft, rank_pattern=pattern, alpha=6.0, dropout=0.1, lr=1e-2, save_steps=2)
    end, original = _End(), run._callbacks
    monkeypatch.setattr(run, "_callbacks", lambda *a: [*original(*a), _Stop(3), end])
    with pytest.raises(KeyboardInterrupt):
        train(config)
    monkeypatch.setattr(run, "_callbacks", lambda *a: [*original(*a), end])
    train(config)
    merge(config)
    merged = AutoModelForCausalLM.from_pretrained(RunFolder(config.run_path, "tiny").merged, dtype=torch.float32)
    assert (_logits(merged) - end.logits).abs().max() / end.logits.abs().max() < 1e-5


def test_adaloras_regularizer_counts_once_however_the_batch_is_split(tiny_config):
    losses = []
    for batch_size, accum_steps in ((4, 1), (1, 4)):
        name = f"b{batch_size}"
        split = {"batch_size": batch_size, "accum_steps": accum_steps, "name": name}
        train(config := tiny_config(peft="adalora", t_init=1, t_final=3, lr=1e-2, max_steps=5, **split))
        losses.append([row["loss"] for row in read_metrics(RunFolder(config.run_path, name).metrics)])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_adalora_starts_at_the_rank_it_ends_with_or_above(tiny_config):
    with pytest.raises(UsageError, match=r"init_rank = 2: below rank = 4, to which AdaLoRA cuts it"):
        train(tiny_config(peft="adalora", init_rank=2, t_init=1, t_final=3))


def test_adalora_is_cut_although_saving_failed_at_the_end(tiny_config, monkeypatch):
    config = tiny_config(peft="adalora", **SETTINGS["adalora"])
    original = run._save

    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(run, "_save", full)
    with pytest.raises(UsageError, match="could not save at step 6"):
        train(config)
    monkeypatch.setattr(run, "_save", original)
    train(config)
    folder = RunFolder(config.run_path, config.name)
    assert sum(len(tensor) for name, tensor in _weights(folder).items() if name.endswith("lora_E")) == 4 * 14
    assert folder.read_record()["seconds"] > 0.1  # of the session that failed


def test_a_skipped_fp16_step_leaves_the_scores_alone():
    class Skipped:
        step_was_skipped = True

    RankAllocation().on_optimizer_step(None, None, None, model=None, optimizer=Skipped())  # touches nothing


@pytest.mark.parametrize("trained", ["pissa"], indirect=True)
def test_a_lost_start_is_one_line(trained, tmp_path):
    config = dataclasses.replace(trained[0], run_path=str(tmp_path / "runs"))
    folder = RunFolder(config.run_path, config.name)
    shutil.copytree(RunFolder(trained[0].run_path, config.name).path, folder.path)
    folder.update_record(status="interrupted")
    shutil.rmtree(folder.start)
    with pytest.raises(UsageError, match=r"start: missing, and pissa cannot go on without the adapter's start"):
        train(config)


@pytest.mark.parametrize("trained", ["lora", "full"], indirect=True)
def test_what_was_saved_decides_how_it_is_merged(trained):
    config, logits = trained
    other = {"lora": "full", "full": "lora"}[config.peft]
    merge(dataclasses.replace(config, peft=other, overwrite=True))
    merged = AutoModelForCausalLM.from_pretrained(RunFolder(config.run_path, config.name).merged, dtype=torch.float32)
    assert (_logits(merged) - logits).abs().max() / logits.abs().max() < 1e-5


@pytest.mark.parametrize(
    ("trained", "message"),
    [
        ("pissa", "is a plain LoRA already"),
        ("full", "holds trained weights and no adapter"),
        ("vera", "a VERA adapter"),
    ],
    indirect=["trained"],
)
def test_exporting_what_has_no_lora_in_it(trained, message):
    with pytest.raises(UsageError, match=message):
        export_run(trained[0])
