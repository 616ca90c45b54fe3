"""Reading what earlier tests left in `results/`: whatever is damaged there becomes one line that names file and line.

The files may come from an older version, another machine or an editor; nothing that is read here is trusted to have
the form that this version writes.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from sorsa.errors import UsageError
from sorsa.evaluation.completions import Completion
from sorsa.evaluation.questions import read_jsonl
from sorsa.files import read_json_object

# column of a record -> its type, where it is there at all
_RECORD = {"dataset": str, "kind": str, "rule": str, "rules": dict, "graded": int, "config": dict, "settings": dict}
_RECORD |= {"environment": dict, "regraded": dict}
_ANSWER = {"id": str, "completion": str, "tokens": int, "truncated": bool, "ended": str}


def read_record(path: Path, again: str = "test again") -> dict[str, Any]:
    """Return a results/DATASET.json.

    Args:
        path: The file.
        again: What to do where it is damaged.

    Raises:
        UsageError: It cannot be read, is no JSON object, or one of its columns is of another type.
    """
    record = read_json_object(path, again)
    _check_types(record, _RECORD, str(path), again)
    for key in ("environment", "regraded"):
        _check_types(record.get(key, {}), {"versions": dict}, f"{path}, {key}", again)
    _check_types(record.get("rules", {}), dict.fromkeys(record.get("rules", {}), dict), f"{path}, rules", again)
    return record


def _check_types(row: dict[str, Any], types: dict[str, type], where: str, again: str) -> None:
    """Raise UsageError where a value that is there has another type than it should."""
    for key, kind in types.items():
        if key in row and not isinstance(row[key], kind):
            got = type(row[key]).__name__
            raise UsageError(f"{where}: {key!r} must be of type {kind.__name__}, got {got}; {again}")


def read_graded_rows(path: Path) -> dict[str, dict[str, Any]]:
    """Return the rows of a results/DATASET.jsonl by question id, in order.

    Raises:
        UsageError: A row has no id, no completion, or no verdicts.
    """
    rows: dict[str, dict[str, Any]] = {}
    for number, row in read_jsonl(path):
        where = f"{path}, line {number}"
        for key, kind in (("id", str), ("completion", str), ("verdicts", dict)):
            if key not in row:
                raise UsageError(f"{where}: no {key!r}; test again")
            _check_types(row, {key: kind}, where, "test again")
        for rule, said in row["verdicts"].items():
            if not isinstance(said, dict) or not isinstance(said.get("correct"), bool):
                raise UsageError(f"{where}: the verdict {rule!r} does not say whether it is correct; test again")
        rows[row["id"]] = row
    return rows


def read_answers(path: Path, test_again: str) -> tuple[dict[str, Any], dict[str, Completion]]:
    """Return the header of a completions file and its answers by question id.

    Args:
        path: The file; a torn last line is no answer.
        test_again: What to do where it is damaged.

    Raises:
        UsageError: It is missing, damaged, or the test was interrupted.
    """
    if not path.is_file():
        raise UsageError(f"nothing to grade again: no {path}; {test_again}")
    lines = [line for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
    rows = [_object(line, f"{path}, line {number}", test_again) for number, line in enumerate(lines, start=1)]
    settings = rows[0].get("settings") if rows else None
    if not isinstance(settings, dict) or not {"questions", "prompts"} <= settings.keys():
        raise UsageError(f"{path} is no file of completions (its header has no prompts); {test_again}")
    _check_types(settings, {"questions": int}, f"{path}, line 1", test_again)
    answers: dict[str, Completion] = {}
    for number, row in enumerate(rows[1:], start=2):
        answer = _answer(row, f"{path}, line {number}", test_again)
        answers[answer.id] = answer
    if len(answers) < settings["questions"]:
        raise UsageError(
            f"{path} holds {len(answers)} of {settings['questions']} answers: the test was interrupted; {test_again}"
        )
    return rows[0], answers


def _object(line: bytes, where: str, again: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{where}: not JSON ({error}); {again}") from error
    if not isinstance(row, dict):
        raise UsageError(f"{where} is no file of completions ({type(row).__name__} instead of an object); {again}")
    return row


def _answer(row: dict[str, Any], where: str, again: str) -> Completion:
    """Return one answer; versions before `ended` said only whether the length limit was hit."""
    row = {"ended": "length" if row.get("truncated") else ""} | row
    columns = [field.name for field in dataclasses.fields(Completion)]
    missing = [key for key in columns if key not in row]
    if missing:
        raise UsageError(f"{where} is no file of completions (no {', '.join(missing)}); {again}")
    _check_types(row, _ANSWER, where, again)
    return Completion(**{key: row[key] for key in columns})
