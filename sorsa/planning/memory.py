"""All bytes of a run, in memory and on disk, and the GPUs that hold them. The paper trains in FP32 under autocast."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from sorsa.planning.tracing import StepMemory, trace_step

if TYPE_CHECKING:
    from sorsa.config import RunConfig
    from sorsa.planning.counting import Counts

logger = logging.getLogger(__name__)

GPUS = (24, 40, 80)
"""Sizes of cards, GB of 1e9 bytes. The cards are sold by GiB: the 7% more are for CUDA itself and fragmentation."""
CHECKPOINTING = {False: "without_checkpointing", True: "with_checkpointing"}


def plan_memory(model: nn.Module, counts: Counts, config: RunConfig) -> dict[str, Any]:
    """Return `bytes` (by what they are for, in memory and on disk) and `fits` (by GPU size) as JSON types.

    Args:
        model: The adapted model on the meta device.
        counts: Its sizes.
        config: The run's settings; precision, batch size and length are read.

    Returns:
        `bytes.activations`, `bytes.total` and `fits` hold None where the model cannot be traced.
    """
    steps = _trace(model, config)
    fixed = {
        "weights": counts.base_bytes,
        "residuals": steps[False].residuals if steps else 0,
        "initial_factors": counts.frozen_adapter_bytes,
        "adapter": counts.adapter_bytes,
        "gradients": counts.trainable_bytes,
        "optimizer_state": 2 * counts.trainable_bytes,  # AdamW: two moments
        "rank_allocator": counts.extra_bytes,  # AdaLoRA's
    }
    copy = counts.trainable_bytes  # AdamW's fast path makes one of what it updates, when the activations are gone
    total = {key: max(sum(step.peak.values()), copy) + sum(fixed.values()) for key, step in steps.items()}
    return {
        "bytes": {
            **fixed,
            "optimizer_step": copy,
            "activations": {
                name: {"kept": steps[key].kept, "peak": steps[key].peak} if steps else None
                for key, name in CHECKPOINTING.items()
            },
            "total": {name: total.get(key) for key, name in CHECKPOINTING.items()},
            "disk": {
                "checkpoints": counts.checkpoint_bytes,
                "start": counts.start_bytes,
                "adapter": counts.saved_bytes,
                "merged_model": counts.merged_bytes,
            },
        },
        "fits": {
            str(size): {name: total[key] <= size * 10**9 if steps else None for key, name in CHECKPOINTING.items()}
            for size in GPUS
        },
    }


def _trace(model: nn.Module, config: RunConfig) -> dict[bool, StepMemory]:
    """Trace a training step; an empty dict where the model's code needs values and not only shapes."""
    try:
        return trace_step(model, (config.batch_size, config.length), compute_type(config))
    except (RuntimeError, ValueError, AttributeError) as error:
        logger.warning(
            "activations are left out: a step of %s cannot be traced without its weights (%s)",
            type(model).__name__,
            str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__,
        )
        return {}


def compute_type(config: RunConfig) -> torch.dtype:
    """Return the type that a run's matrix products are computed in."""
    types = {"bf16": torch.bfloat16, "fp16": torch.float16}
    return next((types[word] for word in config.mix_precision if word in types), torch.float32)
