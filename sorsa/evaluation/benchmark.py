"""What every benchmark module offers, and the small records that travel between generation, grading and results.

A benchmark whose answers are not words to be graded (perplexity, lm-eval) defines only `run(config, subject)`, which
tests the subject, writes its results and prints them. Any other module defines:
    HUB_ID            where its questions come from, for records
    MAX_NEW_TOKENS    default generation length (the authors' release)
    RUNS_CODE         True when grading runs code written by a model, which needs consent
    complete(text, question)  optional: where an answer is complete; see `stopping`
    load(config)      -> list[Question]
    item(row)         -> Item, from a row of a completions file (`--grade`); raises UsageError for a bad row
    grade_all(items)  -> iterator of one dict per item, in order: rule name -> Verdict, always both RULES, and where it
                         has them the OPINIONS whose package is installed (they never count)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

RULES = ("ours", "authors")  # the default headline first

OPINIONS = ("math-verify",)  # what other projects' graders say, see opinions.py

# Values of Verdict.reason. NO_ANSWER, ERROR, TIMEOUT and UNJUDGED are wrong answers that the results count apart.
EQUAL = "equal"
DIFFERENT = "different"
NO_ANSWER = "no answer"
UNREADABLE = "unreadable"
ERROR = "error"
TIMEOUT = "timeout"
UNJUDGED = "not judged"  # the check broke, by the machine's fault or the answer's


@dataclass(frozen=True)
class Question:
    """One question of a benchmark: `id` is unique, `prompt` goes to the model as it is, `gold` goes to the grader."""

    id: str
    prompt: str
    gold: Any


@dataclass(frozen=True)
class Item:
    """One answer to grade; `extracted` says that `text` already is the final answer, not a whole completion."""

    text: str | None
    gold: Any
    extracted: bool = False


@dataclass(frozen=True)
class Verdict:
    """What one rule says about one answer: right or wrong, what it read as the answer, why, and `how` it was read."""

    correct: bool
    extracted: str | None
    reason: str
    how: str | None = None  # the name of the reading rule, where a benchmark has several
