"""OLoRA (arXiv 2406.01775) as PEFT implements it: LoRA that starts from the QR decomposition of the weight."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sorsa.methods import LORA_SETTINGS, Method, lora_settings

if TYPE_CHECKING:
    import peft

    from sorsa.config import RunConfig


def peft_config(config: RunConfig, steps: int | None) -> peft.LoraConfig:
    """Return PEFT's LoRA configuration that starts from Q and R."""
    import peft

    return peft.LoraConfig(**lora_settings(config), init_lora_weights="olora")


METHOD = Method(settings=LORA_SETTINGS, peft_config=peft_config, moves_base=True)
