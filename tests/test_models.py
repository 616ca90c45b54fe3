"""Loading models and tokenizers: types and placement, and one clear line for every directory that cannot be loaded."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from sorsa.errors import UsageError
from sorsa.models import check_vocabulary, load_base_model, load_skeleton, load_tokenizer


@pytest.fixture
def copy(tiny_model, tmp_path) -> Path:
    """A copy of the tiny model's directory that a test may break."""
    return Path(shutil.copytree(tiny_model, tmp_path / "copy"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_have_the_type_asked_for(tiny_config, tiny_model, dtype):
    model = load_base_model(tiny_config(), dtype)
    saved = load_file(tiny_model / "model.safetensors")
    assert {p.dtype for p in model.parameters()} == {dtype}
    assert torch.equal(
        model.model.layers[0].mlp.up_proj.weight.cpu(), saved["model.layers.0.mlp.up_proj.weight"].to(dtype)
    )


def test_bf16_checkpoint_is_loaded_in_fp32(tiny_config, copy):
    weights = {name: t.to(torch.bfloat16) for name, t in load_file(copy / "model.safetensors").items()}
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    model = load_base_model(tiny_config(model=str(copy)), torch.float32)
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_no_module_has_hooks(tiny_config):
    """accelerate's hooks would send the SORSA layers down their slow path."""
    assert not [m for m in load_base_model(tiny_config(), torch.float32).modules() if hasattr(m, "_hf_hook")]


def test_path_overrides_the_config(tiny_config, tiny_model):
    config = tiny_config(model="/does/not/exist")
    assert load_base_model(config, torch.float32, path=tiny_model).config.hidden_size == 32
    assert load_tokenizer(config, path=tiny_model).eos_token == "</s>"


def test_tokenizer_pads_with_its_end_token(tiny_config):
    tokenizer = load_tokenizer(tiny_config())
    assert tokenizer.pad_token_id == tokenizer.eos_token_id == 1


@pytest.mark.parametrize("load", [lambda c: load_base_model(c, torch.float32), load_skeleton, load_tokenizer])
@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "./no/such/dir",
            r"^model directory ./no/such/dir: does not exist \(looked in .*give a hub id such as org/name",
        ),
        ("../model", "^model directory ../model: does not exist"),
        (
            "no-such-org/no-such-model",
            "^model no-such-org/no-such-model: no such directory here, and its files are not in the local cache",
        ),
    ],
)
def test_missing_source(tiny_config, load, source, message):
    with pytest.raises(UsageError, match=message) as caught:
        load(tiny_config(model=source))
    assert "\n" not in str(caught.value)


def test_unreachable_hub(tiny_config):
    with pytest.raises(UsageError, match=r"the hub did not give it .*check the network and `hf auth login`"):
        load_base_model(tiny_config(model="no-such-org/no-such-model", local=False), torch.float32)


def test_file_instead_of_directory(tiny_config, copy):
    with pytest.raises(UsageError, match=r"model .*model.safetensors: a file; give the directory"):
        load_base_model(tiny_config(model=str(copy / "model.safetensors")), torch.float32)


def test_directory_without_config(tiny_config, copy):
    (copy / "config.json").unlink()
    with pytest.raises(UsageError, match=r"model directory .*: no config.json in it"):
        load_base_model(tiny_config(model=str(copy)), torch.float32)


def test_directory_without_weights(tiny_config, copy):
    (copy / "model.safetensors").unlink()
    with pytest.raises(UsageError, match=r"no weights in it \(looked for model.safetensors .*download them again"):
        load_base_model(tiny_config(model=str(copy)), torch.float32)


def test_pickled_weights_are_refused(tiny_config, copy):
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    with pytest.raises(
        UsageError, match=r"no weights in it .*pytorch_model.bin cannot be read, convert to safetensors"
    ):
        load_base_model(tiny_config(model=str(copy)), torch.float32)


def test_skeleton_has_names_and_shapes_but_no_weights(tiny_config):
    skeleton, model = load_skeleton(tiny_config()), load_base_model(tiny_config(), torch.float32)
    assert {n: p.shape for n, p in skeleton.named_parameters()} == {n: p.shape for n, p in model.named_parameters()}
    assert {p.device.type for p in skeleton.parameters()} == {"meta"}


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _header_of_another_length(path: Path) -> None:
    path.write_bytes(b"\xff" * 8 + path.read_bytes()[8:])


def _git_lfs_pointer(path: Path) -> None:
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 100\n")


@pytest.mark.parametrize("damage", [_cut, _empty, _header_of_another_length, _git_lfs_pointer])
def test_damaged_weights(tiny_config, copy, damage):
    damage(copy / "model.safetensors")
    for load in (lambda c: load_base_model(c, torch.float32), load_skeleton):
        with pytest.raises(UsageError, match=r"weights .*model.safetensors: cut off or corrupt \(\d+ bytes; .*again$"):
            load(tiny_config(model=str(copy)))


def _shard(directory: Path) -> None:
    weights = load_file(directory / "model.safetensors")
    (directory / "model.safetensors").unlink()
    names = sorted(weights)
    files = {"model-00001-of-00002.safetensors": names[:10], "model-00002-of-00002.safetensors": names[10:]}
    for file, part in files.items():
        save_file({name: weights[name] for name in part}, directory / file, metadata={"format": "pt"})
    index = {"metadata": {}, "weight_map": {name: file for file, part in files.items() for name in part}}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))


def test_shards(tiny_config, copy):
    _shard(copy)
    config = tiny_config(model=str(copy))
    assert (
        load_base_model(config, torch.float32).num_parameters()
        == load_base_model(tiny_config(), torch.float32).num_parameters()
    )
    _cut(copy / "model-00002-of-00002.safetensors")
    with pytest.raises(UsageError, match=r"model-00002-of-00002.safetensors: cut off or corrupt"):
        load_base_model(config, torch.float32)
    (copy / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(UsageError, match=r"1 of 2 weight files are missing, the first is model-00002"):
        load_base_model(config, torch.float32)
    (copy / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(UsageError, match=r"index.json: not a safetensors index \(KeyError"):
        load_base_model(config, torch.float32)


def test_missing_weight_is_not_filled_with_random_numbers(tiny_config, copy):
    weights = load_file(copy / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UsageError, match=r"1 weights are missing, the first is model.layers.1.mlp.up_proj.weight"):
        load_base_model(tiny_config(model=str(copy)), torch.float32)


@pytest.mark.parametrize("text", ["{", '{"model_type": "no-such-type"}'])
def test_unreadable_config(tiny_config, copy, text):
    (copy / "config.json").write_text(text)
    for load in (lambda c: load_base_model(c, torch.float32), load_skeleton):
        with pytest.raises(UsageError, match=r"model directory .*: cannot be loaded \(.+\); check its files") as caught:
            load(tiny_config(model=str(copy)))
        assert "\n" not in str(caught.value)


def test_directory_without_tokenizer(tiny_config, copy):
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (copy / name).unlink()
    with pytest.raises(UsageError, match=r"tokenizer directory .*: no tokenizer in it .*--tokenizer"):
        load_tokenizer(tiny_config(model=str(copy)))


def test_corrupt_tokenizer(tiny_config, copy):
    _cut(copy / "tokenizer.json")
    with pytest.raises(UsageError, match=r"tokenizer directory .*: cannot be loaded"):
        load_tokenizer(tiny_config(model=str(copy)))


def test_tokenizer_without_end_token(tiny_config, copy):
    settings = json.loads((copy / "tokenizer_config.json").read_text())
    del settings["eos_token"]
    (copy / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(UsageError, match=r"no end-of-sequence token, so answers would never end"):
        load_tokenizer(tiny_config(model=str(copy)))


def test_tokenizer_of_a_larger_vocabulary(tiny_config):
    model, tokenizer = load_base_model(tiny_config(), torch.float32), load_tokenizer(tiny_config())
    check_vocabulary(tokenizer, model)
    tokenizer.add_tokens(["<new>"])
    with pytest.raises(UsageError, match="259 tokens, but the model's embedding has 258 rows"):
        check_vocabulary(tokenizer, model)
