"""A plan as text: aligned columns, GB of 1e9 bytes."""

from __future__ import annotations

from typing import Any

from sorsa.planning.memory import CHECKPOINTING

WIDTH = 34  # of the first column
TRACED = {
    "activations": "activations and temporary ones",
    "weight_copies": "copies of weights, compute type",
    "logits": "logits and loss",
}
FIXED = {
    "weights": "weights, FP32",
    "residuals": "residuals, compute type",
    "initial_factors": "frozen tensors of the adapter",
    "adapter": "adapter",
    "gradients": "gradients",
    "optimizer_state": "AdamW's state",
    "rank_allocator": "AdaLoRA's allocator",
}
DISK = {
    "checkpoints": "checkpoints/, two at a time",
    "start": "start/",
    "adapter": "adapter/",
    "merged_model": "merged/",
}


def as_text(plan: dict[str, Any]) -> str:
    """Return a plan as lines of text.

    Args:
        plan: What `sorsa.planning.make_plan` returns.
    """
    lines = [f"{plan['name']}: {plan['method']} on {plan['model']}", *_parameters(plan), *_schedule(plan)]
    return "\n".join([*lines, *_memory(plan), *_measured(plan)])


def _row(label: str, *cells: str) -> str:
    """Return one line: the label, then right-aligned cells."""
    return f"  {label:{WIDTH}}" + "".join(f"{cell:>16}" for cell in cells)


def _parameters(plan: dict[str, Any]) -> list[str]:
    """Return the section on parameters, beside the paper's figures where the run is a row of Table 1."""
    paper = plan["paper"]
    rows = [_row(kind, f"{count:,}") for kind, count in plan["trainable_by_kind"].items()]
    total = _row("all of them", f"{plan['trainable_parameters']:,}")
    if paper:
        total += f"  = {plan['trainable_parameters'] / 1e6:.0f}M (paper: {paper['trainable_millions']}M)"
    lines = ["", "trainable parameters", *rows, total]
    lines.append(_row("of the whole model's", f"{plan['total_parameters']:,}"))
    if paper:
        scores = ", ".join(f"{name} {score:.2f}" for name, score in paper["accuracy"].items())
        lines.append(f"  the paper's accuracy, %: {scores}")
    return lines


def _schedule(plan: dict[str, Any]) -> list[str]:
    """Return the section on steps, tokens and learning rate."""
    samples, tokens = plan["samples"], plan["tokens"]
    about = "" if samples["exact"] else "  (at most: rows that are too long are dropped)"
    lines = [
        "",
        "schedule",
        _row("samples", f"{samples['rows']:,}") + about,
        _row("samples per optimizer step", f"{plan['global_batch']:,}"),
        _row("optimizer steps T", f"{plan['optimizer_steps']:,}"),
        _row("of them warm-up", f"{plan['warmup_steps']:,}"),
        _row("steps between checkpoints", f"{plan['save_steps']:,}"),
        _row("tokens, at most", f"{tokens['at_most']:,}"),
    ]
    if tokens["expected"] is not None:
        lines.append(_row("tokens, by the samples' mean length", f"{tokens['expected']:,}"))
    names = {"start": "0", "warmup_end": "end of warm-up", "half": "T/2", "end": "T"}
    lines.append("  learning rate after k steps, used by step k + 1")
    for name, point in plan["learning_rate"].items():
        lines.append(_row(f"  k = {point['step']} ({names[name]})", f"{point['value']:.4g}"))
    return lines


def _memory(plan: dict[str, Any]) -> list[str]:
    """Return the sections on memory and disk."""
    sizes, modes = plan["bytes"], list(CHECKPOINTING.values())
    lines = ["", f"{'memory, GB of 1e9 bytes':{WIDTH + 2}}{'':>16}{'checkpointing':>16}"]
    lines += [_row(label, *[_gb(sizes[key])] * 2) for key, label in FIXED.items() if sizes[key]]
    traced = [sizes["activations"][mode] for mode in modes]
    if all(traced):
        lines += [_row(label, *(_gb(step["peak"][key]) for step in traced)) for key, label in TRACED.items()]
        lines.append(_row("or, in their place, AdamW's step", *[_gb(sizes["optimizer_step"])] * 2))
        lines.append(_row("most at a time", *(_gb(sizes["total"][mode]) for mode in modes)))
    for size, fits in plan["fits"].items():
        lines.append(_row(f"fits in {size} GB", *({True: "yes", False: "no"}.get(fits[m], "?") for m in modes)))
    disk = [_row(label, _gb(sizes["disk"][key])) for key, label in DISK.items() if sizes["disk"][key]]
    return [*lines, "", "disk, GB", *disk]


def _measured(plan: dict[str, Any]) -> list[str]:
    """Return the section on the steps that were run, if any were."""
    if "measured" not in plan:
        return []
    seen = plan["measured"]
    lines = [
        "",
        f"measured on this machine, {seen['steps']} steps",
        _row("seconds per step", f"{seen['seconds_per_step']:.3g}"),
        _row("tokens per second", f"{seen['tokens_per_second']:,.0f}"),
        _row(f"hours for {plan['optimizer_steps']:,} steps", f"{seen['hours']:.3g}"),
        _row("peak memory of the host, GB", _gb(seen["peak_host_bytes"])),
    ]
    if seen["peak_gpu_bytes"] is not None:
        lines.append(_row("peak memory of the GPU, GB", _gb(seen["peak_gpu_bytes"])))
    return lines


def _gb(size: int) -> str:
    """Return bytes in GB: two decimals, or three significant digits below 0.1 GB."""
    return f"{size / 1e9:.2f}" if size >= 1e8 else f"{size / 1e9:.3g}"
