"""LoRA (arXiv 2106.09685) as PEFT implements it; set up as in the PiSSA paper's LoRA rows: alpha = rank, no dropout."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sorsa.methods import LORA_SETTINGS, Method, lora_settings

if TYPE_CHECKING:
    import peft

    from sorsa.config import RunConfig


def peft_config(config: RunConfig, steps: int | None) -> peft.LoraConfig:
    """Return PEFT's LoRA configuration."""
    import peft

    return peft.LoraConfig(**lora_settings(config))


METHOD = Method(settings=LORA_SETTINGS, peft_config=peft_config)
