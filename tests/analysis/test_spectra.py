"""dSigma, dD and their kin against a plain NumPy reference, and where the formulas are ambiguous."""

from __future__ import annotations

import numpy as np
import pytest

from sorsa.analysis import spectra


def matrices(m: int, n: int, change: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return W0 (m, n) and W0 plus a change of this relative size."""
    draw = np.random.default_rng(seed)
    W0 = draw.standard_normal((m, n))
    return W0, W0 + change * draw.standard_normal((m, n))


def reference(W0: np.ndarray, W: np.ndarray) -> tuple[float, float]:
    """Return dSigma and dD by the paper's formulas, triplet by triplet; the triplets from eigenvectors, not an SVD."""
    k = min(W0.shape)

    def triplets(A: np.ndarray) -> list[tuple[float, np.ndarray, np.ndarray]]:
        squares, right = np.linalg.eigh(A.T @ A)
        order = np.argsort(squares)[::-1][:k]
        values = np.sqrt(squares[order])
        return [(s, A @ right[:, i] / s, right[:, i]) for s, i in zip(values, order, strict=True)]

    sigma = angle = 0.0
    for (s0, u0, v0), (s, u, v) in zip(triplets(W0), triplets(W), strict=True):
        sigma += abs(s - s0)
        angle += abs(u @ u0) + abs(v @ v0)
    return sigma / k, 1 - angle / (2 * k)


@pytest.mark.parametrize("shape", [(24, 16), (16, 24), (20, 20)])
@pytest.mark.parametrize("change", [1e-3, 0.1, 1.0])
def test_agrees_with_the_papers_formulas(shape: tuple[int, int], change: float) -> None:
    W0, W = matrices(*shape, change)
    found = spectra.drift(spectra.svd(W0), spectra.svd(W), top=4)
    dSigma, dD = reference(W0, W)
    assert found["dSigma"] == pytest.approx(dSigma, rel=1e-8)
    assert found["dD"] == pytest.approx(dD, abs=1e-8)
    assert found["ties"] == 0


def test_the_top_is_the_mean_over_the_leading_indices() -> None:
    W0, W = matrices(12, 10, 0.3)
    start, now = spectra.svd(W0), spectra.svd(W)
    own = [(abs(now.U[:, i] @ start.U[:, i]) + abs(now.Vt[i] @ start.Vt[i])) / 2 for i in range(10)]
    found = spectra.drift(start, now, top=3)
    assert found["dD_top"] == pytest.approx(1 - np.mean(own[:3]), abs=1e-12)
    assert found["dD"] == pytest.approx(1 - np.mean(own), abs=1e-12)


def test_signs_are_no_drift() -> None:
    start = spectra.svd(matrices(9, 7, 0)[0])
    flipped = spectra.Svd(-start.U, start.sigma, start.Vt * np.array([1, -1, 1, -1, 1, -1, 1.0])[:, None])
    assert spectra.drift(start, flipped, 7)["dD"] == pytest.approx(0, abs=1e-12)


def test_another_basis_of_equal_values_is_no_drift() -> None:
    """diag(3, 2, 2, 2, 1): any rotation of the middle three is a valid SVD of the same matrix."""
    rotation = np.linalg.qr(np.random.default_rng(1).standard_normal((3, 3)))[0]
    sigma = np.array([3.0, 2, 2, 2, 1])
    start = spectra.Svd(np.eye(5), sigma, np.eye(5))
    turned = np.eye(5)
    turned[1:4, 1:4] = rotation
    found = spectra.drift(start, spectra.Svd(turned, sigma, turned.T), 2)
    assert found["ties"] == 3
    assert found["dD"] == pytest.approx(0, abs=1e-12) and found["dD_top"] == pytest.approx(0, abs=1e-12)


def test_a_real_turn_out_of_a_block_of_equal_values_is_drift() -> None:
    sigma = np.array([3.0, 2, 2, 1])
    start = spectra.Svd(np.eye(4), sigma, np.eye(4))
    swapped = np.eye(4)[:, [0, 1, 3, 2]]  # the third vector has left the block, the fourth has come in
    found = spectra.drift(start, spectra.Svd(swapped, sigma, swapped.T), 4)
    assert found["ties"] == 2 and found["dD"] == pytest.approx(0.5)


def test_traded_places_are_drift_as_the_formula_says() -> None:
    W0, W = np.diag([3.0, 2.01, 2.0]), np.diag([3.0, 1.99, 2.0])
    found = spectra.drift(spectra.svd(W0), spectra.svd(W), 1)
    assert found["dD"] == pytest.approx(2 / 3) and found["dD_top"] == 0


@pytest.mark.parametrize(("sigma", "kappa"), [([4.0, 2.0], 2.0), ([4.0, 0.0], None), ([4.0, 1e-17], None)])
def test_condition_number(sigma: list[float], kappa: float | None) -> None:
    assert spectra.condition_number(np.array(sigma)) == kappa


def test_values_of_a_product() -> None:
    draw = np.random.default_rng(2)
    U, S, Vt = draw.standard_normal((12, 4)), np.array([5.0, 3, 2, -1]), draw.standard_normal((4, 9))
    whole = np.linalg.svd((U * S) @ Vt, compute_uv=False)
    np.testing.assert_allclose(spectra.principal_values(U, S, Vt), whole[:4], rtol=1e-12)


def test_orthonormality() -> None:
    X = np.eye(5)[:, :3] * np.array([1.0, 2, 1])
    assert spectra.orthonormality(X) == pytest.approx(3)  # 2^2 - 1 in one place


@pytest.mark.parametrize("shape", [(8, 6), (6, 8)])
def test_effective_rank(shape: tuple[int, int]) -> None:
    equal = np.zeros(shape)
    equal[range(3), range(3)] = 0.5
    assert spectra.effective_rank(equal) == pytest.approx(3)
    sigma = np.array([0.7, 0.2, 0.1])
    uneven = np.zeros(shape)
    uneven[range(3), range(3)] = sigma
    assert spectra.effective_rank(uneven) == pytest.approx(np.exp(-(sigma * np.log(sigma)).sum()))
    assert spectra.effective_rank(np.zeros(shape)) is None


@pytest.mark.parametrize("size", [1e-1, 1e-3, 1e-5])
def test_rounding_errors_are_no_directions(size: float) -> None:
    """An update of rank 8 added to FP32 weights: 248 more singular values are what the addition has rounded off."""
    draw = np.random.default_rng(3)
    W0 = draw.standard_normal((256, 256)).astype(np.float32)
    update = draw.standard_normal((256, 8)) @ draw.standard_normal((8, 256))
    update *= size * np.linalg.norm(W0) / np.linalg.norm(update)
    sigma = np.linalg.svd(update, compute_uv=False)[:8]
    share = sigma / sigma.sum()
    change = (W0 + update).astype(np.float32).astype(float) - W0
    rounding = np.finfo(np.float32).eps * np.linalg.norm(W0, 2)
    expected = np.exp(-(share * np.log(share)).sum())
    assert spectra.effective_rank(change, rounding) == pytest.approx(expected, rel=1e-4)


def test_a_change_that_is_all_rounding_is_none() -> None:
    W0 = np.random.default_rng(4).standard_normal((64, 64))
    change = W0.astype(np.float32) - W0
    assert spectra.effective_rank(change, np.finfo(np.float32).eps * np.linalg.norm(W0, 2)) is None
    assert spectra.effective_rank(change) > 40
