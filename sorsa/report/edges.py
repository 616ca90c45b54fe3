"""Methods whose learning rate was chosen at an edge of its grid: a better one may lie beyond.

Which rates were tried is in the comparison.json that `--compare` writes; a report keeps what it said in report.json.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sorsa.errors import UsageError
from sorsa.report.records import COMPARISON


def grid_edges(comparison: Mapping[str, Any]) -> list[str]:
    """Return a few words per method whose chosen learning rate is the smallest or largest of its grid.

    Args:
        comparison: The content of a comparison.json.
    """
    lines: list[str] = []
    for method in comparison["methods"]:
        grid = sorted(entry["lr"] for entry in method["grid"])
        if not grid or method["lr"] not in (grid[0], grid[-1]):
            continue
        which = "only one" if len(grid) == 1 else "smallest" if method["lr"] == grid[0] else "largest"
        lines.append(f"{method['config']} ({method['lr']:g}, the {which} of {', '.join(f'{lr:g}' for lr in grid)})")
    return lines


def edge_files(run_path: Path | None, record_dirs: Sequence[Path]) -> Iterator[Path]:
    """Yield the files that `read_edges` reads, as far as a report's folders have them.

    Args:
        run_path: A folder of run folders and comparisons, or None.
        record_dirs: Folders of record files, beside which a comparison.json may lie, or which are a report.
    """
    places = [folder / "comparison.json" for folder in sorted(run_path.glob(f"{COMPARISON}*"))] if run_path else []
    places += [directory / name for directory in record_dirs for name in ("report.json", "comparison.json")]
    yield from (path for path in places if path.is_file())


def read_edges(path: Path) -> dict[str, list[str]]:
    """Return the words of `grid_edges` by the comparison's name, of a comparison.json or a report.json.

    Raises:
        UsageError: The file is damaged; names it.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        edges = content["edges"] if path.name == "report.json" else {content["name"]: grid_edges(content)}
        return {str(name): [str(line) for line in lines] for name, lines in edges.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OSError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise UsageError(f"{path}: damaged ({reason[:120]}); which learning rates were tried is not known") from error
