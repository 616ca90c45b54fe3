"""Third opinions: what another project's grader says about the same answers. Stored beside our verdicts, never counted.

`math-verify` (an extra: `pip install sorsa[math-verify]`) sees the short final answer that our rule extracted, not the
completion, and runs in a child process shut in (math_verify_worker.py): the text can be neither evaluated nor hang us.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
from collections.abc import Iterator

from sorsa.evaluation.benchmark import (
    DIFFERENT,
    EQUAL,
    ERROR,
    NO_ANSWER,
    OPINIONS,
    TIMEOUT,
    UNREADABLE,
    Verdict,
)
from sorsa.evaluation.child import Child, ChildError, ChildTimeout

MAX_LENGTH = 500  # characters passed on; the longest gold answer of MATH has about 160
SECONDS = 1.2  # per answer; an honest one takes 1 to 50 milliseconds


@functools.cache
def installed() -> bool:
    """Tell whether the package math-verify is there; it is not imported into this process."""
    return all(importlib.util.find_spec(name) for name in ("math_verify", "latex2sympy2_extended", "antlr4"))


class Opinions:
    """Asks math-verify, or nobody where it is not installed. Made by `opinions()`."""

    def __init__(self, child: Child | None) -> None:
        self._child = child

    def of(self, answer: str | None, gold: str) -> dict[str, Verdict]:
        """Return {opinion: Verdict} to add to a benchmark's verdicts; empty without the package.

        Args:
            answer: The final answer, in the notation that math-verify expects (formulas between dollar signs).
            gold: The right one, likewise.
        """
        return {} if self._child is None else {OPINIONS[0]: self._verdict(answer, gold)}

    def _verdict(self, answer: str | None, gold: str) -> Verdict:
        if answer is None or not answer.strip():
            return Verdict(False, answer, NO_ANSWER)
        shown = answer.strip()[:MAX_LENGTH]
        if max(len(answer), len(gold)) > MAX_LENGTH:
            return Verdict(False, shown, UNREADABLE)
        try:
            reply = self._child.ask({"answer": answer, "gold": gold}, SECONDS)
        except ChildTimeout:
            return Verdict(False, shown, TIMEOUT)
        except ChildError as error:
            return Verdict(False, shown, f"{ERROR}: {error}"[:200])
        if reply["equal"]:
            return Verdict(True, shown, EQUAL)
        return Verdict(False, shown, DIFFERENT if reply["readable"] else UNREADABLE)


@contextlib.contextmanager
def opinions() -> Iterator[Opinions]:
    """Give the opinions that can be had here; the child process ends with the block."""
    if not installed():
        yield Opinions(None)
        return
    with Child("sorsa.evaluation.math_verify_worker") as child:
        child.start()  # it imports while the first answer is graded
        yield Opinions(child)
