"""Generation: the state instead of a cache, prompts of different lengths in one batch, what is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from sorsa.errors import UsageError
from sorsa.rwkv6.modeling import Rwkv6ForCausalLM

MakeModel = Callable[..., Rwkv6ForCausalLM]
PROMPTS = [[5, 9, 2], [7], [11, 3, 3, 8, 20, 31, 4], list(range(1, 48))]
GREEDY = {"do_sample": False, "max_new_tokens": 12, "eos_token_id": None}


def left_padded(prompts: list[list[int]], padding: int = 0) -> dict[str, Tensor]:
    width = max(map(len, prompts))
    rows = [[padding] * (width - len(p)) + p for p in prompts]
    mask = [[0] * (width - len(p)) + [1] * len(p) for p in prompts]
    return {"input_ids": torch.tensor(rows), "attention_mask": torch.tensor(mask)}


def greedy(model: Rwkv6ForCausalLM, prompt: list[int], steps: int) -> list[int]:
    """Greedy decoding that computes the whole text anew for every token."""
    tokens = list(prompt)
    for _ in range(steps):
        tokens.append(int(model(torch.tensor([tokens]), use_cache=False).logits[0, -1].argmax()))
    return tokens


def test_padding_on_the_left_is_exact(make_model: MakeModel) -> None:
    model, batch = make_model().double(), left_padded(PROMPTS, padding=13)
    output = model(**batch)
    for row, prompt in enumerate(PROMPTS):
        alone = model(torch.tensor([prompt]))
        torch.testing.assert_close(output.logits[row, -len(prompt) :], alone.logits[0], rtol=0, atol=1e-12)
        for batched, single in zip(output.state.layers, alone.state.layers, strict=True):
            for a, b in zip(batched, single, strict=True):
                torch.testing.assert_close(a[row], b[0], rtol=0, atol=1e-12)
    without_mask = model(batch["input_ids"]).logits
    assert (without_mask - output.logits)[0, -1].abs().max() > 0.01  # else this test could not fail


def test_padding_on_the_right_changes_nothing_before_it(make_model: MakeModel) -> None:
    model = make_model().double()
    alone = model(torch.tensor([PROMPTS[0]])).logits
    padded = model(torch.tensor([PROMPTS[0] + [0] * 5]), attention_mask=torch.tensor([[1] * 3 + [0] * 5])).logits
    torch.testing.assert_close(padded[:, :3], alone)


def test_generate_with_the_state_is_computing_everything_anew(make_model: MakeModel) -> None:
    model = make_model()
    for prompt in PROMPTS:
        expected = greedy(model, prompt, 12)
        for use_cache in (True, False):
            ids = model.generate(torch.tensor([prompt]), use_cache=use_cache, **GREEDY)
            assert ids[0].tolist() == expected


def test_a_batch_of_different_lengths_generates_what_each_prompt_alone_does(make_model: MakeModel) -> None:
    model = make_model()
    expected = [greedy(model, prompt, 12) for prompt in PROMPTS]
    ids = model.generate(**left_padded(PROMPTS), **GREEDY)
    assert [row[-12:] for row in ids.tolist()] == [row[-12:] for row in expected]
    assert len({tuple(row[-12:]) for row in expected}) > 1


def test_each_step_sees_one_token_and_the_state_does_not_grow(make_model: MakeModel) -> None:
    model, lengths = make_model(), []
    model.rwkv.register_forward_pre_hook(
        lambda module, args, kwargs: lengths.append(kwargs["input_ids"].shape[1]), with_kwargs=True
    )
    output = model.generate(torch.tensor([PROMPTS[2]]), return_dict_in_generate=True, **GREEDY)
    assert lengths == [7] + [1] * 11
    assert output.sequences.shape == (1, 19)
    short, long = (model(torch.ones(1, n, dtype=torch.long)).state for n in (3, 40))
    assert [t.shape for t in short.layers[1]] == [t.shape for t in long.layers[1]] == [(1, 32), (1, 4, 8, 8), (1, 32)]


def test_generation_goes_on_from_a_state(make_model: MakeModel) -> None:
    model, prompt = make_model(), torch.tensor([PROMPTS[3]])
    state = model(prompt[:, :30]).state
    assert torch.equal(model.generate(prompt, state=state, **GREEDY), model.generate(prompt, **GREEDY))
    with pytest.raises(UsageError, match=r"input_ids: 17 tokens with a state of 30 tokens; give the whole text"):
        model.generate(prompt[:, 30:], state=state, **GREEDY)


def test_sampling_several_sequences(make_model: MakeModel) -> None:
    torch.manual_seed(0)
    settings = {**GREEDY, "do_sample": True, "num_return_sequences": 3}
    ids = make_model().generate(**left_padded(PROMPTS[:2]), **settings)
    assert ids.shape == (6, 15)


def test_beam_search_is_refused(make_model: MakeModel) -> None:
    with pytest.raises(UsageError, match=r"num_beams > 1: beam search is not supported for RWKV6; leave num_beams"):
        make_model().generate(torch.tensor([[1, 2]]), num_beams=2, **GREEDY)
