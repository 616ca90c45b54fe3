"""Theorem 5.6: spectra against dense ones, trainings against plain steps, and counting on runs with a known end."""

from __future__ import annotations

import pytest
import torch

from sorsa.analysis.theory import counts_5_6, theorem_5_6
from sorsa.analysis.theory.draw import gaussian, generator
from sorsa.analysis.theory.layers import Layers, State
from sorsa.analysis.theory.lemma_5_1 import draw
from sorsa.analysis.theory.runs import LOSSES, draw_start, draw_task, repeated, train
from sorsa.analysis.theory.spectrum import spectrum
from sorsa.analysis.theory.tally import Tally, verdict

GAMMAS = (0.0, 0.05)


def random_state(B: int = 3) -> State:
    rng = generator(1)
    state = draw(rng, B, 9, 7, 3, "near orthonormal")
    return state._replace(S=draw_start(rng, B, 9, 7, 3, "10").S)


def test_spectrum_is_that_of_the_product() -> None:
    state = random_state()
    found = spectrum(state)
    P, sigma, Qt = torch.linalg.svd(state.product)
    torch.testing.assert_close(found.sigma, sigma[:, :3])
    torch.testing.assert_close(found.kappa, sigma[:, 0] / sigma[:, 2])
    torch.testing.assert_close(found.kappa_U, torch.linalg.cond(state.U))
    torch.testing.assert_close(found.kappa_V, torch.linalg.cond(state.Vt))
    torch.testing.assert_close(found.kappa_S, state.S[:, 0] / state.S[:, 2])
    first = (state.U.mT @ P[:, :, :1]).square().sum((1, 2)) + (state.Vt @ Qt[:, :1].mT).square().sum((1, 2))
    torch.testing.assert_close(found.stretch[:, 0], first)


def test_spectrum_of_a_layer_that_has_diverged() -> None:
    state = random_state()
    state.U[1, 0, 0] = torch.inf
    found = spectrum(state)
    assert found.kappa.isnan().tolist() == [False, True, False] and found.sigma[1].isnan().all()
    torch.testing.assert_close(found.sigma[0], spectrum(random_state()).sigma[0])


def test_chain_rule_is_autograds() -> None:
    state = random_state()
    G = gaussian(generator(2), 3, 9, 7)
    leaves = State(*(x.detach().clone().requires_grad_() for x in state))
    expected = torch.autograd.grad((leaves.product * G).sum(), leaves)
    for got, want in zip(state.chain_rule(G), expected, strict=True):
        torch.testing.assert_close(got, want)


@pytest.mark.parametrize("loss", LOSSES)
def test_all_copies_of_a_problem_have_the_same_task(loss: str) -> None:
    start = random_state()
    gradient, eta = draw_task(generator(2), start, loss, 3, 2)
    assert eta.shape == (3,) and (eta > 0).all()
    for part in gradient(repeated(start, 2), 1):
        torch.testing.assert_close(part[:3], part[3:])
        assert part.isfinite().all() and (part != 0).any()


@pytest.mark.parametrize("loss", LOSSES)
def test_of_more_problems_the_first_are_the_same(loss: str) -> None:
    found = []
    for N in (2, 4):
        rng = generator(3)
        start = draw_start(rng, N, 9, 7, 3, "gaussian")
        gradient, eta = draw_task(rng, start, loss, 3, 1)
        found.append((*(x[:2] for x in gradient(start, 2)), eta[:2]))
    for few, many in zip(*found, strict=True):
        torch.testing.assert_close(few, many)


def test_regression_learns() -> None:
    state = random_state()
    gradient, eta = draw_task(generator(2), state, "regression", 60, 1)
    before = gradient(state, 1).U.norm()
    for t in range(1, 61):
        state = state.moved(eta, gradient(state, t))
    assert gradient(state, 1).U.norm() < 0.5 * before


def test_a_training_is_plain_descent_with_both_gradients() -> None:
    start = random_state()
    gradient, eta = draw_task(generator(2), start, "regression", 4, 1)
    gammas, layers = torch.tensor([0.0, 0.01, 0.1], dtype=torch.float64), Layers(3, 9, 7, 3)
    ran = list(train(layers, start, gradient, eta, gammas, "squared", 4))
    state = start
    for t in range(1, 5):
        slope, force = layers.regularizer_gradient(state, "squared"), gradient(state, t)
        without = State(*(x - eta.view(3, *[1] * (x.ndim - 1)) * g for x, g in zip(state, force, strict=True)))
        torch.testing.assert_close(ran[t - 1].unregularized.sigma, spectrum(without).sigma)
        U = without.U - gammas[:, None, None] * slope.U
        state = State(U, without.S, without.Vt - gammas[:, None, None] * slope.Vt)
        torch.testing.assert_close(ran[t - 1].regularized.sigma, spectrum(state).sigma)


def counted(direction: float) -> dict[str, Tally]:
    """Count the trainings of the example by hand: U's diagonal changes by (-, +) 0.05 times `direction` per step."""
    one = torch.eye(2, dtype=torch.float64).expand(2, 2, 2)
    start = State(one, torch.tensor([[10.0, 1.0]] * 2, dtype=torch.float64), one)
    constant = State(torch.diag(torch.tensor([1.0, -1.0], dtype=torch.float64)), 0 * start.S, 0 * one)
    eta = torch.full((2,), 0.05 * direction, dtype=torch.float64)
    gammas = torch.tensor(GAMMAS, dtype=torch.float64)
    steps = list(train(Layers(2, 2, 2, 2), start, lambda state, t: constant, eta, gammas, "squared", 5))
    counts = counts_5_6.tallies()
    about = {"m": 2, "n": 2, "r": 2, "spectrum": "by hand", "loss": LOSSES[0], "form": "squared"}
    counts_5_6.count_runs(counts, steps, GAMMAS, about)
    counts_5_6.count_single_steps(counts, steps, GAMMAS, about)
    return counts


def test_a_known_counterexample_is_counted_as_reversed() -> None:
    counts = counted(1.0)
    later = counts["later_steps"].as_json()
    assert (later["problems"], later["holds"], later["ties"]) == (4, 0, 0)
    assert verdict(counts["first_step"].as_json())[1].endswith("a tie in 100.0%, reversed in 0.0%")
    assert later["when"][0]["problems"] == 0  # the largest direction is the shorter one
    assert counts["single_step"].as_json()["holds"] == 0


def test_the_mirrored_problem_holds_from_the_second_step_on() -> None:
    counts = counted(-1.0)
    later = counts["later_steps"].as_json()
    assert verdict(later)[0] == "holds" and later["when"][0]["problems"] == 4
    assert counts["every_step"].as_json()["ties"] == 1  # t = 1
    assert counts["factors"].as_json()["ties"] == 4  # V stays orthonormal in both runs


def test_the_example_in_the_report_is_a_counterexample() -> None:
    example = theorem_5_6.example()
    without, with_it = example["kappa unregularized"], example["kappa regularized"]
    assert without[:2] == pytest.approx([9.5 / 1.05, 9 / 1.1]) and with_it[0] == without[0]
    U = 0.9 - 0.05 * 4 * 0.95 * (0.95**2 - 1), 1.1 - 0.05 * 4 * 1.05 * (1.05**2 - 1)
    assert with_it[1] == pytest.approx(10 * U[0] / U[1]) and with_it[1] > without[1]


def test_rank_one_is_a_tie() -> None:
    start = draw_start(generator(3), 2, 6, 5, 1, "10")
    gradient, eta = draw_task(generator(4), start, LOSSES[1], 3, 2)
    gammas = torch.tensor(GAMMAS, dtype=torch.float64).repeat_interleave(2)
    steps = list(train(Layers(4, 6, 5, 1), repeated(start, 2), gradient, eta.repeat(2), gammas, "squared", 3))
    counts = counts_5_6.tallies()
    about = {"m": 6, "n": 5, "r": 1, "spectrum": "10", "loss": LOSSES[1], "form": "squared"}
    counts_5_6.count_runs(counts, steps, GAMMAS, about)
    claim = counts["rank_one"].as_json()
    assert claim["ties"] == claim["problems"] == 4 and claim["worst"]["problem"]["t"] in (2, 3)


def test_a_wrong_slope_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def slope() -> dict:
        tally = counts_5_6.tallies()["slope"]
        theorem_5_6.check_slope(tally, generator(5), 2)
        return tally.as_json()

    assert verdict(slope())[0] == "holds"
    real = spectrum
    monkeypatch.setattr(
        theorem_5_6, "spectrum", lambda state: real(state)._replace(stretch=2 + 1.1 * (real(state).stretch - 2))
    )
    assert verdict(slope())[0] == "fails"
