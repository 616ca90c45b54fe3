"""SORSA: trainable top singular triplets, frozen residual, orthonormal regularizer (`sorsa.adapters`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sorsa.methods import RESIDUAL_SETTINGS, Method, residual_settings

if TYPE_CHECKING:
    from transformers import TrainerCallback

    from sorsa.adapters.config import SorsaConfig
    from sorsa.config import RunConfig


def peft_config(config: RunConfig, steps: int | None) -> SorsaConfig:
    """Return the adapter configuration of a run; raises ValueError for values SorsaConfig refuses."""
    from sorsa import SorsaConfig

    return SorsaConfig(**residual_settings(config))


def callbacks(config: RunConfig) -> list[TrainerCallback]:
    """Return the regularizer of Eq. (3)."""
    from sorsa import OrthonormalCallback

    return [OrthonormalCallback(gamma=config.gamma, form=config.regularizer_form, scaling=config.regularizer_scaling)]


METHOD = Method(
    settings=RESIDUAL_SETTINGS | {"gamma", "regularizer_form", "regularizer_scaling"},
    peft_config=peft_config,
    callbacks=callbacks,
)
