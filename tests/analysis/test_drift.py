"""`--analyze`: the record, against NumPy on the merged weights; several processes; interruption; bad input."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from sorsa import cli
from sorsa.analysis import drift
from sorsa.errors import UsageError
from sorsa.merging import merge
from sorsa.run_folder import RunFolder
from sorsa.training import train


@pytest.fixture(scope="module")
def run(make_config: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The settings of a SORSA run with snapshots at the steps 0, 3 and 6, merged."""
    config = make_config(tmp_path_factory.mktemp("drift"), peft="sorsa", snapshots=2, lr=0.02)
    train(config)
    merge(config)
    return config


def analysed(config: Any, **arguments: Any) -> dict[str, Any]:
    """Analyse a run and return its drift.json."""
    drift.analyze(config, **arguments)
    return json.loads(RunFolder(config.run_path, config.name).drift.read_text())


def test_the_last_step_agrees_with_numpy_on_the_saved_weights(run: Any) -> None:
    record = analysed(run, workers=1)
    folder = RunFolder(run.run_path, run.name)
    base, merged = load_file(Path(run.model) / "model.safetensors"), load_file(folder.merged / "model.safetensors")
    assert len(record["matrices"]) == 14 and record["rank_of_top"] == 4
    for row in record["matrices"]:
        W0, W = (weights[f"{row['name']}.weight"].double().numpy() for weights in (base, merged))
        assert row["shape"] == list(W0.shape)
        (U0, s0, Vt0), (U, s, Vt) = (np.linalg.svd(A, full_matrices=False) for A in (W0, W))
        last = row["steps"][-1]
        assert [step["step"] for step in row["steps"]] == [0, 3, 6]
        assert last["dSigma"] == pytest.approx(np.mean(np.abs(s - s0)), abs=1e-6)
        cosines = np.abs((U * U0).sum(0)) + np.abs((Vt * Vt0).sum(1))
        assert last["dD"] == pytest.approx(1 - cosines.mean() / 2, abs=1e-6)
        assert last["condition_merged"] == pytest.approx(s[0] / s[-1], rel=1e-3)
        assert 1 <= last["effective_rank"] <= 8 + 1e-3  # the update has rank 2r at most, r = 4
    mean = record["mean"][-1]
    assert mean["dD"] == pytest.approx(np.mean([row["steps"][-1]["dD"] for row in record["matrices"]]))
    first = record["mean"][0]
    assert first["dSigma"] == 0 and first["dD"] == pytest.approx(0, abs=1e-12) and first["effective_rank"] is None
    assert 0 < first["orthonormality_U"] < 1e-3 < mean["orthonormality_U"]


def test_processes_and_precision_change_little_or_nothing(run: Any) -> None:
    one, two = analysed(run, workers=1), analysed(run, precision="fp32", workers=2)
    assert two["precision"] == "fp32"
    for a, b in zip(one["mean"], two["mean"], strict=True):
        assert a["dSigma"] == pytest.approx(b["dSigma"], abs=1e-5)
        assert a["dD"] == pytest.approx(b["dD"], abs=1e-3)


def test_an_interrupted_analysis_goes_on(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = RunFolder(run.run_path, run.name).analysis / "matrices.jsonl"
    path.unlink(missing_ok=True)
    original, calls = drift.measure, []

    def counted(*arguments: Any) -> dict[str, Any]:
        if len(calls) == 5:
            raise KeyboardInterrupt
        calls.append(arguments[0].name)
        return original(*arguments)

    monkeypatch.setattr(drift, "measure", counted)
    with pytest.raises(KeyboardInterrupt):
        drift.analyze(run, workers=1)
    with path.open("a") as stream:
        stream.write('{"name": "model.layers.0.mlp')  # a line that a crash cut off
    monkeypatch.setattr(drift, "measure", lambda *arguments: calls.append(arguments[0].name) or original(*arguments))
    record = analysed(run, workers=1)
    assert len(calls) == len(set(calls)) == 14
    assert [row["name"] for row in record["matrices"]][:5] == calls[:5]


@pytest.mark.parametrize("text", [b"[]\n{}\n", b"\xff\n{}\n", b"x\n{}\n"])
def test_damaged_rows_are_made_anew(run: Any, caplog: pytest.LogCaptureFixture, text: bytes) -> None:
    path = RunFolder(run.run_path, run.name).analysis / "matrices.jsonl"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(text)
    assert len(analysed(run, workers=1)["matrices"]) == 14
    assert "matrices.jsonl line 1: not JSON" in caplog.text and "so all is made anew" in caplog.text


def test_a_snapshot_of_a_training_that_diverged(run: Any, tmp_path: Path) -> None:
    folder = RunFolder(shutil.copytree(run.run_path, tmp_path / "runs"), run.name)
    path = folder.snapshots / "step-000006.safetensors"
    tensors = load_file(path)
    save_file({name: tensor * float("nan") for name, tensor in tensors.items()}, path)
    config = dataclasses.replace(run, run_path=str(folder.run_path))
    for workers in (1, 2):
        with pytest.raises(UsageError, match=r"step-000006\.safetensors: .* holds numbers that are not finite"):
            drift.analyze(config, workers=workers)
    path.unlink()
    assert [row["step"] for row in analysed(config, workers=1)["mean"]] == [0, 3]


def test_other_snapshots_are_analysed_anew(run: Any, caplog: pytest.LogCaptureFixture) -> None:
    analysed(run, workers=1)
    with caplog.at_level("WARNING"):
        analysed(run, precision="fp32", workers=1)
    assert "of other snapshots or another precision, so it is made anew" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"precision": "fp16"}, r"--svd-precision 'fp16': must be one of fp64, fp32"),
        ({"workers": 0}, r"--processes 0: must be at least 1"),
    ],
)
def test_bad_arguments(run: Any, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        drift.analyze(run, **arguments)


def test_the_command_line(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--name", run.name, "--run-path", run.run_path, "--local", "--processes", "1"]
    assert cli.main([*words, "--analyze"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("tiny: means over 14 matrices") and len(out.splitlines()) == 6
    assert cli.main([*words, "--analyze", "--svd-precision", ""]) == 2
    assert "--svd-precision '': must be one of fp64, fp32" in capsys.readouterr().err
    assert cli.main([*words, "--merge"]) == 2
    assert "--processes belongs to --analyze and --compare, not to --merge" in capsys.readouterr().err


def test_a_run_without_snapshots_is_one_line(tiny_config: Callable[..., Any], capsys: pytest.CaptureFixture) -> None:
    config = tiny_config(peft="lora")
    train(config)
    capsys.readouterr()
    assert cli.main(["--name", "tiny", "--run-path", config.run_path, "--local", "--analyze"]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: run 'tiny' has no snapshots")
