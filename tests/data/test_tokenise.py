"""Tokenised samples: golden ids, labels on the response only, one start and one end token, lengths, counts, cache."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from sorsa.data import load_training_set, tokenise
from sorsa.data.prompts import MATH_TEST_CUE, code_train_prompt, math_test_prompt, math_train_prompt
from sorsa.data.tokenise import TokenCounts, prompt_ids
from sorsa.errors import UsageError

PROMPT = len(math_train_prompt("q")) + 1  # bytes, and the start token


def decoded(tokenizer: Any, ids: list[int]) -> str:
    """Return the text of ids with its special tokens written out."""
    return tokenizer.decode(ids, skip_special_tokens=False)


def test_a_sample_is_start_prompt_response_end(settings: Callable, rows_file: Callable, tokenizer: Any) -> None:
    rows, counts = load_training_set(
        settings(rows_file([{"query": "1+1?", "response": "The answer is: 2"}])), tokenizer
    )
    sample = rows[0]
    assert decoded(tokenizer, sample["input_ids"]) == "<s>" + math_train_prompt("1+1?") + "The answer is: 2</s>"
    learned = [token for token in sample["labels"] if token != -100]
    assert decoded(tokenizer, learned) == "The answer is: 2</s>"
    start = len(sample["labels"]) - len(learned)
    assert sample["labels"][:start] == [-100] * start
    assert sample["labels"][start:] == sample["input_ids"][start:]
    assert rows.column_names == ["input_ids", "labels"]
    assert counts == TokenCounts(1, 1, 0, 0, 0, len(sample["input_ids"]))


def test_golden_ids(settings: Callable, rows_file: Callable, tokenizer: Any) -> None:
    rows, _ = load_training_set(settings(rows_file([{"query": "a", "answer": "b"}])), tokenizer)
    text = "@@ Instruction\na\n\n@@ Response\n"
    # the tokenizer's ids follow the byte-level alphabet: printable ASCII first, `!` is 0; newline and space are moved
    moved = {"\n": 198, " ": 220}
    expected = [moved.get(letter, ord(letter) - ord("!")) for letter in text]
    assert rows[0]["input_ids"] == [256, *expected, ord("b") - ord("!"), 257]
    assert text == code_train_prompt("a")


def test_start_and_end_once_each_whatever_the_text_says(
    settings: Callable, rows_file: Callable, tokenizer: Any, tokenizer_without_start: Any
) -> None:
    path = rows_file([{"query": "what is <s> in HTML?", "response": "<s>struck</s> out"}])
    ids = load_training_set(settings(path), tokenizer)[0][0]["input_ids"]
    assert (ids.count(tokenizer.bos_token_id), ids.count(tokenizer.eos_token_id)) == (1, 1)
    assert (ids[0], ids[-1]) == (tokenizer.bos_token_id, tokenizer.eos_token_id)
    other = load_training_set(settings(path), tokenizer_without_start)[0][0]["input_ids"]
    assert other[0] != tokenizer_without_start.eos_token_id and other.count(other[-1]) == 1


def test_prompts_in_testing_begin_with_the_tokens_of_training(tokenizer: Any) -> None:
    train, test = prompt_ids(tokenizer, [math_train_prompt("q"), math_test_prompt("q")])
    assert test[: len(train)] == train
    assert decoded(tokenizer, test[len(train) :]) == MATH_TEST_CUE


@pytest.mark.parametrize(
    ("length", "size", "truncated"),
    [
        (PROMPT + 7, PROMPT + 6, 0),
        (PROMPT + 6, PROMPT + 6, 0),
        (PROMPT + 5, PROMPT + 5, 1),
        (PROMPT + 1, PROMPT + 1, 1),
    ],
)
def test_a_sample_is_cut_to_the_length(
    settings: Callable, rows_file: Callable, tokenizer: Any, length: int, size: int, truncated: int
) -> None:
    path = rows_file([{"query": "q", "response": "12345"}])  # 5 bytes and the end token
    rows, counts = load_training_set(settings(path, length=length), tokenizer)
    assert len(rows[0]["input_ids"]) == len(rows[0]["labels"]) == size
    assert sum(label != -100 for label in rows[0]["labels"]) == size - PROMPT
    assert (counts.truncated, counts.dropped, counts.tokens) == (truncated, 0, size)
    assert (rows[0]["input_ids"][-1] == tokenizer.eos_token_id) == (not truncated)


def test_a_prompt_that_leaves_no_room_drops_its_row(settings: Callable, rows_file: Callable, tokenizer: Any) -> None:
    path = rows_file([{"query": query, "response": "r"} for query in ("q", "qq", "q", "q" * 50)])
    rows, counts = load_training_set(settings(path, length=PROMPT + 1), tokenizer)
    assert counts == TokenCounts(4, 2, 2, 0, 2, 2 * (PROMPT + 1))
    assert len(rows) == 2 and all(len(row["input_ids"]) == PROMPT + 1 for row in rows)
    assert str(counts) == (
        f"4 rows: 2 kept with {2 * (PROMPT + 1)} tokens (2 of them truncated), 2 dropped (2 prompts too long, 0 empty "
        "responses)"
    )


def test_the_authors_truncation_cuts_each_part(settings: Callable, rows_file: Callable, tokenizer: Any) -> None:
    path = rows_file([{"query": "q" * 50, "response": "r" * 50}, {"query": "q" * 50, "response": "r"}])
    rows, counts = load_training_set(settings(path, length=20, truncation="per_part"), tokenizer)
    assert [len(row["input_ids"]) for row in rows] == [40, 22]
    assert [sum(label != -100 for label in row["labels"]) for row in rows] == [20, 2]
    assert decoded(tokenizer, rows[0]["input_ids"]) == "<s>" + math_train_prompt("")[:19] + "r" * 20
    assert (counts.kept, counts.truncated, counts.dropped) == (2, 2, 0)


def test_no_sample_fits(settings: Callable, rows_file: Callable, tokenizer: Any) -> None:
    path = rows_file([{"query": "q" * n, "response": "r"} for n in (1, 5)])
    expected = (
        rf"none of the 2 samples fits length = 30: the shortest prompt has {PROMPT} tokens. Give --length of more"
    )
    with pytest.raises(UsageError, match=expected):
        load_training_set(settings(path, length=30), tokenizer)


def test_empty_responses_of_the_hub_are_dropped_and_counted(settings: Callable, tokenizer: Any) -> None:
    import datasets

    from sorsa.data.recipe import recipe

    def run(responses: list[str | None]) -> TokenCounts:
        rows = datasets.Dataset.from_dict({"query": ["q"] * len(responses), "answer": responses})
        return tokenise.tokenise(rows, recipe("code"), settings("code"), tokenizer)[1]

    counts = run(["r", "", None, "  "])
    assert (counts.kept, counts.dropped_empty, counts.dropped) == (1, 3, 3)
    with pytest.raises(UsageError, match=r"code: all 2 responses are empty"):
        run(["", ""])


def test_a_tokenizer_without_an_end(settings: Callable, rows_file: Callable, tokenizer: Any) -> None:
    from copy import deepcopy

    endless = deepcopy(tokenizer)
    endless.eos_token = None
    with pytest.raises(UsageError, match=r"has no end-of-sequence token"):
        load_training_set(settings(rows_file([{"query": "q", "response": "r"}])), endless)


def test_a_second_run_does_not_tokenise_again(
    settings: Callable, rows_file: Callable, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings(rows_file([{"query": "q", "response": "r" * n} for n in range(1, 9)]))
    first = load_training_set(config, tokenizer)
    tokenizer(
        ["a", "bb"], padding=False, truncation=True, max_length=4
    )  # changes the state that a plain hash would see

    def not_again(*_: Any, **__: Any) -> None:
        raise AssertionError("tokenised again")

    monkeypatch.setattr(tokenise, "_text_ids", not_again)
    second = load_training_set(config, tokenizer)
    assert second[0].to_list() == first[0].to_list() and second[1] == first[1]
    for change in ({"length": 100}, {"truncation": "per_part"}):
        with pytest.raises(AssertionError, match="tokenised again"):
            load_training_set(dataclasses.replace(config, **change), tokenizer)


def test_workers_give_the_same_rows_in_order(
    settings: Callable, rows_file: Callable, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokenise, "ROWS_PER_WORKER", 10)
    path = rows_file([{"query": f"q{n}", "response": "r" * (n % 5 + 1)} for n in range(40)])
    one, counts_of_one = load_training_set(settings(path), tokenizer)
    two, counts_of_two = load_training_set(settings(path, workers=2, cache_path=str(path.parent / "second")), tokenizer)
    assert two.to_list() == one.to_list() and len(two) == 40
    assert counts_of_one == counts_of_two


def test_nothing_is_held_in_memory(settings: Callable, rows_file: Callable, tokenizer: Any) -> None:
    rows, _ = load_training_set(settings(rows_file([{"query": "q", "response": "r"}] * 5)), tokenizer)
    assert rows.cache_files, "the data set must be backed by files"
    assert str(rows.features["input_ids"].feature.dtype) == "int32"
