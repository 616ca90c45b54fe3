"""Lemma 5.5: after one step from the same state, with and without the regularizer, singular values are close.

    (1 - eps) sigma_i^unreg <= sigma_i^reg <= (1 + eps) sigma_i^unreg,   eps = gamma ||grad L_reg||_F

The paper does not say what the gradient with respect to Wp is. Two readings (the proof's W_reg - W_unreg = gamma grad
has another sign than Eq. 2, and its norm is at most, not equal to, the bound; neither matters):

    factors  U and V take the steps, as in training; ||grad L_reg||_F is the norm of both factors' gradients together
    matrix   Wp itself takes the step, W_reg = W_unreg - gamma G with ||G||_F = eps / gamma: all that the proof uses
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from sorsa.analysis.theory.draw import POINTS, gaussian, generator, log_uniform, orthonormal
from sorsa.analysis.theory.layers import Layers, State
from sorsa.analysis.theory.lemma_5_1 import draw
from sorsa.analysis.theory.spectrum import spectrum
from sorsa.analysis.theory.tally import Tally

KEY = "lemma_5_5"
TITLE = "Lemma 5.5: singular values after a regularized step"
SHAPES = ((12, 8, 1), (12, 8, 3), (60, 40, 8), (200, 150, 16))  # m, n, r
SETTINGS = tuple(itertools.product(SHAPES, ("squared", "frobenius")))
NOISES = ("all entries", "one column")
ROUNDING = 1e-13  # of sigma_1: what FP64 leaves of a singular value
EDGES = tuple(-3 + step / 2 for step in range(11))  # of the figure's bins, log10 of sigma


class Steps(NamedTuple):
    """One step of B layers with and without the regularizer, the latter's gradient at the common start, gamma (B,)."""

    unregularized: State
    regularized: State
    gradient: State
    gamma: Tensor


def check(seed: int, problems: int, tick: Callable[[], None]) -> dict[str, Any]:
    """Check the lemma on single steps from random states.

    Args:
        seed: Seed of the problems.
        problems: `POINTS` times as many problems per setting (shape and form of the regularizer).
        tick: Called after each of the `SETTINGS`.

    Returns:
        The statement's part of theory.json; `bins` counts [singular values, inside the interval] by their size.
    """
    tallies = _tallies()
    bins = {name: [[0, 0] for _ in EDGES[1:]] for name in ("factors", "matrix", "matrix, worst direction")}
    for number, ((m, n, r), form) in enumerate(SETTINGS):
        rng = generator(seed, 3, number)
        about = {"m": m, "n": n, "r": r, "form": form}
        steps = draw_steps(rng, Layers(POINTS * problems, m, n, r), POINTS * problems, form)
        check_factors(tallies, bins, steps, about)
        if form == "squared":
            check_matrix(tallies, bins, steps, rng, about)
        tick()
    return {
        "key": KEY,
        "title": TITLE,
        "claims": [tally.as_json() for tally in tallies.values()],
        "bins": {"edges_log10_sigma": list(EDGES), "counts": bins},
    }


def _tallies() -> dict[str, Tally]:
    claim = "(1 - eps) sigma_i <= sigma_i^reg <= (1 + eps) sigma_i for all i"
    measure = "largest (|change of sigma_i| - rounding) / (eps sigma_i)"
    small = (
        "Weyl's inequality bounds the change by eps, not by eps sigma_i: the last line of the proof follows only for "
        "sigma_i >= 1."
    )
    both = (
        "The change of Wp is -gamma (grad_U S V^T + U S grad_V^T) to first order: both gradients add up, and a factor "
        "with singular values below 1 makes them larger relative to Wp. See the repair."
    )
    all_of_them = (
        Tally("factors", "statement", f"{claim}; factors take the step, `squared`", measure, 1.0, why=both),
        Tally("matrix", "statement", f"{claim}; Wp takes the step, G in a random direction", measure, 1.0, why=small),
        Tally(
            "matrix_worst",
            "statement",
            f"{claim}; Wp takes the step, G along one pair of singular vectors",
            measure,
            1.0,
            why=small,
        ),
        Tally("factors_frobenius", "code", f"{claim}; factors take the step, `frobenius`", measure, 1.0, why=both),
        Tally(
            "factors_sum",
            "reading",
            f"{claim}; factors take the step, `squared`, eps = gamma (||grad_U||_F + ||grad_V||_F)",
            measure,
            1.0,
            why=both,
        ),
        Tally(
            "difference",
            "proof step",
            "||W_reg - W_unreg||_F <= eps; factors take the step, `squared`",
            "left side / right side",
            1 + 1e-9,
            why="A change of U reaches Wp multiplied by S V^T: it grows with the singular values.",
        ),
        Tally(
            "weyl",
            "proof step",
            "|sigma_i^reg - sigma_i| <= eps for all i; Wp takes the step, both kinds of G",
            "largest (|change of sigma_i| - rounding) / eps",
            1.0,
        ),
        Tally(
            "repaired",
            "repair",
            "(1 - a) (1 - b) sigma_i <= sigma_i^reg <= (1 + a) (1 + b) sigma_i for all i; factors take the step, both "
            "forms; a = gamma ||grad_U||_2 / sigma_min(U^unreg), b the same for V",
            "largest (|change of sigma_i| - rounding) / allowed",
            1.0,
        ),
    )
    return {tally.key: tally for tally in all_of_them}


def draw_steps(rng: np.random.Generator, layers: Layers, B: int, form: str) -> Steps:
    """Return B steps: a training step of 0.01 to 10% in a random direction, gamma from 1e-5 to 0.1.

    The factors they start from are orthonormal with one of the `NOISES`, in turn: Gaussian in all entries, or one
    column of U and the same column of V too long, as training along one direction leaves them.
    """
    m, n, r = layers.shape
    state = draw(rng, B, m, n, r, "near orthonormal")
    longer = 1 + log_uniform(rng, 1e-3, 0.5, B)[:, None, None] * (torch.arange(r) == 0)  # (B, 1, r)
    second = torch.arange(B)[:, None, None] % 2 == 1
    state = state._replace(
        U=torch.where(second, orthonormal(rng, B, m, r) * longer, state.U),
        Vt=torch.where(second, orthonormal(rng, B, n, r).mT * longer.mT, state.Vt),
    )
    largest, kappa = log_uniform(rng, 0.1, 100, B), log_uniform(rng, 1, 1000, B)
    S = largest[:, None] * kappa[:, None] ** -torch.linspace(0, 1, r, dtype=torch.float64)
    state = state._replace(S=S)
    step = log_uniform(rng, 1e-4, 0.1, B)
    direction = State(
        gaussian(rng, B, m, r) / m**0.5, S * gaussian(rng, B, r), gaussian(rng, B, r, n) / n**0.5
    )  # of the size of the factors themselves
    unregularized = state.moved(step, direction)
    gradient = layers.regularizer_gradient(state, form)
    gamma = log_uniform(rng, 1e-5, 0.1, B)
    return Steps(unregularized, unregularized.moved(gamma, gradient), gradient, gamma)


def check_factors(
    tallies: dict[str, Tally], bins: dict[str, list[list[int]]], steps: Steps, about: dict[str, Any]
) -> None:
    """Check the reading `factors`, its first step and the repair."""
    before, after = spectrum(steps.unregularized).sigma, spectrum(steps.regularized).sigma  # (B, r)
    change = (after - before).abs() - ROUNDING * before[:, :1]
    norm_U, norm_V = (torch.linalg.matrix_norm(x) for x in (steps.gradient.U, steps.gradient.Vt))
    eps, eps_sum = steps.gamma * (norm_U**2 + norm_V**2).sqrt(), steps.gamma * (norm_U + norm_V)

    def problem(b: int) -> dict[str, Any]:
        return _describe(about, steps, before, b)

    relative = change / (eps[:, None] * before)
    if about["form"] == "squared":
        by = {"r": str(about["r"]), "noise": [NOISES[b % 2] for b in range(len(before))]}
        tallies["factors"].add(relative.amax(1), problem, by=by)
        tallies["factors_sum"].add((change / (eps_sum[:, None] * before)).amax(1), problem, by=by)
        moved = torch.linalg.matrix_norm(steps.regularized.product - steps.unregularized.product)
        tallies["difference"].add(moved / eps, problem, {"sigma_1 <= 0.5": before[:, 0] <= 0.5})
        _bin(bins["factors"], before, relative)
    else:
        tallies["factors_frobenius"].add(relative.amax(1), problem, by={"r": str(about["r"])})
    tallies["repaired"].add(_against_repair(steps, before, after), problem)


def _against_repair(steps: Steps, before: Tensor, after: Tensor) -> Tensor:
    """Return the change of the singular values over what the repaired lemma allows, the largest over i, (B,).

    W_reg is (I - gamma grad_U U+) W_unreg (I - gamma grad_V V+)^T, with U+ the pseudoinverse of U after the training
    step: singular values change by factors between the extreme singular values of the two brackets.
    """
    size = []
    for gradient, factor in zip(steps.gradient[::2], steps.unregularized[::2], strict=True):  # U and Vt
        smallest = torch.linalg.svdvals(factor)[:, -1]
        size.append(steps.gamma * torch.linalg.matrix_norm(gradient, 2) / smallest)
    a, b = (x[:, None] for x in size)
    rounding = ROUNDING * before[:, :1] / before
    ratio = after / before
    up = (ratio - 1 - rounding) / (a + b + a * b)
    down = (1 - ratio - rounding) / (1 - (1 - a).clamp_min(0) * (1 - b).clamp_min(0))
    return torch.maximum(up, down).amax(1)


def check_matrix(
    tallies: dict[str, Tally],
    bins: dict[str, list[list[int]]],
    steps: Steps,
    rng: np.random.Generator,
    about: dict[str, Any],
) -> None:
    """Check the reading `matrix`: a random G, and G along one pair of singular vectors, which shrinks that value."""
    W = steps.unregularized.product
    B, r = len(W), about["r"]
    P, sigma, Qt = torch.linalg.svd(W, full_matrices=False)
    sigma = sigma[:, :r]
    norms = [torch.linalg.matrix_norm(x) for x in (steps.gradient.U, steps.gradient.Vt)]
    eps = steps.gamma * (norms[0] ** 2 + norms[1] ** 2).sqrt()
    index = torch.from_numpy(rng.integers(r, size=B))
    rows = torch.arange(B)
    random = gaussian(rng, *W.shape)
    for key, name, G in (
        ("matrix", "matrix", random / torch.linalg.matrix_norm(random)[:, None, None]),
        ("matrix_worst", "matrix, worst direction", P[rows, :, index, None] * Qt[rows, index, None, :]),
    ):
        after = torch.linalg.svdvals(W - eps[:, None, None] * G)[:, :r]
        change = (after - sigma).abs() - ROUNDING * sigma[:, :1]

        def problem(b: int, key: str = key) -> dict[str, Any]:
            return _describe(about, steps, sigma, b) | ({"i": index[b].item() + 1} if key == "matrix_worst" else {})

        relative = change / (eps[:, None] * sigma)
        large = {"sigma_r >= 1": sigma[:, -1] >= 1}
        tallies[key].add(relative.amax(1), problem, large, {"r": str(r)})
        tallies["weyl"].add((change / eps[:, None]).amax(1), problem)
        if key == "matrix":
            _bin(bins[name], sigma, relative)
        else:
            _bin(bins[name], sigma[rows, index], relative[rows, index])


def _describe(about: dict[str, Any], steps: Steps, sigma: Tensor, b: int) -> dict[str, Any]:
    """Return the description of problem b."""
    ends = {"sigma_1": sigma[b, 0].item(), "sigma_r": sigma[b, -1].item()}
    return about | {"index": b, "noise": NOISES[b % 2], "gamma": steps.gamma[b].item()} | ends


def _bin(counts: list[list[int]], sigma: Tensor, relative: Tensor) -> None:
    """Count singular values, and those inside the lemma's interval, by the logarithm of their size."""
    place = torch.bucketize(sigma.log10().flatten(), torch.tensor(EDGES, dtype=sigma.dtype)) - 1
    inside = relative.flatten() <= 1
    for k, count in enumerate(counts):
        here = place == k
        count[0] += int(here.sum())
        count[1] += int((here & inside).sum())
