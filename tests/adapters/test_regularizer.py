"""The regularizer: its gradient against autograd, its strength in both scalings, its place in the Trainer's step."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import Trainer, TrainerCallback, TrainingArguments

from sorsa import (
    OrthonormalCallback,
    add_regularizer_gradient,
    gradient_weight,
    orthonormality_error,
    regularizer_value,
)

from .conftest import OSORA, SORSA, Net

PAPER_LR, PAPER_GAMMA = 3e-5, 4e-4


def disturbed(dtype: torch.dtype = torch.float64, **options: Any) -> PeftModel:
    """A SORSA model whose factors are no longer orthonormal."""
    torch.manual_seed(0)
    model = SORSA.adapt(Net(), **options).to(dtype)
    for name, p in model.named_parameters():
        if "sorsa_" in name:
            p.data += 0.1 * torch.randn_like(p)
    return model


def by_definition(model: nn.Module, form: str) -> Tensor:
    """The regularizer written out as in Definition 4.1 and in the released code, for autograd."""
    norms = []
    for name, p in model.named_parameters():
        if "sorsa_U." in name or "sorsa_Vt." in name:
            gram = p.T @ p if "sorsa_U." in name else p @ p.T
            norms.append(torch.linalg.matrix_norm(gram - torch.eye(gram.shape[0], dtype=p.dtype)))
    return sum(norms) / len(norms) if form == "frobenius" else sum(n**2 for n in norms)


@pytest.mark.parametrize("form", ["frobenius", "squared"])
@pytest.mark.parametrize("targets", [["first", "last"], ["first", "middle", "last"]])
def test_closed_form_gradient_equals_autograds(form: str, targets: list[str]) -> None:
    model = disturbed(target_modules=targets)
    twin = copy.deepcopy(model)
    loss = by_definition(twin, form)
    (0.7 * loss).backward()
    result = add_regularizer_gradient(model, 0.7, form)
    assert result.value.item() == pytest.approx(loss.item(), rel=1e-12)
    factors = {n: p for n, p in model.named_parameters() if ".sorsa_U." in n or ".sorsa_Vt." in n}
    assert len(factors) == 2 * len(targets)
    for name, p in factors.items():
        expected = twin.get_parameter(name).grad
        assert ((p.grad - expected).norm() / expected.norm()).item() < 1e-6, name
    assert all(p.grad is None for n, p in model.named_parameters() if ".sorsa_S." in n)


def test_square_factors_are_not_transposed() -> None:
    model = SORSA.adapt(nn.Sequential(nn.Linear(6, 6)), target_modules=["0"], r=6).double()
    for p in model.parameters():
        p.data += 0.1 * torch.randn_like(p)
    twin = copy.deepcopy(model)
    by_definition(twin, "squared").backward()
    add_regularizer_gradient(model, 1.0, "squared")
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        assert (p.grad is None) == (q.grad is None)
        if p.grad is not None:
            torch.testing.assert_close(p.grad, q.grad)


def test_gradient_is_added_to_what_is_there_and_measuring_adds_nothing() -> None:
    model, other = disturbed(), disturbed()
    for p in model.parameters():
        p.grad = torch.ones_like(p) if p.requires_grad else None
    add_regularizer_gradient(model, 0.5)
    add_regularizer_gradient(other, 0.5)
    for (name, p), q in zip(model.named_parameters(), other.parameters(), strict=True):
        if q.grad is not None:
            torch.testing.assert_close(p.grad, q.grad + 1, msg=name)
    other.zero_grad()
    assert regularizer_value(other).item() == pytest.approx(orthonormality_error(other).item())
    assert regularizer_value(other, "squared") > 0
    assert all(p.grad is None for p in other.parameters())


@pytest.mark.parametrize("form", ["frobenius", "squared"])
def test_orthonormal_factors_get_no_noticeable_gradient_and_no_nan(form: str) -> None:
    model = SORSA.adapt(Net()).double()
    add_regularizer_gradient(model, 1.0, form)
    for name, p in model.named_parameters():
        if p.grad is not None:
            assert torch.isfinite(p.grad).all(), name
    exactly = SORSA.adapt(nn.Sequential(nn.Linear(3, 3, bias=False)), target_modules=["0"], r=3)
    for name, p in exactly.named_parameters():
        if "sorsa_U" in name or "sorsa_Vt" in name:
            p.data = torch.eye(3)
    add_regularizer_gradient(exactly, 1.0, form)
    assert all(p.grad.abs().max() == 0 for p in exactly.parameters() if p.grad is not None)


def test_strength_of_the_named_scalings() -> None:
    assert gradient_weight(PAPER_GAMMA, PAPER_LR, "paper") == pytest.approx(PAPER_GAMMA / PAPER_LR)
    assert gradient_weight(PAPER_GAMMA, PAPER_LR, "as_run") == pytest.approx(0.208, abs=5e-4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: gradient_weight(-1, 1, "paper"), "gamma must be at least 0 .* got -1 and 1"),
        (lambda: gradient_weight(1, 0, "paper"), "maximum learning rate positive, got 1 and 0"),
        (lambda: gradient_weight(1, 1, "papr"), "scaling must be 'as_run' or 'paper', got 'papr'"),
        (lambda: OrthonormalCallback(form="l2"), "form must be 'frobenius' or 'squared', got 'l2'"),
        (lambda: OrthonormalCallback(gamma=-1), "gamma must be at least 0"),
        (lambda: OrthonormalCallback(scaling="papr"), "scaling must be"),
        (lambda: add_regularizer_gradient(Net(), 1.0), "no trainable SORSA factors"),
        (lambda: add_regularizer_gradient(OSORA.adapt(Net()), 1.0), "no trainable SORSA factors"),
        (lambda: add_regularizer_gradient(Net(), 1.0, "l2"), "form must be"),
    ],
)
def test_bad_arguments(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


class Regression(nn.Module):
    """A model with a loss, as the Trainer wants it."""

    def __init__(self, net: PeftModel) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        return {"loss": (self.net(x) - labels).square().mean()}


class Recorder(TrainerCallback):
    """Notes the gradients at the Trainer's hooks around a step, and the logs."""

    def __init__(self) -> None:
        self.before: list[dict[str, Tensor]] = []
        self.logs: list[dict[str, float]] = []

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.before.append({n: p.grad.clone() for n, p in kwargs["model"].named_parameters() if p.grad is not None})

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **kwargs: Any) -> None:
        self.logs.append(dict(logs))


def run_trainer(tmp_path: Path, callback: TrainerCallback | None, **options: Any) -> tuple[Recorder, Recorder, Trainer]:
    """Train two steps; one recorder runs before the regularizer, one after it."""
    torch.manual_seed(0)
    rows = [{"x": torch.randn(24), "labels": torch.randn(16)} for _ in range(16)]
    settings = {
        "per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, "max_steps": 2, "learning_rate": 1e-3,
        "max_grad_norm": 1e-3, "logging_steps": 1, "report_to": "none", "save_strategy": "no", "use_cpu": True,
        "disable_tqdm": True, "remove_unused_columns": False, "lr_scheduler_type": "cosine", "warmup_steps": 0,
    }  # fmt: skip
    arguments = TrainingArguments(output_dir=str(tmp_path), **{**settings, **options})
    before, after = Recorder(), Recorder()
    callbacks = [before, callback, after] if callback else [before, after]
    trainer = Trainer(Regression(disturbed(torch.float32)), arguments, train_dataset=rows, callbacks=callbacks)
    trainer.train()
    return before, after, trainer


@pytest.mark.parametrize("scaling", ["as_run", "paper"])
@pytest.mark.parametrize("form", ["frobenius", "squared"])
def test_place_and_strength_in_the_trainer(tmp_path: Path, scaling: str, form: str) -> None:
    """After clipping (the training gradient's norm is the clip value, the sum's is not), before the step, once."""
    before, after, _ = run_trainer(tmp_path, OrthonormalCallback(PAPER_GAMMA, form, scaling))
    assert len(before.before) == 2
    clipped = torch.cat([g.flatten() for g in before.before[0].values()]).norm()
    assert clipped.item() == pytest.approx(1e-3, rel=1e-3)
    expected = Regression(disturbed(torch.float32))
    add_regularizer_gradient(expected, gradient_weight(PAPER_GAMMA, 1e-3, scaling), form)
    for name, gradient in after.before[0].items():
        added = gradient - before.before[0][name]
        wanted = expected.get_parameter(name).grad
        wanted = torch.zeros_like(added) if wanted is None else wanted
        torch.testing.assert_close(added, wanted, rtol=1e-4, atol=1e-7, msg=name)


def test_independent_of_gradient_accumulation(tmp_path: Path) -> None:
    added = []
    for batch, accumulation in ((8, 1), (4, 2), (1, 8)):
        before, after, _ = run_trainer(
            tmp_path / str(batch), OrthonormalCallback(1e-2), gradient_accumulation_steps=accumulation,
            per_device_train_batch_size=batch, max_steps=1,
        )  # fmt: skip
        added.append({n: g - before.before[0][n] for n, g in after.before[0].items()})
    for other in added[1:]:
        for name, value in added[0].items():
            torch.testing.assert_close(other[name], value, rtol=1e-4, atol=1e-7, msg=name)


def test_the_step_uses_it(tmp_path: Path) -> None:
    """With a strong regularizer the factors become orthonormal; without, they stay as they are."""
    options = {"max_steps": 40, "learning_rate": 1e-2, "num_train_epochs": 40}
    *_, with_it = run_trainer(tmp_path / "a", OrthonormalCallback(1.0, "squared", "paper"), **options)
    *_, without = run_trainer(tmp_path / "b", None, **options)
    assert orthonormality_error(with_it.model) < 0.5 * orthonormality_error(without.model)


def test_logs_value_and_error_every_step(tmp_path: Path) -> None:
    start = disturbed(torch.float32)
    _, after, trainer = run_trainer(tmp_path, OrthonormalCallback(1e-2, "squared"))
    steps = [log for log in after.logs if "loss" in log]
    assert len(steps) == 2
    assert steps[0]["regularizer"] == pytest.approx(regularizer_value(start, "squared").item(), rel=1e-5)
    assert steps[0]["orthonormality_error"] == pytest.approx(orthonormality_error(start).item(), rel=1e-5)
    assert steps[1]["regularizer"] != steps[0]["regularizer"]
    assert [h["regularizer"] for h in trainer.state.log_history if "loss" in h] == [s["regularizer"] for s in steps]


ENABLE_TF32 = """
import torch, sorsa
from transformers.utils import is_torch_tf32_available  # noqa: F401
from sorsa import SorsaConfig, add_regularizer_gradient
from peft import get_peft_model
torch.backends.fp32_precision = "tf32"  # what transformers' TrainingArguments(tf32=True) does on a GPU
torch.backends.cuda.matmul.fp32_precision = "tf32"
model = get_peft_model(torch.nn.Sequential(torch.nn.Linear(6, 6)), SorsaConfig(r=2, target_modules=["0"]))
add_regularizer_gradient(model, 1.0)
model(torch.randn(2, 6)).sum().backward()
print(torch.backends.cuda.matmul.fp32_precision)
"""


def test_runs_under_tf32_and_leaves_it_on() -> None:
    """PyTorch refuses its older precision switch once the newer one was used, as transformers does."""
    result = subprocess.run([sys.executable, "-c", ENABLE_TF32], capture_output=True, text=True)
    assert result.stdout.strip() == "tf32", result.stderr


def test_works_unchanged_in_trls_trainer(tiny_model: Path, tmp_path: Path) -> None:
    trl = pytest.importorskip("trl", reason="TRL is a development dependency: pip install -e .[dev]")
    import datasets
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from sorsa import SorsaConfig

    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    rows = datasets.Dataset.from_dict({"prompt": ["What is 1 + 1?"] * 4, "completion": [" It is 2."] * 4})
    arguments = trl.SFTConfig(
        output_dir=str(tmp_path), max_steps=2, per_device_train_batch_size=2, logging_steps=1, report_to="none",
        save_strategy="no", use_cpu=True, bf16=False, disable_tqdm=True,
    )  # fmt: skip
    trainer = trl.SFTTrainer(
        model, arguments, train_dataset=rows, processing_class=AutoTokenizer.from_pretrained(tiny_model),
        peft_config=SorsaConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM"),
        callbacks=[OrthonormalCallback(1e-2)],
    )  # fmt: skip
    trainer.train()
    assert len([h for h in trainer.state.log_history if "orthonormality_error" in h]) == 2
