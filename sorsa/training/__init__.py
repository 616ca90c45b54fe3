"""Training a SORSA (or other) adapter: `train(config)` is what `run.py --train` calls.

run.py          the training run from top to bottom
arguments.py    settings -> transformers' TrainingArguments; precision; number of optimizer steps T
adapter.py      which matrices are adapted, and the checks before any of them is decomposed
checkpoints.py  complete and incomplete checkpoints; which run resumes
callbacks.py    metrics.jsonl, progress bar, stopping on Ctrl-C, the mark of a complete checkpoint
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sorsa.config import RunConfig


def train(config: RunConfig) -> None:
    """Train the run `config.name`, or resume it from its last complete checkpoint.

    Args:
        config: The resolved settings.

    Raises:
        UsageError: Bad input, a run of this name with other settings, or a full disk; one line each.
        KeyboardInterrupt: Stopped by Ctrl-C after saving a checkpoint; the text says how to resume.
    """
    from sorsa.training.run import run_training

    run_training(config)
