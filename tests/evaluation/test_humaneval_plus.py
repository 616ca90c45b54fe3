"""HumanEval+ from a local file: tests that need numpy, lists of a million numbers, grading with --test-file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sorsa.errors import UsageError
from sorsa.evaluation import find_benchmark, grade_file, humaneval_plus
from sorsa.evaluation.benchmark import Item

# of the data set's shape: helpers, a list of inputs, results or a reference solution
HELPERS = """
import numpy as np

def floating(x):
    return isinstance(x, float) or (isinstance(x, (list, tuple)) and all(isinstance(i, float) for i in x))

def compare(out, exp, tolerance):
    if tolerance == 0 and floating(exp):
        tolerance = 1e-6
    if out != exp and tolerance != 0:
        np.testing.assert_allclose(out, exp, rtol=1e-7, atol=tolerance)
    else:
        assert out == exp
"""
MEAN = {
    "task_id": "HumanEval/4",
    "prompt": 'from typing import List\n\n\ndef mean(xs: List[float]) -> float:\n    """ Mean. """\n',
    "entry_point": "mean",
    "canonical_solution": "    return sum(xs) / len(xs)\n",
    "test": HELPERS
    + "\ndef check(candidate):\n    inputs = [[[1.0, 2.0]], [[0.1, 0.2, 0.3]]]\n    results = [1.5, 0.2]\n"
    + "    for i, (inp, exp) in enumerate(zip(inputs, results)):\n        compare(candidate(*inp), exp, 0)\n",
}
COUNT = {
    "task_id": "HumanEval/15",
    "prompt": 'def count(n):\n    """ The halves of the numbers up to n. """\n',
    "entry_point": "count",
    "canonical_solution": "    return [k / 2 for k in range(n + 1)]\n",
    "test": HELPERS
    + "\ndef reference(n):\n    return [k * 0.5 for k in range(n + 1)]\n"
    + "\ndef check(candidate):\n    inputs = [[0], [3], [1000000]]\n"
    + "    for i, inp in enumerate(inputs):\n        compare(candidate(*inp), reference(*inp), 0)\n",
}


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    file = tmp_path / "plus.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in (MEAN, COUNT)))
    return file


def test_load(questions: Path, tiny_config: Callable[..., Any]) -> None:
    config = tiny_config(test_dataset="humaneval+", test_file=str(questions))
    found = find_benchmark("humaneval+").load(config)
    assert [one.id for one in found] == ["HumanEval/4", "HumanEval/15"] and found[0].gold["test"] == MEAN["test"]
    with pytest.raises(UsageError, match=r"cannot load the test questions 'evalplus/humanevalplus' .*--test-file"):
        humaneval_plus.load(tiny_config(test_dataset="humaneval+", local=True))


def test_tests_with_numpy_and_long_lists() -> None:
    answers = [(row["canonical_solution"], row) for row in (MEAN, COUNT)]
    answers += [("    return sum(xs) / len(xs) + 1e-9\n", MEAN), ("    return sum(xs) / len(xs) + 1e-3\n", MEAN)]
    answers += [("    return [k / 2 for k in range(n + 1)][:999999] + [1.0]\n", COUNT)]
    verdicts = list(humaneval_plus.grade_all([Item(text, row) for text, row in answers]))
    assert [one["ours"].correct for one in verdicts] == [True, True, True, False, False], verdicts


def test_grading_a_file(questions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    rows = [
        {"task_id": "HumanEval/4", "completion": text} for text in ("    return sum(xs) / len(xs)\n", "    return 0\n")
    ]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    grade_file(source, "humaneval+", output, allow_code_execution=True, test_file=str(questions))
    graded = [json.loads(line) for line in output.read_text().splitlines()]
    assert [row["correct"] for row in graded] == [True, False] and graded[0]["how"] == "no fence: body"
    assert "sandbox: " in capsys.readouterr().out


def test_the_command_line_grades_with_a_test_file(questions: Path, tmp_path: Path) -> None:
    from sorsa.cli import main

    source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text(json.dumps({"task_id": "HumanEval/15", "completion": COUNT["canonical_solution"]}) + "\n")
    words = ["--grade", str(source), "--test-dataset", "humaneval+", "--output", str(output), "--allow-code-execution"]
    assert main(words) == 2 and not output.exists()
    assert main([*words, "--test-file", str(questions)]) == 0
    assert json.loads(output.read_text())["correct"]


def test_what_is_missing_is_said(questions: Path, tmp_path: Path) -> None:
    source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text(json.dumps({"task_id": "HumanEval/5", "completion": ""}) + "\n")
    with pytest.raises(UsageError, match=r"humaneval\+ needs its tests to grade a file: --test-file FILE"):
        grade_file(source, "humaneval+", output, allow_code_execution=True)
    with pytest.raises(UsageError, match=r"line 1: unknown task_id 'HumanEval/5'; not one of .*plus.jsonl"):
        grade_file(source, "humaneval+", output, allow_code_execution=True, test_file=str(questions))
    with pytest.raises(UsageError, match="--test-file does not go with --grade and gsm-8k"):
        grade_file(source, "gsm-8k", output, test_file=str(questions))
    with pytest.raises(UsageError, match="cannot read"):
        grade_file(source, "humaneval+", output, allow_code_execution=True, test_file=str(tmp_path / "none.jsonl"))
