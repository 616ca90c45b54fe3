"""Lemma 5.5: single steps whose singular values are known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sorsa.analysis.theory import lemma_5_5
from sorsa.analysis.theory.draw import generator
from sorsa.analysis.theory.layers import State
from sorsa.analysis.theory.lemma_5_5 import Steps
from sorsa.analysis.theory.tally import Tally, verdict

ABOUT = {"m": 6, "n": 5, "r": 2, "form": "squared"}


def steps(sigma: tuple[float, float], gradient_U: tuple[float, float], gradient_V: tuple[float, float]) -> Steps:
    """Return one step, gamma 0.01, from orthonormal factors along their own columns: all matrices stay diagonal."""
    U, V = torch.eye(6, 2, dtype=torch.float64)[None], torch.eye(5, 2, dtype=torch.float64)[None]
    plain = State(U, torch.tensor([sigma], dtype=torch.float64), V.mT)
    gradient = State(
        U * torch.tensor(gradient_U, dtype=torch.float64), 0 * plain.S, (V * torch.tensor(gradient_V)).mT.contiguous()
    )
    gamma = torch.tensor([0.01], dtype=torch.float64)
    return Steps(plain, plain.moved(gamma, gradient), gradient, gamma)


def factors(of: Steps) -> dict[str, Tally]:
    tallies = lemma_5_5._tallies()
    bins = {"factors": [[0, 0] for _ in lemma_5_5.EDGES[1:]]}
    lemma_5_5.check_factors(tallies, bins, of, ABOUT)
    return tallies


def value(tally: Tally) -> float:
    return tally.as_json()["worst"]["value"]


def test_a_gradient_of_one_factor_keeps_the_interval() -> None:
    """U's first column shrinks by 1%: sigma_1 too, and eps is 1%."""
    tallies = factors(steps((3.0, 0.5), (1.0, 0.0), (0.0, 0.0)))
    assert value(tallies["factors"]) == pytest.approx(1.0)
    assert value(tallies["difference"]) == pytest.approx(3.0)  # the change of Wp is 3 times eps
    assert verdict(tallies["repaired"].as_json())[0] == "holds"


def test_gradients_of_both_factors_leave_it() -> None:
    """Both shrink by 1%: sigma_1 by almost 2%, while eps is sqrt(2)%; the sum of the norms is enough."""
    tallies = factors(steps((3.0, 0.5), (1.0, 0.0), (1.0, 0.0)))
    assert value(tallies["factors"]) == pytest.approx((1 - 0.99**2) / (0.01 * 2**0.5))
    assert verdict(tallies["factors"].as_json())[0] == "fails"
    assert verdict(tallies["factors_sum"].as_json())[0] == "holds"
    assert verdict(tallies["repaired"].as_json())[0] == "holds"


def test_the_repair_is_not_beyond_doubt_either() -> None:
    """A change that the gradient did not make must be found."""
    of = steps((3.0, 0.5), (1.0, 0.0), (1.0, 0.0))
    grown = of._replace(regularized=of.regularized._replace(S=1.1 * of.regularized.S))
    assert verdict(factors(grown)["repaired"].as_json())[0] == "fails"


@pytest.mark.parametrize(("sigma", "word"), [((3.0, 1.5), "holds"), ((0.5, 0.1), "fails")])
def test_a_step_of_the_matrix_keeps_it_only_for_values_of_1_or_more(sigma: tuple[float, float], word: str) -> None:
    tallies = lemma_5_5._tallies()
    bins = {name: [[0, 0] for _ in lemma_5_5.EDGES[1:]] for name in ("matrix", "matrix, worst direction")}
    of = steps(sigma, (1.0, 0.0), (0.0, 0.0))
    lemma_5_5.check_matrix(tallies, bins, of, generator(0), ABOUT)
    assert verdict(tallies["matrix_worst"].as_json())[0] == word
    assert verdict(tallies["weyl"].as_json())[0] == "holds"
    i = tallies["matrix_worst"].as_json()["worst"]["problem"]["i"]
    assert value(tallies["matrix_worst"]) == pytest.approx(1 / sigma[i - 1])  # eps against eps sigma_i


def test_bins_count_by_size() -> None:
    counts = [[0, 0] for _ in lemma_5_5.EDGES[1:]]
    sigma: Tensor = torch.tensor([0.02, 2.0, 3.0, 1e-9])
    lemma_5_5._bin(counts, sigma, torch.tensor([2.0, 0.5, 1.5, 0.0]))
    assert counts == [[0, 0], [0, 0], [1, 0], [0, 0], [0, 0], [0, 0], [2, 1], [0, 0], [0, 0], [0, 0]]
