"""The decoding behind the authors' RWKV6 scores (`decoding: authors_rwkv`; README, difference 16).

Their tests set the RWKV runtime's temperature to 0, but left on what it takes off the logits of tokens that an answer
already has. Of the logit of a token that was generated it takes `PRESENCE + FREQUENCY * n`, where n counts how often;
every count fades by `DECAY` per token, and blanks, tabs and digits add nothing to theirs.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor

PRESENCE, FREQUENCY, DECAY = 0.2, 0.2, 0.996  # the runtime's defaults
UNCOUNTED = " \t0123456789"  # a token whose text is a piece of this


class RuntimePenalties(LogitsProcessor):
    """Changes the logits of one batch, one step after the other: an instance serves one call of `generate`.

    Where rows leave and join, `begin` and `keep` say so.

    Args:
        tokenizer: Tells the text of a token.
    """

    def __init__(self, tokenizer: Any) -> None:
        """Begin without any token."""
        self._tokenizer = tokenizer
        self._weights: dict[int, float] = {}
        self._counts: Tensor | None = None

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Return the changed logits.

        Args:
            input_ids: (B, T) the tokens so far; from the second call on, the last one was generated.
            scores: (B, V) logits of the next token.
        """
        if self._counts is None:
            self._counts = torch.zeros_like(scores, dtype=torch.float64)
            self._present = torch.zeros_like(scores, dtype=torch.bool)
            return scores
        last = input_ids[:, -1:]  # (B, 1)
        weights = [[self._weight(token)] for token in last.flatten().tolist()]
        self._counts.mul_(DECAY).scatter_add_(1, last, torch.tensor(weights).to(self._counts))
        self._present.scatter_(1, last, True)
        return scores - (PRESENCE * self._present + FREQUENCY * self._counts).to(scores.dtype)

    def begin(self, rows: list[int], scores: Tensor, batch_size: int) -> None:
        """Let rows of a batch begin anew, with nothing generated.

        Args:
            rows: Their places in the batch.
            scores: (b, V) logits, which tell vocabulary and device.
            batch_size: B.
        """
        if self._counts is None:
            self._counts = scores.new_zeros((batch_size, scores.shape[1]), dtype=torch.float64)
            self._present = torch.zeros_like(self._counts, dtype=torch.bool)
        self._counts[rows] = 0.0
        self._present[rows] = False

    def keep(self, rows: list[int]) -> None:
        """Keep only these rows, in this order."""
        if self._counts is not None:
            self._counts, self._present = self._counts[rows], self._present[rows]

    def _weight(self, token: int) -> float:
        """Return what one more of this token adds to its count."""
        if token not in self._weights:
            self._weights[token] = 0.0 if self._tokenizer.decode([token]) in UNCOUNTED else 1.0
        return self._weights[token]
