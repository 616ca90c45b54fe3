"""Rows of a local .jsonl, .json or .parquet file, one at a time, each with its place for error messages.

A file of any size is read in constant memory. The `datasets` loaders are not used here: they do not say on which line
a file is broken, and refuse files whose unused columns change their type from row to row.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sorsa.errors import UsageError

CHUNK = 1 << 20  # bytes read at a time from a .json array
Row = tuple[str, dict[str, Any]]


def read_rows(path: Path) -> Iterator[Row]:
    """Yield `(place, row)` for every row of a file; `place` reads `line 7` or `row 7`, counted from 1.

    Raises:
        UsageError: The file cannot be read, or is broken at a place that the message names.
    """
    if path.suffix == ".parquet":
        return _parquet_rows(path)
    return _array_rows(path) if path.suffix == ".json" and _is_array(path) else _line_rows(path)


def _line_rows(path: Path) -> Iterator[Row]:
    """Yield the JSON objects of a file that has one on each line; blank lines are skipped."""
    with path.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")  # the byte-order mark of Windows editors
            if line.strip():
                place = f"line {number}"
                yield place, _object(path, place, line)


def _object(path: Path, place: str, line: bytes) -> dict[str, Any]:
    """Return the JSON object in a line."""
    try:
        value = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError:
        raise UsageError(f"{path}: {place} is not UTF-8 text; save the file as UTF-8") from None
    except json.JSONDecodeError as error:
        raise UsageError(f"{path}: {place} is not JSON ({error.msg} at column {error.colno})") from None
    return _checked(path, place, value)


def _checked(path: Path, place: str, value: Any) -> dict[str, Any]:
    """Return `value` if it is an object."""
    if not isinstance(value, dict):
        raise UsageError(f"{path}: {place} is not a JSON object with the columns as keys, but {type(value).__name__}")
    return value


def _is_array(path: Path) -> bool:
    """Return whether the first character of a file that is not blank is `[`."""
    with path.open("rb") as stream:
        while byte := stream.read(1):
            if not byte.isspace() and byte not in b"\xef\xbb\xbf":
                return byte == b"["
    return False


def _array_rows(path: Path) -> Iterator[Row]:
    """Yield the objects of one JSON array (the form of MetaMathQA-395K.json), decoded one after the other."""
    decoder = json.JSONDecoder()
    number = 0
    with path.open(encoding="utf-8-sig") as stream:
        text = _more(path, stream, "").lstrip()[1:]
        while True:
            text = text.lstrip().removeprefix(",").lstrip() if number else text.lstrip()
            if text.startswith("]"):
                return
            place = f"row {number + 1}"
            try:
                value, end = decoder.raw_decode(text)
                if end == len(text):  # `12` may go on as `123`: only a following character closes a value
                    raise json.JSONDecodeError("Unterminated array", text, end)
            except json.JSONDecodeError as error:
                longer = _more(path, stream, text)
                if longer == text:
                    raise UsageError(f"{path}: {place} is not JSON ({error.msg})") from None
                text = longer
                continue
            number += 1
            yield place, _checked(path, place, value)
            text = text[end:]


def _more(path: Path, stream: Any, text: str) -> str:
    """Return `text` with the next piece of the file; a piece as long as `text` keeps long rows from costing squares."""
    try:
        return text + stream.read(max(CHUNK, len(text)))
    except UnicodeDecodeError:
        raise UsageError(f"{path}: is not UTF-8 text; save the file as UTF-8") from None


def _parquet_rows(path: Path) -> Iterator[Row]:
    """Yield the rows of a parquet file, a batch in memory at a time."""
    import pyarrow
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path)
        number = 0
        for batch in file.iter_batches(batch_size=1000):
            for row in batch.to_pylist():
                number += 1
                yield f"row {number}", row
    except (pyarrow.ArrowException, OSError) as error:
        raise UsageError(f"{path}: not a readable parquet file ({str(error).splitlines()[0]})") from None
