"""Optimizer steps T, warm-up and learning rate as the Trainer will have them, and the tokens read (Tables 3 and 5)."""

from __future__ import annotations

import dataclasses
import itertools
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import get_scheduler

from sorsa.config_values import parse_split
from sorsa.data import DATASETS, load_training_set
from sorsa.data.loading import load_rows
from sorsa.data.local_file import read_rows
from sorsa.errors import UsageError
from sorsa.models import load_tokenizer
from sorsa.run_folder import RunFolder
from sorsa.training.arguments import global_batch, plan_steps, training_arguments

if TYPE_CHECKING:
    from transformers import TrainingArguments

    from sorsa.config import RunConfig

logger = logging.getLogger(__name__)

TOKENISED_AT_ONCE = 50_000_000  # bytes of a local file: about ten seconds of tokenising


@dataclasses.dataclass(frozen=True)
class Samples:
    """The samples of a run: how many, and their mean length in tokens.

    Before tokenising both are not known (`tokens` None): rows whose prompt is too long will be dropped.
    """

    rows: int
    tokens: float | None = None


def plan_schedule(config: RunConfig) -> dict[str, Any]:
    """Return T, warm-up steps, checkpoint interval, samples, tokens, and the learning rate at named steps.

    Args:
        config: The run's settings.

    Returns:
        JSON types. `learning_rate` has, by name, a `step` k and the `value` after k steps of the scheduler: the rate
        that optimizer step k + 1 uses. `tokens.expected` is None where nothing was tokenised.

    Raises:
        UsageError: The rows do not fill one global batch, or cannot be counted.
    """
    # the precision changes no step, and this machine need not have the GPU that the run is planned for
    arguments = training_arguments(
        dataclasses.replace(config, mix_precision=["fp32"]), RunFolder(config.run_path, config.name)
    )
    samples = count_samples(config)
    plan_steps(arguments, config, samples.rows)
    batch = global_batch(arguments)
    read = arguments.max_steps * batch
    return {
        "samples": {"rows": samples.rows, "exact": samples.tokens is not None},
        "global_batch": batch,
        "optimizer_steps": arguments.max_steps,
        "warmup_steps": arguments.get_warmup_steps(arguments.max_steps),
        "save_steps": arguments.save_steps,
        "tokens": {
            "at_most": read * config.length,
            "expected": None if samples.tokens is None else round(read * samples.tokens),
        },
        "learning_rate": learning_rates(arguments),
    }


def count_samples(config: RunConfig) -> Samples:
    """Count the samples of a run: from the split for a hub's data set, from the file for a local one.

    Args:
        config: The run's settings; the group `data` and the tokenizer's are read.

    Raises:
        UsageError: The split of a hub's data set is open and the data set cannot be loaded, or the file is broken.
    """
    start, stop = parse_split(config.split)
    if config.train_dataset in DATASETS:
        return Samples(stop - start if stop is not None else len(load_rows(config)[0]))
    path = Path(config.train_dataset)
    if path.stat().st_size <= TOKENISED_AT_ONCE:
        try:
            tokenizer = load_tokenizer(config)
        except UsageError as error:
            logger.info("samples are counted without tokenising: %s", error)
        else:
            counts = load_training_set(config, tokenizer)[1]  # training will find it in the cache
            return Samples(counts.kept, counts.tokens / counts.kept)
    return Samples(sum(1 for _ in itertools.islice(read_rows(path), start, stop)))


def learning_rates(arguments: TrainingArguments) -> dict[str, dict[str, float]]:
    """Return the learning rate at the start, the end of warm-up, T/2 and T, from the Trainer's own scheduler.

    Args:
        arguments: With `max_steps` = T.
    """
    steps, warmup = arguments.max_steps, arguments.get_warmup_steps(arguments.max_steps)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=arguments.learning_rate)
    scheduler = get_scheduler(
        arguments.lr_scheduler_type,
        optimizer,
        num_warmup_steps=warmup,
        num_training_steps=steps,
        scheduler_specific_kwargs=arguments.lr_scheduler_kwargs,
    )
    factor = scheduler.lr_lambdas[0]
    named = {"start": 0, "warmup_end": warmup, "half": steps // 2, "end": steps}
    return {name: {"step": step, "value": arguments.learning_rate * factor(step)} for name, step in named.items()}
