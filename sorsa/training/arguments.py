"""From the run's settings to transformers' TrainingArguments (paper Tables 3 and 5), precision, and the step count T.

The loss of an optimizer step is the mean over all response tokens of its global batch, so that splitting the batch
differently between batch_size and accum_steps changes nothing. The authors' release (transformers 4.44) took the
mean over the micro-batches of each one's mean, which gives tokens of short answers more weight.
"""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Any

import torch
from transformers import TrainingArguments
from transformers.utils import is_torch_tf32_available

from sorsa.errors import UsageError

if TYPE_CHECKING:
    from sorsa.config import RunConfig
    from sorsa.run_folder import RunFolder

logger = logging.getLogger(__name__)


def training_arguments(config: RunConfig, folder: RunFolder) -> TrainingArguments:
    """Return the Trainer's arguments; the step counts are filled in by `plan_steps` once the rows are counted.

    Args:
        config: The run's settings.
        folder: Where the checkpoints go.

    Raises:
        UsageError: The machine cannot compute in the precision asked for.
    """
    arguments = TrainingArguments(
        output_dir=str(folder.checkpoints),
        per_device_train_batch_size=config.batch_size,
        gradient_accumulation_steps=config.accum_steps,
        learning_rate=config.lr,
        weight_decay=config.wd,
        max_grad_norm=config.grad_clip,  # 0: the Trainer does not clip and still logs the norm
        lr_scheduler_type=config.scheduler,
        warmup_steps=config.warmup,  # below 1 it is a share of the steps; warmup_ratio is gone in transformers 5
        optim="adamw_torch",
        seed=config.seed,
        logging_steps=1,
        logging_nan_inf_filter=False,  # it would show the average instead of a NaN
        include_num_input_tokens_seen="non_padding",
        save_strategy="steps",
        save_total_limit=2,  # the last one, and the one before while it is being written
        ddp_broadcast_buffers=False,  # the initial factors are buffers: a gigabyte per forward pass that never changes
        remove_unused_columns=False,  # PEFT's forward takes **kwargs, the Trainer would drop every column
        report_to="none",
        use_cpu=not torch.cuda.is_available(),
        **_precision(config.mix_precision),
        **_recomputing(config.gradient_checkpointing),
    )
    if arguments.n_gpu > 1:
        # DataParallel would multiply the global batch without being asked, and copies the adapter at every step.
        logger.warning(
            "%d GPUs, but one process: training on one of them; for all: torchrun --nproc-per-node %d -- run.py ...",
            arguments.n_gpu,
            arguments.n_gpu,
        )
        arguments._n_gpu = 1
    return arguments


def _recomputing(wanted: bool) -> dict[str, Any]:
    """Return the arguments of gradient checkpointing; none where it is off, because transformers 5.23 renames them."""
    # Without reentry the gradient reaches the adapters although the embeddings they follow are frozen.
    return {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": False}} if wanted else {}


def _precision(mix_precision: list[str]) -> dict[str, bool]:
    """Return the precision arguments. TF32 is only a faster FP32, so a machine without it goes on; FP16 is not."""
    cuda = torch.cuda.is_available()
    if "fp16" in mix_precision and not cuda:
        raise UsageError("mix_precision = fp16: needs a CUDA GPU and there is none here; use bf16 or fp32")
    if "bf16" in mix_precision and cuda and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise UsageError(f"mix_precision = bf16: {torch.cuda.get_device_name()} has no BF16; use fp16 or fp32")
    tf32 = is_torch_tf32_available()
    if "tf32" in mix_precision and not tf32:
        logger.warning("this machine has no TF32: what BF16 or FP16 does not cover is computed in FP32")
    return {"bf16": "bf16" in mix_precision, "fp16": "fp16" in mix_precision, "tf32": tf32 and "tf32" in mix_precision}


def global_batch(arguments: TrainingArguments) -> int:
    """Return the samples of one optimizer step: of all micro-batches of all processes."""
    return arguments.train_batch_size * arguments.gradient_accumulation_steps * arguments.world_size


def plan_steps(arguments: TrainingArguments, config: RunConfig, rows: int) -> int:
    """Set the number of optimizer steps T and the checkpoint interval; return the rows of each epoch that are used.

    T = epochs x floor(rows / global batch): the last partial batch of an epoch is dropped (the paper: 781 steps for
    100000 rows and batch 128), and so is a partial group of accumulation, which the Trainer would make a step of.

    Args:
        arguments: Changed in place: `max_steps` and `save_steps`.
        config: `epochs`, `max_steps`, `save_steps` are read.
        rows: Samples after tokenising.

    Raises:
        UsageError: The rows do not fill one global batch.
    """
    batch = global_batch(arguments)
    per_epoch = rows // batch
    steps = config.max_steps or math.floor(config.epochs * per_epoch + 1e-9)  # 1e-9: 0.29 x 100 is 28.99... in floats
    if per_epoch == 0 or steps == 0:
        raise UsageError(
            f"train_dataset: {rows} samples x {config.epochs:g} epochs do not fill one global batch of {batch} "
            f"({arguments.train_batch_size} batch_size x {arguments.gradient_accumulation_steps} accum_steps x "
            f"{arguments.world_size} processes); give more samples, more --epochs, or a lower --accum-steps"
        )
    arguments.max_steps = steps
    arguments.save_steps = config.save_steps or max(1, math.ceil(steps / 5))
    logger.info("%d optimizer steps of %d samples, a checkpoint every %d steps", steps, batch, arguments.save_steps)
    return per_epoch * batch
