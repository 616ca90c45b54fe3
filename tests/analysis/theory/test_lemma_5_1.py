"""Lemma 5.1: gradients against autograd, and the checker against formulas and constants that are known to be wrong."""

from __future__ import annotations

import pytest
import torch

from sorsa.analysis.theory import lemma_5_1
from sorsa.analysis.theory.draw import generator
from sorsa.analysis.theory.layers import Layers, State, gap_norms, regularizer
from sorsa.analysis.theory.tally import Tally, verdict

M, N, R = 7, 5, 3


def state(B: int = 4, scale: float = 1.0) -> State:
    """Return factors of B layers with entries of the given size."""
    torch.manual_seed(0)
    U, Vt = torch.randn(B, M, R, dtype=torch.float64), torch.randn(B, R, N, dtype=torch.float64)
    return State(scale * U, torch.ones(B, R, dtype=torch.float64), scale * Vt)


def verdicts(tallies: dict[str, Tally]) -> dict[str, str]:
    return {key: verdict(tally.as_json())[0] for key, tally in tallies.items() if tally._values}


def test_the_codes_gradients_are_autograds_layer_by_layer() -> None:
    factors = state()
    layers = Layers(4, M, N, R)
    for form, value in (("squared", regularizer), ("frobenius", lambda s: sum(gap_norms(s)) / 2)):
        expected = lemma_5_1.autograd_gradient(value, factors)
        for got, want in zip(layers.regularizer_gradient(factors, form), expected, strict=True):
            torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)


def test_the_layers_can_be_used_again() -> None:
    layers = Layers(2, M, N, R)
    once = layers.regularizer_gradient(state(2), "squared")
    layers.regularizer_gradient(state(2, 3.0), "squared")
    torch.testing.assert_close(layers.regularizer_gradient(state(2), "squared").U, once.U, rtol=0, atol=0)


def test_the_lemma_holds_where_it_should() -> None:
    result = lemma_5_1.check(0, 2, lambda: None)
    found = {claim["key"]: verdict(claim)[0] for claim in result["claims"]}
    assert {key for key, word in found.items() if word != "holds"} == {"gap_bound"}  # wrong for short U of rank above 1


def test_a_wrong_gradient_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    right = lemma_5_1.formula
    monkeypatch.setattr(lemma_5_1, "formula", lambda s: right(s)._replace(U=1.001 * right(s).U))
    tallies = lemma_5_1._tallies()
    lemma_5_1.check_gradients(tallies, Layers(4, M, N, R), state(), generator(0), {})
    found = verdicts(tallies)
    assert found["formula"] == found["differences"] == "fails"
    assert found["code_squared"] == found["code_frobenius"] == "holds"


def test_wrong_gradients_of_the_code_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    layers = Layers(4, M, N, R)
    right = layers.regularizer_gradient
    monkeypatch.setattr(layers, "regularizer_gradient", lambda s, form: right(s, form)._replace(Vt=0 * s.Vt))
    tallies = lemma_5_1._tallies()
    lemma_5_1.check_gradients(tallies, layers, state(), generator(0), {})
    found = verdicts(tallies)
    assert found["code_squared"] == found["code_frobenius"] == "fails" and found["formula"] == "holds"


def test_a_bound_that_is_too_small_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """One column of length 3, V short: the gradient is 4 x 3 x 8 = 96, the bound without its + 1 as well."""
    one = State(*(torch.zeros(shape, dtype=torch.float64) for shape in ((1, M, 1), (1, 1), (1, 1, N))))
    one.U[0, 0, 0] = 3.0
    gradient = lemma_5_1.formula(one)
    assert gradient.U[0, 0, 0].item() == 96.0
    for constant, word in ((lemma_5_1.lipschitz_constant, "holds"), (lambda u, v: 4 * u * (u**2 - 1.1), "fails")):
        monkeypatch.setattr(lemma_5_1, "lipschitz_constant", constant)
        tallies = lemma_5_1._tallies()
        lemma_5_1.check_bounds(tallies, one, gradient, {"factors": "by hand"})
        longer = one._replace(U=1.0001 * one.U)
        lemma_5_1.check_lipschitz(tallies, one, longer, {"second point": "by hand"})
        found = verdicts(tallies)
        assert (found["gradient_bound"], found["lipschitz"]) == (word, word)


def test_the_proofs_step_fails_at_zero_for_ranks_above_one() -> None:
    """||0 - I_3|| = sqrt(3) is not at most 0 + 1."""
    tallies = lemma_5_1._tallies()
    zero = state(1, 0.0)
    lemma_5_1.check_bounds(tallies, zero, lemma_5_1.formula(zero), {"factors": "zero"})
    claim = tallies["gap_bound"].as_json()
    assert verdict(claim)[0] == "fails" and claim["worst"]["value"] == pytest.approx(3**0.5)
