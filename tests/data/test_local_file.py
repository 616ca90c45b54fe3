"""Readers of local files: what they yield, and the place they name when a file is broken."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sorsa.data import local_file
from sorsa.data.local_file import read_rows
from sorsa.errors import UsageError

ROWS = [{"query": f"q{n} é", "response": "r" * n, "n": n} for n in range(1, 6)]


def test_jsonl_skips_blank_lines_and_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    text = "\n\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS)
    path.write_text("\ufeff" + text, encoding="utf-8")
    assert list(read_rows(path)) == [(f"line {2 * n + 1}", row) for n, row in enumerate(ROWS)]


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("chunk", [1, 7, 1 << 20])
def test_an_array_is_decoded_piece_by_piece(
    tmp_path: Path, indent: int | None, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_file, "CHUNK", chunk)
    path = tmp_path / "a.json"
    path.write_text(json.dumps(ROWS, indent=indent, ensure_ascii=False) + "\n", encoding="utf-8")
    assert list(read_rows(path)) == [(f"row {n + 1}", row) for n, row in enumerate(ROWS)]


def test_a_json_file_may_hold_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("\n".join(json.dumps(row) for row in ROWS), encoding="utf-8")
    assert [row for _, row in read_rows(path)] == ROWS


def test_parquet(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), path)
    assert list(read_rows(path)) == [(f"row {n + 1}", row) for n, row in enumerate(ROWS)]


@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
def test_an_empty_file_has_no_rows(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(" \n", encoding="utf-8")
    assert list(read_rows(tmp_path / name)) == []


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"a": 1}\n' * 6 + b"{'a': 1}\n", r"a.jsonl: line 7 is not JSON \(Expecting property name"),
        ("a.jsonl", b'{"a": 1}\n{"a": \n', r"line 2 is not JSON"),
        ("a.jsonl", b'{"a": 1}\n[1]\n', r"line 2 is not a JSON object .* but list"),
        ("a.jsonl", b'{"a": 1}\n{"a": "\xff"}\n', r"line 2 is not UTF-8 text"),
        ("a.json", b'[{"a": 1}, {"a": oops}]', r"row 2 is not JSON"),
        ("a.json", b'[{"a": 1}, {"a": 2}', r"row 3 is not JSON|row 2 is not JSON"),
        ("a.json", b'[{"a": 1}, 5]', r"row 2 is not a JSON object .* but int"),
        ("a.json", b'[{"a": "\xff"}]', r"is not UTF-8 text"),
        ("a.parquet", b"PAR1 no", r"not a readable parquet file"),
    ],
)
def test_a_broken_file_is_named_with_the_place(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=message):
        list(read_rows(tmp_path / name))
