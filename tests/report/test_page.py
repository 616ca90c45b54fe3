"""The page as text: whole in itself, nothing in a record becomes part of it, tables that a screen reader can read."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import re
import tomllib
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from sorsa.config_files import CHECKOUT
from sorsa.report import page
from sorsa.report.page import embedded, html_table
from sorsa.report.svg import inline_svg, svg_width
from sorsa.report.tables import Column, Estimate, Table
from tests.report import conftest as made

EVIL = "</script><script>alert(1)</script><!-- <img src=x onerror=alert(2)> & \u2028 ${data} \ud800"


class Reader(HTMLParser):
    """Collects tags with their attributes, and the text of script elements."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.cdata_elem == "script":
            self.scripts.append(data)


@pytest.fixture
def html(tmp_path: Path, make_report: Callable[..., Path]) -> str:
    """The page of a comparison and of a run with an answer that attacks it."""
    made.fill_comparison(tmp_path / "runs", ["mini_lora", "mini_sorsa"])
    made.write_test(made.write_run(tmp_path / "runs", "evil"), "01", answers=[EVIL])
    return (make_report(tmp_path / "runs") / "index.html").read_text(encoding="utf-8")


def read(html: str) -> Reader:
    """Return what a parser finds in a page."""
    reader = Reader()
    reader.feed(html)
    return reader


def test_nothing_is_loaded(html: str) -> None:
    tags = read(html).tags
    assert not [tag for tag, _ in tags if tag in ("link", "img", "iframe", "object", "embed", "base")]
    targets = [value for _, found in tags for key, value in found.items() if key in ("src", "href", "xlink:href")]
    assert targets and all(value.startswith(("#", "data:image/png;base64,")) for value in targets)
    assert not re.search(r"url\((?!#)|@import|https?://(?!www\.w3\.org/)", html)


def test_the_only_script_is_the_pages_own(html: str) -> None:
    reader = read(html)
    data, script = reader.scripts
    assert len([tag for tag, _ in reader.tags if tag == "script"]) == 2
    assert script == (CHECKOUT / "sorsa/report/page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = next(found["content"] for tag, found in reader.tags if found.get("http-equiv"))
    assert policy == f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data:"
    answers = json.loads(data)["benchmarks"]["gsm-8k"]
    texts = [test["answers"][0][0] for test in answers if test["run"] == "evil"]
    assert texts == [EVIL]
    assert "alert(1)</script>" not in html and "<img" not in html


def test_embedded_json_has_no_numbers_that_json_lacks() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        embedded([float("nan")])


def test_every_id_is_there_once_and_every_link_leads_somewhere(html: str) -> None:
    tags = read(html).tags
    ids = [found["id"] for _, found in tags if "id" in found]
    assert len(ids) == len(set(ids)) and not [one for one in ids if " " in one]
    for _, found in tags:
        for key in ("href", "xlink:href", "aria-labelledby", "aria-describedby"):
            if key in found and not found[key].startswith("data:"):
                assert found[key].lstrip("#") in ids
    assert not set(re.findall(r"url\(#([^)]+)\)", html)) - set(ids)


def test_headings_leave_no_level_out(html: str) -> None:
    levels = [int(tag[1]) for tag, _ in read(html).tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


def test_tables_have_captions_and_named_rows_and_columns(html: str) -> None:
    tables = re.findall(r"<table.*?</table>", html, re.DOTALL)
    assert len(tables) == 8  # claims, 2 x scores, drift, Table 1, runs, differences, switches
    for table in tables:
        assert "<caption" in table
        rows = re.search("<tbody>(.*)</tbody>", table, re.DOTALL).group(1).split("<tr>")[1:]
        assert all(row.startswith('<th scope="row"') for row in rows)
        assert len({row.count("<td") for row in rows}) == 1
        assert len(re.findall(r'<th scope="col"[^>]*data-column="\d+"', table)) == rows[0].count("<td") + 1


def test_cells() -> None:
    columns = (Column("run", "run"), Column("x", "x <1>", "percent", ("interval",), "both"), Column("holds", "holds"))
    rows = ({"run": "a_b<c>", "x": Estimate(0.5, (0.25, 0.75)), "holds": "not shown"}, {"run": "b", "x": "none & nil"})
    html = html_table(Table("t", "T & t", "", columns, rows), 2)
    assert '<h2>T &amp; t</h2>' in html
    assert '<th scope="row" class="text">a_<wbr>b&lt;c&gt;</th>' in html
    assert '<td class="number" data-sort="0.5">50.0 <span class="interval">(25.0 to 75.0)</span></td>' in html
    assert '<td class="words">none &amp; nil</td>' in html
    assert '<span class="holds open">not shown</span>' in html
    assert '<td class="text" data-sort=""><span class="holds none">–</span></td>' in html
    assert '<th scope="colgroup" colspan="1" class="span">both</th>' in html
    assert 'data-column="1">x &lt;1&gt;</th>' in html
    assert "Nothing to show" in html_table(Table("t", "T", "", columns, ()), 2)


def test_figures_have_names_of_their_own() -> None:
    drawn = inline_svg(made.SVG, "c1-loss", 'The "loss" <of> runs')
    assert drawn.startswith('<svg role="img" aria-label="The &quot;loss&quot; &lt;of> runs" xmlns=')
    assert 'id="c1-loss-p1"' in drawn and "url(#c1-loss-p1)" in drawn and 'xlink:href="#c1-loss-m1"' in drawn
    assert "metadata" not in drawn and "<?xml" not in drawn and "DOCTYPE" not in drawn
    opening = drawn[: drawn.index(">", drawn.index("viewBox"))]
    assert " width=" not in opening and " height=" not in opening
    assert '<rect width="300" height="200"/>' in drawn
    assert (svg_width(drawn), svg_width("<svg></svg>")) == (300.0, 0.0)


@pytest.mark.parametrize(
    "text",
    ["<html></html>", "<svg><script>1</script></svg>", '<svg onload="x()"></svg>', "<svg><foreignObject/></svg>"],
)
def test_a_figure_that_is_no_plain_svg_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="figure x: not a plain SVG"):
        inline_svg(text, "x", "X")


def test_the_pages_files_are_in_the_package() -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = project["tool"]["setuptools"]["package-data"]["sorsa.report"]
    data = [path for path in page.HERE.iterdir() if path.suffix not in (".py", "") and path.name != "__pycache__"]
    assert {path.name for path in data} == {"page.js", "page.css", "page.html", "differences.yaml"}
    assert all(any(path.match(pattern) for pattern in patterns) for path in data)
