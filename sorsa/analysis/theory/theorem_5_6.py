"""Theorem 5.6: kappa(Wp_reg,t) < kappa(Wp_unreg,t) at every iteration t > 0, if grad L_train is the same for all t.

Checked on runs of small trainings (`runs.py`) from the same start with and without regularizer. grad L_train can be
constant in two senses, with respect to the factors or to Wp; both are run, and regression, where it is not constant.
The theorem's "setup of Lemma 5.5" speaks of one step from a common state: that is checked along the regularized runs.
The regularizer is Definition 4.1's (`squared`); `frobenius` is the released code's.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from sorsa.analysis.theory.counts_5_6 import count_runs, count_single_steps, tallies
from sorsa.analysis.theory.draw import POINTS, generator
from sorsa.analysis.theory.layers import Layers, State
from sorsa.analysis.theory.lemma_5_1 import draw
from sorsa.analysis.theory.runs import LOSSES, SPECTRA, draw_start, draw_task, repeated, train
from sorsa.analysis.theory.spectrum import spectrum
from sorsa.analysis.theory.tally import Tally

KEY = "theorem_5_6"
TITLE = "Theorem 5.6: the regularizer makes the condition number smaller"
SHAPES = ((12, 8, 1), (12, 8, 2), (40, 30, 4), (100, 80, 8), (200, 150, 16))  # m, n, r
SETTINGS = tuple(itertools.product(SHAPES, SPECTRA, LOSSES))
GAMMAS = (0.0, 4e-4, 1e-2, 1e-1)  # 4e-4 is the paper's; 0 is the unregularized run
STEPS = 20


def check(seed: int, problems: int, tick: Callable[[], None]) -> dict[str, Any]:
    """Check the theorem on random trainings.

    Args:
        seed: Seed of the problems.
        problems: Problems per setting (shape, spectrum and loss), each with three gammas and two forms.
        tick: Called after each of the `SETTINGS`.

    Returns:
        The statement's part of theory.json; `example` is a counterexample that can be followed by hand.
    """
    counts = tallies()
    gammas = torch.tensor(GAMMAS, dtype=torch.float64).repeat_interleave(problems)
    layers = {shape: Layers(len(gammas), *shape) for shape in SHAPES}
    for number, (shape, kind, loss) in enumerate(SETTINGS):
        rng = generator(seed, 4, number)
        start = draw_start(rng, problems, *shape, kind)
        gradient, eta = draw_task(rng, start, loss, STEPS, len(GAMMAS))
        rows, etas = repeated(start, len(GAMMAS)), eta.repeat(len(GAMMAS))
        about = dict(zip("mnr", shape, strict=True)) | {"spectrum": kind, "loss": loss}
        for form in ("squared", "frobenius"):
            steps = list(train(layers[shape], rows, gradient, etas, gammas, form, STEPS))
            count_runs(counts, steps, GAMMAS, about | {"form": form})
            if form == "squared" and shape[2] > 1:
                count_single_steps(counts, steps, GAMMAS, about)
        tick()
    check_slope(counts["slope"], generator(seed, 4, len(SETTINGS)), POINTS * problems)
    claims = [tally.as_json() for tally in counts.values()]
    return {"key": KEY, "title": TITLE, "claims": claims, "example": example()}


def check_slope(tally: Tally, rng: np.random.Generator, problems: int) -> None:
    """Count the slope of log kappa at gamma = 0 for a step of the regularizer alone, against its formula.

    Args:
        tally: Where to count.
        rng: Source of the problems.
        problems: Problems per shape.
    """
    h = torch.full((problems,), 1e-6, dtype=torch.float64)  # of gamma: an error of h^2 against rounding / h
    for m, n, r in SHAPES[1:]:
        state = draw(rng, problems, m, n, r, "near orthonormal")
        state = state._replace(S=draw_start(rng, problems, m, n, r, "10").S)
        gradient = Layers(problems, m, n, r).regularizer_gradient(state, "squared")
        ends = [spectrum(state.moved(sign * h, gradient)).kappa.log() for sign in (1, -1)]
        first, last = spectrum(state).stretch[:, 0], spectrum(state).stretch[:, -1]
        error = ((ends[0] - ends[1]) / (2 * h) + 4 * (first - last)).abs()
        about = {"m": m, "n": n, "r": r}
        tally.add(error / (4 * ((first - 2).abs() + (last - 2).abs())), lambda b, about=about: about | {"index": b})


def example() -> dict[str, Any]:
    """Return a counterexample to follow by hand, with the condition numbers that were computed for it.

    U = V = I, S = (10, 1); every step, training takes eta = 0.05 from U's first diagonal entry and adds it to the
    second, so that kappa falls. U stays diagonal. From the second step on, the regularizer pulls both back towards 1.
    """
    one, gamma, steps = torch.eye(2, dtype=torch.float64), 0.05, 5
    start = State(one.expand(2, 2, 2), torch.tensor([[10.0, 1.0]] * 2, dtype=torch.float64), one.expand(2, 2, 2))
    constant = State(torch.diag(torch.tensor([1.0, -1.0], dtype=torch.float64)), 0 * start.S, 0 * one)
    eta = torch.full((2,), 0.05, dtype=torch.float64)
    gammas = torch.tensor([0, gamma], dtype=torch.float64)
    ran = list(train(Layers(2, 2, 2, 2), start, lambda state, t: constant, eta, gammas, "squared", steps))
    return {
        "U": one.tolist(),
        "S": start.S[0].tolist(),
        "V": one.tolist(),
        "gradient of U": constant.U.tolist(),
        "eta": 0.05,
        "gamma": gamma,
        "kappa unregularized": [step.regularized.kappa[0].item() for step in ran],
        "kappa regularized": [step.regularized.kappa[1].item() for step in ran],
    }
