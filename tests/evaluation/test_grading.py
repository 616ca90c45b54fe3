"""`--grade`: rows in order, both kinds of columns, and one clear line for every bad file."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from sorsa.errors import UsageError
from sorsa.evaluation import grade_file


def write(path: Path, *rows: object) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def graded(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_gsm8k(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write(
        tmp_path / "in.jsonl",
        {"completion": "The answer is: 17.8", "gold": "#### 18", "mine": 1},
        {"prediction": "18", "gold": 18},
        {"completion": None, "gold": "18"},
    )
    grade_file(source, "gsm-8k", tmp_path / "ours.jsonl")
    grade_file(source, "gsm-8k", tmp_path / "authors.jsonl", rule="authors")
    ours, authors = graded(tmp_path / "ours.jsonl"), graded(tmp_path / "authors.jsonl")
    assert [row["correct"] for row in ours] == [False, True, False]
    assert [row["correct"] for row in authors] == [True, True, False]
    assert [row["verdicts"]["authors"]["correct"] for row in ours] == [True, True, False]  # both, whichever counts
    assert ours[0]["mine"] == 1 and ours[0]["extracted"] == "17.8" and ours[2]["reason"] == "no answer"
    assert "gsm-8k, rule ours: 33.33% (1/3, 95% interval" in capsys.readouterr().out


def test_math(tmp_path: Path) -> None:
    source = write(
        tmp_path / "in.jsonl",
        {"completion": "The answer is: x/2", "gold": r"so $\boxed{3}$"},
        {"completion": "The answer is: 3", "gold": "3"},
    )
    grade_file(source, "math", tmp_path / "out.jsonl", rule="authors")
    assert [row["correct"] for row in graded(tmp_path / "out.jsonl")] == [True, True]
    grade_file(source, "math", tmp_path / "out.jsonl")
    assert [row["correct"] for row in graded(tmp_path / "out.jsonl")] == [False, True]


def test_humaneval_needs_consent(tmp_path: Path) -> None:
    row = {"task_id": "HumanEval/53", "completion": "    return x + y\n"}
    source = write(tmp_path / "in.jsonl", row, {**row, "completion": "    return x - y\n"})
    with pytest.raises(UsageError, match="--allow-code-execution"):
        grade_file(source, "humaneval", tmp_path / "out.jsonl")
    grade_file(source, "humaneval", tmp_path / "out.jsonl", allow_code_execution=True)
    assert [one["correct"] for one in graded(tmp_path / "out.jsonl")] == [True, False]


GOOD = {"completion": "The answer is: 1", "gold": "1"}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ((), "is empty"),
        ((GOOD,) * 6 + ("{broken",), r"line 7: not JSON"),
        ((GOOD, "[1]"), "line 2: expected a JSON object, got list"),
        ((GOOD, {"completion": "x"}), "line 2: needs the column `gold`; the row has completion"),
        ((GOOD, {"gold": "1"}), "line 2: needs `completion`"),
        ((GOOD, {"completion": [], "gold": "1"}), "line 2: the column 'completion' must hold text, got list"),
        ((GOOD, {"completion": "", "gold": "many"}), "line 2: the gold answer 'many' holds no number"),
    ],
)
def test_bad_files(tmp_path: Path, rows: tuple, message: str) -> None:
    source = write(tmp_path / "in.jsonl", *rows)
    with pytest.raises(UsageError, match=message):
        grade_file(source, "gsm-8k", tmp_path / "out.jsonl")
    assert not (tmp_path / "out.jsonl").exists()


def test_bad_arguments(tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", GOOD)
    with pytest.raises(UsageError, match="Did you mean 'gsm-8k'"):
        grade_file(source, "gsm8k", tmp_path / "out.jsonl")
    with pytest.raises(UsageError, match="unknown grading rule 'our'"):
        grade_file(source, "math", tmp_path / "out.jsonl", rule="our")
    with pytest.raises(UsageError, match="--grade needs answers in words, and lm-eval:piqa has none"):
        grade_file(source, "lm-eval:piqa", tmp_path / "out.jsonl")
    with pytest.raises(UsageError, match="is the file to grade"):
        grade_file(source, "math", source)
    with pytest.raises(UsageError, match="cannot read"):
        grade_file(tmp_path / "none.jsonl", "math", tmp_path / "out.jsonl")


def test_import_is_light() -> None:
    code = "import sys, sorsa.evaluation; print([m for m in ('torch', 'sympy', 'transformers') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
