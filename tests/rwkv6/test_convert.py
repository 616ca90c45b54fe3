"""Checkpoints: `.pth` to a Hugging Face directory and back without loss, sizes from shapes, files that are refused."""

from __future__ import annotations

import json
import resource
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from sorsa.errors import UsageError
from sorsa.rwkv6 import register_rwkv6
from sorsa.rwkv6.convert import convert, directory_to_pth, pth_to_directory
from sorsa.rwkv6.modeling import Rwkv6ForCausalLM
from sorsa.rwkv6.tokenizer import VOCABULARY_FILE

MakeModel = Callable[..., Rwkv6ForCausalLM]
NAMES = {  # BlinkDL's names beside Hugging Face's, as published
    "emb.weight": "rwkv.embeddings.weight",
    "blocks.0.ln0.bias": "rwkv.blocks.0.pre_ln.bias",
    "blocks.1.ln2.weight": "rwkv.blocks.1.ln2.weight",
    "blocks.1.att.time_maa_w2": "rwkv.blocks.1.attention.time_maa_w2",
    "blocks.1.att.time_faaaa": "rwkv.blocks.1.attention.time_faaaa",
    "blocks.0.att.receptance.weight": "rwkv.blocks.0.attention.receptance.weight",
    "blocks.0.att.ln_x.weight": "rwkv.blocks.0.attention.ln_x.weight",
    "blocks.0.ffn.time_maa_k": "rwkv.blocks.0.feed_forward.time_maa_k",
    "blocks.0.ffn.value.weight": "rwkv.blocks.0.feed_forward.value.weight",
    "ln_out.weight": "rwkv.ln_out.weight",
    "head.weight": "head.weight",
}
BYTES = "".join(f"{byte + 1} {bytes([byte])!r} 1\n" for byte in range(256))  # a vocabulary


def blinkdl(model: Rwkv6ForCausalLM) -> dict[str, Tensor]:
    """The model's tensors with BlinkDL's names, renamed by plain string replacement."""
    pairs = (("rwkv.", ""), ("embeddings", "emb"), ("pre_ln", "ln0"), ("attention", "att"), ("feed_forward", "ffn"))
    renamed = {}
    for name, tensor in model.state_dict().items():
        for old, new in pairs:
            name = name.replace(old, new)
        renamed[name] = tensor.clone()
    return renamed


@pytest.fixture
def checkpoint(make_model: MakeModel, tmp_path: Path) -> Path:
    torch.save(blinkdl(make_model()), tmp_path / "model.pth")
    return tmp_path / "model.pth"


def load(path: Path) -> dict[str, Tensor]:
    return torch.load(path, weights_only=True)


def test_pth_to_directory_is_the_same_model(make_model: MakeModel, checkpoint: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    register_rwkv6()
    convert(checkpoint, tmp_path / "hf")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "hf")
    original, ids = make_model(), torch.tensor([[1, 2, 3, 4]])
    assert torch.equal(loaded(ids).logits, original(ids).logits)
    assert loaded.state_dict().keys() == original.state_dict().keys()
    config = json.loads((tmp_path / "hf" / "config.json").read_text(encoding="utf-8"))
    assert (config["architectures"], config["dtype"]) == (["Rwkv6ForCausalLM"], "float32")


def test_there_and_back_loses_nothing(make_model: MakeModel, checkpoint: Path, tmp_path: Path) -> None:
    before = {name: tensor.bfloat16() for name, tensor in load(checkpoint).items()}
    torch.save(before, checkpoint)
    pth_to_directory(checkpoint, tmp_path / "hf", shard_bytes=20_000)
    assert len(list((tmp_path / "hf").glob("model-*-of-*.safetensors"))) > 2
    convert(tmp_path / "hf", tmp_path / "again" / "back.pth")
    after = load(tmp_path / "again" / "back.pth")
    assert list(after) == list(before)  # the order too: the rwkv runtime reads versions off it
    for name, tensor in before.items():
        assert after[name].dtype == torch.bfloat16
        assert torch.equal(after[name], tensor)
    assert {p.name for p in (tmp_path / "again").iterdir()} == {"back.pth"}


def test_names_are_the_published_ones(checkpoint: Path) -> None:
    from sorsa.rwkv6.layout import hf_name, pth_name

    assert {name: hf_name(name) for name in NAMES} == NAMES
    assert {pth_name(name): name for name in NAMES.values()} == NAMES
    assert NAMES.keys() <= load(checkpoint).keys()


def test_a_decay_by_heads_is_read(make_model: MakeModel, checkpoint: Path, tmp_path: Path) -> None:
    tensors = load(checkpoint)
    for name in tensors:
        if name.endswith("time_decay"):
            tensors[name] = tensors[name].reshape(4, 8)
    torch.save(tensors, checkpoint)
    convert(checkpoint, tmp_path / "hf")
    loaded = Rwkv6ForCausalLM.from_pretrained(tmp_path / "hf")
    ids = torch.tensor([[1, 2, 3]])
    assert torch.equal(loaded(ids).logits, make_model()(ids).logits)


def test_a_published_directory_is_read(make_model: MakeModel, tmp_path: Path) -> None:
    """Its config names another model type and its code, and no inner sizes; weights and names are ours."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    register_rwkv6()
    directory, ids = tmp_path / "hf", torch.tensor([[1, 2, 3]])
    model = make_model(mix_rank=32, decay_rank=64)
    model.save_pretrained(directory)
    config = {
        "architectures": ["Rwkv6ForCausalLM"],
        "auto_map": {"AutoConfig": "configuration_rwkv6.Rwkv6Config", "AutoModelForCausalLM": "modeling_rwkv6.Rwkv6"},
        "model_type": "rwkv6",
        "hidden_size": 32,
        "attention_hidden_size": 32,
        "head_size": 8,
        "num_hidden_layers": 2,
        "vocab_size": 50,
    }
    (directory / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (directory / VOCABULARY_FILE).write_text(BYTES, encoding="utf-8")
    tokenizer = {
        "auto_map": {"AutoTokenizer": ["hf_rwkv_tokenizer.Rwkv6Tokenizer", None]},
        "tokenizer_class": "Rwkv6Tokenizer",
        "bos_token": "<s>",
        "added_tokens_decoder": {"0": {"content": "<s>", "special": True}},
    }
    (directory / "tokenizer_config.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    loaded = AutoModelForCausalLM.from_pretrained(directory, trust_remote_code=False)
    assert isinstance(loaded, Rwkv6ForCausalLM)
    assert torch.equal(loaded(ids).logits, model(ids).logits)
    assert "auto_map" not in loaded.config.to_dict()
    assert loaded.config.model_type == "rwkv6_finch"
    assert AutoTokenizer.from_pretrained(directory, trust_remote_code=False)("az").input_ids == [98, 123]
    directory_to_pth(directory, tmp_path / "out.pth")
    assert load(tmp_path / "out.pth").keys() == blinkdl(model).keys()


def test_the_vocabulary_beside_the_file_comes_along(
    checkpoint: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from transformers import AutoTokenizer

    convert(checkpoint, tmp_path / "without")
    assert f"{VOCABULARY_FILE} is not beside" in caplog.text
    (tmp_path / VOCABULARY_FILE).write_text(BYTES, encoding="utf-8")
    convert(checkpoint, tmp_path / "with")
    register_rwkv6()
    assert AutoTokenizer.from_pretrained(tmp_path / "with")("az")["input_ids"] == [98, 123]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["blocks.0.att.r_k", "blocks.0.att.w0"], r"x070 \(RWKV7, Goose\); only RWKV6 \(x060, Finch\) is supported"),
        (["blocks.0.att.time_faaaa", "blocks.0.att.time_mix_g"], r"x052 \(RWKV5.2, Eagle\); only RWKV6"),
        (["blocks.0.att.time_faaaa", "blocks.0.att.time_mix_k"], r"x051 \(RWKV5\); only RWKV6"),
        (["blocks.0.att.time_first"], r"RWKV4; only RWKV6"),
        (["model.embed_tokens.weight"], r"not an RWKV model; give an RWKV6 \(x060\) checkpoint"),
    ],
)
def test_another_version_is_named(names: list[str], message: str, tmp_path: Path) -> None:
    torch.save({name: torch.zeros(2) for name in names}, tmp_path / "other.pth")
    with pytest.raises(UsageError, match=message):
        convert(tmp_path / "other.pth", tmp_path / "hf")
    assert not (tmp_path / "hf").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"emb.weight": None}, r"emb.weight is missing; download or convert"),
        ({"blocks.1.ffn.value.weight": None}, r"1 of 62 tensors are missing, the first is blocks.1.ffn.value.weight"),
        ({"blocks.1.att.key.weight": (32, 31)}, r"blocks.1.att.key.weight has shape \(32, 31\), expected \(32, 32\)"),
        ({"blocks.0.att.time_faaaa": (1, 1, 32)}, r"att.time_faaaa has shape \(1, 1, 32\), not 2 sides"),
        ({"blocks.0.att.time_state": (4, 8, 8)}, r"1 tensors do not belong .* first is blocks.0.att.time_state; merge"),
    ],
)
def test_wrong_tensors(changes: dict[str, tuple[int, ...] | None], message: str, checkpoint: Path) -> None:
    tensors = load(checkpoint)
    for name, shape in changes.items():
        tensors.pop(name, None)
        if shape:
            tensors[name] = torch.zeros(shape)
    torch.save(tensors, checkpoint)
    with pytest.raises(UsageError, match=message):
        convert(checkpoint, checkpoint.with_name("hf"))


class _Code:
    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return (print, ("executed",))


def test_files_that_are_no_checkpoints(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = checkpoint.read_bytes()
    checkpoint.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UsageError, match=r"model.pth: not a whole .pth file of tensors \(.*\); download or copy"):
        convert(checkpoint, tmp_path / "hf")
    torch.save({"emb.weight": _Code()}, checkpoint)
    with pytest.raises(UsageError, match=r"not a whole .pth file of tensors"):
        convert(checkpoint, tmp_path / "hf")
    assert "executed" not in capsys.readouterr().out
    torch.save({"model": {"emb.weight": torch.zeros(2)}}, checkpoint)
    with pytest.raises(UsageError, match=r"holds something else than named tensors"):
        convert(checkpoint, tmp_path / "hf")


def test_directories_that_are_no_checkpoints(make_model: MakeModel, tmp_path: Path) -> None:
    directory = tmp_path / "hf"
    directory.mkdir()
    with pytest.raises(UsageError, match=r"no weights in it"):
        convert(directory, tmp_path / "out.pth")
    model = make_model()
    model.config.head_size_divisor = 4
    model.save_pretrained(directory)
    with pytest.raises(UsageError, match=r"head_size_divisor = 4, but the rwkv runtime computes with 8"):
        convert(directory, tmp_path / "out.pth")
    (directory / "config.json").unlink()
    with pytest.raises(UsageError, match=r"no config.json in it"):
        convert(directory, tmp_path / "out.pth")
    weights = directory / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(UsageError, match=r"model.safetensors: cut off or corrupt \(.*\); download or copy"):
        convert(directory, tmp_path / "out.pth")
    assert not (tmp_path / "out.pth").exists()


def test_sources_and_targets(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none.pth: no such file or directory"):
        convert(tmp_path / "none.pth", tmp_path / "hf")
    with pytest.raises(UsageError, match=r"target .*other.pth: a .pth file becomes a directory"):
        convert(checkpoint, tmp_path / "other.pth")
    convert(checkpoint, tmp_path / "hf")
    with pytest.raises(UsageError, match=r"target .*hf: exists; choose another name"):
        convert(checkpoint, tmp_path / "hf")
    convert(checkpoint, tmp_path / "hf", replace=True)


def test_a_left_over_shard_is_not_the_model(make_model: MakeModel, checkpoint: Path, tmp_path: Path) -> None:
    """The index says which files count, as for transformers."""
    pth_to_directory(checkpoint, tmp_path / "hf", shard_bytes=20_000)
    save_file({"head.weight": torch.zeros(50, 32)}, tmp_path / "hf" / "model-00099-of-00099.safetensors")
    convert(tmp_path / "hf", tmp_path / "back.pth")
    assert torch.equal(load(tmp_path / "back.pth")["head.weight"], load(checkpoint)["head.weight"])


def test_a_source_inside_of_its_target_is_not_deleted(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UsageError, match=r"holds .*model.pth, which replacing it would delete"):
        convert(checkpoint, tmp_path, replace=True)
    assert checkpoint.is_file()


def test_a_full_disk_is_an_oserror(make_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.save to a path says nothing about the disk; what cli.py explains is the OSError of a stream."""
    make_model().save_pretrained(tmp_path / "hf")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            directory_to_pth(tmp_path / "hf", tmp_path / "out.pth")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hf"]


def test_a_tied_head_and_an_old_format(make_model: MakeModel, checkpoint: Path, tmp_path: Path) -> None:
    tensors = load(checkpoint)
    tensors["head.weight"] = tensors["emb.weight"]
    torch.save(tensors, tmp_path / "tied.pth")
    convert(tmp_path / "tied.pth", tmp_path / "tied")
    torch.save(tensors, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    with pytest.raises(UsageError, match=r"old.pth: in PyTorch's old format; load it and save it anew"):
        convert(tmp_path / "old.pth", tmp_path / "old")


def test_a_config_that_is_not_json(make_model: MakeModel, tmp_path: Path) -> None:
    make_model().save_pretrained(tmp_path / "hf")
    (tmp_path / "hf" / "config.json").write_text("{")
    with pytest.raises(UsageError, match=r"config.json: cannot be read"):
        convert(tmp_path / "hf", tmp_path / "out.pth")
