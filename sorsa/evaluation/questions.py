"""Reading question files and completion files, with errors that name the file and the line."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sorsa.errors import UsageError
from sorsa.evaluation.benchmark import Question
from sorsa.evaluation.completions import fingerprint
from sorsa.files import read_json

if TYPE_CHECKING:
    from sorsa.config import RunConfig


def read_jsonl(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number from 1, row) of a JSONL file; empty lines are skipped.

    Raises:
        UsageError: The file cannot be read, is empty, or a line is not a JSON object.
    """
    found = False
    try:
        with open(path, encoding="utf-8") as stream:
            for number, line in enumerate(stream, start=1):
                if line.strip():
                    found = True
                    yield number, _json_object(path, number, line)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}; check the path") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 text (byte {error.start}); expected one JSON object per line") from error
    if not found:
        raise UsageError(f"{path} is empty; expected one JSON object per line")


def _json_object(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:  # json.JSONDecodeError is a ValueError; so is a 5000-digit integer
        raise UsageError(f"{path}, line {number}: not JSON ({error}); expected one object per line") from error
    if not isinstance(row, dict):
        raise UsageError(f"{path}, line {number}: expected a JSON object, got {type(row).__name__}")
    return row


def read_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (where, row) of a .jsonl, .json or .parquet file; `where` names file and line or row, for error messages.

    Raises:
        UsageError: The file is missing, empty, of another kind, or broken.
    """
    kind = path.suffix.lower()
    if kind == ".jsonl":
        for number, row in read_jsonl(path):
            yield f"{path}, line {number}", row
    elif kind == ".json":
        yield from _read_json(path)
    elif kind == ".parquet":
        yield from _read_parquet(path)
    else:
        raise UsageError(f"question file {path} ends in {kind or 'nothing'!r}; expected .jsonl, .json or .parquet")


def _read_json(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    rows = read_json(path, "give a JSON file with a list of objects")
    if not isinstance(rows, list) or not rows:
        raise UsageError(f"{path}: expected a list of objects with at least one entry")
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise UsageError(f"{path}, entry {number}: expected an object, got {type(row).__name__}")
        yield f"{path}, entry {number}", row


def _read_parquet(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path)
    except (OSError, pyarrow.ArrowException) as error:
        raise UsageError(f"cannot read {path} as parquet: {error}") from error
    if table.num_rows == 0:
        raise UsageError(f"{path} is empty; expected at least one row")
    for number, row in enumerate(table.to_pylist(), start=1):
        yield f"{path}, row {number}", row


def require_text(row: dict[str, Any], column: str, where: str) -> str:
    """Return the string in a column, or raise a UsageError that names the place and the columns present."""
    value = row.get(column)
    if not isinstance(value, str):
        got = f"got {type(value).__name__}" if column in row else f"the row has {', '.join(map(str, row)) or 'nothing'}"
        raise UsageError(f"{where}: the column {column!r} must hold text; {got}")
    return value


def first_rows(
    config: RunConfig, otherwise: Iterable[tuple[str, dict[str, Any]]]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the first `config.limit` (where, row) pairs; what stands after them is not read.

    Args:
        config: Gives test_file and limit.
        otherwise: The rows without a test_file, from the hub or a package.

    Raises:
        UsageError: The file is bad, or the others cannot be had.
    """
    return itertools.islice(read_rows(Path(config.test_file)) if config.test_file else otherwise, config.limit)


def hub_rows(config: RunConfig, hub_id: str, *subsets: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (where, row) of a hub dataset's test splits; with `local` only what is already in the cache.

    Args:
        config: Gives local and cache_path.
        hub_id: Dataset on the hub.
        subsets: Its configurations, one after the other.

    Raises:
        UsageError: One cannot be loaded; the message says how to use a local file.
    """
    for subset in subsets:
        name = f"{hub_id} {subset}" if len(subsets) > 1 else hub_id
        for number, row in enumerate(_hub_split(config, hub_id, subset)):
            yield f"{name} row {number}", row


def _hub_split(config: RunConfig, hub_id: str, subset: str) -> Iterator[dict[str, Any]]:
    import datasets

    options = datasets.DownloadConfig(local_files_only=config.local)
    try:
        yield from datasets.load_dataset(
            hub_id, subset, split="test", cache_dir=config.cache_path, download_config=options
        )
    except Exception as error:  # the hub client raises a dozen unrelated classes for one thing: it did not load
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UsageError(
            f"cannot load the test questions {hub_id!r} ({subset}): {first[:200]}; "
            "give a local copy with --test-file FILE.jsonl"
        ) from error


def answer_text(row: dict[str, Any]) -> tuple[str | None, str | None, bool]:
    """Return (answer, gold, already extracted) of a row `{completion or prediction, gold}`; null means missing.

    Raises:
        UsageError: A column is missing or holds something else than text or a number.
    """
    extracted = "prediction" in row
    column = "prediction" if extracted else "completion"
    if column not in row:
        raise UsageError(f"needs `completion` (or `prediction`) and `gold`; the row has {', '.join(map(str, row))}")
    if "gold" not in row:
        raise UsageError(f"needs the column `gold`; the row has {', '.join(map(str, row))}")
    return _text_or_number(row, column), _text_or_number(row, "gold"), extracted


def _text_or_number(row: dict[str, Any], column: str) -> str | None:
    value = row[column]
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    raise UsageError(f"the column {column!r} must hold text, got {type(value).__name__}")


def prompts_fingerprint(questions: Iterable[Question]) -> str:
    """Return a short hash of the prompts and their ids, in order."""
    return fingerprint({"prompts": [(one.id, one.prompt) for one in questions]})
