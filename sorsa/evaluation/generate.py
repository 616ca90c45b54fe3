"""Greedy generation with Hugging Face `generate` (paper section 6.2: temperature 0): batched, longest prompts first."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from sorsa.evaluation.benchmark import Question
from sorsa.evaluation.completions import Completion, CompletionStore, fingerprint, model_fingerprint

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from sorsa.config import RunConfig

logger = logging.getLogger(__name__)


def settings(config: RunConfig, questions: list[Question], max_new_tokens: int, folder: Path | None) -> dict[str, Any]:
    """Return what determines the answers: model and tokenizer files, prompts, precision, length (not the batch size).

    Args:
        config: The run.
        questions: All questions, already limited.
        max_new_tokens: Length limit of an answer.
        folder: The merged model, or a base model's directory; None for a base model from the hub.
    """
    model = model_fingerprint(folder) if folder else {"hub": config.model, "revision": config.revision}
    tokenizer = Path(config.tokenizer) if config.tokenizer and not (folder and not config.base) else None
    return {
        "model": model,
        "tokenizer": model_fingerprint(tokenizer) if tokenizer and tokenizer.is_dir() else str(tokenizer or ""),
        "precision": config.test_precision,
        "max_new_tokens": max_new_tokens,
        "questions": len(questions),
        "prompts": fingerprint({"prompts": [(one.id, one.prompt) for one in questions]}),
    }


def generate(
    config: RunConfig, questions: list[Question], store: CompletionStore, max_new_tokens: int, path: Path | None
) -> None:
    """Answer every question that the store does not hold yet. Ctrl-C loses the running batch only.

    Args:
        config: Gives precision, batch size and the model's name.
        questions: All questions.
        store: Receives each batch as it ends.
        max_new_tokens: Length limit of an answer.
        path: The merged model's directory; None loads the base model of the config.

    Raises:
        UsageError: The model or the tokenizer cannot be loaded.
    """
    waiting = [one for one in questions if one.id not in store.done]
    if len(waiting) < len(questions):
        logger.info("%d of %d answers are there already", len(questions) - len(waiting), len(questions))
    if not waiting:
        return
    import torch

    from sorsa.data.tokenise import prompt_ids
    from sorsa.models import device, load_base_model, load_tokenizer

    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[config.test_precision]
    tokenizer = load_tokenizer(config, path)
    model = load_base_model(config, dtype, path).to(device()).eval()
    _make_greedy(model, tokenizer)
    # longest first: a batch size too large for the memory shows at once, and the time left is never underestimated
    order = sorted(
        zip(prompt_ids(tokenizer, [one.prompt for one in waiting]), waiting, strict=True), key=lambda p: -len(p[0])
    )
    with tqdm(total=len(questions), initial=len(store.done), desc=f"{config.test_dataset}", unit="question") as bar:
        for start in range(0, len(order), config.valid_batch_size):
            batch = order[start : start + config.valid_batch_size]
            new_ids = _generate_batch(model, [ids for ids, _ in batch], max_new_tokens)
            store.append(_completion(one, ids, model, tokenizer) for (_, one), ids in zip(batch, new_ids, strict=True))
            bar.update(len(batch))


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


def _generate_batch(model: PreTrainedModel, prompts: list[list[int]], max_new_tokens: int) -> list[list[int]]:
    """Return the new token ids of each prompt; the batch ends when every row has, and ids after an end are padding."""
    import torch

    width = max(map(len, prompts))
    limit = getattr(model.config, "max_position_embeddings", None)
    if limit:  # beyond its positions a model writes noise; other engines stop there too
        max_new_tokens = max(1, min(max_new_tokens, limit - width))
    pad = model.generation_config.pad_token_id
    rows = [[pad] * (width - len(ids)) + ids for ids in prompts]
    mask = [[0] * (width - len(ids)) + [1] * len(ids) for ids in prompts]
    with torch.inference_mode():
        output: torch.Tensor = model.generate(  # (batch, width + new tokens)
            torch.tensor(rows, device=model.device),
            attention_mask=torch.tensor(mask, device=model.device),
            max_new_tokens=max_new_tokens,
        )
    return output[:, width:].tolist()


def _completion(
    question: Question, ids: list[int], model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> Completion:
    ends = model.generation_config.eos_token_id or []
    stop = next((index for index, token in enumerate(ids) if token in ends), None)
    text = tokenizer.decode(ids[:stop], skip_special_tokens=True)
    return Completion(question.id, text, len(ids) if stop is None else stop + 1, stop is None)
