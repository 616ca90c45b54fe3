"""What must hold for every adapter of either method, whatever the layer and type.

Start, gradients, disabling, merging, reloading, a wrong base.
"""

from __future__ import annotations

import copy
import itertools
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from peft import PeftModel, get_peft_model
from torch import Tensor

from sorsa.adapters.decomposition import Factors

from .conftest import OSORA, SORSA, Net, Tuner, tolerance, train_a_little


def same_state(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    """Whether two modules hold bit-identical tensors under the same names."""
    a, b = a.state_dict(), b.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("decomposition", ["exact", "randomized"])
@pytest.mark.parametrize("alpha", [None, 12.0])
def test_step_0_is_the_base_model(
    tuner: Tuner, base: Net, x: Tensor, dtype: torch.dtype, decomposition: str, alpha: float
) -> None:
    expected = base(x)
    output = tuner.adapt(base, decomposition=decomposition, alpha=alpha)(x)
    if dtype is torch.float32:
        assert ((output - expected).abs().max() / expected.abs().max()).item() < 1e-5
    torch.testing.assert_close(output, expected, **tolerance(dtype))


def test_training_changes_the_output_and_only_the_adapter_gets_gradients(tuner: Tuner, base: Net, x: Tensor) -> None:
    model = tuner.adapt(base)
    model(x).float().square().mean().backward()
    with_gradient = {name for name, p in model.named_parameters() if p.grad is not None}
    factors = {f"base_model.model.{m}.{tuner.prefix}{f}.default" for m in ("first", "last") for f in tuner.trained}
    assert with_gradient == factors == {name for name, p in model.named_parameters() if p.requires_grad}
    train_a_little(model, x)
    assert (model(x) - base(x)).abs().max() > 1e-2


def test_disabled_adapter_is_the_base_bit_for_bit(tuner: Tuner, base: Net, x: Tensor) -> None:
    model = tuner.adapt(base)
    train_a_little(model, x)
    with model.disable_adapter():
        assert torch.equal(model(x), base(x))
    assert not torch.equal(model(x), base(x))


def test_unload_returns_the_untouched_base(tuner: Tuner, base: Net, x: Tensor) -> None:
    model = tuner.adapt(base)
    train_a_little(model, x)
    unloaded = model.unload()
    assert same_state(unloaded, base)
    assert torch.equal(unloaded(x), base(x))


@pytest.mark.parametrize("safe_merge", [False, True])
@pytest.mark.parametrize("alpha", [None, 12.0])
def test_merged_equals_unmerged(
    tuner: Tuner, base: Net, x: Tensor, dtype: torch.dtype, safe_merge: bool, alpha: float | None
) -> None:
    model = tuner.adapt(base, alpha=alpha)
    train_a_little(model, x)
    expected = model(x)
    merged = model.merge_and_unload(safe_merge=safe_merge)
    assert type(merged) is Net and merged.first.weight.dtype is dtype
    torch.testing.assert_close(merged(x), expected, **tolerance(dtype))


def test_unmerging_restores_the_base_bit_for_bit(tuner: Tuner, base: Net, x: Tensor, dtype: torch.dtype) -> None:
    model = tuner.adapt(base)
    train_a_little(model, x)
    expected = model(x)
    model.merge_adapter()
    torch.testing.assert_close(model(x), expected, **tolerance(dtype))
    model.unmerge_adapter()
    assert torch.equal(model(x), expected)
    assert torch.equal(model.base_model.model.first.base_layer.weight, base.first.weight)


def test_disabling_while_merged_gives_the_base(tuner: Tuner, base: Net, x: Tensor) -> None:
    model = tuner.adapt(base)
    train_a_little(model, x)
    model.merge_adapter()
    with model.disable_adapter():
        assert torch.equal(model(x), base(x))


def test_merging_at_step_0_changes_no_bit(tuner: Tuner, base: Net) -> None:
    assert same_state(tuner.adapt(base).merge_and_unload(), base)


def test_safe_merge_refuses_a_broken_adapter(tuner: Tuner, base: Net) -> None:
    model = tuner.adapt(base)
    getattr(model.base_model.model.last, tuner.values)["default"].data[0] = float("nan")
    with pytest.raises(ValueError, match="NaNs detected in the merged weights"):
        model.merge_and_unload(safe_merge=True)


LOAD_IN_NEW_PROCESS = """
import sys, torch
import sorsa
from pathlib import Path
from peft import PeftModel
import sorsa.adapters.residual_layer
def no_svd(*args, **kwargs): raise AssertionError("loading ran an SVD")
sorsa.adapters.residual_layer.decompose = no_svd
sys.path.insert(0, sys.argv[1])
from adapters.conftest import Net
for folder in Path(sys.argv[2]).iterdir():
    case = torch.load(folder / "case.pt", weights_only=True)
    for low_cpu_mem_usage in (False, True):
        base = Net(case["bias"]).to(case["x"].dtype).eval()
        base.load_state_dict(case["base"])
        model = PeftModel.from_pretrained(base, folder, low_cpu_mem_usage=low_cpu_mem_usage)
        torch.testing.assert_close(model(case["x"]), case["expected"], rtol=0, atol=0)
        print(folder.name, low_cpu_mem_usage)
"""


def test_saved_and_loaded_in_a_new_process_without_svd(tmp_path: Path) -> None:
    """Both methods, with and without bias, in both types: one process for all, for starting one takes seconds."""
    names = []
    for tuner, bias, dtype in itertools.product((SORSA, OSORA), (True, False), (torch.float32, torch.bfloat16)):
        torch.manual_seed(0)
        base, x = Net(bias).to(dtype).eval(), torch.randn(5, 24).to(dtype)
        model = tuner.adapt(base)
        train_a_little(model, x)
        names.append(f"{tuner.prefix}{bias}_{dtype}")
        model.save_pretrained(tmp_path / names[-1])
        case = {"base": base.state_dict(), "bias": bias, "x": x, "expected": model(x).detach()}
        torch.save(case, tmp_path / names[-1] / "case.pt")
    command = [sys.executable, "-c", LOAD_IN_NEW_PROCESS, str(Path(__file__).parents[1]), str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True)
    expected = sorted(f"{name} {low}" for name in names for low in (False, True))
    assert sorted(result.stdout.splitlines()) == expected, result.stderr


def test_a_wrong_base_is_refused(tuner: Tuner, base: Net, x: Tensor, tmp_path: Path) -> None:
    model = tuner.adapt(base)
    model.save_pretrained(tmp_path)
    wrong = copy.deepcopy(base)
    wrong.last.weight.data += 0.02 * torch.randn_like(wrong.last.weight)
    with pytest.raises(ValueError, match=r"cut from other base weights .*1 of 2 adapted matrices differ, .* last\."):
        PeftModel.from_pretrained(wrong, tmp_path)


@pytest.mark.parametrize("other", [torch.float32, torch.bfloat16, torch.float16])
def test_the_same_base_in_another_type_is_accepted(
    tuner: Tuner, base: Net, x: Tensor, tmp_path: Path, other: torch.dtype
) -> None:
    model = tuner.adapt(base)
    train_a_little(model, x)
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(copy.deepcopy(base).to(other), tmp_path)
    torch.testing.assert_close(loaded(x.to(other)).float(), model(x).float(), **tolerance(torch.bfloat16))


def test_a_saved_config_without_its_tensors_is_an_error_not_another_function(
    tuner: Tuner, base: Net, x: Tensor, tmp_path: Path
) -> None:
    tuner.adapt(base).save_pretrained(tmp_path)
    model = get_peft_model(copy.deepcopy(base), tuner.config_class.from_pretrained(tmp_path))
    with pytest.raises(RuntimeError, match="adapter 'default' has no factors"):
        model(x)
    with pytest.raises(ValueError, match="no factors to merge"):
        model.merge_adapter()


def test_one_config_serves_two_models(tuner: Tuner, base: Net, x: Tensor, dtype: torch.dtype) -> None:
    config = tuner.config(target_modules=["first"])
    for _ in range(2):
        model = get_peft_model(copy.deepcopy(base), config)
        torch.testing.assert_close(model(x), base(x), **tolerance(dtype))


def test_difference_is_the_principal_parts_and_exactly_nothing_at_the_start(tuner: Tuner) -> None:
    torch.manual_seed(0)
    layer = tuner.model_class.tuner_layer_cls
    initial = Factors(*(torch.randn(shape).double() for shape in ((7, 2), (2,), (2, 5))))
    start = layer.start(initial) | {f"{name}0": value for name, value in initial._asdict().items()}
    B, A = layer.difference(start, 3.0)
    assert B.shape == (7, 2 * layer.difference_rank) and (B @ A).abs().max() == 0
    moved = {name: torch.randn_like(value) if name in tuner.trained else value for name, value in start.items()}
    B, A = layer.difference(moved, 3.0)
    U, S, Vt = layer.principal(moved)
    torch.testing.assert_close(B @ A, 3.0 * ((U * S) @ Vt - (initial.U * initial.S) @ initial.Vt))
