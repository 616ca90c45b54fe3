"""Attention of one new token on a CPU, as two batched products over whole stores of keys and values.

PyTorch's own kernel for CPUs takes twice the time where a row has one query only: it works on blocks of queries. The
heads that share keys and values are the rows of one product here, so nothing is repeated. Everything else (prompts,
GPUs, models with additions to their attention) goes to transformers' `sdpa`, whose masks these are as well.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "sorsa_one_token"


def use_one_token_attention(model: PreTrainedModel) -> None:
    """Let a model on a CPU use it, unless the model wants other attention than `sdpa`."""
    replaceable = model.config._attn_implementation == "sdpa" and getattr(model, "_supports_attention_backend", False)
    if model.device.type == "cpu" and replaceable:
        AttentionInterface.register(NAME, one_token_attention)
        AttentionMaskInterface.register(NAME, sdpa_mask)
        model.set_attn_implementation(NAME)


def one_token_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Return what transformers expects of an attention function.

    Args:
        module: The layer, for `sdpa`.
        query: (B, heads, T, D).
        key: (B, heads of keys, W, D).
        value: (B, heads of keys, W, D).
        attention_mask: (B, 1, T, W), true where a column counts; None where all do.
        dropout: For `sdpa`; 0 outside of training.
        scaling: Factor of the scores; None means D**-0.5.
        **kwargs: Additions to attention, which `sdpa` knows or refuses.

    Returns:
        (B, T, heads, D), and no weights.
    """
    added = any(kwargs.get(name) is not None for name in ("position_bias", "softcap", "s_aux"))
    if query.shape[2] > 1 or dropout or added or (attention_mask is not None and attention_mask.dtype != torch.bool):
        return sdpa_attention_forward(module, query, key, value, attention_mask, dropout, scaling, **kwargs)
    B, heads, _, D = query.shape
    shared, W = key.shape[1:3]
    q = query.reshape(B * shared, heads // shared, D)
    scores = torch.bmm(q, key.reshape(B * shared, W, D).transpose(1, 2)).view(B, heads, 1, W)
    scores = scores.float() * (D**-0.5 if scaling is None else scaling)
    if attention_mask is not None:
        scores = scores.masked_fill(~attention_mask, -torch.inf)
    weights = scores.softmax(-1).to(value.dtype).view(B * shared, heads // shared, W)
    output = torch.bmm(weights, value.reshape(B * shared, W, value.shape[3]))  # (B * shared, heads / shared, D)
    return output.view(B, 1, heads, value.shape[3]), None
