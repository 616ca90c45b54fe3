"""The answers of tested runs, question by question, for the page that shows two runs side by side.

Texts come from run folders (results/DATASET.jsonl); a record that was read from a file has the verdicts alone. The page
is one file, so texts are capped; what is left out is counted, and the page says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sorsa.evaluation.result_files import read_graded_rows
from sorsa.evaluation.terminal import gold_text
from sorsa.report.measures import questions_of
from sorsa.report.records import BASE, result_files

QUESTIONS = 500  # whose texts are kept, of each test: MATH-500 and HumanEval whole, of GSM-8K enough to read in
CHARACTERS = 4000  # of one answer: the longest useful ones have about 2000 tokens of HumanEval or MATH
MOST = 20_000_000  # characters of all answers: a page that a browser still opens at once


def collect_answers(records: Sequence[dict[str, Any]], folders: Mapping[int, Path]) -> dict[str, Any]:
    """Return everything that the page shows of single questions.

    Args:
        records: All.
        folders: Index of a record -> its run folder, where it was read from one.

    Returns:
        limits      the caps, and in `without_texts` how many tests lost their texts to the last of them
        questions   {key: {"texts": [question], "gold": [text]}} where they are known
        benchmarks  {name: [{"run", "questions" (the key), "correct" ("0110..."),
                    "answers" ([[text, what was read in it, whether it was cut]], or null)}]}
    """
    questions: dict[str, dict[str, list[str]]] = {}
    benchmarks: dict[str, list[dict[str, Any]]] = {}
    used = left_out = 0
    for index, record in enumerate(records):
        files = result_files(folders[index], record["comparison"]) if index in folders else []
        rows_of = {file.stem: file.with_suffix(".jsonl") for file in files}
        for stem, verdicts in record["verdicts"].items():
            key = questions_of(record, stem)
            test = {"run": _label(record, stem), "questions": key, "correct": verdicts["correct"], "answers": None}
            if stem in rows_of:
                rows = list(read_graded_rows(rows_of[stem]).values())[:QUESTIONS]
                answers = [_answer(row) for row in rows]
                size = sum(len(text) for text, _, _ in answers)
                if used + size <= MOST:
                    test["answers"], used = answers, used + size
                    questions.setdefault(key, _questions(rows))
                else:
                    left_out += 1
            benchmarks.setdefault(stem.removeprefix(BASE), []).append(test)
    limits = {"questions": QUESTIONS, "characters": CHARACTERS, "without_texts": left_out}
    return {"limits": limits, "questions": questions, "benchmarks": benchmarks}


def _label(record: dict[str, Any], stem: str) -> str:
    """Return how a test is called among those of its benchmark."""
    where = f"{record['comparison']}: " if record["comparison"] else ""
    return f"{where}{record['name']}" + (", its base model" if stem.startswith(BASE) else "")


def _answer(row: dict[str, Any]) -> list[Any]:
    """Return an answer's text, what the grader read in it, and whether it was cut for the page."""
    text, read = row["completion"], row.get("extracted")
    return [text[:CHARACTERS], None if read is None else str(read)[:CHARACTERS], len(text) > CHARACTERS]


def _questions(rows: Sequence[dict[str, Any]]) -> dict[str, list[str]]:
    """Return the questions of a test, without the words that all of its prompts share, and their gold answers."""
    prompts = [str(row.get("prompt") or row["id"]) for row in rows]
    start, end = _shared(prompts)
    texts = [prompt[start : len(prompt) - end].strip()[:CHARACTERS] for prompt in prompts]
    return {"texts": texts, "gold": [gold_text(row.get("gold"), CHARACTERS) for row in rows]}


def _shared(prompts: Sequence[str]) -> tuple[int, int]:
    """Return how many characters of whole lines all prompts have in common at their beginning and at their end."""
    if len(prompts) < 2:
        return 0, 0
    start = _common(prompts).rfind("\n") + 1
    return start, _common([prompt[start:][::-1] for prompt in prompts]).rfind("\n") + 1


def _common(texts: Sequence[str]) -> str:
    """Return the longest beginning that all texts share."""
    length = next((n for n, letters in enumerate(zip(*texts, strict=False)) if len(set(letters)) > 1), None)
    return texts[0][:length] if length is not None else min(texts, key=len)
