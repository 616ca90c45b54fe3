"""The planner, `run.py --name X --plan`: what a run will train and cost, from the model's architecture alone.

architectures.py   the model on the meta device: embedded sizes, a local directory, or the hub
counting.py        trainable parameters per kind of matrix; what goes to disk
schedule.py        optimizer steps T, warm-up, learning rate at named steps, tokens
tracing.py         memory of a training step, counted while the real model runs on tensors without data
memory.py          all bytes of a run, and which GPUs they fit
measuring.py       seconds per step of a few real steps on this machine
report.py          the plan as text
"""

from __future__ import annotations

import contextlib
import gc
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sorsa.config import RunConfig


def plan(config: RunConfig, as_json: bool = False, measure: bool = False) -> None:
    """Print what training the run `config.name` will take.

    Args:
        config: The resolved settings.
        as_json: Print JSON instead of text; nothing else is then written to stdout.
        measure: Also time a few real training steps on this machine; needs the model's weights.

    Raises:
        UsageError: The model is unknown, the method does not fit it, or (measuring) its weights cannot be loaded.
    """
    from sorsa.planning.report import as_text

    result = make_plan(config, measure)
    print(json.dumps(result, indent=2) if as_json else as_text(result))


def make_plan(config: RunConfig, measure: bool = False) -> dict[str, Any]:
    """Return the plan as JSON types; the arguments and errors are those of `plan`."""
    with _without_garbage_collection():
        result = _from_architecture(config)
    if measure:
        from sorsa.planning.measuring import measure_steps

        result["measured"] = measure_steps(config, result["optimizer_steps"])
    return result


@contextlib.contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Save a tenth of a plan's seconds: its imports make a million objects, which would be searched in vain."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()  # nor when the program ends
        if enabled:
            gc.enable()


def _from_architecture(config: RunConfig) -> dict[str, Any]:
    """Return everything that can be said without the model's weights."""
    from sorsa.planning.architectures import build_skeleton
    from sorsa.planning.counting import Counts, adapt_skeleton
    from sorsa.planning.memory import plan_memory
    from sorsa.planning.schedule import plan_schedule

    skeleton = build_skeleton(config)
    schedule = plan_schedule(config)
    model = adapt_skeleton(skeleton, config, schedule["optimizer_steps"])
    counts = Counts.of(model, config)
    return {
        "name": config.name,
        "model": config.model,
        "method": config.peft,
        "trainable_parameters": counts.trainable,
        "total_parameters": counts.total,
        "trainable_by_kind": counts.by_kind,
        "paper": _paper(config),
        **schedule,
        **plan_memory(model, counts, config),
    }


def _paper(config: RunConfig) -> dict[str, Any] | None:
    """Return the run's row of Table 1; None for a run that is not in it, or whose flags made it another."""
    from sorsa.config_files import load_config
    from sorsa.paper import find_score

    row = find_score(config.name)
    if row is None:
        return None
    own = load_config(config.name, "plan", {})
    if any(getattr(config, name) != getattr(own, name) for name in ("model", "peft", "rank", "target_modules")):
        return None
    return {"trainable_millions": row.million, "accuracy": dict(row.accuracy)}
