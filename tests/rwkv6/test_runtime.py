"""Against the reference runtime, the `rwkv` package (a development extra): it loads what we write, logits agree."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sorsa.rwkv6.convert import convert
from sorsa.rwkv6.modeling import Rwkv6ForCausalLM

os.environ.setdefault("RWKV_CUDA_ON", "0")  # else it compiles a kernel when it is imported
os.environ.setdefault("RWKV_JIT_ON", "0")
rwkv = pytest.importorskip("rwkv.model", reason="the reference runtime: pip install rwkv==0.8.32")


def runtime(model: Rwkv6ForCausalLM, folder: Path, strategy: str = "cpu fp32") -> Any:
    """The model written as a `.pth` file and loaded by the runtime."""
    model.save_pretrained(folder / "hf")
    convert(folder / "hf", folder / "model.pth")
    return rwkv.RWKV(model=str(folder / "model.pth"), strategy=strategy)


def ids(length: int) -> Tensor:
    return torch.randint(50, (1, length), generator=torch.Generator().manual_seed(3))


@torch.no_grad()
@pytest.mark.parametrize(
    "sizes",
    [{"num_hidden_layers": 1}, {"head_size": 16}, {"hidden_size": 128, "head_size": 64, "num_hidden_layers": 3}],
)
def test_logits_and_state_are_the_runtimes(
    make_model: Callable[..., Rwkv6ForCausalLM], sizes: dict[str, int], tmp_path: Path
) -> None:
    model, text = make_model(**sizes), ids(200)
    reference = runtime(model, tmp_path)
    expected, state = reference.forward(text[0].tolist(), None, full_output=True)
    output = model(text)
    torch.testing.assert_close(output.logits[0], expected, rtol=0, atol=1e-4)
    for i, layer in enumerate(output.state.layers):
        torch.testing.assert_close(layer.kv[0], state[3 * i + 1], rtol=1e-4, atol=1e-4)
    carried = theirs = None
    for token in text[0, :20].tolist():
        step = model(torch.tensor([[token]]), state=carried)
        expected, theirs = reference.forward([token], theirs)
        carried = step.state
        torch.testing.assert_close(step.logits[0, 0], expected, rtol=0, atol=1e-4)


@torch.no_grad()
def test_bf16_is_as_near_to_fp32_as_the_runtimes_bf16(
    make_model: Callable[..., Rwkv6ForCausalLM], tmp_path: Path
) -> None:
    model, text = make_model(hidden_size=128, head_size=64), ids(100)
    exact = model(text).logits[0]
    theirs, _ = runtime(model.bfloat16(), tmp_path, "cpu bf16").forward(text[0].tolist(), None, full_output=True)
    ours = model(text).logits[0].float()
    assert (ours - exact).std() < 1.3 * (theirs.float() - exact).std()
