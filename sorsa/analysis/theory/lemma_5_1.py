"""Lemma 5.1: the regularizer's gradient, and its Lipschitz bound on factors with ||U||_F <= M_U and ||V||_F <= M_V.

    grad_U L_reg = 4 U (U^T U - I),  likewise for V
    |L_reg(1) - L_reg(2)| <= L (||U1 - U2||_F + ||V1 - V2||_F),   L = 4 M_U (M_U^2 + 1) + 4 M_V (M_V^2 + 1)

Read as: the identities are I_r (the paper's I_m and I_n do not fit U^T U), norms are Frobenius norms, and M_U, M_V are
the larger norms of the two points, the smallest that the lemma allows.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sorsa.analysis.theory.draw import POINTS, gaussian, generator, log_uniform, orthonormal
from sorsa.analysis.theory.layers import Layers, State, gap_norms, regularizer
from sorsa.analysis.theory.tally import Tally

KEY = "lemma_5_1"
TITLE = "Lemma 5.1: gradient and Lipschitz bound of the regularizer"
SHAPES = ((5, 4, 1), (12, 8, 3), (40, 30, 8), (200, 150, 32))  # m, n, r
STARTS = ("near orthonormal", "any size")
SETTINGS = tuple(itertools.product(SHAPES, STARTS))
PAIRS = ("close", "independent", "along the gradient")
ROUNDING = 1e-9  # relative; FP64 gives 1e-12 for these sizes


def check(seed: int, problems: int, tick: Callable[[], None]) -> dict[str, Any]:
    """Check the lemma on random factors.

    Args:
        seed: Seed of the problems.
        problems: `POINTS` times as many per setting (shape and kind of factors), each with three second points.
        tick: Called after each of the `SETTINGS`.

    Returns:
        The statement's part of theory.json.
    """
    tallies = _tallies()
    for number, ((m, n, r), start) in enumerate(SETTINGS):
        rng = generator(seed, 1, number)
        layers = Layers(POINTS * problems, m, n, r)
        first = draw(rng, POINTS * problems, m, n, r, start)
        gradient = layers.regularizer_gradient(first, "squared")
        about = {"m": m, "n": n, "r": r, "factors": start}
        check_gradients(tallies, layers, first, rng, about)
        check_bounds(tallies, first, gradient, about)
        for pair in PAIRS:
            second = _second(pair, rng, first, gradient, start)
            check_lipschitz(tallies, first, second, about | {"second point": pair})
        tick()
    return {"key": KEY, "title": TITLE, "claims": [tally.as_json() for tally in tallies.values()]}


def _tallies() -> dict[str, Tally]:
    error = "||difference||_F / ||gradient||_F"
    ratio, limit = "left side / right side", 1 + ROUNDING
    all_of_them = (
        Tally("formula", "statement", "the gradient is 4 U (U^T U - I_r), as autograd gives it", error, ROUNDING),
        Tally(
            "differences",
            "statement",
            "the gradient is 4 U (U^T U - I_r), as finite differences of L_reg give it (5 points: exact for quartics)",
            "|difference| / (||gradient||_F ||direction||_F)",
            ROUNDING,
        ),
        Tally("lipschitz", "statement", "|L_reg(1) - L_reg(2)| <= L (||U1 - U2||_F + ||V1 - V2||_F)", ratio, limit),
        Tally("gradient_bound", "proof step", "||grad L_reg||_F <= L at every point", ratio, limit),
        Tally(
            "gap_bound",
            "proof step",
            "||U^T U - I||_F <= M_U^2 + 1, with M_U = ||U||_F",
            ratio,
            limit,
            why="||I_r||_F is sqrt(r), not 1: at U = 0 the left side is sqrt(r) and the right side 1. The bound that "
            "the step leads to survives, because the Frobenius norm can be left on U and the spectral norm on "
            "U^T U - I, which is at most max(1, M_U^2 - 1).",
        ),
        Tally(
            "sharper_bound",
            "repair",
            "||grad L_reg||_F <= 4 M_U max(1, M_U^2 - 1) + 4 M_V max(1, M_V^2 - 1)",
            ratio,
            limit,
        ),
        Tally("code_squared", "code", "add_regularizer_gradient, `squared`, is autograd's gradient", error, ROUNDING),
        Tally(
            "code_frobenius",
            "code",
            "add_regularizer_gradient, `frobenius`, is autograd's gradient of (||U^T U - I||_F + ||V^T V - I||_F) / 2",
            error,
            ROUNDING,
        ),
    )
    return {tally.key: tally for tally in all_of_them}


def draw(rng: np.random.Generator, B: int, m: int, n: int, r: int, start: str) -> State:
    """Return random factors of B layers: orthonormal ones plus noise, or Gaussian ones of any size."""
    if start == "near orthonormal":
        noise = log_uniform(rng, 1e-3, 0.5, B)[:, None, None]
        U = orthonormal(rng, B, m, r) + noise * gaussian(rng, B, m, r) / m**0.5
        V = orthonormal(rng, B, n, r) + noise * gaussian(rng, B, n, r) / n**0.5
    else:  # columns of norm 0.01 to 10
        U = log_uniform(rng, 0.01, 10, B)[:, None, None] * gaussian(rng, B, m, r) / m**0.5
        V = log_uniform(rng, 0.01, 10, B)[:, None, None] * gaussian(rng, B, n, r) / n**0.5
    return State(U, torch.zeros(B, r, dtype=U.dtype), V.mT)  # S has no part in the regularizer


def _second(pair: str, rng: np.random.Generator, first: State, gradient: State, start: str) -> State:
    """Return the second point of each pair."""
    B, m, r = first.U.shape
    other = draw(rng, B, m, first.Vt.shape[2], r, start)
    if pair == "independent":
        return other
    direction = gradient if pair == "along the gradient" else other
    return first.moved(0.01 * _norm(first) / _norm(direction), direction)


def _norm(state: State) -> Tensor:
    """Return the Frobenius norm of both factors of each layer together, (B,)."""
    return (state.U.square().sum((1, 2)) + state.Vt.square().sum((1, 2))).sqrt()


def _minus(a: State, b: State) -> State:
    return State(*(x - y for x, y in zip(a, b, strict=True)))


def formula(state: State) -> State:
    """Return the gradient as the lemma's proof has it, with I_r."""
    one = torch.eye(state.S.shape[1], dtype=state.S.dtype)
    U, Vt = state.U, state.Vt
    return State(4 * U @ (U.mT @ U - one), torch.zeros_like(state.S), 4 * (Vt @ Vt.mT - one) @ Vt)


def autograd_gradient(value: Callable[[State], Tensor], state: State) -> State:
    """Return autograd's gradient of a value (B,) with respect to U and Vt."""
    U, Vt = (x.detach().requires_grad_() for x in (state.U, state.Vt))
    grad_U, grad_Vt = torch.autograd.grad(value(State(U, state.S, Vt)).sum(), (U, Vt))
    return State(grad_U, torch.zeros_like(state.S), grad_Vt)


def check_gradients(
    tallies: dict[str, Tally], layers: Layers, state: State, rng: np.random.Generator, about: dict[str, Any]
) -> None:
    """Compare the formula and the code's gradients with autograd, and the formula with finite differences."""

    def problem(b: int) -> dict[str, Any]:
        return about | _norms(state, b)

    def add(key: str, gradient: State, reference: State) -> None:
        tallies[key].add(_norm(_minus(gradient, reference)) / _norm(reference), problem)

    squared = autograd_gradient(regularizer, state)
    add("formula", formula(state), squared)
    add("code_squared", layers.regularizer_gradient(state, "squared"), squared)
    frobenius = autograd_gradient(lambda s: sum(gap_norms(s)) / 2, state)
    add("code_frobenius", layers.regularizer_gradient(state, "frobenius"), frobenius)

    direction = State(gaussian(rng, *state.U.shape), torch.zeros_like(state.S), gaussian(rng, *state.Vt.shape))
    h = 0.1 * _norm(state) / _norm(direction)  # the stencil is exact, so the step can be large against rounding
    at = {k: regularizer(state.moved(-k * h, direction)) for k in (-2, -1, 1, 2)}
    slope = (at[-2] - 8 * at[-1] + 8 * at[1] - at[2]) / (12 * h)
    expected = formula(state)
    inner = (expected.U * direction.U).sum((1, 2)) + (expected.Vt * direction.Vt).sum((1, 2))
    tallies["differences"].add((slope - inner).abs() / (_norm(expected) * _norm(direction)), problem)


def check_bounds(tallies: dict[str, Tally], state: State, gradient: State, about: dict[str, Any]) -> None:
    """Check the bounds of the proof on the gradient and on U^T U - I, at single points."""

    def problem(b: int) -> dict[str, Any]:
        return about | _norms(state, b)

    M_U, M_V = (torch.linalg.matrix_norm(x) for x in (state.U, state.Vt))
    r = state.S.shape[1]
    tallies["gradient_bound"].add(_norm(gradient) / lipschitz_constant(M_U, M_V), problem)
    sharper = sum(4 * M * (M**2 - 1).clamp_min(1) for M in (M_U, M_V))
    tallies["sharper_bound"].add(_norm(gradient) / sharper, problem)
    enough = {"||U||_F^2 >= (r - 1) / 4": (r - 1) / 4 <= M_U**2}
    tallies["gap_bound"].add(gap_norms(state)[0] / (M_U**2 + 1), problem, enough, {"factors": about["factors"]})


def lipschitz_constant(M_U: Tensor, M_V: Tensor) -> Tensor:
    """Return the lemma's constant, which the paper calls L_reg as well."""
    return 4 * M_U * (M_U**2 + 1) + 4 * M_V * (M_V**2 + 1)


def check_lipschitz(tallies: dict[str, Tally], first: State, second: State, about: dict[str, Any]) -> None:
    """Check the lemma's inequality for B pairs of points."""
    apart = _minus(first, second)
    M_U = torch.maximum(*(torch.linalg.matrix_norm(s.U) for s in (first, second)))
    M_V = torch.maximum(*(torch.linalg.matrix_norm(s.Vt) for s in (first, second)))
    distance = torch.linalg.matrix_norm(apart.U) + torch.linalg.matrix_norm(apart.Vt)
    ratio = (regularizer(first) - regularizer(second)).abs() / (lipschitz_constant(M_U, M_V) * distance)
    tallies["lipschitz"].add(ratio, lambda b: about | _norms(first, b), by={"second point": about["second point"]})


def _norms(state: State, b: int) -> dict[str, Any]:
    """Return what tells problem b from its neighbours."""
    return {"index": b, "norm_U": state.U[b].norm().item(), "norm_V": state.Vt[b].norm().item()}
