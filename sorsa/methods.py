"""Registry of fine-tuning methods: the name after `--peft` to the function that makes PEFT's configuration.

To add a method: write `def build(config: RunConfig) -> peft.PeftConfig` in a module of its own, add one line here.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from sorsa.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    import peft

    from sorsa.config import RunConfig

METHODS: dict[str, str] = {
    "sorsa": "sorsa.adapters.build:sorsa_config",
    "lora": "sorsa.methods_lora:lora_config",
}


def build_peft_config(config: RunConfig) -> peft.PeftConfig:
    """Return the PEFT configuration of `config.peft`.

    Args:
        config: The run's settings; `peft`, `rank`, `alpha`, `dropout` and the module lists are read.

    Raises:
        UsageError: The method is unknown.
    """
    if config.peft not in METHODS:
        raise UsageError(f"peft = {config.peft!r}: unknown method.{did_you_mean(config.peft, METHODS)}")
    module, function = METHODS[config.peft].split(":")
    return getattr(importlib.import_module(module), function)(config)
