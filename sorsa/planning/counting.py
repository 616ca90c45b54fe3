"""Which parameters a run trains, per kind of matrix, and the bytes it leaves on disk (the paper's column TPara)."""

from __future__ import annotations

import collections
import dataclasses
from typing import TYPE_CHECKING

import torch
from peft import PeftModel, get_peft_model, get_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from sorsa.methods import build_peft_config, find_method
from sorsa.models import is_rwkv6
from sorsa.training.adapter import adapt, check_adapter, parameter_counts

if TYPE_CHECKING:
    from collections.abc import Iterable

    from transformers import PreTrainedModel

    from sorsa.config import RunConfig


def adapt_skeleton(skeleton: PreTrainedModel, config: RunConfig, steps: int) -> nn.Module:
    """Put the run's adapter on a model without weights, or choose the weights that it trains.

    Args:
        skeleton: The base model on the meta device.
        config: The run's settings.
        steps: Optimizer steps T, which AdaLoRA's schedule has to fit.

    Raises:
        UsageError: As `sorsa.training.adapter.adapt`.
    """
    method = find_method(config.peft)
    if method.peft_config is None:
        return adapt(skeleton, config)
    check_adapter(skeleton, config)
    peft_config = build_peft_config(config, steps)
    if method.moves_base:
        peft_config.init_lora_weights = True  # their own start needs the weights; all shapes are LoRA's
    with torch.device("meta"):
        return get_peft_model(skeleton, peft_config)


@dataclasses.dataclass(frozen=True)
class Counts:
    """Sizes of one adapted model; numbers of parameters, and bytes."""

    trainable: int
    total: int
    by_kind: dict[str, int]
    """Trainable parameters by the last part of their module's name (`q_proj`), in the model's order."""
    base_bytes: int
    """Parameters and buffers of the base model."""
    adapter_bytes: int
    """Parameters of the adapter."""
    frozen_adapter_bytes: int
    """Buffers of the adapter: SORSA's and OSoRA's initial factors, VeRA's shared matrices."""
    trainable_bytes: int
    extra_bytes: int
    """What the method keeps beside AdamW's state: AdaLoRA's allocator."""
    saved_bytes: int
    """What training leaves in `adapter/`, without the tokenizer."""
    start_bytes: int
    """What PiSSA and OLoRA keep in `start/`."""
    checkpoint_bytes: int
    """Two checkpoints: weights or adapter, AdamW's moments, the allocator's averages."""
    merged_bytes: int
    """What merging writes: the base model's parameters, FP32."""

    @classmethod
    def of(cls, model: nn.Module, config: RunConfig) -> Counts:
        """Count an adapted model, on the meta device or any other.

        Args:
            model: What `adapt_skeleton` returned.
            config: The run's settings; `peft` is read.
        """
        method = find_method(config.peft)
        trainable, total = parameter_counts(model)
        trained = [tensor for tensor in model.parameters() if tensor.requires_grad]
        own = _adapter_names(model)
        parameters, buffers = dict(model.named_parameters()), dict(model.named_buffers())
        base = [tensor for name, tensor in parameters.items() if name not in own]
        if isinstance(model, PeftModel):
            saved = list(get_peft_model_state_dict(model, save_embedding_layers=False).values())
        else:
            saved = trained
        # AdaLoRA's is saved in its final size; PiSSA and OLoRA as LoRA of rank 2r (`training.moved_base`)
        final = config.rank / (config.init_rank or config.rank) if isinstance(model, PeftModel) else 1
        extra = method.extra_copies * _bytes(trained)
        inside = _bytes(saved) if isinstance(model, PeftModel) else _bytes(base)
        return cls(
            trainable=trainable,
            total=total,
            by_kind=_by_kind(model),
            base_bytes=_bytes(base) + _bytes(tensor for name, tensor in buffers.items() if name not in own),
            adapter_bytes=_bytes(tensor for name, tensor in parameters.items() if name in own),
            frozen_adapter_bytes=_bytes(tensor for name, tensor in buffers.items() if name in own),
            trainable_bytes=_bytes(trained),
            extra_bytes=extra,
            saved_bytes=round(_bytes(saved) * final) * (2 if method.moves_base else 1),
            start_bytes=_bytes(saved) if method.moves_base else 0,
            checkpoint_bytes=2 * (inside + 2 * _bytes(trained) + extra * 2 // 3),
            merged_bytes=_bytes(base) * (2 if is_rwkv6(model.config) else 1),  # once more for the rwkv runtime
        )


def _tuner_layers(model: nn.Module) -> set[str]:
    """Return the names of the modules that PEFT has put around adapted ones."""
    return {name for name, module in model.named_modules() if isinstance(module, BaseTunerLayer)}


def _split(name: str, layers: set[str]) -> tuple[str, str] | None:
    """Return a tensor's adapted module and its name inside of that; None for a tensor outside of all of them."""
    parts = name.split(".")
    for end in range(1, len(parts)):
        if (layer := ".".join(parts[:end])) in layers:
            return layer, ".".join(parts[end:])
    return None


def _adapter_names(model: nn.Module) -> set[str]:
    """Return the names of an adapter's parameters and buffers, none for a model without adapter."""
    if not isinstance(model, PeftModel):
        return set()
    layers = _tuner_layers(model)
    names = set()
    for name, _ in [*model.named_parameters(), *model.named_buffers()]:
        place = _split(name, layers)
        shared = place is None and not name.startswith("base_model.model.")  # VeRA's matrices for all layers
        if shared or (place is not None and not place[1].startswith("base_layer.")):
            names.add(name)
    return names


def _by_kind(model: nn.Module) -> dict[str, int]:
    """Return the trainable parameters by the last part of the name of the module that they belong to."""
    sizes: dict[str, int] = collections.defaultdict(int)
    layers = _tuner_layers(model)
    for name, tensor in model.named_parameters():
        if not tensor.requires_grad:
            continue
        place, parts = _split(name, layers), name.split(".")
        if place is not None:
            kind = place[0].rsplit(".", 1)[-1]
        else:  # RWKV6 also has ...attention.time_decay, a matrix of its own
            kind = parts[-2] if parts[-1] in ("weight", "bias") else parts[-1]
        sizes[kind] += tensor.numel()
    return dict(sizes)


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
