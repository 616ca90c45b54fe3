"""Which matrices are adapted, and the refusals that come before any of them is decomposed."""

from __future__ import annotations

import pytest
import torch

from sorsa.errors import UsageError
from sorsa.methods import build_peft_config
from sorsa.models import load_base_model
from sorsa.training.adapter import adapt, targeted_modules

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@pytest.fixture
def model(tiny_config):
    """The tiny Llama in FP32."""
    return load_base_model(tiny_config(), torch.float32)


@pytest.fixture
def no_svd(monkeypatch):
    """Make any decomposition fail the test."""

    def refuse(*args, **kwargs):
        raise AssertionError("a matrix was decomposed before the check")

    monkeypatch.setattr("sorsa.adapters.residual_layer.decompose", refuse)


@pytest.mark.parametrize("method", ["sorsa", "lora"])
@pytest.mark.parametrize(
    ("settings", "projections"),
    [
        ({}, PROJECTIONS),
        ({"exclude_modules": ["k_proj", "v_proj"]}, tuple(p for p in PROJECTIONS if p not in ("k_proj", "v_proj"))),
        ({"target_modules": ["q_proj", "v_proj"]}, ("q_proj", "v_proj")),
        ({"target_modules": r".*\.(up|down)_proj"}, ("up_proj", "down_proj")),
    ],
)
def test_targets_are_the_ones_peft_adapts(tiny_config, model, method, settings, projections):
    config = tiny_config(peft=method, **settings)
    targets = targeted_modules(model, build_peft_config(config))
    assert sorted(name.rsplit(".", 1)[1] for name in targets) == sorted(projections * 2)
    adapted = adapt(model, config)
    assert sorted(adapted.base_model.targeted_module_names) == sorted(targets)


@pytest.mark.parametrize("method", ["sorsa", "lora"])
def test_only_the_adapter_is_trainable(tiny_config, model, method):
    adapted = adapt(model, tiny_config(peft=method))
    trainable = {name for name, p in adapted.named_parameters() if p.requires_grad}
    assert trainable and all(f".{method}_" in name for name in trainable)
    assert all(p.dtype == torch.float32 for p in adapted.parameters())


def test_nothing_matches(no_svd, tiny_config, model):
    message = (
        r"target_modules = \['qproj'\]: matches no module of LlamaForCausalLM; its linear layers are called "
        r"down_proj, gate_proj, k_proj, .*: use some of these names, or all-linear"
    )
    with pytest.raises(UsageError, match=message):
        adapt(model, tiny_config(target_modules=["qproj"]))


def test_everything_excluded(no_svd, tiny_config, model):
    with pytest.raises(UsageError, match=r"\['q_proj'\] without exclude_modules = \['q_proj'\]: matches no module"):
        adapt(model, tiny_config(target_modules=["q_proj"], exclude_modules=["q_proj"]))


def test_embeddings_cannot_be_adapted(no_svd, tiny_config, model):
    with pytest.raises(UsageError, match=r"model.embed_tokens is a Embedding, and only linear layers can be adapted"):
        adapt(model, tiny_config(target_modules=["embed_tokens"]))


@pytest.mark.parametrize("settings", [{"rank": 17}, {"rank": 1000}, {"rank": 2, "rank_pattern": {"k_proj": 17}}])
def test_rank_above_the_smaller_side(no_svd, tiny_config, model, settings):
    rank = max(settings["rank"], 17)
    message = (
        rf"rank = {rank}: above the smaller side of model.layers.0.self_attn.k_proj \(16 x 32\), whose largest "
        r"possible rank is 16; lower --rank to 16, or give that module its own rank with rank_pattern"
    )
    with pytest.raises(UsageError, match=message):
        adapt(model, tiny_config(**settings))


@pytest.mark.parametrize("method", ["sorsa", "lora", "partial"])
def test_a_head_that_is_the_embedding_is_refused(tiny_config, model, method):
    model.config.tie_word_embeddings = True
    model.tie_weights()
    message = r"\['lm_head', 'q_proj'\]: lm_head shares its weight with the embeddings"
    with pytest.raises(UsageError, match=message):
        adapt(model, tiny_config(peft=method, target_modules=["q_proj", "lm_head"]))


def test_a_pattern_that_fits_nothing(tiny_config, model):
    with pytest.raises(UsageError, match=r"rank_pattern = 'q_porj': none of the matrices .* Did you mean 'q_proj'"):
        adapt(model, tiny_config(peft="lora", rank_pattern={"q_porj": 2}))


def test_veras_rank_is_not_a_matrixs(tiny_config, model):
    adapted = adapt(model, tiny_config(peft="vera", rank=100))
    assert adapted.base_model.vera_A["default"].shape == (100, 48)


def test_largest_rank_and_ranks_per_module(tiny_config, model):
    adapted = adapt(model, tiny_config(rank=17, rank_pattern={"[kv]_proj": 16}))
    layer = adapted.base_model.model.model.layers[1]
    assert (layer.self_attn.k_proj.r["default"], layer.mlp.up_proj.r["default"]) == (16, 17)


def test_a_misspelt_name_among_right_ones_is_refused(model, tiny_config):
    config = tiny_config(target_modules=["q_proj", "v_prj"])
    with pytest.raises(UsageError, match=r"target_modules = 'v_prj': no module of that name. Did you mean 'v_proj'"):
        targeted_modules(model, build_peft_config(config))
