"""Taking code out of chat-like answers: every rule by name, and that what it makes really runs."""

from __future__ import annotations

import random
import re
import time

import pytest

from sorsa.evaluation import code_extraction as rules
from sorsa.evaluation import humaneval
from sorsa.evaluation.benchmark import Item

PROMPT = 'from typing import List\n\n\ndef total(numbers: List[int]) -> int:\n    """ Sum. """\n'
PROBLEM = {
    "task_id": "T/0",
    "prompt": PROMPT,
    "entry_point": "total",
    "test": "def check(candidate):\n    assert candidate([1, 2]) == 3\n    assert candidate([]) == 0\n",
}
BODY = "    return sum(numbers)\n"
WHOLE = PROMPT + BODY
PLAIN = "def total(numbers):\n    result = 0\n    for n in numbers:\n        result += n\n    return result\n"
CLASS = "class Solution:\n    def total(self, numbers):\n        return sum(numbers)\n"

# answer, where the code stood, how it became a program
RIGHT = {
    "body only": (BODY, "no fence", "body"),
    "body without indentation": ("return sum(numbers)", "no fence", "body, indented anew"),
    "body of several lines without indentation": (
        "s = 0\nfor n in numbers:\n    s += n\nreturn s",
        "no fence",
        "body, indented anew",
    ),
    "first line lost its indentation": (
        "s = 0\n    for n in numbers:\n        s += n\n    return s\n",
        "no fence",
        "body, first line indented",
    ),
    "python fence": (f"Here:\n```python\n{WHOLE}```\nDone.", "python fence", "whole function"),
    "label in capitals": (f"```Python\n{WHOLE}```", "python fence", "whole function"),
    "label py": (f"```py\n{PLAIN}```", "python fence", "whole function"),
    "four backticks": (f"````python\n{PLAIN}````", "python fence", "whole function"),
    "fence after text on its line": (f"The code is: ```python\n{PLAIN}```", "python fence", "whole function"),
    "fence closed behind the code": (f"```python\n{PLAIN.rstrip()}```\nDone.", "python fence", "whole function"),
    "body in a fence": (f"```python\n{BODY}```", "python fence", "body"),
    "fence without a language": (f"```\n{WHOLE}\n```", "plain fence", "whole function"),
    "apostrophes": (f"'''python\n{WHOLE}'''\n", "apostrophe fence", "whole function"),
    "unclosed fence": (f"```python\n{WHOLE}", "unclosed python fence", "whole function"),
    "unclosed plain fence": (f"Sure:\n```\n{PLAIN}", "unclosed plain fence", "whole function"),
    "unclosed apostrophes": (f"'''python\n{PLAIN}", "unclosed apostrophe fence", "whole function"),
    "several blocks, the second defines it": (
        f"```python\nprint(1)\n```\nthen\n```python\n{WHOLE}```",
        "python fence, one of several",
        "whole function",
    ),
    "several blocks, the first defines it": (
        f"```python\n{PLAIN}```\nUse it so:\n```python\nprint(total([1]))\n```",
        "python fence, one of several",
        "whole function",
    ),
    "block of another language before": (
        f"```bash\npip install x\n```\nNow the code:\n```python\n{PLAIN}```",
        "python fence",
        "whole function",
    ),
    "block of text after": (f"```python\n{PLAIN}```\nIt prints\n```text\n3\n```", "python fence", "whole function"),
    "indented fence": (
        "1. Code:\n   ```python\n" + "".join(f"   {line}\n" for line in PLAIN.splitlines()) + "   ```",
        "python fence",
        "whole function, indented anew",
    ),
    "prompt repeated": (WHOLE, "no fence", "whole function"),
    "prompt repeated in a fence": (f"```python\n{WHOLE}```", "python fence", "whole function"),
    "imports before it": (
        f"```python\nimport operator\n\n{PLAIN.replace('result += n', 'result = operator.add(result, n)')}```",
        "python fence",
        "whole function",
    ),
    "helper before it": (f"def add(a, b):\n    return a + b\n\n{PLAIN}", "no fence", "whole function"),
    "text before": (f"Sure, here is the code:\n\n{PLAIN}", "no fence", "function out of text"),
    "text before and after": (
        f"Sure, here is the code:\n\n{WHOLE}\nThis works for any list of numbers.",
        "no fence",
        "function out of text",
    ),
    "text after the function": (f"{PLAIN}\nThis works for any list of numbers.", "no fence", "function out of text"),
    "text after, in small letters": (
        f"{PLAIN}\n- it adds the numbers\n- it is fast",
        "no fence",
        "function out of text",
    ),
    "text after the body": (f"{BODY}\nThis works for any list.", "no fence", "body, text after it cut off"),
    "text without a full stop after the body": (f"{BODY}\n* note: fast", "no fence", "body, text after it cut off"),
    "class": (f"```python\n{CLASS}```", "python fence", "method of a class"),
    "class with text around": (f"Use a class:\n\n{CLASS}\nThat is all, I hope!", "no fence", "method of a class"),
    "class with a static method": (
        "```python\nclass Solution:\n    @staticmethod\n    def total(numbers):\n        return sum(numbers)\n```",
        "python fence",
        "method of a class",
    ),
    "main after it": (
        f"```python\n{PLAIN}\nif __name__ == '__main__':\n    print(total(list(map(int, input().split()))))\n```",
        "python fence",
        "whole function",
    ),
    "docstring of apostrophes": (
        "```python\ndef total(numbers):\n    '''python\n    sums\n    '''\n    return sum(numbers)\n```",
        "python fence",
        "whole function",
    ),
    "docstring of apostrophes without a fence": (
        "def total(numbers):\n    '''\n    sums\n    '''\n    return sum(numbers)\n",
        "no fence",
        "whole function",
    ),
    "windows line ends": (
        f"```python\r\n{PLAIN}```".replace("\n", "\r\n").replace("\r\r", "\r"),
        "python fence",
        "whole function",
    ),
}
STUB = 'def total(numbers):\n    """ Sum. """\n'
CALLS = "def total(numbers):\n    return reduce(add, numbers, 0)\n"
HELPERS = "from functools import reduce\n\ndef add(a, b):\n    return a + b\n"
BROKEN = "def total(numbers):\n    return sum(numbers\n"
HALF = "def total(numbers):\n    result = 0\n\nNow the loop:\n    for n in numbers:\n"
JOINED = "python fence, one of several, those before it joined"
RIGHT |= {
    f"a stub before it: {end!r}": (
        f"You complete\n```python\n{STUB}{end}```\nas follows\n```python\n{PLAIN}```",
        "python fence, one of several",
        "whole function",
    )
    for end in ("", "    pass\n", "    ...  # your code\n", "    raise NotImplementedError('later')\n", "    # TODO\n")
}
RIGHT |= {
    "helpers in a block before": (
        f"```python\n{HELPERS}```\nthen\n```python\n{CALLS}```",
        JOINED,
        "whole function",
    ),
    "imports in one block, helper in another": (
        f"```python\nfrom functools import reduce\n```\nand\n```python\n{HELPERS[29:]}```\n```python\n{CALLS}```",
        JOINED,
        "whole function",
    ),
    "stub, then imports, then the function": (
        f"```python\n{STUB}```\n```python\n{HELPERS}```\n```python\n{CALLS}```",
        JOINED,
        "whole function",
    ),
    "future import": (
        f"```python\nfrom __future__ import annotations\n\n{PLAIN}```",
        "python fence",
        "whole function",
    ),
    "the second function compiles": (
        f"```python\n{BROKEN}```\nNo, so:\n```python\n{PLAIN}```",
        "python fence, one of several, instead of one that does not compile",
        "whole function",
    ),
    "the third function compiles, with its helpers": (
        f"```python\n{BROKEN}```\n```\n{BROKEN}```\n```python\n{HELPERS}```\n```python\n{CALLS}```",
        f"{JOINED}, instead of one that does not compile",
        "whole function",
    ),
    "the second body compiles": (
        f"```python\n    return sum(numbers\n```\n```\nprint(total([1]))\n```\nNo:\n```python\n{BODY}```",
        "python fence, one of several, instead of one that does not compile",
        "body",
    ),
    "text in the block, and an example": (
        f"```python\n{PLAIN}\nThis works.\n```\n```python\nprint(total([1]))\n```",
        "python fence, one of several",
        "function out of text",
    ),
    "text in the block of the body, and an example": (
        f"```python\n{BODY}\nThis works.\n```\n```python\nprint(total([1]))\n```",
        "python fence, one of several",
        "body, text after it cut off",
    ),
    "a whole function instead of one with text": (
        f"```python\n{HALF}```\n```python\n{PLAIN}```",
        "python fence, one of several, instead of one that does not compile",
        "whole function",
    ),
    "a last fence that opens nothing": (f"{PLAIN}```\nThis adds the numbers.", "no fence", "whole function"),
    "a last fence after the body": (f"{BODY}```\nThis adds the numbers.", "no fence", "body"),
}
WRONG = {
    "wrong function": ("```python\ndef total(numbers):\n    return 3\n```", "python fence: whole function"),
    "leaves the program": ("```python\nimport sys\nsys.exit(0)\n```", "python fence: body"),
    "prose": ("I cannot do that, sorry.", "no fence: not Python"),
    "another language": ("```javascript\nfunction total(a) { return 3 }\n```", "no fence: not Python"),
    "the first compiles": (
        f"```python\ndef total(numbers):\n    return 3\n```\n```python\n{PLAIN}```",
        "python fence, one of several: whole function",
    ),
    "none compiles": (f"```python\n{BROKEN}```\n```python\n{BROKEN}x```", "python fence, one of several: not Python"),
    "only the head": ("def total(numbers):", "no fence: not Python"),
}


@pytest.fixture(scope="module")
def graded() -> dict[str, object]:
    answers = {name: row[0] for name, row in (RIGHT | WRONG).items()} | {"empty": ""}
    verdicts = humaneval.grade_all([Item(answer, PROBLEM) for answer in answers.values()])
    return {name: one["ours"] for name, one in zip(answers, verdicts, strict=True)}


@pytest.mark.parametrize("name", RIGHT)
def test_answers_with_right_code(name: str, graded: dict) -> None:
    _, where, rule = RIGHT[name]
    assert (graded[name].correct, graded[name].how) == (True, f"{where}: {rule}"), graded[name]


@pytest.mark.parametrize("name", WRONG)
def test_answers_without(name: str, graded: dict) -> None:
    assert (graded[name].correct, graded[name].how) == (False, WRONG[name][1])


def test_an_empty_answer_is_read_by_no_rule(graded: dict) -> None:
    assert (graded["empty"].reason, graded["empty"].how) == ("no answer", None)


def test_every_rule_is_tested() -> None:
    named = {value for key, value in vars(rules).items() if key.isupper() and isinstance(value, str)}
    seen = " | ".join([f"{row[1]}: {row[2]}" for row in RIGHT.values()] + [row[1] for row in WRONG.values()])
    assert {rule for rule in named if rule not in seen} == set()


def test_the_code_that_ran_is_recorded(graded: dict) -> None:
    assert graded["the second function compiles"].extracted == PLAIN
    assert graded["none compiles"].extracted == BROKEN


def test_a_function_is_no_stub() -> None:
    for code in (PLAIN, WHOLE, CLASS, "def total(n): return sum(n)", "def total(\n    n,\n):\n    'x'\n    return 1"):
        assert not rules.is_stub(code, "total"), code
    for code in ("def total(n): pass", "def total(n): ...", "class A:\n    def total(self):\n        pass\n    x = 1"):
        assert rules.is_stub(code, "total"), code


def test_the_authors_fence_is_their_pattern() -> None:
    pattern = re.compile(r"```python\s*([\s\S]*?)\s```")
    pieces, draw = ("```python", "```", "`", " ", "\n", "\u2003", "x", "python"), random.Random(0)
    found = 0
    for _ in range(20_000):
        text = "".join(draw.choices(pieces, k=draw.randrange(12)))
        match = pattern.search(text)
        found += match is not None
        assert humaneval.extract_authors(text) == (match[1] if match else text), repr(text)
    assert found > 2000


def test_hostile_answers_are_read_in_linear_time() -> None:
    n = rules.MAX_CODE
    begin = time.monotonic()
    for answer in (
        "\n" * n,
        "```python" + "\n" * n,
        "```python" + " " * n,
        "```python\n" + "x ``` " * (n // 6),
        "def f():\n" + "Aa\n-\n" * (n // 5),
        "def f():\n" + "A" + "a" * n,
        "def f():\nA" + "a b" * (n // 3) + "=",
        "x```" + " " * n + "!",
        "x```" + "a" * n + "!",
        " " * n + "x",
        "    def f(" + " " * n,
        "def f(x):" + ":\n    #" * (n // 7),
        "def f(x):\n" + "    raise NotImplementedError" * (n // 29),
        "```python\nimport x\n```\n" * (n // 24),
        "```python\ndef f(x\n```\n" * (n // 24),
    ):
        humaneval.extract_authors(answer)
        assert rules.programs(answer, PROMPT, "f")
    assert time.monotonic() - begin < 5  # quadratic patterns took minutes


def test_long_answers_are_read_quickly() -> None:
    for answer in (
        "```python\n" * 40_000,
        "'''py\n" * 60_000,
        "def total(" * 40_000,
        "A b c\n" * 60_000,
        "=" * 400_000,
    ):
        tried = rules.programs(answer, PROMPT, "total")
        assert tried and all(len(one.code) <= rules.MAX_CODE for one in tried)
