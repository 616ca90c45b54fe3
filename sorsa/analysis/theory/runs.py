"""Small trainings of SORSA with and without regularizer from the same start, for Theorem 5.6.

Plain gradient descent, Eq. (2): theta <- theta - eta grad L_train - gamma grad L_reg, theta = (U, S, V), from the
singular triplets of a random W0. One batch trains N problems with every gamma, the first of which is 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sorsa.adapters.regularizer import Form
from sorsa.analysis.theory.draw import gaussian, log_uniform, orthonormal
from sorsa.analysis.theory.layers import Layers, State
from sorsa.analysis.theory.spectrum import Spectrum, spectrum

SPECTRA = ("gaussian", "10", "1000")  # of W0: Gaussian entries, or sigma_1 / sigma_r with equal ratios between
LOSSES = ("constant factor gradients", "constant gradient in Wp", "regression", "regression, mini-batches")
Gradient = Callable[[State, int], State]  # of L_train, at factors and step


class Step(NamedTuple):
    """Spectra of all rows of a batch after step t, and after the same step without its regularizer; and the
    regularizer's gradient norm at the state before it, (B,)."""

    t: int
    regularized: Spectrum
    unregularized: Spectrum
    gradient_norm: Tensor


def draw_start(rng: np.random.Generator, N: int, m: int, n: int, r: int, kind: str) -> State:
    """Return SORSA's start for N random weights with sigma_1 between 0.3 and 10: orthonormal U and V, S descending."""
    largest = log_uniform(rng, 0.3, 10, N)[:, None]
    if kind == "gaussian":
        U, S, Vt = torch.linalg.svd(gaussian(rng, N, m, n), full_matrices=False)
        return State(U[:, :, :r].contiguous(), largest * S[:, :r] / S[:, :1], Vt[:, :r].contiguous())
    S = largest * float(kind) ** -torch.linspace(0, 1, r, dtype=torch.float64)
    return State(orthonormal(rng, N, m, r), S, orthonormal(rng, N, n, r).mT)


def draw_task(rng: np.random.Generator, start: State, loss: str, steps: int, copies: int) -> tuple[Gradient, Tensor]:
    """Return a training task for N starts: the gradient of L_train for `copies` N rows, and eta (N,).

    Args:
        rng: Source of the task.
        start: Factors of N layers.
        loss: One of `LOSSES`. The constant gradients are Theorem 5.6's assumption in two readings; each of their steps
            moves the factors by at most about 0.1 to 5%. Regression is 1/2 mean |x Wp^T - y|^2 with targets near those
            of the start.
        steps: Number of steps that will be taken.
        copies: How often the batch repeats the problems.
    """
    N, m, r = start.U.shape
    n = start.Vt.shape[2]
    share = log_uniform(rng, 1e-3, 0.05, N)
    if loss == "constant factor gradients":
        noise = gaussian(rng, N, m, r) / m**0.5, start.S * gaussian(rng, N, r), gaussian(rng, N, r, n) / n**0.5
        constant = repeated(State(*noise), copies)
        return (lambda state, t: constant), share
    if loss == "constant gradient in Wp":
        G = gaussian(rng, N, m, n)
        eta = share / (torch.linalg.matrix_norm(G, 2) * start.S[:, 0])
        G = G.repeat(copies, 1, 1)
        return (lambda state, t: state.chain_rule(G)), eta
    samples = 4 * n
    X = gaussian(rng, N, samples, n)
    size = torch.linalg.vector_norm(start.S, dim=1)[:, None, None] / (m * n) ** 0.5
    T = (start.product + 0.3 * size * gaussian(rng, N, m, n)).repeat(copies, 1, 1)
    A = X.mT @ X / samples  # (N, n, n)
    eta = 0.3 / (torch.linalg.matrix_norm(A, 2) * (2 * start.S[:, 0] ** 2 + 1))  # over the curvature in the factors
    parts = [A] * steps
    if loss == "regression, mini-batches":  # of a quarter of the samples
        chosen = [torch.from_numpy(rng.permutation(samples)[:n]) for _ in range(steps)]
        parts = [X[:, rows].mT @ X[:, rows] / n for rows in chosen]

    def gradient(state: State, t: int) -> State:
        force = (state.product - T).unflatten(0, (copies, N)) @ parts[t - 1]
        return state.chain_rule(force.flatten(0, 1))

    return gradient, eta


def repeated(state: State, copies: int) -> State:
    """Return `copies` times the same N layers, one after the other."""
    return State(*(x.repeat(copies, *[1] * (x.ndim - 1)) for x in state))


@torch.no_grad()
def train(
    layers: Layers, start: State, gradient: Gradient, eta: Tensor, gammas: Tensor, form: Form, steps: int
) -> Iterator[Step]:
    """Train every row and yield its spectra after each step.

    Args:
        layers: Of the batch's size.
        start: Factors of B rows.
        gradient: Of L_train.
        eta: (B,), step lengths of L_train.
        gammas: (B,), step lengths of the regularizer.
        form: Of the regularizer.
        steps: Number of steps.
    """
    state = start
    for t in range(1, steps + 1):
        slope = layers.regularizer_gradient(state, form)
        without = state.moved(eta, gradient(state, t))
        state = without.moved(gammas, slope)
        norm = (slope.U.square().sum((1, 2)) + slope.Vt.square().sum((1, 2))).sqrt()
        yield Step(t, spectrum(state), spectrum(without), norm)
