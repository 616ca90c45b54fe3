"""Theorem 5.4: gradient descent on F = L_train + gamma L_reg converges at least as fast as rate^t.

    rate = 1 - eta (mu - gamma C_reg),  0 < gamma < mu / C_reg,  0 < eta < 2 / (L_train + gamma L_reg)

The curvature of L_train lies between mu and L_train (Assumption 5.2), that of L_reg above -C_reg (Assumption 5.3;
C_reg = 4 is exact, reached at U = 0). The L_reg of step and rate is Lemma 5.1's constant. The paper writes both terms
as functions of Wp, but the regularizer is one of the factors and no function of their product. Three readings:

    vector   the variable is (U, S, V), and L_train is strongly convex in it: the only one that meets all assumptions
    sorsa    L_train is strongly convex in Wp, and the factors take the steps: what is trained
    matrix   L_train is strongly convex in Wp, and Wp takes the steps; the regularizer of its singular vectors is 0
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sorsa.analysis.theory import hessians
from sorsa.analysis.theory.draw import POINTS, gaussian, generator, orthonormal, symmetric
from sorsa.analysis.theory.layers import Layers, State, regularizer
from sorsa.analysis.theory.lemma_5_1 import lipschitz_constant
from sorsa.analysis.theory.tally import Tally

KEY = "theorem_5_4"
TITLE = "Theorem 5.4: linear convergence of gradient descent"
SHAPES = ((8, 6, 2), (12, 10, 3))  # m, n, r: 30 and 69 numbers in (U, S, V), whose Hessians are full matrices
SETTINGS = (*SHAPES, "hessians")
STEPS = 100
C_REG = 4.0
STEP_LENGTHS = (0.25, 0.5, 1.0, 1.25, 1.5, 1.75, 1.95)  # eta, in units of 1 / (L_train + gamma L_reg)
CONDITIONS = (1.0, 1.2, 2.0, 10.0)  # L_train / mu; mu is 1
GAMMAS = (0.01, 0.3, 0.9)  # in units of mu / C_reg
COMBINATIONS = tuple(itertools.product(STEP_LENGTHS, CONDITIONS, GAMMAS))
SCALES = (0.1, 1.0, 10.0)  # largest singular value at the start
SHOWN = (2.0, 0.01)  # L_train / mu and gamma of the curves in the figure
TOLERANCE = 1e-9  # of (F - F*) / (F at 0 - F*)


class Batch(NamedTuple):
    """One problem for each of `COMBINATIONS`, (B,) each: eta L, gamma, and the ends of L_train's curvature."""

    c: Tensor
    gamma: Tensor
    mu: Tensor
    L: Tensor


def check(seed: int, problems: int, tick: Callable[[], None]) -> dict[str, Any]:
    """Check the theorem on random problems.

    Args:
        seed: Seed of the problems.
        problems: Problems for each shape and each of `COMBINATIONS`; `POINTS` times as many Hessians.
        tick: Called after each of the `SETTINGS`.

    Returns:
        The statement's part of theory.json; `curves` are examples for the figure.
    """
    tallies = _tallies()
    curves: dict[str, list[float]] = {}
    for number, (m, n, r) in enumerate(SHAPES):
        layers = Layers(len(COMBINATIONS), m, n, r)
        for index in range(problems):
            rng = generator(seed, 2, number, index)
            scale = SCALES[index % len(SCALES)]
            about = {"m": m, "n": n, "r": r, "draw": index}
            for reading, run in (("vector", run_vector), ("sorsa", run_sorsa), ("matrix", run_matrix)):
                gap, rate = run(layers, rng, batch(), scale)
                _count(tallies, reading, gap, rate, about | {"sigma_1 at the start": scale})
                if number == 0 and index == SCALES.index(1.0):
                    curves |= _shown(reading, gap, rate)
        tick()
    hessians.check(tallies, generator(seed, 2, len(SHAPES)), POINTS * problems)
    tick()
    return {
        "key": KEY,
        "title": TITLE,
        "claims": [tally.as_json() for tally in tallies.values()],
        "curves": curves,
    }


def _tallies() -> dict[str, Tally]:
    claim = "F at t - F* <= rate^t (F at 0 - F*) for all t up to 100"
    measure = "largest (F at t - F*) / (F at 0 - F*) - rate^t"
    too_long = (
        "Descent's usual guarantee is a factor of 1 - eta m (2 - eta M) for curvature between m and M: that is at most "
        "1 - eta m only for eta <= 1 / M. For M = m and 1 / M < eta < 2 / M the rate is below 0, and F - F* never is."
    )
    all_of_them = (
        Tally("vector", "statement", f"{claim}, all assumptions met", measure, TOLERANCE, why=too_long),
        Tally(
            "vector_corollary",
            "statement",
            "the same with eta = 1 / (L_train + gamma L_reg), all assumptions met",
            measure,
            TOLERANCE,
        ),
        Tally(
            "vector_repaired",
            "repair",
            "the same with rate = 1 - eta (mu - gamma C_reg) (2 - eta (L_train + gamma L_reg)), all assumptions met",
            measure,
            TOLERANCE,
        ),
        Tally("matrix", "reading", f"{claim}, steps on Wp itself", measure, TOLERANCE, why=too_long),
        Tally(
            "sorsa",
            "reading",
            f"{claim}, steps on the factors as SORSA trains, L_train strongly convex in Wp",
            measure,
            TOLERANCE,
            why="In the factors the curvature is that in Wp times products of singular values: large ones make the "
            "step too long and it diverges, small ones make it slow. L_train is never strongly convex in the factors, "
            "since (a U, S / a, V) is the same Wp for every a.",
        ),
        *hessians.tallies(),
    )
    return {tally.key: tally for tally in all_of_them}


def batch() -> Batch:
    """Return the parameters of one problem for each of `COMBINATIONS`."""
    c, condition, gamma = torch.tensor(COMBINATIONS, dtype=torch.float64).T
    return Batch(c, gamma / C_REG, torch.ones_like(c), condition)


def eigenvalues(rng: Any, batch: Batch, d: int) -> Tensor:
    """Return random eigenvalues (B, d) from mu to L, both of which occur."""
    share = torch.from_numpy(rng.uniform(size=(len(batch.c), d)))
    share[:, 0], share[:, -1] = 0, 1
    return batch.mu[:, None] + (batch.L - batch.mu)[:, None] * share


def eta_and_rate(batch: Batch, M_U: Tensor, M_V: Tensor) -> tuple[Tensor, Tensor]:
    """Return the step length and the theorem's rate, (B,) each, for factors within M_U and M_V."""
    eta = batch.c / (batch.L + batch.gamma * lipschitz_constant(M_U, M_V))
    return eta, 1 - eta * (batch.mu - batch.gamma * C_REG)


def run_vector(layers: Layers, rng: Any, batch: Batch, scale: float) -> tuple[Tensor, Tensor]:
    """Descend on a quadratic in (U, S, V) plus the regularizer, whose minimum x* is known.

    L_train is 1/2 (x - x*) A (x - x*) - gamma grad L_reg(x*) (x - x*): F's gradient is 0 at x*, and F is strongly
    convex for gamma C_reg < mu. Gradient descent with eta below 2 / (largest curvature) only comes nearer to x*: then
    ||U*|| + ||x0 - x*|| bounds ||U|| on the way.

    Returns:
        (F - F*) / (F at 0 - F*) as (STEPS + 1, B), and the theorem's rate (B,).
    """
    B, m, n, r = len(batch.c), *layers.shape
    start = _start(rng, B, m, n, r, scale)
    goal = State(*(x + 0.3 * gaussian(rng, *x.shape) / x.shape[-1] ** 0.5 for x in start))
    A = symmetric(rng, eigenvalues(rng, batch, m * r + r + r * n))
    pull = layers.regularizer_gradient(goal, "squared")
    x, goal_flat, pull_flat = _flat(start), _flat(goal), _flat(pull)
    R_goal, gamma = regularizer(goal), batch.gamma
    far = (x - goal_flat).norm(dim=1)
    eta, rate = eta_and_rate(batch, *(torch.linalg.matrix_norm(f) + far for f in (goal.U, goal.Vt)))
    gaps = []
    for _ in range(STEPS + 1):
        d = x - goal_flat
        force = (A @ d[..., None])[..., 0]
        state = _state(x, m, n, r)
        above = regularizer(state) - R_goal - (pull_flat * d).sum(1)
        gaps.append((d * force).sum(1) / 2 + gamma * above)
        slope = _flat(layers.regularizer_gradient(state, "squared")) - pull_flat
        x = x - eta[:, None] * (force + gamma[:, None] * slope)
    return torch.stack(gaps) / gaps[0], rate


def run_sorsa(layers: Layers, rng: Any, batch: Batch, scale: float) -> tuple[Tensor, Tensor]:
    """Descend on the factors for 1/2 tr (Wp - T) A (Wp - T)^T, T of rank r with orthonormal factors: F* is 0.

    Returns:
        As `run_vector`; the bounds M_U, M_V are 1.5 sqrt(r), which only a diverging descent leaves.
    """
    state, T, A = _matrix_problem(layers, rng, batch, scale)
    bound = torch.full_like(batch.c, 1.5 * layers.shape[2] ** 0.5)
    eta, rate = eta_and_rate(batch, bound, bound)
    gaps = []
    for _ in range(STEPS + 1):
        E = state.product - T
        force = E @ A
        gaps.append((E * force).sum((1, 2)) / 2 + batch.gamma * regularizer(state))
        slope = layers.regularizer_gradient(state, "squared")
        state = state.moved(eta, state.chain_rule(force)).moved(eta * batch.gamma, slope)
    return torch.stack(gaps) / gaps[0], rate


def run_matrix(layers: Layers, rng: Any, batch: Batch, scale: float) -> tuple[Tensor, Tensor]:
    """Descend on Wp for the loss of `run_sorsa`; returns as `run_vector`, M_U = M_V = sqrt(r) (orthonormal factors)."""
    state, T, A = _matrix_problem(layers, rng, batch, scale)
    bound = torch.full_like(batch.c, layers.shape[2] ** 0.5)
    eta, rate = eta_and_rate(batch, bound, bound)
    E = state.product - T
    gaps = []
    for _ in range(STEPS + 1):
        force = E @ A
        gaps.append((E * force).sum((1, 2)) / 2)
        E = E - eta[:, None, None] * force
    return torch.stack(gaps) / gaps[0], rate


def _start(rng: Any, B: int, m: int, n: int, r: int, scale: float) -> State:
    """Return a start as SORSA's: orthonormal factors, singular values from `scale` down to a tenth of it."""
    S = scale * torch.logspace(0, -1, r, dtype=torch.float64).expand(B, r)
    return State(orthonormal(rng, B, m, r), S, orthonormal(rng, B, n, r).mT)


def _matrix_problem(layers: Layers, rng: Any, batch: Batch, scale: float) -> tuple[State, Tensor, Tensor]:
    """Return start, target T (B, m, n) of rank r near it, and the loss's curvature A (B, n, n)."""
    B, m, n, r = len(batch.c), *layers.shape
    start = _start(rng, B, m, n, r, scale)
    U, V = (torch.linalg.qr(x + 0.2 * gaussian(rng, *x.shape) / x.shape[1] ** 0.5).Q for x in (start.U, start.Vt.mT))
    goal = State(U, start.S * (1 + 0.2 * gaussian(rng, B, r)), V.mT)
    return start, goal.product, symmetric(rng, eigenvalues(rng, batch, n))


def _flat(state: State) -> Tensor:
    return torch.cat([x.flatten(1) for x in state], 1)


def _state(x: Tensor, m: int, n: int, r: int) -> State:
    U, S, Vt = x.split([m * r, r, r * n], 1)
    return State(U.view(-1, m, r), S, Vt.view(-1, r, n))


def _count(tallies: dict[str, Tally], reading: str, gap: Tensor, rate: Tensor, about: dict[str, Any]) -> None:
    """Count one batch of descents."""
    t = torch.arange(len(gap), dtype=rate.dtype)[:, None]
    excess = (gap - rate**t).amax(0)  # (B,)
    names = ("eta (L_train + gamma L_reg)", "L_train / mu", "gamma C_reg / mu")
    what = [dict(zip(names, combination, strict=True)) for combination in COMBINATIONS]

    def problem(b: int) -> dict[str, Any]:
        return about | what[b] | {"rate": rate[b].item()}

    by: dict[str, Any] = {name: [one[name] for one in what] for name in names}
    by["sigma_1 at the start"] = str(about["sigma_1 at the start"])
    short = torch.tensor([one[names[0]] <= 1 for one in what])
    tallies[reading].add(excess, problem, {"eta <= 1 / (L_train + gamma L_reg)": short}, by)
    if reading == "vector":
        c = torch.tensor(by[names[0]], dtype=rate.dtype)
        tallies["vector_repaired"].add((gap - (1 - (1 - rate) * (2 - c)) ** t).amax(0), problem)
        one = [b for b, c in enumerate(by[names[0]]) if c == 1]
        tallies["vector_corollary"].add(excess[one], lambda b: problem(one[b]))


def _shown(reading: str, gap: Tensor, rate: Tensor) -> dict[str, list[float]]:
    """Return the curves of the figure for a reading: the descent and the bound, for two step lengths."""
    curves = {}
    for c in (1.0, 1.95):
        b = COMBINATIONS.index((c, *SHOWN))
        bound = rate[b] ** torch.arange(len(gap))
        curves[f"{reading}, {c}"] = [x if x < 1e6 else None for x in gap[:41, b].tolist()]
        curves[f"{reading}, {c}, bound"] = bound[:41].tolist()
    return curves
