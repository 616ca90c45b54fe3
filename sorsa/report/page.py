"""A report as one HTML page that opens from a file: style, script, figures and data are all inside, nothing is loaded.

The tables are in the page as HTML, so that it reads without its script too; page.js makes them sort and filter, and
shows the answers of two runs from the data. The page's own policy forbids every other script and every request.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections import Counter
from html import escape
from pathlib import Path
from string import Template
from typing import Any

import sorsa
from sorsa.report.answers import collect_answers
from sorsa.report.content import Content, drift, heading, scores
from sorsa.report.svg import inline_svg, svg_width
from sorsa.report.tables import Column, Estimate, Table, cell_parts, sort_key

HERE = Path(__file__).parent
HOLDS = {"yes": "yes", "no": "no", "not shown": "open", "not measured": "none"}  # answer -> class of its badge
COLUMN = 450  # points: the room of a figure where two stand side by side; a wider one stands alone


def as_page(content: Content, made: str, directory: Path) -> str:
    """Return the page.

    Args:
        content: What stands in it.
        made: When, for its head.
        directory: The report's, where the figures have been drawn.
    """
    script, style, skeleton = ((HERE / f"page.{kind}").read_text(encoding="utf-8") for kind in ("js", "css", "html"))
    sources = content.sources
    answers = collect_answers(sources.records, sources.folders)
    sections = {f"comparison-{n}": _comparison(n, one, content, directory) for n, one in enumerate(content.comparisons)}
    links = [("claims", content.claims.title)]
    links += [(key, heading(one.title)) for key, one in zip(sections, content.comparisons, strict=True)]
    links += [("table1", content.table1.title), ("answers", "Answers side by side"), ("runs", content.runs.title)]
    links += [("differences", content.differences[0].title)]
    return Template(skeleton).substitute(
        policy=_policy(script),
        style=style,
        summary=escape(_summary(content, made)),
        glance=_glance(content),
        links="".join(f'<li><a href="#{key}">{escape(title)}</a></li>' for key, title in links),
        notes=_notes(content),
        claims=html_table(content.shown_claims(), 2),
        comparisons="".join(f'<section id="{key}">{body}</section>' for key, body in sections.items()),
        table1=html_table(content.table1, 2),
        runs=html_table(content.runs, 2),
        differences="".join(html_table(table, 2 + n) for n, table in enumerate(content.differences)),
        data=embedded(answers),
        script=script,
    )


def _policy(script: str) -> str:
    """Return the page's content security policy: this one script, inline styles, images inside figures, no request."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data:"


def embedded(value: Any) -> str:
    """Return JSON that may stand inside a script element: no text in it can end the element or begin a comment.

    Args:
        value: Of JSON types, without NaN.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for letter in "<>&\u2028\u2029":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return text.encode("utf-8", "backslashreplace").decode()  # half a surrogate pair in an answer


def _summary(content: Content, made: str) -> str:
    """Return the line below the title."""
    return f"Made {made[:10]} with sorsa {sorsa.__version__} from {', '.join(content.sources.looked_in)}."


def _glance(content: Content) -> str:
    """Return the numbers that a reader wants first."""
    holds = Counter(row["holds"] for row in content.shown_claims().rows)
    said = ", ".join(f"{holds[word]} {word}" for word in HOLDS if holds[word]) or "none"
    compared = sum(isinstance(value, Estimate) for row in content.table1.rows for value in _ours(row))
    facts = {
        "Runs": str(len(content.sources.records)),
        "Claims that hold": said,
        "Scores of Table 1 compared": f"{compared} of {3 * len(content.table1.rows)}",
    }
    if content.sources.skipped:
        facts["Skipped"] = str(len(content.sources.skipped))
    return "".join(f"<div><dt>{escape(key)}</dt><dd>{escape(value)}</dd></div>" for key, value in facts.items())


def _ours(row: Any) -> list[Any]:
    return [value for key, value in row.items() if key.endswith("_ours")]


def _notes(content: Content) -> str:
    """Return what was skipped and what else a reader should know, empty without any."""
    sources = content.sources
    parts = [f"<p>{escape(note)}</p>" for note in sources.notes]
    if sources.skipped:
        lines = "".join(f"<li><code>{escape(line)}</code></li>" for line in sources.skipped)
        parts.append(f"<p>Skipped:</p><ul>{lines}</ul>")
    inside = "".join(parts)
    return f'<aside class="notes" aria-label="Notes about the records">{inside}</aside>' if inside else ""


def _comparison(number: int, comparison: Table, content: Content, directory: Path) -> str:
    """Return the section of one comparison: tables, then figures."""
    weights = drift(comparison)
    tables = [scores(comparison, content.sources.records, content.sources.edges), *([weights] if weights else [])]
    figures = [figure for figure in content.figures if figure["comparison"] == comparison.title]
    drawn = "".join(_figure(f"c{number}-{figure['name']}", figure, directory) for figure in figures)
    title = heading(comparison.title)
    body = f"<h2>{escape(title)}</h2>" + "".join(html_table(table, 3, title) for table in tables)
    return body + (f'<div class="figures">{drawn}</div>' if drawn else "")


def _figure(name: str, figure: dict[str, Any], directory: Path) -> str:
    """Return one figure with its caption."""
    drawing = inline_svg(
        (directory / figure["folder"] / figure["svg"]).read_text(encoding="utf-8"), name, figure["title"]
    )
    files = escape(f"{figure['folder']}/{figure['pdf']}, {figure['png']}")
    wide = ' class="wide"' if svg_width(drawing) > COLUMN else ""
    return (
        f'<figure{wide}><div class="plate">{drawing}</div><figcaption><strong>{escape(figure["title"])}.</strong> '
        f'{escape(figure["caption"])} <span class="file">{files}</span></figcaption></figure>'
    )


def html_table(table: Table, level: int, section: str = "") -> str:
    """Return heading, explanation and table; what is wider than the page scrolls in a box of its own.

    Args:
        table: The table.
        level: Of its heading.
        section: Title of the section, where others have such a table too: read aloud, each has a name of its own.
    """
    name, caption = escape(table.name), escape(f"{table.title}, {section}" if section else table.title)
    about = f'<p class="about" id="about-{name}">{escape(table.about)}</p>' if table.about else ""
    head = f"<h{level}>{escape(table.title)}</h{level}>{about}"
    if not table.rows:
        return f'<div class="part">{head}<p class="nothing">Nothing to show.</p></div>'
    rows = "".join(f"<tr>{_row(table, row)}</tr>" for row in table.rows)
    described = f' aria-describedby="about-{name}"' if table.about else ""
    return (
        f'<div class="part">{head}<div class="scroll" role="region" aria-labelledby="caption-{name}" tabindex="0">'
        f'<table id="table-{name}"{described}><caption class="unseen" id="caption-{name}">{caption}</caption>'
        f"<thead>{_head(table.columns)}</thead><tbody>{rows}</tbody></table></div></div>"
    )


def _head(columns: tuple[Column, ...]) -> str:
    """Return the heading rows: two where neighbouring columns share a heading."""
    two = any(column.span for column in columns)
    upper, lower = [], []
    for index, column in enumerate(columns):
        kind = "text" if column.unit == "text" else "number"
        down = ' rowspan="2"' if two and not column.span else ""
        cell = f'<th scope="col" class="{kind}" data-column="{index}"{down}>{escape(column.title)}</th>'
        if two and column.span:
            lower.append(cell)
            if index == 0 or columns[index - 1].span != column.span:
                across = _across(columns, index)
                upper.append(f'<th scope="colgroup" colspan="{across}" class="span">{escape(column.span)}</th>')
        else:
            upper.append(cell)
    return f"<tr>{''.join(upper)}</tr>" + (f"<tr>{''.join(lower)}</tr>" if two else "")


def _across(columns: tuple[Column, ...], first: int) -> int:
    """Return how many neighbouring columns share the heading of the first."""
    others = (n for n in range(first, len(columns)) if columns[n].span != columns[first].span)
    return next(others, len(columns)) - first


def _row(table: Table, row: Any) -> str:
    """Return the cells of a row; the first one names it."""
    first, *rest = (_cell(row.get(column.key), column) for column in table.columns)
    return f'<th scope="row"{first}</th>' + "".join(f"<td{cell}</td>" for cell in rest)


def _breakable(text: str) -> str:
    """Return escaped text that may be broken after the marks inside names, which have no spaces."""
    return text.replace("_", "_<wbr>").replace("/", "/<wbr>")


def _cell(value: Any, column: Column) -> str:
    """Return a cell without its tag's beginning and end."""
    text, interval = cell_parts(value, column)
    key = sort_key(value)
    sort = f' data-sort="{key!r}"' if isinstance(key, (int, float)) else ' data-sort=""' if key is None else ""
    kind = "text" if column.unit == "text" else "number" if not isinstance(value, str) else "words"
    inside = _breakable(escape(text)) + (f' <span class="interval">{escape(interval)}</span>' if interval else "")
    if column.key == "holds":
        inside = f'<span class="holds {HOLDS.get(text, "none")}">{inside}</span>'
    return f' class="{kind}"{sort}>{inside}'
