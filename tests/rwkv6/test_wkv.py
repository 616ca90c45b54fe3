"""The recurrence: both forms against loops over scalars in FP64, gradients, strong decays, chunk lengths, autocast."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from sorsa.rwkv6.wkv import chunked, recurrent, wkv


def inputs(
    shape: tuple[int, int, int, int], decay: tuple[float, float] = (-4, 1), dtype: torch.dtype = torch.float64
) -> list[Tensor]:
    """Random r, k, v, d, u, s for shape (B, T, H, N), with d uniform in `decay` and `lw = -exp(d)`."""
    torch.manual_seed(0)
    B, _, H, N = shape
    d = torch.empty(shape, dtype=torch.float64).uniform_(*decay)
    tensors = [torch.randn(shape, dtype=torch.float64) for _ in range(3)]
    tensors += [d, torch.randn(H, N, dtype=torch.float64), torch.randn(B, H, N, N, dtype=torch.float64)]
    return [t.to(dtype).requires_grad_() for t in tensors]


def by_scalars(r: Tensor, k: Tensor, v: Tensor, d: Tensor, u: Tensor, s: Tensor) -> tuple[list[float], list[float]]:
    """The recurrence in plain loops over Python floats, an index at a time; y and the last state, flattened."""
    B, T, H, N = r.shape
    r_, k_, v_, d_, u_, S = (t.detach().double().tolist() for t in (r, k, v, d, u, s))
    y = []
    for b in range(B):
        for t in range(T):
            for h in range(H):
                kk, vv, rr, state = k_[b][t][h], v_[b][t][h], r_[b][t][h], S[b][h]
                y += [sum(rr[i] * (state[i][j] + u_[h][i] * kk[i] * vv[j]) for i in range(N)) for j in range(N)]
                for i in range(N):
                    decay = math.exp(-math.exp(d_[b][t][h][i]))
                    state[i] = [decay * state[i][j] + kk[i] * vv[j] for j in range(N)]
    return y, [x for batch in S for head in batch for row in head for x in row]


def results(form: object, tensors: Sequence[Tensor], **settings: int) -> list[Tensor]:
    """y, the last state, and the gradients of a fixed function of both with respect to all six inputs."""
    r, k, v, d, u, s = tensors
    y, after = form(r, k, v, -torch.exp(d), u, s, **settings)
    generator = torch.Generator().manual_seed(1)
    weights = [torch.randn(x.shape, generator=generator, dtype=torch.float64).to(x.dtype) for x in (y, after)]
    loss = (y * weights[0]).sum() + (after * weights[1]).sum()
    return [y.detach(), after.detach(), *torch.autograd.grad(loss, tensors)]


@pytest.mark.parametrize("form", [recurrent, chunked])
@pytest.mark.parametrize("length", [1, 2, 7, 64, 67])
def test_both_forms_are_the_definition(form: object, length: int) -> None:
    r, k, v, d, u, s = inputs((2, length, 2, 3))
    y, after = form(r, k, v, -torch.exp(d), u, s)
    y_expected, after_expected = by_scalars(r, k, v, d, u, s)
    torch.testing.assert_close(y.detach().flatten(), torch.tensor(y_expected, dtype=torch.float64))
    torch.testing.assert_close(after.detach().flatten(), torch.tensor(after_expected, dtype=torch.float64))


@pytest.mark.parametrize("chunk", [1, 2, 8, 32, 64])
def test_gradients_of_the_chunked_form_are_autograds_through_the_loop(chunk: int) -> None:
    tensors = inputs((2, 37, 2, 8))
    for ours, expected in zip(results(chunked, tensors, chunk=chunk), results(recurrent, tensors), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-10)


def test_gradcheck() -> None:
    assert torch.autograd.gradcheck(
        lambda r, k, v, d, u, s: chunked(r, k, v, -torch.exp(d), u, s, chunk=4), inputs((1, 6, 2, 3))
    )


@pytest.mark.parametrize("decay", [(-6, 2.5), (2, 4), (5, 8), (-30, -20)])
def test_fp32_holds_for_strong_and_for_vanishing_decays(decay: tuple[float, float]) -> None:
    """From no decay at all to exp(-exp(8)) = 0 per token: finite, and as near to FP64 as FP32 can be."""
    shape = (1, 150, 2, 16)
    ours = results(chunked, inputs(shape, decay, torch.float32))
    for result, expected in zip(ours, results(recurrent, inputs(shape, decay)), strict=True):
        scale = expected.abs().max().clamp_min(1e-30)
        assert torch.isfinite(result).all()
        assert ((result - expected).abs().max() / scale).item() < 2e-5


def test_a_text_in_two_parts_is_the_whole_text() -> None:
    r, k, v, d, u, s = inputs((2, 90, 2, 8))
    lw = -torch.exp(d)
    y, after = chunked(r, k, v, lw, u, s)
    y1, middle = chunked(*(x[:, :23] for x in (r, k, v, lw)), u, s)
    y2, end = chunked(*(x[:, 23:] for x in (r, k, v, lw)), u, middle)
    torch.testing.assert_close(torch.cat([y1, y2], dim=1), y)
    torch.testing.assert_close(end, after)


def test_low_precision_inputs_are_computed_in_fp32_also_under_autocast() -> None:
    r, k, v, d, u, _ = (x.detach().bfloat16() for x in inputs((2, 40, 2, 8)))
    lw = -torch.exp(d.float())
    expected = wkv(*(x.float() for x in (r, k, v)), lw, u.float(), None)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for length in (1, 40):
            y, after = wkv(*(x[:, :length] for x in (r, k, v, lw)), u, None)
            assert y.dtype == after.dtype == torch.float32
            torch.testing.assert_close(y, expected[0][:, :length])
    torch.testing.assert_close(after, expected[1])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_flash_linear_attention_agrees_on_a_gpu() -> None:
    pytest.importorskip("fla.ops.rwkv6")
    tensors = [t.detach().cuda().requires_grad_() for t in inputs((2, 200, 2, 64), (-6, 1), torch.float32)]
    for ours, theirs in zip(results(chunked, tensors), results(wkv, tensors), strict=True):
        assert ((ours - theirs).abs().max() / ours.abs().max()).item() < 5e-3  # Triton computes in TF32
