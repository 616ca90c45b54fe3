"""From `train_dataset` and `split` to a memory-mapped table with the two columns of a recipe."""

from __future__ import annotations

import hashlib
import itertools
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sorsa.config_values import parse_split
from sorsa.data import DATASETS
from sorsa.data.local_file import read_rows
from sorsa.data.recipe import Recipe, expected_columns, recipe, recipe_for_columns
from sorsa.errors import UsageError

if TYPE_CHECKING:
    import datasets

    from sorsa.config import RunConfig

logger = logging.getLogger(__name__)
READER_VERSION = "1"  # part of the cache's key: raise it when `_checked_rows` changes what it yields


def load_rows(config: RunConfig) -> tuple[datasets.Dataset, Recipe]:
    """Return the rows of the run's split and the recipe that makes prompts of them.

    Args:
        config: The run's settings; `train_dataset`, `split`, `cache_path` and `local` are read.

    Raises:
        UsageError: The hub cannot be reached, the file is broken, a column or a response is missing, or the split
            begins after the last row.
    """
    bounds = parse_split(config.split)
    if bounds is None:
        raise UsageError(f"split = {config.split!r}: must look like [:100000] or [1000:2000], with at least one row")
    if config.train_dataset in DATASETS:
        found = recipe(config.train_dataset)
        rows = _from_hub(config, found, bounds)
    else:
        rows, found = _from_file(config, Path(str(config.train_dataset)), bounds)
    start, stop = bounds
    if stop is not None and start + len(rows) < stop:
        logger.warning("split %s: %s has only %d rows", config.split, config.train_dataset, start + len(rows))
    return rows, found


def _from_hub(config: RunConfig, found: Recipe, bounds: tuple[int, int | None]) -> datasets.Dataset:
    """Return a slice of a data set of the hub."""
    import datasets

    options: dict[str, Any] = {"split": "train", "cache_dir": config.cache_path}
    if config.local:
        options["download_config"] = datasets.DownloadConfig(local_files_only=True)
    try:
        rows = datasets.load_dataset(found.hub_id, **options)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UsageError(
            f"train_dataset = {config.train_dataset!r}: cannot get {found.hub_id} from the Hugging Face hub "
            f"({reason.rstrip('.')}). Use a local .jsonl, .json or .parquet file with the "
            f"columns {found.query} and {found.response}: --train-dataset PATH"
        ) from error
    start, stop = bounds
    if start >= len(rows):
        raise UsageError(_nothing_from(start, found.hub_id))
    rows = rows.select_columns([found.query, found.response])
    return rows.select(range(start, min(stop or len(rows), len(rows))))


def _nothing_from(start: int, source: str | Path) -> str:
    """Return the message for a split that begins after the last row."""
    return f"split begins after the last row: {source} has at most {start} rows, counted from 0"


def _from_file(config: RunConfig, path: Path, bounds: tuple[int, int | None]) -> tuple[datasets.Dataset, Recipe]:
    """Return a slice of a local file, read only as far as the slice goes, and its recipe."""
    import datasets

    try:
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        first = next(read_rows(path), None)
    except OSError as error:
        raise UsageError(f"train_dataset = {str(path)!r}: cannot be read ({error.strerror})") from error
    if first is None:
        raise UsageError(f"{path}: no rows in it")
    found = recipe_for_columns(list(first[1]))
    if found is None:
        raise UsageError(f"{path}: lacks a column: needs {expected_columns()}; found {', '.join(first[1])}")
    key = f"{READER_VERSION} {digest} {path.suffix} {found.query} {found.response} {bounds}"
    try:
        rows = datasets.Dataset.from_generator(
            _checked_rows,
            gen_kwargs={"path": path, "columns": (found.query, found.response), "bounds": bounds},
            features=datasets.Features({name: datasets.Value("string") for name in (found.query, found.response)}),
            cache_dir=config.cache_path,
            fingerprint=hashlib.sha256(key.encode()).hexdigest()[:16],
        )
    except datasets.exceptions.DatasetGenerationError as error:
        if isinstance(error.__cause__, UsageError):
            raise error.__cause__ from None
        raise
    return rows, found


def _checked_rows(path: Path, columns: tuple[str, str], bounds: tuple[int, int | None]) -> Iterator[dict[str, str]]:
    """Yield the two columns of the rows inside `bounds`, or raise UsageError naming the first bad row."""
    place = None
    for place, row in itertools.islice(read_rows(path), *bounds):
        for column in columns:
            _check_cell(path, place, row, column)
        yield {column: row[column] for column in columns}
    if place is None:
        raise UsageError(_nothing_from(bounds[0], path))


def _check_cell(path: Path, place: str, row: dict[str, Any], column: str) -> None:
    """Raise UsageError unless the row has text in a column."""
    if column not in row:
        raise UsageError(f"{path}: {place} lacks the column {column!r}; found {', '.join(row) or 'none'}")
    value = row[column]
    if not isinstance(value, str):
        raise UsageError(f"{path}: {place}: {column!r} must be text, not {type(value).__name__}")
    if not value.strip():
        raise UsageError(f"{path}: {place}: {column!r} is empty; remove the row or fill it in")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise UsageError(f"{path}: {place}: {column!r} holds half of a surrogate pair, which is not text")
