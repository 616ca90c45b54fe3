"""Pre-training text of the demo's base model: arithmetic and single-step language, nothing of the test.

Five kinds of document: arithmetic facts, one-step stories with the bare answer, the same stories with one worked
sentence, plain sentences, and rows in the instruction prompt of fine-tuning. No document chains two
steps and none says "The answer is", so both are left for fine-tuning to teach.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from sorsa.data.prompts import MATH_TEST_CUE, math_train_prompt
from sorsa.demo.arithmetic import LARGEST, equation, evaluate
from sorsa.demo.words import ITEMS, PEOPLE, draw_words

FACTS_PER_DOCUMENT = 10  # about 80 tokens: long enough to pack well
# Subtraction was the weakest operation of a first study (60% of fresh facts against 91% for addition).
SIGN_WEIGHTS = {"+": 26, "-": 38, "*": 14, "/": 22}
LARGEST_FACTOR = 12  # right operand of * and /: the multiplication table
CUE_SHARE = 0.3  # of the instruction rows with a worked sentence, so that the test cue is not a foreign string

# Weight of each kind of document, by phase of pre-training: first number sense, then the habit of
# writing a step out as an equation.
FIRST_PHASE = {"facts": 45, "stories": 30, "worked": 5, "sentences": 12, "instructions": 8}
SECOND_PHASE = {"facts": 35, "stories": 8, "worked": 42, "sentences": 4, "instructions": 11}
# For the RWKV6 only: after the other two it knew all facts, but not yet which numbers the text before had given.
RECALL_PHASE = {"facts": 10, "stories": 5, "worked": 60, "sentences": 0, "instructions": 25}


@dataclass(frozen=True)
class Story:
    """One step in words: `told`, then either `asked` and the bare result, or one `worked` sentence."""

    sign: str
    told: str
    asked: str
    worked: str


STORIES = (
    Story("+", "{name} has {a} {items} and gets {b} more.", "How many does {he} have?", "Now {he} has {eq} {items}."),
    Story("+", "There are {a} red and {b} blue {items}.", "How many are there?", "There are {eq} {items}."),
    Story(
        "+",
        "{name} has {a} {items}. {other} has {b} more than {name}.",
        "How many does {other} have?",
        "{other} has {eq} {items}.",
    ),
    Story(
        "+",
        "{name} has {a} {items} and {other} has {b}.",
        "How many do they have together?",
        "Together they have {eq} {items}.",
    ),
    Story(
        "+",
        "A shop has {a} {items} and {b} new ones come in.",
        "How many are in the shop now?",
        "Now there are {eq} {items}.",
    ),
    Story(
        "+",
        "On Monday {name} reads {a} pages. On Tuesday {he} reads {b} more than that.",
        "How many pages is that on Tuesday?",
        "On Tuesday {he} reads {eq} pages.",
    ),
    Story("-", "{name} has {a} {items} and loses {b}.", "How many are left?", "{He} has {eq} {items} left."),
    Story(
        "-",
        "{name} has {a} {items}. {other} has {b} fewer than {name}.",
        "How many does {other} have?",
        "{other} has {eq} {items}.",
    ),
    Story("-", "{name} has {a} dollars and pays {b}.", "How many dollars are left?", "{He} has {eq} dollars left."),
    Story("-", "There are {a} {items} in a shop. {b} are sold.", "How many are left?", "There are {eq} {items} left."),
    Story(
        "-",
        "{name} wants {a} {items} and has {b}.",
        "How many does {he} still need?",
        "{He} still needs {eq} {items}.",
    ),
    Story("-", "{a} people are on a bus. {b} get off.", "How many people stay?", "{eq} people stay."),
    Story("*", "{name} buys {a} bags of {b} {items}.", "How many {items} is that?", "The bags hold {eq} {items}."),
    Story("*", "{name} buys {a} {items} for {b} dollars each.", "How much is that?", "{name} pays {eq} dollars."),
    Story(
        "*",
        "{name} has {a} {items}. {other} has {b} times as many.",
        "How many does {other} have?",
        "{other} has {eq} {items}.",
    ),
    Story(
        "*",
        "{name} earns {a} dollars an hour and works {b} hours.",
        "How many dollars is that?",
        "{He} earns {eq} dollars.",
    ),
    Story(
        "/", "{a} {items} are put equally into {b} boxes.", "How many are in each box?", "Each box has {eq} {items}."
    ),
    Story("/", "{name} shares {a} {items} equally among {b} friends.", "How many each?", "Each friend gets {eq}."),
    Story("/", "{a} {items} stand in {b} equal rows.", "How many are in one row?", "One row has {eq} {items}."),
)

PLACES = ("house", "school", "garden", "river", "shop", "farm", "train", "park")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
SENTENCES = (
    "{name} likes {items}, but {other} does not.",
    "On {day} {name} goes to the {place} with {other}.",
    "There are {items} in the {place} near the {place2}.",
    "{name} wants to buy {items} in the morning and sell them in the evening.",
    "{other} asks: where are the {items}? {name} says: in the {place}.",
    "The three friends {name}, {other} and {third} work at the {place} on {day}.",
    "After the rain {he} puts the {items} in a big box, then {he} reads a book.",
    "How many {items} does {name} need? {He} does not know.",
)
# (instruction, response) without arithmetic.
CHORES = (
    ("Say the name of a friend of {name}.", "{other} is a friend of {name}."),
    ("Where does {name} go on {day}?", "On {day} {name} goes to the {place}."),
    ("Write the word {items} in capital letters.", "{ITEMS}"),
    ("{name} has {items} and {other} has none. Who has {items}?", "{name} has {items}."),
    ("Write a sentence about the {place}.", "The {place} is near the {place2}."),
    ("Say the day {day} and the name {name}.", "{day}, {name}."),
)


def draw_operands(sign: str, rng: random.Random) -> tuple[int, int, int]:
    """Draw `left, right, result`, all in 1..150, for one operation.

    Args:
        sign: One of `+ - * /`.
        rng: Source of randomness.
    """
    while True:
        if sign == "+":
            left, right = rng.randint(1, LARGEST), rng.randint(1, LARGEST)
        elif sign == "-":
            left = rng.randint(2, LARGEST)
            right = rng.randint(1, left - 1)
        elif sign == "*":
            left, right = rng.randint(1, LARGEST), rng.randint(2, LARGEST_FACTOR)
        else:
            right = rng.randint(2, LARGEST_FACTOR)
            left = right * rng.randint(1, LARGEST // right)
        result = evaluate(left, sign, right)
        if result is not None:
            if sign == "*" and rng.random() < 0.5:  # both orders of the table
                left, right = right, left
            return left, right, result


def draw_sign(rng: random.Random) -> str:
    """Draw an operation by its weight."""
    return rng.choices(list(SIGN_WEIGHTS), weights=list(SIGN_WEIGHTS.values()))[0]


def facts(rng: random.Random) -> str:
    """Return a line of plain equations."""
    lines = []
    for _ in range(FACTS_PER_DOCUMENT):
        sign = draw_sign(rng)
        left, right, result = draw_operands(sign, rng)
        lines.append(equation(left, sign, right, result))
    return "\n".join(lines)


def tell(rng: random.Random) -> tuple[str, str, str, int]:
    """Draw a one-step story; return its telling, question, worked sentence and bare result."""
    sign = draw_sign(rng)
    story = rng.choice([story for story in STORIES if story.sign == sign])
    left, right, result = draw_operands(sign, rng)
    values = {**draw_words(rng), "a": left, "b": right, "eq": equation(left, sign, right, result)}
    told, asked, worked = (text.format(**values) for text in (story.told, story.asked, story.worked))
    return told, asked, worked, result


def stories(rng: random.Random) -> str:
    """Return two one-step stories, each followed by its question and the bare result."""
    parts = []
    for _ in range(2):
        told, asked, _, result = tell(rng)
        parts.append(f"{told} {asked} {result}")
    return "\n".join(parts)


def worked(rng: random.Random) -> str:
    """Return two unrelated one-step stories, each with its worked sentence."""
    parts = []
    for _ in range(2):
        told, asked, sentence, _ = tell(rng)
        parts.append(f"{told} {asked} {sentence}" if rng.random() < 0.5 else f"{told} {sentence}")
    return "\n".join(parts)


def plain_words(rng: random.Random) -> dict[str, str]:
    """Draw the words of a text without numbers."""
    place, place2 = rng.sample(PLACES, 2)
    values = draw_words(rng)
    return {**values, "ITEMS": values["items"].upper(), "day": rng.choice(DAYS), "place": place, "place2": place2}


def sentences(rng: random.Random) -> str:
    """Return three sentences without numbers."""
    return " ".join(rng.choice(SENTENCES).format(**plain_words(rng)) for _ in range(3))


def instructions(rng: random.Random) -> str:
    """Return one row in the instruction prompt: a chore without arithmetic, or a single worked step."""
    if rng.random() < 0.5:
        values = plain_words(rng)
        query, response = (text.format(**values) for text in rng.choice(CHORES))
        return math_train_prompt(query) + response
    told, asked, sentence, _ = tell(rng)
    cue = MATH_TEST_CUE + "\n" if rng.random() < CUE_SHARE else ""
    return math_train_prompt(f"{told} {asked}") + cue + sentence


KINDS: dict[str, Callable[[random.Random], str]] = {
    "facts": facts,
    "stories": stories,
    "worked": worked,
    "sentences": sentences,
    "instructions": instructions,
}


def documents(mixture: dict[str, int], seed: int) -> Iterator[str]:
    """Yield documents for ever.

    Args:
        mixture: Weight of each kind, by its name in KINDS.
        seed: Seed of the one random generator used.
    """
    rng = random.Random(seed)
    names, weights = list(mixture), list(mixture.values())
    while True:
        yield KINDS[rng.choices(names, weights=weights)[0]](rng)


def vocabulary_text() -> str:
    """Return every name and thing once, so that the tokenizer sees all of them."""
    return " ".join([*(name for name, _ in PEOPLE), *ITEMS, *PLACES, *DAYS])
