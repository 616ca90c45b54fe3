"""Pre-training text: single steps only, right sums, and nothing of the answer format (sorsa/demo/corpus.py)."""

from __future__ import annotations

import itertools
import random
import re
from pathlib import Path

import pytest

from sorsa.data.prompts import math_train_prompt
from sorsa.demo import build
from sorsa.demo.corpus import FIRST_PHASE, KINDS, RECALL_PHASE, SECOND_PHASE, STORIES, documents, draw_operands
from sorsa.demo.pretrain import DOCUMENT_MARK, HELD_OUT_CHARACTERS, Recipe

EQUATION = re.compile(r"(\d+) ([-+*/]) (\d+) = (\d+)")


@pytest.mark.parametrize("mixture", [FIRST_PHASE, SECOND_PHASE, RECALL_PHASE])
def test_documents_hold_right_equations_and_never_the_answer_format(mixture: dict[str, int]) -> None:
    equations = 0
    for text in itertools.islice(documents(mixture, 5), 1500):
        assert "The answer is" not in text and "####" not in text
        for left, sign, right, result in EQUATION.findall(text):
            expected = {"+": "+", "-": "-", "*": "*", "/": "//"}[sign]
            assert eval(f"{left} {expected} {right}") == int(result), text
            equations += 1
    assert equations > 1000


def test_an_instruction_row_has_at_most_one_step() -> None:
    rng = random.Random(0)
    texts = [KINDS["instructions"](rng) for _ in range(400)]
    assert all(len(EQUATION.findall(text)) <= 1 for text in texts)
    assert all(text.startswith(math_train_prompt("").split("### Instruction")[0]) for text in texts)


def test_the_two_stories_of_a_document_are_unrelated() -> None:
    for text in (KINDS["worked"](random.Random(seed)) for seed in range(200)):
        first, second = (EQUATION.search(line) for line in text.split("\n"))
        assert first is not None and second is not None
        assert len(EQUATION.findall(text)) == 2


@pytest.mark.parametrize("sign", list("+-*/"))
def test_operands_are_whole_and_in_range(sign: str) -> None:
    rng = random.Random(1)
    for _ in range(500):
        left, right, result = draw_operands(sign, rng)
        assert min(left, right, result) >= 1 and max(left, right, result) <= 150


def test_every_operation_has_stories_and_every_worked_sentence_an_equation() -> None:
    assert {story.sign for story in STORIES} == set("+-*/")
    assert all(story.worked.count("{eq}") == 1 for story in STORIES)


def test_held_out_text_is_small_and_was_never_trained_on() -> None:
    path = Path(build.__file__).parent / "data" / "heldout.txt"
    assert 0.9 * HELD_OUT_CHARACTERS < path.stat().st_size <= 200_000
    recipe = Recipe()
    assert build.HELD_OUT_SEED not in (recipe.seed, recipe.seed + 1, recipe.seed + 2)
    held_out = {text for text in path.read_text(encoding="utf-8").split(DOCUMENT_MARK) if text.count(" = ") >= 10}
    trained = set(itertools.islice(documents(SECOND_PHASE, recipe.seed + 1), 3000))
    assert held_out and not held_out & trained
