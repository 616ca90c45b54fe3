"""The training run from top to bottom: settings and data in, adapter and record out (paper section 6, Tables 3 and 5).

The loop itself is the Hugging Face Trainer's; the regularizer (Eq. 3) enters through a callback.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import errno
import logging
import resource
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers import ProgressCallback, Trainer, TrainerCallback, TrainingArguments, set_seed

from sorsa import trained_weights
from sorsa.analysis.snapshots import SnapshotWriter
from sorsa.data import load_training_set
from sorsa.data.collate import ResponseCollator
from sorsa.errors import Diverged, UsageError
from sorsa.files import whole_directory
from sorsa.methods import find_method
from sorsa.models import check_vocabulary, load_base_model, load_skeleton, load_tokenizer, make_savable
from sorsa.run_folder import RunFolder, environment, read_metrics
from sorsa.training import checkpoints, moved_base
from sorsa.training.adapter import adapt, check_adapter, parameter_counts
from sorsa.training.arguments import global_batch, plan_steps, training_arguments
from sorsa.training.callbacks import CheckpointMarker, GracefulStop, MetricsWriter, ProgressBar

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

    from sorsa.config import RunConfig
    from sorsa.data.tokenise import TokenCounts

logger = logging.getLogger(__name__)


def run_training(config: RunConfig) -> None:
    """Train or resume the run `config.name`; see `sorsa.training.train`.

    Args:
        config: The resolved settings.

    Raises:
        UsageError: Bad input, an existing run with other settings, a full disk, or too little GPU memory.
        KeyboardInterrupt: Stopped by a signal after the checkpoint was saved.
    """
    folder = RunFolder(config.run_path, config.name)
    checkpoint = checkpoints.find_resumable(folder, config)
    arguments = training_arguments(config, folder)
    if arguments.process_index:  # one of several processes says everything once
        logging.getLogger("sorsa").setLevel(logging.WARNING)
    check_adapter(load_skeleton(config), config)  # before anything that takes minutes
    tokenizer = load_tokenizer(config)
    rows, counts = _load_rows(config, tokenizer, arguments)
    if checkpoint is not None:
        checkpoints.check_steps(folder, arguments)
    model = _load_model(config, tokenizer, arguments, folder.start if checkpoint else None)
    before = None if find_method(config.peft).peft_config else trained_weights.probes(model)
    stop = GracefulStop()
    trainer = Trainer(
        model, arguments, ResponseCollator(tokenizer.pad_token_id), rows, callbacks=_callbacks(config, folder, stop)
    )
    trainer.remove_callback(ProgressCallback)
    trainer.add_callback(ProgressBar())
    main = trainer.is_world_process_zero()
    if main:
        checkpoints.start_folder(folder, config, checkpoint)
        if find_method(config.peft).moves_base and checkpoint is None:
            moved_base.keep_start(model, folder.start)
        folder.update_record(**_opening_record(config, model, arguments, dataclasses.asdict(counts)))
    start = time.perf_counter()
    try:
        _fit(trainer, stop, checkpoint)
        if trainer.state.global_step >= arguments.max_steps:
            _save(trainer, tokenizer, folder, config, before)
    except BaseException as error:
        if main:
            _note_failure(error, folder, trainer.state.global_step, time.perf_counter() - start)
        raise
    if main:
        _close(folder, trainer, time.perf_counter() - start)
    if trainer.state.global_step < arguments.max_steps:
        raise KeyboardInterrupt


def _load_rows(
    config: RunConfig, tokenizer: PreTrainedTokenizerBase, arguments: TrainingArguments
) -> tuple[Dataset, TokenCounts]:
    """Return the samples that whole optimizer steps use, and what became of all rows; sets the number of steps."""
    with arguments.main_process_first(desc="tokenising"):  # the other processes then read its cache
        rows, counts = load_training_set(config, tokenizer)
    logger.info("%s: %s", config.train_dataset, counts)
    return rows.select(range(plan_steps(arguments, config, len(rows)))), counts


def _load_model(
    config: RunConfig, tokenizer: PreTrainedTokenizerBase, arguments: TrainingArguments, start: Path | None
) -> nn.Module:
    """Load the base model and prepare it for training.

    Args:
        config: The run's settings.
        tokenizer: Must fit the model.
        arguments: With the number of steps.
        start: For a resumed run, where a method that moves the base has kept its start.
    """
    method = find_method(config.peft)
    if method.peft_config:
        method.peft_config(config, arguments.max_steps)  # AdaLoRA's schedule, before the weights are loaded
    set_seed(config.seed)
    base = load_base_model(config, torch.float32)
    check_vocabulary(tokenizer, base)
    if method.peft_config is None:
        make_savable(base)  # the checkpoints hold the whole model
    return adapt(base, config, arguments.max_steps, start if method.moves_base else None)


def _callbacks(config: RunConfig, folder: RunFolder, stop: GracefulStop) -> list[TrainerCallback]:
    """Return the Trainer's callbacks; the method's come first, for the metrics copy values of theirs."""
    own = find_method(config.peft).callbacks(config)
    keep = [SnapshotWriter(folder.snapshots, config.snapshots)] if config.snapshots else []
    return [*own, MetricsWriter(folder.metrics), *keep, CheckpointMarker(), stop]


def _fit(trainer: Trainer, stop: GracefulStop, checkpoint: Path | None) -> None:
    """Train up to the last step or a signal."""
    if checkpoint is not None:
        logger.info("resuming from %s", checkpoint)
    if checkpoint is not None and checkpoints.step_of(checkpoint) >= trainer.args.max_steps:
        # All steps were done, only the adapter is missing (its saving failed); the Trainer would do one step more.
        trainer._load_from_checkpoint(str(checkpoint))
        trainer.state.global_step = trainer.state.max_steps = checkpoints.step_of(checkpoint)
        for event in (trainer.callback_handler.on_train_begin, trainer.callback_handler.on_train_end):
            event(trainer.args, trainer.state, trainer.control)  # AdaLoRA reads its ranks and hands them to PEFT
        return
    with stop.listening():
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))


def _save(
    trainer: Trainer,
    tokenizer: PreTrainedTokenizerBase,
    folder: RunFolder,
    config: RunConfig,
    before: dict[str, torch.Tensor] | None,
) -> None:
    """Write what was trained, and the tokenizer, to `adapter/`, whole or not at all; on the main process.

    Args:
        trainer: Holds the trained model.
        tokenizer: Saved beside it.
        folder: The run's folder.
        config: The run's settings.
        before: Samples of the weights before training, for a method without adapter.
    """
    model = trainer.model
    state = None if before is None else trainer.accelerator.get_state_dict(trainer.model_wrapped)  # all processes join
    if not trainer.is_world_process_zero():
        return
    with whole_directory(folder.adapter, replace=True) as directory:
        if state is not None:
            trained_weights.save_weights(state, before, model.name_or_path, directory)
        elif find_method(config.peft).moves_base:
            moved_base.save_as_lora(model, folder.start, directory)
        else:
            # False: the embeddings are never changed here, and finding that out by itself would ask the hub
            model.save_pretrained(str(directory), save_embedding_layers=False)
        tokenizer.save_pretrained(str(directory))


def _opening_record(
    config: RunConfig, model: nn.Module, arguments: TrainingArguments, counts: dict[str, Any]
) -> dict[str, Any]:
    """Return what is known before the first step, for record.json."""
    trainable, total = parameter_counts(model)
    return {
        "status": "running",
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        **environment(),
        "seed": config.seed,
        "model": {"source": config.model, "revision": getattr(model.config, "_commit_hash", None) or config.revision},
        "samples": counts,
        "trainable_parameters": trainable,
        "total_parameters": total,
        "steps": arguments.max_steps,
        "global_batch": global_batch(arguments),
        "processes": arguments.world_size,
        "config": config.settings(),
    }


def _close(folder: RunFolder, trainer: Trainer, seconds: float) -> None:
    """Write the closing record and say what to do next."""
    done, steps = trainer.state.global_step, trainer.args.max_steps
    before = folder.read_record()
    metrics = read_metrics(folder.metrics)
    memory = _peak_memory()
    folder.update_record(
        status="finished" if done >= steps else "interrupted",
        ended=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        steps_done=done,
        seconds=round(before.get("seconds", 0.0) + seconds, 3),  # of all sessions of a resumed run
        tokens=metrics[-1]["tokens"] if metrics else 0,
        first_loss=metrics[0]["loss"] if metrics else None,
        last_loss=metrics[-1]["loss"] if metrics else None,
        **{key: max(value, before.get(key, 0)) for key, value in memory.items()},
    )
    if done < steps:
        logger.warning("stopped after step %d of %d, which is saved in %s", done, steps, folder.checkpoints)
        return
    print(
        f"trained {folder.name}: {steps} steps in {seconds:.1f} s, loss {metrics[0]['loss']:.4f} -> "
        f"{metrics[-1]['loss']:.4f}; adapter in {folder.adapter}; next: {folder.command('merge')}"
    )


def _peak_memory() -> dict[str, int]:
    """Return the most memory this process has used, in bytes: on the host, and on its GPU where there is one."""
    unit = 1 if sys.platform == "darwin" else 1024  # getrusage counts kilobytes on Linux, bytes on macOS
    memory = {"peak_host_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}
    if torch.cuda.is_available():
        memory["peak_gpu_bytes"] = torch.cuda.max_memory_allocated()
    return memory


def _note_failure(error: BaseException, folder: RunFolder, step: int, seconds: float) -> None:
    """Write to the record how the run ended and the time it took, and explain what the user can mend."""
    # a second Ctrl-C stops at once, so that only what was saved before is there
    known = {Diverged: "diverged", KeyboardInterrupt: "interrupted"}
    before = folder.read_record().get("seconds", 0.0)
    with contextlib.suppress(OSError):  # the disk may be full
        folder.update_record(status=known.get(type(error), "failed"), seconds=round(before + seconds, 3))
    if isinstance(error, Exception):
        _explain_failure(error, folder, step)


def _explain_failure(error: Exception, folder: RunFolder, step: int) -> None:
    """Raise UsageError for failures the user can mend: a disk that is full, a GPU that is too small. Else return.

    A checkpoint that is not complete tells where the error came from: torch and safetensors report a full disk in
    exceptions of their own.
    """
    broken = checkpoints.remove_incomplete(folder.checkpoints)
    if isinstance(error, torch.OutOfMemoryError):
        raise UsageError(
            f"the GPU's memory is full at step {step + 1}: halve --batch-size and double --accum-steps (the result is "
            "the same), or add --gradient-checkpointing"
        ) from error
    if broken or (isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)):
        last = checkpoints.last_complete(folder.checkpoints)
        kept = f"the last checkpoint, {last}, is complete" if last else "there is no earlier checkpoint"
        raise UsageError(
            f"could not save at step {step}, is the disk full? ({str(error).strip().splitlines()[0][:200]}): {kept}, "
            "nothing half-written is left; free some disk space, then give the same command again: it resumes"
        ) from error
