"""Figures from made-up records: all formats, text as text, the same bytes twice, nothing without data, readable."""

from __future__ import annotations

import itertools
import re
import struct
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sorsa.evaluation.statistics import seeds_and_questions_interval
from sorsa.methods import METHODS
from sorsa.report.figures import draw_all
from sorsa.report.figures_curves import conditions, training
from sorsa.report.figures_labels import point_names, spread
from sorsa.report.figures_scores import accuracy, forgetting, parameters, scores, time
from sorsa.report.figures_style import STYLES, look, new_figure, short
from sorsa.report.figures_trajectories import trajectories
from sorsa.report.record_sets import LABELS, record_sets

MakeRecord = Callable[..., dict[str, Any]]
FOUR = ("full", "lora", "sorsa", "sorsa_noreg")
NAMES = ["trajectories", "training", "conditions"]
NAMES += [f"{name}-gsm-8k" for name in ("accuracy", "parameters", "time", "forgetting")]


@pytest.fixture
def records(make_record: MakeRecord) -> list[dict[str, Any]]:
    """Return records of four methods with two seeds."""
    return [make_record(method, seed, drift=0.05 * n) for n, method in enumerate(FOUR, 1) for seed in (0, 1)]


@pytest.fixture
def svg_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the formats that take most of the time."""
    monkeypatch.setattr("sorsa.report.figures.FORMATS", ("svg",))


def test_all_figures(records: list[dict[str, Any]], tmp_path: Path) -> None:
    figures = draw_all(records, tmp_path / "once")
    assert [figure["name"] for figure in figures] == NAMES
    for figure in figures:
        assert {*figure} == {"name", "title", "caption", "set", "svg", "png", "pdf"}
        svg = (tmp_path / "once" / figure["svg"]).read_text(encoding="utf-8")
        texts = ["".join(node.itertext()) for node in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]
        assert {LABELS[method] for method in FOUR} <= {*texts}
        assert {float(size) for size in re.findall(r"font-size: ([\d.]+)px", svg)} == {8.0}  # points at printed size
        assert "Verdana, sans-serif" in svg and "<dc:date>" not in svg
        png = (tmp_path / "once" / figure["png"]).read_bytes()
        assert png[:4] == b"\x89PNG" and struct.unpack(">I", png[16:20])[0] in (1100, 1400)  # 5.5 or 7 inches
        assert (tmp_path / "once" / figure["pdf"]).read_bytes()[:5] == b"%PDF-"
        assert figure["caption"].endswith("demo/model, train.jsonl, test.jsonl: 8 runs, 4 methods.")


def test_the_same_bytes_again(records: list[dict[str, Any]], tmp_path: Path, svg_only: None) -> None:
    for folder in ("once", "again"):
        draw_all(records, tmp_path / folder)
    assert len([*(tmp_path / "once").iterdir()]) == len(NAMES)
    for path in (tmp_path / "once").iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()


@pytest.mark.parametrize(
    ("missing", "gone"),
    [
        ({"drift": None}, {"trajectories", "conditions"}),
        ({"metrics": {}}, {"training"}),
        ({"verdicts": {}}, {"accuracy-gsm-8k", "parameters-gsm-8k", "time-gsm-8k", "forgetting-gsm-8k"}),
        ({"results": {}}, {"forgetting-gsm-8k"}),
    ],
)
def test_nothing_is_drawn_without_data(
    make_record: MakeRecord, tmp_path: Path, svg_only: None, missing: dict[str, Any], gone: set[str]
) -> None:
    drawn = draw_all([make_record("sorsa", 0) | missing], tmp_path)
    assert {figure["name"] for figure in drawn} == {*NAMES} - gone
    assert {path.stem for path in tmp_path.iterdir()} == {*NAMES} - gone


def test_no_records_no_files(make_record: MakeRecord, tmp_path: Path) -> None:
    assert draw_all([], tmp_path) == [] and draw_all([make_record("sorsa", 0, status="diverged")], tmp_path) == []
    assert not [*tmp_path.iterdir()]


def test_condition_numbers_that_are_not_there(make_record: MakeRecord) -> None:
    """LoRA's is infinite at step 0 alone, AdaLoRA's also of one matrix later; only SORSA starts orthonormal."""
    records = [make_record(method, 0) for method in ("lora", "adalora", "osora", "sorsa")]
    for record, method in zip(records, ("lora", "adalora", "osora", "sorsa"), strict=True):
        for number, matrix in enumerate(record["drift"]["matrices"]):
            for row in matrix["steps"]:
                infinite = (method != "sorsa" and row["step"] == 0) or (method == "adalora" and number == 1)
                row["condition_principal"] = None if infinite else 10.0
                if method != "sorsa":
                    row["orthonormality_U"] = row["orthonormality_V"] = 1e-6 if method == "osora" else 4.0
    (one,) = record_sets(records)
    with look("test"):
        drawing = conditions(one)
    assert drawing is not None and "not shown: OSoRA." in drawing.caption
    principal, merged, error = ({text.get_text() for text in ax.texts} for ax in drawing.figure.axes)
    assert principal == {"LoRA", "OSoRA", "SORSA"} and merged == {"LoRA", "OSoRA", "SORSA", "AdaLoRA"}
    assert error == {"SORSA"}


def test_two_models_have_their_own_figures(make_record: MakeRecord, tmp_path: Path, svg_only: None) -> None:
    bare = {"drift": None, "verdicts": {}, "results": {}}
    both = [make_record("sorsa", 0) | bare, make_record("lora", 0, settings={"model": "other"}) | bare]
    names = {figure["name"]: figure["set"] for figure in draw_all(both, tmp_path)}
    assert names == {
        "demo-model-training": "demo/model, train.jsonl, test.jsonl",
        "other-training": "other, train.jsonl, test.jsonl",
    }
    assert "LoRA" not in (tmp_path / "demo-model-training.svg").read_text()


@pytest.mark.parametrize(
    "methods", [["sorsa"], ["lora", "pissa", "sorsa"], [*LABELS], ["sorsa", "a_method_of_tomorrow"]]
)
def test_every_text_is_inside_its_figure(make_record: MakeRecord, methods: list[str]) -> None:
    records = [make_record(method, seed, kinds=7, drift=0.1) for method in methods for seed in (0, 1)]
    (one,) = record_sets(records)
    scores = [lambda one, draw=draw: draw(one, "gsm-8k") for draw in (accuracy, parameters, time, forgetting)]
    with look("test"):
        for draw in (trajectories, training, conditions, *scores):
            drawing = draw(one)
            assert drawing is not None
            drawn = drawing.figure.get_tightbbox(drawing.figure.canvas.get_renderer())  # inches
            width, height = drawing.figure.get_size_inches()
            assert min(drawn.x0, drawn.y0, width - drawn.x1, height - drawn.y1) >= 0, (drawing.title, drawn)


def test_names_of_crowded_points_do_not_cover_each_other() -> None:
    from matplotlib.text import Text

    with look("test"):
        figure, (ax,) = new_figure((5.5, 3.6), (0.5, 0.5, 0.5, 0.5))
        ax.set(xlim=(0, 10), ylim=(0, 10))
        point_names(ax, {f"method {n}": (5 + 0.2 * (n % 3), 5 + 0.15 * n) for n in range(8)})
        figure.canvas.draw()
        boxes = [Text.get_window_extent(text) for text in ax.texts]  # Annotation's would contain the leader
    assert len(boxes) == 8 and not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))


def test_names_of_points_in_a_row_lead_to_their_own() -> None:
    from matplotlib.text import Text

    points = {f"method {n}": (5 + 0.12 * n, 0.0) for n in range(6)}  # as when every method solves nothing
    with look("test"):
        figure, (ax,) = new_figure((5.5, 3.6), (0.5, 0.5, 0.5, 0.5))
        ax.set(xlim=(0, 10), ylim=(-1, 10))
        point_names(ax, points, [((x, 0.0), (x, 6.0)) for x, _ in points.values()])
        figure.canvas.draw()
    boxes = {text.get_text(): Text.get_window_extent(text) for text in ax.texts}
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes.values(), 2))
    for text in ax.texts:
        if text.arrow_patch is None:
            box, places = boxes[text.get_text()], ax.transData.transform(list(points.values()))
            gaps = [max(box.x0 - x, x - box.x1, 0) ** 2 + max(box.y0 - y, y - box.y1, 0) ** 2 for x, y in places]
            assert [*points][gaps.index(min(gaps))] == text.get_text()


def test_scores_are_in_percent_with_their_interval(make_record: MakeRecord) -> None:
    records = [make_record("sorsa", seed, accuracy=0.7) for seed in (0, 1)]
    (one,) = record_sets(records)
    (score,), base = scores(one, "gsm-8k")
    table = [[int(letter) for letter in record["verdicts"]["gsm-8k"]["correct"]] for record in records]
    spread = seeds_and_questions_interval(table)
    assert score.interval == pytest.approx([100 * bound for bound in spread.interval_95])
    assert score.mean == pytest.approx(100 * spread.value)
    assert score.seeds == pytest.approx([100 * sum(row) / len(row) for row in table]) and base is None


def test_values_that_cannot_be_drawn_are_left_out(make_record: MakeRecord, tmp_path: Path, svg_only: None) -> None:
    """A clock that ran backwards, a perplexity beyond all numbers, a GPU without a name."""
    records = [make_record("sorsa", 0), make_record("lora", 0, nats=800.0)]
    records[1]["training"] |= {"seconds": -5.0, "host": {"gpus": [{"name": None}]}}
    drawn = {figure["name"]: figure for figure in draw_all(records, tmp_path)}
    assert [*drawn] == NAMES
    for name in ("time-gsm-8k", "forgetting-gsm-8k"):
        text = (tmp_path / drawn[name]["svg"]).read_text(encoding="utf-8")
        assert ">SORSA<" in text and ">LoRA<" not in text
    assert "on a GPU, an unknown machine and on a processor" in drawn["time-gsm-8k"]["caption"]


def test_the_mean_that_names_avoid_is_over_all_matrices(
    make_record: MakeRecord, recwarn: pytest.WarningsRecorder
) -> None:
    (one,) = record_sets([make_record("sorsa", 0, kinds=1)])
    assert trajectories(one) is not None
    assert not [str(warning.message) for warning in recwarn]


def test_a_method_that_hardly_moves_does_not_squeeze_the_others(make_record: MakeRecord) -> None:
    records = [make_record("full", 0, drift=0.5), make_record("adalora", 0, drift=1e-6), make_record("sorsa", 0)]
    (one,) = record_sets(records)
    with look("test"):
        drawing = trajectories(one)
    assert drawing is not None
    still, moving = drawing.figure.axes[1], drawing.figure.axes[2]
    assert still.get_title(loc="left") == "AdaLoRA" and "all below the axes" in still.texts[0].get_text()
    assert moving.get_title(loc="left") == "SORSA" and moving.get_xlim() == still.get_xlim()
    assert moving.get_xlim()[1] / moving.get_xlim()[0] < 2e4


def test_spread_keeps_distance_order_and_bounds() -> None:
    assert spread([0.0, 5.0, 9.0], 1.0, 0.0, 10.0) == [0.0, 5.0, 9.0]
    assert spread([5.0, 5.0, 5.0], 1.0, 0.0, 10.0) == pytest.approx([4.0, 5.0, 6.0])
    assert spread([9.9, 9.8, 9.7], 1.0, 0.0, 10.0) == pytest.approx([10.0, 9.0, 8.0])
    assert spread([0.2, 0.1], 1.0, 0.0, 10.0) == pytest.approx([1.0, 0.0])
    assert spread([1.0, 1.0, 1.0], 9.0, 0.0, 10.0) == pytest.approx([0.0, 5.0, 10.0])  # no room: as far as it goes
    assert spread([], 1.0, 0.0, 1.0) == []


def test_methods_are_told_apart_without_color() -> None:
    assert {*METHODS} <= {*STYLES} and {*LABELS} == {*STYLES}
    assert len({style.marker for style in STYLES.values()}) == len(STYLES)
    for one, other in itertools.combinations(STYLES.values(), 2):
        lighter = abs(_luminance(one.color) - _luminance(other.color)) > 0.1
        assert lighter or one.dash != other.dash or one.width != other.width, (one, other)


def _luminance(color: str) -> float:
    """Return the relative luminance of a hexadecimal color (ITU-R BT.709), 0 to 1."""
    parts = [int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_what_captions_say(
    records: list[dict[str, Any]], make_record: MakeRecord, tmp_path: Path, svg_only: None
) -> None:
    records.append(make_record("adalora", 0, status="diverged"))
    captions = {figure["name"]: figure["caption"] for figure in draw_all(records, tmp_path)}
    assert "mean over 2 seeds" in captions["trajectories"]
    assert "trailing mean over 2 steps (5% of the run)" in captions["training"]
    assert "Geometric means over the matrices" in captions["conditions"]
    assert "intervals that count seeds and questions" in captions["accuracy-gsm-8k"]
    assert "Trained on a processor." in captions["time-gsm-8k"]
    assert "Dashed: the base model before training, 3.32." in captions["forgetting-gsm-8k"]
    assert all("Left out: 1 that were not" in caption for caption in captions.values())


def test_ticks() -> None:
    assert [short(value) for value in (0.05, 2.0, 150.0, 1e4, 2e5, 1e-6)] == [
        "0.05",
        "2",
        "150",
        "10⁴",
        "2×10⁵",
        "10⁻⁶",
    ]


def test_matplotlib_is_loaded_only_to_draw() -> None:
    code = "import sys, sorsa.report.figures, sorsa.report.claims; print({'matplotlib', 'torch'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
