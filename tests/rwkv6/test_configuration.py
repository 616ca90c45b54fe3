"""Sizes: the paper's 7B on the meta device, defaults of smaller models, published config files, refusals."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from sorsa.errors import UsageError
from sorsa.rwkv6 import RWKV6_7B, register_rwkv6
from sorsa.rwkv6.configuration import Rwkv6Config

TARGETS = ["receptance", "key", "value", "gate", "output"]


@pytest.fixture
def meta_7b() -> nn.Module:
    from transformers import AutoModelForCausalLM

    register_rwkv6()
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(Rwkv6Config(**RWKV6_7B))


def test_the_7b_has_the_published_size(meta_7b: nn.Module) -> None:
    assert sum(p.numel() for p in meta_7b.parameters()) == 7_635_746_816
    assert len(meta_7b.state_dict()) == 902  # 28 per block, 2 of pre_ln, embedding, head, 2 of ln_out
    assert all(p.device.type == "meta" for p in meta_7b.parameters())


def test_every_block_has_eight_matrices_to_adapt(meta_7b: nn.Module) -> None:
    names = [n for n, m in meta_7b.named_modules() if isinstance(m, nn.Linear) and ".blocks." in n]
    assert len(names) == 256
    assert {n.split(".", 3)[3] for n in names} == {f"attention.{t}" for t in TARGETS} | {
        "feed_forward.key",
        "feed_forward.receptance",
        "feed_forward.value",
    }


def test_lora_of_rank_64_trains_176m_parameters(meta_7b: nn.Module) -> None:
    from peft import LoraConfig, inject_adapter_in_model

    model = inject_adapter_in_model(LoraConfig(r=64, target_modules=TARGETS), meta_7b, low_cpu_mem_usage=True)
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 176_160_768


@pytest.mark.parametrize(
    ("hidden", "ffn", "mix", "decay"), [(768, 2688, 32, 64), (2048, 7168, 32, 64), (4096, 14336, 64, 128)]
)
def test_inner_sizes_follow_from_the_width(hidden: int, ffn: int, mix: int, decay: int) -> None:
    config = Rwkv6Config(hidden_size=hidden)
    assert (config.intermediate_size, config.mix_rank, config.decay_rank) == (ffn, mix, decay)


def test_save_and_load_through_the_auto_class(tmp_path: Path) -> None:
    from transformers import AutoConfig

    register_rwkv6()
    register_rwkv6()  # again: no error
    config = Rwkv6Config(vocab_size=11, hidden_size=32, num_hidden_layers=3, head_size=16, mix_rank=5, decay_rank=7)
    config.save_pretrained(tmp_path)
    loaded = AutoConfig.from_pretrained(tmp_path)
    assert isinstance(loaded, Rwkv6Config)
    assert {k: v for k, v in loaded.to_dict().items() if k != "_name_or_path"} == {
        k: v for k, v in config.to_dict().items() if k != "_name_or_path"
    }


def test_a_published_config_is_understood(tmp_path: Path) -> None:
    published = {
        "architectures": ["Rwkv6ForCausalLM"],
        "attention_hidden_size": 4096,
        "head_size": 64,
        "hidden_size": 4096,
        "intermediate_size": None,
        "layer_norm_epsilon": 1e-05,
        "model_type": "rwkv6",
        "num_attention_heads": 64,
        "num_hidden_layers": 32,
        "rescale_every": 6,
        "tie_word_embeddings": False,
        "use_cache": True,
        "vocab_size": 65536,
    }
    (tmp_path / "config.json").write_text(json.dumps(published), encoding="utf-8")
    config = Rwkv6Config.from_pretrained(tmp_path)
    assert {name: getattr(config, name) for name in RWKV6_7B} == RWKV6_7B


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hidden_size": 100}, r"hidden_size = 100: must be a multiple of head_size = 64"),
        ({"mix_rank": 0}, r"mix_rank = 0: must be a positive integer"),
        ({"num_hidden_layers": 0}, r"num_hidden_layers = 0: must be a positive integer"),
        ({"attention_hidden_size": 64}, r"attention_hidden_size = 64: only the hidden size, 2048"),
        ({"tie_word_embeddings": True}, r"tie_word_embeddings = True: RWKV6 has an untied head"),
    ],
)
def test_sizes_that_cannot_be(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Rwkv6Config(**settings)


def test_importing_the_package_imports_neither_torch_nor_transformers() -> None:
    code = "import sys, sorsa.rwkv6; print(sorted({'torch', 'transformers', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
