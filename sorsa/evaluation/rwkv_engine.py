"""Answers through the `rwkv` package, the reference runtime of RWKV (`--engine rwkv`): one prompt at a time."""

from __future__ import annotations

import contextlib
import functools
import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from sorsa.evaluation.engines import runtime_file
from sorsa.evaluation.penalties import RuntimePenalties
from sorsa.models import device

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from sorsa.config import RunConfig
    from sorsa.evaluation.subject import Subject

PIECE = 256  # prompt tokens per call, as in the runtime's own pipeline: bounds the memory


class RwkvEngine:
    """A model in the runtime, with our tokenizer; see `engines.Engine`.

    On a GPU the environment's RWKV_CUDA_ON=1 makes the runtime compile its own kernel, which needs nvcc.

    Args:
        config: The run's settings.
        subject: The model under test.
        tokenizer: Its tokenizer.
    """

    def __init__(self, config: RunConfig, subject: Subject, tokenizer: PreTrainedTokenizerBase) -> None:
        """Load the model. Raises UsageError where that fails."""
        self.tokenizer, self.batch_size = tokenizer, 1
        self.ends = frozenset({self.tokenizer.eos_token_id})
        self._model = _load(runtime_file(subject.merged or config.model), config.test_precision)
        self._with_penalties = config.decoding == "authors_rwkv"

    def fit(self, width: int, before: int | None) -> int:
        """Return 1: the runtime has no batches."""
        return 1

    def answer(
        self,
        prompts: Sequence[list[int]],
        max_new_tokens: int,
        stop: Callable[[int, list[int]], bool],
        finished: Callable[[], object],
    ) -> list[list[int]]:
        """Return the new token ids of each prompt, the end token included."""
        answers = []
        for place, ids in enumerate(prompts):
            answers.append(self._answer(ids, max_new_tokens, functools.partial(stop, place)))
            finished()
        return answers

    def _answer(self, ids: list[int], max_new_tokens: int, stop: Callable[[list[int]], bool]) -> list[int]:
        state = None
        for start in range(0, len(ids), PIECE):
            logits, state = self._model.forward(ids[start : start + PIECE], state)
        penalties = RuntimePenalties(self.tokenizer) if self._with_penalties else None
        new: list[int] = []
        while True:
            scores = logits.unsqueeze(0)  # (1, V)
            if penalties is not None:
                last = torch.tensor([[new[-1] if new else ids[-1]]], device=scores.device)
                scores = penalties(last, scores)
            new.append(int(scores.argmax()))
            if new[-1] in self.ends or len(new) == max_new_tokens or stop(new):
                return new
            logits, state = self._model.forward([new[-1]], state)


def _load(file: Path, precision: str) -> Any:
    """Return the runtime's model; what it prints while it loads is dropped.

    Args:
        file: The `.pth` file.
        precision: `bf16`, `fp16` or `fp32`.
    """
    place = device()
    if place.type == "cpu":
        os.environ["RWKV_CUDA_ON"] = "0"  # read when the package is imported
    os.environ.setdefault("RWKV_CUDA_ON", "0")
    os.environ.setdefault("RWKV_JIT_ON", "0")  # TorchScript is deprecated; the logits are the same
    os.environ["RWKV_V7_ON"] = "0"  # 1 would make it read every file as an RWKV7
    tf32 = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    with contextlib.redirect_stdout(io.StringIO()):
        from rwkv.model import RWKV

        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = tf32  # the import switches both on
        return RWKV(model=str(file), strategy=f"{place} {precision}")
