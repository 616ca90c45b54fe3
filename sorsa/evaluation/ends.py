"""The tokens that end an answer, and how long one may be: the same for every engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def end_tokens(generation_config: Any, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Return the token ids that end an answer: the model's and the tokenizer's.

    Args:
        generation_config: The model's generation settings.
        tokenizer: Its tokenizer.
    """
    ends: set[int] = set()
    for found in (generation_config.eos_token_id, tokenizer.eos_token_id):
        ends |= set(found) if isinstance(found, list) else {found} if found is not None else set()
    return frozenset(ends)


def longest_answer(prompt: int, max_new_tokens: int, positions: int | None) -> int:
    """Return the most new tokens after a prompt: beyond its positions a model writes noise.

    Args:
        prompt: Its tokens.
        max_new_tokens: The test's limit.
        positions: Those of the model; None where it has no bound.
    """
    return max(1, min(max_new_tokens, positions - prompt)) if positions else max_new_tokens
