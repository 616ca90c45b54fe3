"""How far a matrix has moved: dSigma and dD of section 6.1, condition numbers, effective rank; NumPy on the CPU.

    dSigma_t = (1/k) sum_i |sigma_t^i - sigma_0^i|
    dD_t     = 1 - (1/2k) sum_i (|<u_t^i, u_0^i>| + |<v_t^i, v_0^i>|)          k = min(m, n), full SVD of W0 and W_t

What the second formula can and cannot say. The sign of a singular vector is arbitrary, hence the absolute values. Its
index is not: where two singular values are closer than the change of the matrix, their vectors mix or trade places, and
dD counts that as drift. Vectors of values that are equal within rounding error are arbitrary altogether: in such a
block the inner products are replaced by the singular values of the block of all of them (the cosines of the angles
between the two subspaces), which no choice of basis changes, and `ties` counts the indices concerned. `dD_top` is the
same mean over the first r indices, where the values lie far apart and the drift is not that of neighbours.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

PRECISIONS = {"fp64": np.float64, "fp32": np.float32}
_TIE = 64  # in units of eps * sigma_max: LAPACK's singular values are right to a few of them


class Svd(NamedTuple):
    """A full decomposition `U diag(sigma) Vt`: `U` (m, k), `sigma` (k,) descending, `Vt` (k, n)."""

    U: np.ndarray
    sigma: np.ndarray
    Vt: np.ndarray


def svd(W: np.ndarray) -> Svd:
    """Return the full SVD of a matrix (m, n) in its own precision.

    Raises:
        numpy.linalg.LinAlgError: It has elements that are no finite numbers.
    """
    return Svd(*np.linalg.svd(W, full_matrices=False))


def drift(start: Svd, now: Svd, top: int) -> dict[str, Any]:
    """Return `dSigma`, `dD`, `dD_top` (over the first `top` indices) and `ties` (indices with an equal neighbour).

    Args:
        start: Of `W0`.
        now: Of `W_t`, the same shape.
        top: From 1 to k.
    """
    cosines = np.abs(np.einsum("mk,mk->k", now.U, start.U)) + np.abs(np.einsum("kn,kn->k", now.Vt, start.Vt))
    ties = 0
    for block in _tied(start.sigma, now.sigma):
        left = np.linalg.svd(now.U[:, block].T @ start.U[:, block], compute_uv=False)
        right = np.linalg.svd(now.Vt[block] @ start.Vt[block].T, compute_uv=False)
        cosines[block] = left + right
        ties += block.stop - block.start
    cosines = np.minimum(cosines / 2, 1.0)  # rounding may exceed 1 by a few eps
    return {
        "dSigma": float(np.abs(now.sigma - start.sigma).mean()),
        "dD": float(1 - cosines.mean()),
        "dD_top": float(1 - cosines[:top].mean()),
        "ties": ties,
    }


def _tied(*spectra: np.ndarray) -> list[slice]:
    """Return the blocks of neighbours that cannot be told apart in one of the spectra, each descending."""
    close = np.zeros(len(spectra[0]) - 1, dtype=bool)  # whether i and i + 1 are
    for sigma in spectra:
        close |= sigma[:-1] - sigma[1:] <= _TIE * np.finfo(sigma.dtype).eps * sigma[0]
    edges = np.flatnonzero(np.diff(np.concatenate([[False], close, [False]]).astype(np.int8)))
    return [slice(int(begin), int(end) + 1) for begin, end in edges.reshape(-1, 2)]


def condition_number(sigma: np.ndarray) -> float | None:
    """Return kappa = sigma_max / sigma_min of descending singular values; None where the smallest is 0.

    It is 0 where it is lost in the rounding error of the largest, as after AdaLoRA has cut a triplet.
    """
    lost = len(sigma) * np.finfo(sigma.dtype).eps * sigma[0]
    return float(sigma[0] / sigma[-1]) if sigma[-1] > lost else None


def principal_values(U: np.ndarray, S: np.ndarray, Vt: np.ndarray) -> np.ndarray:
    """Return the r singular values of `Wp = U diag(S) Vt`, from matrices of r x r.

    Args:
        U: (m, r).
        S: (r,).
        Vt: (r, n).
    """
    left, right = np.linalg.qr(U, mode="r"), np.linalg.qr(Vt.T, mode="r")  # at most (r, r) each
    return np.linalg.svd((left * S) @ right.T, compute_uv=False)


def orthonormality(X: np.ndarray) -> float:
    """Return `||X^T X - I||_F` of a factor (m, r) with r columns."""
    return float(np.linalg.norm(X.T @ X - np.eye(X.shape[1], dtype=X.dtype)))


def effective_rank(change: np.ndarray, rounding: float = 0.0) -> float | None:
    """Return exp of the entropy of the normalised singular values of `W_t - W0` (m, n); None for no change.

    From 1 (one direction) to min(m, n). Values that are rounding error do not count: they are small, but there are
    min(m, n) of them, and a tiny update of rank 8 would seem to have more.

    Args:
        change: The difference.
        rounding: Singular values up to here are rounding error of the two weights. Those up to sqrt(k eps) of the
            largest are never counted: the values come from the Gram matrix in FP64, where they drown.
    """
    change = change.astype(np.float64)
    gram = change @ change.T if change.shape[0] <= change.shape[1] else change.T @ change
    sigma = np.sqrt(np.maximum(np.linalg.eigvalsh(gram), 0))
    floor = max(rounding, sigma[-1] * np.sqrt(len(sigma) * np.finfo(np.float64).eps))
    sigma = sigma[sigma > floor]
    if not len(sigma):
        return None
    share = sigma / sigma.sum()
    return float(np.exp(-(share * np.log(share)).sum()))
