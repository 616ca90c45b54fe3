"""A report in Markdown, and the section on results that README.md has (`scripts/update_readme.py`)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from sorsa.report.content import (
    DRIFT_ABOUT,
    SCORES_ABOUT,
    Content,
    about_runs,
    claims_table,
    drift,
    heading,
    scores,
)
from sorsa.report.groups import by_comparison, comparison_table, is_tested
from sorsa.report.tables import Column, Table, as_markdown, cell_text, escaped

# What README.md has no room for, of a comparison; the report has it.
_LESS = ("comparison", "set", "tokens", "orthonormality_U", "orthonormality_V", "effective_rank")
_HOLDS = {"yes": "holds against", "no": "does not hold against", "not shown": "not shown against"}
_HOLDS |= {"not measured": "not measured against"}


def as_report(content: Content, made: str) -> str:
    """Return the whole report.

    Args:
        content: What stands in it.
        made: When, for the first lines.
    """
    sources = content.sources
    parts = ["# SORSA: report", f"{len(sources.records)} runs from {', '.join(sources.looked_in)}; made {made}."]
    parts += [f"> {escaped(note)}" for note in sources.notes]
    if sources.skipped:
        parts.append("Skipped:\n\n" + "\n".join(f"- {escaped(line)}" for line in sources.skipped))
    parts += _section(content.shown_claims(), 2)
    for comparison in content.comparisons:
        parts.append(f"## {heading(comparison.title)}")
        parts += _section(scores(comparison, sources.records, sources.edges), 3)
        weights = drift(comparison)
        parts += _section(weights, 3) if weights else []
        for figure in content.figures:
            if figure["comparison"] == comparison.title:
                parts.append(
                    f"![{figure['title']}]({figure['folder']}/{figure['png']})\n\n{escaped(figure['caption'])}"
                )
    for table in (content.table1, content.runs, *content.differences):
        parts += _section(table, 2)
    return "\n\n".join(parts) + "\n"


def _section(table: Table, level: int) -> list[str]:
    """Return heading, explanation and table; a table without rows says so."""
    body = as_markdown(table) if table.rows else "Nothing to show."
    return [f"{'#' * level} {table.title}", *([escaped(table.about)] if table.about else []), body]


def results_section(records: Sequence[dict[str, Any]], edges: Mapping[str, Sequence[str]]) -> str:
    """Return what README.md says of results: a table for each comparison, and what holds of the paper's claims.

    Args:
        records: All committed ones.
        edges: Name of a comparison -> the methods whose learning rate was chosen at an edge of its grid.

    Returns:
        Markdown; empty without records.
    """
    parts: list[str] = []
    for name, own in by_comparison(records).items():
        if any(map(is_tested, own)):
            complete = comparison_table(name, own).without_empty_columns()
            about = escaped(about_runs(complete, records, edges))
            parts += [f"**{heading(name)}.** {about}", as_markdown(_without(complete, _LESS))]
    if not parts:
        return ""
    claims = compact_claims(claims_table(records))
    how_to_read = escaped(f"{SCORES_ABOUT} {DRIFT_ABOUT}")
    return "\n\n".join([how_to_read, *parts, f"**{claims.title}.** {escaped(claims.about)}", as_markdown(claims)])


def compact_claims(claims: Table) -> Table:
    """Return the claims with a row per comparison, measure and method, and the other sides by whether they hold.

    Args:
        claims: As `claims_table` returns them.
    """
    value = next(column for column in claims.columns if column.key == "difference")
    rows: dict[tuple[Any, ...], dict[str, Any]] = {}
    for claim in claims.rows:
        key = tuple(claim.get(name) for name in ("comparison", "set", "measure", "method"))
        row = rows.setdefault(key, {"measure": claim["measure"], "method": key[3], "comparison": key[0]})
        gap = claim["difference"]
        side = f"{claim['against']} {cell_text(gap, value)}" if gap else claim["against"]
        row[claim["holds"]] = f"{row[claim['holds']]}; {side}" if claim["holds"] in row else side
    columns = [Column("measure", "measure"), Column("method", "method"), Column("comparison", "comparison")]
    columns += [Column(word, title) for word, title in _HOLDS.items()]
    about = (
        f"{claims.about} The difference is the method's value minus the other's, with its 95% interval; accuracies are "
        "shares. What a comparison has measured against nobody is left out."
    )
    measured = tuple(row for row in rows.values() if row.keys() & (_HOLDS.keys() - {"not measured"}))
    return dataclasses.replace(claims, about=about, columns=tuple(columns), rows=measured).without_empty_columns()


def _without(table: Table, keys: Sequence[str]) -> Table:
    """Return a table without these columns."""
    return dataclasses.replace(table, columns=tuple(one for one in table.columns if one.key not in keys))
