"""Registry of fine-tuning methods: the name after `--peft` to the `Method` that says what is special about it.

To add a method: write a module with a `METHOD = Method(...)`, add one line to `METHODS`. The modules import PEFT and
torch only inside their functions, because the command line and the config checks read them.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sorsa.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    import peft
    from transformers import TrainerCallback

    from sorsa.config import RunConfig

METHODS: dict[str, str] = {
    "sorsa": "sorsa.methods.sorsa",
    "lora": "sorsa.methods.lora",
    "pissa": "sorsa.methods.pissa",
    "adalora": "sorsa.methods.adalora",
    "dora": "sorsa.methods.dora",
    "olora": "sorsa.methods.olora",
    "vera": "sorsa.methods.vera",
    "osora": "sorsa.methods.osora",
    "full": "sorsa.methods.full",
    "partial": "sorsa.methods.partial",
}

MODULE_SETTINGS = frozenset({"target_modules", "exclude_modules"})
LORA_SETTINGS = MODULE_SETTINGS | {"rank", "alpha", "dropout", "rank_pattern"}
RESIDUAL_SETTINGS = LORA_SETTINGS | {"decomposition", "svd_cache_path"}
ADAPTER_GROUPS = frozenset({"adapter", "regularizer"})  # of `--help`: what stands there, not every method has


def no_callbacks(config: RunConfig) -> list[TrainerCallback]:
    """Return what most methods add to the Trainer: nothing."""
    return []


@dataclasses.dataclass(frozen=True, kw_only=True)
class Method:
    """One fine-tuning method.

    Args:
        settings: The settings of RunConfig's adapter and regularizer groups that the method has; another is an error.
        peft_config: From a run's settings and its number of optimizer steps (None: not known yet) to PEFT's
            configuration. None for a method that trains the model's own weights.
        callbacks: From a run's settings to what the method adds to the Trainer.
        rank_within_matrix: Whether the rank is that of a matrix, and so at most its smaller side.
        extra_copies: FP32 copies of the trained tensors that the method keeps in memory beside AdamW's.
        moves_base: Whether PEFT's initialisation takes the adapter's start out of the base weights, so that the
            adapter alone is not what was trained; `sorsa.training.moved_base` mends that.
    """

    settings: frozenset[str]
    peft_config: Callable[[RunConfig, int | None], peft.PeftConfig] | None
    callbacks: Callable[[RunConfig], list[TrainerCallback]] = no_callbacks
    rank_within_matrix: bool = True
    extra_copies: int = 0
    moves_base: bool = False


def lacks(peft: str, setting: str) -> bool:
    """Return whether `setting` is an adapter's or a regularizer's that the (known) method `peft` does not have."""
    from sorsa.config import RunConfig

    groups = {field.name: field.metadata["group"] for field in dataclasses.fields(RunConfig)}
    method_specific = groups.get(setting) in ADAPTER_GROUPS and setting != "peft"
    return method_specific and setting not in find_method(peft).settings


def find_method(name: str) -> Method:
    """Return the method registered under `name`.

    Raises:
        UsageError: The method is unknown.
    """
    if name not in METHODS:
        raise UsageError(f"peft = {name!r}: unknown method.{did_you_mean(name, METHODS)}")
    return importlib.import_module(METHODS[name]).METHOD


def build_peft_config(config: RunConfig, steps: int | None = None) -> peft.PeftConfig:
    """Return the PEFT configuration of a run whose method is an adapter.

    Args:
        config: The run's settings.
        steps: Optimizer steps T of the run; None where only names and shapes matter.

    Raises:
        UsageError: The method is unknown, or its schedule does not fit T.
    """
    return find_method(config.peft).peft_config(config, steps)


def lora_settings(config: RunConfig) -> dict[str, Any]:
    """Return the arguments that all of PEFT's LoRA-like configurations share.

    Args:
        config: The run's settings. Without `alpha` the adapter is unscaled (alpha = rank), as SORSA's is.
    """
    return {
        "r": config.rank,
        "lora_alpha": config.rank if config.alpha is None else config.alpha,
        "lora_dropout": config.dropout,
        "target_modules": config.target_modules,
        "exclude_modules": config.exclude_modules,
        "rank_pattern": dict(config.rank_pattern),
        # with another rank, alpha must follow it or that module alone would be rescaled
        "alpha_pattern": dict(config.rank_pattern) if config.alpha is None else {},
        "task_type": "CAUSAL_LM",
    }


def residual_settings(config: RunConfig) -> dict[str, Any]:
    """Return the arguments that the configurations of our own tuners, SORSA and OSoRA, share.

    Args:
        config: The run's settings.
    """
    return {
        "r": config.rank,
        "alpha": config.alpha,
        "dropout": config.dropout,
        "target_modules": config.target_modules,
        "exclude_modules": config.exclude_modules,
        "rank_pattern": dict(config.rank_pattern),
        "decomposition": config.decomposition,
        "svd_cache": config.svd_cache_path,
        "task_type": "CAUSAL_LM",
    }
