"""A run as one JSON object, the *record*: what reports are made of, small enough to commit (no weights, no texts).

schema       1
name         the run's name
group        its configuration's name: the run's without `-lr..-seed..`, which `--compare` appends
comparison   the `--compare` it belongs to, null for a run by itself
training     the content of record.json; empty for a run that was only tested
metrics      the columns of metrics.jsonl: {"step": [...], "loss": [...], ...}, six significant digits
drift        the content of analysis/drift.json (`--analyze`), six significant digits; null without
results      {stem of results/*.json: its content}
verdicts     {the same stem: {"questions": sha256 of the ids joined by newlines, "correct": "0110..."}}, of
             benchmarks whose answers are right or wrong; in the file's order, by the headline rule
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from sorsa.errors import UsageError
from sorsa.evaluation.result_files import read_graded_rows
from sorsa.evaluation.result_files import read_record as read_result
from sorsa.files import read_json, write_whole
from sorsa.report.record_form import SCHEMA, check_record
from sorsa.run_folder import RunFolder, read_metrics

METRICS = ("step", "loss", "grad_norm", "learning_rate", "regularizer", "orthonormality_error")
DIGITS = 6  # of a metric: what is left out is below the difference between two machines
BASE = "base-"  # how the results of a base model's test begin (`sorsa.evaluation.subject`)
COMPARISON = "comparison-"  # how `--compare` begins the name of its folder
_SEEDED = re.compile(r"(.+)-lr[0-9.e+-]+-seed[0-9]+")  # `sorsa.comparison.runs.Method.run`


def find_runs(run_path: Path) -> list[tuple[Path, str | None]]:
    """Return the run folders under a folder, and the comparison that each belongs to.

    Args:
        run_path: The folder of all runs.

    Returns:
        (folder, comparison or None), those of comparisons last, each by name. A folder is a run's when it holds
        record.json or results/.
    """
    single = [(path, None) for path in sorted(run_path.iterdir()) if _is_run(path)]
    compared = [
        (path, home.name.removeprefix(COMPARISON))
        for home in sorted(run_path.glob(f"{COMPARISON}*"))
        for path in sorted((home / "runs").glob("*"))
        if _is_run(path)
    ]
    return single + compared


def _is_run(path: Path) -> bool:
    folder = RunFolder(path.parent, path.name)
    return folder.record.is_file() or folder.results.is_dir()


def collect(path: Path, comparison: str | None) -> dict[str, Any]:
    """Return the record of a run folder.

    Args:
        path: The folder, RUN_PATH/NAME.
        comparison: The comparison it belongs to.

    Raises:
        UsageError: A file in it is damaged; names the file.
    """
    folder = RunFolder(path.parent, path.name)
    match = _SEEDED.fullmatch(path.name)
    record = {
        "schema": SCHEMA,
        "name": path.name,
        "group": match.group(1) if match else path.name,
        "comparison": comparison,
        "training": folder.read_record(),
        "metrics": _columns(read_metrics(folder.metrics)),
        "drift": _rounded(read_result(folder.drift, "analyse again")) if folder.drift.is_file() else None,
        "results": {},
        "verdicts": {},
    }
    for file in result_files(path, comparison):
        record["results"][file.stem] = read_result(file)
        rows = file.with_suffix(".jsonl")
        if "graded" in record["results"][file.stem] and rows.is_file():
            record["verdicts"][file.stem] = _verdicts(rows, record["results"][file.stem]["graded"])
    record = writable(record)
    check_record(record, str(path))
    return record


def result_files(path: Path, comparison: str | None) -> list[Path]:
    """Return the results of a run's tests, and of the base model's that its comparison made once for all runs.

    Args:
        path: The run's folder.
        comparison: The comparison it belongs to.
    """
    found = sorted(RunFolder(path.parent, path.name).results.glob("*.json"))
    if comparison is not None:
        found += sorted((path.parent.parent / "base").glob(f"*/results/{BASE}*.json"))
    return found


def _columns(rows: Sequence[dict[str, Any]]) -> dict[str, list[float | None]]:
    """Return the rows of metrics.jsonl as columns, None where a row lacks one."""
    present = [key for key in METRICS if any(key in row for row in rows)]
    return {key: [_rounded(row.get(key)) for row in rows] for key in present}


def _rounded(value: Any) -> Any:
    """Return a JSON value whose numbers have six significant digits; whole ones stay as they are."""
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_rounded(one) for one in value]
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def _verdicts(path: Path, graded: int) -> dict[str, str]:
    """Return which questions were answered rightly, of a results/DATASET.jsonl."""
    rows = read_graded_rows(path)
    if len(rows) != graded:
        raise UsageError(f"{path} does not hold the {graded} graded rows of its test; test again")
    for key, row in rows.items():
        if not isinstance(row.get("correct"), bool):
            raise UsageError(f"{path}, the row of id {key}: not said whether it is correct; test again")
    ids = "\n".join(rows).encode("utf-8", "backslashreplace")
    correct = "".join("1" if row["correct"] else "0" for row in rows.values())
    return {"questions": hashlib.sha256(ids).hexdigest(), "correct": correct}


def writable(value: Any) -> Any:
    """Return a JSON value that every file can hold.

    A number that is none (a diverged loss) becomes null, which JSON has; half a surrogate pair in a text becomes the
    escape that it was written as, which UTF-8 has.
    """
    if isinstance(value, dict):
        return {writable(key): writable(one) for key, one in value.items()}
    if isinstance(value, list):
        return [writable(one) for one in value]
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def file_names(records: Iterable[dict[str, Any]]) -> list[str]:
    """Return a file name for each record: NAME.json, the comparison in front where two runs share their name."""
    records = list(records)
    names = [record["name"] for record in records]
    return [
        f"{COMPARISON}{record['comparison']}.{record['name']}.json"
        if record["comparison"] and names.count(record["name"]) > 1
        else f"{record['name']}.json"
        for record in records
    ]


def write_records(records: Sequence[dict[str, Any]], directory: Path) -> None:
    """Write each record to its file in a directory, each whole or not at all.

    Args:
        records: As `collect` or `read_record` return them, no run twice.
        directory: Made where it does not exist.

    Raises:
        OSError: The disk is full.
    """
    for name, record in zip(file_names(records), records, strict=True):
        lines = (f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in record.items())
        write_whole(directory / name, "{\n" + ",\n".join(lines) + "\n}\n")  # a line per part: long lists stay short


def read_record(path: Path) -> dict[str, Any]:
    """Return the record in a file.

    Raises:
        UsageError: It is damaged or no record; names the file and what is wrong.
    """
    record = writable(read_json(path, "write it again with run.py --report"))
    check_record(record, str(path))
    return record


def find_record_files(directory: Path) -> list[Path]:
    """Return the record files of a folder: those in its folder `records/` where it has one, else its own, by name."""
    inner = directory / "records"
    files = (inner if inner.is_dir() else directory).glob("*.json")
    return sorted(path for path in files if path.name not in ("comparison.json", "report.json"))
