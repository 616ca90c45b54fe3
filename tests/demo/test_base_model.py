"""The shipped base model: an ordinary directory, small, able to calculate, ignorant of the answer format."""

from __future__ import annotations

import itertools
import json
import random
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerFast

from sorsa.data.prompts import MATH_TEST_CUE, math_train_prompt
from sorsa.demo import build
from sorsa.demo.architectures import build_llama
from sorsa.demo.corpus import SECOND_PHASE, documents, draw_operands
from sorsa.demo.pretrain import Recipe, build_tokenizer, lr_factor, packed, pretrain, save_base
from sorsa.demo.problems import make_splits
from sorsa.demo.tokenizer import BOS, EOS, PAD, VOCABULARY

DEMO = Path(build.__file__).parent
MODEL = DEMO / "model"
LIMIT = 12_000_000  # bytes, all artefacts together


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return AutoTokenizer.from_pretrained(MODEL, local_files_only=True)


@pytest.fixture(scope="module")
def model() -> LlamaForCausalLM:
    return AutoModelForCausalLM.from_pretrained(MODEL, local_files_only=True, dtype=torch.float32).eval()


def complete(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, prompts: list[str], tokens: int) -> list[str]:
    """Return the greedy completion of each prompt."""
    tokenizer.padding_side = "left"
    batch = tokenizer(prompts, return_tensors="pt", padding=True)
    output = model.generate(**batch, max_new_tokens=tokens)
    return tokenizer.batch_decode(output[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)


def test_all_artefacts_together_are_small() -> None:
    sizes = [path.stat().st_size for folder in ("model", "data") for path in (DEMO / folder).iterdir()]
    assert 6_000_000 < sum(sizes) <= LIMIT


def test_weights_are_bf16_and_of_the_stated_size() -> None:
    loaded = AutoModelForCausalLM.from_pretrained(MODEL, local_files_only=True)
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.bfloat16}
    assert sum(parameter.numel() for parameter in loaded.parameters()) == 3_410_176
    assert loaded.config.tie_word_embeddings


def test_special_tokens_are_set_everywhere(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) == (BOS, EOS, PAD)
    for settings in (model.config, model.generation_config):
        assert settings.bos_token_id == tokenizer.bos_token_id
        assert settings.eos_token_id == tokenizer.eos_token_id
        assert settings.pad_token_id == tokenizer.pad_token_id != tokenizer.eos_token_id
    assert not model.generation_config.do_sample


def test_tokenizer_round_trips_every_text(tokenizer: PreTrainedTokenizerFast) -> None:
    texts = ["naïve 12 + 34 = 46\n\n#### 46", "  two spaces ", "数"]
    texts += [row["response"] for row in map(json.loads, (DEMO / "data" / "train.jsonl").open(encoding="utf-8"))]
    texts += list(itertools.islice(documents(SECOND_PHASE, 9), 300))
    for text in texts:
        ids = tokenizer(text)["input_ids"]
        assert ids[0] == tokenizer.bos_token_id and ids.count(tokenizer.bos_token_id) == 1
        assert tokenizer.decode(ids, skip_special_tokens=True) == text


def test_no_token_holds_two_digits(tokenizer: PreTrainedTokenizerFast) -> None:
    assert len(tokenizer) == VOCABULARY
    assert all(sum(letter.isdigit() and letter.isascii() for letter in token) <= 1 for token in tokenizer.get_vocab())


def test_tokenizer_is_made_again_the_same(tokenizer: PreTrainedTokenizerFast) -> None:
    problems = make_splits(build.SPLITS, build.DATA_SEED)["train"]
    again = build_tokenizer(build.tokenizer_texts(problems), Recipe().seed)
    assert again.get_vocab() == tokenizer.get_vocab()


def test_base_model_calculates(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    rng = random.Random(123)
    drawn = [(sign, *draw_operands(sign, rng)) for sign in "+-*/" * 15]
    # A pre-training document is ten lines; the sum asked for is the second, so that the format is plain.
    prompts = [f"2 + 2 = 4\n{left} {sign} {right} =" for sign, left, right, _ in drawn]
    answers = [text.split("\n")[0].strip() for text in complete(model, tokenizer, prompts, 5)]
    right = sum(answer == str(result) for answer, (*_, result) in zip(answers, drawn, strict=True))
    assert right >= 0.75 * len(drawn), f"{right} of {len(drawn)}"


def test_base_model_does_not_know_the_task(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    rows = [json.loads(line) for line in (DEMO / "data" / "test.jsonl").read_text(encoding="utf-8").splitlines()[:32]]
    prompts = [math_train_prompt(row["question"]) + MATH_TEST_CUE for row in rows]
    for text in complete(model, tokenizer, prompts, 60):
        assert "The answer is" not in text and "####" not in text


def test_a_tiny_pretraining_runs_and_saves_a_loadable_directory(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    recipe = Recipe(first_steps=3, second_steps=3, rows=4, row_tokens=64)
    batch = next(packed(tokenizer, documents(SECOND_PHASE, 3), recipe))
    assert batch.shape == (4, 64) and batch[0, 0] == tokenizer.bos_token_id
    model = build_llama(tokenizer, seed=0)
    with torch.no_grad():
        before = model(input_ids=batch, labels=batch).loss
    pretrain(model, tokenizer, recipe)
    with torch.no_grad():
        after = model(input_ids=batch, labels=batch).loss
    assert after < before - 0.5
    save_base(model, tokenizer, tmp_path / "model")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "model", local_files_only=True)
    assert torch.equal(loaded.lm_head.weight, model.lm_head.weight)
    assert AutoTokenizer.from_pretrained(tmp_path / "model").get_vocab() == tokenizer.get_vocab()


def test_learning_rate_rises_then_falls() -> None:
    recipe = Recipe()
    total = recipe.first_steps + recipe.second_steps
    factors = [lr_factor(step, recipe) for step in range(total)]
    peak = factors.index(max(factors))
    assert max(factors) == pytest.approx(1.0) and 0.02 * total < peak < 0.05 * total
    assert factors[:peak] == sorted(factors[:peak]) and factors[peak:] == sorted(factors[peak:], reverse=True)
    assert 0.02 <= factors[-1] < 0.021
