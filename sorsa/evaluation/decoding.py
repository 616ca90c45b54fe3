"""Greedy decoding of a list of prompts in which rows that have finished leave the batch and the next ones take over.

A batch of `generate` waits for its longest answer: on GSM-8K every second token is computed for a row that has ended.
The order in which rows join follows from the prompts, the batch size and the answers alone, so a repeated call gives
the same tokens in every number type.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Sequence

import torch
from transformers import PreTrainedModel

from sorsa.evaluation.penalties import RuntimePenalties
from sorsa.evaluation.row_cache import AttentionRows, StateRows

# Padded tokens of one prefill: bounds its memory, however many rows join, and is more than any device needs to be busy.
PREFILL_TOKENS = 8192
# Rows join when so large a part of the slots is free. One by one, a prefill of a single row would stop all others for
# every answer; an eighth leaves a sixteenth of the slots empty on average.
JOIN_SHARE = 8


class Decoder:
    """One wave of prompts on one model.

    Args:
        model: The model, of `row_cache.rows_class`.
        rows: That class.
        batch_size: Rows answered at a time.
        pad: A token id for padding.
        ends: Token ids that end an answer.
        stop: `stop(index, new_tokens)` says after each token whether that prompt's answer is complete.
        finished: Called whenever an answer ends.
        penalties: Changes the logits of each step, if given.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        rows: type[AttentionRows] | type[StateRows],
        batch_size: int,
        pad: int,
        ends: frozenset[int],
        stop: Callable[[int, list[int]], bool],
        finished: Callable[[], object],
        penalties: RuntimePenalties | None,
    ) -> None:
        self._model, self._rows_class, self._batch_size, self._pad = model, rows, batch_size, pad
        self._ends, self._stop, self._finished, self._penalties = ends, stop, finished, penalties

    @torch.inference_mode()
    def run(self, prompts: Sequence[list[int]], limits: Sequence[int]) -> list[list[int]]:
        """Return the new tokens of each prompt, its end token included.

        Args:
            prompts: Token ids; longest first wastes the least on padding.
            limits: The most new tokens of each.
        """
        count = min(self._batch_size, len(prompts))
        self._prompts, self._limits = prompts, limits
        self._new: list[list[int]] = [[] for _ in prompts]
        self._waiting = collections.deque(range(len(prompts)))
        self._slots: list[int | None] = [None] * count  # which prompt
        self._rows = self._rows_class(self._model, count, self._pad)
        self._next = torch.full((count,), self._pad, device=self._model.device)  # (B,) last token of each row
        self._fill()
        while self._slots:
            self._step()
            self._fill()
        return self._new

    def _step(self) -> None:
        """Append a token to every row."""
        logits = self._rows.step(self._next)
        if self._penalties is not None:
            logits = self._penalties(self._next[:, None], logits)
        self._next = logits.argmax(-1)
        busy = [slot for slot, index in enumerate(self._slots) if index is not None]
        self._hand_out(busy)

    def _hand_out(self, slots: list[int]) -> None:
        """Give each row the token found for it, and free the slots of those that end with it."""
        tokens = self._next.tolist()
        ended = []
        for slot in slots:
            index = self._slots[slot]
            new = self._new[index]
            new.append(tokens[slot])
            if tokens[slot] in self._ends or len(new) == self._limits[index] or self._stop(index, new):
                self._slots[slot] = None
                ended.append(slot)
                self._finished()
        if ended:
            self._rows.release(ended)

    def _fill(self) -> None:
        """Let waiting prompts take free slots; when none is waiting, give the slots up."""
        enough = max(1, len(self._slots) // JOIN_SHARE)
        while self._waiting and len(free := self._free()) >= enough:
            self._join(free[: len(self._waiting)])
        if not self._waiting and self._free():
            self._shrink()

    def _free(self) -> list[int]:
        return [slot for slot, index in enumerate(self._slots) if index is None]

    def _join(self, slots: list[int]) -> None:
        """Read the next prompts into slots, in pieces of PREFILL_TOKENS."""
        while slots:
            width = len(self._prompts[self._waiting[0]])  # not exact unless sorted, but a bound is all it is
            take = slots[: max(1, PREFILL_TOKENS // max(1, width))]
            slots = slots[len(take) :]
            indices = [self._waiting.popleft() for _ in take]
            prompts = [self._prompts[index] for index in indices]
            logits, layers = self._rows.read(prompts)
            self._rows.put(take, prompts, layers)
            if self._penalties is not None:
                self._penalties.begin(take, logits, len(self._slots))
            self._next[take] = logits.argmax(-1)
            for slot, index in zip(take, indices, strict=True):
                self._slots[slot] = index
            self._hand_out(take)

    def _shrink(self) -> None:
        """Drop the free slots."""
        busy = [slot for slot, index in enumerate(self._slots) if index is not None]
        self._slots = [self._slots[slot] for slot in busy]
        if busy:
            self._rows.keep(busy)
            self._next = self._next[busy]
            if self._penalties is not None:
                self._penalties.keep(busy)
