"""What must hold for every SORSA adapter, whatever the layer and type: start, disable, merge, reload, wrong base."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from torch import Tensor

from .conftest import Net, adapt, tolerance, train_a_little


def same_state(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    """Whether two modules hold bit-identical tensors under the same names."""
    a, b = a.state_dict(), b.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("decomposition", ["exact", "randomized"])
@pytest.mark.parametrize("alpha", [None, 12.0])
def test_step_0_is_the_base_model(base: Net, x: Tensor, dtype: torch.dtype, decomposition: str, alpha: float) -> None:
    expected = base(x)
    output = adapt(base, decomposition=decomposition, alpha=alpha)(x)
    if dtype is torch.float32:
        assert ((output - expected).abs().max() / expected.abs().max()).item() < 1e-5
    torch.testing.assert_close(output, expected, **tolerance(dtype))


def test_training_changes_the_output_and_only_the_adapter_gets_gradients(base: Net, x: Tensor) -> None:
    model = adapt(base)
    model(x).float().square().mean().backward()
    with_gradient = {name for name, p in model.named_parameters() if p.grad is not None}
    factors = {f"base_model.model.{m}.sorsa_{f}.default" for m in ("first", "last") for f in ("U", "S", "Vt")}
    assert with_gradient == factors == {name for name, p in model.named_parameters() if p.requires_grad}
    train_a_little(model, x)
    assert (model(x) - base(x)).abs().max() > 1e-2


def test_disabled_adapter_is_the_base_bit_for_bit(base: Net, x: Tensor) -> None:
    model = adapt(base)
    train_a_little(model, x)
    with model.disable_adapter():
        assert torch.equal(model(x), base(x))
    assert not torch.equal(model(x), base(x))


def test_unload_returns_the_untouched_base(base: Net, x: Tensor) -> None:
    model = adapt(base)
    train_a_little(model, x)
    unloaded = model.unload()
    assert same_state(unloaded, base)
    assert torch.equal(unloaded(x), base(x))


@pytest.mark.parametrize("safe_merge", [False, True])
@pytest.mark.parametrize("alpha", [None, 12.0])
def test_merged_equals_unmerged(
    base: Net, x: Tensor, dtype: torch.dtype, safe_merge: bool, alpha: float | None
) -> None:
    model = adapt(base, alpha=alpha)
    train_a_little(model, x)
    expected = model(x)
    merged = model.merge_and_unload(safe_merge=safe_merge)
    assert type(merged) is Net and merged.first.weight.dtype is dtype
    torch.testing.assert_close(merged(x), expected, **tolerance(dtype))


def test_unmerging_restores_the_base_bit_for_bit(base: Net, x: Tensor, dtype: torch.dtype) -> None:
    model = adapt(base)
    train_a_little(model, x)
    expected = model(x)
    model.merge_adapter()
    torch.testing.assert_close(model(x), expected, **tolerance(dtype))
    model.unmerge_adapter()
    assert torch.equal(model(x), expected)
    assert torch.equal(model.base_model.model.first.base_layer.weight, base.first.weight)


def test_disabling_while_merged_gives_the_base(base: Net, x: Tensor) -> None:
    model = adapt(base)
    train_a_little(model, x)
    model.merge_adapter()
    with model.disable_adapter():
        assert torch.equal(model(x), base(x))


def test_merging_at_step_0_changes_no_bit(base: Net) -> None:
    assert same_state(adapt(base).merge_and_unload(), base)


def test_safe_merge_refuses_a_broken_adapter(base: Net) -> None:
    model = adapt(base)
    model.base_model.model.last.sorsa_S["default"].data[0] = float("nan")
    with pytest.raises(ValueError, match="NaNs detected in the merged weights"):
        model.merge_and_unload(safe_merge=True)


LOAD_IN_NEW_PROCESS = """
import sys, torch
import sorsa
from peft import PeftModel
import sorsa.adapters.layer
def no_svd(*args, **kwargs): raise AssertionError("loading ran an SVD")
sorsa.adapters.layer.decompose = no_svd
sys.path.insert(0, sys.argv[1])
from adapters.conftest import Net
folder = sys.argv[2]
case = torch.load(folder + "/case.pt", weights_only=True)
base = Net(case["bias"]).to(case["x"].dtype).eval()
base.load_state_dict(case["base"])
model = PeftModel.from_pretrained(base, folder + "/adapter", low_cpu_mem_usage=case["low"])
torch.testing.assert_close(model(case["x"]), case["expected"], rtol=0, atol=0)
print("same")
"""


@pytest.mark.parametrize("low_cpu_mem_usage", [False, True])
def test_saved_and_loaded_in_a_new_process_without_svd(
    base: Net, x: Tensor, bias: bool, tmp_path: Path, low_cpu_mem_usage: bool
) -> None:
    model = adapt(base)
    train_a_little(model, x)
    model.save_pretrained(tmp_path / "adapter")
    case = {"base": base.state_dict(), "bias": bias, "x": x, "expected": model(x).detach(), "low": low_cpu_mem_usage}
    torch.save(case, tmp_path / "case.pt")
    command = [sys.executable, "-c", LOAD_IN_NEW_PROCESS, str(Path(__file__).parents[1]), str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.stdout.strip() == "same", result.stderr


def test_a_wrong_base_is_refused(base: Net, x: Tensor, tmp_path: Path) -> None:
    model = adapt(base)
    model.save_pretrained(tmp_path)
    wrong = copy.deepcopy(base)
    wrong.last.weight.data += 0.02 * torch.randn_like(wrong.last.weight)
    with pytest.raises(ValueError, match=r"cut from other base weights .*1 of 2 adapted matrices differ, .* last\."):
        PeftModel.from_pretrained(wrong, tmp_path)


@pytest.mark.parametrize("other", [torch.float32, torch.bfloat16, torch.float16])
def test_the_same_base_in_another_type_is_accepted(base: Net, x: Tensor, tmp_path: Path, other: torch.dtype) -> None:
    model = adapt(base)
    train_a_little(model, x)
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(copy.deepcopy(base).to(other), tmp_path)
    torch.testing.assert_close(loaded(x.to(other)).float(), model(x).float(), **tolerance(torch.bfloat16))


def test_a_saved_config_without_its_tensors_is_an_error_not_another_function(
    base: Net, x: Tensor, tmp_path: Path
) -> None:
    from peft import get_peft_model

    from sorsa import SorsaConfig

    adapt(base).save_pretrained(tmp_path)
    model = get_peft_model(copy.deepcopy(base), SorsaConfig.from_pretrained(tmp_path))
    with pytest.raises(RuntimeError, match="adapter 'default' has no factors"):
        model(x)
    with pytest.raises(ValueError, match="no factors to merge"):
        model.merge_adapter()


def test_one_config_serves_two_models(base: Net, x: Tensor, dtype: torch.dtype) -> None:
    from peft import get_peft_model

    from sorsa import SorsaConfig

    config = SorsaConfig(r=4, target_modules=["first"])
    for _ in range(2):
        model = get_peft_model(copy.deepcopy(base), config)
        torch.testing.assert_close(model(x), base(x), **tolerance(dtype))
