"""OSoRA: `W = Wr + diag(o) U diag(s) Vt` with trainable o and s only (`sorsa.adapters.osora_layer`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sorsa.methods import RESIDUAL_SETTINGS, Method, residual_settings

if TYPE_CHECKING:
    from sorsa import OsoraConfig
    from sorsa.config import RunConfig


def peft_config(config: RunConfig, steps: int | None) -> OsoraConfig:
    """Return the adapter configuration of a run; raises ValueError for values OsoraConfig refuses."""
    from sorsa import OsoraConfig

    return OsoraConfig(**residual_settings(config), train=config.osora_train)


METHOD = Method(settings=RESIDUAL_SETTINGS | {"osora_train"}, peft_config=peft_config)
