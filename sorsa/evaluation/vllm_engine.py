"""Answers through vLLM on GPUs (`--engine vllm`): it batches by itself, `tensor_parallel` GPUs hold one model.

The model is loaded once the longest prompt is known, since vLLM reserves its cache when it starts. vLLM cannot ask a
benchmark whether an answer is complete: it goes on to the end token, and what follows the answer is cut off afterwards.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from sorsa.errors import UsageError
from sorsa.evaluation.ends import end_tokens, longest_answer
from sorsa.evaluation.processes import launched
from sorsa.evaluation.waves import WAVE
from sorsa.models import is_rwkv6, model_settings

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from sorsa.config import RunConfig
    from sorsa.evaluation.subject import Subject

_DTYPES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}


def check_vllm(config: RunConfig, subject: Subject) -> None:
    """Refuse what vLLM cannot do here, before anything is loaded.

    Raises:
        UsageError: The package or a GPU is missing, the model is an RWKV6, or a launcher has started several processes.
    """
    import torch

    if importlib.util.find_spec("vllm") is None:
        raise UsageError(
            f"engine = vllm: the package vllm is not installed in {sys.executable}; install it with "
            "pip install 'sorsa[vllm]' on a machine with CUDA, or leave --engine out"
        )
    found = torch.cuda.device_count()
    if found < config.tensor_parallel:
        raise UsageError(
            f"engine = vllm with tensor_parallel = {config.tensor_parallel}: {found} CUDA devices here; give a smaller "
            "--tensor-parallel, or leave --engine out to answer with transformers"
        )
    if is_rwkv6(model_settings(config, subject.merged)):
        raise UsageError("engine = vllm: it has no RWKV6; leave --engine out, or take --engine rwkv")
    if launched() > 1:
        raise UsageError(
            f"engine = vllm in {launched()} processes: vLLM starts its own; start the test without torchrun or "
            "accelerate launch, and spread the model with --tensor-parallel"
        )


class VllmEngine:
    """A model in vLLM; see `engines.Engine`.

    Args:
        config: The run's settings; `check_vllm` has seen them.
        subject: The model under test.
        tokenizer: Its tokenizer.
    """

    def __init__(self, config: RunConfig, subject: Subject, tokenizer: PreTrainedTokenizerBase) -> None:
        """Find the end tokens; `fit` loads the model."""
        self.tokenizer = tokenizer
        self._config, self._source = config, str(subject.merged or config.model)
        self._revision = None if subject.merged else config.revision
        self._positions = getattr(model_settings(config, subject.merged), "max_position_embeddings", None)
        self.ends = end_tokens(_generation_config(config, self._source, self._revision), tokenizer)
        self.batch_size = WAVE

    def fit(self, width: int, before: int | None) -> int:
        """Load the model for rows of `width` tokens; vLLM itself queues what its memory does not hold."""
        import vllm

        size = self._config.valid_batch_size or before or WAVE
        self._llm = vllm.LLM(
            model=self._source,
            tokenizer=str(self.tokenizer.name_or_path),
            revision=self._revision,
            dtype=_DTYPES[self._config.test_precision],
            tensor_parallel_size=self._config.tensor_parallel,
            seed=self._config.seed,
            max_model_len=min(width, self._positions or width),
            max_num_seqs=size,
            trust_remote_code=False,
        )
        return size

    def answer(
        self,
        prompts: Sequence[list[int]],
        max_new_tokens: int,
        stop: Callable[[int, list[int]], bool],
        finished: Callable[[], object],
    ) -> list[list[int]]:
        """See `engines.Engine.answer`."""
        import vllm

        tokens = [vllm.TokensPrompt(prompt_token_ids=list(prompt)) for prompt in prompts]
        sampling = [
            vllm.SamplingParams(
                temperature=0.0,
                top_p=1.0,
                max_tokens=longest_answer(len(prompt), max_new_tokens, self._positions),
                stop_token_ids=sorted(self.ends),
                detokenize=False,
            )
            for prompt in prompts
        ]
        answers = []
        for output in self._llm.generate(tokens, sampling, use_tqdm=False):
            answers.append(_tokens(output.outputs[0], self.ends))
            finished()
        return answers


def _tokens(output: Any, ends: frozenset[int]) -> list[int]:
    """Return the new tokens of an answer; one that has ended carries its end token, whether vLLM kept it or not."""
    ids = list(output.token_ids)
    if output.finish_reason == "stop" and not ends.intersection(ids):
        ids.append(min(ends))
    return ids


def _generation_config(config: RunConfig, source: str, revision: str | None) -> Any:
    """Return the model's generation settings, those that its config.json implies where it has no file of them."""
    from transformers import GenerationConfig

    try:
        return GenerationConfig.from_pretrained(source, revision=revision, local_files_only=config.local)
    except OSError:
        return GenerationConfig.from_model_config(model_settings(config, source))
