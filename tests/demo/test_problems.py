"""The demo's word problems: right, disjoint, deterministic (sorsa/demo/problems.py and data/)."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from pathlib import Path

import pytest

from sorsa.demo import build
from sorsa.demo.arithmetic import LARGEST, evaluate
from sorsa.demo.problems import FAMILIES, draw_problem, make_splits
from sorsa.demo.words import ITEMS, PEOPLE

DATA = Path(build.__file__).parent / "data"
EQUATION = re.compile(r"(\d+) ([-+*/]) (\d+) = (\d+)")


def rows_of(split: str) -> list[dict[str, str]]:
    """Return the rows of one shipped file."""
    return [json.loads(line) for line in (DATA / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()]


def calculate(left: int, sign: str, right: int) -> float:
    """Evaluate one step without the code under test."""
    return {"+": left + right, "-": left - right, "*": left * right, "/": left / right}[sign]


def skeleton(question: str) -> tuple[str, tuple[str, ...]]:
    """Return the question with people, things and numbers masked (its family and phrasing), and its numbers."""
    words = "|".join([*(name for name, _ in PEOPLE), *ITEMS])
    masked = re.sub(rf"\b({words}|He|She|he|she)\b", "_", question)
    return re.sub(r"\d+", "#", masked), tuple(re.findall(r"\d+", question))


def test_columns_are_those_of_the_papers_data_sets() -> None:
    assert all(set(row) == {"query", "response", "type"} for row in rows_of("train"))
    for split in ("valid", "test"):
        assert all(set(row) == {"question", "answer"} for row in rows_of(split))


def test_split_sizes_and_balance() -> None:
    for split, size in build.SPLITS.items():
        assert len(rows_of(split)) == size
    kinds = Counter(row["type"] for row in rows_of("train"))
    assert len(FAMILIES) >= 7
    assert len(kinds) == sum(len(family.phrasings) for family in FAMILIES) >= 14
    assert max(kinds.values()) == min(kinds.values())


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_every_step_and_answer_is_arithmetically_right(split: str) -> None:
    for row in rows_of(split):
        question, text = row.get("query") or row["question"], row.get("response") or row["answer"]
        steps = [(int(a), sign, int(b), int(c)) for a, sign, b, c in EQUATION.findall(text)]
        assert 2 <= len(steps) <= 4, text
        known = [int(number) for number in re.findall(r"\d+", question)]
        for left, sign, right, result in steps:
            assert calculate(left, sign, right) == result, text
            assert 1 <= result <= LARGEST
            assert left in known and right in known, f"a number out of nowhere: {text}"
            known.append(result)
        ending = f"\n#### {steps[-1][3]}" + ("" if split != "train" else f"\nThe answer is: {steps[-1][3]}")
        assert text.endswith(ending)
        assert text.startswith("Let's think step by step.\n") == (split == "train")


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_a_solution_uses_every_number_of_its_question(split: str) -> None:
    for row in rows_of(split):
        question, text = row.get("query") or row["question"], row.get("response") or row["answer"]
        operands = {number for left, _, right, _ in EQUATION.findall(text) for number in (left, right)}
        assert set(re.findall(r"\d+", question)) <= operands, (question, text)


def test_no_two_rows_of_any_split_share_family_phrasing_and_numbers() -> None:
    keys = []
    for split in build.SPLITS:
        keys += [skeleton(row.get("query") or row["question"]) for row in rows_of(split)]
    assert len({mask for mask, _ in keys}) == sum(len(family.phrasings) for family in FAMILIES)
    assert len(keys) == len(set(keys))


def test_no_two_problems_share_family_and_numbers_even_across_phrasings() -> None:
    problems = [problem for split in make_splits(build.SPLITS, build.DATA_SEED).values() for problem in split]
    assert len({(problem.family, problem.numbers) for problem in problems}) == len(problems)


def test_data_files_are_regenerated_byte_for_byte() -> None:
    for name, text in build.data_files().items():
        assert (DATA.parent / name).read_text(encoding="utf-8") == text, name


def test_another_seed_gives_other_problems() -> None:
    sizes = {"test": 16}
    assert make_splits(sizes, 1) == make_splits(sizes, 1)
    assert make_splits(sizes, 1) != make_splits(sizes, 2)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_every_phrasing_has_one_sentence_per_step(family) -> None:
    assert 2 <= len(family.steps) <= 4
    for index, phrasing in enumerate(family.phrasings):
        assert len(phrasing.sentences) == len(family.steps)
        assert all(sentence.count("{eq}") == 1 for sentence in phrasing.sentences)
        assert "{" not in draw_problem(family, index, random.Random(0)).question


@pytest.mark.parametrize(
    ("left", "sign", "right", "expected"),
    [(2, "+", 3, 5), (100, "+", 51, None), (3, "-", 3, None), (12, "*", 12, 144), (13, "*", 12, None), (9, "/", 3, 3)],
)
def test_evaluate_keeps_results_in_range(left: int, sign: str, right: int, expected: int | None) -> None:
    assert evaluate(left, sign, right) == expected


def test_evaluate_refuses_a_division_with_remainder() -> None:
    assert evaluate(10, "/", 4) is None
