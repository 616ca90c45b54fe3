"""Full FP32 arithmetic for what is kept: decompositions, residuals, merged weights, and the orthonormality error."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def full_fp32(device_type: str) -> Iterator[None]:
    """Compute FP32 matrix products in FP32: without autocast's BF16, and without TF32, whose rounding errors of 1e-3
    would make the factors visibly less than orthonormal.

    Args:
        device_type: `cpu`, `cuda`, ...: where the tensors are.
    """
    # Backend by backend: PyTorch refuses its older switch once transformers has used these.
    backends = (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)
    before = [backend.fp32_precision for backend in backends]
    for backend in backends:
        backend.fp32_precision = "ieee"
    try:
        with torch.autocast(device_type, enabled=False):
            yield
    finally:
        for backend, precision in zip(backends, before, strict=True):
            backend.fp32_precision = precision
