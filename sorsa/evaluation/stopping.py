"""Where an answer is complete, so that nothing a model writes after it counts (`stop_at_answer`).

A model that was not taught to end its answers goes on with the next problem. The authors' release let it, and took the
last marker; ours stops at the first complete answer unless `stop_at_answer` is off. For a model that ends its answers
with the end token nothing changes.

A benchmark module names its rule: `complete(text, question)` returns how many characters count, None as long as the
answer is not complete.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from sorsa.evaluation.extraction import AUTHORS_MARKER, statement

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from sorsa.evaluation.benchmark import Question

Rule = Callable[[str, "Question"], int | None]


def answer_line(text: str, question: Question) -> int | None:
    r"""Return the end of the line that states the answer after `The answer is: `; None before that line has ended.

    As for `extraction.first_line`, the line goes on while a brace, a `\begin` or the display of a formula is open.
    """
    found = text.find(AUTHORS_MARKER)
    if found < 0:
        return None
    end, closed = statement(text, found + len(AUTHORS_MARKER))
    return end if closed and text[end - 1] == "\n" else None


_FENCES = ("```python", "```", "'''python")  # in each way that a rule may read


def settled(read: Callable[[str, Question], Any]) -> Rule:
    """Return the rule for code: an answer is complete when nothing that may follow changes what is read from it.

    Args:
        read: `read(text, question)` gives all that grading takes from an answer.
    """

    def complete(text: str, question: Question) -> int | None:
        name = question.gold["entry_point"]
        function = f"def {name}(*args):\n    return None\n"
        # more code; the end of a block; another block
        tails = ("\nx = 1\n", "\n```\n", *(f"\n{fence}\n{function}{fence[:3]}\n" for fence in _FENCES))
        now = read(text, question)
        return len(text) if all(read(text + tail, question) == now for tail in tails) else None

    return complete


class AnswerWatch:
    """Asks a benchmark's rule while an answer is being written, at the end of each line and not for every token.

    Args:
        tokenizer: Tells the text of tokens.
        rule: The benchmark's `complete`; None where an answer ends with the end token only.
        questions: The questions of a wave.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, rule: Rule | None, questions: Sequence[Question]) -> None:
        self._tokenizer, self._rule, self._questions = tokenizer, rule, questions
        self._texts: dict[int, str] = {}  # of single tokens
        self._written = [False] * len(questions)  # whether a line holds more than blanks since the rule was asked

    def __call__(self, index: int, new: list[int]) -> bool:
        """Return whether the answer to a question is complete with its last token."""
        if self._rule is None:
            return False
        piece = self._text(new[-1])
        self._written[index] = self._written[index] or bool(piece.strip())
        if "\n" not in piece or not self._written[index]:
            return False
        self._written[index] = False
        text = self._tokenizer.decode(new, skip_special_tokens=True)
        return self._rule(text, self._questions[index]) is not None

    def _text(self, token: int) -> str:
        if token not in self._texts:
            self._texts[token] = self._tokenizer.decode([token], skip_special_tokens=True)
        return self._texts[token]
