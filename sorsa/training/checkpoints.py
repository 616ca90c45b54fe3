"""Checkpoints that are complete or do not count, and the decision whether a run starts, resumes or is refused.

The Trainer writes `checkpoint-N` file by file into its final place. A mark with every file's size is written last;
a checkpoint whose mark is missing or disagrees was cut off (full disk, crash) and is removed before resuming.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from sorsa.errors import UsageError
from sorsa.files import write_json, write_whole
from sorsa.methods import find_method
from sorsa.training.arguments import global_batch

if TYPE_CHECKING:
    from transformers import TrainingArguments

    from sorsa.config import RunConfig
    from sorsa.run_folder import RunFolder

logger = logging.getLogger(__name__)

_MARK = "complete.json"
# Settings that may differ between a run and its resumption: they do not change what is computed.
_FREE_GROUPS = frozenset({"testing"})
_FREE_FIELDS = frozenset({"overwrite", "run_path", "local", "cache_path", "svd_cache_path", "workers", "save_steps"})
_FREE_FIELDS |= {"lr_grid", "rwkv"}  # the one is for --compare, the other only says what the model is


def mark_complete(checkpoint: Path) -> None:
    """Write the mark that `checkpoint` is complete. Raises OSError when the disk is full: then it is not."""
    sizes = {file.name: file.stat().st_size for file in checkpoint.iterdir() if file.is_file()}
    write_json(checkpoint / _MARK, {"sizes": sizes})


def is_complete(checkpoint: Path) -> bool:
    """Return whether a checkpoint has its mark and every file is as long as it was when it was marked."""
    try:
        sizes = json.loads((checkpoint / _MARK).read_text(encoding="utf-8"))["sizes"]
        return all((checkpoint / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, KeyError):
        return False


def step_of(checkpoint: Path) -> int:
    """Return N of `checkpoint-N`: the optimizer steps done."""
    return int(checkpoint.name.removeprefix("checkpoint-"))


def last_complete(checkpoints: Path) -> Path | None:
    """Return the complete checkpoint with the most steps, None where there is none."""
    complete = [path for path in _all(checkpoints) if is_complete(path)]
    return max(complete, key=step_of, default=None)


def remove_incomplete(checkpoints: Path) -> list[Path]:
    """Delete checkpoints that were cut off, and return their former paths."""
    broken = [path for path in _all(checkpoints) if not is_complete(path)]
    for path in broken:
        logger.warning("removing %s: it was not written completely", path)
        shutil.rmtree(path, ignore_errors=True)
    return broken


def find_resumable(folder: RunFolder, config: RunConfig) -> Path | None:
    """Return the checkpoint to resume from; None for a run that starts at step 0. Changes nothing on disk.

    Args:
        folder: The run's folder, which may not exist.
        config: The resolved settings of this call.

    Raises:
        UsageError: The folder holds a finished run, one with other settings, or something that is not a run.
    """
    if not folder.path.exists():
        return None
    strange = folder.strange_files()
    if strange:
        raise UsageError(
            f"{folder.path}: holds {strange[0]!r}, which no run writes, so it may be something else's folder; "
            "give another --name or --run-path, or move that file"
        )
    if config.overwrite:
        return None
    if not folder.config.is_file():
        if folder.adapter.exists() or folder.checkpoints.exists():
            raise UsageError(f"{folder.path}: its {folder.config.name} is missing; start anew with --overwrite")
        return None
    if folder.read_record().get("status") == "finished":
        raise UsageError(
            f"run {folder.name!r} is already trained ({folder.adapter}); give another --name, train it anew with "
            f"--overwrite, or go on with {folder.command('merge')}"
        )
    changed = _differences(folder, config)
    if changed:
        raise UsageError(
            f"run {folder.name!r} exists, unfinished, with other settings ({'; '.join(changed)}); use the same "
            "settings to resume it, give another --name, or start anew with --overwrite"
        )
    checkpoint = last_complete(folder.checkpoints)
    if checkpoint is not None and find_method(config.peft).moves_base and not folder.start.is_dir():
        raise UsageError(
            f"{folder.start}: missing, and {config.peft} cannot go on without the adapter's start that was kept there; "
            "copy it back, or start anew with --overwrite"
        )
    return checkpoint


def check_steps(folder: RunFolder, arguments: TrainingArguments) -> None:
    """Refuse to resume with other steps than the run began with: the learning rate and T would not be the run's.

    Args:
        folder: The run's folder, with its record.
        arguments: With `max_steps` = T.

    Raises:
        UsageError: The number of processes, or the data, is another one.
    """
    record = folder.read_record()
    before = (record.get("steps"), record.get("global_batch"))
    now = (arguments.max_steps, global_batch(arguments))
    if None not in before and before != now:
        raise UsageError(
            f"run {folder.name!r} began with {before[0]} optimizer steps of {before[1]} samples, now they would be "
            f"{now[0]} of {now[1]}: resume it with {record.get('processes')} processes and the same data, or start "
            "anew with --overwrite"
        )


def start_folder(folder: RunFolder, config: RunConfig, checkpoint: Path | None) -> None:
    """Prepare the run's folder: cleared for a new run, without broken checkpoints for a resumed one.

    Args:
        folder: The run's folder.
        config: The resolved settings, written to config.yaml.
        checkpoint: Where the run resumes from, as `find_resumable` said.
    """
    if checkpoint is not None:
        remove_incomplete(folder.checkpoints)
        return
    folder.clear(results=config.overwrite)  # without --overwrite they can only be the base model's
    folder.checkpoints.mkdir(parents=True)
    write_whole(folder.config, config.to_yaml())


def _differences(folder: RunFolder, config: RunConfig) -> list[str]:
    """Return `name was X, now Y` for each setting that changes what is computed; one not written then is ignored."""
    try:
        before: dict[str, Any] = yaml.safe_load(folder.config.read_text(encoding="utf-8")) or {}
    except yaml.YAMLError as error:
        raise UsageError(f"{folder.config}: not YAML; repair it, or start anew with --overwrite") from error
    changed = []
    for field in dataclasses.fields(config):
        if field.name in _FREE_FIELDS or field.metadata.get("group") in _FREE_GROUPS or field.name not in before:
            continue
        now = getattr(config, field.name)
        if before[field.name] != now:
            changed.append(f"{field.name} was {before[field.name]!r}, now {now!r}")
    return changed


def _all(checkpoints: Path) -> list[Path]:
    """Return every `checkpoint-N` directory, complete or not."""
    return [path for path in checkpoints.glob("checkpoint-*") if path.name.removeprefix("checkpoint-").isdigit()]
