"""Curves over the optimizer steps: the paper's Figure 2 (loss, gradient norm), condition numbers, orthonormality."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from sorsa.report import measures
from sorsa.report.figure_labels import line_names
from sorsa.report.figure_style import PAGE, Drawing, Style, log_ticks, new_figure, styles
from sorsa.report.groups import Group, RecordSet

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MARGINS = (0.62, 1.4, 0.42, 0.1)  # inches; the names stand at the right
_MARKS = 7  # markers on a line
Curve = tuple[np.ndarray, np.ndarray]  # steps (T,), values of each seed (S, T)


def training(one: RecordSet) -> Drawing | None:
    """Return Figure 2 of one set: training loss and gradient norm per step; None without metrics."""
    panels = {}
    for column, name in (("loss", "training loss (nats per token)"), ("grad_norm", "gradient norm before clipping")):
        found = {group.label: _metric(group, column) for group in one.groups}
        panels[name] = {label: curve for label, curve in found.items() if curve is not None}
    panels = {name: curves for name, curves in panels.items() if curves}
    if not panels:
        return None
    figure, axes = new_figure((PAGE, 0.5 + 2.4 * len(panels)), _MARGINS, len(panels), sharex=True, hspace=0.09)
    for ax, (name, curves) in zip(axes, panels.items(), strict=True):
        _draw(ax, curves, styles(one.groups), name)
    axes[-1].set_xlabel("optimizer step")
    lengths = {measures.window(len(measures.curve(run, "loss")[0])) for group in one.groups for run in group.runs}
    smoothing = " or ".join(map(str, sorted(lengths)))
    caption = (
        "Training loss and gradient norm: mean over seeds, bands from the lowest to the highest seed, each smoothed by "
        f"a trailing mean over {smoothing} steps ({measures.SMOOTHING:.0%} of the run). Vertical axes are logarithmic. "
        "The gradient norm does not contain the orthonormal regularizer's part."
    )
    if one.of_role("adalora"):
        caption += " AdaLoRA's loss contains its own regularizer."
    return Drawing("Training loss and gradient norm (the paper's Figure 2)", caption, figure)


def conditions(one: RecordSet) -> Drawing | None:
    """Return condition numbers and orthonormality over the steps of one set; None without a spectral analysis."""
    columns = {
        "κ(Wp)": ("condition_principal",),
        "κ of the merged weight": ("condition_merged",),
        "orthonormality error": ("orthonormality_U", "orthonormality_V"),
    }
    panels: dict[str, dict[str, Curve]] = {}
    left_out: list[int] = []
    for name, keys in columns.items():
        for group in one.groups:
            curve, without = _spectral(group, keys)
            if curve is not None:
                panels.setdefault(name, {})[group.label] = curve
                left_out.append(without)
    if not panels:
        return None
    figure, axes = new_figure((PAGE, 0.5 + 2.0 * len(panels)), _MARGINS, len(panels), sharex=True, hspace=0.09)
    for ax, (name, curves) in zip(axes, panels.items(), strict=True):
        _draw(ax, curves, styles(one.groups), name, logarithms=True)
    axes[-1].set_xlabel("optimizer step")
    caption = (
        "Condition numbers of the trained principal part Wp (of methods that have one) and of the merged weight, and "
        "the orthonormality error of the factors (mean of ‖UᵀU − I‖ and ‖VᵀV − I‖, Frobenius norm): geometric means "
        "over the matrices and the seeds, bands from the lowest to the highest seed. Vertical axes are logarithmic."
    )
    if any(left_out):
        caption += f" Up to {max(left_out)} matrices of a method are left out: infinite at one of the steps."
    return Drawing("Condition numbers and orthonormality", caption, figure)


def _metric(group: Group, column: str) -> Curve | None:
    """Return the smoothed curves of a group's seeds at the steps that all have."""
    curves = [measures.smoothed(*measures.curve(run, column)) for run in group.runs]
    curves = [(steps, values) for steps, values in curves if len(steps)]
    if not curves:
        return None
    steps = sorted(set.intersection(*({*map(int, one)} for one, _ in curves)))
    return np.array(steps), np.array([values[np.isin(own, steps)] for own, values in curves])


def _spectral(group: Group, keys: Sequence[str]) -> tuple[Curve | None, int]:
    """Return each seed's geometric mean over the matrices, mean over several columns, and the matrices left out."""
    found = [measures.complete_series(group.runs, key) for key in keys]
    if not all(names for _, names, _, _ in found):
        return None, 0
    steps = sorted(set.intersection(*(set(one) for one, _, _, _ in found)))
    values = np.mean([value[:, :, np.isin(own, steps)] for own, _, value, _ in found], axis=0)
    if not (values > 0).all():  # an orthonormality error of exactly 0 has no logarithm
        values = np.maximum(values, np.finfo(float).eps)
    return (np.array(steps), np.exp(np.log(values).mean(axis=1))), max(without for _, _, _, without in found)


def _draw(ax: Axes, curves: dict[str, Curve], looks: dict[str, Style], name: str, logarithms: bool = False) -> None:
    """Draw one panel on a logarithmic scale, with the lines' names at the right.

    Args:
        ax: The axes.
        curves: Label -> steps and values per seed.
        looks: Style of each label.
        name: Of the y axis.
        logarithms: Whether seeds are averaged as logarithms.
    """
    ax.set_yscale("log")
    ends = {}
    for number, (label, (steps, values)) in enumerate(curves.items()):
        mean = np.exp(np.log(values).mean(axis=0)) if logarithms else values.mean(axis=0)
        every = max(1, len(steps) // _MARKS)
        style = looks[label]
        marks = {**style.point(3.5), "linestyle": style.dash, "markevery": (number * every // len(curves), every)}
        ax.plot(steps, mean, **{**style.line(), **marks})
        if len(values) > 1:
            ax.fill_between(steps, values.min(axis=0), values.max(axis=0), color=style.color, alpha=0.15, linewidth=0)
        ends[label] = (float(steps[-1]), float(mean[-1]))
    ax.set_ylabel(name)
    ax.set_xlim(0, max(steps[-1] for steps, _ in curves.values()))
    log_ticks(ax.yaxis)
    line_names(ax, ends, looks)
