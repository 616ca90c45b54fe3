"""What computes the answers: transformers (`hf`), `vllm`, or for RWKV6 the `rwkv` runtime, behind one interface.

All decode greedily, or an RWKV6 as the authors' tests did (`penalties.py`).
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from sorsa.errors import UsageError
from sorsa.models import is_rwkv6, model_settings
from sorsa.rwkv6 import RUNTIME_FILE

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from sorsa.config import RunConfig
    from sorsa.evaluation.subject import Subject


class Engine(Protocol):
    """A loaded model and its tokenizer."""

    tokenizer: PreTrainedTokenizerBase
    ends: frozenset[int]  # token ids that end an answer
    batch_size: int  # prompts answered at a time; set it to what `fit` returns before the first `answer`

    def fit(self, width: int, before: int | None) -> int:
        """Return how many rows can be answered at a time.

        Args:
            width: Tokens of the longest prompt and its answer.
            before: The number that an interrupted run went by, if any.
        """

    def answer(
        self,
        prompts: Sequence[list[int]],
        max_new_tokens: int,
        stop: Callable[[int, list[int]], bool],
        finished: Callable[[], object],
    ) -> list[list[int]]:
        """Return the new token ids of each prompt of a wave; what follows an end token does not count.

        Args:
            prompts: Token ids, the longest first.
            max_new_tokens: Length limit of an answer.
            stop: `stop(place, new_tokens)` says after each token whether that prompt's answer is complete; an engine
                that cannot ask goes on to the end token.
            finished: Called once for each answer that has ended.
        """


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
    if config.engine == "vllm":
        from sorsa.evaluation.vllm_engine import check_vllm

        check_vllm(config, subject)
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


def load_engine(config: RunConfig, subject: Subject, tokenizer: PreTrainedTokenizerBase) -> Engine:
    """Load what answers the questions of a test.

    Args:
        config: The run's settings; `check_engine` has seen them.
        subject: The model under test.
        tokenizer: Its tokenizer.

    Raises:
        UsageError: The model cannot be loaded.
    """
    if config.engine == "rwkv":
        from sorsa.evaluation.rwkv_engine import RwkvEngine as Loaded
    elif config.engine == "vllm":
        from sorsa.evaluation.vllm_engine import VllmEngine as Loaded
    else:
        from sorsa.evaluation.hf_engine import HfEngine as Loaded
    return Loaded(config, subject, tokenizer)
