"""The number of questions answered at a time, found from the free memory, and made smaller where it was too large."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from sorsa.errors import UsageError
from sorsa.evaluation.waves import WAVE

if TYPE_CHECKING:
    from sorsa.config import RunConfig

logger = logging.getLogger(__name__)

SHARE = 0.7  # of the free memory: the rest is for prefills, logits, and the copy of a layer while its store grows
# On a CPU more rows soon stop to pay: SmolLM2-135M in BF16 took 5.2, 4.2 and 3.4 ms per token with 16, 32 and 64 rows
# (EPYC, one thread), and with 64 a wave has only one change of rows before its batch runs empty.
CPU_ROWS = 32
_CGROUP = Path("/sys/fs/cgroup")


def rows_that_fit(bytes_per_row: int, free: int, device: torch.device) -> int:
    """Return a batch size: a power of two, so that a little more or less free memory gives the same one.

    Args:
        bytes_per_row: Memory of one row at its full length.
        free: Bytes that may be used.
        device: Where the model lies.
    """
    most = CPU_ROWS if device.type == "cpu" else WAVE  # more rows than a wave has cannot come together
    fitting = min(most, int(SHARE * free) // max(1, bytes_per_row))
    return 1 << max(0, fitting.bit_length() - 1)


def free_memory(device: torch.device) -> int:
    """Return the bytes that this process may still use on a device."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return _host_memory() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # the processes of a machine share it


def _host_memory() -> int:
    """Return what Linux calls available, or less where a container's limit is nearer."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        free = next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):  # not Linux: half of the memory is a guess that seldom fails
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),  # cgroup v1
    ):
        try:
            left = int((_CGROUP / limit).read_text()) - int((_CGROUP / used).read_text())
        except (OSError, ValueError):  # no such file, or `max`: no limit
            continue
        free = min(free, max(0, left))
    return free


def out_of_memory(error: Exception) -> bool:
    """Return whether that is what an error says; on a CPU PyTorch has no class of its own for it."""
    kinds = (torch.OutOfMemoryError, MemoryError)
    return isinstance(error, kinds) or "can't allocate memory" in str(error)


def smaller(config: RunConfig, size: int) -> int:
    """Return the batch size to try after one that was too large for the memory, and say so.

    Raises:
        UsageError: The size was asked for, or a single row is too much.
    """
    if config.valid_batch_size is not None:
        raise UsageError(
            f"valid_batch_size = {size}: out of memory; give a smaller one, or leave it out to have it found"
        )
    if size == 1:
        raise UsageError(
            "out of memory with a single question at a time: take a smaller --max-new-tokens, --test-precision bf16, "
            "or a larger machine"
        )
    logger.warning("out of memory with %d questions at a time; going on with %d", size, size // 2)
    return size // 2
