"""Where a report's records come from: run folders, committed record files; what is damaged is skipped and said.

Records of different versions are refused: a difference between two methods could then be one between two versions.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from sorsa.errors import UsageError
from sorsa.report.edges import edge_files, read_edges
from sorsa.report.record_form import SCHEMA, OtherSchema
from sorsa.report.records import collect, find_record_files, find_runs, read_record, writable

logger = logging.getLogger(__name__)

PACKAGES = ("sorsa", "torch", "transformers", "peft")  # another version of these may give other numbers
_WHAT = {"--run-path": "run folders (runs/NAME)", "--records": "record files (results/mini, or a report)"}


@dataclasses.dataclass
class Sources:
    """The records of a report, and what there is to say about them.

    Args:
        looked_in: The folders that were searched.
        records: One per run.
        folders: Index of a record -> its run folder, for those that were read from one: it has the answers.
        skipped: One line for each run or file that could not be read.
        notes: Further lines that a reader should see, such as that versions are mixed.
        edges: Name of a comparison -> the methods whose learning rate was chosen at an edge of its grid, in words.
    """

    looked_in: list[str]
    records: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    folders: dict[int, Path] = dataclasses.field(default_factory=dict)
    skipped: list[str] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)
    edges: dict[str, list[str]] = dataclasses.field(default_factory=dict)


def gather(run_path: Path | None, record_dirs: Sequence[Path], allow_mixed: bool = False) -> Sources:
    """Read all records; say on stderr what was skipped.

    Args:
        run_path: A folder of run folders and comparisons, or None.
        record_dirs: Folders of record files, or folders that have them in `records/`.
        allow_mixed: Take records of different versions together.

    Raises:
        UsageError: A folder does not exist, there is no record at all, or versions are mixed without `allow_mixed`.
    """
    asked = [("--run-path", run_path)] if run_path else []
    asked += [("--records", path) for path in record_dirs]
    for flag, path in asked:
        if not path.is_dir():
            raise UsageError(f"{flag} {path}: no such folder; name one with {_WHAT[flag]}")
    sources = Sources([writable(str(path)) for _, path in asked])
    foreign: list[OtherSchema] = []
    known: dict[tuple[str | None, str], str] = {}
    for path, comparison in tqdm(_found(run_path, record_dirs), desc="records", unit="run"):
        try:
            record = collect(path, comparison) if path.is_dir() else read_record(path)
        except OtherSchema as error:
            foreign.append(error)
            _skip(sources, str(error))
        except UsageError as error:
            _skip(sources, str(error))
        except OSError as error:  # a file that this user may not read
            _skip(sources, f"{error.filename or path}: cannot be read ({error.strerror or error})")
        else:
            key = (record["comparison"], record["name"])
            if key in known:
                _skip(sources, f"{path}: the run {record['name']!r} was already read from {known[key]}")
                continue
            known[key] = str(path)
            if path.is_dir():
                sources.folders[len(sources.records)] = path
            sources.records.append(record)
    _require_some(sources)
    for path in edge_files(run_path, record_dirs):
        try:
            sources.edges |= read_edges(path)
        except UsageError as error:
            _skip(sources, str(error))
    sources.notes += _check_mixed(sources.records, foreign, allow_mixed)
    return sources


def _found(run_path: Path | None, record_dirs: Sequence[Path]) -> list[tuple[Path, str | None]]:
    """Return every run folder and record file, in order."""
    runs = find_runs(run_path) if run_path else []
    return runs + [(path, None) for directory in record_dirs for path in find_record_files(directory)]


def _skip(sources: Sources, text: str) -> None:
    """Note what is left out, on one line: names of folders may hold anything."""
    line = " ".join(writable(text).split())
    sources.skipped.append(line)
    logger.warning("skipped: %s", line)


def _require_some(sources: Sources) -> None:
    """Refuse to report on nothing."""
    if not sources.records:
        skipped = f"; {len(sources.skipped)} skipped, the first: {sources.skipped[0]}" if sources.skipped else ""
        raise UsageError(
            f"no records in {', '.join(sources.looked_in)}{skipped}. Train and test a run first (python run.py --name "
            "X --train), or name run folders with --run-path DIR or record files with --records DIR"
        )


def _check_mixed(records: Sequence[dict[str, Any]], foreign: Sequence[OtherSchema], allowed: bool) -> list[str]:
    """Return what is mixed, one line each.

    Raises:
        UsageError: Something is, and it is not allowed.
    """
    lines = [
        f"record schema {SCHEMA} ({records[0]['name']}) and {other.schema} ({other.name})" for other in foreign[:1]
    ]
    for package in PACKAGES:
        first: dict[str, str] = {}  # version -> a run with it
        for record in records:
            for versions in _versions(record):
                first.setdefault(versions.get(package) or "not recorded", record["name"])
        if len(first) > 1:
            lines.append(f"{package} " + " and ".join(f"{version} ({run})" for version, run in first.items()))
    if lines and not allowed:
        raise UsageError(
            f"records of mixed versions: {'; '.join(lines)}. Differences between such runs may be those of the "
            "versions: leave some out, or add --allow-mixed"
        )
    return [f"Versions are mixed, as --allow-mixed allows: {line}." for line in lines]


def _versions(record: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the versions that a run was trained with, and those that it was tested with."""
    for facts in (record["training"], *(one.get("environment") or {} for one in record["results"].values())):
        if facts.get("versions"):
            yield facts["versions"]
