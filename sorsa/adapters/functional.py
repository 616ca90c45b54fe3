"""Eq. (1) of the paper as one differentiable function: `y = x Wr^T + ((x Vt^T) * S) U^T`.

Autograd would keep every intermediate and add the two paths' results in extra passes over memory. Written as one
function, the sums happen inside the matrix products, the frozen residual gets no gradient, and what backward needs is
kept once, in the compute type; what needs no gradient (OSoRA's `Vt`) costs none, and the input is kept for it alone.
The low-rank product is never multiplied out. `bench/step.py` measures the difference.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def residual_linear(x: Tensor, residual: Tensor, bias: Tensor | None, U: Tensor, S: Tensor, Vt: Tensor) -> Tensor:
    """Apply an adapted layer: `x (Wr + U diag(S) Vt)^T + bias`, Eq. (1), computed in the residual's type.

    Args:
        x: Input of shape (..., n).
        residual: Frozen residual `Wr` of shape (m, n); its type is the compute type.
        bias: Bias of shape (m,), or None.
        U: Left factor of shape (m, r).
        S: Singular values of shape (r,).
        Vt: Right factor of shape (r, n).

    Returns:
        Output of shape (..., m) in the residual's type. Those of x, bias, U, S and Vt that need gradients get them, in
        their own types.
    """
    return _ResidualLinear.apply(x, residual, bias, U, S, Vt)


class _ResidualLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, residual: Tensor, bias: Tensor | None, U: Tensor, S: Tensor, Vt: Tensor) -> Tensor:
        dtype = residual.dtype
        ctx.shape, ctx.dtypes = x.shape, [None if t is None else t.dtype for t in (x, bias, U, S, Vt)]
        x = x.reshape(-1, x.shape[-1]).to(dtype)  # (tokens, n)
        U, S, Vt = U.to(dtype), S.to(dtype), Vt.to(dtype)
        h = x @ Vt.T  # (tokens, r)
        y = x @ residual.T if bias is None else torch.addmm(bias.to(dtype), x, residual.T)
        y.addmm_(h * S, U.T)  # (tokens, m)
        ctx.save_for_backward(x if ctx.needs_input_grad[5] else None, residual, U, S, Vt, h)
        return y.view(*ctx.shape[:-1], residual.shape[0])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, residual, U, S, Vt, h = ctx.saved_tensors
        x_dtype, bias_dtype, U_dtype, S_dtype, Vt_dtype = ctx.dtypes
        needs_x, _, needs_bias, needs_U, needs_S, needs_Vt = ctx.needs_input_grad
        grad = grad.reshape(-1, grad.shape[-1]).to(residual.dtype)  # (tokens, m)
        grad_g = grad @ U  # (tokens, r), the gradient of h * S
        grad_h = grad_g * S
        grad_x = grad_bias = grad_U = grad_S = grad_Vt = None
        if needs_x:
            grad_x = (grad @ residual).addmm_(grad_h, Vt).view(ctx.shape).to(x_dtype)
        if needs_bias:
            grad_bias = grad.sum(0, dtype=bias_dtype)
        if needs_U:
            grad_U = (grad.T @ (h * S)).to(U_dtype)
        if needs_S:
            grad_S = (grad_g.to(S_dtype) * h).sum(0, dtype=S_dtype)
        if needs_Vt:
            grad_Vt = (grad_h.T @ x).to(Vt_dtype)
        return grad_x, None, grad_bias, grad_U, grad_S, grad_Vt
