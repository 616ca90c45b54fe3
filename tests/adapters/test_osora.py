"""OSoRA: its equation and gradients against the dense formula, what is trained, what is kept, and a real Trainer."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from peft import PeftModel, get_peft_model
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

from sorsa import OsoraConfig, orthonormality_error
from sorsa.adapters.osora_layer import OsoraLinear

from .conftest import OSORA, SORSA, Net, train_a_little

TRAINED = {"both": {"s", "o"}, "s": {"s"}, "o": {"o"}}
train = pytest.mark.parametrize("train", list(TRAINED))


def trainable(model: nn.Module) -> dict[str, int]:
    """Kind and size of everything that an optimizer would get: `{"s.default": 4, ...}` of the first layer."""
    layer = model.base_model.model.first
    return {n.removeprefix("osora_"): p.numel() for n, p in layer.named_parameters() if p.requires_grad}


def layer_in_fp64(train: str, alpha: float | None = None, dropout: float = 0.0) -> OsoraLinear:
    """A trained layer (40, 24) of rank 4 in FP64, away from its start."""
    torch.manual_seed(0)
    model = OSORA.adapt(Net(), train=train, alpha=alpha, dropout=dropout).double()
    layer = model.base_model.model.first
    for vector in (layer.osora_s, layer.osora_o):
        vector["default"].data += 0.3 * torch.randn_like(vector["default"])
    return layer


@train
@pytest.mark.parametrize("alpha", [None, 12.0])
@pytest.mark.parametrize("path", ["fused", "plain"])
def test_value_and_gradients_are_the_dense_formulas(train: str, alpha: float | None, path: str) -> None:
    layer = layer_in_fp64(train, alpha)
    if path == "plain":
        layer.base_layer.register_forward_hook(lambda *_: None)
    s, o = (layer._stored(name)["default"] for name in ("s", "o"))
    U0, S0, Vt0 = (layer._stored(name)["default"] for name in ("U0", "S0", "Vt0"))
    x = torch.randn(2, 5, 24, dtype=torch.float64, requires_grad=True)
    slope = torch.randn(2, 5, 40, dtype=torch.float64)
    y = layer(x)
    (y * slope).sum().backward()

    leaves = [t.detach().clone().requires_grad_() for t in (x, s, o)]
    scale = 1.0 if alpha is None else alpha / 4
    residual = layer.base_layer.weight - scale * U0 @ torch.diag(S0) @ Vt0
    W = residual + scale * torch.diag(leaves[2]) @ U0 @ torch.diag(leaves[1]) @ Vt0
    expected = leaves[0] @ W.T + layer.base_layer.bias
    (expected * slope).sum().backward()
    torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(x.grad, leaves[0].grad, rtol=1e-12, atol=1e-12)
    for name, tensor, leaf in (("s", s, leaves[1]), ("o", o, leaves[2])):
        if name in TRAINED[train]:
            torch.testing.assert_close(tensor.grad, leaf.grad, rtol=1e-12, atol=1e-12)
        else:
            assert tensor.grad is None
    torch.testing.assert_close(layer.get_delta_weight("default").double(), (W - layer.base_layer.weight).detach())


def test_dropout_acts_on_the_principal_part_only() -> None:
    """`x W0^T + drop(x) Wp^T - x Wp0^T`: averaged over many masks, the output without dropout."""
    layer = layer_in_fp64("both", dropout=0.5)
    x = torch.randn(1, 24, dtype=torch.float64)
    expected = layer.eval()(x)
    outputs = layer.train()(x.expand(20_000, 24))
    assert outputs.std(0).max() > 0.1
    torch.testing.assert_close(outputs.mean(0, keepdim=True), expected, rtol=0, atol=0.05)


@train
def test_trainable_parameters(train: str) -> None:
    sizes = {"s": 4, "o": 40}
    model = OSORA.adapt(Net(), train=train)
    expected = {f"{name}.default": sizes[name] for name in sizes if name in TRAINED[train]}
    assert trainable(model) == expected
    model.add_adapter("b", OSORA.config())
    assert trainable(model) == expected
    model.set_adapter("b")
    assert trainable(model) == {"s.b": 4, "o.b": 40}
    model.set_adapter("default")
    assert trainable(model) == expected
    with model.disable_adapter():
        assert trainable(model) == {}
    assert trainable(model) == expected
    model.delete_adapter("b")
    assert trainable(model) == expected


@train
def test_only_what_is_trained_moves(train: str) -> None:
    model, x = OSORA.adapt(Net(), train=train), torch.randn(5, 24)
    before = copy.deepcopy(model.state_dict())
    train_a_little(model, x)
    moved = {name.split(".")[-2] for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {f"osora_{name}" for name in TRAINED[train]}


@train
def test_training_goes_on_after_reloading_with_the_same_switch(train: str, tmp_path: Path) -> None:
    base, x = Net(), torch.randn(5, 24)
    model = OSORA.adapt(base, train=train)
    train_a_little(model, x)
    model.save_pretrained(tmp_path)
    frozen = PeftModel.from_pretrained(copy.deepcopy(base), tmp_path)
    assert torch.equal(frozen(x), model(x)) and trainable(frozen) == {}
    again = PeftModel.from_pretrained(copy.deepcopy(base), tmp_path, is_trainable=True)
    assert trainable(again) == trainable(model)
    for m in (model, again):
        train_a_little(m, x)
    assert torch.equal(again(x), model(x))


def saved_for_backward(model: nn.Module, x: Tensor) -> int:
    """Numbers that a forward pass keeps for backward, without parameters and buffers."""
    stored = {t.data_ptr() for t in (*model.parameters(), *model.buffers())}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        if tensor.data_ptr() not in stored:
            kept[tensor.data_ptr()] = tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model(x)
    return sum(kept.values())


def test_the_input_is_not_kept_for_backward() -> None:
    """`Vt0` is frozen, so that nobody needs x (tokens, n): less memory than SORSA, which must keep it."""
    linear = nn.Sequential(nn.Linear(24, 40, bias=False))
    x = torch.randn(1000, 24, requires_grad=True)
    osora, sorsa = (saved_for_backward(t.adapt(linear, target_modules=["0"]), x) for t in (OSORA, SORSA))
    assert osora < 1000 * 4 + 40 * 24 + 3 * 4 * (24 + 40) < 1000 * 24 < sorsa  # h (tokens, r), residual, factors


def test_the_regularizer_leaves_it_alone() -> None:
    with pytest.raises(ValueError, match="no trainable SORSA factors"):
        orthonormality_error(OSORA.adapt(Net()))


def test_in_the_trainer_under_bf16_autocast(tiny_model: Path, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    model = get_peft_model(model, OsoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))
    ids = list(range(20, 40))
    settings = {
        "per_device_train_batch_size": 4, "max_steps": 8, "learning_rate": 3e-2, "logging_steps": 1, "use_cpu": True,
        "bf16": True, "report_to": "none", "save_strategy": "no", "disable_tqdm": True,
    }  # fmt: skip
    arguments = TrainingArguments(output_dir=str(tmp_path), **settings)
    trainer = Trainer(model, arguments, train_dataset=[{"input_ids": ids, "labels": ids}] * 32)
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert len(losses) == 8 and losses[-1] < 0.9 * losses[0]
    model = trainer.accelerator.unwrap_model(model, keep_fp32_wrapper=False)  # without the Trainer's autocast
    expected = model(input_ids=torch.tensor([ids])).logits
    model.save_pretrained(tmp_path / "adapter")
    base = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    loaded = PeftModel.from_pretrained(base, tmp_path / "adapter")
    assert torch.equal(loaded(input_ids=torch.tensor([ids])).logits, expected)
    merged = loaded.merge_and_unload()(input_ids=torch.tensor([ids])).logits
    torch.testing.assert_close(merged, expected, rtol=1e-4, atol=1e-4)
