"""Merging: the merged directory is an ordinary model, equal to the adapted one, and written whole or not at all."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from sorsa.errors import UsageError
from sorsa.merging import merge
from sorsa.models import load_base_model
from sorsa.run_folder import RunFolder
from sorsa.training import train


def _folder(config) -> RunFolder:
    return RunFolder(config.run_path, config.name)


@pytest.fixture(scope="module", params=["sorsa", "lora"])
def trained(request, make_config, tmp_path_factory):
    """The settings of a trained run whose adapter has moved far from the base model."""
    config = make_config(tmp_path_factory.mktemp(request.param), peft=request.param, lr=3e-2, grad_clip=0.0)
    train(config)
    return config


@pytest.fixture
def config(trained, tmp_path):
    """A copy of the trained run that a test may change."""
    shutil.copytree(_folder(trained).path, tmp_path / "runs" / trained.name)
    return dataclasses.replace(trained, run_path=str(tmp_path / "runs"))


IDS = torch.arange(2, 66).reshape(2, 32)


def _logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(IDS.to(model.device)).logits.cpu()


def test_merged_equals_unmerged(config, capsys):
    merge(config)
    folder = _folder(config)
    base = load_base_model(config, torch.float32)
    plain = _logits(base)
    adapted = _logits(PeftModel.from_pretrained(base, str(folder.adapter)))
    merged = _logits(AutoModelForCausalLM.from_pretrained(folder.merged, dtype=torch.float32))
    scale = adapted.abs().max()
    assert (merged - adapted).abs().max() / scale < 1e-5
    assert (adapted - plain).abs().max() / scale > 1e-2  # or the line above would show nothing
    assert capsys.readouterr().out.rstrip().endswith("--test --test-dataset gsm-8k")
    assert folder.read_record()["merge"]["seconds"] > 0 and folder.read_record()["status"] == "finished"


def test_merged_directory_is_an_ordinary_model(config):
    merge(config)
    merged = _folder(config).merged
    names = {path.name for path in merged.iterdir()}
    assert {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json"} <= names
    assert not any("adapter" in name for name in names)
    tensors = load_file(merged / "model.safetensors")
    assert not any("sorsa" in name or "lora" in name or "base_layer" in name for name in tensors)
    assert {t.dtype for t in tensors.values()} == {torch.float32}
    settings = json.loads((merged / "config.json").read_text())
    assert (settings["architectures"], settings["dtype"]) == (["LlamaForCausalLM"], "float32")
    tokenizer, original = AutoTokenizer.from_pretrained(merged), AutoTokenizer.from_pretrained(config.model)
    assert tokenizer.chat_template == original.chat_template
    assert tokenizer("two plus two")["input_ids"] == original("two plus two")["input_ids"]


def test_only_the_adapted_matrices_change(config):
    merge(config)
    merged = load_file(_folder(config).merged / "model.safetensors")
    base = AutoModelForCausalLM.from_pretrained(config.model, dtype=torch.float32).state_dict()
    for name, tensor in merged.items():
        assert torch.equal(tensor, base[name]) != ("_proj." in name), name


@pytest.mark.parametrize("trained", ["sorsa"], indirect=True)  # once is enough: a new process takes seconds
def test_merged_model_needs_none_of_our_code(config):
    merge(config)
    code = (
        "import sys; from transformers import AutoModelForCausalLM as A; "
        f"A.from_pretrained({str(_folder(config).merged)!r}); assert not {{'sorsa', 'peft'}} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=_folder(config).path)
    assert done.returncode == 0, done.stderr


def test_merge_before_train(tiny_config):
    with pytest.raises(
        UsageError, match=r"run 'tiny' has not been trained: .* run python run.py --name tiny .*--train"
    ):
        merge(tiny_config())


def test_merging_twice_needs_overwrite(config):
    merge(config)
    with pytest.raises(UsageError, match=r"run 'tiny' is merged already .*--overwrite, or go on with .* --test "):
        merge(config)
    (_folder(config).merged / "model.safetensors").write_bytes(b"")
    merge(dataclasses.replace(config, overwrite=True))
    assert (_folder(config).merged / "model.safetensors").stat().st_size > 1000


@pytest.mark.parametrize("trained", ["sorsa"], indirect=True)  # PEFT's LoRA does not remember its base's weights
def test_adapter_from_another_base(config, tmp_path):
    other = shutil.copytree(config.model, tmp_path / "other")
    weights = load_file(other / "model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"] *= 1.5
    save_file(weights, other / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UsageError, match=r"adapter .*: does not fit the base model .*up_proj.*--model") as caught:
        merge(dataclasses.replace(config, model=str(other)))
    assert "\n" not in str(caught.value) and not _folder(config).merged.exists()


def test_adapter_of_another_shape(config):
    path = _folder(config).adapter / "adapter_model.safetensors"
    tensors = load_file(path)
    save_file({name: torch.zeros(3, 3) for name in tensors}, path, metadata={"format": "pt"})
    with pytest.raises(UsageError, match=r"adapter .*: does not fit the base model") as caught:
        merge(config)
    assert "\n" not in str(caught.value)


def test_full_disk_leaves_nothing(config, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("transformers.PreTrainedTokenizerFast.save_pretrained", full)  # after the weights
    before = sorted(_folder(config).path.rglob("*"))
    with pytest.raises(OSError, match="No space left"):
        merge(config)
    assert sorted(_folder(config).path.rglob("*")) == before


def test_generation_config_that_cannot_be_saved(config, tmp_path):
    model = shutil.copytree(config.model, tmp_path / "sampling")
    path = model / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"temperature": 0.9, "do_sample": False}))
    merge(dataclasses.replace(config, model=str(model)))
    saved = json.loads((_folder(config).merged / "generation_config.json").read_text())
    assert (saved["temperature"], saved["do_sample"]) == (0.9, True)
