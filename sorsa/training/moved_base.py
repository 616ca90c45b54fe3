"""PiSSA and OLoRA without their trap: PEFT takes the adapter's start out of the base weights and tells nobody.

`W0` becomes `W0 - B0 A0` in memory, so the saved `B A` belongs to weights that exist nowhere on disk: loaded on the
base model it is another function, and loading it as PEFT's own configuration says decomposes anew, with other results
on another machine. So the start is kept beside the run, a resumed run begins from it without decomposing, and what is
saved in the end is `B A - B0 A0`, an ordinary LoRA of rank 2r for the untouched base model.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer

from sorsa.adapters.precision import full_fp32
from sorsa.files import whole_directory

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def keep_start(model: PeftModel, directory: Path) -> None:
    """Write the adapter's start `B0`, `A0` as a LoRA adapter, before the first step.

    Args:
        model: The freshly adapted model. Its configuration is changed to say that nothing is to be decomposed.
        directory: Where to write.
    """
    model.peft_config[model.active_adapter].init_lora_weights = True
    with whole_directory(directory, replace=True) as folder:
        model.save_pretrained(str(folder), save_embedding_layers=False)


@torch.no_grad()
def from_start(base: PreTrainedModel, directory: Path) -> PeftModel:
    """Adapt `base` as it was when `keep_start` wrote `directory`: adapter `B0 A0`, base weights `W0 - B0 A0`.

    Args:
        base: The untouched base model; its adapted weights are changed in place.
        directory: What `keep_start` wrote.
    """
    model = PeftModel.from_pretrained(base, str(directory), is_trainable=True)
    for layer in model.modules():
        if isinstance(layer, LoraLayer):
            weight = layer.get_base_layer().weight
            with full_fp32(weight.device.type):
                weight -= layer.get_delta_weight(model.active_adapter).to(weight.dtype)
    return model


def save_as_lora(model: PeftModel, start: Path, directory: Path) -> None:
    """Write the trained adapter as a LoRA of rank 2r that has the same function on the untouched base model.

    Args:
        model: The trained model.
        start: What `keep_start` wrote.
        directory: Where to write; must exist.
    """
    model.save_pretrained(
        str(directory), save_embedding_layers=False, path_initial_model_for_weight_conversion=str(start)
    )
