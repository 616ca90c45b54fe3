"""Learning rates at the edge of their grid: found in a comparison.json, said in the report and in a report of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sorsa.report import report
from sorsa.report.edges import grid_edges
from sorsa.report.sources import gather
from tests.report import conftest as made

LINES = ["low (0.001, the smallest of 0.001, 0.002, 0.004)", "high (0.004, the largest of 0.001, 0.002, 0.004)"]
LINES.append("alone (0.1, the only one of 0.1)")


def comparison() -> dict[str, Any]:
    """Return what a comparison.json has of learning rates, whose edges are `LINES`."""

    def method(name: str, lr: float | None, *grid: float) -> dict[str, Any]:
        return {"config": name, "lr": lr, "grid": [{"lr": one} for one in grid]}

    methods = [method("low", 0.001, 0.001, 0.002, 0.004), method("high", 0.004, 0.004, 0.001, 0.002)]
    methods += [method("inside", 0.002, 0.001, 0.002, 0.004), method("none", 0.1), method("not yet", None, 0.1, 0.2)]
    return {"name": "mini", "methods": [*methods, method("alone", 0.1, 0.1)]}


def test_the_edges_of_grids() -> None:
    assert grid_edges(comparison()) == LINES


def test_a_report_says_them_and_so_does_a_report_of_it(tmp_path: Path, stand_ins: list[list[str]]) -> None:
    home = made.fill_comparison(tmp_path / "runs", ["mini_lora", "mini_sorsa"])
    made.write_json(home / "comparison.json", comparison())
    report(tmp_path / "runs", [], tmp_path / "one")
    report(None, [tmp_path / "one"], tmp_path / "two")
    for folder in ("one", "two"):
        for file in ("report.md", "index.html"):
            assert "may lie beyond: low (0.001, the smallest" in (tmp_path / folder / file).read_text(encoding="utf-8")


def test_they_lie_beside_committed_records(tmp_path: Path) -> None:
    made.write_run(tmp_path / "runs", "a")
    report(tmp_path / "runs", [], tmp_path / "report")
    (tmp_path / "report" / "records").rename(tmp_path / "records")
    made.write_json(tmp_path / "comparison.json", comparison())
    assert gather(None, [tmp_path]).edges == {"mini": LINES}


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"name": "mini", "methods": [{"grid": [{}]}]}', "[" * 100_000])
def test_a_damaged_comparison_is_skipped_and_said(tmp_path: Path, text: str) -> None:
    made.write_run(tmp_path / "runs", "a")
    home = tmp_path / "runs" / "comparison-mini"
    home.mkdir()
    (home / "comparison.json").write_text(text)
    sources = gather(tmp_path / "runs", [])
    assert len(sources.records) == 1 and sources.edges == {}
    (line,) = sources.skipped
    assert line.startswith(f"{home / 'comparison.json'}: damaged (") and "\n" not in line
