"""What can be wrong with an RWKV6 and its settings: one line on stderr, exit code 2, nothing written."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from sorsa import cli
from sorsa.rwkv6.convert import convert

Fails = Callable[..., None]


@pytest.fixture
def fails(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fails:
    """A function `(words, message)` that runs the command line in an empty folder and checks how it fails."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    def check(words: list[object], message: str) -> None:
        before = sorted(tmp_path.rglob("*"))
        assert cli.main([str(word) for word in words]) == 2
        out, err = capsys.readouterr()
        lines = [line for line in err.splitlines() if line.startswith("error: ")]
        assert out == "" and len(lines) == 1 and err.endswith(lines[0] + "\n")
        assert re.search(message, lines[0]), lines[0]
        assert sorted(tmp_path.rglob("*")) == before

    return check


@pytest.fixture
def pth(rwkv6_directory: Path, tmp_path: Path) -> Path:
    convert(rwkv6_directory, tmp_path / "tiny.pth")
    return tmp_path / "tiny.pth"


@pytest.fixture
def directory(rwkv6_directory: Path, tmp_path: Path) -> Path:
    """A copy of the tiny RWKV6's directory that a test may break."""
    return Path(shutil.copytree(rwkv6_directory, tmp_path / "hf"))


def training(model: Path, rows: Path, *flags: str) -> list[object]:
    return ["--name", "x", "--train", "--model", model, "--train-dataset", rows, "--local", "--rank", "4", *flags]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["blocks.0.att.r_k"], r"other\.pth: x070 \(RWKV7, Goose\); only RWKV6 \(x060, Finch\) is supported"),
        (["blocks.0.att.time_faaaa", "blocks.0.att.time_mix_g"], r"other\.pth: x052 \(RWKV5\.2, Eagle\); only RWKV6"),
    ],
)
def test_a_file_of_another_version(names: list[str], message: str, fails: Fails, tmp_path: Path) -> None:
    torch.save({name: torch.zeros(2) for name in names}, tmp_path / "other.pth")
    fails(["--convert", tmp_path / "other.pth", tmp_path / "out"], message)


def test_a_file_with_wrong_tensors(pth: Path, fails: Fails, tmp_path: Path) -> None:
    tensors: dict[str, Tensor] = torch.load(pth, weights_only=True)
    key = tensors.pop("blocks.1.att.key.weight")
    torch.save(tensors, pth)
    fails(["--convert", pth, tmp_path / "out"], r"1 of 62 tensors are missing, .* blocks\.1\.att\.key\.weight")
    torch.save(tensors | {"blocks.1.att.key.weight": key[:3]}, pth)
    fails(["--convert", pth, tmp_path / "out"], r"blocks\.1\.att\.key\.weight has shape \(3, 32\), expected \(32, 32\)")


def test_a_file_that_is_cut_off(pth: Path, fails: Fails, tmp_path: Path) -> None:
    pth.write_bytes(pth.read_bytes()[:-5000])
    fails(["--convert", pth, tmp_path / "out"], r"tiny\.pth: not a whole \.pth file of tensors")


def test_the_words_after_convert(pth: Path, directory: Path, fails: Fails, tmp_path: Path) -> None:
    fails(["--convert", pth], r"argument --convert: expected 2 arguments")
    fails(["--convert", tmp_path / "no.pth", "out"], r"checkpoint .*no\.pth: no such file or directory")
    fails(["--convert", pth, "out", "--rank", "3"], r"--rank does not go with --convert, only --overwrite does")
    fails(["--convert", pth, directory], r"target .*hf: exists; choose another name, or replace it with --overwrite")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.tex").write_text("")
    fails(["--convert", pth, tmp_path / "home", "--overwrite"], r"is not a model directory, so it is not replaced")
    fails(["--convert", pth, "out.pth"], r"a \.pth file becomes a directory, a directory a file that ends in \.pth")


def test_convert_both_ways(pth: Path, rwkv6_directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    shutil.copy(rwkv6_directory / "rwkv_vocab_v20230424.txt", tmp_path)
    for words in ([pth, tmp_path / "out"], [tmp_path / "out", tmp_path / "again.pth"]):
        for flags in ([], ["--overwrite"]):
            assert cli.main(["--convert", *map(str, words), *flags]) == 0
            assert capsys.readouterr().out == f"converted {words[0]}: {words[1]}\n"
    before, after = (torch.load(file, weights_only=True) for file in (pth, tmp_path / "again.pth"))
    assert list(before) == list(after) and all(torch.equal(before[name], after[name]) for name in before)


def test_a_pth_file_as_model(pth: Path, tiny_rows: Path, fails: Fails) -> None:
    fails(training(pth, tiny_rows), r"model .*tiny\.pth: a \.pth file; convert it with `python run\.py --convert")


def test_rwkv_with_a_llama_and_the_reverse(directory: Path, tiny_model: Path, tiny_rows: Path, fails: Fails) -> None:
    fails(
        training(tiny_model, tiny_rows, "--rwkv"),
        r"rwkv = True: the model .* is a LlamaForCausalLM, not an RWKV6; leave --rwkv out, or give another --model",
    )
    fails(training(directory, tiny_rows, "--no-rwkv"), r"rwkv = False: the model .*hf is an RWKV6; leave --no-rwkv out")


def test_directories_of_wrong_weights(directory: Path, tiny_rows: Path, fails: Fails) -> None:
    weights = directory / "model.safetensors"
    tensors = load_file(weights)
    key = tensors.pop("rwkv.blocks.1.attention.key.weight")
    save_file(tensors, weights, metadata={"format": "pt"})
    fails(training(directory, tiny_rows), r"hf: 1 of 62 tensors are missing, .* blocks\.1\.att\.key\.weight")
    save_file(tensors | {"rwkv.blocks.1.attention.key.weight": key[:3]}, weights, metadata={"format": "pt"})
    fails(training(directory, tiny_rows), r"hf: blocks\.1\.att\.key\.weight has shape \(3, 32\), expected \(32, 32\)")
    save_file({"rwkv.blocks.0.attention.r_k": key}, weights, metadata={"format": "pt"})
    fails(training(directory, tiny_rows), r"hf: x070 \(RWKV7, Goose\); only RWKV6")
    save_file(tensors, weights, metadata={"format": "pt"})
    weights.write_bytes(weights.read_bytes()[:-5000])
    fails(training(directory, tiny_rows), r"weights .*model\.safetensors: cut off or corrupt")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "rwkv7"}, r"model directory .*hf: .*rwkv7"),
        ({"model_type": "rwkv5"}, r"model directory .*hf: .*rwkv5"),
        ({"head_size": 7}, r"hidden_size = 32: must be a multiple of head_size = 7"),
    ],
)
def test_directories_of_another_kind(
    changes: dict[str, object], message: str, directory: Path, tiny_rows: Path, fails: Fails
) -> None:
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(config | changes))
    fails(training(directory, tiny_rows), message)


def test_the_runtime_and_the_authors_decoding_need_an_rwkv6(
    directory: Path, tiny_model: Path, fails: Fails, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "q.jsonl").write_text('{"question": "1?", "answer": "#### 1"}\n')
    test = ["--name", "x", "--test", "--base", "--test-dataset", "gsm-8k", "--test-file", tmp_path / "q.jsonl"]
    test += ["--local", "--model"]
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name == "rwkv" or real(name))  # installed or not
    fails([*test, tiny_model, "--engine", "rwkv"], r"engine = rwkv: only for RWKV6, but .* is a LlamaForCausalLM")
    fails([*test, tiny_model, "--decoding", "authors_rwkv"], r"decoding = authors_rwkv: only for RWKV6, but .*Llama")
    fails([*test, directory, "--engine", "rwkv"], r"no .*pth; make it with `python run\.py --convert .*hf .*pth`")
    (directory / "model.pth").write_bytes(b"PK")
    fails([*test, directory, "--engine", "rwkv"], r"model\.pth: not a whole \.pth file of tensors")
    fails([*test, directory, "--engine", "vlm"], r"--engine = 'vlm': 'vlm' is unknown\.")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "rwkv" else real(name))
    fails([*test, directory, "--engine", "rwkv"], r"the package rwkv is not installed in .*pip install rwkv==0\.8\.32")
