"""A report in Markdown, and the section on results that README.md has (`scripts/update_readme.py`)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from sorsa.report.content import Content, claims_table, drift, heading, scores
from sorsa.report.groups import by_comparison, comparison_table, is_tested
from sorsa.report.tables import Table, as_markdown

# What README.md has no room for, of a comparison and of the claims; the report has it.
_LESS = ("comparison", "method", "tokens", "orthonormality_U", "orthonormality_V", "effective_rank")
_LESS_OF_CLAIMS = ("text",)


def as_report(content: Content, made: str) -> str:
    """Return the whole report.

    Args:
        content: What stands in it.
        made: When, for the first lines.
    """
    sources = content.sources
    parts = ["# SORSA: report", f"{len(sources.records)} runs from {', '.join(sources.looked_in)}; made {made}."]
    parts += [f"> {note}" for note in sources.notes]
    if sources.skipped:
        parts.append("Skipped, because they cannot be read:\n\n" + "\n".join(f"- `{line}`" for line in sources.skipped))
    parts += _section(content.claims, 2)
    for comparison in content.comparisons:
        parts.append(f"## {heading(comparison.title)}")
        parts += _section(scores(comparison, sources.records), 3)
        weights = drift(comparison)
        parts += _section(weights, 3) if weights else []
        for figure in content.figures:
            if figure["comparison"] == comparison.title:
                parts.append(f"![{figure['title']}]({figure['folder']}/{figure['png']})\n\n{figure['caption']}")
    for table in (content.table1, content.runs, *content.differences):
        parts += _section(table, 2)
    return "\n\n".join(parts) + "\n"


def _section(table: Table, level: int) -> list[str]:
    """Return heading, explanation and table; a table without rows says so."""
    body = as_markdown(table) if table.rows else "Nothing to show."
    return [f"{'#' * level} {table.title}", *([table.about] if table.about else []), body]


def results_section(records: Sequence[dict[str, Any]]) -> str:
    """Return what README.md says of results: a table for each comparison, and what holds of the paper's claims.

    Args:
        records: All committed ones.

    Returns:
        Markdown; empty without records.
    """
    parts: list[str] = []
    for name, own in by_comparison(records).items():
        if any(map(is_tested, own)):
            complete = comparison_table(name, own).without_empty_columns()
            parts += [f"**{heading(name)}.** {scores(complete, records).about}", as_markdown(_without(complete, _LESS))]
    if not parts:
        return ""
    claims = claims_table(records)
    return "\n\n".join([*parts, f"**{claims.title}.** {claims.about}", as_markdown(_without(claims, _LESS_OF_CLAIMS))])


def _without(table: Table, keys: Sequence[str]) -> Table:
    """Return a table without these columns."""
    return dataclasses.replace(table, columns=tuple(one for one in table.columns if one.key not in keys))
