"""The registry of methods, and LoRA's settings."""

from __future__ import annotations

from typing import Any

import pytest

from sorsa.config import RunConfig
from sorsa.errors import UsageError
from sorsa.methods import METHODS, build_peft_config


def config(**changes: Any) -> RunConfig:
    """Return settings with rank 4 and a few other values that every method has to take over."""
    fields = {"name": "x", "model": "m", "rank": 4, "dropout": 0.1, "target_modules": ["q_proj"]}
    return RunConfig(**(fields | {"exclude_modules": ["lm_head"], "rank_pattern": {"q_proj": 2}} | changes))


@pytest.mark.parametrize("method", METHODS)
def test_every_method_takes_the_settings_over(method: str) -> None:
    built = build_peft_config(config(peft=method))
    assert (built.r, set(built.target_modules), built.rank_pattern) == (4, {"q_proj"}, {"q_proj": 2})
    assert set(built.exclude_modules) == {"lm_head"}
    assert built.peft_type.value.lower() == method
    assert built.task_type == "CAUSAL_LM"


def test_lora_is_unscaled_by_default_as_in_the_pissa_paper() -> None:
    plain = build_peft_config(config(peft="lora"))
    assert (plain.lora_alpha, plain.alpha_pattern, plain.lora_dropout) == (4, {"q_proj": 2}, 0.1)
    scaled = build_peft_config(config(peft="lora", alpha=8.0))
    assert (scaled.lora_alpha, scaled.alpha_pattern) == (8.0, {})


def test_an_unknown_method() -> None:
    with pytest.raises(UsageError, match=r"peft = 'lroa': unknown method. Did you mean 'lora'\? Known: lora, sorsa"):
        build_peft_config(config(peft="lroa"))
