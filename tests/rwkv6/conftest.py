"""A tiny RWKV6 whose random parameters all matter, and RWKV6 written once more to test it against: from the formulas,
one token at a time, in FP64."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sorsa.rwkv6.configuration import Rwkv6Config
from sorsa.rwkv6.modeling import Rwkv6ForCausalLM
from sorsa.rwkv6.tokenizer import VOCABULARY_FILE, Rwkv6Tokenizer


@pytest.fixture
def make_model() -> Callable[..., Rwkv6ForCausalLM]:
    """The function `(seed=0, **sizes)` that returns a 2-layer model (hidden 32, 4 heads, 50 tokens) in eval mode.

    Its raw parameters are spread widely: decays from exp(-0.02) to exp(-7) per token, shifts outside of 0 .. 1.
    """
    return _make_model


def _make_model(seed: int = 0, **sizes: Any) -> Rwkv6ForCausalLM:
    torch.manual_seed(seed)
    defaults = {"vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 2, "head_size": 8, "mix_rank": 3}
    model = Rwkv6ForCausalLM(Rwkv6Config(**(defaults | {"decay_rank": 5} | sizes)))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("time_decay"):
                parameter.uniform_(-4, 2)
            elif "time_" in name:
                parameter.normal_(std=0.5)
            elif ".ln" in name or "pre_ln" in name:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


@pytest.fixture(scope="session")
def rwkv6_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with such a model and a World vocabulary of the 256 bytes and a few longer tokens."""
    directory = tmp_path_factory.mktemp("rwkv6")
    tokens = [bytes([byte]) for byte in range(256)] + [b" the", b"answer", b"\n\n", b"12"]
    lines = "".join(f"{index} {token!r} {len(token)}\n" for index, token in enumerate(tokens, start=1))
    (directory / VOCABULARY_FILE).write_text(lines, encoding="utf-8")
    Rwkv6Tokenizer(str(directory / VOCABULARY_FILE)).save_pretrained(directory)
    _make_model(vocab_size=264).save_pretrained(directory)
    return directory


@pytest.fixture
def reference_logits() -> Callable[[dict[str, Tensor], list[int]], Tensor]:
    """The function `(state dictionary with Hugging Face names, token ids) -> logits (T, V) in FP64`."""
    return _reference_logits


def _layer_norm(x: Tensor, p: dict[str, Tensor], name: str, eps: float = 1e-5) -> Tensor:
    centred = x - x.mean()
    return centred / torch.sqrt((centred**2).mean() + eps) * p[f"{name}.weight"] + p[f"{name}.bias"]


def _time_mix(x: Tensor, last: Tensor, S: Tensor, p: dict[str, Tensor], a: str) -> Tensor:
    """One token x (C,) through time mixing; changes the state S (H, N, N) in place."""
    H, N = p[a + "time_faaaa"].shape
    mixed = x + (last - x) * p[a + "time_maa_x"].flatten()
    inner = torch.tanh(p[a + "time_maa_w1"].T @ mixed).reshape(5, -1)  # in the order w, k, v, r, g
    point = {}
    for i, name in enumerate("wkvrg"):
        m = p[f"{a}time_maa_{name}"].flatten() + p[a + "time_maa_w2"][i].T @ inner[i]
        point[name] = x + (last - x) * m
    d = p[a + "time_decay"].flatten() + p[a + "time_decay_w2"].T @ torch.tanh(p[a + "time_decay_w1"].T @ point["w"])
    w = torch.exp(-torch.exp(d)).reshape(H, N)
    r = (p[a + "receptance.weight"] @ point["r"]).reshape(H, N)
    k = (p[a + "key.weight"] @ point["k"]).reshape(H, N)
    v = (p[a + "value.weight"] @ point["v"]).reshape(H, N)
    g = p[a + "gate.weight"] @ point["g"]
    y = []
    for h in range(H):
        kv = torch.outer(k[h], v[h])
        y_h = r[h] @ (S[h] + torch.diag(p[a + "time_faaaa"][h]) @ kv)
        S[h] = torch.diag(w[h]) @ S[h] + kv
        centred = y_h - y_h.mean()
        y.append(centred / torch.sqrt((centred**2).mean() + 64e-5))
    y = torch.cat(y) * p[a + "ln_x.weight"] + p[a + "ln_x.bias"]
    return p[a + "output.weight"] @ (y * g * torch.sigmoid(g))


def _channel_mix(x: Tensor, last: Tensor, p: dict[str, Tensor], f: str) -> Tensor:
    xk = x + (last - x) * p[f + "time_maa_k"].flatten()
    xr = x + (last - x) * p[f + "time_maa_r"].flatten()
    k = torch.clamp(p[f + "key.weight"] @ xk, min=0) ** 2
    return torch.sigmoid(p[f + "receptance.weight"] @ xr) * (p[f + "value.weight"] @ k)


def _reference_logits(weights: dict[str, Tensor], tokens: list[int]) -> Tensor:
    """Compute the logits (T, V) of a text in FP64.

    Args:
        weights: A state dictionary with the Hugging Face names.
        tokens: T token ids.
    """
    p = {name.removeprefix("rwkv."): value.double() for name, value in weights.items()}
    layers = 1 + max(int(name.split(".")[1]) for name in p if name.startswith("blocks."))
    C = p["embeddings.weight"].shape[1]
    H, N = p["blocks.0.attention.time_faaaa"].shape
    S = torch.zeros(layers, H, N, N, dtype=torch.float64)
    last_att, last_ffn = torch.zeros(2, layers, C, dtype=torch.float64)
    logits = []
    for token in tokens:
        x = _layer_norm(p["embeddings.weight"][token], p, "blocks.0.pre_ln")
        for i in range(layers):
            b = f"blocks.{i}."
            z = _layer_norm(x, p, b + "ln1")
            x = x + _time_mix(z, last_att[i].clone(), S[i], p, b + "attention.")
            last_att[i] = z
            z = _layer_norm(x, p, b + "ln2")
            x = x + _channel_mix(z, last_ffn[i].clone(), p, b + "feed_forward.")
            last_ffn[i] = z
        logits.append(p["head.weight"] @ _layer_norm(x, p, "ln_out"))
    return torch.stack(logits)
