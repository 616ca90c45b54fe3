"""A run that the product itself trains, merges, tests and analyses, as a record and in a report: no made-up files."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sorsa.report import report as write_report
from sorsa.report.records import collect, read_record, write_records
from sorsa.report.table1 import table1
from sorsa.run_folder import RunFolder


def test_what_the_product_writes_is_a_record(tiny_config: Callable[..., Any], tmp_path: Path) -> None:
    from sorsa.analysis.drift import analyze
    from sorsa.evaluation import test
    from sorsa.merging import merge
    from sorsa.training import train

    questions = [{"question": f"What is {n} + 1?", "answer": f"#### {n + 1}"} for n in range(3)]
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in questions))
    (tmp_path / "text.txt").write_text("one two three four five " * 30)
    train(tiny_config(max_steps=2, snapshots=1))
    merge(tiny_config())
    answers = {"test_dataset": "gsm-8k", "test_file": str(tmp_path / "test.jsonl"), "max_new_tokens": 4}
    test(tiny_config(**answers))
    test(tiny_config(**answers, base=True))
    text = {"test_dataset": "perplexity", "test_file": str(tmp_path / "text.txt"), "length": 64}
    test(tiny_config(**text))
    test(tiny_config(**text, base=True))
    analyze(tiny_config(max_steps=2, snapshots=1), workers=1)

    folder = RunFolder(tmp_path / "runs", "tiny")
    record = collect(folder.path, None)
    write_records([record], tmp_path / "records")
    assert read_record(tmp_path / "records" / "tiny.json") == record
    assert set(record["results"]) == {"gsm-8k", "base-gsm-8k", "perplexity", "base-perplexity"}
    assert set(record["verdicts"]) == {"gsm-8k", "base-gsm-8k"}
    assert record["metrics"]["step"] == [1, 2] and "orthonormality_error" in record["metrics"]
    assert record["drift"]["mean"][-1]["step"] == 2

    write_report(tmp_path / "runs", [], tmp_path / "report")  # with the real claims and figures
    report = tmp_path / "report"
    _, cells = csv.DictReader((report / "comparison.csv").read_text(encoding="utf-8").splitlines())
    # the mean of the record's own six digits, which are rounded once more in its "mean"
    last = [matrix["steps"][-1]["dD"] for matrix in record["drift"]["matrices"]]
    assert float(cells["dD"]) == pytest.approx(sum(last) / len(last))
    assert float(cells["perplexity_after"]) == pytest.approx(record["results"]["perplexity"]["perplexity"])
    assert float(cells["perplexity_before"]) == pytest.approx(record["results"]["base-perplexity"]["perplexity"])
    assert all(row["gsm-8k_ours"] == "not run" for row in table1([record]).rows)
    assert {path.name for path in (report / "figures" / "_single-runs").iterdir()} >= {
        "training.svg",
        "trajectories.pdf",
    }
    assert '"answers":[[' in (report / "index.html").read_text()
