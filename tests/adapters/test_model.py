"""The tuners' refusals: layers, ranks and files that cannot be adapted or loaded."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from peft import PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

from .conftest import Net, Tuner


def test_a_file_with_missing_tensors_is_refused(tuner: Tuner, base: Net, tmp_path: Path) -> None:
    tuner.adapt(base).save_pretrained(tmp_path)
    file = tmp_path / "adapter_model.safetensors"
    tensors = load_file(file)
    del tensors[f"base_model.model.last.{tuner.prefix}{tuner.trained[0]}"]
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(
        ValueError, match=rf"file lacks 1 tensors, the first is .*last\.{tuner.prefix}{tuner.trained[0]}\."
    ):
        PeftModel.from_pretrained(copy.deepcopy(base), tmp_path)


def test_fp8_weights_are_refused(tuner: Tuner) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(4, 4)).to(torch.float8_e4m3fn)
    with pytest.raises(TypeError, match="weights of 16 bits or more; 0 is Linear"):
        get_peft_model(model, tuner.config(target_modules=["0"]))


def test_rank_above_the_smaller_side(tuner: Tuner) -> None:
    with pytest.raises(ValueError, match=r"first: rank 25 exceeds the smaller side of a weight \(40, 24\): at most 24"):
        tuner.adapt(Net(), r=25, target_modules=["first"])


def test_no_module_matched(tuner: Tuner) -> None:
    with pytest.raises(ValueError, match=r"Target modules .* not found in the base model"):
        tuner.adapt(Net(), target_modules=["q_proj"])


def test_only_linear_layers(tuner: Tuner) -> None:
    model = torch.nn.Sequential(torch.nn.Embedding(4, 4))
    with pytest.raises(TypeError, match=r"(SORSA|OSORA) adapts torch.nn.Linear .* 0 is Embedding"):
        get_peft_model(model, tuner.config(target_modules=["0"]))
