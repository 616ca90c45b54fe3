"""Golden table of the GSM-8K grader: what each of the two rules says about an answer."""

from __future__ import annotations

import time
from fractions import Fraction

import pytest

from sorsa.errors import UsageError
from sorsa.evaluation import gsm8k, opinions
from sorsa.evaluation.benchmark import NO_ANSWER, UNREADABLE, Item


@pytest.fixture(autouse=True)
def rules_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare each test the start of math-verify; test_opinions.py is about it."""
    monkeypatch.setattr(opinions, "installed", lambda: False)


GOLD = "16 - 3 - 4 = <<16-3-4=9>>9 eggs.\n#### 18"

# completion, gold, rule ours, rule authors (README, difference 8: rounds the prediction)
TABLE = [
    ("so 18 eggs.\nThe answer is: 18", GOLD, True, True),
    ("The answer is: 17.8", GOLD, False, True),
    ("The answer is: 17.4", GOLD, False, False),
    ("The answer is: 18.00", GOLD, True, True),
    ("The answer is: $18.", GOLD, True, True),
    ("The answer is: 18 dollars", GOLD, True, True),
    ("The answer is: 5 The answer is: 18", GOLD, True, True),
    ("The answer is: 18 The answer is: 5", GOLD, False, False),
    ("The answer is 18", GOLD, True, False),
    ("eggs\n#### 18", GOLD, True, False),
    ("so it is $\\boxed{18}$.", GOLD, True, False),
    ("The answer is: $\\boxed{18}$", GOLD, True, True),
    ("The answer is: 36/2", GOLD, True, True),
    ("The answer is: \\frac{36}{2}", GOLD, True, False),
    ("The answer is: 1,600,000", "#### 1,600,000", True, False),  # their pattern stops at the second comma
    ("The answer is: 1600000", "#### 1,600,000", True, True),
    ("The answer is: 1,600", "1600", True, True),
    ("The answer is: 18%", GOLD, True, True),
    ("The answer is: 2 1/2 hours", "2.5", True, False),
    ("The answer is: 1.8e1", GOLD, True, False),
    ("The answer is: 1.8 \\times 10^1", GOLD, True, False),
    ("The answer is: 3 x 6 = 18", GOLD, True, False),
    ("The answer is: 3 * 6", GOLD, False, False),
    ("The answer is: 18 or 20", GOLD, False, True),
    ("The answer is: -18", GOLD, False, False),
    ("The answer is: **18**", GOLD, True, True),
    ("The answer is: eighteen", GOLD, False, False),
    ("I do not know", GOLD, False, False),
    ("", GOLD, False, False),
    ("The answer is: 18 apples and 5 oranges", GOLD, False, True),
    ("The answer is: 18 hours 30 minutes", GOLD, False, True),
    ("The answer is: 18 to 20", GOLD, False, True),
    ("The answer is: 18 dollars for 3 days", GOLD, True, True),
    ("The answer is: 18 + x", GOLD, False, True),
    ("The answer is: 18 - a dozen and a half", GOLD, True, True),
    ("The answer is: 18 and a half", GOLD, False, True),
    ("The answer is: x - 18", GOLD, False, True),
    ("The answer is: 18\\pi", GOLD, False, True),
    ("The answer is: \\sqrt{18}", GOLD, False, True),
    ("The answer is: \\frac{18}{x}", GOLD, False, True),
    ("The answer is: \\mathbf{18}", GOLD, True, True),
    ("The answer is: 18k", "18000", True, False),
    ("The answer is: (18)", GOLD, True, True),
    ("so the answer is:\n\\[\n\\boxed{18}\n\\]", GOLD, True, False),
    ("The final answer is:\n\n$$\n18\n$$", GOLD, True, False),
    ("The answer is:\n$\n18\n$\nfor 3 days", GOLD, True, False),
    ("**The answer is:**\n18 eggs", GOLD, True, False),
    ("**The answer is**: 18", GOLD, True, False),
    ("So the answer is the value above.\n\n\\[ \\boxed{18} \\]", GOLD, True, False),
    ("The answer is: 18\n\nThe answer is: ", GOLD, True, False),
    ("The answer is: 18\n\nThe answer is: $", GOLD, True, False),
    ("**Final Answer:**\n\\[\n18\n\\]", GOLD, True, False),
    ("#### Step 1: add\n#### Step 2: done\n$\\boxed{18}$", GOLD, True, False),
    ("$\\boxed{18}$\n#### Done", GOLD, True, False),
    ("The answer is: 18 minutes = 0.3 hours", GOLD, True, True),
    ("The answer is: 0.3 hours = 18 minutes", GOLD, True, False),
    ("The answer is: 18 = 3 * 7 = 21", GOLD, False, True),
    ("The answer is: \\[\n18\nand so on for 3 days", GOLD, True, True),  # cut: the display stays open
]


def test_verdicts() -> None:
    graded = gsm8k.grade_all([Item(completion, gold) for completion, gold, _, _ in TABLE])
    wrong = [
        row for row, one in zip(TABLE, graded, strict=True) if (one["ours"].correct, one["authors"].correct) != row[2:]
    ]
    assert not wrong


def test_prediction_skips_extraction() -> None:
    verdicts = next(gsm8k.grade_all([Item("18", GOLD, extracted=True)]))
    assert verdicts["ours"].correct and verdicts["authors"].correct


def test_reasons() -> None:
    verdicts = list(gsm8k.grade_all([Item(None, GOLD), Item("The answer is: many", GOLD)]))
    assert [v["ours"].reason for v in verdicts] == [NO_ANSWER, UNREADABLE]
    assert [v["authors"].reason for v in verdicts] == [NO_ANSWER, UNREADABLE]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.1", Fraction(1, 10)),
        ("1/3", Fraction(1, 3)),
        ("$1.5 million", 1_500_000),
        ("10,\\!080", 10_080),
        ("80 000", 80_000),
        ("2\\frac12", Fraction(5, 2)),
        ("-$5", -5),
        ("1e999999999", None),
        ("2:30", None),
        ("1/0", None),
        ("9**9**9**9", None),
    ],
)
def test_numbers_are_exact(text: str, value: Fraction | None) -> None:
    assert gsm8k.number_in(text)[0] == value


@pytest.mark.parametrize("row", [{"completion": "x"}, {"gold": "1"}, {"completion": 5.5, "gold": ["1"]}])
def test_bad_row(row: dict) -> None:
    with pytest.raises(UsageError, match=r"gold|completion"):
        gsm8k.item(row)


def test_gold_without_number() -> None:
    with pytest.raises(UsageError, match="holds no number"):
        gsm8k.item({"completion": "The answer is: 1", "gold": "unknown"})


SEVERAL = [
    "18, 20", "18; 19", "(18, 19)", "18 & 19", "18 19", "18 apples, 19 pears", "x = 18 or x = 3", "2 hours, 30 minutes",
    "6 times 3", "6 plus 12", "36 divided by 2", "100 minus 20", "3 out of 4", "10% of 50", "half of 36", "twice 9",
    "18 dozen", "18 hundred", "18x", "18\\sqrt{2}", "18(2)", "x + 18", "18~20", "< 18", "more than 18", "at least 18",
    "$x = 18$, $y = 3$", "18 squared", "18 x", "\\le 18", "18\\frac{1}{x}", "Step 2: 18",
    "18 \\text{ is wrong}", "18 is not right", "18x = 18",
]  # fmt: skip
ONE = [
    ("18 apples in 3 bags", 18), ("18 (eighteen)", 18), ("$18 per hour", 18), ("18 = 9 * 2", 18), ("$18 = 20 - 2$", 18),
    ("90 minutes = 1.5 hours", Fraction(3, 2)), ("20% of 90 is 18", 18), ("18 (= 3*6)", 18), ("18^\\circ", 18),
    ("18^{\\circ}", 18), ("18\u00bd", Fraction(37, 2)), ("$1M", 1_000_000), ("18 (3 bags of 6)", 18), ("18 m", 18),
    ("18, since 9 + 9 = 20", 18), ("18. There are 3 bags.", 18), ("18 is the answer", 18), ("18kg", 18),
    ("18 a day", 18),
    ("18 eggs, which is 3 times as many", 18), ("x is -18", -18), ("\\[ 18 \\]", 18), ("18 times a week", 18),
    ("x = 5 + 13 = 18 apples", 18),
]  # fmt: skip


def test_several_numbers_or_a_formula_state_none() -> None:
    assert not [text for text in SEVERAL if gsm8k.number_in(text)[0] is not None]


def test_one_number_with_words() -> None:
    assert not [(text, gsm8k.number_in(text)) for text, value in ONE if gsm8k.number_in(text)[0] != value]


JUNK = [
    "9" * 1_000_000, "The answer is: " * 60_000, "1," * 200_000, "\\boxed{" * 50_000, "\0", "9**9**9**9", "\ud800" * 9,
    "\\frac{" + " " * 1900 + "1}{" + " " * 2000, "\\frac{" + " " * 999_000, "- " * 500_000, "the " * 250_000,
    "__import__('os').system('true')", "(" * 450, "1e999999999",
]  # fmt: skip


def test_junk_is_wrong_at_once() -> None:
    items = [item for junk in JUNK for item in (Item(junk, GOLD), Item(junk, GOLD, extracted=True), Item("7", junk))]
    begin = time.monotonic() + 10  # the first answer waits for the child process
    for item, one in zip(items, gsm8k.grade_all(items), strict=True):
        assert not (one["ours"].correct or one["authors"].correct), item
        assert time.monotonic() - begin < 5, item.text[:40]
        begin = time.monotonic()
