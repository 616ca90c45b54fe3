"""HumanEval: extraction of code by both rules, and the package's own solutions through the sandbox."""

from __future__ import annotations

import pytest

from sorsa.errors import UsageError
from sorsa.evaluation import humaneval
from sorsa.evaluation.benchmark import NO_ANSWER, Item

PROBLEM = {
    "task_id": "T/0",
    "prompt": 'from typing import List\n\n\ndef total(numbers: List[int]) -> int:\n    """ Sum. """\n',
    "entry_point": "total",
    "test": "def check(candidate):\n    assert candidate([1, 2]) == 3\n    assert candidate([]) == 0\n",
}
WHOLE = PROBLEM["prompt"] + "    return sum(numbers)\n"

# answer, rule ours, rule authors; test_code_extraction.py has all rules of ours
ANSWERS = [
    ("    return sum(numbers)\n", True, True),
    ("return sum(numbers)", True, False),  # as written it does not compile
    (f"Here:\n```python\n{WHOLE}```\nDone.", True, True),
    ("```python\n    return sum(numbers)\n```", True, False),  # their pattern eats the indentation
    (f"```\n{WHOLE}\n```", True, False),
    (f"```python\n{WHOLE}", True, False),
    ("```python\ndef total(numbers):\n    return 3\n```", False, False),
    ("", False, False),
]


def test_both_rules() -> None:
    graded = list(humaneval.grade_all([Item(answer, PROBLEM) for answer, _, _ in ANSWERS]))
    assert [(one["ours"].correct, one["authors"].correct) for one in graded] == [row[1:] for row in ANSWERS]
    assert graded[-1]["ours"].reason == NO_ANSWER and graded[0]["authors"].how is None


def test_canonical_solutions_pass() -> None:
    problems = list(humaneval.problems().values())
    assert len(problems) == 164
    # every ninth, and those whose tests use helpers of the prompt or call the function by name
    chosen = [p for i, p in enumerate(problems) if i % 9 == 0 or i in (10, 32, 33, 38, 50, 162)]
    graded = humaneval.grade_all([Item(p["canonical_solution"], p) for p in chosen])
    failed = [p["task_id"] for p, one in zip(chosen, graded, strict=True) if not one["ours"].correct]
    assert not failed


def test_unknown_task() -> None:
    with pytest.raises(UsageError, match="unknown task_id 'HumanEval/164'"):
        humaneval.item({"task_id": "HumanEval/164", "completion": ""})
