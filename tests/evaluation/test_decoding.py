"""Rows that leave and join: the tokens of plain `generate` row by row, for every kind of model and every batch size."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    GemmaConfig,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    PreTrainedModel,
)

from sorsa.evaluation.decode_attention import NAME, use_one_token_attention
from sorsa.evaluation.decoding import Decoder
from sorsa.evaluation.penalties import RuntimePenalties
from sorsa.evaluation.row_cache import SPARE, AttentionRows, StateRows, rows_class
from sorsa.rwkv6.configuration import Rwkv6Config
from sorsa.rwkv6.modeling import Rwkv6ForCausalLM

VOCABULARY, LONGEST = 40, 70  # more new tokens than SPARE, so that the stores grow
SIZES = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "initializer_range": 0.4, "head_dim": 8,
    "bos_token_id": None, "eos_token_id": None, "pad_token_id": None,
}  # fmt: skip


def build(kind: str) -> PreTrainedModel:
    torch.manual_seed(1)
    if kind == "rwkv6":
        return Rwkv6ForCausalLM(
            Rwkv6Config(vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2, head_size=8, mix_rank=3)
        ).eval()
    config = {
        "llama": lambda: LlamaConfig(**SIZES),
        "mistral": lambda: MistralConfig(**SIZES, sliding_window=9),  # shorter than a text: old columns are masked
        "gemma": lambda: GemmaConfig(**SIZES),
    }[kind.removesuffix("+adapter")]()
    model = AutoModelForCausalLM.from_config(config).eval()
    if kind.endswith("+adapter"):
        from peft import LoraConfig, get_peft_model

        adapter = LoraConfig(target_modules=["q_proj", "down_proj"], init_lora_weights=False)
        return get_peft_model(model, adapter).eval().get_base_model()
    return model


def prompts(count: int = 11) -> list[list[int]]:
    generator = torch.Generator().manual_seed(2)
    lengths = torch.randint(1, 30, (count,), generator=generator).tolist()
    return [torch.randint(1, VOCABULARY, (n,), generator=generator).tolist() for n in lengths]


def alone(model: PreTrainedModel, prompt: list[int], ends: frozenset[int], **options: Any) -> list[int]:
    """The new tokens of one prompt by transformers' own `generate`."""
    output = model.generate(
        torch.tensor([prompt]), do_sample=False, max_new_tokens=LONGEST, eos_token_id=sorted(ends) or None,
        pad_token_id=0, **options,
    )  # fmt: skip
    return output[0, len(prompt) :].tolist()


def frequent(model: PreTrainedModel) -> frozenset[int]:
    """Two tokens that a model which never ends would write now and then: as end tokens they make lengths differ."""
    texts = [alone(model, prompt, frozenset()) for prompt in prompts()]
    counts = torch.bincount(torch.tensor([token for text in texts for token in set(text)]), minlength=VOCABULARY)
    return frozenset((counts - len(texts) // 2).abs().argsort()[:2].tolist())


def decode(model: PreTrainedModel, batch_size: int, ends: frozenset[int], **options: Any) -> list[list[int]]:
    rows = rows_class(model)
    options = {"stop": lambda index, new: False, "finished": lambda: None, "penalties": None} | options
    decoder = Decoder(model, rows, batch_size, 0, ends, **options)
    return decoder.run(prompts(), [LONGEST] * len(prompts()))


@pytest.mark.parametrize("kind", ["llama", "mistral", "gemma", "rwkv6", "llama+adapter"])
def test_every_batch_size_gives_the_tokens_of_generate(kind: str) -> None:
    model = build(kind)
    ends = frequent(model)
    with torch.inference_mode():
        expected = [alone(model, prompt, ends) for prompt in prompts()]
    assert len({len(one) for one in expected}) > 4 and max(map(len, expected)) > SPARE
    if kind != "rwkv6":
        use_one_token_attention(model)
        assert model.config._attn_implementation == NAME
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for batch_size in (1, 2, 3, 7):
            assert decode(model, batch_size, ends) == expected


def test_a_window_that_is_ignored_would_be_seen() -> None:
    model = build("mistral")
    narrow = decode(model, 3, frozenset())
    model.config.sliding_window = None
    assert decode(model, 3, frozenset()) != narrow


def test_rows_stop_where_they_are_told_and_each_is_counted() -> None:
    model, counted = build("llama"), []
    whole = decode(model, 4, frozenset())
    limits = [3 + index for index in range(11)]
    stopped = decode(
        model, 4, frozenset(), stop=lambda index, new: len(new) == limits[index], finished=lambda: counted.append(1)
    )
    assert stopped == [new[:limit] for new, limit in zip(whole, limits, strict=True)]
    assert len(counted) == 11


class Words:
    """Enough of a tokenizer."""

    def decode(self, ids: list[int]) -> str:
        return " " if ids[0] < 9 else "a"


@pytest.mark.parametrize("kind", ["llama", "rwkv6"])
def test_penalties_follow_their_rows(kind: str) -> None:
    model = build(kind)
    ends = frequent(model)
    expected = [alone(model, prompt, ends, logits_processor=[RuntimePenalties(Words())]) for prompt in prompts()]
    assert decode(model, 5, ends, penalties=RuntimePenalties(Words())) == expected
    assert decode(model, 5, ends) != expected


def test_columns_come_and_go() -> None:
    model = build("llama")
    rows = AttentionRows(model, 2, 0)
    with torch.inference_mode():
        for slot, prompt in enumerate([[3] * 20, [5] * 4]):
            logits, layers = rows.read([prompt])
            rows.put([slot], [prompt], layers)
        assert (rows.first, rows.end, rows.lengths) == (0, 20, [20, 4])
        assert rows.bytes(10) == 10 * 2 * 2 * 2 * 8 * 4  # tokens, layers, keys and values, heads, head size, FP32
        rows.step(torch.tensor([1, 1]))
        rows.release([0])
        assert (rows.first, rows.end, rows.lengths) == (16, 21, [0, 5])
        rows.keep([1])
        assert (rows.first, rows.end, rows.lengths) == (0, 5, [5])
        logits = rows.step(torch.tensor([2]))
        torch.testing.assert_close(logits, model(torch.tensor([[5] * 4 + [1, 2]])).logits[:, -1], atol=1e-5, rtol=0)


def test_models_with_a_cache_of_their_own_are_told_apart() -> None:
    assert rows_class(build("rwkv6")) is StateRows
    assert rows_class(build("gemma")) is AttentionRows
    gpt2 = AutoModelForCausalLM.from_config(GPT2Config(vocab_size=40, n_embd=8, n_layer=1, n_head=1))
    assert rows_class(gpt2) is AttentionRows
    gpt2.forward = lambda input_ids, attention_mask: None
    assert rows_class(gpt2) is None


@pytest.fixture(autouse=True)
def few_join_at_a_time(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Prefills of one or two prompts, as long ones have."""
    monkeypatch.setattr("sorsa.evaluation.decoding.PREFILL_TOKENS", 50)
