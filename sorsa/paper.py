"""The numbers of the paper's Tables 1 to 6, read from `paper.yaml`: what our configs, plans and scores stand beside."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

PAPER = Path(__file__).parent / "paper.yaml"
QUESTIONS = {"gsm-8k": 1319, "math": 5000, "humaneval": 164}  # of the whole test sets, behind the scores of Table 1
BENCHMARKS = tuple(QUESTIONS)
STEPS = 781  # of every training: 100,000 rows in batches of 128, the last partial one dropped
CODE_SUFFIX = "_code"  # of the run that was trained on CodeFeedback, for HumanEval


@dataclasses.dataclass(frozen=True)
class Score:
    """One row of Table 1."""

    run: str
    """Our config of this row, trained for GSM-8K and MATH; with `_code` appended, for HumanEval."""
    model: str
    """`llama2`, `rwkv6`, `mistral` or `gemma`; `model_titles` has the paper's spelling."""
    method: str
    """Its name in `sorsa.methods.METHODS`."""
    million: int
    """Trainable parameters, in millions."""
    accuracy: Mapping[str, float]
    """Percent, by benchmark."""
    quoted: bool
    """Whether the paper took the row from the PiSSA paper (its daggers)."""


@dataclasses.dataclass(frozen=True)
class Column:
    """One column of a table of hyperparameters."""

    table: int
    run: str
    model: str
    method: str
    settings: Mapping[str, Any]
    """By the name of our setting where it means the same; `batch_size` is the global one, `grad_clip` false is none."""


def scores() -> tuple[Score, ...]:
    """Return the 19 rows of Table 1, in its order."""
    table = _content()["table1"]
    rows = []
    for cells in table["rows"]:
        row = dict(zip(table["columns"], cells, strict=True))
        accuracy = {name: row.pop(name) for name in BENCHMARKS}
        rows.append(Score(accuracy=accuracy, **row))
    return tuple(rows)


def find_score(run: str) -> Score | None:
    """Return the row of Table 1 that a run of this name reproduces (with or without `_code`), or None."""
    return next((row for row in scores() if row.run == run.removesuffix(CODE_SUFFIX)), None)


def training() -> tuple[Column, ...]:
    """Return the columns of Tables 2, 3 and 5."""
    return _columns("training")


def evaluation() -> tuple[Column, ...]:
    """Return the columns of Tables 4 and 6."""
    return _columns("evaluation")


def model_titles() -> dict[str, str]:
    """Return the paper's spelling of each model, by the name our configs use."""
    return dict(_content()["models"])


def _columns(kind: str) -> tuple[Column, ...]:
    """Return the columns of all tables of a kind, what they share merged in."""
    columns = []
    for table in _content()[kind]:
        for row in table["rows"]:
            own = {key: row[key] for key in row if key not in ("run", "model", "method")}
            settings = table["shared"] | own
            columns.append(Column(table["table"], row["run"], row["model"], row["method"], settings))
    return tuple(columns)


@functools.cache
def _content() -> dict[str, Any]:
    """Return the content of paper.yaml; read once."""
    return yaml.safe_load(PAPER.read_text(encoding="utf-8"))
