"""The registry of methods: what each takes over from a run's settings, and which settings it has."""

from __future__ import annotations

from typing import Any

import pytest

from sorsa.config import RunConfig
from sorsa.errors import UsageError
from sorsa.methods import METHODS, build_peft_config, find_method, lacks

ADAPTERS = [name for name in METHODS if find_method(name).peft_config]


def config(**changes: Any) -> RunConfig:
    """Return settings with rank 4 and a few other values that every method has to take over."""
    fields = {"name": "x", "model": "m", "rank": 4, "dropout": 0.1, "target_modules": ["q_proj"]}
    return RunConfig(**(fields | {"exclude_modules": ["lm_head"], "rank_pattern": {"q_proj": 2}} | changes))


@pytest.mark.parametrize("method", ADAPTERS)
def test_every_adapter_takes_the_settings_over(method: str) -> None:
    built = build_peft_config(config(peft=method))
    rank = built.target_r if method == "adalora" else built.r
    dropout = next(v for k, v in vars(built).items() if k.endswith("dropout"))
    assert (rank, dropout, set(built.target_modules), built.task_type) == (4, 0.1, {"q_proj"}, "CAUSAL_LM")
    if not lacks(method, "rank_pattern"):
        assert built.rank_pattern == {"q_proj": 2}
    if not lacks(method, "exclude_modules"):
        assert set(built.exclude_modules) == {"lm_head"}


def test_methods_of_the_lora_family_differ_in_one_field() -> None:
    variants = {name: build_peft_config(config(peft=name)) for name in ("lora", "dora", "olora", "pissa")}
    assert [variants[name].use_dora for name in variants] == [False, True, False, False]
    assert [variants[name].init_lora_weights for name in variants] == [True, True, "olora", "pissa_niter_16"]
    assert build_peft_config(config(peft="pissa", decomposition="exact")).init_lora_weights == "pissa"


def test_lora_is_unscaled_by_default_as_in_the_pissa_paper() -> None:
    plain = build_peft_config(config(peft="lora"))
    assert (plain.lora_alpha, plain.alpha_pattern, plain.lora_dropout) == (4, {"q_proj": 2}, 0.1)
    scaled = build_peft_config(config(peft="lora", alpha=8.0))
    assert (scaled.lora_alpha, scaled.alpha_pattern) == (8.0, {})


def test_adaloras_schedule_and_regularizer(monkeypatch: pytest.MonkeyPatch) -> None:
    built = build_peft_config(config(peft="adalora", init_rank=6, t_init=2, t_final=3, accum_steps=64), 10)
    assert (built.init_r, built.target_r, built.tinit, built.tfinal, built.total_step) == (6, 4, 2, 3, 10)
    assert (built.beta1, built.beta2, built.lora_alpha) == (0.85, 0.85, 6)
    assert built.orth_reg_weight == 0.5 / 64  # the Trainer adds 64 losses up in a step
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert build_peft_config(config(peft="adalora", accum_steps=16)).orth_reg_weight == 0.5 / 64


def test_osora_can_train_s_or_o_alone() -> None:
    assert [build_peft_config(config(peft="osora", osora_train=w)).train for w in ("both", "s", "o")] == [
        "both",
        "s",
        "o",
    ]


def test_an_unknown_method() -> None:
    with pytest.raises(UsageError, match=r"peft = 'lroa': unknown method. Did you mean 'lora'\? Known: adalora, dora"):
        build_peft_config(config(peft="lroa"))


@pytest.mark.parametrize(
    ("setting", "owners"),
    [
        ("gamma", {"sorsa"}), ("t_final", {"adalora"}), ("osora_train", {"osora"}), ("lr", set(METHODS)),
        ("rank", set(METHODS) - {"full", "partial"}), ("target_modules", set(METHODS) - {"full"}),
        ("decomposition", {"sorsa", "osora", "pissa"}), ("peft", set(METHODS)),
    ],
)  # fmt: skip
def test_which_methods_have_a_setting(setting: str, owners: set[str]) -> None:
    assert {method for method in METHODS if not lacks(method, setting)} == owners
