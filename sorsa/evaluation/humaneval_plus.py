"""HumanEval+: HumanEval's 164 problems with about 80 times the tests (Liu et al. 2023, arXiv 2305.01210).

The rows are those of the hub's data set or of a local copy. A row's tests call the function on long lists of inputs and
compare with numpy, or with a reference solution that stands among the tests; they run in the trusted judge.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from sorsa.errors import UsageError
from sorsa.evaluation import humaneval
from sorsa.evaluation.benchmark import Item, Question, Verdict
from sorsa.evaluation.questions import first_rows, hub_rows

if TYPE_CHECKING:
    from sorsa.config import RunConfig

HUB_ID = "evalplus/humanevalplus"
MAX_NEW_TOKENS = humaneval.MAX_NEW_TOKENS
RUNS_CODE = True
complete = humaneval.complete

_SECONDS = 60.0  # some inputs make lists of a million numbers, and the reference solution runs beside the candidate
_MODULES = ("numpy",)  # what the tests import


def load(config: RunConfig) -> list[Question]:
    """Return the problems, from `config.test_file` or else from the hub.

    Raises:
        UsageError: The file is bad or the hub cannot be reached, or a row lacks a column.
    """
    return humaneval.questions(first_rows(config, hub_rows(config, HUB_ID, "default")))


def item(row: dict[str, Any], test_file: str | None = None) -> Item:
    """Return the answer in a row `{task_id, completion}`.

    Args:
        row: A row of a completions file.
        test_file: The problems with their tests.

    Raises:
        UsageError: A column is missing, no problem has this task_id, or there are no problems to look in.
    """
    if test_file is None:
        raise UsageError(f"humaneval+ needs its tests to grade a file: --test-file FILE with the rows of {HUB_ID}")
    return humaneval.item(row, test_file)


def grade_all(items: Iterable[Item]) -> Iterator[dict[str, Verdict]]:
    """Yield the verdicts of both rules for each item, in order."""
    return humaneval.grade(items, _SECONDS, _MODULES)
