"""Tables that can be written as CSV, Markdown and HTML: columns with a unit, rows of plain values.

A cell holds None, a word, a number, or an `Estimate`: a number with its spread over seeds and its 95% interval. CSV has
the numbers as they are (accuracies as shares), the other two have them rounded for reading.
"""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Mapping, Sequence
from typing import Any

NOTHING = "–"


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A number that was measured.

    Args:
        value: The number, in the column's unit.
        interval: Its 95% interval, where there is one.
        sd: Its sample standard deviation over seeds, where there are several.
    """

    value: float
    interval: tuple[float, float] | None = None
    sd: float | None = None


def bounds(values: Sequence[float | None] | None) -> tuple[float, float] | None:
    """Return an interval as records have it; None where it is missing or a bound is no number (an overflow).

    Args:
        values: Low and high.
    """
    return (values[0], values[1]) if values and None not in values else None


@dataclasses.dataclass(frozen=True)
class Column:
    """One column.

    Args:
        key: Of its value in a row, and its name in CSV.
        title: Its heading.
        unit: How numbers are written, a key of `UNITS`; `text` for words.
        parts: What an `Estimate` in it may have beside its value: `sd`, `interval`. CSV has columns for them.
        span: Heading over this column and its neighbours of the same span.
    """

    key: str
    title: str
    unit: str = "text"
    parts: tuple[str, ...] = ()
    span: str = ""


@dataclasses.dataclass(frozen=True)
class Table:
    """A table.

    Args:
        name: For files and anchors.
        title: Its heading.
        about: What the reader has to know, in sentences.
        columns: The first one names the row.
        rows: Column key -> value; a key may be missing.
    """

    name: str
    title: str
    about: str
    columns: tuple[Column, ...]
    rows: tuple[Mapping[str, Any], ...]

    def without_empty_columns(self) -> Table:
        """Return the table without the columns that have a value in no row; the first one stays."""
        first, *rest = self.columns
        kept = [one for one in rest if any(row.get(one.key) is not None for row in self.rows)]
        return dataclasses.replace(self, columns=(first, *kept))


def _significant(value: float) -> str:
    """Return a number with three significant digits, in powers of ten where it is very small or large."""
    if value == 0 or 1e-3 <= abs(value) < 1e3:
        return f"{value:.3g}"
    return f"{value:,.0f}" if 1e3 <= abs(value) < 1e6 else f"{value:.1e}"


UNITS = {
    "count": lambda value: f"{value:,.0f}",
    "plain": lambda value: f"{value:.0f}",  # a seed, a number in a list
    "percent": lambda value: f"{100 * value:.1f}",
    "percent2": lambda value: f"{100 * value:.2f}",  # as the paper prints its scores
    "points": lambda value: f"{100 * value:+.1f}",
    "signed": lambda value: ("+" if value > 0 else "") + _significant(value),
    "number": _significant,
    "loss": lambda value: f"{value:.3f}",
    "rate": lambda value: f"{value:g}",
    "seconds": lambda value: f"{value:,.1f}" if value >= 1 else f"{value:.3f}",
}


def cell_parts(value: Any, column: Column) -> tuple[str, str]:
    """Return a cell as text in two parts: the value with its spread, and its interval (empty without one).

    Args:
        value: The cell's.
        column: Its column.
    """
    if value is None:
        return NOTHING, ""
    form = UNITS.get(column.unit)
    if isinstance(value, str) or form is None:
        return str(value), ""
    if not isinstance(value, Estimate):
        return form(value), ""
    text = form(value.value)
    if value.sd is not None:
        text += f" ± {form(value.sd).lstrip('+')}"
    if value.interval is None:
        return text, ""
    return text, f"({form(value.interval[0])} to {form(value.interval[1])})"


def cell_text(value: Any, column: Column) -> str:
    """Return a cell as one line of text."""
    return " ".join(filter(None, cell_parts(value, column)))


def sort_key(value: Any) -> float | str | None:
    """Return what a cell is sorted by: its number, its text, or None, which comes last."""
    return value.value if isinstance(value, Estimate) else value


def as_csv(tables: Sequence[Table]) -> str:
    """Return tables, one below the other, as one CSV.

    Args:
        tables: Their columns are put together by key; a column that one of them lacks is empty there.
    """
    columns = {column.key: column for table in tables for column in table.columns}
    names = [name for column in columns.values() for name in _csv_names(column)]
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(names)
    for table in tables:
        for row in table.rows:
            values = {key: value for column in columns.values() for key, value in _csv_values(row, column).items()}
            writer.writerow([values.get(name) for name in names])
    return stream.getvalue()


def _csv_names(column: Column) -> list[str]:
    """Return the CSV's columns of a column."""
    names = [column.key]
    names += [f"{column.key}_sd"] if "sd" in column.parts else []
    return names + ([f"{column.key}_low", f"{column.key}_high"] if "interval" in column.parts else [])


def _csv_values(row: Mapping[str, Any], column: Column) -> dict[str, Any]:
    """Return the CSV's values of a cell."""
    value = row.get(column.key)
    if not isinstance(value, Estimate):
        return {column.key: value}
    low, high = value.interval or (None, None)
    key = column.key
    return {key: value.value, f"{key}_sd": value.sd, f"{key}_low": low, f"{key}_high": high}


def as_markdown(table: Table) -> str:
    """Return a table in Markdown, numbers to the right."""
    lines = [[_heading(column) for column in table.columns]]
    lines.append(["---" if column.unit == "text" else "---:" for column in table.columns])
    lines += [[escaped(cell_text(row.get(one.key), one)) for one in table.columns] for row in table.rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _heading(column: Column) -> str:
    return escaped(f"{column.span}, {column.title}" if column.span else column.title)


def escaped(text: str) -> str:
    """Return text that Markdown shows as it is: names hold underscores, sentences may hold anything."""
    text = " ".join(text.split())
    for letter in "\\`*_{}[]<>|#":
        text = text.replace(letter, f"\\{letter}" if letter not in "<>" else {"<": "&lt;", ">": "&gt;"}[letter])
    return text
