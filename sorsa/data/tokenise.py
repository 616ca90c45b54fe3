"""From rows of text to token ids and labels: prompt and response are tokenised apart, so that the prompt's tokens are
those that testing will use; the loss counts on the response alone (paper, section 6.2).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from typing import TYPE_CHECKING, Any

from sorsa.errors import UsageError

if TYPE_CHECKING:
    import datasets

    from sorsa.config import RunConfig
    from sorsa.data.recipe import Recipe

IGNORED = -100  # the label that PyTorch's cross-entropy leaves out
VERSION = "1"  # part of the cache's key: raise it when the tokens of a sample change
ROWS_PER_WORKER = 1000  # below this, starting a process costs more than it saves
KEPT, TRUNCATED, TOO_LONG, EMPTY = range(4)  # what became of a row


@dataclasses.dataclass(frozen=True)
class TokenCounts:
    """What tokenising did to a training set, in rows; `tokens` counts prompts and responses of the rows kept."""

    rows: int
    kept: int
    dropped_long: int
    dropped_empty: int
    truncated: int
    tokens: int

    @property
    def dropped(self) -> int:
        """Rows that are not trained on."""
        return self.dropped_long + self.dropped_empty

    def __str__(self) -> str:
        """Return the counts as one line to print."""
        return (
            f"{self.rows} rows: {self.kept} kept with {self.tokens} tokens ({self.truncated} of them truncated), "
            f"{self.dropped} dropped ({self.dropped_long} prompts too long, {self.dropped_empty} empty responses)"
        )


def prompt_ids(tokenizer: Any, prompts: list[str], start: bool = True) -> list[list[int]]:
    """Return the token ids of prompts, in training and in testing: the start token once, if there is one, then text.

    Args:
        tokenizer: A Hugging Face tokenizer. What it would add by itself is left out; text that spells a special
            token (`</s>` in HTML) stays text.
        prompts: Texts of `sorsa.data.prompts`.
        start: False leaves the start token out, as the authors' tests of RWKV6 did.
    """
    first = [tokenizer.bos_token_id] if start and tokenizer.bos_token_id is not None else []
    return [first + ids for ids in _text_ids(tokenizer, prompts)]


def _text_ids(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    """Return the token ids of plain texts without any special token."""
    options = {"add_special_tokens": False, "return_attention_mask": False, "split_special_tokens": True}
    options["verbose"] = False  # a text longer than the model is cut or windowed after this: no reason for a warning
    return tokenizer(texts, **options)["input_ids"]


def tokenise(
    rows: datasets.Dataset, recipe: Recipe, config: RunConfig, tokenizer: Any
) -> tuple[datasets.Dataset, TokenCounts]:
    """Return the tokenised rows (`input_ids`, `labels`) and their counts; done once, then read from the cache.

    Args:
        rows: A data set with the recipe's two text columns.
        recipe: Columns and prompt.
        config: `length`, `truncation` and `workers` are read.
        tokenizer: The model's tokenizer; it must have an end-of-sequence token.

    Raises:
        UsageError: The tokenizer has no end-of-sequence token, or no row is left.
    """
    import datasets

    if tokenizer.eos_token_id is None:
        raise UsageError(f"tokenizer {tokenizer.name_or_path!r} has no end-of-sequence token: responses cannot end")
    workers = min(config.workers, math.ceil(len(rows) / ROWS_PER_WORKER))
    integers = datasets.List(datasets.Value("int32"))
    table = rows.map(
        _tokenise_batch,
        fn_kwargs={"recipe": recipe, "tokenizer": tokenizer, "length": config.length, "truncation": config.truncation},
        batched=True,
        remove_columns=rows.column_names,
        features=datasets.Features(
            {
                "input_ids": integers,
                "labels": integers,
                "fate": datasets.Value("int8"),
                "prompt": datasets.Value("int32"),
            }
        ),
        num_proc=workers if workers > 1 else None,  # 1 would start a process for nothing
        new_fingerprint=_fingerprint(rows, recipe, config, tokenizer),
        desc="Tokenising",
    )
    return _keep(table, config)


def _tokenise_batch(
    batch: dict[str, list], recipe: Recipe, tokenizer: Any, length: int, truncation: str
) -> dict[str, list]:
    """Tokenise a batch of rows; every row comes out, with its fate."""
    responses = [text or "" for text in batch[recipe.response]]
    prompts = prompt_ids(tokenizer, [recipe.prompt(query or "") for query in batch[recipe.query]])
    answers = [[*ids, tokenizer.eos_token_id] for ids in _text_ids(tokenizer, responses)]
    out: dict[str, list] = {"input_ids": [], "labels": [], "fate": [], "prompt": [len(ids) for ids in prompts]}
    for prompt, answer, text in zip(prompts, answers, responses, strict=True):
        prompt, answer, fate = _fit(prompt, answer, length, truncation) if text.strip() else ([], [], EMPTY)
        out["input_ids"].append(prompt + answer)
        out["labels"].append([IGNORED] * len(prompt) + answer)
        out["fate"].append(fate)
    return out


def _fit(prompt: list[int], answer: list[int], length: int, truncation: str) -> tuple[list[int], list[int], int]:
    """Cut one sample to `length` tokens and return its two parts and its fate.

    `sample`: prompt and answer together have at most `length` tokens, and at least one of them is to be learned.
    `per_part`: each has at most `length`, as in the authors' code (README, difference 6).
    """
    if truncation == "per_part":
        fate = TRUNCATED if max(len(prompt), len(answer)) > length else KEPT
        return prompt[:length], answer[:length], fate
    if len(prompt) >= length:
        return [], [], TOO_LONG
    room = length - len(prompt)
    return prompt, answer[:room], TRUNCATED if len(answer) > room else KEPT


def _keep(table: datasets.Dataset, config: RunConfig) -> tuple[datasets.Dataset, TokenCounts]:
    """Count the fates and take out the rows that were dropped; works on the memory-mapped columns."""
    import numpy
    import pyarrow.compute

    fates = table.data.column("fate").to_numpy()
    of = {fate: int((fates == fate).sum()) for fate in (KEPT, TRUNCATED, TOO_LONG, EMPTY)}
    kept = of[KEPT] + of[TRUNCATED]
    if kept == 0:
        shortest = pyarrow.compute.min(table.data.column("prompt")).as_py()
        raise UsageError(
            f"{config.train_dataset}: none of the {len(table)} samples fits length = {config.length}: the shortest "
            f"prompt has {shortest} tokens. Give --length of more than {shortest}"
            if of[TOO_LONG]
            else f"{config.train_dataset}: all {len(table)} responses are empty"
        )
    tokens = pyarrow.compute.sum(pyarrow.compute.list_value_length(table.data.column("input_ids"))).as_py()
    counts = TokenCounts(len(table), kept, of[TOO_LONG], of[EMPTY], of[TRUNCATED], tokens)
    table = table.remove_columns(["fate", "prompt"])
    return (table.select(numpy.flatnonzero(fates <= TRUNCATED)) if counts.dropped else table), counts


def _fingerprint(rows: datasets.Dataset, recipe: Recipe, config: RunConfig, tokenizer: Any) -> str:
    """Return the cache's key: rows, prompt, tokenizer and lengths.

    A fast tokenizer is taken without its padding and truncation settings: they change when it is used, and the second
    run of the same command would miss.
    """
    from datasets.fingerprint import Hasher

    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        vocabulary = json.loads(backend.to_str()) | {"padding": None, "truncation": None}
    else:
        vocabulary = Hasher.hash(tokenizer)
    parts = (VERSION, rows._fingerprint, recipe.prompt("{query}"), recipe.query, recipe.response, vocabulary)
    parts += (tokenizer.bos_token_id, tokenizer.eos_token_id, config.length, config.truncation)
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
