"""The two halves of an RWKV6 block: time mixing (attention's place) and channel mixing (the MLP's place).

Both look at the previous token as well: they work on points between `x_t` and `x_{t-1}` ("token shift"), which in time
mixing depend on the data. Time mixing then runs the recurrence of `wkv.py` with a data-dependent decay.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sorsa.rwkv6.configuration import Rwkv6Config
from sorsa.rwkv6.wkv import wkv


class LayerState(NamedTuple):
    """What one block remembers of the tokens before: constant in size, whatever their number."""

    att_x: Tensor  # (B, C): time mixing's last input
    kv: Tensor  # (B, H, N, N): the state S of the recurrence, FP32 (FP64 in an FP64 model)
    ffn_x: Tensor  # (B, C): channel mixing's last input


def shifted(x: Tensor, before: Tensor | None) -> Tensor:
    """Return `x_{t-1}` for every t: x (B, T, C) moved by one, `before` (B, C) or zeros in front."""
    first = torch.zeros_like(x[:, :1]) if before is None else before.unsqueeze(1).to(x.dtype)
    return torch.cat([first, x[:, :-1]], dim=1)


class TimeMix(nn.Module):
    """Time mixing of one block: five data-dependent token shifts, the recurrence, a gate and the output matrix."""

    def __init__(self, config: Rwkv6Config) -> None:
        """Allocate the parameters; `Rwkv6PreTrainedModel._init_weights` fills those that no checkpoint fills."""
        super().__init__()
        C, H, N = config.hidden_size, config.num_heads, config.head_size
        self.head_size = N
        for name in "xwkvrg":
            setattr(self, f"time_maa_{name}", nn.Parameter(torch.empty(1, 1, C)))
        self.time_maa_w1 = nn.Parameter(torch.empty(C, 5 * config.mix_rank))
        self.time_maa_w2 = nn.Parameter(torch.empty(5, config.mix_rank, C))
        self.time_decay = nn.Parameter(torch.empty(1, 1, C))
        self.time_decay_w1 = nn.Parameter(torch.empty(C, config.decay_rank))
        self.time_decay_w2 = nn.Parameter(torch.empty(config.decay_rank, C))
        self.time_faaaa = nn.Parameter(torch.empty(H, N))
        self.receptance = nn.Linear(C, C, bias=False)
        self.key = nn.Linear(C, C, bias=False)
        self.value = nn.Linear(C, C, bias=False)
        self.gate = nn.Linear(C, C, bias=False)
        self.output = nn.Linear(C, C, bias=False)
        self.ln_x = nn.GroupNorm(H, C, eps=config.layer_norm_epsilon * config.head_size_divisor**2)

    def forward(self, x: Tensor, state: LayerState | None) -> tuple[Tensor, Tensor]:
        """Mix x (B, T, C) over time; returns the result (B, T, C) and the recurrence's state (B, H, N, N)."""
        xw, xk, xv, xr, xg = self._token_shift(x, state)
        r, k, v = (
            f(z).unflatten(-1, (-1, self.head_size))
            for f, z in ((self.receptance, xr), (self.key, xk), (self.value, xv))
        )  # (B, T, H, N)
        y, kv = wkv(r, k, v, self._log_decay(xw), self.time_faaaa, None if state is None else state.kv)
        gate = F.silu(self.gate(xg))
        weight, bias = self.ln_x.weight.to(y.dtype), self.ln_x.bias.to(y.dtype)  # y is FP32 in a BF16 model too
        y = F.group_norm(y.flatten(2).flatten(0, 1), self.ln_x.num_groups, weight, bias, self.ln_x.eps)
        return self.output(y.view_as(gate).to(gate.dtype) * gate), kv

    def _token_shift(self, x: Tensor, state: LayerState | None) -> list[Tensor]:
        """Return the five mixtures of x and its predecessor, for w, k, v, r and g: each (B, T, C)."""
        past = shifted(x, None if state is None else state.att_x) - x
        m = torch.tanh(torch.addcmul(x, past, self.time_maa_x) @ self.time_maa_w1)  # (B, T, 5 D)
        m = m.flatten(0, 1).unflatten(-1, (5, -1)).transpose(0, 1) @ self.time_maa_w2  # (5, B T, C)
        return [
            torch.addcmul(x, past, getattr(self, f"time_maa_{name}") + part.view_as(x))
            for name, part in zip("wkvrg", m, strict=True)
        ]

    def _log_decay(self, xw: Tensor) -> Tensor:
        """Return `lw = -exp(d)` (B, T, H, N) in FP32, the logarithm of the decay: below 0."""
        d = torch.tanh(xw @ self.time_decay_w1) @ self.time_decay_w2
        dtype = torch.promote_types(xw.dtype, torch.float32)
        # beyond 10 the decay exp(-exp(d)) is 0 in every type, and an infinite lw would make its gradient NaN
        d = (self.time_decay.to(dtype) + d.to(dtype)).clamp(max=10.0)
        return -torch.exp(d).unflatten(-1, (-1, self.head_size))


class ChannelMix(nn.Module):
    """Channel mixing of one block: `sigmoid(R xr) * V relu(K xk)^2`."""

    def __init__(self, config: Rwkv6Config) -> None:
        """Allocate the parameters, as in `TimeMix`."""
        super().__init__()
        C, F_ = config.hidden_size, config.intermediate_size
        self.time_maa_k = nn.Parameter(torch.empty(1, 1, C))
        self.time_maa_r = nn.Parameter(torch.empty(1, 1, C))
        self.key = nn.Linear(C, F_, bias=False)
        self.receptance = nn.Linear(C, C, bias=False)
        self.value = nn.Linear(F_, C, bias=False)

    def forward(self, x: Tensor, state: LayerState | None) -> Tensor:
        """Mix x (B, T, C) over channels; returns (B, T, C)."""
        past = shifted(x, None if state is None else state.ffn_x) - x
        xk, xr = torch.addcmul(x, past, self.time_maa_k), torch.addcmul(x, past, self.time_maa_r)
        return torch.sigmoid(self.receptance(xr)) * self.value(F.relu(self.key(xk)).square())
