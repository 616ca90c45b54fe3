"""Records: what they keep of a run folder, their files, and every kind of damage that is named instead of believed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sorsa.errors import UsageError
from sorsa.report.record_form import OtherSchema
from sorsa.report.records import collect, find_record_files, find_runs, read_record, write_records
from tests.report import conftest as made


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A tested run of a comparison, analysed."""
    run = made.write_run(tmp_path / "comparison-mini" / "runs", "mini_sorsa-lr0.004-seed3", seed=3)
    made.write_test(run, "0110")
    made.write_perplexity(run, 20.0)
    made.write_json(run / "analysis" / "drift.json", made.drift(0.5))
    made.write_perplexity(tmp_path / "comparison-mini" / "base" / "another", 6.0, "base")
    return run


def test_a_record_has_what_the_folder_has(run: Path) -> None:
    record = collect(run, "mini")
    assert (record["schema"], record["name"], record["group"]) == (1, "mini_sorsa-lr0.004-seed3", "mini_sorsa")
    assert record["comparison"] == "mini"
    assert record["training"] == json.loads((run / "record.json").read_text())
    assert record["drift"] == made.drift(0.5)
    assert record["results"]["gsm-8k"]["accuracy"] == 0.5
    assert record["results"]["base-perplexity"]["perplexity"] == 6.0  # which --compare measures once, beside its runs
    ids = hashlib.sha256(b"0\n1\n2\n3").hexdigest()
    assert record["verdicts"] == {"gsm-8k": {"questions": ids, "correct": "0110"}}
    assert record["metrics"]["step"] == list(range(1, 21))
    assert record["metrics"]["grad_norm"][0] == 0.333333  # six digits
    assert set(record["metrics"]) == {"step", "loss", "grad_norm", "learning_rate"}


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("x-lr3e-05-seed42", "x"),
        ("x-lr0.004-seed1", "x"),
        ("llama2_sorsa_r128", "llama2_sorsa_r128"),
        ("x-lr2", "x-lr2"),
    ],
)
def test_the_group_is_the_configurations_name(tmp_path: Path, name: str, group: str) -> None:
    assert collect(made.write_run(tmp_path, name), None)["group"] == group


def test_a_run_that_was_only_tested_has_no_training(tmp_path: Path) -> None:
    made.write_test(tmp_path / "x", "01", kind="base")
    record = collect(tmp_path / "x", None)
    assert (record["training"], record["metrics"], record["drift"]) == ({}, {}, None)
    assert list(record["verdicts"]) == ["base-gsm-8k"]


def test_numbers_that_are_none_become_null(tmp_path: Path) -> None:
    run = made.write_run(tmp_path, "x", status="diverged", last_loss=float("nan"))
    made.write_jsonl(run / "metrics.jsonl", [{"step": 1, "loss": float("inf")}])
    write_records([collect(run, None)], tmp_path / "records")
    text = (tmp_path / "records" / "x.json").read_text()
    assert "NaN" not in text and "Infinity" not in text
    assert json.loads(text)["metrics"] == {"step": [1], "loss": [None]}


def test_runs_are_found_alone_and_in_comparisons(tmp_path: Path) -> None:
    made.write_run(tmp_path, "b")
    made.write_test(tmp_path / "a", "1")
    (tmp_path / "cache").mkdir()
    made.write_run(tmp_path / "comparison-mini" / "runs", "c")
    (tmp_path / "comparison-mini" / "logs").mkdir()
    names = [(path.name, comparison) for path, comparison in find_runs(tmp_path)]
    assert names == [("a", None), ("b", None), ("c", "mini")]


def test_records_are_written_and_read_back(run: Path, tmp_path: Path) -> None:
    records = [collect(run, "mini"), collect(made.write_run(tmp_path / "runs", "other"), None)]
    write_records(records, tmp_path / "out" / "records")
    files = find_record_files(tmp_path / "out")
    assert [path.name for path in files] == ["mini_sorsa-lr0.004-seed3.json", "other.json"]
    assert [read_record(path) for path in files] == records
    assert len(files[0].read_text().splitlines()) == len(records[0]) + 2  # a line per part


def test_two_runs_of_one_name_have_two_files(tmp_path: Path) -> None:
    one = collect(made.write_run(tmp_path, "x"), None)
    write_records([one, one | {"comparison": "a"}], tmp_path / "records")
    assert {path.name for path in (tmp_path / "records").iterdir()} == {"x.json", "comparison-a.x.json"}


def test_record_files_are_those_of_the_folder_itself_without_a_folder_records(tmp_path: Path) -> None:
    for name in ("comparison.json", "report.json", "x.json", "notes.txt"):
        (tmp_path / name).write_text("{}")
    assert [path.name for path in find_record_files(tmp_path)] == ["x.json"]


def damage(change: Callable[[dict[str, Any]], Any]) -> Callable[[dict[str, Any]], Any]:
    """Return a function that changes a record and returns it."""
    return lambda record: (change(record), record)[1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda record: [record], r"x\.json: expected a JSON object, got list"),
        (damage(lambda r: r.update(schema="1")), r"no record \(its schema is '1', not a number\)"),
        (damage(lambda r: r.pop("schema")), r"no record \(its schema is None, not a number\)"),
        (damage(lambda r: (r.pop("drift"), r.pop("group"))), "x.json: no group, no drift"),
        (damage(lambda r: r.update(name=3)), "'name' must be str, got int"),
        (damage(lambda r: r.update(results=None)), "results is null"),
        (damage(lambda r: r.update(name="../x")), r"name '\.\./x' is no name of a run"),
        (damage(lambda r: r.update(comparison="a/b")), "comparison 'a/b' is no name of a run"),
        (damage(lambda r: r["training"].update(seconds="long")), "training: 'seconds' must be a number, got str"),
        (damage(lambda r: r["training"].update(seconds=True)), "training: 'seconds' must be a number, got bool"),
        (damage(lambda r: r["training"].update(versions={"torch": 2})), "versions: 'torch' must be str, got int"),
        (damage(lambda r: r["training"]["config"].update(lr="high")), "config: 'lr' must be a number, got str"),
        (damage(lambda r: r["training"]["config"].pop("seed")), "training, config: no seed"),
        (damage(lambda r: r["training"].update(seed=2**63)), "training: 'seed' must be a number, got int"),
        (damage(lambda r: r["training"].update(host={"gpus": ["A100"]})), "gpus: expected an object, got str"),
        (damage(lambda r: r["training"]["config"].update(peft="$x$")), r"config: '\$x\$' is no name of a method"),
        (damage(lambda r: r["results"].update({"../x": {}})), r"results: '\.\./x' is no name of a benchmark"),
        (damage(lambda r: r["results"].update({'"><b>': {}})), r"""results: '"><b>' is no name of a benchmark"""),
        (damage(lambda r: r["drift"]["matrices"][0].update(name="$q$")), r"'\$q\$' is no name of a matrix"),
        (damage(lambda r: r["metrics"].update(loss=[1])), "metrics: the columns differ in length"),
        (damage(lambda r: r["metrics"]["loss"].__setitem__(0, "x")), "metrics, loss: not a list of numbers"),
        (damage(lambda r: r["metrics"]["step"].__setitem__(0, 1.5)), "metrics, step: not a list of whole numbers"),
        (damage(lambda r: r["drift"]["mean"][0].pop("step")), "drift, steps: no step"),
        (damage(lambda r: r["drift"]["matrices"][0].pop("name")), "drift, matrices: no name"),
        (damage(lambda r: r["drift"]["mean"].append("x")), "drift, steps: expected an object, got str"),
        (damage(lambda r: r["drift"]["mean"][0].update(dD="x")), "drift, steps: 'dD' must be a number, got str"),
        (damage(lambda r: r["drift"]["mean"][0].update(condition_merged=0)), "a condition number that is not above 0"),
        (damage(lambda r: r["drift"].update(matrices=[1])), "drift, matrices: expected an object, got int"),
        (damage(lambda r: r["results"].update(math=3)), "results of math: expected an object, got int"),
        (damage(lambda r: r["results"]["gsm-8k"].update(accuracy="x")), "gsm-8k: 'accuracy' must be a number"),
        (damage(lambda r: r["results"]["gsm-8k"].update(interval_95=[1])), "interval_95: 1 bounds instead of 2"),
        (damage(lambda r: r["results"]["gsm-8k"].update(environment=[1])), "'environment' must be dict, got list"),
        (damage(lambda r: r["verdicts"]["gsm-8k"].update(correct="012")), "not a hash of the questions and a row of"),
        (damage(lambda r: r["verdicts"]["gsm-8k"].update(correct="01")), "2 verdicts do not belong to a result"),
        (damage(lambda r: r["verdicts"].update({"gsm-8k": "01"})), "verdicts of gsm-8k: expected an object, got str"),
        (damage(lambda r: r["results"].clear()), "4 verdicts do not belong to a result"),
    ],
)
def test_a_damaged_record_is_named(run: Path, tmp_path: Path, change: Callable, message: str) -> None:
    path = tmp_path / "x.json"
    made.write_json(path, change(collect(run, "mini")))
    with pytest.raises(UsageError, match=message) as caught:
        read_record(path)
    assert "x.json" in str(caught.value) and "\n" not in str(caught.value)


def test_a_file_that_is_no_json_is_named(tmp_path: Path) -> None:
    for text in (b"{", b"\xff", b"[" * 100_000):
        (tmp_path / "x.json").write_bytes(text)
        with pytest.raises(UsageError, match=r"x\.json: not JSON"):
            read_record(tmp_path / "x.json")
    with pytest.raises(UsageError, match=r"cannot read .*y\.json: No such file"):
        read_record(tmp_path / "y.json")


def test_another_schema_is_told_from_damage(run: Path, tmp_path: Path) -> None:
    made.write_json(tmp_path / "x.json", {"schema": 2, "name": "later"})
    with pytest.raises(OtherSchema, match=r"x\.json: record schema 2; this version reads 1") as caught:
        read_record(tmp_path / "x.json")
    assert (caught.value.schema, caught.value.name) == (2, "later")


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("record.json", "{", r"record\.json: not JSON"),
        ("metrics.jsonl", "x\n{}\n", r"metrics\.jsonl line 1: not JSON"),
        ("metrics.jsonl", "{}\n[1]\n{}\n", r"metrics\.jsonl line 2: not JSON \(expected an object, got list\)"),
        ("metrics.jsonl", b"\xff\xfe\n{}\n", r"metrics\.jsonl line 1: not JSON"),
        ("results/gsm-8k.json", "[]", r"gsm-8k\.json: expected a JSON object, got list"),
        ("results/gsm-8k.jsonl", '{"id": "0"}\n', r"gsm-8k\.jsonl, line 1: no 'completion'; test again"),
        ("analysis/drift.json", "{", r"drift\.json: not JSON .* analyse again"),
    ],
)
def test_a_damaged_run_folder_is_named(run: Path, file: str, text: str | bytes, message: str) -> None:
    (run / file).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UsageError, match=message):
        collect(run, "mini")


def test_verdicts_must_be_of_all_graded_questions(run: Path) -> None:
    path = run / "results" / "gsm-8k.jsonl"
    whole = path.read_text()
    path.write_text("".join(whole.splitlines(keepends=True)[:3]))
    with pytest.raises(UsageError, match=r"gsm-8k\.jsonl does not hold the 4 graded rows of its test; test again"):
        collect(run, "mini")
    path.write_text(whole.replace('"correct": true, "extracted": "1", "reason": "", "how": null, "verd', '"verd'))
    with pytest.raises(UsageError, match=r"the row of id 1: not said whether it is correct; test again"):
        collect(run, "mini")
