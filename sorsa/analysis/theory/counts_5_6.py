"""Theorem 5.6's claims, and how they are counted on the batches of `runs.py`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from sorsa.analysis.theory.runs import LOSSES, Step
from sorsa.analysis.theory.tally import Role, Tally

TIE = 1e-10  # of a ratio of condition numbers; FP64 leaves 1e-12 for those that occur here
_SHORT = ("loss", "gamma", "spectrum of W0", "shape")  # what the report counts by; all of them together are a setting
_LESS = "kappa(Wp_reg,t) < kappa(Wp_unreg,t)"
_RATIO = "kappa(Wp_reg,t) / kappa(Wp_unreg,t)"
_ONE = "A matrix of rank 1 has kappa 1, whatever is done to its factors."
_START = (
    "At the SVD start U and V are orthonormal and the regularizer's gradient is 0, so that both runs take the same "
    "first step."
)
_TURN = (
    "To first order the regularizer shrinks sigma_i in proportion to how far ||U^T p_i||^2 + ||V^T q_i||^2 exceeds 2 "
    "(p_i, q_i: singular vectors of Wp). kappa falls where the factors are stretched more along the largest singular "
    "direction than along the smallest, and rises where it is the other way round. Nothing in the assumptions says "
    "which."
)
_STRETCHED = (
    "without regularizer, the factors are stretched more along the largest singular direction of Wp than the smallest"
)


def tallies() -> dict[str, Tally]:
    """Return the claims by key."""

    def strict(key: str, role: Role, claim: str, why: str = _TURN, measure: str = _RATIO) -> Tally:
        return Tally(key, role, claim, measure, 1.0, TIE, why)

    constant = "grad L_train constant"
    later = "t = 2 to 20, r > 1"
    all_of_them = (
        strict("every_step", "statement", f"{_LESS} for every t from 1 to 20, {constant}", _START, f"largest {_RATIO}"),
        strict("first_step", "statement", f"{_LESS} at t = 1, {constant}", _START),
        strict("rank_one", "statement", f"{_LESS} at t = 2 to 20, r = 1, {constant}", _ONE),
        strict("later_steps", "statement", f"{_LESS} at {later}, {constant}"),
        strict(
            "single_step", "reading", f"{_LESS} after one step from the same (regularized) state, {later}, all losses"
        ),
        strict("regression", "reading", f"{_LESS} at {later}, regression (gradient not constant)"),
        strict("frobenius", "code", f"{_LESS} at {later}, all losses, `frobenius`"),
        Tally(
            "frobenius_start",
            "code",
            "the gradient of `frobenius` is 0 at the SVD start, as that of `squared` is",
            "gradient norm",
            1e-9,
            why="The gradient of an unsquared norm has the same length however small the norm is. At the start "
            "U^T U - I is what rounding has left of 0, and the first step goes a full gamma along it.",
        ),
        strict(
            "factors",
            "proof step",
            f"step 3: kappa(U_reg,t) < kappa(U_unreg,t) and kappa(V_reg,t) < kappa(V_unreg,t), {later}, {constant}",
            "The regularized run trains from other factors after the first step.",
            "larger of the two ratios",
        ),
        Tally(
            "lower_bound",
            "proof step",
            f"step 4: kappa(Wp) >= kappa(U) kappa(S) kappa(V) without regularizer, {later}, {constant}",
            "right side / left side",
            1 + 1e-9,
            why="Step 1 has shown the opposite, <=. Equality needs the extreme directions of all factors to coincide.",
        ),
        strict(
            "last_line",
            "proof step",
            f"step 4: kappa(U_reg) kappa(V_reg) / (kappa(U) kappa(V)) (1 + eps) / (1 - eps) < 1, one step, {later}",
            "Step 3 says that the first ratio is below 1 but not by how much; eps is of the same order as that gain.",
            "left side",
        ),
        Tally(
            "slope",
            "repair",
            "for a step of the regularizer alone, d log kappa(Wp) / d gamma = -4 (s_1 - s_r) at gamma = 0, with "
            "s_i = ||U^T p_i||^2 + ||V^T q_i||^2",
            "|central difference - formula| / (4 (|s_1 - 2| + |s_r - 2|))",
            1e-4,
        ),
    )
    return {tally.key: tally for tally in all_of_them}


def count_runs(counts: dict[str, Tally], steps: Sequence[Step], gammas: Sequence[float], about: dict[str, Any]) -> None:
    """Count what the theorem says about whole runs: rows with gamma > 0 against those of the same problems with 0.

    Args:
        counts: The claims by key.
        steps: One batch's steps, from the first; its rows are all problems with the first gamma, then with the next.
        gammas: The gammas, of which the first is 0.
        about: What all problems of the batch have in common, with `loss` and `form`.
    """
    G = len(gammas)

    def ratio(name: str) -> Tensor:
        values = torch.stack([getattr(step.regularized, name) for step in steps]).unflatten(1, (G, -1))
        return values[:, 1:] / values[:, :1]  # (steps, gammas, problems)

    constant = about["loss"] in LOSSES[:2]
    kappa = ratio("kappa")
    later, problem, by = _labels(kappa[1:], gammas, about)
    stretch = torch.stack([step.regularized.stretch[: kappa.shape[2]] for step in steps[1:]])  # without regularizer
    stretched = {_STRETCHED: (stretch[..., 0] > stretch[..., -1])[:, None].expand(-1, G - 1, -1).flatten()}
    if about["form"] == "frobenius":
        start = steps[0].gradient_norm[: kappa.shape[2]]
        counts["frobenius_start"].add(start, lambda index: about | {"index": index})
    elif constant:
        counts["first_step"].add(*_labels(kappa[:1], gammas, about, first=1)[:2])
        counts["every_step"].add(*_labels(kappa.amax(0, keepdim=True), gammas, about, first=0)[:2])
    if about["r"] == 1:
        if constant and about["form"] == "squared":
            counts["rank_one"].add(later, problem)
    elif about["form"] == "frobenius":
        counts["frobenius"].add(later, problem, stretched, {name: by[name] for name in _SHORT})
    elif not constant:
        counts["regression"].add(later, problem, stretched, by)
    else:
        counts["later_steps"].add(later, problem, stretched, by)
        both = torch.maximum(ratio("kappa_U"), ratio("kappa_V"))[1:]
        counts["factors"].add(both.flatten(), problem)
        _count_lower_bound(counts["lower_bound"], steps, G, about)


def _count_lower_bound(tally: Tally, steps: Sequence[Step], G: int, about: dict[str, Any]) -> None:
    """Count the inequality that the proof's step 4 has the wrong way round, on the rows without regularizer."""
    for step in steps[1:]:
        one = step.regularized
        value = (one.kappa_U * one.kappa_S * one.kappa_V / one.kappa)[: len(one.kappa) // G]
        tally.add(value, lambda i, t=step.t: about | {"index": i, "t": t})


def count_single_steps(
    counts: dict[str, Tally], steps: Sequence[Step], gammas: Sequence[float], about: dict[str, Any]
) -> None:
    """Count what the theorem says about one step from the states of the regularized runs; see `count_runs`."""
    N = len(steps[0].gradient_norm) // len(gammas)
    gamma = torch.tensor(gammas, dtype=torch.float64).repeat_interleave(N)

    def after(values: list[Tensor]) -> Tensor:
        return torch.stack(values[1:]).unflatten(1, (len(gammas), N))[:, 1:]  # from t = 2, gamma > 0

    pairs = [(step.regularized, step.unregularized) for step in steps]
    kappa = after([reg.kappa / unreg.kappa for reg, unreg in pairs])
    values, problem, by = _labels(kappa, gammas, about)
    stretched = after([unreg.stretch[:, 0] > unreg.stretch[:, -1] for _, unreg in pairs]).flatten()
    counts["single_step"].add(values, problem, {_STRETCHED: stretched}, {name: by[name] for name in _SHORT})
    factors = [reg.kappa_U * reg.kappa_V / (unreg.kappa_U * unreg.kappa_V) for reg, unreg in pairs]
    eps = [gamma * step.gradient_norm for step in steps]
    line = after([f * (1 + e) / (1 - e) for f, e in zip(factors, eps, strict=True)])
    counts["last_line"].add(line.flatten(), problem)


def _labels(
    values: Tensor, gammas: Sequence[float], about: dict[str, Any], first: int = 2
) -> tuple[Tensor, Callable[[int], dict[str, Any]], dict[str, str | list[str]]]:
    """Return values (steps, gammas, problems) as (B,), what describes each of them, and the factors to count them by.

    Args:
        values: The values, those with gamma = 0 left out.
        gammas: All gammas, of which the first is 0.
        about: What all problems have in common.
        first: Step of the first values; 0: they are of all steps together.
    """
    T, G, N = values.shape

    def problem(i: int) -> dict[str, Any]:
        t, g, index = i // (G * N), i // N % G, i % N
        return about | {"gamma": gammas[1 + g], "index": index} | ({"t": first + t} if first else {})

    shape = f"{about['m']} x {about['n']}, r = {about['r']}"
    where = f"{shape} | {about['spectrum']} | {about['loss']}"
    by: dict[str, str | list[str]] = {
        "loss": about["loss"],
        "gamma": [f"{gamma:g}" for gamma in gammas[1:] for _ in range(N)] * T,
        "spectrum of W0": about["spectrum"],
        "shape": shape,
        "setting": [f"{where} | gamma = {gamma:g}" for gamma in gammas[1:] for _ in range(N)] * T,
        "loss and t": [f"{about['loss']} | {first + t}" for t in range(T) for _ in range(G * N)],
    }
    return values.flatten(), problem, by
