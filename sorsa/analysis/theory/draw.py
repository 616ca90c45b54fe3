"""Random problems for the theory checks, in FP64; the same path of numbers always gives the same problem.

Every array has a stream of its own and its first axis counts problems: of more problems, the first ones are the same.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

POINTS = 5  # single points (lemmas, Hessians) for each training that is asked for: they cost next to nothing


def generator(*path: int) -> np.random.Generator:
    """Return the random numbers of one batch of problems.

    Args:
        path: Whole numbers of 0 or more, such as seed, statement, setting and batch; another path, other numbers.
    """
    return np.random.default_rng(list(path))


def gaussian(rng: np.random.Generator, *shape: int) -> Tensor:
    """Return independent standard normal numbers."""
    return torch.from_numpy(rng.spawn(1)[0].standard_normal(shape))


def log_uniform(rng: np.random.Generator, low: float, high: float, *shape: int) -> Tensor:
    """Return numbers between two positive bounds whose logarithms are uniform."""
    return torch.from_numpy(np.exp(rng.spawn(1)[0].uniform(np.log(low), np.log(high), shape)))


def orthonormal(rng: np.random.Generator, count: int, rows: int, columns: int) -> Tensor:
    """Return random matrices (count, rows, columns) with orthonormal columns."""
    return torch.linalg.qr(gaussian(rng, count, rows, columns)).Q


def symmetric(rng: np.random.Generator, eigenvalues: Tensor) -> Tensor:
    """Return random symmetric matrices (count, d, d) with the given eigenvalues (count, d)."""
    Q = orthonormal(rng, *eigenvalues.shape, eigenvalues.shape[-1])
    return (Q * eigenvalues[:, None, :]) @ Q.mT
