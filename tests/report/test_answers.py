"""The answers for the page: texts where a run folder has them, capped, and verdicts of everything."""

from __future__ import annotations

from pathlib import Path

import pytest

from sorsa.report import answers
from sorsa.report.answers import collect_answers
from sorsa.report.sources import gather
from tests.report import conftest as made


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run that was tested, and its base model."""
    run = made.write_run(tmp_path / "runs", "a")
    made.write_test(run, "011", answers=["first"])
    made.write_test(run, "000", kind="base")
    return run


def test_texts_of_a_run_folder(run: Path, tmp_path: Path) -> None:
    sources = gather(tmp_path / "runs", [])
    found = collect_answers(sources.records, sources.folders)
    assert list(found["benchmarks"]) == ["gsm-8k"]
    base, merged = found["benchmarks"]["gsm-8k"]
    assert (base["run"], merged["run"]) == ("a, its base model", "a")
    assert merged["correct"] == "011" and merged["answers"][0] == ["first", "0", False]
    assert merged["questions"] == base["questions"]
    questions = found["questions"][merged["questions"]]
    assert questions["texts"] == ["How many is 0?", "How many is 1?", "How many is 2?"]  # without what all share
    assert questions["gold"] == ["#### 0", "#### 1", "#### 2"]


def test_records_alone_have_verdicts_only(run: Path, tmp_path: Path) -> None:
    found = collect_answers(gather(tmp_path / "runs", []).records, {})
    assert [test["answers"] for test in found["benchmarks"]["gsm-8k"]] == [None, None]
    assert found["questions"] == {} and found["limits"]["without_texts"] == 0


def test_questions_of_two_benchmarks_are_told_apart(run: Path, tmp_path: Path) -> None:
    """Their ids are the same: both count from 0."""
    made.write_test(run, "110", dataset="math")
    sources = gather(tmp_path / "runs", [])
    found = collect_answers(sources.records, sources.folders)
    keys = {test["questions"] for tests in found["benchmarks"].values() for test in tests}
    assert len(keys) == 2 and keys == found["questions"].keys()


def test_caps(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "QUESTIONS", 2)
    monkeypatch.setattr(answers, "CHARACTERS", 3)
    monkeypatch.setattr(answers, "MOST", 10)  # characters: one of the two tests has 6
    sources = gather(tmp_path / "runs", [])
    found = collect_answers(sources.records, sources.folders)
    base, merged = found["benchmarks"]["gsm-8k"]
    assert base["answers"] == [["a s", "0", True], ["a s", "1", True]]
    assert merged["answers"] is None and merged["correct"] == "011"
    assert found["limits"] == {"questions": 2, "characters": 3, "without_texts": 1}


def test_comparisons_are_told_apart(tmp_path: Path) -> None:
    made.fill_comparison(tmp_path, ["mini_lora"], seeds=1)
    sources = gather(tmp_path, [])
    names = [test["run"] for test in collect_answers(sources.records, sources.folders)["benchmarks"]["gsm-8k"]]
    assert names == ["mini: mini_lora-lr0.004-seed0, its base model", "mini: mini_lora-lr0.004-seed0"]


def test_one_question_is_shown_whole(tmp_path: Path) -> None:
    made.write_test(tmp_path / "a", "1")
    sources = gather(tmp_path, [])
    (questions,) = collect_answers(sources.records, sources.folders)["questions"].values()
    assert questions["texts"][0].startswith("Do it.")
