"""The run folder: paths, the commands its refusals name, and the record of the machine."""

from __future__ import annotations

import json
import subprocess

import pytest

import sorsa
from sorsa.errors import UsageError
from sorsa.run_folder import RunFolder, environment


def test_adapter_is_required_before_merging(tmp_path):
    folder = RunFolder("./runs", "llama")
    with pytest.raises(
        UsageError, match=r"run 'llama' has not been trained: .*; run python run.py --name llama --train$"
    ):
        folder.require_adapter()


def test_merged_model_is_required_before_testing(tmp_path):
    folder = RunFolder(tmp_path, "x")
    with pytest.raises(UsageError, match=rf"not been trained: .*--name x --run-path {tmp_path} --train$"):
        folder.require_merged()
    folder.adapter.mkdir(parents=True)
    (folder.adapter / "adapter_config.json").write_text("{}")
    with pytest.raises(UsageError, match=rf"not been merged: .*--name x --run-path {tmp_path} --merge$"):
        folder.require_merged()
    folder.merged.mkdir()
    (folder.merged / "config.json").write_text("{}")
    assert folder.require_merged() == folder.merged


def test_unfinished_training_is_told_apart(tmp_path):
    folder = RunFolder(tmp_path, "x")
    folder.update_record(status="interrupted")
    with pytest.raises(UsageError, match="is not finished training: no adapter in"):
        folder.require_adapter()


def test_record_is_updated_and_survives_bad_values(tmp_path):
    folder = RunFolder(tmp_path, "x")
    assert folder.read_record() == {}
    folder.update_record(status="running", seed=1)
    folder.update_record(status="finished")
    assert folder.read_record() == {"status": "finished", "seed": 1}
    with pytest.raises(TypeError):
        folder.update_record(bad=object())
    assert folder.read_record() == {"status": "finished", "seed": 1}


@pytest.mark.parametrize(
    ("text", "message"), [("{", r"record.json: not JSON \("), ("[]", "expected a JSON object, got list; repair it")]
)
def test_damaged_record(tmp_path, text, message):
    folder = RunFolder(tmp_path, "x")
    folder.path.mkdir()
    folder.record.write_text(text)
    with pytest.raises(UsageError, match=message):
        folder.read_record()


def test_clear_deletes_only_what_runs_write(tmp_path):
    folder = RunFolder(tmp_path, "x")
    for path in (folder.checkpoints / "checkpoint-1", folder.lora, folder.results, folder.path / "notes"):
        path.mkdir(parents=True)
    folder.metrics.write_text("")
    folder.clear(results=False)
    assert sorted(p.name for p in folder.path.iterdir()) == ["notes", "results"]
    assert folder.strange_files() == ["notes"]
    folder.clear(results=True)
    assert sorted(p.name for p in folder.path.iterdir()) == ["notes"]


def test_environment_is_complete_and_json():
    facts = json.loads(json.dumps(environment()))
    assert facts["versions"]["sorsa"] == sorsa.__version__
    assert all(facts["versions"][name] for name in ("python", "torch", "transformers", "peft", "datasets"))
    assert facts["host"]["cpus"] > 0 and facts["host"]["memory_bytes"] > 2**28 and facts["host"]["cpu"]
    assert set(facts["git"]) == {"commit", "dirty"}


def test_git_state_is_that_of_the_checkout():
    root = RunFolder.__init__.__globals__["__file__"].rsplit("/", 2)[0]
    head = subprocess.run(["git", "-C", root, "rev-parse", "HEAD"], capture_output=True, text=True)
    assert environment()["git"]["commit"] == (head.stdout.strip() if head.returncode == 0 else None)
