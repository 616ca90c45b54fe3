"""Cut a weight into principal factors: the top-r singular triplets `U diag(S) Vt` of section 4.

`exact` is LAPACK's (or cuSOLVER's) full SVD. `randomized` is subspace iteration from a random start (Halko, Martinsson
and Tropp 2011, algorithm 4.4) on the Gram matrix, with a Chebyshev polynomial in the power's place (Zhou and
Saad 2007): almost only matrix products. Whichever is used, the adapter's function at step 0 is the base model's,
because the residual is computed from these very factors.
"""

from __future__ import annotations

import hashlib
import logging
import math
import os
import threading
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from sorsa.adapters.precision import full_fp32

logger = logging.getLogger(__name__)

Decomposition = Literal["exact", "randomized"]

# Extra columns of the random subspace. The spectra of language-model weights fall slowly, so that with few extra
# columns the r-th value converges slowly; doubling the subspace was the cheapest way to 1e-3 (bench/init.py).
_MIN_OVERSAMPLING = 32
_MAX_ROUNDS = 12  # a flat spectrum never settles; its triplets near rank r are interchangeable then
_TOLERANCE = 5e-4  # estimated relative error of a singular value at which the iteration ends
_DEGREE = 3  # matrix products between two orthonormalisations, where FP32 bears the range that they span
_LARGEST_GAIN = 1e7  # that range: beyond it, the small directions drown in the rounding errors of the large ones


class Factors(NamedTuple):
    """Principal factors of a weight (m, n): `U` (m, r), `S` (r,) descending, `Vt` (r, n), all FP32."""

    U: Tensor
    S: Tensor
    Vt: Tensor


def decompose(weight: Tensor, rank: int, method: Decomposition, cache: str | Path | None = None) -> Factors:
    """Return the top `rank` singular triplets of a weight, in FP32, on the weight's device.

    Args:
        weight: Matrix of shape (m, n), any floating type.
        rank: Number of triplets, 1 to min(m, n).
        method: `exact` or `randomized`.
        cache: Folder of finished decompositions, keyed by the weight's bytes, rank and method; None computes anew.

    Raises:
        ValueError: The rank or the method is out of range, or the weight is not a matrix of finite numbers.
    """
    if method not in ("exact", "randomized"):
        raise ValueError(f"decomposition must be 'exact' or 'randomized', got {method!r}")
    if weight.ndim != 2 or not 1 <= rank <= min(weight.shape):
        raise ValueError(
            f"rank must be between 1 and {min(weight.shape)} for a weight {tuple(weight.shape)}, got {rank}"
        )
    if not torch.isfinite(weight.detach().sum(dtype=torch.float64)):  # one pass; NaN and infinity survive a sum
        raise ValueError(f"a weight {tuple(weight.shape)} has NaN or infinite elements: it has no SVD")
    file = None if cache is None else Path(cache) / f"{_cache_key(weight, rank, method)}.safetensors"
    if file is not None and (factors := _read_cache(file, weight, rank)) is not None:
        return factors
    with full_fp32(weight.device.type):
        factors = (_exact if method == "exact" else _randomized)(weight.detach().float(), rank)
    if file is not None:
        _write_cache(file, factors)
    return factors


def _exact(W: Tensor, rank: int) -> Factors:
    U, S, Vt = torch.linalg.svd(W, full_matrices=False)
    return Factors(U[:, :rank].contiguous(), S[:rank].contiguous(), Vt[:rank].contiguous())


def _randomized(W: Tensor, rank: int) -> Factors:
    if W.shape[0] < W.shape[1]:  # work on the Gram matrix of the smaller side
        V, S, Ut = _randomized(W.T.contiguous(), rank)
        return Factors(Ut.T.contiguous(), S, V.T.contiguous())
    n = W.shape[1]
    width = rank + max(rank, _MIN_OVERSAMPLING)
    if width >= n:  # the subspace would be the whole space: nothing to save
        return _exact(W, rank)
    gram = W.T @ W  # (n, n)
    generator = torch.Generator().manual_seed(0)  # the same weight gives the same factors on the same machine
    Q = torch.randn(n, width, generator=generator).to(W.device)
    Q = torch.linalg.qr(gram @ (gram @ Q)).Q
    previous = None
    for _ in range(_MAX_ROUNDS):
        product = gram @ Q  # (n, width)
        squares, vectors = torch.linalg.eigh(Q.T @ product)  # Rayleigh-Ritz, ascending: estimates of S^2
        values = squares[-rank:].clamp_min(0).sqrt()
        floor = squares[0].clamp_min(torch.finfo(W.dtype).eps * squares[-1])
        degree, gain = _filter(floor.item(), squares[-rank].item(), squares[-1].item())
        if previous is not None:
            change = (values - previous).abs()  # what is left is smaller by at least the gain, in theory its square
            if (change <= _TOLERANCE * gain * values).all():
                break
        previous = values
        Q = torch.linalg.qr(_chebyshev(gram, Q, product, floor, degree)).Q
    V = Q @ vectors[:, -rank:]  # (n, r)
    # The values come from W itself: the Gram matrix squares them, and the rounding errors of the small ones with them.
    Qu, R = torch.linalg.qr(W @ V)  # (m, r), (r, r)
    U, S, Vt = torch.linalg.svd(R)
    return Factors((Qu @ U).contiguous(), S, (Vt @ V.T).contiguous())


def _filter(floor: float, wanted: float, largest: float) -> tuple[int, float]:
    """Return the degree of the Chebyshev filter that FP32 bears, and its gain for the smallest wanted eigenvalue.

    Args:
        floor: Eigenvalues of the Gram matrix up to here are damped.
        wanted: The r-th largest eigenvalue.
        largest: The largest eigenvalue.
    """
    if floor <= 0:  # a weight of rank below r: nothing to damp
        return 1, math.inf
    degree = _DEGREE
    while degree > 1 and degree * math.acosh(2 * largest / floor - 1) > math.log(2 * _LARGEST_GAIN):
        degree -= 1
    return degree, math.cosh(degree * math.acosh(max(1.0, 2 * wanted / floor - 1)))


def _chebyshev(gram: Tensor, Q: Tensor, product: Tensor, floor: Tensor, degree: int) -> Tensor:
    """Return `T(gram) Q` (n, width), T the Chebyshev polynomial that stays within 1 for eigenvalues in [0, floor].

    Above the floor it grows faster than any polynomial of its degree, a plain power included. `product = gram @ Q`.
    """
    scale = 2 / floor.clamp_min(torch.finfo(gram.dtype).tiny)
    before, now = Q, scale * product - Q
    for _ in range(degree - 1):
        before, now = now, 2 * (scale * (gram @ now) - now) - before
    return now


def _cache_key(weight: Tensor, rank: int, method: str) -> str:
    digest = hashlib.sha256(f"{method} {rank} {tuple(weight.shape)} {weight.dtype}".encode())
    digest.update(weight.detach().cpu().contiguous().view(torch.uint8).numpy())
    return digest.hexdigest()


def _read_cache(file: Path, weight: Tensor, rank: int) -> Factors | None:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not file.exists():
        return None
    try:
        tensors = load_file(file, device=str(weight.device))
        factors = Factors(tensors["U"], tensors["S"], tensors["Vt"])
    except (SafetensorError, KeyError) as error:
        logger.warning("SVD cache file %s is damaged (%s): computing it again", file, error)
        return None
    m, n = weight.shape
    if (factors.U.shape, factors.S.shape, factors.Vt.shape) != ((m, rank), (rank,), (rank, n)):
        logger.warning("SVD cache file %s has other shapes than its name says: computing it again", file)
        return None
    return factors


def _write_cache(file: Path, factors: Factors) -> None:
    from safetensors.torch import save_file

    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_suffix(
        f".{os.getpid()}-{threading.get_ident()}.tmp"
    )  # several processes may share the folder
    save_file({name: tensor.cpu() for name, tensor in factors._asdict().items()}, temporary)
    temporary.replace(file)
