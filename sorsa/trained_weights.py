"""Full and partial fine-tuning on disk: the trained weights themselves, in place of an adapter.

trained_weights*.safetensors   the trained tensors, FP32, in shards
probes.safetensors             a sample of each before training, which tells a wrong base model
trained_weights.json           the names of the tensors, and the base model
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from sorsa.adapters.fingerprint import probe, same_base
from sorsa.files import write_json

if TYPE_CHECKING:
    from transformers import PreTrainedModel

INDEX, PROBES = "trained_weights.json", "probes.safetensors"


def probes(model: nn.Module) -> dict[str, Tensor]:
    """Return a sample of each trainable parameter by name; to be taken before training."""
    return {name: probe(tensor).cpu() for name, tensor in model.named_parameters() if tensor.requires_grad}


def save_weights(state: Mapping[str, Tensor], before: Mapping[str, Tensor], base: str | None, directory: Path) -> None:
    """Write the trained weights to an existing directory.

    Args:
        state: The model's whole state, gathered from all processes.
        before: What `probes` returned before training: its names are the trained tensors'.
        base: Name or path of the base model, for messages.
        directory: Where to write.
    """
    from huggingface_hub import save_torch_state_dict
    from safetensors.torch import save_file

    trained = {name: state[name] for name in before}
    save_torch_state_dict(trained, directory, filename_pattern="trained_weights{suffix}.safetensors")
    save_file(dict(before), directory / PROBES)
    write_json(directory / INDEX, {"base_model": base, "tensors": sorted(before)})


@torch.no_grad()
def load_weights(base: PreTrainedModel, directory: Path) -> PreTrainedModel:
    """Put trained weights into the base model, in place, and return it.

    Args:
        base: The base model in FP32.
        directory: What `save_weights` wrote.

    Raises:
        ValueError: A tensor is missing, has no place in the model, has another shape, or was trained from others.
    """
    from safetensors import safe_open
    from safetensors.torch import load_file

    index = json.loads((directory / INDEX).read_text(encoding="utf-8"))
    parameters, before = dict(base.named_parameters()), load_file(directory / PROBES)
    missing = set(index["tensors"])
    for file in sorted(directory.glob("trained_weights*.safetensors")):
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118  safe_open has no iterator
                place, value = parameters.get(name), tensors.get_tensor(name)
                if place is None or place.shape != value.shape:
                    raise ValueError(f"no weight {name} of shape {tuple(value.shape)} in {base.name_or_path}")
                if not same_base(before[name], place):
                    raise ValueError(f"{name} was trained from other weights, those of {index['base_model']}")
                place.copy_(value)
                missing.discard(name)
    if missing:
        raise ValueError(f"{len(missing)} trained tensors are missing, the first is {min(missing)}: copy them again")
    return base
