r"""GSM-8K: grade-school word problems whose answer is one number (Cobbe et al. 2021, arXiv 2110.14168).

Rule `authors` gives the released code's verdicts (README, difference 8): the number after the last `The answer is: `,
rounded to an integer, against the number after `####`. Rule `ours` compares exact fractions and never rounds.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from sorsa.errors import UsageError
from sorsa.evaluation.benchmark import DIFFERENT, EQUAL, NO_ANSWER, UNREADABLE, Item, Question, Verdict
from sorsa.evaluation.exact import MAX_DIGITS, OutOfBounds, decimal
from sorsa.evaluation.extraction import after_authors_marker, after_hashes, after_marker, first_line, last_boxed
from sorsa.evaluation.opinions import opinions
from sorsa.evaluation.questions import answer_text, first_rows, hub_rows, require_text
from sorsa.evaluation.stopping import answer_line

if TYPE_CHECKING:
    from sorsa.config import RunConfig

HUB_ID = "openai/gsm8k"
MAX_NEW_TOKENS = 1024
RUNS_CODE = False
complete = answer_line

# The authors' pattern: one separator at most, so `1,234,567` reads as 1234. Kept, since their scores contain it.
_AUTHORS_NUMBER = re.compile(r"[\-+]?\d*[\.,/]?\d+")
_AUTHORS_GOLD = re.compile(r"#### (\-?[0-9\.\,]+)")

_WHOLE = r"(?:\d{1,3}(?:,\d{3})+(?![\d])|\d{1,3}(?: \d{3})+(?![\d])|\d+)"
_DECIMAL = rf"(?:{_WHOLE}(?:\.\d+)?|\.\d+)"
_NUMBER = re.compile(
    rf"(?P<sign>(?<![\w)}}])[-+]\s?)?(?:(?P<mixed>\d+)(?:\s+|\s*(?:and|&)\s+))?(?P<over>{_DECIMAL})\s*/\s*(?P<under>{_DECIMAL})"
    rf"|(?P<sign2>(?<![\w)}}])[-+]\s?)?(?P<number>{_DECIMAL})"
    r"(?:[eE](?P<exp>[-+]?\d+)(?!\w)|\s*(?:\\times|\\cdot|[×x*])\s*10\s*(?:\^|\*\*)\s*\{?(?P<exp10>[-+]?\d+)\}?)?"
)
# After the number: an operator with an operand means an expression never worked out; `1,5`, `2:30` and `3 or 4` do not
# say one number, and neither does any further number (_SAYS_MORE cuts what may hold one).
_UNFINISHED = re.compile(
    r"\s*(?:\*\*|[-+*/^×÷]|\\times|\\cdot|\\div|x\s)\s*[\d(\\]|[.,:]\d|\s*\^|\s*[-+*^]\s*[b-hj-z]\b|\s*\\(?:pi|sqrt|frac)"
    r"|\s+and\s+(?:a|one|two|three)\s+(?:half|third|quarter|fourth|fifth|tenth)"
    r"|[abnp-z](?![a-z])|\s+[nxyz](?![a-z])|\s*\(\s*-?[\d.,]+\s*\)"
    r"|\s*(?:dozens?|hundreds?|squared|cubed|plus|minus|divided|multiplied|half|halves|thirds|quarters)\b",
    re.IGNORECASE,
)
_UNREAD = re.compile(  # before it
    r"\\(?:[dtc]?frac|sqrt|[dt]?binom|log|ln|sin|cos|tan)(?![a-z])|\bsqrt\b|\b[a-z]\s*[-+*/^]\s*$"
    r"|\b(?:half|third|quarter|twice|thrice|double|triple)\b(?:\s+(?:of|the|as))*\W*$"
    r"|(?:[<>\u2264\u2265]|\\[lg](?:eq?|t)|\b(?:more|less|fewer|greater)\s+than|\bat\s+(?:least|most)|\bup\s+to)\s*$",
    re.IGNORECASE,
)
_ONE_LETTER = re.compile(r"(?<![a-zA-Z])[a-zA-Z]\s*$")  # `x - 18`: the sign is an operator
# Words after which other numbers may stand: `18 apples in 3 bags`, `18 dollars for 3 days`
_SAYS_MORE = re.compile(
    r"[.!?](?=\s|$)|\n|\s\(|\s(?:in|for|per|each|every|after|at|when|if|as|from|during|on)\b", re.IGNORECASE
)
_REASON = re.compile(r"(?<=\w)\W{0,3}\s(?:because|since|which|where|who)\b", re.IGNORECASE)
_SIDES = re.compile(r"=|\u2248|\bis\b|\bequals\b")
_REJECTED = re.compile(r"\b(?:is|are)\s+(?:not|wrong|incorrect|false)\b|\bisn't\b", re.IGNORECASE)
_UNSOLVED = re.compile(r"\d\s*[nxyz]\s*$")  # before `=` in `2x = 18`
_CONVERSION = re.compile(r"\s*\d[\d.,/]*\s+[a-zA-Z]{2,}\s*")  # each side of `90 minutes = 1.5 hours`
_DIGIT = re.compile(r"\d")
_OTHER_NAME = re.compile(r"(?:[,;&]|\bor\b|\band\b)[\s$]*[a-zA-Z]\s*$")  # before `=` in `x = 18 or x = 3`
_PERCENT = re.compile(r"\s*(?:\\?%|percent\b)", re.IGNORECASE)
_SCALES = {"k": 10**3, "thousand": 10**3, "m": 10**6, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_SCALE = re.compile(r"(k|(?-i:M))\b|\s*(thousand|million|billion|trillion)\b", re.IGNORECASE)
_FRACTION = re.compile(r"\\[dtc]?frac\s*(?:\{\s*([-\d.,][-\d.,\s]*)\}|(\d))\s*(?:\{\s*([\d.,][\d.,\s]*)\}|(\d))")
_REWRITES = [
    (
        re.compile(r"\{,\}|,?\\[!,]|\\ |[\u00a0\u2009\u202f]"),
        lambda m: "," if "," in m[0][:2] and m[0] != "\\," else "",
    ),
    (re.compile(r"\^\s*(?:\{\s*)?\\circ\s*\}?|\u00b0"), " degrees "),
    (re.compile("\u00bd"), " 1/2 "),
    (re.compile(r"[\u2212\u2012\u2013]"), "-"),
    (re.compile(r"\\(?:text|mbox|mathrm|textbf|mathbf|boxed|left|right)(?![a-zA-Z])"), ""),
    (re.compile(r"\\?\$|[\u20ac\u00a3\u00a5]"), ""),
    (_FRACTION, lambda m: f" {m[1] or m[2]}/{m[3] or m[4]}"),
    (re.compile(r"[{}]"), " "),
]


def load(config: RunConfig) -> list[Question]:
    """Return the test questions, from the hub or from `config.test_file` (columns question and answer).

    Raises:
        UsageError: The file or the hub cannot be read, or a row lacks a column.
    """
    from sorsa.data.prompts import math_test_prompt

    questions: list[Question] = []
    for where, row in first_rows(config, hub_rows(config, HUB_ID, "main")):
        question, answer = require_text(row, "question", where), require_text(row, "answer", where)
        questions.append(Question(str(len(questions)), math_test_prompt(question), answer))
    return questions


def item(row: dict[str, Any]) -> Item:
    """Return the answer in a row `{completion or prediction, gold}` of a completions file.

    Raises:
        UsageError: A column is missing, or the gold answer holds no number.
    """
    text, gold, extracted = answer_text(row)
    if gold is None or number_in(gold_answer(gold))[0] is None:
        raise UsageError(
            f"the gold answer {str(gold)[:60]!r} holds no number; give the final number or a `#### N` text"
        )
    return Item(text, gold, extracted)


def grade_all(items: Iterable[Item]) -> Iterator[dict[str, Verdict]]:
    """Yield the verdicts of both rules, and the opinions there are, for each item in order."""
    with opinions() as others:
        for one in items:
            opinion = others.of(final_answer(one), f"${gold_answer(one.gold).strip()}$")
            yield {"ours": grade_ours(one), "authors": grade_authors(one), **opinion}


def grade_authors(one: Item) -> Verdict:
    """Grade as the authors' release does: the prediction is rounded to an integer, the gold answer is not."""
    text = one.text if one.extracted else after_authors_marker(one.text or "")
    if text is None:
        return Verdict(False, None, NO_ANSWER)
    value = _authors_number(text)
    if value is None:
        return Verdict(False, text.strip()[:200], UNREADABLE)
    match = _AUTHORS_GOLD.search(one.gold)
    gold = match[1] if match else gold_answer(one.gold)
    try:
        correct = float(gold.strip().lstrip("$").rstrip(".").replace(",", "")) == float(value)
    except (ValueError, OverflowError):
        correct = False
    return Verdict(correct, str(value)[:200], EQUAL if correct else DIFFERENT)


def _authors_number(text: str) -> int | None:
    match = _AUTHORS_NUMBER.search(text.strip())
    if not match or len(match.group()) > MAX_DIGITS:
        return None
    number = match.group().replace(",", "")
    try:
        if "/" not in number:
            return round(float(number))
        over, under = number.split("/")
        return round(float(over)) if under == "0" else round(float(Fraction(number)))
    except (
        ValueError,
        OverflowError,
        ZeroDivisionError,
    ):  # their run would stop here; an answer without value is wrong
        return None


def grade_ours(one: Item) -> Verdict:
    """Grade by exact comparison: no rounding, no tolerance; a percent sign may or may not mean a hundredth."""
    text = final_answer(one)
    if text is None or not text.strip():
        return Verdict(False, None, NO_ANSWER)
    shown, gold_text = text.strip()[:200], gold_answer(one.gold)
    if text.strip() == gold_text.strip():
        return Verdict(True, shown, EQUAL)
    value, percent = number_in(text)
    if value is None:
        return Verdict(False, shown, UNREADABLE)
    gold, gold_percent = number_in(gold_text)
    correct = value == gold
    if not correct and gold is not None and percent != gold_percent:  # `50%` is both 50 (percent) and 0.5
        correct = value / 100 == gold if percent else value == gold / 100
    sides = text.split("=")
    if not correct and len(sides) > 1 and all(_CONVERSION.fullmatch(side) for side in sides):
        correct = gold in [number_in(side)[0] for side in sides]  # one quantity in two units, either of them asked for
    return Verdict(correct, shown, EQUAL if correct else DIFFERENT)


def final_answer(one: Item) -> str | None:
    """Return the text of the final answer by our rule, None where there is none."""
    return one.text if one.extracted else extract(one.text or "")


def extract(completion: str) -> str | None:
    r"""Return the text of the final answer: after the last marker, else `####`, else `\boxed{}`, else None.

    A `\boxed{}` behind the marker or the `####` comes first; a `####` without a number is a heading.
    """
    after = after_marker(completion)
    if after is not None:
        return last_boxed(after) or first_line(after)
    line = after_hashes(completion)
    if line is None:
        return last_boxed(completion)
    if boxed := last_boxed(completion.rpartition("####")[2]):
        return boxed
    return line if number_in(line)[0] is not None else last_boxed(completion) or line


def gold_answer(gold: str) -> str:
    """Return the final answer in a gold text: after `####`, or by the extraction rules, else the text itself."""
    return after_hashes(gold) or extract(gold) or gold


def number_in(text: str) -> tuple[Fraction | None, bool]:
    """Return the number that a short answer states, exactly, and whether a percent sign follows it.

    Args:
        text: Such as `18`, `$1,234.50`, `2 1/2 hours`, `3 x 6 = 18`, `\\frac{3}{4}`, `1.5e3`.

    Returns:
        (None, False) where it states no number, an expression not worked out, or a number beyond all bounds.
    """
    text = text[: 2 * MAX_DIGITS].strip().strip("*_ ")
    for pattern, replacement in _REWRITES:
        text = pattern.sub(replacement, text)
    sides = _SIDES.split(_REASON.split(text, maxsplit=1)[0])
    if _REJECTED.search(text) or any(_UNSOLVED.search(side) for side in sides[:-1]):
        return None, False
    if any((name := _OTHER_NAME.search(side)) and _DIGIT.search(side, 0, name.start()) for side in sides[:-1]):
        return None, False
    # `3 x 6 = 18`, and `18 = 3 x 6`: the last side that is worked out
    return next((found for side in reversed(sides) if (found := _side(side))[0] is not None), (None, False))


def _side(text: str) -> tuple[Fraction | None, bool]:
    """Return the one number in a text without sign of equality, and whether a percent sign follows it."""
    match = _NUMBER.search(text)
    if not match:
        return None, False
    before, rest = text[: match.start()], text[match.end() :]
    signed = match["sign"] or match["sign2"]
    if _UNFINISHED.match(rest) or _UNREAD.search(before) or (signed and _ONE_LETTER.search(before)):
        return None, False
    if _DIGIT.search(_SAYS_MORE.split(rest, maxsplit=1)[0]):
        return None, False
    try:
        value = _value(match)
    except (OutOfBounds, ValueError, ZeroDivisionError):
        return None, False
    if scale := _SCALE.match(rest):
        value *= _SCALES[scale[scale.lastindex].lower()]
    return value, bool(_PERCENT.match(rest))


def _value(match: re.Match[str]) -> Fraction:
    def plain(name: str) -> Fraction:
        return decimal(match[name].replace(",", "").replace(" ", ""))

    if match["over"]:
        value = plain("over") / plain("under") + (plain("mixed") if match["mixed"] else 0)
    else:
        value = plain("number") * decimal("1e" + (match["exp"] or match["exp10"] or "0"))
    return -value if "-" in (match["sign"] or match["sign2"] or "") else value
