"""Memory of a training step, without a formula: the real adapted model computes on tensors that have no data.

PyTorch's FakeTensorMode runs forward and backward with shapes and types only. Every storage that comes into being is
counted until it is freed, as an allocator would. The model is cut to its first two layers, then to one; the difference
is the share of each further layer, because all layers of a decoder are alike.
"""

from __future__ import annotations

import collections
import contextlib
import copy
import dataclasses
import warnings
import weakref
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from sorsa.adapters.residual_layer import ResidualLinear

WEIGHT_COPIES, LOGITS, ACTIVATIONS = "weight_copies", "logits", "activations"
KINDS = (ACTIVATIONS, WEIGHT_COPIES, LOGITS)
Bytes = dict[str, int]  # kind of memory -> bytes


@dataclasses.dataclass(frozen=True)
class StepMemory:
    """Bytes of one forward and backward pass, beyond weights, adapter and gradients."""

    kept: Bytes
    """Between forward and backward, by kind: `activations`, `weight_copies` (weights cast to the compute type, kept
    for backward), `logits` (whatever has the vocabulary as its last dimension)."""
    peak: Bytes
    """At the moment of the highest sum, by kind; temporary tensors included."""
    residuals: int
    """What stays in memory from step to step: SORSA's and OSoRA's residuals in the compute type."""

    def extrapolated(self, fewer: StepMemory, layers: int) -> StepMemory:
        """Return the memory with `layers` more layers, if `fewer` is that with one layer less than this one."""
        grow = {f: {k: getattr(self, f)[k] - getattr(fewer, f)[k] for k in KINDS} for f in ("kept", "peak")}
        kept, peak = ({k: getattr(self, f)[k] + layers * grow[f][k] for k in KINDS} for f in ("kept", "peak"))
        return StepMemory(kept, peak, self.residuals + layers * (self.residuals - fewer.residuals))


class StorageCounter(TorchDispatchMode):
    """Counts the bytes of the storages that operations create, until they are freed.

    Args:
        weights: The model's own tensors: not counted; their casts to another type count as `weight_copies`.
        vocabulary: Size of the last dimension of what counts as `logits`.
    """

    def __init__(self, weights: list[Tensor], vocabulary: int) -> None:
        super().__init__()
        self.weights = {weight.untyped_storage()._cdata for weight in weights}
        self.vocabulary = vocabulary
        self.seen = WeakIdKeyDictionary()
        self.start()

    def start(self) -> None:
        """Begin anew: what is alive now is no longer counted, not even when it is freed."""
        self.generation = object()
        self.live: collections.Counter[str] = collections.Counter(dict.fromkeys(KINDS, 0))
        self.peak = dict(self.live)

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        """Run one operation and note the storages it made."""
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._note(tensor, func, args)
        return result

    def _note(self, tensor: Tensor, func: Any, args: tuple) -> None:
        storage = tensor.untyped_storage()
        if storage in self.seen or storage._cdata in self.weights:
            return
        self.seen[storage] = None
        kind = self._kind(tensor, func, args)
        self.live[kind] += storage.nbytes()
        weakref.finalize(storage, self._freed, kind, storage.nbytes(), self.generation)
        if self.live.total() > sum(self.peak.values()):
            self.peak = dict(self.live)

    def _freed(self, kind: str, size: int, generation: object) -> None:
        if generation is self.generation:
            self.live[kind] -= size

    def _kind(self, tensor: Tensor, func: Any, args: tuple) -> str:
        if func is torch.ops.aten._to_copy.default and args[0].untyped_storage()._cdata in self.weights:
            return WEIGHT_COPIES
        return LOGITS if tensor.dim() > 1 and tensor.shape[-1] == self.vocabulary else ACTIVATIONS


def trace_step(model: nn.Module, batch: tuple[int, int], dtype: torch.dtype) -> dict[bool, StepMemory]:
    """Count the memory of one training step; gradients are already there, as after a first micro-batch.

    Args:
        model: The adapted model on the meta device.
        batch: Samples and tokens of each, (B, T). The attention mask is counted as for a batch with some padding.
        dtype: Compute type of autocast; FP32 means none.

    Returns:
        The memory without and with gradient checkpointing, keyed by that.
    """
    layers = _layers(model)
    whole = list(layers)
    traced = []
    for count in (1, 2)[: len(whole)]:
        del layers[:]
        layers.extend(whole[:count])
        part = copy.deepcopy(model)
        layers.extend(whole[count:])
        traced.append(_trace(part, batch, dtype))
    fewer, more = traced[0], traced[-1]
    return {key: more[key].extrapolated(fewer[key], len(whole) - len(traced)) for key in (False, True)}


def _layers(model: nn.Module) -> nn.ModuleList:
    """Return the decoder's layers: the module list that holds most of the parameters."""
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    return max(lists, key=lambda module: sum(tensor.numel() for tensor in module.parameters()))


def _trace(model: nn.Module, batch: tuple[int, int], dtype: torch.dtype) -> dict[bool, StepMemory]:
    """Run a model of the meta device, cut to few layers, on tensors without data."""
    with FakeTensorMode(allow_non_fake_inputs=True), _expected_warnings():
        model.to_empty(device="cpu").train()
        model.load_state_dict(model.state_dict())  # SORSA's layers refuse to run before their factors have come
        model.config.use_cache = False  # as the Trainer sets it
        ids = torch.zeros(batch, dtype=torch.long)
        counter = StorageCounter([*model.parameters(), *model.buffers()], model.config.vocab_size)
        with counter:
            if any(isinstance(module, ResidualLinear) for module in model.modules()):
                with torch.no_grad():
                    _loss(model, ids, dtype)  # makes the residuals, which then stay
            residuals = counter.live.total()
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.grad = torch.zeros_like(parameter)
            traced = {False: _step(model, ids, dtype, counter, residuals)}
            model.gradient_checkpointing_enable({"use_reentrant": False})
            return traced | {True: _step(model, ids, dtype, counter, residuals)}


def _step(model: nn.Module, ids: Tensor, dtype: torch.dtype, counter: StorageCounter, residuals: int) -> StepMemory:
    counter.start()
    loss = _loss(model, ids, dtype)
    kept = dict(counter.live)
    loss.backward()
    return StepMemory(kept, counter.peak, residuals)


def _loss(model: nn.Module, ids: Tensor, dtype: torch.dtype) -> Tensor:
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        return model(input_ids=ids, attention_mask=torch.ones_like(ids), labels=ids).loss


@contextlib.contextmanager
def _expected_warnings() -> Iterator[None]:
    """Hide what is said about tensors without data, and PEFT's use of a name that transformers has renamed."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Accessing the data pointer of FakeTensor")
        warnings.filterwarnings("ignore", message=".*gradient_checkpointing.* is deprecated", category=FutureWarning)
        yield
