"""Generation of all answers of a test (paper section 6.2: temperature 0), wave by wave (`waves.py`)."""

from __future__ import annotations

import gc
import logging
from typing import TYPE_CHECKING, Any

import torch
from tqdm import tqdm

from sorsa.evaluation import waves
from sorsa.evaluation.batch_size import out_of_memory, smaller
from sorsa.evaluation.benchmark import Question
from sorsa.evaluation.completions import Completion, CompletionStore
from sorsa.evaluation.questions import prompts_fingerprint
from sorsa.evaluation.stopping import AnswerWatch, Rule

if TYPE_CHECKING:
    from sorsa.config import RunConfig
    from sorsa.evaluation.processes import Processes
    from sorsa.evaluation.subject import Subject

logger = logging.getLogger(__name__)


def settings(
    config: RunConfig, questions: list[Question], max_new_tokens: int, subject: Subject, rule: Rule | None
) -> dict[str, Any]:
    """Return what determines the answers: model and tokenizer files, prompts, engine, decoding, precision, length, end.

    Args:
        config: The run.
        questions: All questions, already limited.
        max_new_tokens: Length limit of an answer.
        subject: The model under test.
        rule: Where an answer is complete; None for the end token only.
    """
    return {
        **subject.fingerprint(),
        "engine": config.engine,
        "decoding": config.decoding,
        "precision": config.test_precision,
        "max_new_tokens": max_new_tokens,
        "stop_at_answer": rule is not None,
        "wave": waves.WAVE,
        "questions": len(questions),
        "prompts": prompts_fingerprint(questions),
    }


def generate(
    config: RunConfig,
    questions: list[Question],
    store: CompletionStore,
    max_new_tokens: int,
    subject: Subject,
    rule: Rule | None,
    processes: Processes,
) -> frozenset[str]:
    """Answer every question that the store does not hold yet; an interruption loses the running wave only.

    Args:
        config: Gives engine, decoding, precision, batch size and the model's name.
        questions: All questions.
        store: Receives each wave as it ends; in the process of rank 0 it holds all answers afterwards.
        max_new_tokens: Length limit of an answer.
        subject: The model under test.
        rule: Where an answer is complete; None for the end token only.
        processes: Those that share the test.

    Returns:
        The ids of the questions whose answers were there already.

    Raises:
        UsageError: The model or the tokenizer cannot be loaded, or the memory is too small.
    """
    reused = frozenset(one.id for one in questions)
    if any(name not in store.done for name in reused):
        test = _Test(config, questions, store, max_new_tokens, subject, rule, processes)
        reused = test.reused
        test.run()
    processes.wait()
    if processes.rank == 0:
        store.finish([one.id for one in questions])
    return reused


class _Test:
    """The questions of one test in waves, and the engine that answers them."""

    def __init__(
        self,
        config: RunConfig,
        questions: list[Question],
        store: CompletionStore,
        max_new_tokens: int,
        subject: Subject,
        rule: Rule | None,
        processes: Processes,
    ) -> None:
        """Cut the waves, load the engine, and agree on the batch size with the other processes."""
        from sorsa.data.tokenise import prompt_ids
        from sorsa.evaluation.engines import load_engine

        self._config, self._questions, self._store, self._rule = config, questions, store, rule
        self._max_new_tokens, self._rank = max_new_tokens, processes.rank
        tokenizer = subject.load_tokenizer()
        prompts = [one.prompt for one in questions]
        self._prompts = prompt_ids(tokenizer, prompts, start=config.decoding != "authors_rwkv")
        cut = waves.cut([len(prompt) for prompt in self._prompts])
        complete = [wave for wave in cut if all(questions[index].id in store.done for index in wave)]
        self._mine = [wave for wave in cut[processes.rank :: processes.world] if wave not in complete]
        self.reused = frozenset(questions[index].id for wave in complete for index in wave)
        if self.reused:
            logger.info("%d of %d answers are there already", len(self.reused), len(questions))
        self._engine = load_engine(config, subject, tokenizer)
        found = self._engine.fit(max(map(len, self._prompts)) + max_new_tokens, store.batch_size)
        self._engine.batch_size = processes.smallest(found)  # which waits: everybody has read the store now
        if processes.rank == 0:
            store.begin(self.reused, self._engine.batch_size)
        processes.wait()  # the parts of an interrupted run are in the file, new ones may be written

    def run(self) -> None:
        """Answer this process's waves."""
        total = sum(map(len, self._mine))
        name = f"{self._config.test_dataset}"
        with tqdm(total=total, desc=name, unit="question", disable=self._rank > 0) as bar:
            for wave in self._mine:
                while (answers := self._answer(wave, bar)) is None:
                    self._engine.batch_size = smaller(self._config, self._engine.batch_size)
                    self._store.record(self._engine.batch_size)
                pairs = zip(wave, answers, strict=True)
                self._store.append(self._completion(self._questions[index], new) for index, new in pairs)

    def _answer(self, wave: list[int], bar: tqdm[Any]) -> list[list[int]] | None:
        """Return the new tokens of each question, None where the memory is too small."""
        watch = AnswerWatch(self._engine.tokenizer, self._rule, [self._questions[index] for index in wave])
        prompts, before = [self._prompts[index] for index in wave], bar.n
        try:
            return self._engine.answer(prompts, self._max_new_tokens, watch, bar.update)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            bar.update(before - bar.n)
        gc.collect()  # after the exception, whose frames hold the tensors
        torch.cuda.empty_cache()
        return None

    def _completion(self, question: Question, ids: list[int]) -> Completion:
        """Return one answer from its new tokens: its text up to the end token, or to where it is complete."""
        stop = next((index for index, token in enumerate(ids) if token in self._engine.ends), None)
        text = self._engine.tokenizer.decode(ids[:stop], skip_special_tokens=True)
        tokens = len(ids) if stop is None else stop + 1
        counts = self._rule(text, question) if self._rule else None
        if counts is not None:
            return Completion(question.id, text[:counts], tokens, False, "answer")
        return Completion(question.id, text, tokens, stop is None, "length" if stop is None else "end token")
