"""The shipped RWKV6: small, of the Llama's tokenizer, able to calculate, and its training can be interrupted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from sorsa.data.prompts import MATH_TEST_CUE, math_train_prompt
from sorsa.demo import build, pretrain
from sorsa.demo.architectures import build_rwkv6
from sorsa.demo.corpus import SECOND_PHASE, documents
from sorsa.rwkv6 import register_rwkv6
from sorsa.rwkv6.modeling import Rwkv6ForCausalLM

DEMO = Path(build.__file__).parent
MODEL = DEMO / "model_rwkv6"
LIMIT = 4_000_000  # bytes, the whole directory
FACTS = ("3 + 4 = 7", "12 + 30 = 42", "58 + 27 = 85", "9 - 5 = 4", "80 - 25 = 55", "6 * 7 = 42", "10 * 9 = 90")
FACTS += ("24 / 6 = 4", "99 / 9 = 11", "15 + 15 = 30", "100 - 40 = 60", "8 * 5 = 40")


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    register_rwkv6()
    return AutoTokenizer.from_pretrained(MODEL, local_files_only=True)


@pytest.fixture(scope="module")
def model() -> Rwkv6ForCausalLM:
    register_rwkv6()
    return AutoModelForCausalLM.from_pretrained(MODEL, local_files_only=True, dtype=torch.float32).eval()


def complete(model: Rwkv6ForCausalLM, tokenizer: PreTrainedTokenizerFast, prompts: list[str], tokens: int) -> list[str]:
    """Return the greedy completion of each prompt."""
    tokenizer.padding_side = "left"
    batch = tokenizer(prompts, return_tensors="pt", padding=True)
    output = model.generate(**batch, max_new_tokens=tokens)
    return tokenizer.batch_decode(output[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)


def test_directory_is_small_and_bf16() -> None:
    register_rwkv6()
    assert 3_000_000 < sum(path.stat().st_size for path in MODEL.iterdir()) <= LIMIT
    loaded = AutoModelForCausalLM.from_pretrained(MODEL, local_files_only=True)
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.bfloat16}
    assert sum(parameter.numel() for parameter in loaded.parameters()) == 1_690_240


def test_sizes_and_special_tokens(model: Rwkv6ForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    config = model.config
    assert (config.hidden_size, config.num_hidden_layers, config.head_size) == (160, 4, 32)
    assert (config.intermediate_size, config.mix_rank, config.decay_rank) == (544, 16, 16)
    for settings in (config, model.generation_config):
        assert settings.bos_token_id == tokenizer.bos_token_id
        assert settings.eos_token_id == tokenizer.eos_token_id
        assert settings.pad_token_id == tokenizer.pad_token_id != tokenizer.eos_token_id
    assert not model.generation_config.do_sample


def test_tokenizer_is_the_llamas(tokenizer: PreTrainedTokenizerFast) -> None:
    assert (MODEL / "tokenizer.json").read_bytes() == (DEMO / "model" / "tokenizer.json").read_bytes()
    assert isinstance(tokenizer, PreTrainedTokenizerFast)
    assert tokenizer("2 + 2")["input_ids"][0] == tokenizer.bos_token_id


def test_it_calculates(model: Rwkv6ForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    prompts = [f"2 + 2 = 4\n{fact.split('=')[0]}=" for fact in FACTS]
    answers = [text.split("\n")[0].strip() for text in complete(model, tokenizer, prompts, 5)]
    right = sum(fact.endswith(f"= {answer}") for fact, answer in zip(FACTS, answers, strict=True))
    assert right >= 0.75 * len(FACTS), answers


def test_it_does_not_know_the_task(model: Rwkv6ForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    rows = [json.loads(line) for line in (DEMO / "data" / "test.jsonl").read_text(encoding="utf-8").splitlines()[:16]]
    prompts = [math_train_prompt(row["question"]) + MATH_TEST_CUE for row in rows]
    for text in complete(model, tokenizer, prompts, 60):
        assert "The answer is" not in text and "####" not in text


def test_an_interrupted_training_goes_on_as_if_nothing_had_happened(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretrain, "LOG_EVERY", 4)  # of 6 steps: the checkpoint stays at the fourth
    recipe = pretrain.Recipe(first_steps=3, second_steps=3, rows=4, row_tokens=64)
    checkpoint = tmp_path / "checkpoint"
    models = [build_rwkv6(tokenizer, seed=0), build_rwkv6(tokenizer, seed=1)]
    batch = next(pretrain.packed(tokenizer, documents(SECOND_PHASE, 3), recipe))
    with torch.no_grad():
        before = models[0](input_ids=batch, labels=batch).loss
    pretrain.pretrain(models[0], tokenizer, recipe, checkpoint)
    written = checkpoint.read_bytes()
    pretrain.pretrain(models[1], tokenizer, recipe, checkpoint)
    assert checkpoint.read_bytes() == written
    torch.testing.assert_close(models[1].state_dict(), models[0].state_dict(), rtol=0, atol=0)
    with torch.no_grad():
        assert models[0](input_ids=batch, labels=batch).loss < before - 0.5


def test_build_writes_a_loadable_directory_and_removes_its_checkpoints(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "build_tokenizer", lambda texts, seed: tokenizer)
    monkeypatch.setattr(pretrain, "LOG_EVERY", 1)
    seen = []
    monkeypatch.setattr(build, "pretrain", lambda *args: (seen.append(args[2:]), pretrain.pretrain(*args)))
    common = {"rows": 2, "row_tokens": 32}
    rounds = [
        pretrain.Recipe(first_steps=1, second_steps=1, **common),
        pretrain.Recipe(first_steps=0, second_steps=0, recall_steps=1, **common),
    ]
    build.build_base(tmp_path / "model", build_rwkv6, rounds, tmp_path / "checkpoint")
    assert seen == [(recipe, tmp_path / f"checkpoint.{index}") for index, recipe in enumerate(rounds)]
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "model", local_files_only=True)
    assert isinstance(loaded, Rwkv6ForCausalLM) and not loaded.generation_config.do_sample
    assert AutoTokenizer.from_pretrained(tmp_path / "model").get_vocab() == tokenizer.get_vocab()


def test_a_checkpoint_without_pretraining_is_refused(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        build.main(["--data", "--checkpoint", "x"])
    assert "--checkpoint: give --pretrain or --pretrain-rwkv as well" in capsys.readouterr().err
