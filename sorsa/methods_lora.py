"""LoRA as PEFT implements it, with the settings of the PiSSA paper's LoRA rows: alpha = rank, no dropout."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import peft

    from sorsa.config import RunConfig


def lora_config(config: RunConfig) -> peft.LoraConfig:
    """Return PEFT's LoRA configuration.

    Args:
        config: The run's settings. Without `alpha` the adapter is unscaled (alpha = rank), as SORSA's is.
    """
    import peft

    return peft.LoraConfig(
        r=config.rank,
        lora_alpha=config.rank if config.alpha is None else config.alpha,
        lora_dropout=config.dropout,
        target_modules=config.target_modules,
        exclude_modules=config.exclude_modules,
        rank_pattern=dict(config.rank_pattern),
        # with another rank, alpha must follow it or that module alone would be rescaled
        alpha_pattern=dict(config.rank_pattern) if config.alpha is None else {},
        task_type="CAUSAL_LM",
    )
