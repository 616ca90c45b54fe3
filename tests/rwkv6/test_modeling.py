"""The model: against an independent reference in FP64, in parts, in BF16, saved and loaded, checkpointed, compiled."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

import sorsa.rwkv6.mixing
from sorsa.rwkv6 import register_rwkv6
from sorsa.rwkv6.modeling import Rwkv6ForCausalLM
from sorsa.rwkv6.wkv import recurrent

MakeModel = Callable[..., Rwkv6ForCausalLM]


def text(batch: int, length: int, vocabulary: int = 50) -> Tensor:
    generator = torch.Generator().manual_seed(7)
    return torch.randint(vocabulary, (batch, length), generator=generator)


@pytest.mark.parametrize("head_size", [8, 16])
def test_logits_are_the_references(
    make_model: MakeModel, reference_logits: Callable[[dict[str, Tensor], list[int]], Tensor], head_size: int
) -> None:
    model = make_model(head_size=head_size)
    ids = text(2, 70)
    expected = torch.stack([reference_logits(model.state_dict(), row.tolist()) for row in ids])
    torch.testing.assert_close(model(ids).logits.double(), expected, rtol=0, atol=2e-5)
    torch.testing.assert_close(model.double()(ids).logits, expected, rtol=0, atol=1e-12)


def test_token_by_token_and_in_parts_is_the_whole_text(make_model: MakeModel) -> None:
    model, ids = make_model().double(), text(2, 20)
    whole = model(ids)
    for parts in ([1] * 20, [13, 7], [1, 18, 1]):
        state, logits = None, []
        for part in ids.split(parts, dim=1):
            output = model(part, state=state)
            state = output.state
            logits.append(output.logits)
        torch.testing.assert_close(torch.cat(logits, dim=1), whole.logits)
        assert state.length == whole.state.length == 20
        for ours, expected in zip(state.layers, whole.state.layers, strict=True):
            for a, b in zip(ours, expected, strict=True):
                torch.testing.assert_close(a, b)


def test_a_state_is_not_changed_by_going_on_from_it(make_model: MakeModel) -> None:
    model, ids = make_model(), text(1, 12)
    state = model(ids[:, :8]).state
    first = model(ids[:, 8:], state=state).logits
    assert torch.equal(model(ids[:, 8:], state=state).logits, first)


def test_gradients_of_all_parameters_are_those_through_the_loop(
    make_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def loop(r: Tensor, k: Tensor, v: Tensor, lw: Tensor, u: Tensor, s: Tensor | None) -> tuple[Tensor, Tensor]:
        return recurrent(r, k, v, lw, u, r.new_zeros(r.shape[0], *u.shape, u.shape[1]) if s is None else s)

    model, ids = make_model().double(), text(2, 33)
    model(ids, labels=ids).loss.backward()
    ours = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    monkeypatch.setattr(sorsa.rwkv6.mixing, "wkv", loop)
    model(ids, labels=ids).loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.abs().max() > 0, name
        torch.testing.assert_close(ours[name], parameter.grad, msg=lambda m, name=name: f"{name}: {m}")


@pytest.mark.filterwarnings("ignore::FutureWarning")  # the name of its method changes in transformers 6
@pytest.mark.parametrize("reentrant", [False, True])
def test_gradient_checkpointing_changes_no_gradient(make_model: MakeModel, reentrant: bool) -> None:
    ids, gradients, calls = text(2, 33), [], []
    for checkpointing in (False, True):
        model = make_model().train()
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": reentrant})
        model.rwkv.blocks[1].ln1.register_forward_hook(lambda *_: calls.append(1))
        model(ids, labels=ids).loss.backward()
        gradients.append({name: p.grad for name, p in model.named_parameters()})
    assert len(calls) == 3  # once, and with checkpointing once more in the backward pass
    for name, gradient in gradients[0].items():
        assert torch.equal(gradient, gradients[1][name]), name


def test_saved_and_loaded_through_the_auto_class_it_is_the_same_model(make_model: MakeModel, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    register_rwkv6()
    model, ids = make_model(), text(2, 9)
    model.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    assert isinstance(loaded, Rwkv6ForCausalLM)
    assert torch.equal(loaded(ids).logits, model(ids).logits)


def test_a_model_without_checkpoint_is_finite_and_every_part_counts(make_model: MakeModel) -> None:
    from sorsa.rwkv6.configuration import Rwkv6Config

    torch.manual_seed(0)
    model, ids = Rwkv6ForCausalLM(Rwkv6Config(vocab_size=50, hidden_size=64, num_hidden_layers=2)), text(2, 33)
    loss = model(ids, labels=ids).loss
    assert 3 < loss.item() < 5.5  # log(50) = 3.9
    loss.backward()
    assert all(torch.isfinite(p.grad).all() and p.grad.abs().max() > 0 for p in model.parameters())


def test_bf16_keeps_the_recurrence_in_fp32(make_model: MakeModel) -> None:
    model, ids = make_model(), text(2, 40)
    expected = model(ids).logits
    output = model.bfloat16()(ids)
    assert output.logits.dtype == torch.bfloat16
    assert {layer.kv.dtype for layer in output.state.layers} == {torch.float32}
    assert (output.logits.float() - expected).std() < 0.04 * expected.std()


def test_autocast_trains(make_model: MakeModel) -> None:
    model, ids = make_model().train(), text(2, 40)
    expected = model(ids, labels=ids).loss
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model(ids, labels=ids).loss
    loss.backward()
    assert abs(loss.item() - expected.item()) < 0.02
    assert all(p.grad.dtype == torch.float32 and torch.isfinite(p.grad).all() for p in model.parameters())


def test_the_loss_is_divided_by_num_items_in_batch(make_model: MakeModel) -> None:
    model, ids = make_model(), text(2, 12)
    labels = ids.masked_fill(torch.arange(12) < 5, -100)
    logits = model(ids).logits[:, :-1].flatten(0, 1)
    total = torch.nn.functional.cross_entropy(logits, labels[:, 1:].flatten(), ignore_index=-100, reduction="sum")
    torch.testing.assert_close(model(ids, labels=labels).loss, total / 14)
    torch.testing.assert_close(model(ids, labels=labels, num_items_in_batch=torch.tensor(100)).loss, total / 100)


def test_training_returns_no_state_and_tuples_and_hidden_states_work(make_model: MakeModel) -> None:
    model, ids = make_model(), text(2, 6)
    assert model.train()(ids).state is None
    output = model.eval()(ids, output_hidden_states=True)
    assert [h.shape for h in output.hidden_states] == [(2, 6, 32)] * 3
    assert torch.equal(model.head(output.hidden_states[-1]), output.logits)
    assert torch.equal(model(ids, return_dict=False)[0], output.logits)
    assert torch.equal(model(ids, logits_to_keep=2).logits, output.logits[:, -2:])
    assert torch.equal(model(inputs_embeds=model.get_input_embeddings()(ids)).logits, output.logits)
    with pytest.raises(ValueError, match="exactly one of input_ids and inputs_embeds"):
        model(ids, inputs_embeds=model.get_input_embeddings()(ids))


def test_compiled_forward_and_backward(make_model: MakeModel) -> None:
    """`torch.compile` takes the whole model, without falling back to Python anywhere."""
    model, ids = make_model(num_hidden_layers=1).train(), text(1, 4)
    torch._dynamo.reset()
    compiled = torch.compile(lambda ids: model(ids, labels=ids).loss, backend="aot_eager", fullgraph=True)
    gradients = []
    for function in (lambda ids: model(ids, labels=ids).loss, compiled):
        gradients.append(torch.autograd.grad(function(ids), list(model.parameters())))
    torch.testing.assert_close(gradients[1], gradients[0])


def test_the_state_holds_no_text(make_model: MakeModel) -> None:
    """Views of the last position would keep every position's memory."""
    state = make_model()(torch.arange(40)[None], use_cache=True).state
    for layer in state.layers:
        for tensor in layer:
            assert tensor.untyped_storage().nbytes() == tensor.nbytes


def test_a_decay_beyond_every_type_has_gradients(make_model: MakeModel) -> None:
    model = make_model()
    with torch.no_grad():
        model.rwkv.blocks[0].attention.time_decay[0, 0, 0] = 95.0
    ids = torch.arange(20)[None]
    model(ids, labels=ids).loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())
