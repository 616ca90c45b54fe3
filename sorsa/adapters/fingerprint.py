"""Tell whether a model is the base an adapter was cut from, whatever type its weights are loaded in."""

from __future__ import annotations

import torch
from torch import Tensor

PROBE_SIZE = 1024  # elements per matrix: 4 kB, against megabytes of factors
_STRIDE = 1_000_003  # prime, so that the sample spreads over rows and columns whatever the shape


def probe(weight: Tensor) -> Tensor:
    """Return a fixed sample of a weight's elements: (min(numel, 1024),), FP32, on the weight's device."""
    flat = weight.detach().reshape(-1)
    stride = _STRIDE if flat.numel() % _STRIDE else 1
    index = torch.arange(min(flat.numel(), PROBE_SIZE), device=flat.device) * stride % flat.numel()
    return flat[index].float()


def same_base(saved: Tensor, weight: Tensor) -> bool:
    """Return whether a weight (m, n) is the one that `saved = probe(...)` was taken from.

    The base may be loaded in another type than at training time. Both samples are therefore compared exactly in each
    of FP32, BF16 and FP16: rounding the more precise of the two to the other's type gives equal numbers.
    """
    here, saved = probe(weight).cpu(), saved.float().cpu()
    return here.shape == saved.shape and any(
        torch.equal(here.to(dtype), saved.to(dtype)) for dtype in (torch.float32, torch.bfloat16, torch.float16)
    )
