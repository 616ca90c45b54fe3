"""`--compare-runs`: figures against those worked out by hand, what is refused, what is warned about."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sorsa import cli
from sorsa.errors import UsageError
from sorsa.evaluation.compare_runs import ONE_SIDE, SEEDS, compare_runs
from sorsa.evaluation.statistics import (
    difference_over_seeds,
    mcnemar_exact,
    paired_interval,
    seeds_and_questions_interval,
    wilson_interval,
)

A = "1110010110"  # verdicts of ten questions
B = "1101110111"  # both 1, 2, 6, 8, 9 ...: see the counts below


def write(folder: Path, run: str, verdicts: str, kind: str = "merged", dataset: str = "gsm-8k", **fields: Any) -> None:
    """Write what a test leaves: a record and one row per question."""
    rule = fields.pop("rule", "ours")
    change = {"prompt": "p", "gold": "g", "completion": "text"} | fields.pop("row", {})
    results = folder / run / "results"
    results.mkdir(parents=True, exist_ok=True)
    stem = dataset.replace(":", "-") if kind == "merged" else f"{kind}-{dataset}"
    rows = []
    for index, letter in enumerate(verdicts):
        said = {"correct": letter == "1", "extracted": f"{run}{index}", "reason": "equal"}
        authors = said | {"correct": True}
        row = {"id": str(index), **{key: f"{text}{index}" for key, text in change.items()}}
        rows.append(row | {"verdicts": {"ours": said, "authors": authors}})
    (results / f"{stem}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (results / f"{stem}.completions.jsonl").write_text("{}\n")
    settings = {"model": run, "prompts": "x", "precision": "bf16", "max_new_tokens": 8} | fields.pop("settings", {})
    record = {"dataset": dataset, "kind": kind, "rule": rule, "rules": {"ours": {}, "authors": {}}}
    record |= {"graded": len(rows), "settings": settings, "environment": {"git": {"commit": "c"}}} | fields
    (results / f"{stem}.json").write_text(json.dumps(record))


def test_one_run_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, "a", A)
    write(tmp_path, "b", B, row={"completion": "other"})
    found = compare_runs("a", "b", tmp_path)["benchmarks"]["gsm-8k"]
    assert found["counts"] == {"both": 5, "only_a": 1, "only_b": 3, "neither": 1}
    assert found["a"]["accuracy"] == 0.6 and found["a"]["interval_95"] == list(wilson_interval(6, 10))
    assert found["b"]["accuracy"] == 0.8 and found["b"]["sd"] is None
    assert found["difference"]["value"] == pytest.approx(0.2)
    assert found["difference"]["interval_95"] == list(paired_interval(5, 1, 3, 1))
    assert found["difference"]["p_value"] == mcnemar_exact(1, 3) == 0.625
    assert [row["id"] for row in found["flipped"]] == ["2", "3", "4", "9"]
    assert found["flipped"][0] == {"id": "2", "right_in_a": 1.0, "right_in_b": 0.0, "gold": "g2",
                                   "extracted_a": ["a2"], "extracted_b": ["b2"]}  # fmt: skip
    assert found["same_text"] == 0 and found["warnings"] == []
    out = capsys.readouterr().out
    low, high = (100 * bound for bound in paired_interval(5, 1, 3, 1))
    assert f"B - A: +20.00 points ({low:.2f} to {high:.2f}), p = 0.625" in out and "McNemar" in out
    assert "right in A only: 2, gold g2; A read a2; B read b2" in out
    reverse = compare_runs("b", "a", tmp_path)["benchmarks"]["gsm-8k"]["difference"]
    assert reverse["value"] == pytest.approx(-0.2) and reverse["p_value"] == 0.625


def test_own_base_and_several_benchmarks(tmp_path: Path) -> None:
    for dataset in ("gsm-8k", "math"):
        write(tmp_path, "x", B, dataset=dataset)
        write(tmp_path, "x", A, kind="base", dataset=dataset)
    write(tmp_path, "x", A, dataset="humaneval")
    found = compare_runs("base:x", "x", tmp_path)["benchmarks"]
    assert list(found) == ["gsm-8k", "math"] and found["math"]["a"]["accuracy"] == 0.6
    assert list(compare_runs("base:x", "x", tmp_path, "math")["benchmarks"]) == ["math"]
    assert found["gsm-8k"]["same_text"] == 1


def test_several_seeds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seeds = {"a0": "1110010110", "a1": "1110010100", "a2": "1010010110", "b0": "1101110111", "b1": "1111110111"}
    for run, verdicts in seeds.items():
        write(tmp_path, run, verdicts)
    found = compare_runs("a0,a1,a2", "b0,b1", tmp_path)["benchmarks"]["gsm-8k"]
    left, right = ([[c == "1" for c in seeds[run]] for run in runs] for runs in (("a0", "a1", "a2"), ("b0", "b1")))
    assert found["method"] == SEEDS and found["a"]["runs"] == [0.6, 0.5, 0.5]
    assert found["a"]["interval_95"] == list(seeds_and_questions_interval(left).interval_95)
    assert found["a"]["sd"] == pytest.approx(0.057735, abs=1e-6)
    expected = difference_over_seeds(left, right)
    assert found["difference"]["interval_95"] == list(expected.interval_95)
    assert found["difference"]["p_value"] == expected.p_value and found["difference"]["degrees_of_freedom"] > 1
    assert found["counts"]["both"] == pytest.approx(29 / 6) and sum(found["counts"].values()) == pytest.approx(10)
    assert [row["id"] for row in found["flipped"]] == ["2", "3", "4", "9"]
    out = capsys.readouterr().out
    assert "sd over 3 seeds 5.77" in out and "right in 3 of 3 seeds of A, 1 of 2 seeds of B: 2, gold g2" in out


def test_warnings_and_rules(tmp_path: Path) -> None:
    write(tmp_path, "a", A)
    write(tmp_path, "b", B, rule="authors", settings={"max_new_tokens": 16}, regraded={"git": {"commit": "d"}})
    with pytest.raises(
        UsageError, match=r"headline rules differ \('ours' in a, 'authors' in b\); name one with --grad"
    ):
        compare_runs("a", "b", tmp_path)
    found = compare_runs("a", "b", tmp_path, rule="ours")["benchmarks"]["gsm-8k"]
    assert found["warnings"] == ["code that graded (git commit): c in A, d in B", "max_new_tokens: 8 in A, 16 in B"]
    assert compare_runs("a", "b", tmp_path, rule="authors")["benchmarks"]["gsm-8k"]["difference"]["value"] == 0


def test_refusals(tmp_path: Path) -> None:
    write(tmp_path, "demo_a", A)
    write(tmp_path, "b", B)
    write(tmp_path, "short", B[:-1])
    write(tmp_path, "prompt", B, row={"prompt": "q"})
    write(tmp_path, "gold", B, row={"gold": "h"})
    write(tmp_path, "choices", B, row={"choices": "c"})
    write(tmp_path, "math", B, dataset="math")
    write(tmp_path, "cut", B, graded=11)
    write(tmp_path, "broken", B)
    (tmp_path / "broken/results/gsm-8k.json").write_text("{")
    (tmp_path / "untested").mkdir()
    cases = {
        ("demo_b", "b"): r"no run 'demo_b' in .*\. Did you mean 'demo_a'\?",
        ("untested", "b"): r"run 'untested' has no results: run python run\.py --name untested .*--test --test-dataset",
        ("base:b", "b"): r"run 'base:b' has no results: .* --base --test-dataset NAME first",
        ("bass:b", "b"): r"'bass' is no kind of model\. Did you mean 'base'\?",
        ("b", "b"): r"a run cannot be compared with itself",
        ("b,b", "demo_a"): r"a run is named twice",
        ("b,./b", "demo_a"): r"a run is named twice",
        ("merged:b", "b"): r"a run cannot be compared with itself",
        ("b", "demo_a,./b"): r"a run cannot be compared with itself",
        ("b", "choices"): r"have other choices in choices than in b",
        ("b", "short"): r"gsm-8k: b answered 10 questions, short 9, and not the same ones",
        ("b", "prompt"): r"gsm-8k: 10 questions, the first has id 0, have another prompt in prompt than in b",
        ("b", "gold"): r"have another gold answer in gold than in b",
        ("b", "math"): r"no benchmark that both have: b has gsm-8k, math math",
        ("b", "cut"): r"does not hold the 11 graded rows",
        ("b", "broken"): r"gsm-8k\.json: not JSON",
        ("b", ""): r"no run '' in",
    }
    for (first, second), message in cases.items():
        with pytest.raises(UsageError, match=message):
            compare_runs(first, second, tmp_path)
    with pytest.raises(UsageError, match="run 'b' has no results on math; it has gsm-8k"):
        compare_runs("b", "demo_a", tmp_path, "math")
    with pytest.raises(UsageError, match="is a folder"):
        compare_runs("b", "demo_a", tmp_path, output=tmp_path)


def test_a_damaged_record_of_another_benchmark_is_left_out_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, "a", A)
    write(tmp_path, "b", B)
    (tmp_path / "b/results/math.json").write_text("{")
    assert compare_runs("a", "b", tmp_path)["benchmarks"].keys() == {"gsm-8k"}
    assert "left out: " in caplog.text and "math.json: not JSON" in caplog.text


def test_one_seed_against_several(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for run, verdicts in (("a", A), ("b0", B), ("b1", "1111110111")):
        write(tmp_path, run, verdicts)
    found = compare_runs("a", "b0,b1", tmp_path)["benchmarks"]["gsm-8k"]
    assert found["method"] == ONE_SIDE != SEEDS and found["seeds_unknown"] == ["A"]
    assert "warning: A has one seed, whose spread is unknown" in capsys.readouterr().out
    assert compare_runs("b0,b1", "a", tmp_path)["benchmarks"]["gsm-8k"]["seeds_unknown"] == ["B"]
    assert compare_runs("a", "b0", tmp_path)["benchmarks"]["gsm-8k"]["seeds_unknown"] == []


@pytest.mark.parametrize(
    ("record", "row", "message"),
    [
        ("[]", {}, r"b/results/gsm-8k\.json: expected a JSON object, got list; test again"),
        ("null", {}, r"gsm-8k\.json: expected a JSON object, got NoneType"),
        ({"rule": None}, {}, r"gsm-8k\.json: 'rule' must be of type str, got NoneType"),
        ({"environment": None}, {}, r"gsm-8k\.json: 'environment' must be of type dict, got NoneType"),
        ({"environment": {"versions": 5}}, {}, r"environment: 'versions' must be of type dict, got int"),
        ({"rules": {"ours": 5}}, {}, r"rules: 'ours' must be of type dict, got int"),
        ({}, {"verdicts": None}, r"gsm-8k\.jsonl, line 10: 'verdicts' must be of type dict, got NoneType; test again"),
        ({}, {"verdicts": {"ours": "right"}}, r"line 10: the verdict 'ours' does not say whether it is correct"),
        ({}, {"id": [9]}, r"gsm-8k\.jsonl, line 10: 'id' must be of type str, got list"),
        ({}, {"completion": ...}, r"gsm-8k\.jsonl, line 10: no 'completion'; test again"),
        ({"dataset": ...}, {}, r"gsm-8k\.json: no dataset; test again"),
    ],
)
def test_damaged_files(tmp_path: Path, record: Any, row: dict[str, Any], message: str) -> None:
    write(tmp_path, "a", A)
    write(tmp_path, "b", B)
    path = tmp_path / "b/results/gsm-8k.json"
    whole = json.loads(path.read_text())
    path.write_text(record if isinstance(record, str) else json.dumps(without(whole | record)))
    lines = path.with_suffix(".jsonl").read_text().splitlines()
    lines[-1] = json.dumps(without(json.loads(lines[-1]) | row))
    path.with_suffix(".jsonl").write_text("\n".join(lines) + "\n")
    with pytest.raises(UsageError, match=message):
        compare_runs("a", "b", tmp_path)


def without(row: dict[str, Any]) -> dict[str, Any]:
    """The row without what is marked to be left out."""
    return {key: value for key, value in row.items() if value is not ...}


def test_output_that_cannot_be_written(tmp_path: Path) -> None:
    write(tmp_path, "a", A)
    write(tmp_path, "b", B)
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"--output .*file/x/out\.json: cannot be written \(Not a directory\)"):
        compare_runs("a", "b", tmp_path, output=tmp_path / "file/x/out.json")
    with pytest.raises(UsageError, match=r"cannot be written \(No such file or directory\)"):
        compare_runs("a", "b", tmp_path, output=Path("/proc/nowhere/out.json"))


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, "a", A)
    write(tmp_path, "b", B)
    words = ["--compare-runs", "a", "b", "--run-path", str(tmp_path)]
    assert cli.main([*words, "--json", "--output", str(tmp_path / "out.json")]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((tmp_path / "out.json").read_text()) and printed["a"] == ["a"]
    for more, message in (
        (["--limit", "3"], "--limit does not go with --compare-runs, only --test-dataset, --grading-rule, --run-path"),
        (["--test-dataset", "gsm8k"], "Did you mean 'gsm-8k'"),
        (
            ["--rule", "mine"],
            "gsm-8k: these tests have no verdicts by the rule 'mine', only by authors, ours; name one",
        ),
        (["--seeds", "3"], "--seeds belongs to --compare, not to --compare-runs"),
    ):
        assert cli.main([*words, *more]) == 2
        assert message in capsys.readouterr().err
