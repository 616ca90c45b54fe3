"""Eq. (1) as one autograd function: values and gradients against plain autograd."""

from __future__ import annotations

import pytest
import torch

from sorsa.adapters.functional import residual_linear


def tensors(dtype: torch.dtype, bias: bool) -> list[torch.Tensor | None]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(2, 3, 5), (4, 5), (4,) if bias else None, (4, 2), (2,), (2, 5)]  # x, residual, bias, U, S, Vt
    return [None if s is None else torch.randn(s, generator=generator, dtype=dtype) for s in shapes]


@pytest.mark.parametrize("bias", [True, False])
def test_gradcheck(bias: bool) -> None:
    x, residual, b, U, S, Vt = tensors(torch.float64, bias)
    inputs = [t.requires_grad_() for t in (x, b, U, S, Vt) if t is not None]
    names = [n for n, t in zip(("x", "bias", "U", "S", "Vt"), (x, b, U, S, Vt), strict=True) if t is not None]

    def function(*args: torch.Tensor) -> torch.Tensor:
        given = dict(zip(names, args, strict=True))
        return residual_linear(given["x"], residual, given.get("bias"), given["U"], given["S"], given["Vt"])

    assert torch.autograd.gradcheck(function, inputs)


def test_value_is_equation_1() -> None:
    x, residual, b, U, S, Vt = tensors(torch.float64, True)
    expected = x @ (residual + U @ torch.diag(S) @ Vt).T + b
    torch.testing.assert_close(residual_linear(x, residual, b, U, S, Vt), expected)


def test_compute_type_is_the_residuals_and_gradients_keep_their_own() -> None:
    x, residual, b, U, S, Vt = tensors(torch.float32, True)
    for t in (x, U, S, Vt):
        t.requires_grad_()
    y = residual_linear(x, residual.bfloat16(), b, U, S, Vt)
    assert y.dtype is torch.bfloat16
    y.float().square().sum().backward()
    assert all(t.grad.dtype is torch.float32 for t in (x, U, S, Vt))
    assert residual.grad is None and b.grad is None
