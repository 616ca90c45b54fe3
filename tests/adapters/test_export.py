"""An adapter as a plain LoRA: same function, loaded by stock PEFT in a process without `sorsa`."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from sorsa import export_lora
from sorsa.errors import UsageError

from .conftest import OSORA, SORSA, Net, Tuner, tolerance, train_a_little

STOCK_PEFT = """
import sys, torch
from pathlib import Path
sys.modules["sorsa"] = None                       # any import of it would fail
from peft import PeftModel
class Net(torch.nn.Module):
    def __init__(self, bias):
        super().__init__()
        self.first, self.middle, self.last = (torch.nn.Linear(*s, bias=bias) for s in ((24, 40), (40, 32), (32, 16)))
    def forward(self, x):
        return self.last(torch.tanh(self.middle(torch.tanh(self.first(x)))))
for folder in Path(sys.argv[1]).iterdir():
    case = torch.load(folder / "case.pt", weights_only=True)
    base = Net(case["bias"]).to(case["x"].dtype).eval()
    base.load_state_dict(case["base"])
    model = PeftModel.from_pretrained(base, folder / "lora")
    assert model.peft_config["default"].peft_type.value == "LORA"
    torch.save(model(case["x"]).detach(), folder / "output.pt")
"""


def test_stock_peft_computes_the_same(tmp_path: Path) -> None:
    """Both methods, bias or not, both types, with and without alpha: one process for all of them."""
    cases = list(itertools.product((SORSA, OSORA), (True, False), (torch.float32, torch.bfloat16), (None, 12.0)))
    models = []
    for number, (tuner, bias, dtype, alpha) in enumerate(cases):
        torch.manual_seed(0)
        base, x = Net(bias).to(dtype).eval(), torch.randn(5, 24).to(dtype)
        model = tuner.adapt(base, alpha=alpha, rank_pattern={"last": 3}, modules_to_save=["middle"])
        train_a_little(model, x)
        folder = tmp_path / str(number)
        model.save_pretrained(folder / "adapter")
        times = 2 if tuner is SORSA else 1
        assert export_lora(folder / "adapter", folder / "lora") == 4 * times
        config = json.loads((folder / "lora" / "adapter_config.json").read_text())
        assert (config["r"], config["rank_pattern"]) == (4 * times, {"last": 3 * times})
        torch.save({"base": base.state_dict(), "bias": bias, "x": x}, folder / "case.pt")
        # alpha / r = 3: three times the principal part is taken from W0 and added again, with three times the rounding
        models.append((base, x, model, {"rtol": tolerance(dtype)["rtol"], "atol": 3 * tolerance(dtype)["atol"]}))
    result = subprocess.run([sys.executable, "-c", STOCK_PEFT, str(tmp_path)], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    for number, (base, x, model, rounding) in enumerate(models):
        output = torch.load(tmp_path / str(number) / "output.pt", weights_only=True)
        torch.testing.assert_close(output, model(x), **rounding, msg=str(cases[number]))
        assert (output - base(x)).abs().max() > 0.1


def test_refusals(tuner: Tuner, base: Net, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nowhere is no saved adapter: adapter_config.json is missing"):
        export_lora(tmp_path / "nowhere", tmp_path / "lora")
    source = tmp_path / "adapter"
    tuner.adapt(base).save_pretrained(source)
    with pytest.raises(UsageError, match=r"adapter exists: name a new folder"):
        export_lora(source, source)
    weights = source / "adapter_model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:200])
    with pytest.raises(UsageError, match="adapter is damaged"):
        export_lora(source, tmp_path / "lora")
    weights.write_bytes(content)
    config = source / "adapter_config.json"
    config.write_text(config.read_text().replace(f'"{tuner.prefix[:-1].upper()}"', '"VERA"'))
    with pytest.raises(UsageError, match="holds a VERA adapter; only SORSA and OSORA adapters are exported"):
        export_lora(source, tmp_path / "lora")
    assert not (tmp_path / "lora").exists()
