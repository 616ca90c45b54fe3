"""Where paper and code differ, and which way each run went: `differences.yaml`'s switches in the runs' settings."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from sorsa.report.records import BASE
from sorsa.report.tables import Column, Table

LIST = Path(__file__).with_name("differences.yaml")


@functools.cache
def differences() -> tuple[dict[str, Any], ...]:
    """Return the list: number, title, and where there is one the switch and the stage whose setting it is."""
    return tuple(yaml.safe_load(LIST.read_text(encoding="utf-8")))


def differences_table(records: Sequence[dict[str, Any]]) -> Table:
    """Return the list with what the runs used, in numbers of runs.

    Args:
        records: All.
    """
    rows = []
    for entry in differences():
        switch = entry.get("switch")
        used = [value for record in records for value in _values(record, switch)] if switch else []
        counts = ", ".join(f"{value} ({used.count(value)})" for value in dict.fromkeys(used))
        flag = f"--{switch.replace('_', '-')}" if switch else "none: one way for all runs"
        rows.append({"number": entry["number"], "title": entry["title"], "switch": flag, "used": counts or None})
    columns = (Column("number", "no.", "plain"), Column("title", "difference"), Column("switch", "switch"))
    columns += (Column("used", "used by (number of runs)"),)
    about = (
        "The numbers are those of the section “Where paper and code differ” of README.md, which explains each. A run "
        "counts once for each value that its training or its tests used; methods without a setting do not count."
    )
    return Table("differences", "Where paper and code differ", about, columns, tuple(rows))


def switches_table(records: Sequence[dict[str, Any]]) -> Table:
    """Return a row for each run: the value of every switch that it used.

    Args:
        records: All.
    """
    switches: dict[str, list[int]] = {}
    for entry in differences():
        if "switch" in entry:
            switches.setdefault(entry["switch"], []).append(entry["number"])
    columns = [Column("run", "run")]
    for switch, numbers in switches.items():
        columns.append(Column(switch, f"{switch.replace('_', ' ')} ({', '.join(map(str, numbers))})"))
    rows = [
        {"run": record["name"]} | {switch: ", ".join(_values(record, switch)) or None for switch in switches}
        for record in records
    ]
    about = "In brackets the numbers of the differences that a switch is about. A dash: the run has no such setting."
    return Table("switches", "Switches of each run", about, tuple(columns), tuple(rows))


def _values(record: dict[str, Any], switch: str) -> list[str]:
    """Return the values of a switch that a run used, each once: tests may have used several."""
    stage = next(entry["stage"] for entry in differences() if entry.get("switch") == switch)
    if stage == "training":
        configs = [record["training"].get("config") or {}]
    else:
        graded = [stem for stem in record["verdicts"] if not stem.startswith(BASE)]
        configs = [record["results"][stem].get("config") or {} for stem in graded]
    values = (config.get(switch) for config in configs)
    return list(dict.fromkeys(_word(value) for value in values if value is not None))


def _word(value: Any) -> str:
    return {True: "yes", False: "no"}.get(value, value) if isinstance(value, bool) else str(value)
