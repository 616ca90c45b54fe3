"""Run records made up for the tests of figures and claims: no run is needed, and what is true of them is known."""

from __future__ import annotations

import hashlib
import math
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

KINDS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
SETTINGS: dict[str, dict[str, Any]] = {
    "full": {},
    "partial": {},
    "sorsa": {"gamma": 0.05, "regularizer_form": "frobenius"},
    "sorsa_squared": {"peft": "sorsa", "gamma": 0.05, "regularizer_form": "squared"},
    "sorsa_noreg": {"peft": "sorsa", "gamma": 0.0, "regularizer_form": "frobenius"},
}

MakeRecord = Callable[..., dict[str, Any]]


@pytest.fixture
def make_record() -> MakeRecord:
    """Return `synthetic_record`."""
    return synthetic_record


def synthetic_record(
    method: str,
    seed: int,
    *,
    steps: int = 40,
    layers: int = 1,
    kinds: int = 2,
    snapshots: int = 3,
    questions: int = 60,
    final_loss: float = 0.5,
    drift: float = 0.1,
    kappa: float = 10.0,
    accuracy: float = 0.5,
    nats: float = 1.5,
    seconds: float = 100.0,
    parameters: int = 300_000,
    settings: dict[str, Any] | None = None,
    **changes: Any,
) -> dict[str, Any]:
    """Return one run's record, with noise that only seed and method decide.

    Args:
        method: A key of SETTINGS, or a `--peft`.
        seed: Of the run, and of the noise that all methods share.
        steps, layers, kinds, snapshots, questions: Sizes.
        final_loss, drift, kappa, accuracy, nats, seconds, parameters: What the run ends with, up to noise.
        settings: Further settings of the training.
        **changes: `group`, `status`, and entries of the record itself.
    """
    noise, shared = np.random.default_rng(zlib.crc32(f"{method} {seed}".encode())), np.random.default_rng(seed)
    config = {"peft": method, "model": "demo/model", "train_dataset": "train.jsonl", "test_file": "test.jsonl"}
    config |= {"test_dataset": "gsm-8k", "lr": 0.004, "rank": 16, "seed": seed}
    config |= SETTINGS.get(method, {}) | (settings or {})
    group = changes.pop("group", f"mini_{method}")
    training = {
        "status": changes.pop("status", "finished"),
        "seed": seed,
        "config": config,
        "steps": steps,
        "seconds": seconds * float(noise.normal(1, 0.02)),
        "trainable_parameters": parameters,
        "host": {"cpu": "a processor", "gpus": []},
    }
    record = {
        "schema": 1,
        "name": f"{group}-lr{config['lr']:g}-seed{seed}",
        "group": group,
        "comparison": "mini",
        "training": training,
        "metrics": _metrics(steps, final_loss, config["lr"], shared, noise),
        "drift": _drift(steps, layers, kinds, snapshots, (drift, kappa), noise),
        "results": {
            "gsm-8k": {"dataset": "gsm-8k", "kind": "merged", "accuracy": accuracy},
            "perplexity": _perplexity(nats * float(noise.normal(1, 0.01))),
            "base-perplexity": _perplexity(1.2),
        },
        "verdicts": {"gsm-8k": _verdicts(accuracy + float(noise.normal(0, 0.01)), questions, noise)},
    }
    return record | changes


def _metrics(
    steps: int, final: float, lr: float, shared: np.random.Generator, noise: np.random.Generator
) -> dict[str, list[float]]:
    """Return a falling loss; most of its noise comes from the batches, which methods of one seed share."""
    step = np.arange(1, steps + 1)
    fall = final + (5.2 - final) * np.exp(-6 * step / steps)
    loss = fall * np.exp(shared.normal(0, 0.08, steps) + noise.normal(0, 0.02, steps))
    grad = (0.5 + 2 * fall) * np.exp(noise.normal(0, 0.2, steps))
    rate = lr * 0.5 * (1 + np.cos(np.pi * step / steps))
    columns = {"step": step, "loss": loss, "grad_norm": grad, "learning_rate": rate}
    return {name: [float(f"{value:.6g}") for value in values] for name, values in columns.items()}


def _drift(
    steps: int, layers: int, kinds: int, snapshots: int, ends: tuple[float, float], noise: np.random.Generator
) -> dict[str, Any]:
    """Return a spectral analysis in which every matrix moves along a bent path."""
    matrices, (drift, kappa) = [], ends
    for layer in range(layers):
        for index, kind in enumerate(KINDS[:kinds]):
            size = float(np.exp(noise.normal(0, 0.2))) * (1 + 0.15 * layer + 0.1 * index)
            rows = []
            for step in np.linspace(0, steps, snapshots).round().astype(int):
                part = math.sqrt(step / steps)
                row = {"step": int(step), "dSigma": drift * size * part**2, "dD": 0.4 * drift * size * part}
                row |= {
                    "condition_principal": kappa * size ** (0.5 * part),
                    "condition_merged": 900.0 * (1 + 0.5 * drift * size * part),
                }
                row |= {"orthonormality_U": 1e-6 + 0.1 * drift * part, "orthonormality_V": 1e-6 + 0.2 * drift * part}
                rows.append(row)
            name = f"model.layers.{layer}.self_attn.{kind}"
            matrices.append({"name": name, "shape": [8, 8], "layer": layer, "steps": rows})
    return {"schema": 1, "matrices": matrices, "mean": []}


def _verdicts(accuracy: float, questions: int, noise: np.random.Generator) -> dict[str, str]:
    """Return verdicts on questions that are equally hard for every run: the first ones are the easy ones."""
    hardness = np.linspace(0, 1, questions)
    right = hardness + noise.normal(0, 0.05, questions) < accuracy
    ids = hashlib.sha256(f"{questions} questions".encode()).hexdigest()
    return {"questions": ids, "correct": "".join("01"[int(one)] for one in right)}


def _perplexity(nats: float) -> dict[str, Any]:
    how = {"text": {"sha256": "0" * 64}, "windows": {"context": 256}, "start_token": True, "precision": "fp32"}
    return {"dataset": "perplexity", "perplexity": math.exp(min(nats, 700)), "nll_per_token": nats, **how}
