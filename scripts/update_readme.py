"""Writes the results section of README.md from the committed records in results/*/, between its two marks.

PYTHONPATH=. python scripts/update_readme.py

Of the same records it draws the figures in results/*/figures/.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from sorsa.errors import UsageError
from sorsa.files import whole_directory, write_whole
from sorsa.report.figures import draw_all
from sorsa.report.markdown import results_section
from sorsa.report.sources import gather

BEGIN, END = "<!-- results:begin -->\n", "<!-- results:end -->"


def section(results: Path) -> str:
    """Return the text between the marks.

    Args:
        results: The folder whose folders hold committed records.

    Raises:
        UsageError: There are no records, one is damaged, or those of one folder are of different versions.
    """
    folders = [path for path in sorted(results.glob("*")) if any(path.glob("records/*.json"))]
    if not folders:
        raise UsageError(f"no records in {results}/*/records: the section would be empty")
    found = [gather(None, [folder]) for folder in folders]
    skipped = [line for sources in found for line in sources.skipped]
    if skipped:
        raise UsageError(f"a committed record is damaged: {skipped[0]}")
    edges = {name: lines for sources in found for name, lines in sources.edges.items()}
    return results_section([record for sources in found for record in sources.records], edges) + "\n"


def draw(results: Path) -> None:
    """Draw the figures of each folder of records, as SVG, in place of the earlier ones once all are drawn."""
    for folder in sorted({path.parent.parent for path in results.glob("*/records/*.json")}):
        with tempfile.TemporaryDirectory() as drawn, whole_directory(folder / "figures", replace=True) as figures:
            draw_all(gather(None, [folder]).records, Path(drawn))
            for file in Path(drawn).glob("*.svg"):
                shutil.copy(file, figures)


def updated(readme: str, text: str) -> str:
    """Return README.md with another text between its marks.

    Args:
        readme: Its content.
        text: What `section` returns.

    Raises:
        UsageError: A mark is missing.
    """
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise UsageError(f"README.md has no {BEGIN.strip()} before a {END}: write both, each on a line of its own")
    return before + begin + text + end + after


def main(root: Path) -> int:
    """Update the README.md of a checkout; return the exit code."""
    readme = root / "README.md"
    try:
        text = updated(readme.read_text(encoding="utf-8"), section(root / "results"))
        draw(root / "results")
        write_whole(readme, text)
    except (UsageError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(__file__).resolve().parent.parent))
