"""The figures of the report, made from run records alone; a figure whose data is missing is not drawn.

trajectories    the paper's Figure 1: dD against dSigma, a panel per method, a line per adapted matrix
training        the paper's Figure 2: training loss and gradient norm per step
conditions      condition numbers of Wp and of the merged weight, and orthonormality of the factors, over the steps
accuracy-B      accuracy on benchmark B, with an interval that counts seeds and questions, and every seed
parameters-B    accuracy against trainable parameters
time-B          accuracy against training time
forgetting-B    accuracy against the perplexity of the forgetting text

Each is written three times: SVG (text is text), PDF, and PNG of 200 dots per inch. The same records give the same SVG,
byte by byte. Records of several models or data give a figure for each, whose names begin with the model's.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from sorsa.files import whole_file
from sorsa.report.figures_curves import conditions, training
from sorsa.report.figures_scores import accuracy, forgetting, parameters, time
from sorsa.report.figures_style import DPI, Drawing, look
from sorsa.report.figures_trajectories import trajectories
from sorsa.report.measures import benchmarks
from sorsa.report.record_sets import Record, RecordSet, record_sets

FORMATS = ("svg", "png", "pdf")


def draw_all(records: Sequence[Record], directory: Path) -> list[dict[str, Any]]:
    """Draw every figure that the records have the data for.

    Args:
        records: Run records, of any models and data.
        directory: Where the files go; made if it is not there. Files of these names are replaced.

    Returns:
        One dict per figure: `name`, `title`, `caption`, `set` (the model and data it is about), and the names of its
        files in `directory`: `svg`, `png`, `pdf`.

    Raises:
        OSError: The disk is full or the folder is not writable; no half-written file is left.
    """
    figures: list[dict[str, Any]] = []
    for one in record_sets(records):
        for name, draw in _figures(one):
            name = f"{one.slug}-{name}" if one.slug else name
            with look(name):
                drawing = draw()
                if drawing is not None:
                    files = {kind: f"{name}.{kind}" for kind in FORMATS}
                    _save(drawing, directory, files)
                    caption = f"{drawing.caption} {_about(one)}"
                    figures.append({"name": name, "title": drawing.title, "caption": caption, "set": one.name, **files})
    return figures


def _figures(one: RecordSet) -> Iterator[tuple[str, Callable[[], Drawing | None]]]:
    """Yield the name of each figure of a set, and what draws it or returns None."""
    for draw in (trajectories, training, conditions):
        yield draw.__name__, lambda draw=draw: draw(one)
    for stem in benchmarks(run for group in one.groups for run in group.runs):
        for score in (accuracy, parameters, time, forgetting):
            yield f"{score.__name__}-{stem.replace(':', '-')}", lambda score=score, stem=stem: score(one, stem)


def _save(drawing: Drawing, directory: Path, files: dict[str, str]) -> None:
    """Write one figure in all formats, each whole or not at all, without dates."""
    dates = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {}}
    for kind, name in files.items():
        drawn = io.BytesIO()
        drawing.figure.savefig(drawn, format=kind, dpi=DPI, metadata=dates[kind] | {"Title": drawing.title})
        content = drawn.getvalue()
        if kind == "svg":  # where the font is missing, one of its width is next; a browser's own choice would be Times
            content = content.replace(b"'DejaVu Sans'", b"'DejaVu Sans', Verdana, sans-serif")
        with whole_file(directory / name) as stream:
            stream.write(content)


def _about(one: RecordSet) -> str:
    """Return the end of every caption: what the records are of, and which were not used."""
    runs = sum(len(group.runs) for group in one.groups)
    text = f"{one.name}: {runs} runs, {len(one.groups)} methods."
    if one.left_out:
        text += f" Left out: {len(one.left_out)} that were not finished or tried a learning rate that was not chosen."
    return text
