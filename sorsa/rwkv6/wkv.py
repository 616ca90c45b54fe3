"""The recurrence of RWKV6's time mixing, one head of size N at a time, S (N, N) being keys x values:

y_t = r_t (S_{t-1} + diag(u) k_t^T v_t);    S_t = diag(exp(lw_t)) S_{t-1} + k_t^T v_t;    lw_t < 0
"""

from __future__ import annotations

import torch
from torch import Tensor


def recurrent(r: Tensor, k: Tensor, v: Tensor, lw: Tensor, u: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    """Run the recurrence token by token: the definition, and the fastest way for a single token.

    Args:
        r: Receptance (B, T, H, N).
        k: Key (B, T, H, N).
        v: Value (B, T, H, N).
        lw: Logarithm of the decay (B, T, H, N), below 0.
        u: Bonus of the current token (H, N).
        s: State before the first token (B, H, N, N).

    Returns:
        y (B, T, H, N) and the state after the last token (B, H, N, N).
    """
    y = []
    for t in range(r.shape[1]):
        kv = k[:, t].unsqueeze(-1) * v[:, t].unsqueeze(-2)
        y.append((r[:, t].unsqueeze(-2) @ (s + u.unsqueeze(-1) * kv)).squeeze(-2))
        s = torch.exp(lw[:, t]).unsqueeze(-1) * s + kv
    return torch.stack(y, dim=1), s


def wkv(r: Tensor, k: Tensor, v: Tensor, lw: Tensor, u: Tensor, s: Tensor | None) -> tuple[Tensor, Tensor]:
    """Run the recurrence in FP32; `s` None means an empty state. Arguments and results as for `recurrent`."""
    f = [x.float() for x in (r, k, v, lw, u)]
    if s is None:
        s = torch.zeros(r.shape[0], r.shape[2], r.shape[3], r.shape[3], device=r.device)
    return recurrent(*f, s)
