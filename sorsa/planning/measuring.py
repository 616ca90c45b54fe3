"""`--plan --measure`: a few real training steps on this machine, extrapolated to the whole run."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import statistics
import sys
import tempfile
from typing import TYPE_CHECKING, Any

from sorsa.config_values import parse_split
from sorsa.run_folder import RunFolder, read_metrics
from sorsa.training.run import run_training

if TYPE_CHECKING:
    from sorsa.config import RunConfig

STEPS = 6
"""The first of them is left out: it also makes the optimizer's state and SORSA's residuals."""


def measure_steps(config: RunConfig, steps: int) -> dict[str, Any]:
    """Train for a few steps in a temporary folder and extrapolate.

    Args:
        config: The run's settings; its data is cut to the first rows.
        steps: Optimizer steps T of the whole run.

    Returns:
        `seconds_per_step` (median), `tokens_per_second`, `hours` (of T such steps), `peak_host_bytes`,
        `peak_gpu_bytes` (None without a GPU).

    Raises:
        UsageError: As training: the model or the data cannot be loaded, memory is short.
    """
    with tempfile.TemporaryDirectory(prefix="sorsa-plan-") as directory:
        short = shortened(config, directory)
        with contextlib.redirect_stdout(sys.stderr):  # stdout is the plan's
            run_training(short)
        folder = RunFolder(short.run_path, short.name)
        metrics, record = read_metrics(folder.metrics), folder.read_record()
    tokens = [after["tokens"] - before["tokens"] for before, after in itertools.pairwise(metrics)]
    seconds = [n / row["tokens_per_second"] for n, row in zip(tokens, metrics[1:], strict=True)]
    per_step = statistics.median(seconds)
    return {
        "steps": len(seconds),
        "seconds_per_step": per_step,
        "tokens_per_second": sum(tokens) / sum(seconds),
        "hours": per_step * steps / 3600,
        "peak_host_bytes": record["peak_host_bytes"],
        "peak_gpu_bytes": record.get("peak_gpu_bytes"),
    }


def shortened(config: RunConfig, run_path: str) -> RunConfig:
    """Return the settings of the short run.

    Args:
        config: The settings of the whole run.
        run_path: Where the short run's folder goes.
    """
    start, stop = parse_split(config.split)
    enough = start + 2 * STEPS * config.batch_size * config.accum_steps  # twice: some may be too long
    return dataclasses.replace(
        config,
        run_path=run_path,
        split=f"[{start}:{enough if stop is None else min(stop, enough)}]",
        max_steps=STEPS,
        save_steps=STEPS + 1,  # no checkpoint
        t_init=0,  # AdaLoRA's schedule must fit into so few steps
        t_final=0,
    )
