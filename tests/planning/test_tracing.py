"""The traced memory of a step, against the real model's saved tensors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sorsa.models import load_base_model
from sorsa.planning.architectures import build_skeleton
from sorsa.planning.counting import adapt_skeleton
from sorsa.planning.tracing import KINDS, StepMemory, StorageCounter, trace_step
from sorsa.training.adapter import adapt

DEMO = str(Path(__file__).resolve().parents[2] / "sorsa" / "demo" / "model")
BATCH = (4, 64)


def loss_of(model: nn.Module, ids: Tensor) -> Tensor:
    mask = torch.ones_like(ids)
    mask[0, -1] = 0  # with some padding, which transformers must not optimise away
    with torch.autocast("cpu", torch.bfloat16):
        return model(input_ids=ids, attention_mask=mask, labels=ids).loss


def really_saved(model: nn.Module, ids: Tensor) -> int:
    """Return the bytes that the real model keeps for backward, without its own tensors and SORSA's residuals."""
    with torch.no_grad():
        loss_of(model, ids)
    own = [*model.parameters(), *model.buffers()]
    own += [m._residual_cache[1] for m in model.modules() if getattr(m, "_residual_cache", None)]
    known = {tensor.untyped_storage().data_ptr() for tensor in own}
    saved: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = loss_of(model, ids)
    assert loss.requires_grad
    return sum(saved.values())


@pytest.mark.parametrize("method", ["sorsa", "lora", "full"])
def test_a_trace_is_what_the_demo_model_saves(tiny_config: Callable[..., Any], method: str) -> None:
    """Four layers, extrapolated from two; the real model runs all four."""
    config = tiny_config(model=DEMO, peft=method, rank=16)
    traced = trace_step(adapt_skeleton(build_skeleton(config), config, 781), BATCH, torch.bfloat16)
    model = adapt(load_base_model(config, torch.float32), config).train()
    model.config.use_cache = False
    real = really_saved(model, torch.zeros(BATCH, dtype=torch.long))
    assert sum(traced[False].kept.values()) == pytest.approx(real, rel=2e-3)
    assert sum(traced[True].peak.values()) < sum(traced[False].peak.values())
    assert traced[False].kept["logits"] == 4 * 4 * 63 * 768 + 4 * 4 * 768  # the loss shifts: every row but padding
    matrices = 4 * (4 * 256 * 256 + 3 * 256 * 704)
    assert traced[False].residuals == (2 * matrices if method == "sorsa" else 0)


def test_lora_keeps_a_copy_of_the_weights(tiny_config: Callable[..., Any]) -> None:
    """Autocast casts frozen FP32 weights anew in every forward pass, and backward needs them.

    Not those that the frozen embeddings feed: nothing in front of the first layer's q_proj, k_proj, v_proj is trained.
    """
    config = tiny_config(model=DEMO, peft="lora", rank=16)
    model = adapt_skeleton(build_skeleton(config), config, 781)
    factors = sum(tensor.numel() for tensor in model.parameters() if tensor.requires_grad) - 3 * 16 * 256
    matrices, head = 4 * (4 * 256 * 256 + 3 * 256 * 704) - 3 * 256 * 256, 768 * 256
    assert trace_step(model, BATCH, torch.bfloat16)[False].kept["weight_copies"] == 2 * (matrices + head + factors)
    assert trace_step(model, BATCH, torch.float32)[False].kept["weight_copies"] == 0


def test_the_model_is_left_as_it_was(tiny_config: Callable[..., Any]) -> None:
    config = tiny_config(model=DEMO, peft="lora", rank=16)
    model = adapt_skeleton(build_skeleton(config), config, 781)
    before = {name: tensor.shape for name, tensor in model.named_parameters()}
    trace_step(model, BATCH, torch.float32)
    assert {name: tensor.shape for name, tensor in model.named_parameters()} == before
    assert all(tensor.is_meta for tensor in model.parameters())


def test_storages_are_counted_until_they_are_freed() -> None:
    weight = torch.ones(10, 10)
    counter = StorageCounter([weight], vocabulary=7)
    with counter:
        kept = weight * 2
        view, copy, logits = kept.T, weight.to(torch.float16), torch.zeros(3, 7)
        weight.mul_(1)
        assert dict(counter.live) == {"activations": 400, "weight_copies": 200, "logits": 84}
        del kept
        assert counter.live["activations"] == 400  # the view holds it
        del view, logits
        assert dict(counter.live) == {"activations": 0, "weight_copies": 200, "logits": 0}
        assert sum(counter.peak.values()) == 684
        counter.start()
        del copy
        assert counter.live.total() == 0


def test_extrapolation() -> None:
    def memory(size: int) -> StepMemory:
        values = dict.fromkeys(KINDS, size)
        return StepMemory(values, {key: 2 * size for key in KINDS}, 10 * size)

    more = memory(5).extrapolated(memory(3), layers=10)
    assert more.kept["activations"] == 5 + 10 * 2
    assert more.peak["logits"] == 10 + 10 * 4
    assert more.residuals == 50 + 10 * 20
