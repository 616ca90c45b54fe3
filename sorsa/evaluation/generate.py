"""Generation of all answers of a test (paper section 6.2: temperature 0), wave by wave (`waves.py`)."""

from __future__ import annotations

import gc
import logging
from dataclasses import dataclass
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
    from sorsa.evaluation.engines import Engine
    from sorsa.evaluation.processes import Processes
    from sorsa.evaluation.subject import Subject

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """What is to be answered, by whom and how.

    `config` gives engine, decoding, precision, batch size and the model's name; `questions` are all, already limited;
    `max_new_tokens` limits an answer; `rule` says where one is complete, None for the end token only.
    """

    config: RunConfig
    questions: list[Question]
    max_new_tokens: int
    subject: Subject
    rule: Rule | None


def settings(job: Job) -> dict[str, Any]:
    """Return what determines the answers: model and tokenizer files, prompts, engine, decoding, precision, length, end.

    Args:
        job: Questions, model and settings.
    """
    return {
        **job.subject.fingerprint(),
        "engine": job.config.engine,
        "decoding": job.config.decoding,
        "precision": job.config.test_precision,
        "max_new_tokens": job.max_new_tokens,
        "stop_at_answer": job.rule is not None,
        "wave": waves.WAVE,
        "questions": len(job.questions),
        "prompts": prompts_fingerprint(job.questions),
    }


def generate(job: Job, store: CompletionStore, processes: Processes) -> frozenset[str]:
    """Answer every question that the store does not hold yet; an interruption loses the running wave only.

    Args:
        job: Questions, model and settings.
        store: Receives each wave as it ends; in the process of rank 0 it holds all answers afterwards.
        processes: Those that share the test.

    Returns:
        The ids of the questions whose answers were there already.

    Raises:
        UsageError: The model or the tokenizer cannot be loaded, or the memory is too small.
    """
    reused = frozenset(one.id for one in job.questions)
    if any(name not in store.done for name in reused):
        test = _Test(job, store, processes)
        reused = test.reused
        test.run()
    processes.wait()
    if processes.rank == 0:
        store.finish([one.id for one in job.questions])
    return reused


def completion(engine: Engine, rule: Rule | None, question: Question, ids: list[int]) -> Completion:
    """Return one answer from its new tokens: its text up to the end token, or to where it is complete.

    Args:
        engine: Gives the tokenizer and the end tokens.
        rule: Where an answer is complete; None for the end token only.
        question: What was asked.
        ids: The tokens after the prompt.
    """
    stop = next((index for index, token in enumerate(ids) if token in engine.ends), None)
    text = engine.tokenizer.decode(ids[:stop], skip_special_tokens=True)
    tokens = len(ids) if stop is None else stop + 1
    counts = rule(text, question) if rule else None
    if counts is not None:
        return Completion(question.id, text[:counts], tokens, False, "answer")
    return Completion(question.id, text, tokens, stop is None, "length" if stop is None else "end token")


class _Test:
    """The questions of one test in waves, and the engine that answers them."""

    def __init__(self, job: Job, store: CompletionStore, processes: Processes) -> None:
        """Cut the waves, load the engine, and agree on the batch size with the other processes."""
        from sorsa.data.tokenise import prompt_ids
        from sorsa.evaluation.engines import load_engine

        self._job, self._store, self._rank = job, store, processes.rank
        config, questions = job.config, job.questions
        tokenizer = job.subject.load_tokenizer()
        prompts = [one.prompt for one in questions]
        self._prompts = prompt_ids(tokenizer, prompts, start=config.decoding != "authors_rwkv")
        cut = waves.cut([len(prompt) for prompt in self._prompts])
        complete = [wave for wave in cut if all(questions[index].id in store.done for index in wave)]
        self._mine = [wave for wave in cut[processes.rank :: processes.world] if wave not in complete]
        self.reused = frozenset(questions[index].id for wave in complete for index in wave)
        if self.reused:
            logger.info("%d of %d answers are there already", len(self.reused), len(questions))
        self._engine = load_engine(config, job.subject, tokenizer)
        found = self._engine.fit(max(map(len, self._prompts)) + job.max_new_tokens, store.batch_size)
        self._engine.batch_size = processes.smallest(found)  # which waits: everybody has read the store now
        if processes.rank == 0:
            store.begin(self.reused, self._engine.batch_size)
        processes.wait()  # the parts of an interrupted run are in the file, new ones may be written

    def run(self) -> None:
        """Answer this process's waves."""
        total = sum(map(len, self._mine))
        with tqdm(total=total, desc=self._job.config.test_dataset, unit="question", disable=self._rank > 0) as bar:
            for wave in self._mine:
                while (answers := self._answer(wave, bar)) is None:
                    self._engine.batch_size = smaller(self._job.config, self._engine.batch_size)
                    self._store.record(self._engine.batch_size)
                self._store.append(
                    completion(self._engine, self._job.rule, self._job.questions[index], new)
                    for index, new in zip(wave, answers, strict=True)
                )

    def _answer(self, wave: list[int], bar: tqdm[Any]) -> list[list[int]] | None:
        """Return the new tokens of each question, None where the memory is too small."""
        watch = AnswerWatch(self._engine.tokenizer, self._job.rule, [self._job.questions[index] for index in wave])
        prompts, before = [self._prompts[index] for index in wave], bar.n
        try:
            return self._engine.answer(prompts, self._job.max_new_tokens, watch, bar.update)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            bar.update(before - bar.n)
        gc.collect()  # after the exception, whose frames hold the tensors
        torch.cuda.empty_cache()
        return None
