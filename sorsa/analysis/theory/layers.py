"""Many small SORSA layers of one shape as one batch: the regularizer's gradient comes from the code that trains.

A batch stacks the factors of B layers into `U` (B, m, r), `S` (B, r) and `Vt` (B, r, n). The parameters of B real
`SorsaLinear` layers are slices of these tensors, so that `add_regularizer_gradient` reads and writes them.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from sorsa.adapters.config import SorsaConfig
from sorsa.adapters.layer import SorsaLinear
from sorsa.adapters.regularizer import Form, add_regularizer_gradient

_ADAPTER = "default"


class State(NamedTuple):
    """Factors of B layers, or one number for each of theirs (a gradient): `U` (B, m, r), `S` (B, r), `Vt` (B, r, n)."""

    U: Tensor
    S: Tensor
    Vt: Tensor

    def moved(self, step: Tensor, direction: State) -> State:
        """Return `self - step * direction`, with one step length (B,) per layer."""
        B = len(step)
        return State(*(x - step.view(B, *[1] * (x.ndim - 1)) * d for x, d in zip(self, direction, strict=True)))

    def rows(self, index: Tensor | slice) -> State:
        """Return some of the layers."""
        return State(*(x[index] for x in self))

    def chain_rule(self, gradient: Tensor) -> State:
        """Return the factors' gradients for a gradient (B, m, n) with respect to Wp."""
        right = gradient @ self.Vt.mT  # (B, m, r)
        S = self.S[:, None, :]
        return State(right * S, (self.U * right).sum(1), S.mT * (self.U.mT @ gradient))

    @property
    def product(self) -> Tensor:
        """`Wp = U diag(S) Vt`, (B, m, n)."""
        return (self.U * self.S[:, None, :]) @ self.Vt


class Layers:
    """B SORSA layers (m, n) of rank r in FP64, made once per shape and then used for any factors of that shape."""

    def __init__(self, B: int, m: int, n: int, r: int) -> None:
        self.shape = m, n, r
        self._U, self._Vt = torch.zeros(B, m, r, dtype=torch.float64), torch.zeros(B, r, n, dtype=torch.float64)
        self._grad_U, self._grad_Vt = torch.zeros_like(self._U), torch.zeros_like(self._Vt)
        config = SorsaConfig(r=r)
        self._model = nn.ModuleList()
        for b in range(B):
            layer = SorsaLinear(nn.Linear(n, m, bias=False, device="meta"))  # the base weight is never read
            layer.update_layer(_ADAPTER, r, config)
            for parameters, data, grad in (
                (layer.sorsa_U, self._U[b], self._grad_U[b]),
                (layer.sorsa_Vt, self._Vt[b], self._grad_Vt[b]),
            ):
                parameters[_ADAPTER] = nn.Parameter(data)  # shares memory with the batch
                parameters[_ADAPTER].grad = grad
            self._model.append(layer)

    @torch.no_grad()
    def regularizer_gradient(self, state: State, form: Form) -> State:
        """Return the regularizer's gradient of each layer as if it were a model's only one; `S` has none.

        Args:
            state: Factors of B layers.
            form: `squared` (Definition 4.1) or `frobenius` (released code: the mean over a layer's two factors).
        """
        self._U.copy_(state.U)
        self._Vt.copy_(state.Vt)
        self._grad_U.zero_()
        self._grad_Vt.zero_()
        # frobenius is a mean over all factors of the model: times B it is the mean over one layer's
        add_regularizer_gradient(self._model, len(self._model) if form == "frobenius" else 1.0, form)
        return State(self._grad_U.clone(), torch.zeros_like(state.S), self._grad_Vt.clone())


def gap_norms(state: State) -> tuple[Tensor, Tensor]:
    """Return `||U^T U - I_r||_F` and `||V^T V - I_r||_F` of each layer, (B,) each."""
    one = torch.eye(state.U.shape[-1], dtype=state.U.dtype)
    return torch.linalg.matrix_norm(state.U.mT @ state.U - one), torch.linalg.matrix_norm(state.Vt @ state.Vt.mT - one)


def regularizer(state: State) -> Tensor:
    """Return `L_reg` of Definition 4.1 for each layer, (B,). Its I_m and I_n must be I_r: U^T U is r x r."""
    left, right = gap_norms(state)
    return left.square() + right.square()
