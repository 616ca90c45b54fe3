"""Fixtures of the data tests: byte-level tokenizers with chosen special tokens, and writers of small files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sorsa.config import RunConfig


def byte_tokenizer(bos: str | None = "<s>", eos: str | None = "</s>") -> Any:
    """Return a fast tokenizer with one token for each byte, ids 0 to 255, and special tokens behind them."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {token: index for index, token in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    specials = [token for token in (bos, eos) if token]
    backend.add_special_tokens([AddedToken(token, special=True) for token in specials])
    if bos:  # as Llama's: the tokenizer adds its start token by itself
        backend.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", special_tokens=[(bos, backend.token_to_id(bos))]
        )
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token=bos, eos_token=eos)


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    """Return a byte-level tokenizer with `<s>` and `</s>`."""
    return byte_tokenizer()


@pytest.fixture(scope="session")
def tokenizer_without_start() -> Any:
    """Return a byte-level tokenizer with an end token only, as Qwen's."""
    return byte_tokenizer(bos=None)


@pytest.fixture
def settings(tmp_path: Path) -> Callable[..., RunConfig]:
    """Return a function that makes a RunConfig for a file, with the cache in a temporary folder."""

    def make(train_dataset: Path | str, **changes: Any) -> RunConfig:
        fields = {"name": "x", "cache_path": str(tmp_path / "cache"), "workers": 1, "length": 512}
        return RunConfig(train_dataset=str(train_dataset), **(fields | changes))

    return make


@pytest.fixture
def rows_file(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes rows as .jsonl and returns the path."""

    def write(rows: list[Any], name: str = "rows.jsonl") -> Path:
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path

    return write
