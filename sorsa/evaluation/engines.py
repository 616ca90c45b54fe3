"""What computes the answers: our models through Hugging Face `generate`, or for RWKV6 the `rwkv` runtime.

Both decode greedily, or as the authors' RWKV6 tests did (`penalties.py`).
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch

from sorsa.errors import UsageError
from sorsa.evaluation.penalties import RuntimePenalties
from sorsa.models import is_rwkv6, model_settings
from sorsa.rwkv6 import RUNTIME_FILE

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from sorsa.config import RunConfig
    from sorsa.evaluation.subject import Subject


class Engine(Protocol):
    """A loaded model and its tokenizer."""

    tokenizer: PreTrainedTokenizerBase
    ends: frozenset[int]  # token ids that end an answer
    batch_size: int  # prompts that `answer` should be given at a time

    def answer(self, prompts: list[list[int]], max_new_tokens: int) -> list[list[int]]:
        """Return the new token ids of each prompt; what follows an end token does not count."""


def check_engine(config: RunConfig, subject: Subject) -> None:
    """Refuse settings that only an RWKV6 can have, or a runtime that is not there, before anything is loaded.

    Args:
        config: `engine`, `decoding`, and where the model lies.
        subject: The model under test.

    Raises:
        UsageError: The model is no RWKV6; the `rwkv` package or the file for it is missing or broken.
    """
    asked = {"engine": config.engine, "decoding": config.decoding}
    if subject.kind == "unmerged" and config.engine != "hf":
        raise UsageError(
            f"--unmerged with engine = {config.engine}: only the engine hf can load an adapter beside its base; "
            "merge the run first, or leave --engine out"
        )
    path = subject.merged
    if config.test_precision == "fp16" and config.engine == "hf" and is_rwkv6(model_settings(config, path)):
        raise UsageError(
            "test_precision = fp16: RWKV6's activations grow beyond FP16's range; test it in fp32 or bf16, or with "
            "--engine rwkv, whose runtime rescales them"
        )
    special = [f"{name} = {value}" for name, value in asked.items() if "rwkv" in value]
    if not special:
        return
    if config.engine == "rwkv" and importlib.util.find_spec("rwkv") is None:
        raise UsageError(
            f"engine = rwkv: the package rwkv is not installed in {sys.executable}; install it with pip install "
            "rwkv==0.8.32, or leave the setting out"
        )
    source, settings = path or config.model, model_settings(config, path)
    if not is_rwkv6(settings):
        found = (settings.architectures or [settings.model_type])[0]
        raise UsageError(f"{special[0]}: only for RWKV6, but {source} is a {found}; leave the setting out")
    if config.engine == "rwkv":
        from sorsa.rwkv6.convert import read_pth

        read_pth(runtime_file(source))


def runtime_file(model: str | Path) -> Path:
    """Return the file in a model directory that the `rwkv` runtime loads.

    Raises:
        UsageError: It is not there; names the command that makes it.
    """
    file = Path(model) / RUNTIME_FILE
    if not file.is_file():
        raise UsageError(
            f"engine = rwkv: no {file}; make it with `python run.py --convert {model} {file}` (a model of the hub has "
            "to be downloaded first)"
        )
    return file


def load_engine(config: RunConfig, subject: Subject) -> Engine:
    """Load what answers the questions of a test.

    Args:
        config: The run's settings; `check_engine` has seen them.
        subject: The model under test.

    Raises:
        UsageError: The model or the tokenizer cannot be loaded.
    """
    if config.engine == "rwkv":
        from sorsa.evaluation.rwkv_engine import RwkvEngine

        return RwkvEngine(config, subject)
    return HfEngine(config, subject)


class HfEngine:
    """Our own model, or any that transformers knows, in batches with padding on the left.

    Args:
        config: The run's settings.
        subject: The model under test.
    """

    def __init__(self, config: RunConfig, subject: Subject) -> None:
        """Load tokenizer and model. Raises UsageError where that fails."""
        dtype = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[config.test_precision]
        self.tokenizer = subject.load_tokenizer()
        self._model = subject.load(dtype)
        _make_greedy(self._model, self.tokenizer)
        self.ends = frozenset(self._model.generation_config.eos_token_id or ())
        self.batch_size = config.valid_batch_size or 16
        self._with_penalties = config.decoding == "authors_rwkv"

    def answer(self, prompts: list[list[int]], max_new_tokens: int) -> list[list[int]]:
        """See `Engine.answer`; the batch ends when every row has, and ids after an end are padding."""
        width = max(map(len, prompts))
        limit = getattr(self._model.config, "max_position_embeddings", None)
        if limit:  # beyond its positions a model writes noise; other engines stop there too
            max_new_tokens = max(1, min(max_new_tokens, limit - width))
        pad = self._model.generation_config.pad_token_id
        rows = [[pad] * (width - len(ids)) + ids for ids in prompts]
        mask = [[0] * (width - len(ids)) + [1] * len(ids) for ids in prompts]
        with torch.inference_mode():
            output: torch.Tensor = self._model.generate(  # (batch, width + new tokens)
                torch.tensor(rows, device=self._model.device),
                attention_mask=torch.tensor(mask, device=self._model.device),
                max_new_tokens=max_new_tokens,
                logits_processor=[RuntimePenalties(self.tokenizer)] if self._with_penalties else [],
            )
        return output[:, width:].tolist()


def _make_greedy(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Replace the model's own generation settings: sampling or a repetition penalty there must not change a score."""
    from transformers import GenerationConfig

    ends: set[int] = set()
    for found in (model.generation_config.eos_token_id, tokenizer.eos_token_id):
        ends |= set(found) if isinstance(found, list) else {found} if found is not None else set()
    model.generation_config = GenerationConfig(
        do_sample=False,
        eos_token_id=sorted(ends) or None,
        pad_token_id=tokenizer.pad_token_id if tokenizer.pad_token_id is not None else min(ends, default=0),
    )
