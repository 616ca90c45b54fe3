"""Assumptions 5.2 and 5.3 and the smoothness in Theorem 5.4's proof, checked on exact Hessians of small problems."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sorsa.analysis.theory.draw import gaussian
from sorsa.analysis.theory.layers import State, regularizer
from sorsa.analysis.theory.lemma_5_1 import STARTS, draw, lipschitz_constant
from sorsa.analysis.theory.tally import Tally

SHAPES = ((5, 4, 1), (6, 5, 2))  # m, n, r
ROUNDING = 1e-9


def tallies() -> tuple[Tally, ...]:
    """Return the claims that `check` counts."""
    return (
        Tally(
            "assumption_5_2",
            "reading",
            "L_train(U diag(S) V^T), strongly convex in Wp, is strongly convex in (U, S, V) too",
            "-(smallest / largest eigenvalue of its Hessian)",
            -ROUNDING,
            why="(a U, S / a, V) is the same Wp for every a, so L_train is constant along a curve that leads to "
            "infinity: no function of Wp is strongly convex in the factors.",
        ),
        Tally(
            "assumption_5_3",
            "statement",
            "L_reg's Hessian is at least -C_reg I with C_reg = 4",
            "-(smallest eigenvalue) / 4",
            1 + ROUNDING,
        ),
        Tally(
            "smoothness",
            "proof step",
            "L_reg's Hessian is at most L I, L the constant of Lemma 5.1",
            "largest eigenvalue / L",
            1 + ROUNDING,
            why="Lemma 5.1 bounds the gradient, not the Hessian. The largest curvature is 12 ||U||^2 - 4 for U of one "
            "column, which exceeds the lemma's constant when ||U|| is between about 1 and 2 and V is short.",
        ),
    )


def check(tallies: dict[str, Tally], rng: np.random.Generator, problems: int) -> None:
    """Count the claims of `tallies` on random factors.

    Args:
        tallies: Those of the statement, by key.
        rng: Source of the problems.
        problems: Problems for each shape and kind of factors.
    """
    for m, n, r in SHAPES:
        for start in STARTS:
            state = draw(rng, problems, m, n, r, start)
            about = {"m": m, "n": n, "r": r, "factors": start}
            _check_regularizer(tallies, state, about)
            state = state._replace(S=1 + gaussian(rng, problems, r) ** 2)
            _check_training(tallies, state, gaussian(rng, problems, m, n), about)


def _check_regularizer(tallies: dict[str, Tally], state: State, about: dict[str, Any]) -> None:
    """Count Assumption 5.3 and the proof's upper bound."""
    ends = hessian_ends(regularizer, State(state.U, state.S[:, :0], state.Vt))
    M_U, M_V = (torch.linalg.matrix_norm(x) for x in (state.U, state.Vt))

    def problem(b: int) -> dict[str, Any]:
        return about | {"index": b, "norm_U": M_U[b].item(), "norm_V": M_V[b].item()}

    tallies["assumption_5_3"].add(-ends[:, 0] / 4, problem)
    long = {"||U||_F >= 1 and ||V||_F >= 1": (M_U >= 1) & (M_V >= 1)}
    tallies["smoothness"].add(ends[:, 1] / lipschitz_constant(M_U, M_V), problem, long)


def _check_training(tallies: dict[str, Tally], state: State, T: Tensor, about: dict[str, Any]) -> None:
    """Count Assumption 5.2 for 1/2 ||Wp - T||_F^2, which is 1-strongly convex and 1-smooth in Wp."""
    for place, target in (("at the minimum", state.product), ("away from the minimum", T)):

        def loss(one: State, target: Tensor = target) -> Tensor:
            return (one.product - target).square().sum((1, 2)) / 2

        ends = hessian_ends(loss, state)
        tallies["assumption_5_2"].add(
            -ends[:, 0] / ends[:, 1], lambda b, place=place: about | {"index": b, "where": place}, by={"where": place}
        )


def hessian_ends(value: Callable[[State], Tensor], state: State) -> Tensor:
    """Return the smallest and the largest eigenvalue of a value's Hessian in all factors, (B, 2).

    Args:
        value: Maps the factors of B layers to (B,), each layer's from its own factors.
        state: Where to take the Hessian.
    """
    sizes = [x[0].numel() for x in state]
    x = torch.cat([part.flatten(1) for part in state], 1).requires_grad_()
    parts = [part.reshape(old.shape) for part, old in zip(x.split(sizes, 1), state, strict=True)]
    (slope,) = torch.autograd.grad(value(State(*parts)).sum(), x, create_graph=True)
    rows = [torch.autograd.grad(column.sum(), x, retain_graph=True)[0] for column in slope.unbind(1)]
    return torch.linalg.eigvalsh(torch.stack(rows, 1))[:, [0, -1]]
