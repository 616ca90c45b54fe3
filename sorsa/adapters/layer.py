"""The SORSA layer: `W = Wr + U diag(S) Vt` (Eq. 1), with `U`, `S` and `Vt` trained and the residual `Wr` frozen.

The factors start as the top r singular triplets of the base weight (section 4), so that `W = W0` at step 0. The
regularizer that keeps `U` and `Vt` near orthonormal is in `regularizer.py`; working copy, forward pass and merging are
`residual_layer.py`'s.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from sorsa.adapters.decomposition import Factors
from sorsa.adapters.residual_layer import ResidualLinear


class SorsaLinear(ResidualLinear):
    """An `nn.Linear` of shape (m, n) with SORSA adapters.

    Trainable: `sorsa_U` (m, r), `sorsa_S` (r,), `sorsa_Vt` (r, n): r (m + n + 1) parameters.
    """

    prefix = "sorsa_"
    trained = ("U", "S", "Vt")
    difference_rank = 2

    @staticmethod
    def start(factors: Factors) -> dict[str, Tensor]:
        """Return the values at step 0: the singular triplets themselves."""
        return factors._asdict()

    @staticmethod
    def principal(tensors: Mapping[str, Tensor]) -> Factors:
        """Return the principal part: the trained factors themselves."""
        return Factors(tensors["U"], tensors["S"], tensors["Vt"])

    @staticmethod
    def difference(tensors: Mapping[str, Tensor], scaling: float) -> tuple[Tensor, Tensor]:
        """Return `B = [U - U0, U0]` (m, 2r) and `A = scaling [S Vt; S Vt - S0 Vt0]` (2r, n): `B A = W - W0`."""
        now = tensors["S"][:, None] * tensors["Vt"]  # (r, n)
        start = tensors["S0"][:, None] * tensors["Vt0"]
        B = torch.cat([tensors["U"] - tensors["U0"], tensors["U0"]], dim=1)
        return B, scaling * torch.cat([now, now - start])
