"""The theory checks as Markdown and as a printed table. Every verdict follows from theory.json's counts.

What a claim, a reading or a failure means is in the record too (`claim`, `measure`, `why`); the thresholds are
`tally.verdict`'s.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sorsa.analysis.theory.tally import MIN_PROBLEMS, in_words, percent, verdict

SECTIONS = {
    "statement": "As stated",
    "reading": "Other readings, or assumptions not met",
    "proof step": "Steps of the proof",
    "repair": "What can be proven instead",
    "code": "The code of this package",
}
WIDE = ("setting", "loss and t")  # factors whose tables are too long to read: they are in theory.json
PRINTED = ("statement", "reading", "code")
_ORDER = ("holds", "holds only when", "fails")


def as_markdown(record: Mapping[str, Any]) -> str:
    """Return the report as Markdown.

    Args:
        record: The content of theory.json.
    """
    lines = [
        "# Theory checks",
        "",
        f"The statements of the paper's section 5 on random problems in FP64: seed {record['seed']}, "
        f"{record['problems']} trainings per setting. Made by `run.py --theory` from theory.json.",
        "",
        '"holds": in every problem. "holds only when X": not in all, but in every problem that meets X, of which there '
        f'are at least {MIN_PROBLEMS}. "fails": otherwise. Shares describe the problems that were drawn (see the '
        "statements' files for how); one counterexample refutes a statement.",
        "",
        "| what is stated | verdict |",
        "|---|---|",
        *(row for statement in record["statements"] for row in _overview(statement)),
    ]
    for statement in record["statements"]:
        lines += [
            "",
            f"## {statement['title']}",
            "",
            f"As stated: **{overall(statement)}**.",
            "",
            f"![{statement['title']}]({statement['key']}.svg)",
        ]
        for role, heading in SECTIONS.items():
            claims = [claim for claim in statement["claims"] if claim["role"] == role]
            if claims:
                lines += ["", f"### {heading}", ""]
            for claim in claims:
                lines += _paragraph(claim)
        if "example" in statement:
            lines += _example(statement["example"])
    return "\n".join(lines) + "\n"


def overall(statement: Mapping[str, Any]) -> str:
    """Return the verdict on a statement as written: the worst of those on its claims with the role `statement`."""
    own = [claim for claim in statement["claims"] if claim["role"] == "statement"]
    return in_words(max(own, key=lambda claim: _ORDER.index(verdict(claim)[0])))


def _overview(statement: Mapping[str, Any]) -> list[str]:
    """Return the rows of the first table: what a statement says, claim by claim."""
    name = statement["title"].split(":")[0]
    rows = []
    for claim in statement["claims"]:
        if claim["role"] == "statement":
            cells = f"{name}: {claim['claim']}", verdict(claim)[1]
            rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return rows


def _paragraph(claim: Mapping[str, Any]) -> list[str]:
    """Return one claim: the verdict, the worst problem, what explains a failure, and its tables."""
    word, sentence = verdict(claim)
    lines = [f"- {claim['claim']}", f"  **{sentence[0].upper()}{sentence[1:]}.** {_worst(claim)}"]
    if word != "holds":
        lines += [f"  Why: {claim['why']}"] if claim["why"] else []
        lines += [f"  By {factor}: {_table(names)}." for factor, names in claim["by"].items() if factor not in WIDE]
    if word == "fails":
        for group in claim["when"]:
            rest = {key: claim[key] - group[key] for key in ("problems", "holds")}
            lines.append(f"  Where {group['condition']}: {_share(group)}; elsewhere: {_share(rest)}.")
    return [line + "  " for line in lines[:-1]] + lines[-1:]  # two spaces: a line ends here


def _table(names: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}: {percent(holds, problems)}" for name, (problems, holds, _) in names.items())


def _share(group: Mapping[str, Any]) -> str:
    return f"{percent(group['holds'], group['problems'])} of {group['problems']:,}"


def _worst(claim: Mapping[str, Any]) -> str:
    """Return the largest value of a claim and the problem that gives it."""
    value, problem = claim["worst"]["value"], claim["worst"]["problem"]
    where = ", ".join(f"{name} = {_short(one)}" for name, one in problem.items())
    number = "not finite" if value is None else f"{value:.6g}"
    return f"Largest value {number}, limit {claim['limit']:.10g} (value: {claim['measure']}); at {where}."


def _short(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _example(example: Mapping[str, Any]) -> list[str]:
    """Return a counterexample as text, if its numbers make it one."""
    without, with_it = example["kappa unregularized"], example["kappa regularized"]
    higher = [t for t, (a, b) in enumerate(zip(without, with_it, strict=True), 1) if b > a]
    if not higher:
        return []
    given = ", ".join(f"{name} = {value}" for name, value in example.items() if not name.startswith("kappa"))
    rows = [f"| {t} | {a:.6g} | {b:.6g} |" for t, (a, b) in enumerate(zip(without, with_it, strict=True), 1)]
    return [
        "",
        "### A counterexample to follow by hand",
        "",
        f"{given}; the gradients of S and V are 0. kappa is larger with the regularizer at t = "
        f"{', '.join(map(str, higher))}.",
        "",
        "| t | kappa without regularizer | with |",
        "|---|---|---|",
        *rows,
    ]


def as_table(record: Mapping[str, Any]) -> str:
    """Return the table to print: the statements, their other readings, and the code.

    Args:
        record: The content of theory.json.
    """
    rows = []
    for statement in record["statements"]:
        name, _, title = statement["title"].partition(": ")
        rows += ["", f"{name}: {title}"]
        for claim in statement["claims"]:
            if claim["role"] in PRINTED:
                value = claim["worst"]["value"]
                worst = "not finite" if value is None else f"{value:.4g}"
                share = percent(claim["holds"], claim["problems"])
                rows.append(f"  {claim['key']:18}{claim['problems']:>9,}{share:>13}{worst:>13}  {in_words(claim)}")
    return "\n".join([f"{'claim':20}{'problems':>9}{'holds':>13}{'worst':>13}  verdict", *rows])
