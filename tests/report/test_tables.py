"""Tables as text: numbers rounded for reading, whole in CSV, nothing that Markdown would take for its own."""

from __future__ import annotations

import csv
import io

import pytest

from sorsa.report.tables import Column, Estimate, Table, as_csv, as_markdown, cell_text

PERCENT = Column("accuracy", "accuracy, %", "percent", ("sd", "interval"))


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (None, "percent", "–"),
        (0.5, "percent", "50.0"),
        (Estimate(0.594, (0.55, 0.637), 0.012), "percent", "59.4 ± 1.2 (55.0 to 63.7)"),
        (Estimate(-0.03, (-0.06, 0.01)), "points", "-3.0 (-6.0 to +1.0)"),
        (Estimate(0.5, (-1.0, 2.0), 0.25), "signed", "+0.5 ± 0.25 (-1 to +2)"),
        (319844352, "count", "319,844,352"),
        (42, "plain", "42"),
        (3e-05, "rate", "3e-05"),
        (0.00012345, "number", "1.2e-04"),
        (12.345, "number", "12.3"),
        (12345.6, "number", "12,346"),
        (1.5e9, "number", "1.5e+09"),
        (0.0, "number", "0"),
        (0.12345, "seconds", "0.123"),
        (1234.5, "seconds", "1,234.5"),
        ("not run", "percent", "not run"),
        ("word", "text", "word"),
    ],
)
def test_cells(value: object, unit: str, text: str) -> None:
    assert cell_text(value, Column("x", "x", unit)) == text


def test_csv_has_whole_numbers_and_a_column_for_each_part() -> None:
    one = Table(
        "a", "A", "", (Column("run", "run"), PERCENT), ({"run": "x, y", "accuracy": Estimate(1 / 3, (0.1, 0.9))},)
    )
    two = Table("b", "B", "", (Column("run", "run"), Column("math", "math", "percent")), ({"run": "z", "math": 0.5},))
    rows = list(csv.reader(io.StringIO(as_csv([one, two]))))
    assert rows == [
        ["run", "accuracy", "accuracy_sd", "accuracy_low", "accuracy_high", "math"],
        ["x, y", repr(1 / 3), "", "0.1", "0.9", ""],
        ["z", "", "", "", "", "0.5"],
    ]


def test_markdown_shows_text_as_it_is() -> None:
    columns = (Column("run", "run"), Column("before", "before", "number", span="perplexity"))
    rows = ({"run": "a_b|c\n<img>*", "before": 2.0},)
    assert as_markdown(Table("a", "A", "", columns, rows)).splitlines() == [
        "| run | perplexity, before |",
        "| --- | ---: |",
        r"| a\_b\|c &lt;img&gt;\* | 2 |",
    ]


def test_empty_columns_go_but_the_first_stays() -> None:
    table = Table("a", "A", "", (Column("run", "run"), PERCENT, Column("x", "x", "number")), ({"x": 0.0},))
    assert [column.key for column in table.without_empty_columns().columns] == ["run", "x"]
