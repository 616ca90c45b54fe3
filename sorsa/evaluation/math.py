r"""MATH: competition problems whose answer stands in `\boxed{}` (Hendrycks et al. 2021, arXiv 2103.03874).

Rule `authors`: the text after the last `The answer is: `, compared as the released code does (math_authors.py).
Rule `ours`: also `\boxed{}`; parsed (latex.py) and compared exactly (answers.py). Text that cannot be read is right
only if it equals the gold text; time-outs and errors are wrong and have their own reason.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from sorsa.evaluation import math_authors
from sorsa.evaluation.answers import plain_words, same_answer
from sorsa.evaluation.benchmark import DIFFERENT, EQUAL, ERROR, NO_ANSWER, TIMEOUT, UNREADABLE, Item, Question, Verdict
from sorsa.evaluation.exact import OutOfBounds, exact_value
from sorsa.evaluation.extraction import after_hashes, after_marker, first_line, last_boxed
from sorsa.evaluation.latex import Node, parse
from sorsa.evaluation.latex_tokens import MAX_LENGTH, Unreadable, clean
from sorsa.evaluation.opinions import opinions
from sorsa.evaluation.questions import answer_text, first_rows, hub_rows, require_text
from sorsa.evaluation.stopping import answer_line
from sorsa.evaluation.symbolic import SymbolicError, SymbolicTimeout, SymbolicWorker

if TYPE_CHECKING:
    from sorsa.config import RunConfig

HUB_ID = "EleutherAI/hendrycks_math"
MAX_NEW_TOKENS = 2048
RUNS_CODE = False
complete = answer_line

SUBJECTS = (
    "algebra", "counting_and_probability", "geometry", "intermediate_algebra", "number_theory", "prealgebra",
    "precalculus",
)  # fmt: skip
# (question column, gold column) of the files in use: the hub's, the authors' MATH_test.jsonl, and answers alone
_COLUMNS = (("problem", "solution"), ("instruction", "output"), ("problem", "answer"))
_MATH_SPAN = re.compile(r"(?<!\\)\$+((?:\\.|[^$\\])+)\$+|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
_FRAME = re.compile(r"\\(?:text|mbox|mathrm|textbf|mathbf)\s*\{([^{}]*)\}")
_WORD_COMMAND = re.compile(r"\\(?:text(?:bf|it|rm)?|mbox|mathrm|mathbf)(?![a-zA-Z])\s*")

_CHOOSE = re.compile(r"\{([^{}\\]*)\\choose(?![a-zA-Z])([^{}]*)\}")
_INVERSE = re.compile(r"\\(sin|cos|tan)\s*\^\s*\{\s*-\s*1\s*\}")


def load(config: RunConfig) -> list[Question]:
    """Return the test questions, from the hub or from `config.test_file`.

    Raises:
        UsageError: The file or the hub cannot be read, or a row has none of the known pairs of columns.
    """
    from sorsa.data.prompts import math_test_prompt

    questions: list[Question] = []
    for where, row in first_rows(config, hub_rows(config, HUB_ID, *SUBJECTS)):
        question, gold = next((pair for pair in _COLUMNS if pair[0] in row and pair[1] in row), _COLUMNS[0])
        text, solution = require_text(row, question, where), require_text(row, gold, where)
        questions.append(Question(str(len(questions)), math_test_prompt(text), solution))
    return questions


def item(row: dict[str, Any]) -> Item:
    """Return the answer in a row `{completion or prediction, gold}` of a completions file.

    Raises:
        UsageError: A column is missing or holds something else than text, a number or null.
    """
    text, gold, extracted = answer_text(row)
    return Item(text, gold, extracted)


def grade_all(items: Iterable[Item]) -> Iterator[dict[str, Verdict]]:
    """Yield the verdicts of both rules, and the opinions there are, for each item in order."""
    with SymbolicWorker() as worker, opinions() as others:
        for one in items:
            ours, authors = (_guarded(grade, one, worker) for grade in (grade_ours, grade_authors))
            opinion = others.of(_as_formula(final_answer(one)), _as_formula(gold_answer(one.gold or "")))
            yield {"ours": ours, "authors": authors, **opinion}


def _guarded(grade: Any, one: Item, worker: SymbolicWorker) -> Verdict:
    """Run one rule on one answer; a time-out or an error is a wrong answer with its reason."""
    worker.renew()
    shown = (one.text or "")[:200] if one.extracted else None
    try:
        return grade(one, worker)
    except SymbolicTimeout:
        return Verdict(False, shown, TIMEOUT)
    except (SymbolicError, RecursionError, ArithmeticError) as error:
        return Verdict(False, shown, f"{ERROR}: {error}"[:200])


def grade_authors(one: Item, worker: SymbolicWorker) -> Verdict:
    """Grade as the authors' release does; a missing answer equals a missing gold answer."""
    answer = one.text if one.extracted else math_authors.extract(one.text or "")
    gold = one.gold
    if gold is not None and ("\\boxed" in gold or len(gold) > MAX_LENGTH):
        gold = math_authors.gold_answer(gold)
    elif gold is not None and not gold.strip():
        gold = None
    correct = math_authors.same_answer(str(gold), str(answer), worker)
    reason = EQUAL if correct else NO_ANSWER if answer is None else DIFFERENT
    return Verdict(correct, answer and answer[:500], reason)


def grade_ours(one: Item, worker: SymbolicWorker) -> Verdict:
    """Grade by exact comparison of the parsed answers."""
    answer = final_answer(one)
    gold = gold_answer(one.gold or "")
    if answer is None or not answer.strip() or not gold.strip():
        return Verdict(False, answer, NO_ANSWER)
    shown = answer.strip()[:500]
    if max(len(answer), len(gold)) > MAX_LENGTH:
        return Verdict(answer.strip() == gold.strip(), shown, EQUAL if answer.strip() == gold.strip() else UNREADABLE)
    answer, gold = _unwrapped(answer), _unwrapped(gold)
    if _squeezed(answer) == _squeezed(gold) or _same_words(answer, gold):
        return Verdict(True, shown, EQUAL)
    try:
        correct = same_answer(_read(answer), _read(gold), worker) or _percent(answer, gold)
    except (Unreadable, OutOfBounds, ValueError):
        return Verdict(False, shown, UNREADABLE)
    return Verdict(correct, shown, EQUAL if correct else DIFFERENT)


def _read(text: str) -> Node:
    r"""Parse an answer, with two spellings that the parser shared with the authors' rule does not know."""
    text = _CHOOSE.sub(r"\\binom{\1}{\2}", text)
    return parse(_INVERSE.sub(r"\\arc\1 ", text))


def final_answer(one: Item) -> str | None:
    """Return the text of the final answer by our rule, None where there is none."""
    return one.text if one.extracted else extract(one.text or "")


def extract(completion: str) -> str | None:
    r"""Return the final answer: after the last marker (a `\boxed{}` there first), else `\boxed{}`, else `####`."""
    after = after_marker(completion)
    if after is not None:
        return last_boxed(after) or first_line(after).split(".\n")[0]
    return last_boxed(completion) or after_hashes(completion)


def gold_answer(gold: str) -> str:
    r"""Return the last `\boxed{}` of a solution, or the final answer after `The answer is`, or the text itself."""
    return last_boxed(gold) or extract(gold) or gold


def _as_formula(text: str | None) -> str | None:
    """Put dollar signs around an answer that has no delimiters: math-verify looks for formulas between them."""
    if text is None or not text.strip() or re.search(r"(?<!\\)\$|\\[(\[]|\\boxed", text):
        return text
    return f"${text.strip().strip('*').strip().removesuffix('.')}$"


def _unwrapped(text: str) -> str:
    r"""Return the formula of `$x = 5$ because ...` or `\boxed{x = 5}`; text with several formulas keeps them all."""
    text = (last_boxed(text) or text).strip().strip("*").strip()
    spans = list(_MATH_SPAN.finditer(text))
    if len(spans) == 1 and not any(letter.isdigit() for letter in text[: spans[0].start()]):
        rest = text[spans[0].end() :]
        if not rest or rest[0] in " .,;:":
            return next(group for group in spans[0].groups() if group is not None)
    return text


def _squeezed(text: str) -> str:
    r"""Return the text without spaces and without the frames of `\\text{:}`."""
    return "".join(_FRAME.sub(r"\1", clean(text)).split())


def _same_words(answer: str, gold: str) -> bool:
    r"""`\text{East}` and `east`, `(B)` and B; not for formulas, where signs and brackets carry meaning."""
    words = [_WORD_COMMAND.sub("", clean(text)) for text in (answer, gold)]
    if not all(re.fullmatch(r"[\s{}().,'A-Za-z-]+", text) for text in words):
        return False
    left, right = (plain_words(text) for text in words)
    framed = any(frame in text for frame in ("\\text", "\\mbox") for text in (answer, gold))
    is_word = framed or len(right) > 3  # fewer letters without a frame are a product of variables
    return is_word and left == right


def _percent(answer: str, gold: str) -> bool:
    """`50%` is 50 (what percent?) and also 1/2: accept either where just one side has the sign."""
    if ("%" in answer) == ("%" in gold):
        return False
    values: list[Fraction | None] = [exact_value(parse(text)) for text in (answer, gold)]
    if None in values:
        return False
    return values[0] / 100 == values[1] if "%" in answer else values[0] == values[1] / 100
