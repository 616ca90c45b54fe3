"""DoRA (arXiv 2402.09353) as PEFT implements it: LoRA on the direction of each weight row, its length trained apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sorsa.methods import LORA_SETTINGS, Method, lora_settings

if TYPE_CHECKING:
    import peft

    from sorsa.config import RunConfig


def peft_config(config: RunConfig, steps: int | None) -> peft.LoraConfig:
    """Return PEFT's LoRA configuration with DoRA's magnitudes."""
    import peft

    return peft.LoraConfig(**lora_settings(config), use_dora=True)


METHOD = Method(settings=LORA_SETTINGS, peft_config=peft_config)
