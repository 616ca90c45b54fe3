"""Exact and randomized decompositions, their cache, and what they refuse."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch

from sorsa.adapters import decomposition
from sorsa.adapters.decomposition import decompose
from sorsa.adapters.fingerprint import probe, same_base


def slow_spectrum(m: int, n: int) -> torch.Tensor:
    """A weight whose singular values fall slowly, as a language model's do."""
    torch.manual_seed(0)
    k = min(m, n)
    U, V = torch.linalg.qr(torch.randn(m, k)).Q, torch.linalg.qr(torch.randn(n, k)).Q
    return (U * (10 * torch.arange(1, k + 1) ** -0.3)) @ V.T


@pytest.mark.parametrize("shape", [(96, 400), (400, 96), (200, 200)])
@pytest.mark.parametrize("rank", [1, 16, 96])
@pytest.mark.parametrize("method", ["exact", "randomized"])
def test_against_numpys_reference(shape: tuple[int, int], rank: int, method: str) -> None:
    W = slow_spectrum(*shape)
    U, S, Vt = decompose(W, rank, method)
    assert (U.shape, S.shape, Vt.shape) == ((shape[0], rank), (rank,), (rank, shape[1]))
    reference = torch.linalg.svdvals(W.double())[:rank]
    assert ((S - reference).abs() / reference).max() < 1e-3
    eye = torch.eye(rank)
    assert (U.T @ U - eye).norm() < 1e-4 and (Vt @ Vt.T - eye).norm() < 1e-4
    assert (S[:-1] >= S[1:]).all()
    # the triplets belong together: u_i^T W v_i = s_i
    torch.testing.assert_close(torch.diagonal(U.T @ W @ Vt.T), S, rtol=1e-4, atol=1e-4)


def test_randomized_is_repeatable_and_leaves_the_global_generator_alone() -> None:
    W = slow_spectrum(80, 60)
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first = decompose(W, 8, "randomized")
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(first, decompose(W, 8, "randomized"), strict=True))


def test_zero_weight_has_a_decomposition() -> None:
    for method in ("exact", "randomized"):
        U, S, Vt = decompose(torch.zeros(6, 5), 2, method)
        assert torch.isfinite(U).all() and torch.isfinite(Vt).all() and S.abs().max() == 0


@pytest.mark.parametrize(
    ("weight", "rank", "method", "message"),
    [
        (torch.zeros(3, 4), 4, "exact", r"rank must be between 1 and 3 for a weight \(3, 4\), got 4"),
        (torch.zeros(3, 4), 0, "exact", "got 0"),
        (torch.zeros(3, 4), 1, "qr", "decomposition must be 'exact' or 'randomized', got 'qr'"),
        (torch.full((3, 4), float("nan")), 1, "randomized", "NaN or infinite"),
    ],
)
def test_bad_input(weight: torch.Tensor, rank: int, method: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decompose(weight, rank, method)


def test_cache_is_keyed_by_weight_rank_and_method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    W = slow_spectrum(30, 20)
    first = decompose(W, 4, "exact", cache=tmp_path)
    decompose(W, 5, "exact", cache=tmp_path)
    decompose(W + 1e-3, 4, "exact", cache=tmp_path)
    decompose(W, 4, "randomized", cache=tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) == 4
    monkeypatch.setattr(decomposition, "_exact", lambda *_: pytest.fail("the cache was not used"))
    assert all(torch.equal(a, b) for a, b in zip(first, decompose(W, 4, "exact", cache=tmp_path), strict=True))


def test_damaged_cache_is_said_and_made_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    W = slow_spectrum(30, 20)
    first = decompose(W, 4, "exact", cache=tmp_path)
    file = next(tmp_path.glob("*.safetensors"))
    file.write_bytes(file.read_bytes()[:100])
    with caplog.at_level(logging.WARNING):
        again = decompose(W, 4, "exact", cache=tmp_path)
    assert "damaged" in caplog.text and torch.equal(first.S, again.S)
    assert torch.equal(decompose(W, 4, "exact", cache=tmp_path).U, again.U)


@pytest.mark.parametrize("shape", [(1, 1), (3, 1_000_003), (64, 64)])
def test_probe_tells_bases_apart_whatever_their_type(shape: tuple[int, int]) -> None:
    W = torch.randn(shape)
    saved = probe(W)
    assert saved.shape == (min(W.numel(), 1024),)
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        assert same_base(saved, W.to(dtype))
        assert same_base(probe(W.to(dtype)), W)
    assert not same_base(saved, W * 1.02)
    assert not same_base(saved, torch.randn(shape[0] + 1, shape[1]))


def test_probe_meets_every_row_and_column() -> None:
    index = probe(torch.arange(256 * 512, dtype=torch.float32).reshape(256, 512)).long()
    assert index.unique().numel() == 1024
    assert (index // 512).unique().numel() > 200 and (index % 512).unique().numel() > 400
