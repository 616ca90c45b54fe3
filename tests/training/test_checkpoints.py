"""Complete and incomplete checkpoints, and whether a run starts, resumes or is refused."""

from __future__ import annotations

import dataclasses
import errno
import os

import pytest

from sorsa.errors import UsageError
from sorsa.run_folder import RunFolder
from sorsa.training import checkpoints
from sorsa.training.arguments import training_arguments


def _checkpoint(folder, step, files=("optimizer.pt", "adapter_model.safetensors")):
    path = folder.checkpoints / f"checkpoint-{step}"
    path.mkdir(parents=True)
    for name in files:
        (path / name).write_bytes(bytes(100))
    return path


@pytest.fixture
def folder(tiny_config):
    """An unfinished run with complete checkpoints at steps 2 and 10."""
    config = tiny_config()
    folder = RunFolder(config.run_path, config.name)
    checkpoints.start_folder(folder, config, None)
    folder.update_record(status="interrupted")
    for step in (2, 10):
        checkpoints.mark_complete(_checkpoint(folder, step))
    return folder


def test_last_complete_counts_steps_as_numbers(folder):
    assert checkpoints.last_complete(folder.checkpoints).name == "checkpoint-10"


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: (path / "complete.json").unlink(),
        lambda path: (path / "complete.json").write_text('{"sizes"'),
        lambda path: (path / "optimizer.pt").write_bytes(bytes(99)),
        lambda path: (path / "optimizer.pt").unlink(),
    ],
)
def test_incomplete_checkpoints_do_not_count_and_are_removed(folder, damage):
    last = folder.checkpoints / "checkpoint-10"
    damage(last)
    assert checkpoints.last_complete(folder.checkpoints).name == "checkpoint-2"
    assert checkpoints.remove_incomplete(folder.checkpoints) == [last]
    assert [path.name for path in folder.checkpoints.iterdir()] == ["checkpoint-2"]


def test_mark_on_a_full_disk_is_no_mark(folder, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    new = _checkpoint(folder, 12)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        checkpoints.mark_complete(new)
    assert not checkpoints.is_complete(new)


def test_same_settings_resume(folder, tiny_config):
    assert checkpoints.find_resumable(folder, tiny_config()).name == "checkpoint-10"


def test_settings_that_change_nothing_may_differ(folder, tiny_config):
    config = tiny_config(workers=3, test_dataset="gsm-8k", valid_batch_size=99, save_steps=5, cache_path=None)
    assert checkpoints.find_resumable(folder, config).name == "checkpoint-10"


def test_other_settings_are_refused(folder, tiny_config):
    message = (
        r"run 'tiny' exists, unfinished, with other settings \(rank was 4, now 8; lr was 0.001, now 0.002\); use the "
        r"same settings to resume it, give another --name, or start anew with --overwrite"
    )
    with pytest.raises(UsageError, match=message):
        checkpoints.find_resumable(folder, tiny_config(rank=8, lr=2e-3))


def test_finished_runs_are_refused(folder, tiny_config):
    folder.update_record(status="finished")
    with pytest.raises(UsageError, match=r"run 'tiny' is already trained .*--overwrite, or go on with .* --merge"):
        checkpoints.find_resumable(folder, tiny_config())


def test_overwrite_starts_anew_and_clears(folder, tiny_config):
    folder.update_record(status="finished")
    folder.results.mkdir()
    config = tiny_config(overwrite=True)
    assert checkpoints.find_resumable(folder, config) is None
    assert folder.checkpoints.exists()  # looking changes nothing
    checkpoints.start_folder(folder, config, None)
    assert sorted(path.name for path in folder.path.iterdir()) == ["checkpoints", "config.yaml"]
    assert not list(folder.checkpoints.iterdir())


def test_folder_that_is_not_a_runs_is_never_touched(tiny_config):
    for overwrite in (False, True):
        config = tiny_config(overwrite=overwrite)
        folder = RunFolder(config.run_path, config.name)
        folder.path.mkdir(parents=True, exist_ok=True)
        (folder.path / "thesis.tex").write_text("years of work")
        with pytest.raises(UsageError, match=r"holds 'thesis.tex', which no run writes.*give another --name"):
            checkpoints.find_resumable(folder, config)


def test_results_of_the_base_model_stay(tiny_config):
    config = tiny_config()
    folder = RunFolder(config.run_path, config.name)
    folder.results.mkdir(parents=True)
    assert checkpoints.find_resumable(folder, config) is None
    checkpoints.start_folder(folder, config, None)
    assert folder.results.exists()


def test_unreadable_config(folder, tiny_config):
    folder.config.write_text("a: [")
    with pytest.raises(UsageError, match=r"config.yaml: not YAML; repair it, or start anew with --overwrite"):
        checkpoints.find_resumable(folder, tiny_config())


def test_every_setting_is_judged(tiny_config):
    """A new setting must either refuse a resumption or be listed as free; none is forgotten by accident."""
    names = {field.name for field in dataclasses.fields(tiny_config())}
    assert names >= checkpoints._FREE_FIELDS


def test_other_processes_would_make_it_another_run(folder, tiny_config):
    """Half the steps of twice the batch: a resumed run would end in the middle of its learning-rate curve."""
    arguments = training_arguments(tiny_config(), folder)
    arguments.max_steps = 6
    folder.update_record(steps=6, global_batch=4, processes=1)
    checkpoints.check_steps(folder, arguments)
    folder.update_record(steps=12, global_batch=2, processes=2)
    message = r"began with 12 optimizer steps of 2 samples, now they would be 6 of 4: resume it with 2 processes"
    with pytest.raises(UsageError, match=message):
        checkpoints.check_steps(folder, arguments)


def test_a_grid_for_comparisons_may_be_added_before_resuming(folder, tiny_config):
    assert checkpoints.find_resumable(folder, tiny_config(lr_grid=[1e-3])).name == "checkpoint-10"
