"""T, warm-up, learning rate and tokens of a plan."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sorsa.config_files import load_config
from sorsa.errors import UsageError
from sorsa.planning.schedule import count_samples, plan_schedule


@pytest.mark.parametrize(("run", "peak"), [("llama2_sorsa_r128", 3e-5), ("rwkv6_lora_r64", 2e-5)])
def test_the_papers_runs(run: str, peak: float) -> None:
    schedule = plan_schedule(load_config(run, "plan", {}))
    assert schedule["optimizer_steps"] == 781 == 100_000 // 128
    assert schedule["warmup_steps"] == 24 == math.ceil(0.03 * 781)
    assert schedule["save_steps"] == 157
    assert schedule["tokens"] == {"at_most": 781 * 128 * 512, "expected": None}
    assert schedule["samples"] == {"rows": 100_000, "exact": False}
    steps = {name: point["step"] for name, point in schedule["learning_rate"].items()}
    assert steps == {"start": 0, "warmup_end": 24, "half": 390, "end": 781}
    for point in schedule["learning_rate"].values():
        k = point["step"]
        cosine = peak * (1 + math.cos(math.pi * (k - 24) / (781 - 24))) / 2
        assert point["value"] == pytest.approx(peak * k / 24 if k < 24 else cosine, abs=1e-18)


def test_another_scheduler(tiny_config: Callable[..., Any]) -> None:
    rates = plan_schedule(tiny_config(scheduler="linear", warmup=0.0, lr=1e-3))["learning_rate"]
    assert [point["value"] for point in rates.values()] == pytest.approx([1e-3, 1e-3, 5e-4, 0])


def test_a_local_file_is_counted_as_training_counts_it(tiny_config: Callable[..., Any]) -> None:
    from sorsa.data import load_training_set
    from sorsa.models import load_tokenizer

    config = tiny_config()
    schedule = plan_schedule(config)
    counts = load_training_set(config, load_tokenizer(config))[1]
    assert schedule["samples"] == {"rows": 25, "exact": True}
    assert schedule["optimizer_steps"] == 6
    assert schedule["tokens"]["expected"] == round(24 * counts.tokens / 25) < schedule["tokens"]["at_most"]


def test_rows_are_counted_without_a_tokenizer(tiny_config: Callable[..., Any]) -> None:
    config = tiny_config(tokenizer="org/not-here", split="[3:20]")
    assert count_samples(config).rows == 17
    assert count_samples(config).tokens is None


def test_a_large_file_is_not_tokenised(tiny_config: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sorsa.planning.schedule.TOKENISED_AT_ONCE", 10)
    assert count_samples(tiny_config()).tokens is None


def test_a_plan_for_a_gpu_needs_none(tiny_config: Callable[..., Any]) -> None:
    assert plan_schedule(tiny_config(mix_precision=["fp16"]))["optimizer_steps"] == 6


def test_too_few_rows(tiny_config: Callable[..., Any]) -> None:
    with pytest.raises(UsageError, match=r"25 samples x 1 epochs do not fill one global batch of 128"):
        plan_schedule(tiny_config(accum_steps=64))


def test_an_open_split_of_a_hub_data_set_must_be_counted(tiny_config: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"train_dataset = 'metamath': cannot get meta-math/MetaMathQA"):
        plan_schedule(tiny_config(train_dataset="metamath"))
