"""Names beside lines and points instead of a legend: a reader in grey need not match colours.

`line_names` writes the names of lines in the margin, `point_names` writes them next to points, both without overlaps.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from sorsa.report.figures_style import GREY, POINTS, Style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Box = tuple[float, float, float, float]  # left, bottom, right, top
Bar = tuple[tuple[float, float], tuple[float, float]]

NAMES_FROM = 27  # points from the axes to the names of lines
_LINE = 1.18 * POINTS  # points from one line of text to the next
_RADIUS = 4.0  # points around the middle of a marker that belong to it
_NEAR = 6.0  # points from a marker's middle to its name
_FAR = 12.0  # from where on a line leads to the name


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Return positions as close to the wanted ones as they can be without two of them being nearer than `gap`.

    Args:
        wanted: Positions in any order.
        gap: Least distance; made smaller where there is no room for all.
        low: Least position.
        high: Largest.

    Returns:
        In the order of `wanted`. Neighbours that would overlap move as one block around their mean.
    """
    gap = min(gap, (high - low) / max(1, len(wanted) - 1))
    order = sorted(range(len(wanted)), key=wanted.__getitem__)
    blocks: list[tuple[float, int]] = []  # first position, number
    for index in order:
        blocks.append((wanted[index], 1))
        while len(blocks) > 1 and blocks[-1][0] < blocks[-2][0] + blocks[-2][1] * gap:
            (first, many), (other, more) = blocks[-2:]
            # the mean of what each member wanted for the block's first position
            start = (first * many + (other - many * gap) * more) / (many + more)
            blocks[-2:] = [(start, many + more)]
    places, floor = [], low
    for start, many in blocks:
        start = max(floor, start)
        places += [start + gap * number for number in range(many)]
        floor = places[-1] + gap
    ceiling = high
    for number in reversed(range(len(places))):
        places[number] = min(places[number], ceiling)
        ceiling = places[number] - gap
    return [places[order.index(index)] for index in range(len(wanted))]


def line_names(axes: Axes, ends: Mapping[str, tuple[float, float]], styles: Mapping[str, Style]) -> None:
    """Write the names of lines to the right of the axes, each led to from its line's end in the line's own style.

    Args:
        axes: Their limits and scales must be final.
        ends: Name -> last point of its line, data coordinates.
        styles: Of each name.
    """
    width, height = axes.bbox.width, axes.bbox.height
    unit = axes.figure.dpi / 72 / height  # one point, as a share of the axes' height
    ends_in_axes = axes.transAxes.inverted().transform(axes.transData.transform(list(ends.values())))
    places = spread(list(ends_in_axes[:, 1]), _LINE * unit, 0.0, 1.0)
    point = axes.figure.dpi / 72 / width
    for (name, style), (x, y), place in zip(((one, styles[one]) for one in ends), ends_in_axes, places, strict=True):
        xs, ys = [x, 1 + 8 * point, 1 + 22 * point], [y, place, place]
        axes.plot(xs, ys, transform=axes.transAxes, clip_on=False, **style.line())
        axes.plot(xs[2], place, transform=axes.transAxes, clip_on=False, **style.point(4.5))
        axes.text(1 + NAMES_FROM * point, place, name, transform=axes.transAxes, va="center_baseline", ha="left")


def point_names(axes: Axes, points: Mapping[str, tuple[float, float]], bars: Sequence[Bar] = ()) -> None:
    """Write names next to points where they cover neither a point, nor a bar, nor each other.

    Args:
        axes: Their limits and scales must be final.
        points: Name -> data coordinates.
        bars: Both ends of what else to keep free, such as error bars, data coordinates.
    """
    scale = axes.figure.dpi / 72  # pixels per point; offsets in points are the same in every format
    renderer = axes.figure.canvas.get_renderer()
    centres = axes.transData.transform(list(points.values())) / scale
    taken: list[Box] = []
    for ends in bars:
        (x0, y0), (x1, y1) = axes.transData.transform(ends) / scale
        taken.append((min(x0, x1) - 1, min(y0, y1) - 1, max(x0, x1) + 1, max(y0, y1) + 1))
    sizes: list[tuple[float, float]] = []
    for name in points:
        text = axes.text(0, 0, name)
        extent = text.get_window_extent(renderer)
        sizes.append((extent.width / scale, extent.height / scale))
        text.remove()
    # dotted, or it would look like an error bar
    leader = {"arrowstyle": "-", "linewidth": 0.7, "linestyle": ":", "color": GREY, "shrinkA": 0, "shrinkB": _RADIUS}
    places = _places(centres, sizes, taken, tuple(axes.bbox.extents / scale))
    for name, (reach, dx, dy) in zip(points, places, strict=True):
        arrow = leader if reach > _FAR else None
        axes.annotate(name, points[name], (dx, dy), textcoords="offset points", va="bottom", arrowprops=arrow)


def _places(
    centres: Sequence[tuple[float, float]], sizes: Sequence[tuple[float, float]], taken: Sequence[Box], frame: Box
) -> list[tuple[float, float, float]]:
    """Return for each point its name's distance and the offset of the lower left corner of its text.

    Args:
        centres: Of the markers, in points, as everything here.
        sizes: Width and height of the texts.
        taken: What to keep free besides the markers.
        frame: The axes.
    """
    chosen: list[tuple[float, float, float]] = [(0.0, 0.0, 0.0)] * len(centres)
    texts: dict[int, Box] = {}
    leaders: dict[int, list[Box]] = {}
    markers = [(x - _RADIUS, y - _RADIUS, x + _RADIUS, y + _RADIUS) for x, y in centres]
    for index in (*range(len(centres)), *range(len(centres))):  # the second time all others have their places
        (x, y), (width, height), best = centres[index], sizes[index], math.inf
        names = [box for other, box in texts.items() if other != index]
        lines = [box for other, boxes in leaders.items() if other != index for box in boxes]
        for reach, dx, dy in _offsets(width, height):
            box = (x + dx, y + dy, x + dx + width, y + dy + height)
            cost = reach / 8 + _covered(box, [*taken, *markers, *names, *lines]) + _outside(box, frame)
            if cost < best and reach > _FAR:
                leader = _leader((x, y), box)
                cost += sum(5 * _covered(piece, names) + _covered(piece, markers) for piece in leader)
            elif cost < best:  # where nothing leads to the name, it must be nearest to its own point
                leader, own = [], _distance((x, y), box)
                cost += 100 * any(_distance(at, box) <= own for other, at in enumerate(centres) if other != index)
            if cost < best:
                best, chosen[index], texts[index], leaders[index] = cost, (reach, dx, dy), box, leader
    return chosen


def _offsets(width: float, height: float) -> Iterator[tuple[float, float, float]]:
    """Yield places of a text around a point, nearest first: distance, offset of its lower left corner, in points."""
    for reach in (_NEAR, 2 * _NEAR, 3 * _NEAR, 5 * _NEAR, 7 * _NEAR, 10 * _NEAR):
        for angle in (0, 180, 90, 270, 45, 135, 315, 225, 22, 158, 338, 202, 67, 113, 293, 247):
            right, up = math.cos(math.radians(angle)), math.sin(math.radians(angle))
            yield reach, reach * right - width * (1 - right) / 2, reach * up - height * (1 - up) / 2


def _leader(point: tuple[float, float], box: Box) -> list[Box]:
    """Return the line from a marker to the middle of a text as small boxes, those within the two left out."""
    (x, y), to_x, to_y = point, (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    length = math.hypot(to_x - x, to_y - y)
    pieces: list[Box] = []
    for number in range(math.ceil(1.5 * _RADIUS / 3), math.floor(length / 3)):
        at_x, at_y = x + (to_x - x) * 3 * number / length, y + (to_y - y) * 3 * number / length
        piece = (at_x - 1, at_y - 1, at_x + 1, at_y + 1)
        if not _overlap(piece, box):
            pieces.append(piece)
    return pieces


def _covered(box: Box, others: Sequence[Box]) -> float:
    """Return how much of other things a box would cover, in square points."""
    return sum(_overlap(box, other) for other in others)


def _distance(point: tuple[float, float], box: Box) -> float:
    """Return the distance of a point from a box, 0 inside."""
    x, y = point
    return math.hypot(max(box[0] - x, 0.0, x - box[2]), max(box[1] - y, 0.0, y - box[3]))


def _outside(box: Box, frame: Box) -> float:
    """Return how much of a box lies outside a frame, in square points."""
    return (box[2] - box[0]) * (box[3] - box[1]) - _overlap(box, frame)


def _overlap(a: Box, b: Box) -> float:
    """Return the area that two boxes share."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return max(0.0, width) * max(0.0, height)
