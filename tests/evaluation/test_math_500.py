"""MATH-500 from a local file: MATH's grader, with the answer column where a solution has no boxed answer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sorsa.config import RunConfig
from sorsa.errors import UsageError
from sorsa.evaluation import find_benchmark, math
from sorsa.evaluation.benchmark import Item

ROWS = [
    {"problem": "One half?", "solution": r"It is $\boxed{\frac12}$.", "answer": r"\frac12"},
    {"problem": "Two?", "solution": "Two.", "answer": "2"},
    {"problem": "Three?", "answer": "3"},
]


def load(path: Path, *rows: dict, **settings: object) -> list:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return find_benchmark("math-500").load(RunConfig(test_file=str(path), **settings))


def test_gold_answers(tmp_path: Path) -> None:
    questions = load(tmp_path / "rows.jsonl", *ROWS)
    assert [one.gold for one in questions] == [ROWS[0]["solution"], "2", "3"]
    assert "One half?" in questions[0].prompt and questions[0].prompt.endswith("Let's think step by step.")
    module = find_benchmark("math-500")
    answers = ["The answer is: 0.5", "The answer is: 2", "The answer is: 4"]
    graded = module.grade_all([Item(text, one.gold) for text, one in zip(answers, questions, strict=True)])
    assert [one["ours"].correct for one in graded] == [True, True, False]
    assert module.grade_all is math.grade_all and module.HUB_ID == "HuggingFaceH4/MATH-500"


def test_limit(tmp_path: Path) -> None:
    assert len(load(tmp_path / "rows.jsonl", *ROWS, limit=2)) == 2


def test_missing_columns(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"line 1: the column 'answer' must hold text; the row has problem"):
        load(tmp_path / "rows.jsonl", {"problem": "x"})
    with pytest.raises(UsageError, match=r"line 1: the column 'problem' must hold text"):
        load(tmp_path / "rows.jsonl", {"answer": "x"})
