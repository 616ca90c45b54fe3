"""Several processes that share one test under `torchrun` or `accelerate launch`: rank, number, and waiting.

They exchange nothing but files and the batch size. A process that dies closes its connections, which ends the others'
waiting with an error; a slow one may take as long as it needs.
"""

from __future__ import annotations

import datetime
import os
from dataclasses import dataclass

PATIENCE = datetime.timedelta(days=30)  # the default, 30 minutes, would kill a test whose shares take unequal time


@dataclass(frozen=True)
class Processes:
    """This process among those that share a test."""

    rank: int = 0
    world: int = 1

    def wait(self) -> None:
        """Return when every process has come here. Raises RuntimeError when one of them has died."""
        if self.world > 1:
            import torch.distributed

            torch.distributed.barrier()

    def smallest(self, value: int) -> int:
        """Return the smallest of the processes' values."""
        if self.world == 1:
            return value
        import torch

        agreed = torch.tensor([value])
        torch.distributed.all_reduce(agreed, op=torch.distributed.ReduceOp.MIN)
        return int(agreed)


def launched() -> int:
    """Return how many processes the launcher started; 1 without one."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def join_processes() -> Processes:
    """Connect this process with the others that the launcher started."""
    if launched() == 1:
        return Processes()
    import torch
    from accelerate import PartialState

    # gloo on GPUs too: only files and one number are shared, and it notices a dead process at once
    state = PartialState(cpu=not torch.cuda.is_available(), backend="gloo", timeout=PATIENCE)
    return Processes(state.process_index, state.num_processes)
