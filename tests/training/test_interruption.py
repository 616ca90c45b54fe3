"""A tiny training run that does not go through: Ctrl-C, a full disk, a full GPU, divergence, a defect."""

from __future__ import annotations

import errno
import os
import resource
import signal

import pytest
import torch
from transformers import TrainerCallback

from sorsa.errors import Diverged, UsageError
from sorsa.run_folder import RunFolder, read_metrics
from sorsa.training import run, train
from sorsa.training.checkpoints import is_complete


def _folder(config) -> RunFolder:
    return RunFolder(config.run_path, config.name)


class _At(TrainerCallback):
    """Calls `action` once, in the middle of optimizer step `step`."""

    def __init__(self, step, action):
        self.step, self.action = step, action

    def on_substep_end(self, args, state, control, **kwargs):
        if state.global_step + 1 == self.step:
            self.action()


@pytest.fixture
def during(monkeypatch):
    """A function `(step, action)` that has `action` called in the middle of that step of the next training."""
    original = run._callbacks

    def arrange(step, action):
        monkeypatch.setattr(run, "_callbacks", lambda *a: [*original(*a), _At(step, action)])

    def undo():
        monkeypatch.setattr(run, "_callbacks", original)

    arrange.undo = undo
    return arrange


def test_interrupted_and_resumed_is_undisturbed(undisturbed, tiny_config, during, caplog, assert_same_adapter):
    config = tiny_config(dropout=0.1)
    during(3, lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        train(config)
    folder = _folder(config)
    assert f"stopped after step 3 of 6, which is saved in {folder.checkpoints}" in caplog.text
    assert folder.read_record()["status"] == "interrupted" and not folder.adapter.exists()
    assert is_complete(folder.checkpoints / "checkpoint-3")
    with folder.metrics.open("a") as stream:  # steps a killed process did after its last checkpoint
        stream.write('{"step": 4, "loss": 99.0, "tokens": 0}\n{"step": 5, "lo')
    during.undo()
    train(config)
    assert_same_adapter(config, undisturbed)
    rows, expected = read_metrics(folder.metrics), read_metrics(_folder(undisturbed).metrics)
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    for key in ("loss", "learning_rate", "tokens", "orthonormality_error"):
        assert [row[key] for row in rows] == pytest.approx([row[key] for row in expected], rel=1e-5, abs=1e-7)
    assert folder.read_record()["status"] == "finished"


def test_stopped_at_once_keeps_the_last_checkpoint(tiny_config, during):
    def twice():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    during(4, twice)
    with pytest.raises(KeyboardInterrupt):
        train(tiny_config())
    folder = _folder(tiny_config())
    assert [p.name for p in folder.checkpoints.iterdir() if is_complete(p)] == ["checkpoint-2"]
    assert folder.read_record()["status"] == "interrupted"


def test_full_disk_in_a_checkpoint(undisturbed, tiny_config, during, assert_same_adapter):
    """A real write failure half-way through checkpoint-4: the kernel refuses files above the optimizer's size."""
    config = tiny_config(dropout=0.1)
    folder = _folder(config)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill_disk():
        size = (folder.checkpoints / "checkpoint-2" / "optimizer.pt").stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (size - 1, before[1]))

    during(4, fill_disk)
    message = (
        r"could not save at step 4, is the disk full\? \(.+\): the last checkpoint, .*checkpoint-2, is complete, "
        r"nothing half-written is "
        r"left; free some disk space, then give the same command again: it resumes"
    )
    try:
        with pytest.raises(UsageError, match=message) as caught:
            train(config)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "\n" not in str(caught.value)
    assert [p.name for p in folder.checkpoints.iterdir()] == ["checkpoint-2"]
    during.undo()
    train(config)
    assert_same_adapter(config, undisturbed)


@pytest.mark.parametrize("method", ["sorsa", "pissa", "full"])
def test_full_disk_in_the_adapter(tiny_config, monkeypatch, method, assert_same_adapter):
    """All steps done, only the adapter not saved: the same command saves it without another step."""
    plain, config = (tiny_config(name=name, max_steps=4, peft=method) for name in ("plain", "tiny"))
    train(plain)
    original = run._save

    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(run, "_save", full)
    with pytest.raises(UsageError, match=r"could not save at step 4, .*No space left.*checkpoint-4, is complete"):
        train(config)
    monkeypatch.setattr(run, "_save", original)
    train(config)
    assert_same_adapter(config, plain, tolerance=0)
    assert [row["step"] for row in read_metrics(_folder(config).metrics)] == [1, 2, 3, 4]
    assert _folder(config).read_record()["status"] == "finished"


def test_full_gpu(tiny_config, during):
    def full():
        raise torch.OutOfMemoryError("CUDA out of memory")

    during(2, full)
    with pytest.raises(UsageError, match=r"the GPU's memory is full at step 2: halve --batch-size and double --accum"):
        train(tiny_config())


def test_a_diverged_run_says_so_in_its_record(tiny_config, during):
    def diverge():
        raise Diverged("the loss is nan at step 2")

    during(2, diverge)
    with pytest.raises(Diverged, match="the loss is nan at step 2"):
        train(tiny_config())
    assert _folder(tiny_config()).read_record()["status"] == "diverged"


def test_defects_keep_their_traceback(tiny_config, during):
    def defect():
        raise RuntimeError("a defect")

    during(2, defect)
    with pytest.raises(RuntimeError, match="a defect"):
        train(tiny_config())
