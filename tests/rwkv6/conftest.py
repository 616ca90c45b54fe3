"""A tiny RWKV6 whose random parameters all matter, for the tests of this folder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from sorsa.rwkv6.configuration import Rwkv6Config
from sorsa.rwkv6.modeling import Rwkv6ForCausalLM


@pytest.fixture
def make_model() -> Callable[..., Rwkv6ForCausalLM]:
    """A function `(seed=0, **sizes)` that returns a 2-layer model (hidden 32, 4 heads, 50 tokens) in eval mode.

    Its raw parameters are spread widely: decays from exp(-0.02) to exp(-7) per token, shifts outside of 0 .. 1.
    """

    def make(seed: int = 0, **sizes: Any) -> Rwkv6ForCausalLM:
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

    return make
