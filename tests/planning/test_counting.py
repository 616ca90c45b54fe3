"""What a run trains, counted on the meta device: against the paper's TPara, closed forms, and what is really saved."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel

from sorsa.adapters.fingerprint import PROBE_SIZE
from sorsa.config_files import load_config
from sorsa.models import load_base_model
from sorsa.paper import scores
from sorsa.planning.architectures import build_skeleton
from sorsa.planning.counting import Counts, adapt_skeleton
from sorsa.training.adapter import adapt

MATRICES = {  # of the tiny model's two layers: (out, in)
    "q_proj": (32, 32), "k_proj": (16, 32), "v_proj": (16, 32), "o_proj": (32, 32),
    "gate_proj": (48, 32), "up_proj": (48, 32), "down_proj": (32, 48),
}  # fmt: skip


def count(config: Any, steps: int = 781) -> Counts:
    return Counts.of(adapt_skeleton(build_skeleton(config), config, steps), config)


@pytest.mark.parametrize("row", scores(), ids=lambda row: row.run)
def test_table_1_to_the_million(row: Any) -> None:
    counts = count(load_config(row.run, "plan", {}))
    assert round(counts.trainable / 1e6) == row.million
    assert sum(counts.by_kind.values()) == counts.trainable
    if row.method == "full":
        assert counts.trainable == counts.total
        assert counts.merged_bytes == 4 * counts.total


@pytest.mark.parametrize(
    ("method", "per_matrix"),
    [
        ("lora", lambda m, n, r: r * (m + n)),
        ("pissa", lambda m, n, r: r * (m + n)),
        ("olora", lambda m, n, r: r * (m + n)),
        ("dora", lambda m, n, r: r * (m + n) + m),
        ("sorsa", lambda m, n, r: r * (m + n) + r),
        ("adalora", lambda m, n, r: r * (m + n) + r),
        ("osora", lambda m, n, r: r + m),
        ("vera", lambda m, n, r: r + m),
        ("partial", lambda m, n, r: m * n),
    ],
)
def test_each_method_by_its_formula(
    tiny_config: Callable[..., Any], method: str, per_matrix: Callable[[int, int, int], int]
) -> None:
    config = tiny_config(peft=method, rank=4)
    expected = {kind: 2 * per_matrix(m, n, 4) for kind, (m, n) in MATRICES.items()}
    assert count(config).by_kind == expected


@pytest.mark.parametrize("method", ["lora", "pissa", "olora", "dora", "sorsa", "adalora", "osora", "vera"])
def test_the_counts_are_those_of_the_real_model(tiny_config: Callable[..., Any], tmp_path: Path, method: str) -> None:
    from safetensors.torch import load_file

    config = tiny_config(peft=method, rank=4)
    model = adapt(load_base_model(config, torch.float32), config, 781)
    planned, real = count(config), Counts.of(model, config)
    assert planned == real
    assert isinstance(model, PeftModel)
    model.save_pretrained(str(tmp_path / "adapter"), save_embedding_layers=False)
    saved = load_file(tmp_path / "adapter" / "adapter_model.safetensors").values()
    ours = 2 if method in ("pissa", "olora") else 1  # they are written as a LoRA of twice the rank
    assert planned.saved_bytes == ours * sum(tensor.numel() * tensor.element_size() for tensor in saved)


def test_memory_of_frozen_tensors(tiny_config: Callable[..., Any]) -> None:
    sorsa, vera = count(tiny_config(peft="sorsa", rank=4)), count(tiny_config(peft="vera", rank=4))
    probes = 4 * 2 * sum(min(m * n, PROBE_SIZE) for m, n in MATRICES.values())
    assert sorsa.frozen_adapter_bytes == sorsa.adapter_bytes + probes  # initial factors as large as the trained ones
    assert vera.frozen_adapter_bytes == 4 * 4 * (48 + 48)  # one pair for all: (r, largest in), (largest out, r)
    assert sorsa.base_bytes == vera.base_bytes
