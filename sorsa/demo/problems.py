"""Multi-step word problems for fine-tuning and testing: 8 families, 2 phrasings each, 2 to 4 steps.

A family fixes the calculation, a phrasing the words. Rows come in the shape of the data sets of the paper
(section 6.2): training rows as MetaMathQA has them, validation and test rows as GSM-8K has them. No two rows of
any split share family and numbers, whatever their words, so the test cannot be answered by recall.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from sorsa.data.prompts import MATH_TEST_CUE
from sorsa.demo.arithmetic import equation, evaluate
from sorsa.demo.words import draw_words

# The authors' test prompt ends in a cue that training prompts lack (README, "Where paper and code differ"). A large
# model does not mind; this one, trained without it, takes the first step for done and starts with the second.
OPENING = MATH_TEST_CUE.strip() + "\n"


@dataclass(frozen=True)
class Phrasing:
    """One wording of a family: the question, and one sentence per step with `{eq}` for its equation."""

    question: str
    sentences: tuple[str, ...]


@dataclass(frozen=True)
class Family:
    """One kind of calculation.

    Attributes:
        name: Short name, part of the `type` column.
        ranges: Inclusive range of each number in the question, by letter.
        steps: `(result letter, left letter, sign, right letter)`; the last result is the answer.
        phrasings: Its wordings.
    """

    name: str
    ranges: dict[str, tuple[int, int]]
    steps: tuple[tuple[str, str, str, str], ...]
    phrasings: tuple[Phrasing, ...]


@dataclass(frozen=True)
class Problem:
    """One word problem with its worked solution.

    Attributes:
        family: Name of its family.
        phrasing: Index of its wording in the family.
        numbers: The numbers of the question, in the order of the family's letters.
        question: The text of the question.
        solution: One sentence with an equation per line.
        answer: The final number, 1..150.
    """

    family: str
    phrasing: int
    numbers: tuple[int, ...]
    question: str
    solution: str
    answer: int

    def training_row(self) -> dict[str, str]:
        """Return the row in MetaMathQA's columns; the response ends as MetaMathQA's GSM rows do."""
        response = f"{OPENING}{self.solution}\n#### {self.answer}\nThe answer is: {self.answer}"
        return {"query": self.question, "response": response, "type": f"{self.family}-{self.phrasing}"}

    def test_row(self) -> dict[str, str]:
        """Return the row in GSM-8K's columns."""
        return {"question": self.question, "answer": f"{self.solution}\n#### {self.answer}"}


FAMILIES = (
    Family(
        "change",
        {"a": (40, 150), "b": (2, 12), "c": (2, 12)},
        (("x", "b", "*", "c"), ("y", "a", "-", "x")),
        (
            Phrasing(
                "{name} has {a} dollars. {He} buys {b} {items} for {c} dollars each. How many dollars are left?",
                ("{name} pays {eq} dollars.", "{He} has {eq} dollars left."),
            ),
            Phrasing(
                "There are {a} {items} in a shop. {b} people buy {c} {items} each. How many {items} are still there?",
                ("The people buy {eq} {items}.", "There are {eq} {items} still there."),
            ),
        ),
    ),
    Family(
        "bags",
        {"b": (2, 12), "c": (2, 12), "d": (2, 60), "e": (2, 60)},
        (("x", "b", "*", "c"), ("y", "x", "-", "d"), ("z", "y", "+", "e")),
        (
            Phrasing(
                "{name} buys {b} bags of {c} {items}. {He} gives {d} to {other} and then finds {e} more. "
                "How many {items} does {name} have now?",
                ("The bags hold {eq} {items}.", "After the gift {he} has {eq}.", "Now {he} has {eq} {items}."),
            ),
            Phrasing(
                "A shop has {b} shelves with {c} {items} each. {d} are sold and {e} new ones come in. "
                "How many {items} are in the shop?",
                ("At first there are {eq} {items}.", "After the sale there are {eq}.", "Now there are {eq} {items}."),
            ),
        ),
    ),
    Family(
        "goal",
        {"n": (60, 150), "a": (5, 50), "b": (2, 40)},
        (("t", "a", "+", "b"), ("s", "a", "+", "t"), ("l", "n", "-", "s")),
        (
            Phrasing(
                "A book has {n} pages. {name} reads {a} pages on Monday and {b} more than that on Tuesday. "
                "How many pages are left to read?",
                ("On Tuesday {name} reads {eq} pages.", "{He} has read {eq} pages.", "There are {eq} pages left."),
            ),
            Phrasing(
                "{name} wants {n} {items}. {He} finds {a} in the morning. In the evening {he} finds {b} more than "
                "in the morning. How many {items} does {he} still need?",
                ("In the evening {he} finds {eq}.", "Now {he} has {eq} {items}.", "{He} still needs {eq} {items}."),
            ),
        ),
    ),
    Family(
        "share",
        {"a": (5, 80), "b": (5, 80), "c": (2, 12), "d": (1, 20)},
        (("s", "a", "+", "b"), ("q", "s", "/", "c"), ("l", "q", "-", "d")),
        (
            Phrasing(
                "{name} has {a} {items} and {other} has {b}. They put all of them equally into {c} boxes. "
                "Then {d} are taken out of one box. How many {items} are left in that box?",
                ("Together they have {eq} {items}.", "Each box gets {eq}.", "That box has {eq} {items} left."),
            ),
            Phrasing(
                "{a} red and {b} blue {items} are shared equally by {c} children. {name} is one of them and "
                "loses {d}. How many {items} does {name} have left?",
                ("There are {eq} {items}.", "Each child gets {eq}.", "{name} has {eq} {items} left."),
            ),
        ),
    ),
    Family(
        "friends",
        {"a": (2, 12), "k": (2, 9), "d": (1, 30)},
        (("y", "a", "*", "k"), ("z", "y", "-", "d"), ("s", "a", "+", "y"), ("t", "s", "+", "z")),
        (
            Phrasing(
                "{name} has {a} {items}. {other} has {k} times as many as {name}. {third} has {d} fewer than {other}. "
                "How many {items} do the three have together?",
                (
                    "{other} has {eq} {items}.",
                    "{third} has {eq} {items}.",
                    "{name} and {other} have {eq}.",
                    "The three have {eq} {items}.",
                ),
            ),
            Phrasing(
                "A small box holds {a} {items}. A big box holds {k} times as many. A red box holds {d} fewer than "
                "the big box. How many {items} are in the three boxes?",
                (
                    "The big box holds {eq}.",
                    "The red box holds {eq}.",
                    "The small and the big box hold {eq}.",
                    "The three boxes hold {eq} {items}.",
                ),
            ),
        ),
    ),
    Family(
        "wages",
        {"a": (2, 12), "w": (2, 12), "b": (2, 12), "s": (2, 60)},
        (("x", "a", "*", "w"), ("y", "b", "*", "w"), ("z", "x", "+", "y"), ("l", "z", "-", "s")),
        (
            Phrasing(
                "{name} earns {w} dollars an hour. {He} works {a} hours on Monday and {b} hours on Tuesday and then "
                "spends {s} dollars. How many dollars are left?",
                (
                    "On Monday {he} earns {eq} dollars.",
                    "On Tuesday {he} earns {eq} dollars.",
                    "Together that is {eq} dollars.",
                    "{He} has {eq} dollars left.",
                ),
            ),
            Phrasing(
                "One bag holds {w} {items}. {name} fills {a} bags and {other} fills {b} bags. They sell {s} {items}. "
                "How many {items} do they still have?",
                (
                    "{name} has {eq} {items}.",
                    "{other} has {eq} {items}.",
                    "Together they have {eq}.",
                    "They still have {eq} {items}.",
                ),
            ),
        ),
    ),
    Family(
        "boxes",
        {"n": (10, 150), "k": (2, 12), "c": (2, 60)},
        (("q", "n", "/", "k"), ("r", "n", "-", "q"), ("t", "r", "+", "c")),
        (
            Phrasing(
                "{name} puts {n} {items} equally into {k} boxes. {He} gives one box to {other} and then buys {c} more "
                "{items}. How many {items} does {name} have now?",
                ("Each box has {eq} {items}.", "{He} keeps {eq} {items}.", "Now {he} has {eq} {items}."),
            ),
            Phrasing(
                "A farm has {n} {items} in {k} equal rows. One row is sold. Then {c} more {items} come in. "
                "How many {items} are on the farm?",
                ("One row has {eq} {items}.", "After the sale there are {eq}.", "Now there are {eq} {items}."),
            ),
        ),
    ),
    Family(
        "train",
        {"a": (20, 150), "b": (2, 80), "c": (2, 80), "k": (2, 12)},
        (("x", "a", "-", "b"), ("y", "x", "+", "c"), ("q", "y", "/", "k")),
        (
            Phrasing(
                "{a} people are on a train. {b} get off and {c} get on. They sit equally in {k} cars. "
                "How many people are in each car?",
                ("After the stop {eq} people stay.", "Then there are {eq} people.", "Each car has {eq} people."),
            ),
            Phrasing(
                "{name} has {a} {items}. {He} loses {b} and then finds {c}. {He} shares all {items} equally among "
                "{k} friends. How many {items} does each friend get?",
                ("After the loss {he} has {eq}.", "Then {he} has {eq} {items}.", "Each friend gets {eq} {items}."),
            ),
        ),
    ),
)


def draw_problem(family: Family, phrasing: int, rng: random.Random) -> Problem:
    """Draw numbers until every step is a whole number in 1..150, then write the problem.

    Args:
        family: The calculation.
        phrasing: Index of the wording.
        rng: Source of randomness.
    """
    while True:
        values = {letter: rng.randint(low, high) for letter, (low, high) in family.ranges.items()}
        numbers = tuple(values.values())
        equations = []
        for result, left, sign, right in family.steps:
            value = evaluate(values[left], sign, values[right])
            if value is None:
                break
            values[result] = value
            equations.append(equation(values[left], sign, values[right], value))
        else:
            break
    words = draw_words(rng)
    sentences = family.phrasings[phrasing].sentences
    lines = [sentence.format(eq=eq, **words) for sentence, eq in zip(sentences, equations, strict=True)]
    question = family.phrasings[phrasing].question.format(**words, **values)
    answer = values[family.steps[-1][0]]
    return Problem(family.name, phrasing, numbers, question, "\n".join(lines), answer)


def make_splits(sizes: dict[str, int], seed: int) -> dict[str, list[Problem]]:
    """Make disjoint splits: no two problems, in one split or in two, share family and numbers.

    Args:
        sizes: Number of problems per split; families and phrasings take turns, so each split is balanced.
        seed: Seed of the one random generator used; the same seed gives the same problems.
    """
    rng = random.Random(seed)
    seen: set[tuple[str, tuple[int, ...]]] = set()
    turns = [(family, phrasing) for family in FAMILIES for phrasing in range(len(family.phrasings))]
    splits: dict[str, list[Problem]] = {}
    for split, size in sizes.items():
        problems: list[Problem] = []
        while len(problems) < size:
            problem = draw_problem(*turns[len(problems) % len(turns)], rng)
            if (problem.family, problem.numbers) not in seen:
                seen.add((problem.family, problem.numbers))
                problems.append(problem)
        rng.shuffle(problems)
        splits[split] = problems
    return splits
