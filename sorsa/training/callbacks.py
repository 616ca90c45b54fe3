"""What the Hugging Face Trainer lacks: metrics as JSON lines, a quiet progress bar, stopping without losing a step."""

from __future__ import annotations

import json
import logging
import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from transformers import ProgressCallback, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from sorsa.errors import Diverged
from sorsa.files import write_whole
from sorsa.run_folder import read_metrics
from sorsa.training.checkpoints import mark_complete

logger = logging.getLogger(__name__)

_COPIED = ("loss", "grad_norm", "learning_rate", "regularizer", "orthonormality_error")


class MetricsWriter(TrainerCallback):
    """Appends one JSON row per optimizer step to metrics.jsonl.

    A row: `step`, `loss` (mean over the step's response tokens, nats; AdaLoRA's includes its regularizer),
    `grad_norm` (before clipping, without the SORSA regularizer's part), `learning_rate` (the one used in this step),
    `regularizer` and `orthonormality_error` (SORSA), `tokens` (read since step 0, all processes, no padding),
    `tokens_per_second` (this step, saving not counted).

    Must come after `OrthonormalCallback` in the Trainer's callbacks, whose values it copies.

    Args:
        path: metrics.jsonl.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.mark = 0.0  # time.perf_counter() at the end of the previous step
        self.tokens = 0  # tokens read up to then

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start the clock; on resuming, drop the rows of steps that will be done again."""
        self.mark, self.tokens = time.perf_counter(), state.num_input_tokens_seen
        if state.is_world_process_zero:
            rows = [row for row in read_metrics(self.path) if row["step"] <= state.global_step]
            write_whole(self.path, "".join(json.dumps(row) + "\n" for row in rows))

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float],
        **kwargs: Any,
    ) -> None:
        """Append the row of the step just done.

        Raises:
            Diverged: The loss is not a finite number: going on would only destroy the adapter.
        """
        if "loss" not in logs:  # the Trainer's closing summary
            return
        if not math.isfinite(logs["loss"]):
            raise Diverged(
                f"the loss is {logs['loss']} at step {state.global_step}: training diverged; lower --lr or --gamma, or "
                "use bf16 or fp32 instead of fp16, and start anew with --overwrite"
            )
        now, seen = time.perf_counter(), state.num_input_tokens_seen
        row = {"step": state.global_step, **{key: logs[key] for key in _COPIED if key in logs}, "tokens": seen}
        row["tokens_per_second"] = round((seen - self.tokens) / (now - self.mark), 1)
        self.mark, self.tokens = now, seen
        if state.is_world_process_zero:
            with self.path.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(row) + "\n")

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Leave the time that saving took out of the next step's."""
        self.mark = time.perf_counter()


class CheckpointMarker(TrainerCallback):
    """Marks a checkpoint as complete once the Trainer has written all of it."""

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Write the mark, on the main process only."""
        if state.is_world_process_zero:
            mark_complete(Path(args.output_dir) / f"checkpoint-{state.global_step}")


class ProgressBar(ProgressCallback):
    """The Trainer's progress bar, with the loss at its end instead of a printed line per step."""

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Show loss and learning rate behind the bar."""
        if self.training_bar is not None and logs and "loss" in logs:
            self.training_bar.set_postfix(loss=f"{logs['loss']:.4f}", lr=f"{logs['learning_rate']:.2e}")


class GracefulStop(TrainerCallback):
    """On Ctrl-C or SIGTERM: finish the optimizer step, save a checkpoint, stop. A second signal stops at once.

    Stopping inside a step would save a state that no undisturbed run ever has.
    """

    def __init__(self) -> None:
        self.requested = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Catch the signals within a `with` block. Only a main thread can: elsewhere they act as usual."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._request) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _request(self, number: int, frame: FrameType | None) -> None:
        """Note the first signal; raise KeyboardInterrupt at the second."""
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        logger.warning("\nstopping: finishing this optimizer step and saving; press Ctrl-C again to stop at once")

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Ask the Trainer to save and stop, in all processes at the same step."""
        requested = self.requested
        if args.world_size > 1:  # torchrun's signals reach the processes at different moments
            flag = torch.tensor(int(requested), device=args.device)
            torch.distributed.all_reduce(flag, op=torch.distributed.ReduceOp.MAX)
            requested = bool(flag.item())
        if requested:
            control.should_save = control.should_training_stop = True
