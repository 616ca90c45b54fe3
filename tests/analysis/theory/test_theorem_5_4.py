"""Theorem 5.4: descents whose outcome is known, and its assumptions on Hessians that can be worked out by hand."""

from __future__ import annotations

import pytest
import torch

from sorsa.analysis.theory import hessians, theorem_5_4
from sorsa.analysis.theory.draw import generator
from sorsa.analysis.theory.layers import Layers, State, regularizer
from sorsa.analysis.theory.tally import verdict
from sorsa.analysis.theory.theorem_5_4 import COMBINATIONS, STEP_LENGTHS


@pytest.fixture(scope="module")
def layers() -> Layers:
    return Layers(len(COMBINATIONS), 8, 6, 2)


def test_matrix_steps_follow_the_closed_form(layers: Layers) -> None:
    """For L_train = mu every step multiplies Wp - T by 1 - eta: F falls by its square."""
    gap, rate = theorem_5_4.run_matrix(layers, generator(0), theorem_5_4.batch(), 1.0)
    b = COMBINATIONS.index((1.95, 1.0, 0.01))
    bound = 2**0.5
    eta = 1.95 / (1 + 0.01 / 4 * 2 * 4 * bound * (bound**2 + 1))
    assert rate[b].item() == pytest.approx(1 - eta * 0.99)
    assert gap[5, b].item() == pytest.approx((1 - eta) ** 10)


def test_the_vector_problem_has_its_minimum_where_it_says(layers: Layers) -> None:
    gap, _ = theorem_5_4.run_vector(layers, generator(0), theorem_5_4.batch(), 1.0)
    assert (gap > -1e-12).all() and (gap[0] == 1).all()
    easy = [b for b, (c, condition, gamma) in enumerate(COMBINATIONS) if (c, gamma) == (1, 0.01) and condition <= 2]
    assert len(easy) == 3 and (gap[-1, easy] < 1e-12).all()


def test_the_checker_finds_the_step_lengths_that_are_too_long(layers: Layers) -> None:
    tallies = theorem_5_4._tallies()
    gap, rate = theorem_5_4.run_vector(layers, generator(0), theorem_5_4.batch(), 1.0)
    theorem_5_4._count(tallies, "vector", gap, rate, {"sigma_1 at the start": 1.0})
    claim = tallies["vector"].as_json()
    assert verdict(claim)[0] == "holds only when" and "eta <= 1 /" in verdict(claim)[1]
    assert verdict(tallies["vector_corollary"].as_json())[0] == "holds"
    assert verdict(tallies["vector_repaired"].as_json())[0] == "holds"
    shares = [claim["by"]["eta (L_train + gamma L_reg)"][str(c)] for c in STEP_LENGTHS]
    assert all(holds == problems for problems, holds, _ in shares[:3]) and shares[-1][1] < shares[-1][0]


def test_a_bound_that_is_too_fast_is_found(layers: Layers) -> None:
    tallies = theorem_5_4._tallies()
    gap, rate = theorem_5_4.run_vector(layers, generator(0), theorem_5_4.batch(), 1.0)
    theorem_5_4._count(tallies, "vector", gap, rate**20, {"sigma_1 at the start": 1.0})
    assert verdict(tallies["vector_corollary"].as_json())[0] == "fails"


def column(length_U: float, length_V: float) -> State:
    """Return factors of rank 1 with columns of the given lengths."""
    U, Vt = torch.zeros(1, 5, 1, dtype=torch.float64), torch.zeros(1, 1, 4, dtype=torch.float64)
    U[0, 0, 0], Vt[0, 0, 0] = length_U, length_V
    return State(U, torch.ones(1, 1, dtype=torch.float64), Vt)


def test_hessian_of_the_regularizer() -> None:
    """Along U of one column the curvature is 12 |U|^2 - 4, across it 4 (|U|^2 - 1)."""
    low, high = hessians.hessian_ends(regularizer, column(1.5, 0.0))[0].tolist()
    assert (low, high) == pytest.approx((-4.0, 12 * 1.5**2 - 4))


def test_assumption_5_3_is_sharp_and_smoothness_fails_for_a_long_and_a_short_factor() -> None:
    tallies = {tally.key: tally for tally in hessians.tallies()}
    hessians._check_regularizer(tallies, column(1.8, 0.0), {})
    sharp, smooth = (tallies[key].as_json() for key in ("assumption_5_3", "smoothness"))
    assert verdict(sharp)[0] == "holds" and sharp["worst"]["value"] == pytest.approx(1.0)
    assert verdict(smooth)[0] == "fails"
    assert smooth["worst"]["value"] == pytest.approx((12 * 1.8**2 - 4) / (4 * 1.8 * (1.8**2 + 1)))


def test_no_loss_of_wp_is_strongly_convex_in_the_factors() -> None:
    tallies = {tally.key: tally for tally in hessians.tallies()}
    hessians._check_training(tallies, column(1.0, 1.0), torch.zeros(1, 5, 4, dtype=torch.float64), {})
    claim = tallies["assumption_5_2"].as_json()
    assert (claim["problems"], claim["holds"]) == (2, 0)
