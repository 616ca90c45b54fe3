"""A working directory with question files, a way to write configurations, and a stand-in for run.py."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

STUB = Path(__file__).with_name("stub.py")


class Bench:
    """The working directory of one test.

    Args:
        defaults: Settings of every configuration it writes.
    """

    def __init__(self, defaults: dict[str, Any]) -> None:
        self.defaults = defaults
        self.plan(accuracy={"validate": {}, "test": {}})

    def write(self, name: str, folder: str = "configs", **settings: Any) -> str:
        """Write configs/NAME.yaml and return its path; a setting of None is left out."""
        path = Path(folder) / f"{name}.yaml"
        path.parent.mkdir(exist_ok=True)
        kept = {key: value for key, value in (self.defaults | settings).items() if value is not None}
        path.write_text(yaml.safe_dump(kept), encoding="utf-8")
        return str(path)

    def plan(self, **wishes: Any) -> None:
        """Tell the stub what to do (`stub.py`); what was said before stays."""
        path = Path("stub.json")
        before = json.loads(path.read_text()) if path.is_file() else {}
        path.write_text(json.dumps(before | wishes))

    def compare(self, *files: str, **flags: Any) -> dict[str, Any]:
        """Compare with the stub, into out/, and return comparison.json."""
        from sorsa.comparison import compare

        compare({"compare": list(files), "run_path": "out", **flags}, command=(sys.executable, str(STUB)))
        return json.loads(next(Path("out").glob("*/comparison.json")).read_text(encoding="utf-8"))

    def calls(self) -> list[str]:
        """Return what the stub has done so far, `STAGE RUN` each."""
        return [f"{call['stage']} {call['run']}" for call in self.raw_calls()]

    def raw_calls(self) -> list[dict[str, Any]]:
        """Return what the stub has noted so far."""
        path = Path("calls.jsonl")
        return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def write_questions(path: str, numbers: range) -> str:
    """Write a file of GSM-8K's shape and return its path."""
    rows = [{"question": f"What is {n} + 1?", "answer": f"#### {n + 1}"} for n in numbers]
    Path(path).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def bench(tiny_model: Path, tiny_rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """An empty working directory whose configurations are LoRA's on the tiny model, without a grid."""
    monkeypatch.chdir(tmp_path)
    return Bench(
        {
            "model": str(tiny_model),
            "local": True,
            "peft": "lora",
            "rank": 4,
            "lr": 0.002,
            "train_dataset": str(tiny_rows),
            "max_steps": 4,
            "test_dataset": "gsm-8k",
            "test_file": write_questions("test.jsonl", range(8)),
            "valid_file": write_questions("valid.jsonl", range(100, 108)),
        }
    )


@pytest.fixture
def questions() -> Callable[[str, range], str]:
    """The function `write_questions(path, numbers)`."""
    return write_questions
