"""--compare with a stand-in for run.py: which stages run in which order, the choice, what is left, resuming."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from sorsa.errors import UsageError
from sorsa.evaluation.statistics import seeds_and_questions_interval, wilson_interval

GRID = [0.004, 0.002]  # not sorted, as a user may write it


def test_order_choice_and_reuse(bench) -> None:
    """The grid with the first seed, then the winner with all seeds; the winner's first seed is not trained again."""
    bench.plan(accuracy={"validate": {"0.004": 0.75}, "test": {}})
    files = [bench.write("d_lora", lr_grid=GRID), bench.write("d_fixed", lr=0.001, valid_file=None)]
    bench.compare(*files, seeds=2)
    a, b = "d_lora-lr0.002-seed42", "d_lora-lr0.004-seed42"
    after_choice = [f"test {b}", *(f"{stage} d_lora-lr0.004-seed43" for stage in ("train", "merge", "test"))]
    fixed = [f"{stage} d_fixed-lr0.001-seed{seed}" for seed in (42, 43) for stage in ("train", "merge", "test")]
    grid = [f"{stage} {run}" for run in (a, b) for stage in ("train", "merge", "validate")]
    assert bench.calls() == grid + after_choice + fixed
    home = Path("out/comparison-d")
    assert {path.name for path in (home / "runs").iterdir()} == {call.split()[1] for call in bench.calls()}


def test_of_equals_the_smaller_learning_rate_wins(bench) -> None:
    bench.plan(accuracy={"validate": {"0.002": 0.75, "0.004": 0.75, "0.001": 0.5}, "test": {}})
    record = bench.compare(bench.write("d", lr_grid=[0.004, 0.002, 0.001]), seeds=1)
    assert record["methods"][0]["lr"] == 0.002


def test_a_learning_rate_that_diverges_is_left_out(bench) -> None:
    bench.plan(diverge=[0.004])
    record = bench.compare(bench.write("d", lr_grid=GRID), seeds=1)
    method = record["methods"][0]
    assert (method["lr"], record["status"]) == (0.002, "finished")
    assert [(entry["lr"], entry["diverged"]) for entry in method["grid"]] == [(0.002, False), (0.004, True)]
    assert bench.calls() == [f"{stage} d-lr0.002-seed42" for stage in ("train", "merge", "validate", "test")]


def test_every_learning_rate_diverges(bench, caplog) -> None:
    """The other methods are compared all the same."""
    bench.plan(diverge=GRID)
    record = bench.compare(bench.write("d_a", lr_grid=GRID), bench.write("d_b", lr=0.001, valid_file=None), seeds=1)
    assert [method["test"] and method["test"]["n"] for method in record["methods"]] == [None, 1]
    assert record["status"] == "finished"
    assert "d_a: training diverged with every learning rate of lr_grid = [0.004, 0.002]" in caplog.text


def test_a_seed_that_diverges_counts_as_none(bench) -> None:
    bench.plan(diverge=[0.001])
    record = bench.compare(bench.write("d_a", lr=0.001), bench.write("d_b", lr=0.002), seeds=2)
    assert [run["diverged"] for run in record["methods"][0]["runs"]] == [True, True]
    assert (record["methods"][0]["test"], record["methods"][1]["test"]["n"]) == (None, 2)
    assert record["status"] == "finished"


def test_the_test_split_has_no_say(bench) -> None:
    """Earlier test results of the grid's runs favour the other learning rate, one is not even readable."""
    bench.plan(accuracy={"validate": {"0.002": 0.75, "0.004": 0.25}, "test": {"0.002": 0.0, "0.004": 1.0}})
    file = bench.write("d", lr_grid=GRID, valid_file="valid.jsonl")
    bench.compare(bench.write("d", lr=0.004), seeds=1)  # tested without a grid first
    tested = Path("out/comparison-d/runs/d-lr0.004-seed42/results/gsm-8k.json")
    assert json.loads(tested.read_text())["accuracy"] == 1.0
    tested.write_text("not JSON")
    bench.write("d", lr=0.004, lr_grid=GRID)
    record = bench.compare(file, seeds=1)
    assert record["methods"][0]["lr"] == 0.002
    assert record["methods"][0]["test"] == {"n": 1, "mean": 0.0, "sd": None, "interval_95": list(wilson_interval(0, 8))}
    calls = bench.calls()
    assert calls.index("test d-lr0.002-seed42") > calls.index("validate d-lr0.004-seed42")


def test_the_record(bench) -> None:
    bench.plan(accuracy={"validate": {"0.002": 0.75}, "test": {"0.002 42": 0.5, "0.002 43": 0.625, "0.002 44": 0.75}})
    record = bench.compare(bench.write("d", peft="sorsa", gamma=0.1, lr_grid=GRID), seeds=3)
    assert (record["name"], record["status"], record["seeds"]) == ("d", "finished", [42, 43, 44])
    assert (record["valid_file"], record["test_file"], record["rule"]) == ("valid.jsonl", "test.jsonl", "ours")
    assert record["environments"] == [{"git": {"commit": "c"}}]
    method = record["methods"][0]
    assert (method["config"], method["peft"], method["rank"], method["trainable_parameters"]) == ("d", "sorsa", 4, 7)
    assert (method["lr"], method["gamma"], method["validation_accuracy"]) == (0.002, 0.1, 0.75)
    assert [(one["lr"], one["gamma"], one["validation"]["correct"]) for one in method["grid"]] == [
        (0.002, 0.1, 6), (0.004, 0.2, 4)
    ]  # fmt: skip
    assert [(run["seed"], run["test"]["correct"], run["test"]["total"]) for run in method["runs"]] == [
        (42, 4, 8), (43, 5, 8), (44, 6, 8)
    ]  # fmt: skip
    first = method["runs"][0]
    assert first["run"] == "d-lr0.002-seed42" and Path("out/comparison-d/runs", first["run"]).is_dir()
    assert (first["first_loss"], first["last_loss"], first["seconds_per_step"]) == (5.0, 1.0, 0.5)
    assert (first["peak_host_bytes"], first["peak_gpu_bytes"]) == (2 * 10**9, None)
    # sample standard deviation of 0.5, 0.625, 0.75: sqrt(2 * 0.125^2 / 2)
    verdicts = [[index < right for index in range(8)] for right in (4, 5, 6)]
    interval = list(seeds_and_questions_interval(verdicts).interval_95)
    assert method["test"] == {"n": 3, "mean": pytest.approx(0.625), "sd": pytest.approx(0.125), "interval_95": interval}


def test_the_interval_is_of_all_runs_or_none(bench) -> None:
    bench.plan(accuracy={"test": {"0.002 42": 0.5, "0.002 43": 0.75}})
    file = bench.write("d")
    assert bench.compare(file, seeds=2)["methods"][0]["test"]["interval_95"] is not None
    next(Path("out").glob("**/*seed43/results/gsm-8k.jsonl")).unlink()
    found = bench.compare(file, seeds=2)["methods"][0]["test"]
    assert found["n"] == 2 and found["interval_95"] is None


def test_the_table(bench, capsys) -> None:
    bench.plan(accuracy={"validate": {"0.004": 0.75}, "test": {"0.004 42": 0.5, "0.004 43": 0.75}})
    bench.compare(bench.write("d_a", lr_grid=GRID), bench.write("d_full", peft="full", rank=None), seeds=2)
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    bounds = [[[index < right for index in range(8)] for right in rights] for rights in ((4, 6), (4, 4))]
    a, full = ("{:.1%} to {:.1%}".format(*seeds_and_questions_interval(one).interval_95) for one in bounds)
    assert lines[1] == f"d_a 7 0.004 75.0% 62.5% +- 17.7% (n = 2) {a} 0.500 2.00 GB host"
    assert lines[2] == f"d_full 7 0.002 - 50.0% +- 0.0% (n = 2) {full} 0.500 2.00 GB host"
    assert lines[3] == "record: out/comparison-d/comparison.json"


def test_one_seed_has_no_deviation(bench, capsys) -> None:
    bench.compare(bench.write("d"), seeds=1)
    assert " 50.0% (n = 1) " in capsys.readouterr().out


def test_the_record_is_there_after_every_run(bench) -> None:
    bench.plan(fail_at=6)  # d's grid is complete, its winner not yet tested
    file = bench.write("d", lr_grid=GRID)
    with pytest.raises(UsageError):
        bench.compare(file, seeds=2)
    record = json.loads(Path("out/comparison-d/comparison.json").read_text())
    method = record["methods"][0]
    assert (record["status"], method["lr"], method["test"]) == ("running", 0.002, None)
    assert [one["validation"]["accuracy"] for one in method["grid"]] == [0.5, 0.5]
    assert [run["test"] for run in method["runs"]] == [None, None]


def test_gamma_follows_the_learning_rate(bench) -> None:
    """The regularizer's weight is gamma / lr, so both double; the run is repeatable from its own YAML."""
    from sorsa.config_files import load_config

    bench.compare(bench.write("d_sorsa", peft="sorsa", gamma=0.07, lr_grid=GRID), bench.write("d_lora"), seeds=1)
    for lr, gamma in ((0.002, 0.07), (0.004, 0.14)):
        config = load_config(f"d_sorsa-lr{lr}-seed42", "train", {}, "out/comparison-d/configs")
        assert (config.lr, config.gamma, config.seed, config.lr_grid) == (lr, gamma, 42, None)
        assert config.run_path == "out/comparison-d/runs"
    written = yaml.safe_load(Path("out/comparison-d/configs/d_lora-lr0.002-seed42.yaml").read_text())
    assert "gamma" not in written


def test_what_takes_space_is_deleted(bench) -> None:
    bench.plan(accuracy={"validate": {"0.002": 0.25, "0.004": 0.75, "0.008": 0.5}, "test": {}})
    bench.compare(bench.write("d", lr_grid=[*GRID, 0.008]), seeds=2)
    runs = list(Path("out/comparison-d/runs").iterdir())
    left = {"adapter", "record.json"}
    assert {run.name: {path.name for path in run.iterdir()} - {"results"} for run in runs} == {
        run.name: left for run in runs
    }
    assert max(call["merged"] for call in bench.raw_calls()) == 2  # the best so far, and the one being validated
    assert not list(Path("out/comparison-d/validation").glob("*/merged"))


@pytest.mark.parametrize("call", [0, 1, 2, 5, 6, 9])  # each kind of stage, the winner's and the last among them
def test_resuming_at_every_stage(bench, call: int) -> None:
    """Whichever stage fails, the same command does that stage and those after it, and nothing twice."""
    bench.plan(accuracy={"validate": {"0.002": 0.75}, "test": {}}, fail_at=call)
    file = bench.write("d", lr_grid=GRID)
    with pytest.raises(UsageError, match=r"^run 'd-lr0\.00[24]-seed4[23]': (train|merge|validate|test) failed"):
        bench.compare(file, seeds=2)
    assert len(bench.calls()) == call
    record = bench.compare(file, seeds=2)
    assert bench.calls() == [
        f"{stage} d-lr{lr}-seed{seed}"
        for lr, seed, stages in (
            (0.002, 42, ("train", "merge", "validate")),
            (0.004, 42, ("train", "merge", "validate")),
            (0.002, 42, ("test",)),
            (0.002, 43, ("train", "merge", "test")),
        )
        for stage in stages
    ]
    assert record["status"] == "finished" and record["methods"][0]["test"]["n"] == 2


def test_the_same_command_again_does_nothing(bench) -> None:
    file = bench.write("d", lr_grid=GRID)
    first = bench.compare(file, seeds=2)
    before = bench.calls()
    assert bench.compare(file, seeds=2) == first
    assert bench.calls() == before


def test_more_seeds_and_more_learning_rates_later(bench) -> None:
    bench.plan(accuracy={"validate": {"0.002": 0.75}, "test": {}})
    bench.compare(bench.write("d", lr_grid=GRID), seeds=1)
    before = len(bench.calls())
    record = bench.compare(bench.write("d", lr_grid=[*GRID, 0.001]), seeds=2)
    added = [("0.001", 42, ("train", "merge", "validate")), ("0.002", 43, ("train", "merge", "test"))]
    expected = [f"{stage} d-lr{lr}-seed{seed}" for lr, seed, stages in added for stage in stages]
    assert bench.calls()[before:] == expected
    assert record["methods"][0]["test"]["n"] == 2


def test_other_settings_under_the_same_name(bench) -> None:
    bench.compare(bench.write("d"), seeds=1)
    file = bench.write("d", max_steps=5, workers=1)
    with pytest.raises(UsageError, match=r"holds the run 'd-lr0\.002-seed42' with other settings \(max_steps was 4, "):
        bench.compare(file, seeds=1)
    bench.compare(file, seeds=1, name="five")
    assert Path("out/comparison-five/runs/d-lr0.002-seed42").is_dir()
    shutil.rmtree("out/comparison-d")
    bench.compare(file, seeds=1)


def test_what_was_forgotten_and_how_far_the_weights_have_moved(bench) -> None:
    """The base once, before everything; each tested run after its test; nothing twice."""
    Path("text.txt").write_text("some words")
    files = [
        bench.write("d_a", lr_grid=GRID, forgetting_file="text.txt", snapshots=1),
        bench.write("d_b", lr=0.001, valid_file=None, forgetting_file="text.txt"),
    ]
    record = bench.compare(*files, seeds=1)
    a, other, b = "d_a-lr0.002-seed42", "d_a-lr0.004-seed42", "d_b-lr0.001-seed42"
    assert bench.calls() == [
        f"base-perplexity text.txt {a}",
        *(f"{stage} {run}" for run in (a, other) for stage in ("train", "merge", "validate")),
        *(f"test {a}", f"perplexity text.txt {a}", f"analyze {a}"),
        *(f"{stage} {b}" for stage in ("train", "merge", "test", "perplexity text.txt")),
    ]
    assert record["perplexity_before"] == 5.0 and record["forgetting_file"] == "text.txt"
    runs = [run for method in record["methods"] for run in method["runs"]]
    assert [run["perplexity"] for run in runs] == [7.0, 7.0]
    assert [run["drift"] for run in runs] == [{"step": 4, "dD": 0.002}, None]
    before = bench.calls()
    bench.compare(*files, seeds=1)
    assert bench.calls() == before


@pytest.mark.parametrize("left", ["results/perplexity.json", "analysis/drift.json"])
def test_a_comparison_is_finished_when_all_is_measured(bench, left: str) -> None:
    """Stopped after the last test and before the last measure; the same command begins by writing the record."""
    Path("text.txt").write_text("some words")
    file = bench.write("d", forgetting_file="text.txt", snapshots=1)
    assert bench.compare(file, seeds=1)["status"] == "finished"
    next(Path("out").glob(f"*/runs/*/{left}")).unlink()
    bench.plan(fail_at=len(bench.calls()))
    with pytest.raises(UsageError):
        bench.compare(file, seeds=1)
    assert json.loads(Path("out/comparison-d/comparison.json").read_text())["status"] == "running"


def test_two_methods_at_a_time(bench) -> None:
    """The same runs and the same record as one after the other."""
    files = [bench.write("d_a", lr_grid=GRID), bench.write("d_b", lr=0.001), bench.write("d_c", lr=0.003)]
    record = bench.compare(*files, seeds=2, processes=2)
    assert record["status"] == "finished"
    assert [method["test"]["n"] for method in record["methods"]] == [2, 2, 2]
    both = sorted(bench.calls())
    shutil.rmtree("out")
    Path("calls.jsonl").unlink()
    alone = bench.compare(*files, seeds=2)
    assert sorted(bench.calls()) == both
    assert alone["methods"] == record["methods"]


def test_a_failure_of_one_method_ends_the_others_and_is_what_is_said(bench) -> None:
    bench.plan(fail_at=1)
    files = [bench.write(f"d_{letter}", lr=0.001) for letter in "abc"]
    with pytest.raises(UsageError, match=r"run 'd_[ab]-lr0.001-seed42': \w+ failed \(exit code 2\): the loss is nan"):
        bench.compare(*files, seeds=2, processes=2)
    assert bench.compare(*files, seeds=2, processes=2)["status"] == "finished"


def test_the_number_of_processes_is_checked(bench) -> None:
    with pytest.raises(UsageError, match="--processes 0: must be at least 1"):
        bench.compare(bench.write("d"), processes=0)
