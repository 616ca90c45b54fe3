"""The prompts of the authors' runs, character for character. No other file repeats them.

Training ends at `### Response:`; testing adds a cue (README, difference 7). The start token is not text of
the prompt: it is added once, as a token, by `sorsa.data.tokenise.prompt_ids`.
"""

from __future__ import annotations

# The instruction format of Stanford Alpaca, without its "### Input" part.
MATH_TRAIN = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{query}\n\n### Response:"
)
MATH_TEST_CUE = " Let's think step by step."

# The format of Magicoder's evaluation. The three ticks before `python` at the end are single quotes in the original.
CODE_TRAIN = "@@ Instruction\n{query}\n\n@@ Response\n"
CODE_TEST_QUERY = (
    "Here is the given code to do completion:\n```python\n{prompt}\n```\n\n"
    "Please continue to complete the function with python programming language. "
    "You are not allowed to modify the given code and do the completion only.\n\n"
    "Please return all completed codes in one code block.\n"
    "This code block should be in the following format:\n'''python\n# Your codes here\n'''"
)
CODE_TEST = CODE_TRAIN.replace("{query}", CODE_TEST_QUERY)


def math_train_prompt(query: str) -> str:
    """Return the prompt before a MetaMathQA response."""
    return MATH_TRAIN.replace("{query}", query)


def math_test_prompt(question: str) -> str:
    """Return the prompt of a GSM-8K or MATH question."""
    return math_train_prompt(question) + MATH_TEST_CUE


def code_train_prompt(query: str) -> str:
    """Return the prompt before a CodeFeedback answer."""
    return CODE_TRAIN.replace("{query}", query)


def code_test_prompt(prompt: str) -> str:
    """Return the prompt of a HumanEval problem, given its `prompt`: the code up to the end of the docstring."""
    return CODE_TEST.replace("{prompt}", prompt)
