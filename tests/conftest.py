"""Fixtures shared by all tests: a tiny Llama, a byte-level tokenizer, a few training rows, and settings for them.

Nothing here touches the network, and everything is made on the fly in pytest's temporary folders.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # before huggingface_hub is imported: no test may wait for a network
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is: more threads only slow down models this small

TEXTS = ("one", "two plus three", "four times five is", "six")


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a 2-layer Llama of random FP32 weights (hidden 32, k_proj 16 x 32) and a byte-level tokenizer.

    Its tokenizer has `<s>`, `</s>`, a chat template and no padding token, as Llama 2's has.
    """
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    directory = tmp_path_factory.mktemp("tiny") / "model"
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate(["<s>", "</s>", *alphabet])}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>")
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    tokenizer.save_pretrained(directory)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        initializer_range=0.2,  # logits of a size that training can change, although lm_head is frozen
        bos_token_id=0,
        eos_token_id=1,
    )
    LlamaForCausalLM(config).save_pretrained(directory)
    return directory


@pytest.fixture(scope="session")
def tiny_rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A MetaMathQA-shaped .jsonl of 25 rows (columns query, response, type) with answers of different lengths."""
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    rows = [
        {"query": f"What is {n} + 1?", "response": f"{TEXTS[n % 4]}. The answer is: {n + 1}", "type": "GSM_AnsAug"}
        for n in range(25)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def make_config(tiny_model: Path, tiny_rows: Path) -> Callable[..., Any]:
    """A function `(folder, **fields)` that returns a RunConfig for the tiny model and rows, writing under `folder`.

    25 rows in global batches of 2 x 2: T = 6 steps, one row dropped.
    """
    from sorsa.config import RunConfig

    def make(folder: Path, **fields: Any) -> RunConfig:
        defaults: dict[str, Any] = {
            "name": "tiny",
            "model": str(tiny_model),
            "train_dataset": str(tiny_rows),
            "run_path": str(folder / "runs"),
            "cache_path": str(folder / "cache"),
            "rank": 4,
            "workers": 1,
            "batch_size": 2,
            "accum_steps": 2,
            "lr": 1e-3,
            "save_steps": 2,
            "mix_precision": ["fp32"],
            "local": True,
        }
        return RunConfig(**(defaults | fields))

    return make


@pytest.fixture
def tiny_config(make_config: Callable[..., Any], tmp_path: Path) -> Callable[..., Any]:
    """`make_config` with pytest's temporary folder as its folder: `tiny_config(**fields)`."""

    def make(**fields: Any) -> Any:
        return make_config(tmp_path, **fields)

    return make
