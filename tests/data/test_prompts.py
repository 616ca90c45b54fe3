"""The prompts, letter for letter. These strings are the authors' release's, on purpose not taken from our code."""

from __future__ import annotations

from sorsa.data import prompts


def test_math_training_ends_at_response() -> None:
    assert prompts.math_train_prompt("What is 1 + 1?") == (
        "Below is an instruction that describes a task. Write a response that appropriately completes the request."
        "\n\n### Instruction:\nWhat is 1 + 1?\n\n### Response:"
    )


def test_math_testing_adds_the_cue() -> None:
    assert prompts.math_test_prompt("Q") == prompts.math_train_prompt("Q") + " Let's think step by step."


def test_code_training() -> None:
    assert prompts.code_train_prompt("Sort a list.") == "@@ Instruction\nSort a list.\n\n@@ Response\n"


def test_code_testing() -> None:
    assert prompts.code_test_prompt("def f():\n") == (
        "@@ Instruction\nHere is the given code to do completion:\n```python\ndef f():\n\n```\n\n"
        "Please continue to complete the function with python programming language. You are not allowed to modify the "
        "given code and do the completion only.\n\nPlease return all completed codes in one code block.\nThis code "
        "block should be in the following format:\n'''python\n# Your codes here\n'''\n\n@@ Response\n"
    )


def test_braces_in_a_query_stay_as_they_are() -> None:
    text = "{query} {prompt} {0} \\frac{1}{2}"
    assert text in prompts.math_train_prompt(text)
    assert text in prompts.code_train_prompt(text)
    assert text in prompts.code_test_prompt(text)
