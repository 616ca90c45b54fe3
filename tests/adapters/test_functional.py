"""Eq. (1) as one autograd function: values and gradients against plain autograd."""

from __future__ import annotations

import pytest
import torch

from sorsa.adapters.functional import residual_linear


def tensors(dtype: torch.dtype, bias: bool) -> list[torch.Tensor | None]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(2, 3, 5), (4, 5), (4,) if bias else None, (4, 2), (2,), (2, 5)]  # x, residual, bias, U, S, Vt
    return [None if s is None else torch.randn(s, generator=generator, dtype=dtype) for s in shapes]


@pytest.mark.parametrize("frozen", ["", "Vt", "U Vt", "S Vt", "x Vt", "x U S"])
@pytest.mark.parametrize("bias", [True, False])
def test_gradcheck(bias: bool, frozen: str) -> None:
    """Whatever needs a gradient: SORSA's case (all), OSoRA's (never Vt; U for o, S for s), and a first layer's x."""
    x, residual, *others = tensors(torch.float64, bias)
    given = dict(zip(("x", "bias", "U", "S", "Vt"), (x, *others), strict=True))
    names = [name for name, t in given.items() if t is not None and name not in frozen.split()]

    def function(*args: torch.Tensor) -> torch.Tensor:
        t = given | dict(zip(names, args, strict=True))
        return residual_linear(t["x"], residual, t["bias"], t["U"], t["S"], t["Vt"])

    assert torch.autograd.gradcheck(function, [given[name].requires_grad_() for name in names])


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
