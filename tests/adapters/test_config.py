"""`SorsaConfig` and `OsoraConfig`: what they refuse, and what a saved one says."""

from __future__ import annotations

from pathlib import Path

import pytest

from sorsa import OsoraConfig

from .conftest import Tuner


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"r": 0}, "rank r must be at least 1, got 0"),
        ({"r": -3}, "rank r must be at least 1, got -3"),
        ({"rank_pattern": {"last": 0}}, "rank last must be at least 1, got 0"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\), got 1.0"),
        ({"alpha": 0.0}, "alpha must be positive or None, got 0.0"),
        ({"decomposition": "qr"}, "decomposition must be 'exact' or 'randomized', got 'qr'"),
    ],
)
def test_bad_config(tuner: Tuner, options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tuner.config(**options)


def test_bad_rank_type(tuner: Tuner) -> None:
    with pytest.raises(TypeError, match=r"rank r must be an integer, got 2\.5"):
        tuner.config(r=2.5)


def test_bad_train() -> None:
    with pytest.raises(ValueError, match=r"train must be 'both', 's' or 'o', got 'U'"):
        OsoraConfig(train="U")


@pytest.mark.parametrize("train", ["both", "s", "o"])
def test_what_is_trained_is_saved(tmp_path: Path, train: str) -> None:
    OsoraConfig(train=train).save_pretrained(tmp_path)
    assert OsoraConfig.from_pretrained(tmp_path).train == train
