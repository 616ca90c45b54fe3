"""Answers through transformers: our own model, or any that it knows, greedily (`--engine hf`, the default)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch

from sorsa.evaluation.batch_size import free_memory, rows_that_fit
from sorsa.evaluation.decode_attention import use_one_token_attention
from sorsa.evaluation.decoding import Decoder
from sorsa.evaluation.ends import end_tokens, longest_answer
from sorsa.evaluation.penalties import RuntimePenalties
from sorsa.evaluation.row_cache import AttentionRows, left_padded, rows_class

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from sorsa.config import RunConfig
    from sorsa.evaluation.subject import Subject

# Rows of a model whose cache is unknown and cannot be measured: a 7B model takes 16 GB for them at 2,048 tokens
UNMEASURED = 16

logger = logging.getLogger(__name__)


class HfEngine:
    """A model in which finished rows leave the batch (`decoding.py`); see `engines.Engine`.

    Args:
        config: The run's settings.
        subject: The model under test.
        tokenizer: Its tokenizer.
    """

    def __init__(self, config: RunConfig, subject: Subject, tokenizer: PreTrainedTokenizerBase) -> None:
        """Load the model. Raises UsageError where that fails."""
        dtype = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[config.test_precision]
        self.tokenizer = tokenizer
        self._model = subject.load(dtype)
        self.ends = _make_greedy(self._model, tokenizer)
        self._asked, self.batch_size = config.valid_batch_size, 1
        self._with_penalties = config.decoding == "authors_rwkv"
        # an adapter's layers stand inside of the base model: PEFT's own forward around it adds nothing to them
        self._bare = self._model.get_base_model() if hasattr(self._model, "get_base_model") else self._model
        self._rows = rows_class(self._bare)
        if self._rows is AttentionRows:
            use_one_token_attention(self._bare)
        elif self._rows is None:
            kind = type(self._bare).__name__
            logger.info("%s keeps a cache of its own kind: every batch waits for its longest answer", kind)

    def fit(self, width: int, before: int | None) -> int:
        """Return what was asked for, else what an interrupted run had found, else what the free memory holds."""
        if self._asked or before:
            return self._asked or before
        if self._rows is None:
            return UNMEASURED
        rows = self._rows(self._bare, 1, self._pad)
        with torch.inference_mode():
            rows.put([0], [[self._pad]], rows.read([[self._pad]])[1])
        return rows_that_fit(rows.bytes(width), free_memory(self._bare.device), self._bare.device)

    def answer(
        self,
        prompts: Sequence[list[int]],
        max_new_tokens: int,
        stop: Callable[[int, list[int]], bool],
        finished: Callable[[], object],
    ) -> list[list[int]]:
        """See `engines.Engine.answer`."""
        positions = getattr(self._bare.config, "max_position_embeddings", None)
        limits = [longest_answer(len(prompt), max_new_tokens, positions) for prompt in prompts]
        if self._rows is None:
            return self._by_generate(prompts, limits, finished)
        penalties = RuntimePenalties(self.tokenizer) if self._with_penalties else None
        decoder = Decoder(
            self._bare, self._rows, self.batch_size, self._pad, self.ends, stop, finished, penalties
        )  # fmt: skip
        return decoder.run(prompts, limits)

    @property
    def _pad(self) -> int:
        return self._model.generation_config.pad_token_id

    def _by_generate(
        self, prompts: Sequence[list[int]], limits: list[int], finished: Callable[[], object]
    ) -> list[list[int]]:
        """Answer in fixed batches through `generate`; ids after an end are padding."""
        answers: list[list[int]] = []
        for start in range(0, len(prompts), self.batch_size):
            batch = prompts[start : start + self.batch_size]
            ids, mask = left_padded(batch, self._pad, self._model.device)
            with torch.inference_mode():
                output: torch.Tensor = self._model.generate(  # (b, width + new tokens)
                    input_ids=ids,
                    attention_mask=mask,
                    max_new_tokens=min(limits[start : start + self.batch_size]),
                    logits_processor=[RuntimePenalties(self.tokenizer)] if self._with_penalties else [],
                )
            answers += output[:, ids.shape[1] :].tolist()
            for _ in batch:
                finished()
        return answers


def _make_greedy(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Replace the model's own generation settings: sampling or a repetition penalty there must not change a score.

    Returns:
        The token ids that end an answer.
    """
    from transformers import GenerationConfig

    ends = end_tokens(model.generation_config, tokenizer)
    model.generation_config = GenerationConfig(
        do_sample=False,
        eos_token_id=sorted(ends) or None,
        pad_token_id=tokenizer.pad_token_id if tokenizer.pad_token_id is not None else min(ends, default=0),
    )
    return ends
