"""PiSSA (arXiv 2404.02948) as PEFT implements it: LoRA that starts from the top singular triplets of the weight."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sorsa.methods import LORA_SETTINGS, Method, lora_settings

if TYPE_CHECKING:
    import peft

    from sorsa.config import RunConfig

# 16 subspace iterations: what the PiSSA paper found to be as good as the exact SVD, in a fraction of its time
INITIALISATIONS = {"exact": "pissa", "randomized": "pissa_niter_16"}


def peft_config(config: RunConfig, steps: int | None) -> peft.LoraConfig:
    """Return PEFT's LoRA configuration that starts from the singular triplets."""
    import peft

    return peft.LoraConfig(**lora_settings(config), init_lora_weights=INITIALISATIONS[config.decomposition])


METHOD = Method(settings=LORA_SETTINGS | {"decomposition"}, peft_config=peft_config, moves_base=True)
