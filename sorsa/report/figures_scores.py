"""Accuracy of the methods: with its interval, against trainable parameters, against time, against what was forgotten.

Every interval counts both seeds and questions (`sorsa.evaluation.statistics.seeds_and_questions_interval`).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from sorsa.evaluation.statistics import seeds_and_questions_interval
from sorsa.report import measures
from sorsa.report.figures_labels import Bar, point_names, spread
from sorsa.report.figures_style import COLUMN, GREY, Drawing, in_words, log_ticks, new_figure, room, styles
from sorsa.report.record_sets import Group, Record, RecordSet

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_APART = 4.0  # points between markers drawn side by side: enough to tell their intervals apart


@dataclasses.dataclass(frozen=True)
class Score:
    """The accuracy of one method on one benchmark, in percent.

    Args:
        group: The method.
        mean: Over seeds and questions.
        interval: 95%.
        seeds: Of each seed.
    """

    group: Group
    mean: float
    interval: tuple[float, float]
    seeds: tuple[float, ...]


def scores(one: RecordSet, stem: str) -> tuple[list[Score], float | None]:
    """Return the accuracies on one benchmark, and the base model's (None: not measured), all of the same test.

    Args:
        one: Records of one model and data.
        stem: The benchmark.
    """
    runs = [run for group in one.groups for run in group.runs]
    test = measures.common_test(runs, stem)
    found: list[Score] = []
    for group in one.groups:
        table = measures.verdict_table(group.runs, stem, test)
        if table is not None:
            spread = seeds_and_questions_interval(table)
            low, high = spread.interval_95
            each = tuple(100 * float(row.mean()) for row in table)
            found.append(Score(group, 100 * spread.value, (100 * low, 100 * high), each))
    base = measures.base_accuracy(runs, stem, test)
    return found, None if base is None else 100 * base


def accuracy(one: RecordSet, stem: str) -> Drawing | None:
    """Return the accuracy of every method with its interval and seeds, the best at the top; None without tests.

    Args:
        one: Records of one model and data.
        stem: The benchmark.
    """
    found, base = scores(one, stem)
    if not found:
        return None
    found.sort(key=lambda score: score.mean)
    left = 0.2 + room(score.group.label for score in found)
    figure, (ax,) = new_figure((COLUMN, 0.7 + 0.27 * len(found)), (left, 1.45, 0.44, 0.06))
    looks, beside = styles(one.groups), {"transform": ax.get_yaxis_transform(), "va": "center_baseline"}
    for row, score in enumerate(found):
        style, (low, high) = looks[score.group.label], score.interval
        ax.plot((low, high), (row, row), color=style.color, linewidth=1.6, solid_capstyle="butt")
        ax.plot(score.mean, row, **style.point(6.5))
        ax.plot(score.seeds, [row - 0.3] * len(score.seeds), "o", markersize=2.6, color=GREY, markeredgewidth=0)
        ax.text(1.03, row, f"{score.mean:.1f} ({low:.1f} to {high:.1f})", **beside)
    ax.text(1.03, len(found) - 0.3, "mean (95%)", color=GREY, **beside)
    if base is not None:
        _base_line(ax, base)
        right = base < (ax.get_xlim()[0] + ax.get_xlim()[1]) / 2
        place = {"textcoords": "offset points", "ha": "left" if right else "right", "va": "center_baseline"}
        ax.annotate("base model", (base, len(found) - 0.3), (4 if right else -4, 0), color=GREY, **place)
    ax.set_yticks(range(len(found)), [score.group.label for score in found])
    ax.set_ylim(-0.7, len(found) + 0.1)
    ax.set_xlabel(f"accuracy on {stem} (%)")
    ax.grid(False, axis="y")
    caption = f"Accuracy on {stem}, {_over(found)}. Small dots are the single seeds."
    if base is not None:
        caption += f" Dashed: the base model, {base:.1f}%."
    return Drawing(f"Accuracy on {stem}", caption, figure)


def parameters(one: RecordSet, stem: str) -> Drawing | None:
    """Return accuracy against the number of trainable parameters; None where either is missing.

    Args:
        one: Records of one model and data.
        stem: The benchmark.
    """
    about = "trainable parameters (logarithmic axis). Methods with nearly the same number are drawn side by side."

    def count(run: Record) -> float | None:
        return run["training"].get("trainable_parameters")

    return _against(one, stem, count, "trainable parameters", about, apart=True)


def time(one: RecordSet, stem: str) -> Drawing | None:
    """Return accuracy against training time; None where either is missing.

    Args:
        one: Records of one model and data.
        stem: The benchmark.
    """
    machines = sorted({_machine(run) for group in one.groups for run in group.runs})
    about = (
        "the wall-clock time of training (logarithmic axis; geometric mean and range of the seeds). Trained on "
        f"{' and on '.join(machines)}."
    )
    if len(machines) > 1:
        about += " Times on different machines cannot be compared."
    return _against(one, stem, lambda run: run["training"].get("seconds"), "training time (s)", about)


def forgetting(one: RecordSet, stem: str) -> Drawing | None:
    """Return accuracy against perplexity after training, the base's as a line; None where either is missing.

    Args:
        one: Records of one model and data.
        stem: The benchmark.
    """
    runs = [run for group in one.groups for run in group.runs]
    text = measures.perplexity_text(runs)
    nats = measures.base_nats(runs, text)
    base = measures.exponential(nats)

    def perplexity(run: Record) -> float | None:
        return measures.exponential(measures.nats_per_token(run, text))

    about = (
        "perplexity after training (logarithmic axis; geometric mean and range of the seeds) of a text that the "
        "training did not see (forgetting_file): further left is less forgotten."
    )
    about += f" Dashed: the base model before training, {base:.3g}." if base else ""
    return _against(one, stem, perplexity, "perplexity of the forgetting text after training", about, base)


def _against(
    one: RecordSet,
    stem: str,
    measure: Callable[[Record], float | None],
    name: str,
    about: str,
    base: float | None = None,
    apart: bool = False,
) -> Drawing | None:
    """Return accuracy on one benchmark against another measure of the runs, one point per method.

    Args:
        one: Records of one model and data.
        stem: The benchmark.
        measure: From a run to its place on the x axis, positive; None: not known.
        name: Of the x axis.
        about: The caption from the name of the x axis on.
        base: The base model's place on the x axis, drawn as a line.
        apart: Whether points at nearly the same place are moved side by side.
    """
    points: dict[str, tuple[Score, list[float]]] = {}
    for score in scores(one, stem)[0]:
        values = [value for run in score.group.runs if (value := measure(run)) and value > 0]
        if values:
            points[score.group.label] = (score, values)
    if not points:
        return None
    figure, (ax,) = new_figure((COLUMN, 3.6), (0.55, 0.3, 0.44, 0.1))
    looks = styles(one.groups)
    xs = {label: math.exp(measures.finite_mean(map(math.log, values))) for label, (_, values) in points.items()}
    low, high = min(*xs.values(), base or math.inf), max(*xs.values(), base or 0.0)
    edge = (high / low) ** 0.12 if high > low else 1.5
    ax.set(xscale="log", xlim=(low / edge, high * edge), xlabel=name, ylabel=f"accuracy on {stem} (%)")
    if apart:
        xs = _side_by_side(ax, xs, {label: score.interval for label, (score, _) in points.items()})
    bars: list[Bar] = []
    for label, (score, values) in points.items():
        x, y, (low, high) = xs[label], score.mean, score.interval
        reach = (x, x) if apart else (min(values), max(values))
        own = [((x, low), (x, high)), ((reach[0], y), (reach[1], y))]
        for ends in own:
            ax.plot(*zip(*ends, strict=True), color=looks[label].color, linewidth=1.0, solid_capstyle="butt")
        ax.plot(x, y, **looks[label].point(6.5))
        bars += own
    log_ticks(ax.xaxis)
    names = {label: (xs[label], score.mean) for label, (score, _) in points.items()}
    if base is not None:
        _base_line(ax, base)
        bottom, top = ax.get_ylim()
        bars.append(((base, bottom), (base, top)))
        names["base model"] = (base, top - 0.04 * (top - bottom))
    point_names(ax, names, bars)
    caption = f"Accuracy on {stem}, {_over([score for score, _ in points.values()])}, against {about}"
    return Drawing(f"Accuracy on {stem} against {name.partition(' (')[0]}", caption, figure)


def _side_by_side(ax: Axes, xs: dict[str, float], intervals: dict[str, tuple[float, float]]) -> dict[str, float]:
    """Return places on the x axis at which no interval lies on another; those with room for themselves stay."""
    highest, clusters = -math.inf, []
    for label in sorted(xs, key=intervals.__getitem__):
        if intervals[label][0] > highest:
            clusters.append([])
        clusters[-1].append(label)
        highest = max(highest, intervals[label][1])
    to_pixels, gap = ax.transData, _APART * ax.figure.dpi / 72
    for cluster in clusters:
        wanted = [float(to_pixels.transform((xs[label], 0))[0]) for label in cluster]
        places = spread(wanted, gap, *ax.bbox.intervalx)
        xs = xs | {
            one: float(to_pixels.inverted().transform((x, 0))[0]) for one, x in zip(cluster, places, strict=True)
        }
    return xs


def _base_line(ax: Axes, x: float) -> None:
    """Draw a vertical line for the base model."""
    ax.axvline(x, color=GREY, linestyle=(0, (4, 2)), linewidth=0.9)


def _over(found: Sequence[Score]) -> str:
    """Return what accuracies are means of and what their intervals count, for a caption."""
    counts = [len(score.seeds) for score in found]
    alone = ", of one seed the questions alone" if 1 in counts else ""
    return f"{in_words(counts)}, with 95% intervals that count seeds and questions{alone}"


def _machine(run: Record) -> str:
    """Return the processor, and the GPUs, that a run was trained on."""
    host = run["training"].get("host") or {}
    gpus = [gpu.get("name") or "a GPU" for gpu in host.get("gpus") or ()]
    return ", ".join([*gpus, host.get("cpu") or "an unknown machine"])
