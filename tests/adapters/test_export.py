"""A SORSA adapter as a plain LoRA of rank 2r: same function, loaded by stock PEFT in a process without `sorsa`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from sorsa import export_lora
from sorsa.errors import UsageError

from .conftest import Net, adapt, tolerance, train_a_little

STOCK_PEFT = """
import sys, torch
sys.modules["sorsa"] = None                       # any import of it would fail
from peft import PeftModel
folder = sys.argv[1]
case = torch.load(folder + "/case.pt", weights_only=True)
class Net(torch.nn.Module):
    def __init__(self, bias):
        super().__init__()
        self.first, self.middle, self.last = (torch.nn.Linear(*s, bias=bias) for s in ((24, 40), (40, 32), (32, 16)))
    def forward(self, x):
        return self.last(torch.tanh(self.middle(torch.tanh(self.first(x)))))
base = Net(case["bias"]).to(case["x"].dtype).eval()
base.load_state_dict(case["base"])
model = PeftModel.from_pretrained(base, folder + "/lora")
print(model.peft_config["default"].peft_type.value)
torch.save(model(case["x"]).detach(), folder + "/output.pt")
"""


@pytest.mark.parametrize("alpha", [None, 12.0])
def test_stock_peft_computes_the_same(
    base: Net, x: Tensor, bias: bool, dtype: torch.dtype, alpha: float | None, tmp_path: Path
) -> None:
    model = adapt(base, alpha=alpha, rank_pattern={"last": 3}, modules_to_save=["middle"])
    train_a_little(model, x)
    model.save_pretrained(tmp_path / "adapter")
    export_lora(tmp_path / "adapter", tmp_path / "lora")
    torch.save({"base": base.state_dict(), "bias": bias, "x": x}, tmp_path / "case.pt")
    result = subprocess.run([sys.executable, "-c", STOCK_PEFT, str(tmp_path)], capture_output=True, text=True)
    assert result.stdout.strip() == "LORA", result.stderr
    output = torch.load(tmp_path / "output.pt", weights_only=True)
    torch.testing.assert_close(output, model(x), **tolerance(dtype))
    assert (output - base(x)).abs().max() > 1e-2
    config = json.loads((tmp_path / "lora" / "adapter_config.json").read_text())
    assert (config["r"], config["rank_pattern"]) == (8, {"last": 6})


def test_refusals(base: Net, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nowhere is no saved adapter: adapter_config.json is missing"):
        export_lora(tmp_path / "nowhere", tmp_path / "lora")
    source = tmp_path / "adapter"
    adapt(base).save_pretrained(source)
    with pytest.raises(UsageError, match=r"adapter exists: name a new folder"):
        export_lora(source, source)
    weights = source / "adapter_model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:200])
    with pytest.raises(UsageError, match="adapter is damaged"):
        export_lora(source, tmp_path / "lora")
    weights.write_bytes(content)
    config = source / "adapter_config.json"
    config.write_text(config.read_text().replace('"SORSA"', '"LORA"'))
    with pytest.raises(UsageError, match="holds a LORA adapter; only SORSA adapters are exported"):
        export_lora(source, tmp_path / "lora")
    assert not (tmp_path / "lora").exists()
