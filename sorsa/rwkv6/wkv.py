"""The recurrence of RWKV6's time mixing ("WKV"), in two forms that agree. Per head of size N, with S (N, N) the state,
keys x values:

    y_t = r_t (S_{t-1} + diag(u) k_t^T v_t);    S_t = diag(w_t) S_{t-1} + k_t^T v_t;    w_t = exp(lw_t), lw_t < 0

`recurrent` is that definition, token by token. `chunked` works on chunks of L tokens by matrix products. Inside a
chunk, token t sees token j < t through the product of the decays between them. Every such pair is parted by exactly
one boundary of a binary tree: 1 | 1, 2 | 2, ... L/2 | L/2. Climbing it, each segment keeps

    R_t = r_t * (decays from the segment's start to t-1),   K_j = k_j * (decays from j+1 to the segment's end),
    D   = the product of the segment's decays,

and two neighbours meet as `A = R_right K_left^T`; then R_right takes the left's D, K_left the right's, and D = D D.
All factors are products of decays, at most 1: no division, no exponent above 0, nothing to clamp or to overflow, and
no difference of large sums, so strong decays lose no digits. Backward is written out (climb again, then descend),
because autograd would keep every level of the tree: what is kept is the input.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

CHUNK = 64  # L, a power of two: about N, where work within chunks and work between them balance


def wkv(r: Tensor, k: Tensor, v: Tensor, lw: Tensor, u: Tensor, s: Tensor | None) -> tuple[Tensor, Tensor]:
    """Run the recurrence in FP32 (FP64 for FP64 inputs) in the form that suits: see the module's docstring.

    Args:
        r: Receptance (B, T, H, N).
        k: Key (B, T, H, N).
        v: Value (B, T, H, N).
        lw: Logarithm of the decay (B, T, H, N), below 0.
        u: Bonus of the current token (H, N).
        s: State before the first token (B, H, N, N); None means zeros.

    Returns:
        y (B, T, H, N) and the state after the last token (B, H, N, N).
    """
    dtype = torch.promote_types(r.dtype, torch.float32)
    r, k, v, lw, u = (x.to(dtype) for x in (r, k, v, lw, u))
    if s is None:
        s = r.new_zeros(r.shape[0], r.shape[2], r.shape[3], r.shape[3])
    if r.shape[1] == 1:
        return recurrent(r, k, v, lw, u, s)
    if r.is_cuda and dtype == torch.float32 and _fla_is_installed():
        from fla.ops.rwkv6 import chunk_rwkv6

        return chunk_rwkv6(r, k, v, lw, u, scale=1.0, initial_state=s, output_final_state=True)
    return chunked(r, k, v, lw, u, s)


def recurrent(r: Tensor, k: Tensor, v: Tensor, lw: Tensor, u: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    """Run the recurrence token by token; arguments and results as for `wkv`, all in one floating-point type."""
    y = []
    with _without_autocast(r):
        for t in range(r.shape[1]):
            kv = k[:, t].unsqueeze(-1) * v[:, t].unsqueeze(-2)  # (B, H, N, N)
            y.append((r[:, t].unsqueeze(-2) @ (s + u.unsqueeze(-1) * kv)).squeeze(-2))
            s = torch.exp(lw[:, t]).unsqueeze(-1) * s + kv
    return torch.stack(y, dim=1), s


def chunked(
    r: Tensor, k: Tensor, v: Tensor, lw: Tensor, u: Tensor, s: Tensor, chunk: int = CHUNK
) -> tuple[Tensor, Tensor]:
    """Run the recurrence chunk by chunk; arguments and results as for `wkv`, all in one floating-point type.

    Args:
        r: As the following: see `wkv`.
        k: (B, T, H, N).
        v: (B, T, H, N).
        lw: (B, T, H, N).
        u: (H, N).
        s: (B, H, N, N).
        chunk: Tokens per chunk L, a power of two; a shorter text takes the next power of two.
    """
    T = r.shape[1]
    L = min(chunk, 1 << (T - 1).bit_length())

    def in_chunks(x: Tensor) -> Tensor:  # (B, T, H, N) -> (B, H, T / L, L, N)
        x = x.transpose(1, 2)
        if T % L:
            x = F.pad(x, (0, 0, 0, -T % L))  # zeros after the end change nothing
        return x.unflatten(2, (-1, L)).contiguous()

    y, s = _Chunked.apply(in_chunks(r), in_chunks(k), in_chunks(v), in_chunks(lw), u, s)
    return y.flatten(2, 3)[:, :, :T].transpose(1, 2), s


class _Chunked(torch.autograd.Function):
    """The chunked form on r, k, v, lw (B, H, T / L, L, N), u (H, N), s (B, H, N, N)."""

    @staticmethod
    def forward(ctx: Any, r: Tensor, k: Tensor, v: Tensor, lw: Tensor, u: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(r, k, v, lw, u, s)
        with _without_autocast(r):
            R, K, D, A, _ = _climb(r, k, torch.exp(lw), u)
            S, s = _scan(D, K.mT @ v, s)
            return (A @ v).add_(R @ S), s

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor, ds: Tensor) -> tuple[Tensor, ...]:
        r, k, v, lw, u, s = ctx.saved_tensors
        with _without_autocast(r):
            w = torch.exp(lw)
            R, K, D, A, levels = _climb(r, k, w, u, keep=True)
            S, _ = _scan(D, K.mT @ v, s)
            dS, ds = _scan(D, R.mT @ dy, ds, backwards=True)
            dA = dy @ v.mT
            dv = (A.mT @ dy).add_(K @ dS)
            dr, dk, dw = _descend(dy @ S.mT, v @ dS.mT, (dS * S).sum(-1), dA, levels)
            bonus = dA.diagonal(dim1=-2, dim2=-1).unsqueeze(-1)  # A_tt = r_t diag(u) k_t^T
            u_bonus = bonus * _per_head(u)
            du = (bonus * r * k).sum((0, 2, 3)) if ctx.needs_input_grad[4] else None
            return dr.addcmul_(u_bonus, k), dk.addcmul_(u_bonus, r), dv, dw.mul_(w), du, ds


def _climb(
    r: Tensor, k: Tensor, w: Tensor, u: Tensor, keep: bool = False
) -> tuple[Tensor, Tensor, Tensor, Tensor, list[tuple[Tensor, ...]]]:
    """Climb the tree of every chunk.

    Args:
        r: As k and w: (..., L, N).
        k: (..., L, N).
        w: The decays themselves (..., L, N).
        u: (H, N).
        keep: Whether to return what `_descend` needs.

    Returns:
        R and K of the whole chunk (..., L, N), its decay D (..., N), A (..., L, L) with `y = A v + R S`, and of each
        level, from the smallest segments on, the right's R, the left's K, and both decays, as they met.
    """
    R, K, D, levels = r.clone(), k.clone(), w, []
    A = r.new_zeros(*r.shape[:-1], r.shape[-2])
    A.diagonal(dim1=-2, dim2=-1).copy_((r * k).mul_(_per_head(u)).sum(-1))
    half = 1
    while half < r.shape[-2]:
        K_left, R_right = _pairs(K, half)[..., 0, :, :], _pairs(R, half)[..., 1, :, :]  # (..., pairs, half, N)
        D_left, D_right = D.unflatten(-2, (-1, 2)).unbind(-2)  # (..., pairs, N)
        _lower_blocks(A, half).copy_(R_right @ K_left.mT if half > 1 else (R_right * K_left).sum(-1, keepdim=True))
        if keep:
            levels.append((R_right.clone(), K_left.clone(), D_left, D_right))
        R_right.mul_(D_left.unsqueeze(-2))
        K_left.mul_(D_right.unsqueeze(-2))
        D = D_left * D_right
        half *= 2
    return R, K, D.squeeze(-2), A, levels


def _descend(
    dR: Tensor, dK: Tensor, dD: Tensor, dA: Tensor, levels: list[tuple[Tensor, ...]]
) -> tuple[Tensor, Tensor, Tensor]:
    """Take the gradients of what `_climb` returned down the tree; dR and dK are changed in place.

    Returns:
        The gradients of r, k (but for A's diagonal) and w, each (..., L, N).
    """
    dD = dD.unsqueeze(-2)
    for R_right, K_left, D_left, D_right in reversed(levels):
        half = R_right.shape[-2]
        dA_block = _lower_blocks(dA, half)
        dR_right, dK_left = _pairs(dR, half)[..., 1, :, :], _pairs(dK, half)[..., 0, :, :]
        dD_left = (dR_right * R_right).sum(-2).addcmul_(dD, D_right)
        dD_right = (dK_left * K_left).sum(-2).addcmul_(dD, D_left)
        dR_right.mul_(D_left.unsqueeze(-2)).add_(dA_block @ K_left if half > 1 else dA_block * K_left)
        dK_left.mul_(D_right.unsqueeze(-2)).add_(dA_block.mT @ R_right if half > 1 else dA_block * R_right)
        dD = torch.stack([dD_left, dD_right], dim=-2).flatten(-3, -2)
    return dR, dK, dD


def _scan(D: Tensor, added: Tensor, s: Tensor, backwards: bool = False) -> tuple[Tensor, Tensor]:
    """Apply `S <- diag(D) S + added` chunk by chunk.

    Args:
        D: (B, H, chunks, N).
        added: (B, H, chunks, N, N).
        s: The state to begin with (B, H, N, N).
        backwards: Whether to go from the last chunk to the first.

    Returns:
        The state that met each chunk (B, H, chunks, N, N), and the one after all of them.
    """
    met = []
    for i in reversed(range(D.shape[2])) if backwards else range(D.shape[2]):
        met.append(s)
        s = torch.addcmul(added[:, :, i], D[:, :, i].unsqueeze(-1), s)
    return torch.stack(met[::-1] if backwards else met, dim=2), s


def _pairs(x: Tensor, half: int) -> Tensor:
    """View the segments of `half` tokens in pairs: (..., L, N) -> (..., L / 2 half, 2, half, N)."""
    return x.unflatten(-2, (-1, 2, half))


def _lower_blocks(A: Tensor, half: int) -> Tensor:
    """View A (..., L, L) where right segments (rows) meet their left neighbours: (..., L / 2 half, half, half)."""
    blocks = A.unflatten(-1, (-1, 2, half)).unflatten(-4, (-1, 2, half))  # (..., pairs, 2, half, pairs, 2, half)
    return blocks[..., 1, :, :, 0, :].diagonal(dim1=-4, dim2=-2).movedim(-1, -3)


def _per_head(u: Tensor) -> Tensor:
    """View u (H, N) so that it broadcasts over (B, H, chunks, L, N)."""
    return u[:, None, None]


def _without_autocast(x: Tensor) -> contextlib.AbstractContextManager[None]:
    """Return a context in which autocast leaves FP32 products alone: the state would drift in BF16."""
    kind = x.device.type
    return torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else contextlib.nullcontext()


@functools.cache
def _fla_is_installed() -> bool:
    """Whether flash-linear-attention's kernels can be imported; they need Triton, and a GPU to run."""
    return all(importlib.util.find_spec(name) is not None for name in ("fla", "triton"))
