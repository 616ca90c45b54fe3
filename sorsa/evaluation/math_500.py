"""MATH-500: the 500 problems of MATH that Lightman et al. 2023 (arXiv 2305.20050) held out; graded as MATH is.

With `--test-file` the same rows from a local file. The gold answer is the solution's `\\boxed{}`; where a solution has
none, the column `answer`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sorsa.evaluation.benchmark import Question
from sorsa.evaluation.extraction import last_boxed
from sorsa.evaluation.math import MAX_NEW_TOKENS, RUNS_CODE, complete, grade_all, item
from sorsa.evaluation.questions import first_rows, hub_rows, require_text

if TYPE_CHECKING:
    from sorsa.config import RunConfig

__all__ = ["HUB_ID", "MAX_NEW_TOKENS", "RUNS_CODE", "complete", "grade_all", "item", "load"]

HUB_ID = "HuggingFaceH4/MATH-500"


def load(config: RunConfig) -> list[Question]:
    """Return the test questions, from the hub or from `config.test_file` (columns problem, solution, answer).

    Raises:
        UsageError: The file or the hub cannot be read, or a row lacks a column.
    """
    from sorsa.data.prompts import math_test_prompt

    questions: list[Question] = []
    for where, row in first_rows(config, hub_rows(config, HUB_ID, "default")):
        problem = require_text(row, "problem", where)
        boxed = isinstance(row.get("solution"), str) and last_boxed(row["solution"])
        gold = row["solution"] if boxed else require_text(row, "answer", where)
        questions.append(Question(str(len(questions)), math_test_prompt(problem), gold))
    return questions
