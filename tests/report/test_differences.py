"""The list of differences is README's, its switches are settings, and the tables say what each run used."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from sorsa.config import RunConfig
from sorsa.config_files import CHECKOUT
from sorsa.report.differences import differences, differences_table, switches_table
from sorsa.report.records import collect
from tests.report import conftest as made


def test_numbers_and_titles_are_readmes() -> None:
    text = (CHECKOUT / "README.md").read_text(encoding="utf-8").split("## Where paper and code differ")[1]
    listed = re.findall(r"^(\d+)\. \*\*(.+?)\.\*\*", text.split("\n## ")[0], re.MULTILINE)
    assert [(str(entry["number"]), entry["title"]) for entry in differences()] == listed
    assert len(listed) >= 17


def test_every_switch_is_a_setting_and_readme_names_it() -> None:
    readme = (CHECKOUT / "README.md").read_text(encoding="utf-8")
    fields = {field.name for field in dataclasses.fields(RunConfig)}
    for entry in differences():
        if "switch" in entry:
            assert entry["switch"] in fields and entry["stage"] in ("training", "test")
            flag = entry["switch"].replace("_", "-")
            assert f"--{flag}" in readme or f"--no-{flag}" in readme


@pytest.fixture
def records(tmp_path: Path) -> list[dict]:
    """SORSA tested by two rules, LoRA without the regularizer's switches and untested."""
    sorsa = made.write_run(tmp_path, "a")
    made.write_test(sorsa, "01")
    made.write_test(sorsa, "01", "math", config={"grading_rule": "authors", "stop_at_answer": False})
    made.write_test(sorsa, "01", kind="base", config={"grading_rule": "base's do not count"})
    return [collect(sorsa, None), collect(made.write_run(tmp_path, "b", "lora"), None)]


def test_switches_of_each_run(records: list[dict]) -> None:
    table = switches_table(records)
    titles = {column.key: column.title for column in table.columns}
    assert titles["grading_rule"] == "grading rule (8, 9, 14)"
    first, second = table.rows
    assert (first["run"], second["run"]) == ("a", "b")
    assert (first["regularizer_form"], second["regularizer_form"]) == ("frobenius", None)
    assert (first["truncation"], second["truncation"]) == ("sample", "sample")
    assert (first["grading_rule"], second["grading_rule"]) == ("ours, authors", None)
    assert first["stop_at_answer"] == "yes, no"


def test_numbers_of_runs(records: list[dict]) -> None:
    rows = {row["number"]: row for row in differences_table(records).rows}
    assert rows[1]["used"] == "frobenius (1)"
    assert rows[6]["used"] == "sample (2)"
    assert rows[8]["used"] == "ours (1), authors (1)"
    assert (rows[4]["switch"], rows[4]["used"]) == ("none: one way for all runs", None)
    assert rows[17]["switch"] == "--stop-at-answer"
