"""The paper's Figure 1: how far each matrix's singular vectors (dD) and values (dSigma) have moved, step by step."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from sorsa.report import measures
from sorsa.report.figures_labels import point_names
from sorsa.report.figures_style import PAGE, Drawing, in_words, log_ticks, new_figure, short
from sorsa.report.record_sets import Group, RecordSet

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap

_MARKERS = "os^DvPX<>p*hd8"  # of kinds of matrices
_SPAN = 1e4  # largest to smallest value of a logarithmic axis: SORSA may move a thousand times less than LoRA
_WIDE_RANGE = 6  # beyond this ratio between methods, linear axes would hide the smaller ones


@dataclasses.dataclass(frozen=True)
class _Panel:
    """The trajectories of one method: means over its seeds.

    Args:
        label: The method's.
        steps: The steps that all seeds have, ascending.
        matrices: Names (M,) of the adapted matrices.
        layers: Layer of each, None where it has none.
        paths: (M, steps, 2): dSigma and dD.
        seeds: Number of seeds.
    """

    label: str
    steps: list[int]
    matrices: list[str]
    layers: list[int | None]
    paths: np.ndarray
    seeds: int


def trajectories(one: RecordSet) -> Drawing | None:
    """Return Figure 1 of one set; None without a spectral analysis.

    Args:
        one: Records of one model and data.
    """
    panels = [panel for group in one.groups if (panel := _panel(group)) is not None]
    if not panels:
        return None
    columns, rows = _grid(len(panels) + 1)
    size, margins = (PAGE, 1.62 * rows + 0.4), (0.55, 0.1, 0.44, 0.2)
    figure, axes = new_figure(size, margins, rows, columns, wspace=0.12, hspace=0.2)
    colors, kinds = _colors(), sorted({_kind(name) for panel in panels for name in panel.matrices}, key=_rank)
    markers = {kind: _MARKERS[index % len(_MARKERS)] for index, kind in enumerate(kinds)}
    logarithmic, limits = _limits(panels)
    for index, (ax, panel) in enumerate(zip(axes, panels, strict=False)):
        _draw(ax, panel, markers, colors, logarithmic, limits)
        ax.tick_params(labelleft=index % columns == 0, labelbottom=index + columns >= len(panels))
    _key(axes[len(panels)], panels, markers, colors)
    for ax in axes[len(panels) + 1 :]:
        ax.remove()
    figure.text(0.53, 0.012, "ΔΣ (singular values)", ha="center", va="bottom")
    figure.text(0.008, 0.53, "ΔD (singular vectors)", ha="left", va="center", rotation=90)
    return Drawing("Spectral trajectories (the paper's Figure 1)", _caption(panels, logarithmic), figure)


def _caption(panels: Sequence[_Panel], logarithmic: bool) -> str:
    """Return the caption."""
    over = in_words(panel.seeds for panel in panels)
    first = "; step 0, where both are 0, and what lies below are not on the logarithmic axes" if logarithmic else ""
    return (
        "Change of direction of the singular vectors (ΔD) against change of the singular values (ΔΣ), both means over "
        f"the indices, of every adapted matrix, {over}, from step 0 to {max(panel.steps[-1] for panel in panels)}"
        f"{first}. Thin lines: single matrices, colored by step; at their ends the kind of matrix (marker) and its "
        "layer (from light to dark), with kind and layer of the farthest along each axis. Circles: mean over the "
        "matrices at each step. All panels have the same axes."
    )


def _panel(group: Group) -> _Panel | None:
    """Return a method's trajectories; None without a spectral analysis."""
    found = [measures.complete_series(group.runs, key) for key in ("dSigma", "dD")]
    (steps, names, sigma, _), (steps_d, names_d, direction, _) = found
    if not names or names != names_d or steps != steps_d or len(steps) < 2:
        return None
    analysed = next(run for run in group.runs if run.get("drift"))
    layers = {matrix["name"]: matrix.get("layer") for matrix in analysed["drift"]["matrices"]}
    paths = np.stack([sigma.mean(axis=0), direction.mean(axis=0)], axis=-1)
    return _Panel(group.label, steps, names, [layers[name] for name in names], paths, len(sigma))


def _grid(cells: int) -> tuple[int, int]:
    """Return columns and rows for a number of panels: four or three to a row, whichever leaves fewer empty."""
    columns = min((cells,) if cells < 4 else (4, 3), key=lambda count: -cells % count)
    return columns, -(-cells // columns)


def _limits(panels: Sequence[_Panel]) -> tuple[bool, np.ndarray]:
    """Return whether the axes are logarithmic, and the limits (dSigma or dD, low or high) of all panels.

    Logarithmic ones end `_SPAN` below the largest value, so that a method that hardly moves does not squeeze the rest.
    """
    ends = np.array([panel.paths.max(axis=(0, 1)) for panel in panels])  # (panels, 2)
    moved = np.concatenate([panel.paths[:, 1:].reshape(-1, 2) for panel in panels])
    highest = moved.max(axis=0)
    if (moved > 0).all() and (highest > _WIDE_RANGE * ends.min(axis=0)).any():
        return True, np.stack([np.maximum(moved.min(axis=0) / 1.3, highest / _SPAN), highest * 1.6], axis=1)
    return False, np.stack([-0.04 * highest, highest * 1.12], axis=1)


def _draw(
    ax: Axes, panel: _Panel, markers: dict[str, str], colors: Colormap, logarithmic: bool, limits: np.ndarray
) -> None:
    """Draw the trajectories of one method."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    first = 1 if logarithmic else 0
    steps, paths = np.array(panel.steps[first:]), panel.paths[:, first:]
    share = steps / max(1, panel.steps[-1])
    for index in range(1, len(steps)):  # one compound path per step keeps the SVG small
        pieces = [Path(piece) for piece in paths[:, index - 1 : index + 1]]
        look = {"facecolor": "none", "edgecolor": colors(share[index]), "linewidth": 0.6, "alpha": 0.75}
        ax.add_patch(PathPatch(Path.make_compound_path(*pieces), **look))
    for kind, marker in markers.items():
        own = [number for number, name in enumerate(panel.matrices) if _kind(name) == kind]
        shades = [_shade(panel.layers[number], panel.layers) for number in own]
        ax.scatter(*paths[own, -1].T, marker=marker, s=13, c=shades, edgecolors="black", linewidths=0.4, zorder=2)
    mean = paths.mean(axis=0)
    ax.plot(*mean.T, color="black", linewidth=0.8)
    ax.scatter(*mean.T, c=colors(share), s=14, edgecolors="black", linewidths=0.6, zorder=3)
    if logarithmic:
        ax.set(xscale="log", yscale="log")
    ax.set(xlim=limits[0], ylim=limits[1])
    if logarithmic:
        log_ticks(ax.xaxis)
        log_ticks(ax.yaxis)
    ax.set_title(panel.label, loc="left", pad=3, fontweight="bold")
    _name_farthest(ax, panel, limits)


def _name_farthest(ax: Axes, panel: _Panel, limits: np.ndarray) -> None:
    """Name the matrices that moved farthest along each axis, or say how little a method moved that none is inside."""
    ends, mean = panel.paths[:, -1], panel.paths[:, 1:].mean(axis=0)
    if not (ends >= limits[:, 0]).all(axis=1).any():
        sigma, direction = ends.max(axis=0)
        text = f"all below the axes:\nΔΣ ≤ {short(sigma)}, ΔD ≤ {short(direction)}"
        ax.text(0.5, 0.5, text, transform=ax.transAxes, ha="center", va="center")
        return
    names: dict[str, tuple[float, float]] = {}
    for one in {int(ends[:, axis].argmax()) for axis in (0, 1)}:
        if (ends[one] >= limits[:, 0]).all():
            name = _kind(panel.matrices[one]) + ("" if panel.layers[one] is None else f" {panel.layers[one]}")
            names[name] = tuple(ends[one])
    free = [(tuple(end), tuple(end)) for end in ends] + list(itertools.pairwise(map(tuple, mean)))
    point_names(ax, names, free)


def _key(ax: Axes, panels: Sequence[_Panel], markers: dict[str, str], colors: Colormap) -> None:
    """Explain markers, shades and colors in the last cell."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.lines import Line2D

    ax.axis("off")
    mark = {"linestyle": "none", "markersize": 4.5, "markeredgecolor": "black", "markeredgewidth": 0.4}
    kinds = [Line2D([], [], marker=one, markerfacecolor="white", label=kind, **mark) for kind, one in markers.items()]
    layers = sorted({layer for panel in panels for layer in panel.layers if layer is not None})
    shown = layers if len(layers) <= 5 else [layers[0], layers[len(layers) // 2], layers[-1]]
    mark |= {"marker": "o"}
    shades = [Line2D([], [], markerfacecolor=_shade(one, layers), label=f"layer {one}", **mark) for one in shown]
    place = {"frameon": False, "handletextpad": 0.2, "labelspacing": 0.25, "borderpad": 0, "borderaxespad": 0}
    ax.add_artist(ax.legend(handles=kinds, loc="upper left", bbox_to_anchor=(0.04, 0.93), **place))
    ax.legend(handles=shades, loc="upper left", bbox_to_anchor=(0.5, 0.93), **place)
    bar = ax.inset_axes([0.04, 0.08, 0.9, 0.07])
    last = max(panel.steps[-1] for panel in panels)
    ax.figure.colorbar(ScalarMappable(Normalize(0, last), colors), bar, orientation="horizontal", ticks=[0, last])
    bar.text(0.5, -0.6, "step", transform=bar.transAxes, ha="center", va="top")


def _colors() -> Colormap:
    """Return the colors of the steps, from dark to light in grey too; without viridis' end, too light on white."""
    import matplotlib
    from matplotlib.colors import ListedColormap

    return ListedColormap(matplotlib.colormaps["viridis"](np.linspace(0, 0.88, 256)))


def _shade(layer: int | None, layers: Sequence[int | None]) -> str:
    """Return the grey of a layer: light for the first, dark for the last."""
    known = [one for one in layers if one is not None]
    if layer is None or max(known) == min(known):
        return "white"
    return f"{1 - 0.9 * (layer - min(known)) / (max(known) - min(known)):.3f}"


def _kind(name: str) -> str:
    """Return the kind of a matrix: `q` for `model.layers.0.self_attn.q_proj`."""
    return name.rsplit(".", 1)[-1].removesuffix("_proj")


def _rank(kind: str) -> tuple[int, str]:
    """Return the place of a kind: Llama's in the order of a layer's computation, then others by name."""
    order = ("q", "k", "v", "o", "gate", "up", "down")
    return (order.index(kind) if kind in order else len(order), kind)
