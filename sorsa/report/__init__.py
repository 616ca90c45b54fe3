"""The report: what the runs show beside what the paper says, made from run records alone (`run.py --report`).

    run.py --report                                       from ./runs into ./report
    run.py --report --records results/mini --output DIR   from committed records

OUTPUT/
    index.html      one page that needs nothing else: tables that sort and filter, figures, answers of two runs
    report.md       the same tables and figures in Markdown
    table1.csv, claims.csv, comparison.csv, runs.csv, switches.csv
    records/        a record per run (`sorsa.report.records`): another `--report --records OUTPUT` needs nothing else
    figures/        per comparison: SVG, PNG, PDF
    report.json     what was read, skipped and noted, and the report's files: what a later report may replace

sources.py      where records come from: run folders, record files; what is damaged is skipped and said
records.py, record_form.py    a run as one JSON object, and its form
edges.py        which learning rates lie at the edge of their grid
record_sets.py, measures.py   which runs may be compared, and the numbers of a run
groups.py, table1.py, runs.py, differences.py    the tables
claims*.py, figures*.py       the claims of the paper, and the pictures
content.py      all of that in one order
markdown.py, page.py          how it is written; answers.py and svg.py for the page
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence
from pathlib import Path

from sorsa.errors import UsageError

MADE_BY = "run.py --report"
CSV = ("table1", "claims", "comparison", "runs", "switches")


def report(run_path: Path | None, record_dirs: Sequence[Path], output: Path, allow_mixed: bool = False) -> None:
    """Write a report, whole or not at all.

    Args:
        run_path: A folder of run folders and comparisons, or None.
        record_dirs: Folders of record files.
        output: The report's folder; a report that is there is replaced.
        allow_mixed: Take records of different versions together, and say so.

    Raises:
        UsageError: `output` holds something else, a folder is missing, there are no records, or they are mixed.
        OSError: The disk is full; an earlier report is as it was.
    """
    _check_output(output)
    from sorsa.files import whole_directory, write_json, write_whole
    from sorsa.report.content import make_content
    from sorsa.report.markdown import as_report
    from sorsa.report.page import as_page
    from sorsa.report.records import write_records
    from sorsa.report.sources import gather
    from sorsa.report.tables import as_csv

    sources = gather(run_path, record_dirs, allow_mixed)
    made = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    with whole_directory(output, replace=output.exists()) as directory:
        content = make_content(sources, directory)
        tables = ([content.table1], [content.claims], content.comparisons, [content.runs], content.differences[1:])
        for name, parts in zip(CSV, tables, strict=True):
            write_whole(directory / f"{name}.csv", as_csv(parts))
        write_records(sources.records, directory / "records")
        write_whole(directory / "report.md", as_report(content, made))
        write_whole(directory / "index.html", as_page(content, made, directory))
        facts = {key: getattr(sources, key) for key in ("looked_in", "skipped", "notes", "edges")}
        write_json(directory / "report.json", {"made_by": MADE_BY, "made": made, **facts, "files": _files(directory)})
    skipped = f", {len(sources.skipped)} skipped" if sources.skipped else ""
    print(f"report of {len(sources.records)} runs{skipped}: {output / 'index.html'}")


def _files(directory: Path) -> list[str]:
    """Return the files in a folder and those below it, by their names from there, sorted."""
    found = (path for path in directory.rglob("*") if path.is_symlink() or not path.is_dir())
    return sorted(path.relative_to(directory).as_posix() for path in found)


def _check_output(output: Path) -> None:
    """Refuse to replace anything that is not a file of an earlier report."""
    if output.is_file():
        raise UsageError(f"--output {output} is a file; name a folder")
    there = _files(output) if output.is_dir() else []
    try:
        earlier = json.loads((output / "report.json").read_text(encoding="utf-8"))
        own = {"report.json", *earlier["files"]} if earlier["made_by"] == MADE_BY else set()
    except (OSError, ValueError, KeyError, TypeError):
        own = set()
    strange = [name for name in there if name not in own]
    if strange:
        raise UsageError(
            f"--output {output} holds {strange[0]!r} and is no report, or not one alone: a report replaces the whole "
            "folder; name another one"
        )
