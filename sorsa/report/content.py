"""What stands in a report, in its order: tables, claims and figures, the same for the page, Markdown and CSV."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sorsa.report.differences import differences_table, switches_table
from sorsa.report.groups import DRIFT, SINGLE, by_comparison, comparison_table, is_tested, slug
from sorsa.report.measures import SMOOTHING, benchmarks
from sorsa.report.runs import runs_table
from sorsa.report.sources import Sources
from sorsa.report.table1 import table1
from sorsa.report.tables import Column, Estimate, Table, bounds

_CLAIMS_ABOUT = (
    "Measured here. “Holds” says yes or no where the 95% interval of the difference lies on one "
    "side of zero, “not shown” where it does not, “not measured” where runs or analyses are missing. Of accuracies, "
    "Holm's p-value for their number has to be below 0.05 as well; the other intervals are not corrected for their "
    "number. Each method has its own learning rate, so that a difference is that of both together."
)


SCORES_ABOUT = (
    "Mean ± standard deviation over seeds; in brackets the 95% interval: of accuracies over seeds and questions, of "
    f"one model's perplexity over windows of the text. Loss: mean of the last {SMOOTHING:.0%} of the steps, nats per "
    "response token. Perplexity: of the text in forgetting_file, of the base model and after training."
)
DRIFT_ABOUT = (
    "How far the weights moved (section 6.1): means over the adapted matrices at the last step, of condition numbers "
    "geometric ones, ± standard deviation over seeds. ΔΣ is the mean change of the singular values, ΔD that of the "
    "singular vectors' directions; the condition numbers are those of the principal part Wp and of the merged matrix. "
    "A matrix whose value is infinite in one of the runs is left out; where most are, there is no mean."
)


@dataclasses.dataclass(frozen=True)
class Content:
    """A report, before it is written.

    Args:
        sources: Its records and what there is to say about them.
        comparisons: The complete table of each comparison, for CSV.
        claims: The table of claims.
        figures: Of each comparison: what `draw_all` returned, `folder` added.
        table1: The paper's.
        runs: All runs.
        differences: The list, and the switches of each run.
    """

    sources: Sources
    comparisons: tuple[Table, ...]
    claims: Table
    figures: tuple[dict[str, Any], ...]
    table1: Table
    runs: Table
    differences: tuple[Table, Table]

    def shown_claims(self) -> Table:
        """Return the claims as a reader sees them; claims.csv has them all.

        Single runs are rarely about every claim, so that those of theirs that are not measured are only counted.
        """
        rows = [row for row in self.claims.rows if row["comparison"] != SINGLE or row["difference"] is not None]
        left_out = len(self.claims.rows) - len(rows)
        about = self.claims.about
        if left_out:
            about += f" {left_out} of single runs, which were not measured, stand in claims.csv alone."
        same = {key for key in ("comparison", "set", "method") if len({row.get(key) for row in rows}) < 2}
        columns = tuple(column for column in self.claims.columns if column.key not in same)
        return dataclasses.replace(self.claims, about=about, columns=columns, rows=tuple(rows))


def make_content(sources: Sources, directory: Path) -> Content:
    """Compute everything, and draw the figures.

    Args:
        sources: The records.
        directory: The report's; figures go to `figures/COMPARISON/` in it.
    """
    records = sources.records
    tested = {name: runs for name, runs in by_comparison(records).items() if any(map(is_tested, runs))}
    return Content(
        sources,
        tuple(comparison_table(name, runs) for name, runs in tested.items()),
        claims_table(records),
        tuple(figure for name, runs in tested.items() for figure in _figures(name, runs, directory)),
        table1(records),
        runs_table(records),
        (differences_table(records), switches_table(records)),
    )


def _figures(name: str, records: Sequence[dict[str, Any]], directory: Path) -> list[dict[str, Any]]:
    """Draw the figures of one comparison."""
    from sorsa.report.figures import draw_all

    folder = Path("figures") / slug(name)
    (directory / folder).mkdir(parents=True, exist_ok=True)
    drawn = draw_all(list(records), directory / folder)
    return [figure | {"folder": str(folder), "comparison": name} for figure in drawn]


def claims_table(records: Sequence[dict[str, Any]]) -> Table:
    """Return what the records show about each claim of the paper, for each comparison.

    Args:
        records: All.
    """
    from sorsa.report.claims import claims

    columns = [Column("claim", "claim"), Column("holds", "holds")]
    columns += [Column("difference", "difference", "signed", ("interval",)), Column("measure", "measure")]
    columns += [Column("method", "method"), Column("against", "against"), Column("n_seeds", "seeds", "plain")]
    columns += [Column("comparison", "comparison"), Column("set", "runs of"), Column("text", "in words")]
    rows = []
    for name, runs in by_comparison(records).items():
        for found in claims(list(runs)) if any(map(is_tested, runs)) else ():
            value = found["difference"]
            gap = None if value is None else Estimate(value, bounds(found["interval_95"]))
            rows.append(found | {"comparison": name, "difference": gap})
    return Table("claims", "What the paper claims", _CLAIMS_ABOUT, tuple(columns), tuple(rows))


def about_runs(comparison: Table, records: Sequence[dict[str, Any]], edges: Mapping[str, Sequence[str]]) -> str:
    """Return what a comparison was tested on, which runs are left out, and which learning rates are doubtful.

    Args:
        comparison: The complete table.
        records: All.
        edges: Name of a comparison -> the methods whose learning rate was chosen at an edge of its grid.
    """
    own = by_comparison(records)[comparison.title]
    left_out = len(own) - sum(row.get("seeds", 0) for row in comparison.rows)
    about = " ".join(_about_test(stem, own) for stem in benchmarks(own))
    if left_out:
        about += (
            f" Left out: {left_out} runs that were not tested, not finished, or tried a learning rate that was not "
            "chosen."
        )
    if edges.get(comparison.title):
        about += (
            " Chosen at an edge of the learning rates that were tried, so that a better one may lie beyond: "
            f"{'; '.join(edges[comparison.title])}."
        )
    return about


def scores(comparison: Table, records: Sequence[dict[str, Any]], edges: Mapping[str, Sequence[str]]) -> Table:
    """Return the part of a comparison's table about scores and cost.

    Args:
        comparison: The complete table.
        records: All.
        edges: Name of a comparison -> the methods whose learning rate was chosen at an edge of its grid.
    """
    about = f"{SCORES_ABOUT} {about_runs(comparison, records, edges)}"
    table = _part(comparison, ("matrices", "left_out", *DRIFT))
    return dataclasses.replace(table, name=f"scores-{comparison.name}", title="Scores and cost", about=about)


def _part(comparison: Table, without: Sequence[str]) -> Table:
    """Return a comparison's table without some columns, those that are empty, and what its heading says."""
    one_set = len({row["set"] for row in comparison.rows}) < 2
    without = ("comparison", *without, *(["set"] if one_set else []))
    columns = tuple(column for column in comparison.columns if column.key not in without)
    return dataclasses.replace(comparison, columns=columns).without_empty_columns()


def _about_test(stem: str, records: Sequence[dict[str, Any]]) -> str:
    """Return which questions a benchmark's scores are about, by which rule."""
    found = [record["results"][stem] for record in records if stem in record["verdicts"]]
    facts = dict.fromkeys((one.get("graded"), one.get("source"), one.get("rule")) for one in found)
    said = "; ".join(f"{graded} questions of {source}, rule {rule}" for graded, source, rule in facts)
    return f"{stem}: {said}."


def drift(comparison: Table) -> Table | None:
    """Return the part of a comparison's table about the weights, None where no run was analysed.

    Args:
        comparison: The complete table.
    """
    rows = tuple(row for row in comparison.rows if any(row.get(key) is not None for key in DRIFT))
    if not rows:
        return None
    shown = ("group", "set", "method", "lr", "seeds", "matrices", "left_out", *DRIFT)
    without = [column.key for column in comparison.columns if column.key not in shown]
    part = dataclasses.replace(comparison, name=f"drift-{comparison.name}", title="How the weights moved", rows=rows)
    return dataclasses.replace(_part(part, without), about=DRIFT_ABOUT)


def heading(name: str) -> str:
    """Return the heading of a comparison's section."""
    return "Single runs" if name == SINGLE else f"Comparison “{name}”"
