"""From a setting to rows: columns, splits, every way a training set can be wrong, and the cache."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sorsa.data import loading
from sorsa.data.loading import load_rows
from sorsa.data.recipe import recipe
from sorsa.errors import UsageError

MATH = [{"query": f"q{n}", "response": f"r{n}", "type": n if n % 2 else str(n)} for n in range(10)]


def test_columns_decide_the_prompt(settings: Callable, rows_file: Callable) -> None:
    rows, found = load_rows(settings(rows_file(MATH)))
    assert found == recipe("metamath")
    assert rows.column_names == ["query", "response"] and len(rows) == 10  # `type` is of mixed types, and not needed
    code = rows_file([{"query": "q", "answer": "a", "lang": "python"}], "code.jsonl")
    rows, found = load_rows(settings(code))
    assert found == recipe("code")
    assert rows[0] == {"query": "q", "answer": "a"}


@pytest.mark.parametrize(
    ("split", "queries"), [("[:3]", ["q0", "q1", "q2"]), ("[8:]", ["q8", "q9"]), ("[4:6]", ["q4", "q5"])]
)
def test_splits(settings: Callable, rows_file: Callable, split: str, queries: list[str]) -> None:
    rows, _ = load_rows(settings(rows_file(MATH), split=split))
    assert list(rows["query"]) == queries


def test_a_split_reads_no_further_than_it_goes(settings: Callable, rows_file: Callable) -> None:
    path = rows_file(MATH)
    path.write_text(path.read_text(encoding="utf-8") + "broken\n", encoding="utf-8")
    assert len(load_rows(settings(path, split="[:10]"))[0]) == 10
    with pytest.raises(UsageError, match=r"rows.jsonl: line 11 is not JSON"):
        load_rows(settings(path))


def test_a_split_longer_than_the_data_says_so(
    settings: Callable, rows_file: Callable, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        rows, _ = load_rows(settings(rows_file(MATH), split="[:100000]"))
    assert len(rows) == 10
    assert "rows.jsonl has only 10 rows" in caplog.text


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], r"rows.jsonl: no rows in it"),
        ([{"question": "q", "answer": "a"}], r"lacks a column: needs query and response \(as metamath\), or query and "
         r"answer \(as code\); found question, answer"),
        ([*MATH, {"query": "q"}], r"rows.jsonl: line 11 lacks the column 'response'; found query"),
        ([*MATH, {"query": "q", "response": " \n"}], r"line 11: 'response' is empty; remove the row or fill it in"),
        ([*MATH, {"query": "", "response": "r"}], r"line 11: 'query' is empty"),
        ([*MATH, {"query": "q", "response": None}], r"line 11: 'response' must be text, not NoneType"),
        ([*MATH, {"query": "q", "response": 5}], r"line 11: 'response' must be text, not int"),
        ([*MATH, {"query": "q", "response": "\ud83d"}], r"line 11: 'response' holds half of a surrogate pair"),
    ],
)  # fmt: skip
def test_bad_files(settings: Callable, rows_file: Callable, rows: list[Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_rows(settings(rows_file(rows)))


def test_a_split_after_the_last_row(settings: Callable, rows_file: Callable) -> None:
    with pytest.raises(UsageError, match=r"split begins after the last row: .*rows.jsonl has at most 10 rows"):
        load_rows(settings(rows_file(MATH), split="[10:20]"))


def test_a_malformed_split(settings: Callable, rows_file: Callable) -> None:
    with pytest.raises(UsageError, match=r"split = ':5': must look like \[:100000\]"):
        load_rows(settings(rows_file(MATH), split=":5"))


def test_a_missing_file(settings: Callable, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none.jsonl': cannot be read \(No such file or directory\)"):
        load_rows(settings(tmp_path / "none.jsonl"))


@pytest.mark.parametrize("name", ["metamath", "code"])
def test_a_hub_out_of_reach_points_to_local_files(settings: Callable, name: str) -> None:
    expected = rf"train_dataset = '{name}': cannot get .* from the Hugging Face hub .*--train-dataset PATH"
    with pytest.raises(UsageError, match=expected):
        load_rows(settings(name, local=True))


def test_hub_rows_are_sliced_and_reduced_to_two_columns(settings: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    asked = {}

    def load_dataset(path: str, **options: Any) -> datasets.Dataset:
        asked.update(options, path=path)
        return datasets.Dataset.from_list([{**row, "type": "t"} for row in MATH])

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    config = settings("metamath", split="[2:4]")
    rows, _ = load_rows(config)
    assert (asked["path"], asked["split"], asked["cache_dir"]) == ("meta-math/MetaMathQA", "train", config.cache_path)
    assert rows.to_list() == [{"query": f"q{n}", "response": f"r{n}"} for n in (2, 3)]


def test_a_second_run_reads_the_cache_and_a_changed_file_does_not(
    settings: Callable, rows_file: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = rows_file(MATH)
    first, _ = load_rows(settings(path))

    def not_again(*_: Any) -> None:
        raise AssertionError("the file was read again")

    with monkeypatch.context() as patch:
        patch.setattr(loading, "_check_cell", not_again)
        second, _ = load_rows(settings(path))
    assert second._fingerprint == first._fingerprint
    rows_file([{"query": "other", "response": "r"}])
    assert list(load_rows(settings(path))[0]["query"]) == ["other"]
