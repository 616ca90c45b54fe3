"""Curves over the optimizer steps: the paper's Figure 2 (loss, gradient norm), condition numbers, orthonormality."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from sorsa.report import measures
from sorsa.report.figures_labels import NAMES_FROM, line_names
from sorsa.report.figures_style import PAGE, Drawing, Style, log_ticks, new_figure, room, styles
from sorsa.report.record_sets import Group, RecordSet

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MARKS = 7  # markers on a line
_POINTS = 300  # of a curve, which is smooth over more steps than it then leaves out
_ERROR = "orthonormality error"
_SPECTRAL = {  # name of a panel -> columns of the spectral analysis
    "κ(Wp)": ("condition_principal",),
    "κ of the merged weight": ("condition_merged",),
    _ERROR: ("orthonormality_U", "orthonormality_V"),
}
_ROUNDING = 1e-4  # FP32 factors of 4096 x 128 that are orthonormal up to rounding have less
Curve = tuple[np.ndarray, np.ndarray]  # steps (T,), values of each seed (S, T)


def training(one: RecordSet) -> Drawing | None:
    """Return Figure 2 of one set: training loss and gradient norm per step; None without metrics.

    Args:
        one: Records of one model and data.
    """
    panels = {}
    for column, name in (("loss", "training loss (nats per token)"), ("grad_norm", "gradient norm before clipping")):
        found = {group.label: _metric(group, column) for group in one.groups}
        panels[name] = {label: curve for label, curve in found.items() if curve is not None}
    panels = {name: curves for name, curves in panels.items() if curves}
    if not panels:
        return None
    figure, axes = _axes(one, 2.4, len(panels))
    for ax, (name, curves) in zip(axes, panels.items(), strict=True):
        _draw(ax, curves, styles(one.groups), name)
    windows = {measures.window(len(measures.curve(run, "loss")[0])) for group in one.groups for run in group.runs}
    smoothing = " or ".join(map(str, sorted(windows)))
    smoothed = f"smoothed by a trailing mean over {smoothing} steps ({measures.SMOOTHING:.0%} of the run)"
    caption = (
        "Training loss and gradient norm: mean over seeds, bands from the lowest to the highest seed, "
        f"{'not smoothed' if windows == {1} else smoothed}. Vertical axes are logarithmic. "
        "The gradient norm does not contain the orthonormal regularizer's part."
    )
    if one.of_role("adalora"):
        caption += " AdaLoRA's loss contains its own regularizer."
    return Drawing("Training loss and gradient norm (the paper's Figure 2)", caption, figure)


def conditions(one: RecordSet) -> Drawing | None:
    """Return condition numbers and orthonormality over the steps of one set; None without a spectral analysis.

    Args:
        one: Records of one model and data.
    """
    panels: dict[str, dict[str, Curve]] = {}
    constant: list[str] = []
    for name, keys in _SPECTRAL.items():
        for group in one.groups:
            curve = _spectral(group, keys)
            if curve is not None and name == _ERROR:
                constant += [group.label] if curve[1].max() < _ROUNDING else []
                curve = _after_rounding(curve)
            if curve is not None:
                panels.setdefault(name, {})[group.label] = curve
    if not panels:
        return None
    caption = (
        "Condition numbers of the trained principal part Wp and of the merged weight, and orthonormality error of the "
        "factors (mean of ‖UᵀU − I‖ and ‖VᵀV − I‖, Frobenius norm) of methods whose factors start orthonormal; there, "
        "step 0 is rounding alone and not shown. Geometric means over the matrices and the seeds, bands from the "
        "lowest to the highest seed. Vertical axes are logarithmic. A method without a curve has no Wp, or one whose "
        "condition number is infinite."
    )
    if constant:
        caption += f" Orthonormal up to rounding throughout, and not shown: {', '.join(constant)}."
    figure, axes = _axes(one, 2.0, len(panels))
    for ax, (name, curves) in zip(axes, panels.items(), strict=True):
        _draw(ax, curves, styles(one.groups), name, logarithms=True)
    return Drawing("Condition numbers and orthonormality", caption, figure)


def _axes(one: RecordSet, height: float, rows: int) -> tuple[Figure, list[Axes]]:
    """Return a figure of panels above one axis of steps, with room for the names at the right."""
    right = NAMES_FROM / 72 + room(group.label for group in one.groups)
    figure, axes = new_figure((PAGE, 0.5 + height * rows), (0.62, right, 0.42, 0.1), rows, sharex=True, hspace=0.09)
    axes[-1].set_xlabel("optimizer step")
    axes[-1].xaxis.get_major_locator().set_params(integer=True)
    return figure, axes


def _metric(group: Group, column: str) -> Curve | None:
    """Return the smoothed curves of a group's seeds at the steps that all have."""
    curves = [measures.smoothed(*measures.curve(run, column)) for run in group.runs]
    curves = [(steps, values) for steps, values in curves if len(steps)]
    if not curves:
        return None
    steps = sorted(set.intersection(*({*map(int, one)} for one, _ in curves)))
    return np.array(steps), np.array([values[np.isin(own, steps)] for own, values in curves])


def _spectral(group: Group, keys: Sequence[str]) -> Curve | None:
    """Return each seed's geometric mean over the matrices of a column, or of the mean of several.

    None without an analysis, and where a matrix has an infinite value: a mean over the others would flatter.
    """
    found = [measures.complete_series(group.runs, key) for key in keys]
    steps = found[0][0]
    if len(steps) < 2 or any(left_out or own != steps for own, _, _, left_out in found):
        return None
    values = np.mean([value for _, _, value, _ in found], axis=0)  # (runs, matrices, steps)
    values = np.maximum(values, np.finfo(float).eps)  # an error of exactly 0 has no logarithm
    return np.array(steps), np.exp(np.log(values).mean(axis=1))


def _after_rounding(curve: Curve) -> Curve | None:
    """Return an orthonormality error without step 0; None where it is not rounding there, or is nothing else later."""
    steps, values = curve
    if values[:, 0].max() >= _ROUNDING or values.max() < _ROUNDING:
        return None
    return steps[1:], values[:, 1:]


def _draw(ax: Axes, curves: dict[str, Curve], looks: dict[str, Style], name: str, logarithms: bool = False) -> None:
    """Draw one panel on a logarithmic scale, with the lines' names at the right.

    Args:
        ax: The axes.
        curves: Label -> steps and values per seed.
        looks: Style of each label.
        name: Of the y axis.
        logarithms: Whether seeds are averaged as logarithms.
    """
    drawn = np.concatenate([values[values > 0] for _, values in curves.values()])
    edge = max((drawn.max() / drawn.min()) ** 0.05, 1.01)  # left to itself, matplotlib warns of a constant
    ax.set(yscale="log", ylim=(drawn.min() / edge, drawn.max() * edge))
    ends = {}
    for number, (label, (steps, values)) in enumerate(curves.items()):
        kept = np.unique(np.linspace(0, len(steps) - 1, _POINTS).round().astype(int))
        steps, values = steps[kept], values[:, kept]
        mean = np.exp(np.log(values).mean(axis=0)) if logarithms else values.mean(axis=0)
        every = max(1, len(steps) // _MARKS)
        style = looks[label]
        marks = {**style.point(3.5), "linestyle": style.dash, "markevery": (number * every // len(curves), every)}
        ax.plot(steps, mean, clip_on=False, **{**style.line(), **marks})
        if len(values) > 1:
            ax.fill_between(steps, values.min(axis=0), values.max(axis=0), color=style.color, alpha=0.15, linewidth=0)
        ends[label] = (float(steps[-1]), float(mean[-1]))
    ax.set_ylabel(name)
    ax.set_xlim(0, max(steps[-1] for steps, _ in curves.values()))
    log_ticks(ax.yaxis)
    line_names(ax, ends, looks)
