"""The figures of the theory checks, one per statement, drawn from theory.json; as SVG and PNG.

The look is that of the report's figures; every line has its own colour, marker and dash, for print in grey.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sorsa.analysis.theory.tally import LEVELS
from sorsa.files import whole_file
from sorsa.report.figures_style import (
    BLACK,
    BLUE,
    DASHDOT,
    DASHED,
    DOTTED,
    GREEN,
    GREY,
    LONG,
    ORANGE,
    PURPLE,
    SOLID,
    VERMILLION,
    look,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = (BLACK, VERMILLION, BLUE, GREEN, PURPLE, ORANGE)
MARKERS = ("o", "s", "^", "D", "v", "P")
DASHES = (SOLID, DASHED, DASHDOT, DOTTED, LONG, (0, (5, 1, 1, 1, 1, 1)))
DPI = 90


def draw_figures(record: Mapping[str, Any], output: Path) -> None:
    """Write STATEMENT.svg and STATEMENT.png for every statement of a record, each whole or not at all.

    Args:
        record: The content of theory.json.
        output: The folder.
    """
    drawers = {
        "lemma_5_1": _lemma_5_1,
        "theorem_5_4": _theorem_5_4,
        "lemma_5_5": _lemma_5_5,
        "theorem_5_6": _theorem_5_6,
    }
    for statement in record["statements"]:
        key = statement["key"]
        with look(key):
            _save(drawers[key](statement), output / key)


def _save(figure: Figure, stem: Path) -> None:
    """Write a figure in both formats, without the date, so that the same record gives the same bytes."""
    for kind, options in (("svg", {"metadata": {"Date": None}}), ("png", {"dpi": DPI, "metadata": {"Software": None}})):
        with whole_file(stem.with_suffix(f".{kind}")) as stream:
            figure.savefig(stream, format=kind, **options)


def _panels(count: int) -> tuple[Figure, Sequence[Axes]]:
    """Return a figure with so many panels side by side, drawn by Agg whatever the machine's screen."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6 * count, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(1, count, squeeze=False)[0]


def _line(axes: Axes, x: Sequence[float], y: Sequence[float], label: str, style: int, every: int = 1) -> None:
    axes.plot(
        x, y, label=label, color=COLOURS[style], linestyle=DASHES[style], marker=MARKERS[style], markersize=4,
        markevery=(style % every, every), linewidth=1.3,
    )  # fmt: skip


def _claims(statement: Mapping[str, Any]) -> dict[str, Any]:
    return {claim["key"]: claim for claim in statement["claims"]}


def _shares(counts: Mapping[str, Sequence[int]]) -> tuple[list[float], list[float]]:
    """Return names that are numbers, and the share of problems in which the claim holds, in %."""
    return [float(name) for name in counts], [100 * holds / n for n, holds, *_ in counts.values()]


def _distribution(axes: Axes, claim: Mapping[str, Any], label: str, style: int) -> None:
    """Draw the share of problems with at most so large a value."""
    _line(axes, claim["quantiles"], [100 * level for level in LEVELS], label, style, every=3)


def _lemma_5_1(statement: Mapping[str, Any]) -> Figure:
    figure, (axes,) = _panels(1)
    claims = _claims(statement)
    names = {
        "lipschitz": "Lipschitz bound",
        "gradient_bound": "proof: bound of the gradient",
        "gap_bound": "proof: bound of U^T U - I",
        "sharper_bound": "sharper bound of the gradient",
    }
    for style, (key, label) in enumerate(names.items()):
        _distribution(axes, claims[key], label, style)
    axes.axvline(1, color=GREY, linewidth=1)
    axes.set(xscale="log", xlabel="left side / right side (the claim holds up to 1)", ylabel="% of problems")
    axes.legend()
    return figure


def _theorem_5_4(statement: Mapping[str, Any]) -> Figure:
    figure, (left, right) = _panels(2)
    labels = {"vector": "assumptions met", "sorsa": "as SORSA trains", "matrix": "steps on Wp"}
    style = 0
    for name in ("vector, 1.0", "vector, 1.95", "sorsa, 1.0"):
        reading, c = name.split(", ")
        for suffix, what in (("", "F"), (", bound", "bound")):
            y = [
                None if value is None or value < 1e-12 else value
                for value in statement["curves"].get(name + suffix, [])
            ]
            _line(left, range(len(y)), y, f"{labels[reading]}, step {c}: {what}", style, every=6)
            style += 1
    left.set(yscale="log", xlabel="iteration t", ylabel="(F - F*) / (F at 0 - F*)", ylim=(1e-12, 1e4))
    left.legend(fontsize=7)
    for style, (key, label) in enumerate(labels.items()):
        x, y = _shares(_claims(statement)[key]["by"]["eta (L_train + gamma L_reg)"])
        _line(right, x, y, label, style)
    right.axvline(1, color=GREY, linewidth=1)
    right.set(
        xlabel="step eta, in units of 1 / (L_train + gamma L_reg)", ylabel="bound holds, % of problems", ylim=(-3, 103)
    )
    right.legend()
    return figure


def _lemma_5_5(statement: Mapping[str, Any]) -> Figure:
    figure, (axes,) = _panels(1)
    edges = statement["bins"]["edges_log10_sigma"]
    labels = {
        "factors": "factors take the step",
        "matrix": "Wp takes it, random direction",
        "matrix, worst direction": "Wp takes it, worst direction",
    }
    for style, (key, label) in enumerate(labels.items()):
        bins = statement["bins"]["counts"][key]
        points = [(10 ** ((a + b) / 2), 100 * k / n) for a, b, (n, k) in zip(edges, edges[1:], bins, strict=False) if n]
        _line(axes, *zip(*points, strict=True), label, style)
    axes.axvline(1, color=GREY, linewidth=1)
    axes.set(xscale="log", xlabel="singular value sigma_i", ylabel="inside the interval, %", ylim=(-3, 103))
    axes.legend()
    return figure


def _theorem_5_6(statement: Mapping[str, Any]) -> Figure:
    figure, (left, right) = _panels(2)
    claims = _claims(statement)
    style = 0
    for key in ("later_steps", "regression"):
        by_loss: dict[str, dict[str, Sequence[int]]] = {}
        for name, counts in claims[key]["by"]["loss and t"].items():
            loss, t = name.split(" | ")
            by_loss.setdefault(loss, {})[t] = counts
        for loss, counts in by_loss.items():
            _line(left, *_shares(counts), loss, style, every=3)
            style += 1
    left.axhline(50, color=GREY, linewidth=1)
    left.set(xlabel="iteration t", ylabel="smaller with regularizer, % of problems", ylim=(-3, 103))
    left.xaxis.get_major_locator().set_params(integer=True)
    left.legend(fontsize=8, loc="lower right")
    labels = {
        "later_steps": "constant gradients",
        "regression": "regression",
        "single_step": "one step",
        "frobenius": "frobenius form",
    }
    for style, (key, label) in enumerate(labels.items()):
        excess = [value - 1 for value in claims[key]["quantiles"]]
        _line(right, excess, [100 * level for level in LEVELS], label, style, every=3)
    right.axvline(0, color=GREY, linewidth=1)
    right.set_xscale("symlog", linthresh=1e-4)
    right.set_xticks([-1, -1e-2, -1e-4, 1e-4, 1e-2, 1])
    right.set(xlabel="kappa with / without regularizer, minus 1", ylabel="% of problems")
    right.legend(fontsize=8, loc="upper left")
    return figure
