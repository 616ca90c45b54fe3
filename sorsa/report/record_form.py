"""The form of a record (`sorsa.report.records`): what a file must have to be one. Nothing that is read is trusted.

A record may come from an older version, another machine or an editor. Everything the report reads is checked here, so
that a damaged file is named once, at the beginning, and not found by the table that stumbles over it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from sorsa.config_values import check_name
from sorsa.errors import UsageError

SCHEMA = 1
NUMBER = (int, float)
KEYS = {"name": str, "group": str, "training": dict, "metrics": dict, "results": dict, "verdicts": dict}
# Where these are there at all, they must be of these types, or null.
TRAINING = {"status": str, "versions": dict, "git": dict, "host": dict, "config": dict}
TRAINING |= dict.fromkeys(("seed", "steps", "steps_done", "tokens", "seconds", "first_loss", "last_loss"), NUMBER)
TRAINING |= dict.fromkeys(("trainable_parameters", "total_parameters", "peak_host_bytes"), NUMBER)
RESULT = {"dataset": str, "kind": str, "rule": str, "source": str, "graded": int, "config": dict, "environment": dict}
RESULT |= dict.fromkeys(("accuracy", "perplexity", "nll_per_token"), NUMBER) | {"interval_95": list, "text": dict}
RESULT |= {"windows": dict, "settings": dict}
CONFIG = {"lr": NUMBER, "gamma": NUMBER, "rank": int, "seed": int, "peft": str, "model": str, "regularizer_form": str}
ENVIRONMENT = {"versions": dict, "git": dict, "host": dict}
_WORD = re.compile(
    r"\w[\w.,:+-]{0,119}"
)  # of methods, benchmarks and matrices: they name files and are drawn in figures


class OtherSchema(UsageError):
    """A record of another schema: perhaps whole, but of a form that this version does not read.

    Args:
        where: Its file.
        schema: The schema's number.
        name: The run's name.
    """

    def __init__(self, where: str, schema: int, name: str) -> None:
        super().__init__(f"{where}: record schema {schema}; this version reads {SCHEMA}")
        self.schema = schema
        self.name = name


def check_record(record: Any, where: str) -> None:
    """Refuse what is not a record.

    Args:
        record: What the file holds.
        where: The file, for the message.

    Raises:
        OtherSchema: Its schema is another number.
        UsageError: It is no record, or damaged: says what is missing or of a wrong type.
    """
    if not isinstance(record, dict):
        raise UsageError(f"{where}: expected a JSON object, got {type(record).__name__}")
    schema = record.get("schema")
    if not isinstance(schema, int) or isinstance(schema, bool):
        raise UsageError(f"{where}: no record (its schema is {schema!r}, not a number)")
    if schema != SCHEMA:
        raise OtherSchema(where, schema, str(record.get("name", where)))
    missing = [key for key in (*KEYS, "comparison", "drift") if key not in record]
    if missing:
        raise UsageError(f"{where}: no {', no '.join(missing)}")
    _check(record, KEYS | {"comparison": str, "drift": dict}, where)
    for key in ("name", "group", "comparison"):
        if record[key] is not None and check_name(record[key]):  # they become names of files
            raise UsageError(f"{where}: {key} {record[key]!r} is no name of a run")
    for key in KEYS:
        if record[key] is None:
            raise UsageError(f"{where}: {key} is null")
    _check_training(record["training"], f"{where}, training")
    _check_metrics(record["metrics"], f"{where}, metrics")
    _check_drift(record["drift"] or {}, f"{where}, drift")
    for stem, result in record["results"].items():
        _check_word(stem, "benchmark", f"{where}, results")
        _check_result(result, f"{where}, results of {stem}")
    for stem, verdicts in record["verdicts"].items():
        _check_verdicts(verdicts, record["results"].get(stem), f"{where}, verdicts of {stem}")


def _check(value: Any, types: Mapping[str, type | tuple[type, ...]], where: str) -> None:
    """Refuse a value that is no object, or has an entry of another type than it should."""
    if not isinstance(value, dict):
        raise UsageError(f"{where}: expected an object, got {type(value).__name__}")
    for key, kind in types.items():
        entry = value.get(key)
        wrong = kind in (NUMBER, int) and not _is_number(entry)
        if entry is not None and (wrong or not isinstance(entry, kind)):
            expected = "a number" if kind == NUMBER else kind.__name__
            raise UsageError(f"{where}: {key!r} must be {expected}, got {type(entry).__name__}")


def _check_training(training: Any, where: str) -> None:
    """Check what record.json said."""
    _check(training, TRAINING, where)
    _check_environment(training, where)
    config = training.get("config") or {}
    _check(config, CONFIG, f"{where}, config")
    if config:
        _require(config, ("peft", "seed", "lr"), f"{where}, config")
        _check_word(config["peft"], "method", f"{where}, config")


def _check_environment(facts: dict[str, Any], where: str) -> None:
    """Check versions, git state and machine."""
    _check(facts, ENVIRONMENT, where)
    versions, git, host = (facts.get(key) or {} for key in ENVIRONMENT)
    _check(versions, dict.fromkeys(versions, str), f"{where}, versions")
    _check(git, {"commit": str, "dirty": object}, f"{where}, git")
    _check(host, {"name": str, "cpu": str, "cpus": int, "gpus": list}, f"{where}, host")
    for gpu in host.get("gpus") or []:
        _check(gpu, {"name": str}, f"{where}, host, gpus")


def _check_metrics(metrics: Any, where: str) -> None:
    """Check that the columns are numbers and equally long."""
    _check(metrics, dict.fromkeys(metrics, list), where)
    if len({len(column or []) for column in metrics.values()}) > 1:
        raise UsageError(f"{where}: the columns differ in length")
    for key, column in metrics.items():
        _check_numbers(column, f"{where}, {key}")
    if not all(isinstance(step, int) for step in metrics.get("step", ())):
        raise UsageError(f"{where}, step: not a list of whole numbers")


def _check_numbers(values: Any, where: str) -> None:
    if not isinstance(values, list) or not all(_is_number(value) for value in values):
        raise UsageError(f"{where}: not a list of numbers")


def _is_number(value: Any) -> bool:
    """Return whether a value is null or a number; true, which Python counts among them, and giants are not."""
    whole = isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63
    return value is None or isinstance(value, float) or whole


def _check_word(text: str, what: str, where: str) -> None:
    """Refuse a name that could leave its folder, be taken for markup or for a formula."""
    if not _WORD.fullmatch(text):
        raise UsageError(f"{where}: {text[:120]!r} is no name of a {what}")


def _require(value: dict[str, Any], keys: Iterable[str], where: str) -> None:
    """Refuse an object without some entries, or with null for one."""
    missing = [key for key in keys if value.get(key) is None]
    if missing:
        raise UsageError(f"{where}: no {', no '.join(missing)}")


def _check_drift(drift: dict[str, Any], where: str) -> None:
    """Check the rows of the means over the matrices, and of each matrix."""
    _check(drift, {"mean": list, "matrices": list}, where)
    rows = list(drift.get("mean") or [])
    for matrix in drift.get("matrices") or []:
        _check(matrix, {"name": str, "steps": list, "layer": int, "shape": list}, f"{where}, matrices")
        _require(matrix, ("name", "steps"), f"{where}, matrices")
        _check_word(matrix["name"], "matrix", f"{where}, matrices")
        rows += matrix["steps"]
    for row in rows:
        _check(row, dict.fromkeys(row, NUMBER) | {"step": int} if isinstance(row, dict) else {}, f"{where}, steps")
        _require(row, ("step",), f"{where}, steps")
        if any(key.startswith("condition") and value is not None and value <= 0 for key, value in row.items()):
            raise UsageError(f"{where}, steps: a condition number that is not above 0")


def _check_result(result: Any, where: str) -> None:
    """Check what a test found."""
    _check(result, RESULT, where)
    _check_environment(result.get("environment") or {}, f"{where}, environment")
    _check(result.get("config") or {}, {"limit": int}, f"{where}, config")
    bounds = result.get("interval_95")
    if bounds is not None:
        _check_numbers(bounds, f"{where}, interval_95")
        if len(bounds) != 2:
            raise UsageError(f"{where}, interval_95: {len(bounds)} bounds instead of 2")


def _check_verdicts(verdicts: Any, result: dict[str, Any] | None, where: str) -> None:
    """Check that a verdict is there for every question that was graded."""
    _check(verdicts, {"questions": str, "correct": str}, where)
    correct = verdicts.get("correct") or ""
    if not correct or set(correct) - {"0", "1"} or not verdicts.get("questions"):
        raise UsageError(f"{where}: not a hash of the questions and a row of 0 and 1")
    if result is None or result.get("graded") != len(correct):
        raise UsageError(f"{where}: {len(correct)} verdicts do not belong to a result of as many questions")
