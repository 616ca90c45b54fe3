"""PEFT's own generic expectations of a tuner: names, several adapters, deletion, patterns, types, hooks, compile."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from peft.utils import ModulesToSaveWrapper
from safetensors.torch import load_file
from torch import Tensor

from .conftest import TARGETS, Net, Tuner, tolerance, train_a_little


def test_the_tuner_is_ours_and_named(tuner: Tuner, base: Net) -> None:
    model = tuner.adapt(base)
    assert isinstance(model.base_model, tuner.model_class)
    method = tuner.prefix.rstrip("_")
    assert repr(model.base_model.model.first).startswith(f"{method}.{method.capitalize()}Linear(")
    trainable, _ = model.get_nb_trainable_parameters()
    assert trainable == tuner.trained_size(40, 24, 4) + tuner.trained_size(16, 32, 4)


def test_saved_file_holds_what_defines_the_adapter_and_no_more(tuner: Tuner, base: Net, tmp_path: Path) -> None:
    tuner.adapt(base, svd_cache=str(tmp_path / "cache")).save_pretrained(tmp_path)
    kinds = (*tuner.trained, "S0", "U0", "Vt0", "probe")
    expected = {f"base_model.model.{m}.{tuner.prefix}{kind}" for m in TARGETS for kind in kinds}
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    assert set(tensors) == expected
    assert {t.dtype for t in tensors.values()} == {torch.float32}
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    method = tuner.prefix.rstrip("_").upper()
    assert (config["peft_type"], config["init_weights"], config["svd_cache"]) == (method, False, None)


@pytest.mark.parametrize("name", ["default", "other", "first", "sorsa", "osora"])
def test_adapter_names(tuner: Tuner, base: Net, x: Tensor, tmp_path: Path, name: str) -> None:
    settings = tuner.config()
    model = get_peft_model(copy.deepcopy(base), settings, adapter_name=name)
    train_a_little(model, x)
    model.save_pretrained(tmp_path)
    folder = tmp_path if name == "default" else tmp_path / name
    loaded = PeftModel.from_pretrained(copy.deepcopy(base), folder, adapter_name="again")
    assert torch.equal(loaded(x), model(x))


def test_two_adapters_are_independent_and_add_up(tuner: Tuner, base: Net, x: Tensor, dtype: torch.dtype) -> None:
    model = tuner.adapt(base)
    train_a_little(model, x)
    one = model(x)
    model.add_adapter("b", tuner.config(r=3, target_modules=["last"], alpha=6.0))
    assert torch.equal(model(x), one)
    assert not any(p.requires_grad for n, p in model.named_parameters() if n.endswith(".b"))
    model.set_adapter("b")
    torch.testing.assert_close(model(x), base(x), **tolerance(dtype))
    train_a_little(model, x)
    two = model(x)
    model.set_adapter("default")
    assert torch.equal(model(x), one)
    model.set_adapter("b")
    assert torch.equal(model(x), two)

    model.base_model.set_adapter(["default", "b"])
    both = model(x)
    merged = copy.deepcopy(base)
    for layer in ("first", "last"):
        tuner = getattr(model.base_model.model, layer)
        for adapter in tuner.r:
            weight = getattr(merged, layer).weight
            weight.data = (weight.float() + tuner.get_delta_weight(adapter)).to(dtype)
    torch.testing.assert_close(both, merged(x), **tolerance(dtype))
    torch.testing.assert_close(model.merge_and_unload()(x), both, **tolerance(dtype))


def test_deleting_adapters(tuner: Tuner, base: Net, x: Tensor) -> None:
    model = tuner.adapt(base)
    model.add_adapter("b", tuner.config(r=3))
    model.set_adapter("b")
    model.delete_adapter("b")
    assert model.active_adapters == ["default"]
    assert not [name for name in model.state_dict() if name.endswith(".b")]
    model.delete_adapter("default")
    assert not [name for name in model.state_dict() if tuner.prefix in name]
    assert torch.equal(model.base_model.model(x), base(x))


def test_set_adapter_moves_requires_grad(tuner: Tuner, base: Net) -> None:
    model = tuner.adapt(base)
    model.add_adapter("b", tuner.config(r=3))
    model.set_adapter("b")
    assert {n.rsplit(".")[-1] for n, p in model.named_parameters() if p.requires_grad} == {"b"}


def test_rank_pattern_and_exclude_modules(tuner: Tuner, base: Net) -> None:
    model = tuner.adapt(
        base, target_modules=["first", "middle", "last"], exclude_modules=["middle"], rank_pattern={"last": 2}
    )
    ranks = {n.split(".")[2]: p.numel() for n, p in model.named_parameters() if f"{tuner.values}." in n}
    assert ranks == {"first": 4, "last": 2}


def test_modules_to_save_are_trained_saved_and_loaded(tuner: Tuner, base: Net, x: Tensor, tmp_path: Path) -> None:
    model = tuner.adapt(base, modules_to_save=["middle"])
    assert isinstance(model.base_model.model.middle, ModulesToSaveWrapper)
    train_a_little(model, x)
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(copy.deepcopy(base), tmp_path)
    assert torch.equal(loaded(x), model(x))
    with model.disable_adapter():
        assert torch.equal(model(x), base(x))


def test_lora_trained_on_the_plain_base_still_fits_after_ours(tuner: Tuner, base: Net, x: Tensor) -> None:
    """PEFT's PiSSA changes the base, so that this fails there."""
    lora = get_peft_model(copy.deepcopy(base), LoraConfig(r=2, target_modules=TARGETS, init_lora_weights=False))
    expected, weights = lora(x), get_peft_model_state_dict(lora)
    model = tuner.adapt(base)
    train_a_little(model, x)
    again = get_peft_model(model.unload(), LoraConfig(r=2, target_modules=TARGETS))
    again.load_state_dict({k.replace(".weight", ".default.weight"): v for k, v in weights.items()}, strict=False)
    assert torch.equal(again(x), expected)


@pytest.mark.parametrize("autocast_adapter_dtype", [True, False])
def test_factors_stay_fp32(tuner: Tuner, base: Net, x: Tensor, autocast_adapter_dtype: bool) -> None:
    config = tuner.config()
    model = get_peft_model(copy.deepcopy(base), config, autocast_adapter_dtype=autocast_adapter_dtype)
    assert {p.dtype for n, p in model.named_parameters() if tuner.prefix in n} == {torch.float32}
    assert model(x).dtype is x.dtype


def test_casting_the_whole_model_keeps_working(tuner: Tuner, base: Net, x: Tensor) -> None:
    model = tuner.adapt(base).to(torch.bfloat16)
    torch.testing.assert_close(model(x.bfloat16()).float(), base(x).float(), **tolerance(torch.bfloat16))


def test_autocast(tuner: Tuner, base: Net, x: Tensor, dtype: torch.dtype) -> None:
    model = tuner.adapt(base)
    with torch.autocast("cpu", torch.bfloat16):
        output, expected = model(x), base(x)
    assert output.dtype is expected.dtype is torch.bfloat16
    torch.testing.assert_close(output, expected, **tolerance(torch.bfloat16))
    torch.testing.assert_close(model(x), base(x), **tolerance(dtype))  # the working copy follows the type


def test_dropout_acts_in_training_only(tuner: Tuner, base: Net, x: Tensor, dtype: torch.dtype) -> None:
    model = tuner.adapt(base, dropout=0.5)
    torch.testing.assert_close(model.eval()(x), base(x), **tolerance(dtype))
    torch.manual_seed(0)
    assert (model.train()(x) - base(x)).abs().max() > 1e-2


def test_plain_path_agrees_with_the_fused_one(tuner: Tuner, base: Net, x: Tensor, dtype: torch.dtype) -> None:
    model = tuner.adapt(base)
    train_a_little(model, x)
    fused = model(x)
    handle = model.base_model.model.first.base_layer.register_forward_hook(lambda *_: None)
    torch.testing.assert_close(model(x), fused, **tolerance(dtype))
    handle.remove()
    assert torch.equal(model(x), fused)


def test_in_place_writes_to_factors_take_effect(tuner: Tuner, base: Net, x: Tensor) -> None:
    """Nothing trainable is cached: even `.data` writes, which no version counter sees, change the next output."""
    model = tuner.adapt(base)
    before = model(x)
    getattr(model.base_model.model.last, tuner.values)["default"].data.mul_(2)
    assert (model(x) - before).abs().max() > 1e-2


def test_deepcopy_and_state_dict_round_trip(tuner: Tuner, base: Net, x: Tensor) -> None:
    model = tuner.adapt(base)
    train_a_little(model, x)
    assert torch.equal(copy.deepcopy(model)(x), model(x))
    other = tuner.adapt(base)
    other(x)  # fills the residual's cache, which loading must replace
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(x), model(x))


def changed_weight(model: PeftModel) -> None:
    with torch.no_grad():
        model.base_model.model.first.base_layer.weight.mul_(2)


def changed_start(model: PeftModel) -> None:
    model.base_model.model.last._stored("S0")["default"].mul_(2)


def replaced_start(model: PeftModel) -> None:
    layer = model.base_model.model.last
    initial = layer._stored("U0")
    initial["default"] = 2 * initial["default"]


def loaded_state(model: PeftModel) -> None:
    model.load_state_dict({name: 2 * value for name, value in model.state_dict().items()})


def cast(model: PeftModel) -> None:
    model.double()


@pytest.mark.parametrize("change", [changed_weight, changed_start, replaced_start, loaded_state, cast])
def test_the_residual_follows_what_it_is_made_of(
    tuner: Tuner, base: Net, x: Tensor, change: Callable[[PeftModel], None]
) -> None:
    """A model that has computed before a change must give what one without a working copy gives after it."""
    model = tuner.adapt(base)
    model(x)
    change(model)
    fresh = copy.deepcopy(model)
    for layer in (fresh.base_model.model.first, fresh.base_model.model.last):
        layer._residual_cache = None
    x = x.to(model.base_model.model.first.base_layer.weight.dtype)
    assert torch.equal(model(x), fresh(x))


def test_training_goes_on_after_inference_mode(tuner: Tuner, base: Net, x: Tensor) -> None:
    model = tuner.adapt(base)
    with torch.inference_mode():
        model(x)
    model(x).sum().backward()
    with torch.inference_mode():
        assert torch.equal(tuner.adapt(base)(x), model(x))


@pytest.mark.parametrize("shape", [(0, 24), (2, 0, 24)])
def test_no_tokens(tuner: Tuner, base: Net, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    empty = torch.zeros(shape, dtype=dtype)
    assert tuner.adapt(base)(empty).shape == base(empty).shape


def test_a_trained_base_weight_gets_its_gradient(tuner: Tuner, base: Net, x: Tensor) -> None:
    model = tuner.adapt(base)
    weight = model.base_model.model.first.base_layer.weight
    weight.requires_grad_()
    model(x).sum().backward()
    assert weight.grad is not None and weight.grad.abs().max() > 0


def test_merging_does_not_reach_a_tied_weight(tuner: Tuner, base: Net, x: Tensor) -> None:
    twin = torch.nn.Linear(24, 40, bias=False)
    twin.weight = base.first.weight
    tied = torch.nn.ModuleDict({"first": base.first, "twin": twin})
    model = get_peft_model(tied, tuner.config(target_modules=["first"]))
    before = twin.weight.clone()
    getattr(model.base_model.model["first"], tuner.values)["default"].data.mul_(2)
    model.merge_adapter()
    assert torch.equal(twin.weight, before)
    assert not torch.equal(model.base_model.model["first"].base_layer.weight, before)
    model.unmerge_adapter()
    assert model.base_model.model["first"].base_layer.weight is twin.weight


def test_casting_while_merged(tuner: Tuner, base: Net, x: Tensor) -> None:
    model = tuner.adapt(base)
    model.merge_adapter()
    model.double()
    model.unmerge_adapter()
    assert model.base_model.model.first.base_layer.weight.dtype is torch.float64
    torch.testing.assert_close(model(x.double()), copy.deepcopy(base).double()(x.double()))


def test_delta_weight_is_fp32_under_autocast(tuner: Tuner, base: Net, x: Tensor) -> None:
    model = tuner.adapt(base)
    train_a_little(model, x)
    layer = model.base_model.model.first
    expected = layer.get_delta_weight("default")
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(layer.get_delta_weight("default"), expected)


def test_compiled(tuner: Tuner, base: Net, x: Tensor, dtype: torch.dtype) -> None:
    model = tuner.adapt(base)
    train_a_little(model, x)
    torch.testing.assert_close(torch.compile(model, backend="aot_eager")(x), model(x), **tolerance(dtype))


def test_overlapping_rank_patterns_reload(tuner: Tuner, base: Net, x: Tensor, tmp_path: Path) -> None:
    model = tuner.adapt(base, rank_pattern={"last": 2, "l.st": 3})
    model.save_pretrained(tmp_path)
    assert torch.equal(PeftModel.from_pretrained(copy.deepcopy(base), tmp_path)(x), model(x))
