"""Where an answer is complete: the line that states it, code that nothing can change, and what is cut off after it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from sorsa.evaluation import generate, humaneval
from sorsa.evaluation.benchmark import Question
from sorsa.evaluation.code_extraction import find_code
from sorsa.evaluation.stopping import AnswerWatch, answer_line

LINE = "Two.\nThe answer is: "


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        ("no marker\n", None),
        (LINE + "4", None),
        (LINE + "4\n", LINE + "4\n"),
        (LINE + "4\n\nNext problem", LINE + "4\n"),
        (LINE + "\n 4\nNext", LINE + "\n 4\n"),
        (LINE + "\n\n", None),
        (LINE + "4\nThe answer is: 5\n", LINE + "4\n"),
        (LINE + "\\begin{pmatrix} 1 \\\\\n", None),
        (LINE + "\\begin{pmatrix} 1 \\\\\n 2 \\end{pmatrix}\nx", LINE + "\\begin{pmatrix} 1 \\\\\n 2 \\end{pmatrix}\n"),
        (LINE + "\\[\n", None),
        (LINE + "\n\\[\n\\boxed{4}\n", None),
        (LINE + "\n\\[\n\\boxed{4}\n\\]\nx", LINE + "\n\\[\n\\boxed{4}\n\\]\n"),
        (LINE + "$$\n4\n$$\nx", LINE + "$$\n4\n$$\n"),
        (LINE + "$$4$$ or \\(4\\)\nx", LINE + "$$4$$ or \\(4\\)\n"),
        (LINE + "**\n4\nx", LINE + "**\n4\n"),
        ("The answer is 4\n", None),  # the release does not read this
    ],
)
def test_the_answers_line(text: str, counts: str | None) -> None:
    found = answer_line(text, Question("0", "", ""))
    assert (None if found is None else text[:found]) == counts


BLOCK = "```python\ndef f(x):\n    return x\n```\n"


@pytest.mark.parametrize(
    ("text", "done"),
    [
        ("def f(x):\n    return x\n", False),
        ("Here:\n```python\ndef f(x):\n    return x\n", False),
        ("Here:\n" + BLOCK, True),
        ("```python\nimport os\n```\n", False),  # the block that defines f may follow
        ("```\ndef f(x):\n    return x\n```\n", False),  # the authors' rule waits for a block labelled python
        ("```\ndef f(x):\n    return x\n```\n" + BLOCK, True),
        ("'''python\ndef f(x):\n    return x\n'''\n", False),
    ],
)
def test_code_is_complete_when_nothing_can_change_it(text: str, done: bool) -> None:
    question = Question("0", "", {"entry_point": "f"})
    assert (humaneval.complete(text, question) is not None) == done
    if done:
        for more in ("```python\ndef f(y):\n    return 0\n```\n", "def f(y): ...", "'''python\ndef f(y): ...\n'''"):
            assert find_code(text + more, "f")[0][0] == find_code(text, "f")[0][0]
            assert humaneval.extract_authors(text + more) == humaneval.extract_authors(text)


class Letters:
    """A tokenizer whose tokens are characters; it counts the whole answers that it is asked for."""

    whole = 0

    def decode(self, ids: list[int], **options: Any) -> str:
        self.whole += len(ids) > 1
        return "".join(map(chr, ids))


def test_the_rule_is_asked_once_per_written_line() -> None:
    tokenizer, text = Letters(), "a\n\n\n\nb\n" + LINE + "4\n"
    watch = AnswerWatch(tokenizer, answer_line, [Question("0", "", "")])
    ids = [ord(letter) for letter in text]
    assert [end for end in range(1, len(ids) + 1) if watch(0, ids[:end])] == [len(ids)]
    assert tokenizer.whole == 4  # after a, b, Two. and the answer
    assert not AnswerWatch(tokenizer, None, [])(0, ids)


def test_what_follows_the_answer_is_cut_off() -> None:
    engine = SimpleNamespace(tokenizer=Letters(), ends=frozenset({1}))

    def completion(text: str, rule: Any) -> tuple[str, int, bool, str]:
        one = generate.completion(engine, rule, Question("0", "", ""), [ord(letter) for letter in text])
        return one.completion, one.tokens, one.truncated, one.ended

    assert completion("a\x01bc", answer_line) == ("a", 2, False, "end token")
    assert completion("abc", answer_line) == ("abc", 3, True, "length")
    written = LINE + "4\nNext"
    assert completion(written, answer_line) == (LINE + "4\n", len(written), False, "answer")
    assert completion(written, None) == (written, len(written), True, "length")
