"""OSoRA: `W = Wr + diag(o) U diag(s) Vt` with trainable o and s only (`sorsa.adapters.osora_layer`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sorsa.methods import LORA_SETTINGS, Method

if TYPE_CHECKING:
    from sorsa import OsoraConfig
    from sorsa.config import RunConfig


def peft_config(config: RunConfig, steps: int | None) -> OsoraConfig:
    """Return the adapter configuration of a run; raises ValueError for values OsoraConfig refuses."""
    from sorsa import OsoraConfig

    return OsoraConfig(
        task_type="CAUSAL_LM",
        r=config.rank,
        alpha=config.alpha,
        dropout=config.dropout,
        target_modules=config.target_modules,
        exclude_modules=config.exclude_modules,
        rank_pattern=dict(config.rank_pattern),
        decomposition=config.decomposition,
        svd_cache=config.svd_cache_path,
        train=config.osora_train,
    )


METHOD = Method(settings=LORA_SETTINGS | {"decomposition", "svd_cache_path", "osora_train"}, peft_config=peft_config)
