"""Generation of all answers of a test (paper section 6.2: temperature 0), in batches, the longest prompts first."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from sorsa.evaluation.benchmark import Question
from sorsa.evaluation.completions import Completion, CompletionStore
from sorsa.evaluation.questions import prompts_fingerprint

if TYPE_CHECKING:
    from sorsa.config import RunConfig
    from sorsa.evaluation.engines import Engine
    from sorsa.evaluation.subject import Subject

logger = logging.getLogger(__name__)


def settings(config: RunConfig, questions: list[Question], max_new_tokens: int, subject: Subject) -> dict[str, Any]:
    """Return what determines the answers: model and tokenizer files, prompts, engine, decoding, precision, length.

    Args:
        config: The run.
        questions: All questions, already limited.
        max_new_tokens: Length limit of an answer.
        subject: The model under test.
    """
    return {
        **subject.fingerprint(),
        "engine": config.engine,
        "decoding": config.decoding,
        "precision": config.test_precision,
        "max_new_tokens": max_new_tokens,
        "questions": len(questions),
        "prompts": prompts_fingerprint(questions),
    }


def generate(
    config: RunConfig, questions: list[Question], store: CompletionStore, max_new_tokens: int, subject: Subject
) -> None:
    """Answer every question that the store does not hold yet. Ctrl-C loses the running batch only.

    Args:
        config: Gives engine, decoding, precision, batch size and the model's name.
        questions: All questions.
        store: Receives each batch as it ends.
        max_new_tokens: Length limit of an answer.
        subject: The model under test.

    Raises:
        UsageError: The model or the tokenizer cannot be loaded.
    """
    waiting = [one for one in questions if one.id not in store.done]
    if len(waiting) < len(questions):
        logger.info("%d of %d answers are there already", len(questions) - len(waiting), len(questions))
    if not waiting:
        return
    from sorsa.data.tokenise import prompt_ids
    from sorsa.evaluation.engines import load_engine

    engine = load_engine(config, subject)
    ids = prompt_ids(engine.tokenizer, [one.prompt for one in waiting], start=config.decoding != "authors_rwkv")
    # longest first: a batch size too large for the memory shows at once, and the time left is never underestimated
    order = sorted(zip(ids, waiting, strict=True), key=lambda pair: -len(pair[0]))
    with tqdm(total=len(questions), initial=len(store.done), desc=f"{config.test_dataset}", unit="question") as bar:
        for start in range(0, len(order), engine.batch_size):
            batch = order[start : start + engine.batch_size]
            answers = engine.answer([prompt for prompt, _ in batch], max_new_tokens)
            store.append(_completion(one, new, engine) for (_, one), new in zip(batch, answers, strict=True))
            bar.update(len(batch))


def _completion(question: Question, ids: list[int], engine: Engine) -> Completion:
    """Return one answer from its new tokens: its text up to the end token."""
    stop = next((index for index, token in enumerate(ids) if token in engine.ends), None)
    text = engine.tokenizer.decode(ids[:stop], skip_special_tokens=True)
    return Completion(question.id, text, len(ids) if stop is None else stop + 1, stop is None)
