"""Singular values of `Wp = U diag(S) Vt` without forming it, and condition numbers (Definition 3.1).

Definition 3.1 asks for full column rank, which a Wp of rank r < n never has. Its next line, "the largest and smallest
nonzero singular values", is what can be computed: kappa(Wp) = sigma_1 / sigma_r.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from sorsa.analysis.theory.layers import State


class Spectrum(NamedTuple):
    """Of B layers: `sigma` (B, r) of Wp, descending; condition numbers (B,); `stretch` (B, r), see `spectrum`."""

    sigma: Tensor
    kappa: Tensor
    kappa_U: Tensor
    kappa_V: Tensor
    kappa_S: Tensor
    stretch: Tensor


def spectrum(state: State) -> Spectrum:
    """Return the spectra of B layers.

    `stretch[i] = ||U^T p_i||^2 + ||V^T q_i||^2` for the i-th singular vectors p_i, q_i of Wp: 2 for orthonormal
    factors, more where the factors are longer than orthonormal ones in that direction. A layer that has diverged to
    infinite numbers has NaN everywhere.
    """
    finite = torch.stack([x.flatten(1).isfinite().all(1) for x in state]).all(0)
    if not finite.all():
        known = spectrum(state.rows(finite))
        return Spectrum(*(x.new_full((len(finite), *x.shape[1:]), torch.nan).index_put((finite,), x) for x in known))
    left, right = torch.linalg.qr(state.U, mode="r").R, torch.linalg.qr(state.Vt.mT, mode="r").R  # (B, r, r) each
    P, sigma, Qt = torch.linalg.svd((left * state.S[:, None, :]) @ right.mT)
    stretch = (left.mT @ P).square().sum(1) + (Qt @ right).square().sum(2)
    size = state.S.abs()
    kappa_S = size.amax(1) / size.amin(1)
    return Spectrum(sigma, _kappa(sigma), condition(left), condition(right), kappa_S, stretch)


def condition(matrix: Tensor) -> Tensor:
    """Return sigma_max / sigma_min of square matrices (B, r, r), (B,)."""
    return _kappa(torch.linalg.svdvals(matrix))


def _kappa(sigma: Tensor) -> Tensor:
    return sigma[:, 0] / sigma[:, -1]
