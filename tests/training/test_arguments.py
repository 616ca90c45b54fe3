"""Settings -> TrainingArguments: the step count T, precision on machines that lack it, GPUs of one process."""

from __future__ import annotations

import logging

import pytest
import torch

from sorsa.errors import UsageError
from sorsa.run_folder import RunFolder
from sorsa.training import arguments as module
from sorsa.training.arguments import plan_steps, training_arguments


def _plan(config, tmp_path, rows):
    arguments = training_arguments(config, RunFolder(tmp_path, "x"))
    used = plan_steps(arguments, config, rows)
    return arguments, used


def test_the_papers_run_has_781_steps(tiny_config, tmp_path):
    config = tiny_config(batch_size=2, accum_steps=64, save_steps=None)
    arguments, used = _plan(config, tmp_path, 100_000)
    assert (arguments.max_steps, used) == (781, 781 * 128)
    assert arguments.save_steps == 157  # a fifth, rounded up: the fifth checkpoint is the last step's
    assert arguments.get_warmup_steps(781) == 24  # 3%, rounded up


@pytest.mark.parametrize(
    ("rows", "epochs", "max_steps", "steps"),
    [(25, 1, None, 6), (24, 1, None, 6), (23, 1, None, 5), (25, 2, None, 12), (25, 0.5, None, 3), (25, 1, 9, 9),
     (400, 0.29, None, 29)],
)  # fmt: skip
def test_number_of_steps(tiny_config, tmp_path, rows, epochs, max_steps, steps):
    arguments, used = _plan(tiny_config(epochs=epochs, max_steps=max_steps), tmp_path, rows)
    assert (arguments.max_steps, used) == (steps, rows // 4 * 4)


@pytest.mark.parametrize(("rows", "epochs"), [(3, 1), (0, 1), (25, 0.1)])
def test_too_few_rows(tiny_config, tmp_path, rows, epochs):
    message = rf"{rows} samples x {epochs} epochs do not fill one global batch of 4 \(2 batch_size x 2 accum_steps x 1 "
    with pytest.raises(UsageError, match=message):
        _plan(tiny_config(epochs=epochs), tmp_path, rows)


def test_settings_arrive(tiny_config, tmp_path):
    config = tiny_config(wd=0.1, grad_clip=0.0, scheduler="linear", seed=7, warmup=0.5)
    arguments = training_arguments(config, RunFolder(tmp_path, "x"))
    assert (arguments.weight_decay, arguments.max_grad_norm, arguments.seed) == (0.1, 0.0, 7)
    assert (arguments.lr_scheduler_type, arguments.warmup_steps, arguments.optim) == ("linear", 0.5, "adamw_torch")
    assert arguments.report_to == []


@pytest.fixture
def no_gpu(monkeypatch):
    """A machine without CUDA, wherever the test runs."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(module, "is_torch_tf32_available", lambda: False)


def test_tf32_is_optional(no_gpu, tiny_config, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        arguments = training_arguments(tiny_config(mix_precision=["bf16", "tf32"]), RunFolder(tmp_path, "x"))
    assert arguments.bf16 and not arguments.tf32
    assert [r.getMessage() for r in caplog.records if "TF32" in r.getMessage()] == [
        "this machine has no TF32: what BF16 or FP16 does not cover is computed in FP32"
    ]


def test_fp16_needs_a_gpu(no_gpu, tiny_config, tmp_path):
    with pytest.raises(UsageError, match=r"mix_precision = fp16: needs a CUDA GPU .* use bf16 or fp32"):
        training_arguments(tiny_config(mix_precision=["fp16"]), RunFolder(tmp_path, "x"))


def test_bf16_on_a_gpu_without_it(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Tesla T4")
    with pytest.raises(UsageError, match="mix_precision = bf16: Tesla T4 has no BF16; use fp16 or fp32"):
        module._precision(["bf16"])


def test_fp32_is_neither(no_gpu, tiny_config, tmp_path):
    arguments = training_arguments(tiny_config(mix_precision=["fp32"]), RunFolder(tmp_path, "x"))
    assert not (arguments.bf16 or arguments.fp16 or arguments.tf32)
