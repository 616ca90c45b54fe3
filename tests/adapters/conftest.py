"""Small models for the adapter tests, and the two tuners: what holds for one must hold for the other.

Every test runs on linear layers with and without bias, in FP32 and BF16.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator

import peft
import pytest
import torch
from peft import PeftConfig, PeftModel, get_peft_model
from torch import Tensor, nn

from sorsa import OsoraConfig, OsoraModel, SorsaConfig, SorsaModel

TARGETS = ["first", "last"]


class Net(nn.Module):
    """Three linear layers, the middle one never adapted."""

    def __init__(self, bias: bool = True) -> None:
        super().__init__()
        self.first = nn.Linear(24, 40, bias=bias)
        self.middle = nn.Linear(40, 32, bias=bias)
        self.last = nn.Linear(32, 16, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.tanh(self.middle(torch.tanh(self.first(x)))))


def tolerance(dtype: torch.dtype) -> dict[str, float]:
    """Rounding allowed between two orders of the same computation."""
    return {"rtol": 1e-5, "atol": 1e-6} if dtype is torch.float32 else {"rtol": 3e-2, "atol": 2e-2}


def train_a_little(model: PeftModel, x: Tensor, steps: int = 3) -> None:
    """Move the active adapter visibly away from its start: every trained number by about 0.05 per step."""
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.05)
    for _ in range(steps):
        model(x).float().square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()


@dataclasses.dataclass(frozen=True)
class Tuner:
    """One of our two methods: its classes, the names of its trained tensors, and the one that holds singular values."""

    config_class: type[PeftConfig]
    model_class: type
    prefix: str
    trained: tuple[str, ...]
    values: str

    def config(self, **options: object) -> PeftConfig:
        """A configuration of rank 4 for the first and last layer, decomposed exactly unless told otherwise."""
        return self.config_class(**{"r": 4, "target_modules": list(TARGETS), "decomposition": "exact", **options})

    def adapt(self, base: nn.Module, **options: object) -> PeftModel:
        """Wrap a copy of the base with an adapter."""
        return get_peft_model(copy.deepcopy(base), self.config(**options))

    def trained_size(self, m: int, n: int, r: int) -> int:
        """Trainable parameters of one matrix (m, n)."""
        return r * (m + n + 1) if self is SORSA else r + m


SORSA = Tuner(SorsaConfig, SorsaModel, "sorsa_", ("U", "S", "Vt"), "sorsa_S")
OSORA = Tuner(OsoraConfig, OsoraModel, "osora_", ("s", "o"), "osora_s")


@pytest.fixture(params=[SORSA, OSORA], ids=["sorsa", "osora"])
def tuner(request: pytest.FixtureRequest) -> Tuner:
    return request.param


@pytest.fixture(params=[True, False], ids=["bias", "no-bias"])
def bias(request: pytest.FixtureRequest) -> bool:
    return request.param


@pytest.fixture(params=[torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    return request.param


@pytest.fixture
def base(bias: bool, dtype: torch.dtype) -> Iterator[Net]:
    torch.manual_seed(0)
    yield Net(bias).to(dtype).eval()


@pytest.fixture
def x(dtype: torch.dtype) -> Tensor:
    return torch.randn(5, 24, generator=torch.Generator().manual_seed(1)).to(dtype)


@pytest.fixture(autouse=True)
def _peft_is_registered() -> None:
    assert {"SORSA", "OSORA"} <= peft.PeftType.__members__.keys()
