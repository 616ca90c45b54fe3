"""Train, merge and test on a tiny RWKV6: merged is unmerged, and the `rwkv` runtime gives the same answers."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel

from sorsa.config import RunConfig
from sorsa.errors import UsageError
from sorsa.evaluation import test as run_benchmark
from sorsa.merging import merge
from sorsa.models import load_base_model, load_skeleton
from sorsa.run_folder import RunFolder
from sorsa.rwkv6 import RUNTIME_FILE
from sorsa.trained_weights import load_weights
from sorsa.training import train
from sorsa.training.adapter import targeted_modules

needs_runtime = pytest.mark.skipif(
    importlib.util.find_spec("rwkv") is None, reason="the reference runtime: pip install rwkv==0.8.32"
)
IDS = torch.arange(2, 66).reshape(2, 32)
EIGHT = [f"attention.{name}" for name in ("receptance", "key", "value", "gate", "output")]
EIGHT += [f"feed_forward.{name}" for name in ("key", "receptance", "value")]
QUESTIONS = [{"question": "How many? " + "12 eggs " * n, "answer": f"so\n#### {n}"} for n in (3, 1, 6)]


def folder_of(config: RunConfig) -> RunFolder:
    return RunFolder(config.run_path, config.name)


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    return model.eval()(IDS.to(model.device)).logits.cpu()


@pytest.fixture(scope="module")
def make_run(
    make_config: Callable[..., RunConfig], rwkv6_directory: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., RunConfig]:
    """A function `(**fields)` that returns the settings of a run on the tiny RWKV6, with three questions to test on."""
    questions = tmp_path_factory.mktemp("questions") / "questions.jsonl"
    questions.write_text("".join(json.dumps(row) + "\n" for row in QUESTIONS))
    test = {"test_dataset": "gsm-8k", "test_file": str(questions), "test_precision": "fp32", "max_new_tokens": 20}

    def make(**fields: Any) -> RunConfig:
        folder = tmp_path_factory.mktemp("run")
        return make_config(folder, model=str(rwkv6_directory), max_steps=3, lr=2e-2, grad_clip=0.0, **(test | fields))

    return make


@pytest.fixture(scope="module")
def merged(make_run: Callable[..., RunConfig]) -> RunConfig:
    """The settings of a merged SORSA run."""
    config = make_run(rwkv=True)
    train(config)
    merge(config)
    return config


def answers(config: RunConfig) -> list[str]:
    run_benchmark(config)
    rows = folder_of(config).questions("gsm-8k").read_text(encoding="utf-8").splitlines()
    return [json.loads(row)["completion"] for row in rows]


def check_merged(config: RunConfig) -> None:
    """Compare the merged directory with base and adapter."""
    folder = folder_of(config)
    base = load_base_model(config, torch.float32)
    plain = logits(base)
    found = logits(load_base_model(config, torch.float32, folder.merged))
    scale = plain.abs().max()
    assert (found - plain).abs().max() / scale > 1e-3  # or what follows would show nothing
    trained = load_weights if config.peft == "full" else PeftModel.from_pretrained
    assert (found - logits(trained(base, folder.adapter))).abs().max() / scale < 2e-5


def test_sorsa(merged: RunConfig) -> None:
    check_merged(merged)
    record = folder_of(merged).read_record()
    assert record["status"] == "finished" and record["last_loss"] < record["first_loss"]


@pytest.mark.parametrize("peft", ["lora", "pissa", "adalora", "osora", "full"])
def test_other_methods(peft: str, make_run: Callable[..., RunConfig]) -> None:
    schedule = {"t_init": 1, "t_final": 1} if peft == "adalora" else {}
    config = make_run(peft=peft, **schedule)  # `rwkv` left out: the model says what it is
    train(config)
    merge(config)
    check_merged(config)
    assert len(answers(config)) == 3


@pytest.mark.parametrize("peft", ["sorsa", "lora", "pissa", "adalora", "osora"])
def test_all_linear_is_the_papers_eight_matrices(peft: str, make_run: Callable[..., RunConfig]) -> None:
    from sorsa.methods import build_peft_config

    config = make_run(peft=peft)
    found = targeted_modules(load_skeleton(config), build_peft_config(config))
    assert sorted(found) == sorted(f"rwkv.blocks.{block}.{name}" for block in (0, 1) for name in EIGHT)


def test_bf16_and_gradient_checkpointing(make_run: Callable[..., RunConfig]) -> None:
    losses = {}
    for precision, checkpointing in (("fp32", False), ("fp32", True), ("bf16", True)):
        config = make_run(mix_precision=[precision], gradient_checkpointing=checkpointing)
        train(config)
        losses[precision, checkpointing] = folder_of(config).read_record()["last_loss"]
    plain = losses["fp32", False]
    assert losses["fp32", True] == pytest.approx(plain, rel=1e-5)
    assert losses["bf16", True] == pytest.approx(plain, rel=0.02) and losses["bf16", True] != plain


def test_the_merged_directory(merged: RunConfig, rwkv6_directory: Path) -> None:
    directory = folder_of(merged).merged
    names = {path.name for path in directory.iterdir()}
    assert {"config.json", "model.safetensors", "rwkv_vocab_v20230424.txt", RUNTIME_FILE} <= names
    tensors = torch.load(directory / RUNTIME_FILE, weights_only=True)
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}
    weights = load_base_model(merged, torch.float32, directory).state_dict()
    assert torch.equal(tensors["blocks.1.ffn.key.weight"], weights["rwkv.blocks.1.feed_forward.key.weight"].cpu())
    assert (directory / RUNTIME_FILE).stat().st_size < 2 * (directory / "model.safetensors").stat().st_size
    assert json.loads((directory / "config.json").read_text())["model_type"] == "rwkv6_finch"


@needs_runtime
@pytest.mark.parametrize("decoding", ["greedy", "authors_rwkv"])
def test_both_engines_give_the_same_answers(merged: RunConfig, decoding: str) -> None:
    config = dataclasses.replace(merged, decoding=decoding, overwrite=True)
    ours = answers(config)
    theirs = answers(dataclasses.replace(config, engine="rwkv"))
    assert theirs == ours
    assert len(set(ours)) > 1
    record = json.loads(folder_of(config).result("gsm-8k").read_text())
    assert (record["engine"], record["decoding"]) == ("rwkv", decoding)
    assert record["environment"]["versions"]["rwkv"]


def test_greedy_answers_are_those_of_each_prompt_alone(merged: RunConfig) -> None:
    from sorsa.data.prompts import math_test_prompt
    from sorsa.data.tokenise import prompt_ids
    from sorsa.models import load_tokenizer

    found = answers(dataclasses.replace(merged, overwrite=True))
    directory = folder_of(merged).merged
    model, tokenizer = load_base_model(merged, torch.float32, directory), load_tokenizer(merged, directory)
    for text, row in zip(found, QUESTIONS, strict=True):
        ids = prompt_ids(tokenizer, [math_test_prompt(row["question"])])[0]
        assert ids[0] == 0
        for _ in range(20):
            ids.append(int(model(torch.tensor([ids], device=model.device)).logits[0, -1].argmax()))
        assert tokenizer.decode(ids[-20:]).startswith(text)
    assert any(found)  # or the line above would show nothing


def test_the_authors_decoding_has_no_start_token_and_penalties(
    merged: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sorsa.evaluation.hf_engine import HfEngine

    prompts: dict[str, list[list[int]]] = {"greedy": [], "authors_rwkv": []}
    real, texts = HfEngine.answer, {}
    folder_of(merged).completions("gsm-8k").unlink(missing_ok=True)
    for decoding, seen in prompts.items():
        monkeypatch.setattr(
            HfEngine, "answer", lambda engine, ids, *rest, seen=seen: seen.extend(ids) or real(engine, ids, *rest)
        )
        texts[decoding] = answers(dataclasses.replace(merged, decoding=decoding, overwrite=True))
    assert prompts["greedy"] == [[0, *ids] for ids in prompts["authors_rwkv"]]
    assert texts["greedy"] != texts["authors_rwkv"]


def test_answers_of_different_settings_are_not_mixed(merged: RunConfig) -> None:
    answers(dataclasses.replace(merged, overwrite=True))
    with pytest.raises(UsageError, match=r"holds answers made with another decoding: replace them"):
        answers(dataclasses.replace(merged, decoding="authors_rwkv"))
    header = json.loads(folder_of(merged).completions("gsm-8k").read_text().splitlines()[0])
    assert (header["settings"]["engine"], header["settings"]["decoding"]) == ("hf", "greedy")


def test_a_model_that_the_runtime_cannot_compute_is_merged_without_its_file(
    make_run: Callable[..., RunConfig], make_model: Callable[..., Any], caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    config = make_run(peft="lora")
    other = shutil.copytree(config.model, tmp_path / "other")
    make_model(vocab_size=264, head_size_divisor=4).save_pretrained(other)
    config = dataclasses.replace(config, model=str(other))
    train(config)
    merge(config)
    assert "no model.pth for the rwkv runtime: " in caplog.text and "head_size_divisor = 4" in caplog.text
    assert not (folder_of(config).merged / RUNTIME_FILE).exists()
    assert (folder_of(config).merged / "model.safetensors").is_file()
