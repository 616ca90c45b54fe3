"""How figures look: one colour, line and marker per method, fonts of 8 points at the printed size, SVG with real text.

Colours are those of M. Okabe and K. Ito (Color Universal Design, 2008), told apart by colour-blind eyes. Twelve methods
are more than they can tell apart, so related methods share a colour and differ in line and marker, which also serve a
print in grey.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sorsa.report.record_sets import SORSA, SQUARED, UNREGULARIZED, Group

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

COLUMN, PAGE = 5.5, 7.0  # widths in inches: a column of text, and a page
POINTS = 8  # the smallest font
DPI = 200  # of the PNG
_LETTER = 0.075  # inches, a wide letter of the smallest font

BLACK, ORANGE, SKY, GREEN, BLUE, VERMILLION, PURPLE = (
    "#000000",
    "#E69F00",
    "#56B4E9",
    "#009E73",
    "#0072B2",
    "#D55E00",
    "#CC79A7",
)
GREY = "#767676"  # for what is no method: reference lines, leaders; 4.5 to 1 on white
SOLID, DASHED, LONG = (0, ()), (0, (5, 1.6)), (0, (10, 2))
DOTTED, DASHDOT = (0, (1.2, 1.4)), (0, (5, 1.4, 1.2, 1.4))


@dataclasses.dataclass(frozen=True)
class Style:
    """The look of one method.

    Args:
        color: Hexadecimal.
        dash: Matplotlib's (offset, on-off sequence).
        marker: Matplotlib's letter.
        width: Of the line, points.
    """

    color: str
    dash: tuple[int, tuple[float, ...]]
    marker: str
    width: float = 1.0

    def line(self) -> dict[str, Any]:
        """Return keyword arguments of a line in this style."""
        return {"color": self.color, "linestyle": self.dash, "linewidth": self.width}

    def point(self, size: float = 5.5) -> dict[str, Any]:
        """Return keyword arguments of a marker in this style, without a line."""
        edge = {"markeredgecolor": "black", "markeredgewidth": 0.6}
        return {"marker": self.marker, "markersize": size, "markerfacecolor": self.color, "linestyle": "none", **edge}


STYLES = {
    "full": Style(BLACK, SOLID, "s"),
    "partial": Style(BLACK, DASHED, "D"),
    "lora": Style(BLUE, SOLID, "^"),
    "dora": Style(BLUE, DASHED, "v"),
    "pissa": Style(SKY, SOLID, "<"),
    "olora": Style(SKY, DASHED, ">"),
    "adalora": Style(GREEN, SOLID, "P"),
    "osora": Style(GREEN, DASHED, "X"),
    "vera": Style(GREEN, DOTTED, "p"),
    SORSA: Style(VERMILLION, SOLID, "o", width=2.0),  # what the report is about
    SQUARED: Style(ORANGE, LONG, "h"),
    UNREGULARIZED: Style(PURPLE, DASHDOT, "*"),
}
# For methods that are not listed, and for a second group of one role.
SPARE = tuple(Style(color, dash, mark) for mark, dash in (("d", DASHDOT), ("8", DOTTED)) for color in (BLACK, BLUE))

_RC = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so that every machine draws the same
    "font.size": POINTS,
    "axes.titlesize": POINTS,
    "axes.labelsize": POINTS,
    "xtick.labelsize": POINTS,
    "ytick.labelsize": POINTS,
    "legend.fontsize": POINTS,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#E3E3E3",
    "grid.linewidth": 0.5,
    "axes.formatter.useoffset": False,
    "svg.fonttype": "none",  # text stays text: searchable, and read aloud
    "pdf.fonttype": 42,  # TrueType, which journals ask for
    "path.simplify": True,
}


@contextmanager
def look(salt: str) -> Iterator[None]:
    """Draw and save in this look within a `with` block.

    Args:
        salt: What the identifiers in the SVG are made from: the same for the same figure, another for another, so
            that two figures may stand in one page.
    """
    import matplotlib

    with matplotlib.rc_context({**_RC, "svg.hashsalt": salt}):
        yield


def styles(groups: Sequence[Group]) -> dict[str, Style]:
    """Return the style of each group by its label; of two groups of one role the second has a spare one."""
    found: dict[str, Style] = {}
    spare = iter(SPARE * (1 + len(groups) // len(SPARE)))
    for group in groups:
        own = STYLES.get(group.role)
        found[group.label] = own if own is not None and own not in found.values() else next(spare)
    return found


def new_figure(
    size: tuple[float, float],
    margins: tuple[float, float, float, float],
    rows: int = 1,
    columns: int = 1,
    sharex: bool = False,
    **spaces: float,
) -> tuple[Figure, list[Axes]]:
    """Return a figure that needs no screen, and its axes row by row.

    Args:
        size: Width and height, inches as printed.
        margins: Left, right, bottom, top of all axes together, inches.
        rows: Of axes.
        columns: Of axes.
        sharex: Whether they have one x axis, written under the last row.
        **spaces: `wspace` and `hspace` between them, as shares of their size.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    (width, height), (left, right, bottom, top) = size, margins
    figure = Figure(figsize=size)
    FigureCanvasAgg(figure)
    place = {"left": left / width, "right": 1 - right / width, "bottom": bottom / height, "top": 1 - top / height}
    axes = figure.subplots(rows, columns, squeeze=False, sharex=sharex, gridspec_kw=place | spaces)
    return figure, list(axes.flat)


@dataclasses.dataclass(frozen=True)
class Drawing:
    """A drawn figure.

    Args:
        title: What it shows, a few words.
        caption: What a reader has to know about it, in sentences.
        figure: Matplotlib's.
    """

    title: str
    caption: str
    figure: Figure


def room(labels: Iterable[str]) -> float:
    """Return the width of the longest of some labels, inches, rounded up."""
    return _LETTER * (max(map(len, labels), default=0) + 1)


def in_words(seeds: Iterable[int]) -> str:
    """Return what a value of groups with so many seeds is: `one seed`, `mean over 3 or 5 seeds`."""
    counts = sorted(set(seeds))
    return "one seed" if counts == [1] else f"mean over {' or '.join(map(str, counts))} seeds"


def log_ticks(axis: Axis) -> None:
    """Give a logarithmic axis ticks that can be read, also where it spans less than a power of ten.

    Args:
        axis: Its limits become final.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    low, high = axis.get_view_interval()
    axis.axes.autoscale(False)
    if high / low < 6:
        axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    else:
        axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 300 else (1,), numticks=8))
    axis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    axis.set_minor_locator(NullLocator())


def short(value: float) -> str:
    """Return a tick's value as text: 0.05, 200, 2×10⁵."""
    if not value or 1e-3 < abs(value) < 1e4:
        return f"{value:.3g}"
    digits, power = f"{value:.1e}".split("e")
    raised = str(int(power)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"10{raised}" if float(digits) == 1 else f"{float(digits):g}×10{raised}"
