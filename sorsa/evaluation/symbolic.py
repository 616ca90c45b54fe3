"""Symbolic comparison in a bounded child process, with a budget of time per answer."""

from __future__ import annotations

import time

from sorsa.evaluation.child import Child, ChildError, ChildTimeout
from sorsa.evaluation.latex import Node

# Per answer and rule; an honest comparison takes milliseconds. Two rules and an opinion must stay below 5 s together.
BUDGET_SECONDS = 1.2


class SymbolicTimeout(Exception):
    """The comparison did not end within the budget of its answer."""


class SymbolicError(Exception):
    """The worker could not compare the two expressions."""


class SymbolicWorker(Child):
    """Compares nodes in a child process. Use as a context manager; the child ends with it.

    Args:
        budget: Seconds that all comparisons after one `renew()` may take together.
    """

    def __init__(self, budget: float = BUDGET_SECONDS) -> None:
        super().__init__("sorsa.evaluation.symbolic_worker")
        self.budget, self.left = budget, budget

    def renew(self) -> None:
        """Give the next answer its full budget."""
        self.left = self.budget

    def compare(self, mode: str, a: Node, b: Node) -> bool:
        """Compare two expression nodes.

        Args:
            mode: A key of `symbolic_worker.MODES`.
            a: Node of the prediction.
            b: Node of the gold answer.

        Raises:
            SymbolicTimeout: The budget of this answer is used up.
            SymbolicError: The child refused or failed.
        """
        if self.left <= 0:
            raise SymbolicTimeout
        try:
            self.prepare()
            begin = time.monotonic()  # starting the child is not the answer's fault
        except (ChildTimeout, ChildError) as error:
            raise SymbolicError(f"the worker does not start: {error}") from error
        try:
            return self.ask({"mode": mode, "a": a, "b": b}, self.left)["equal"]
        except ChildTimeout as error:
            raise SymbolicTimeout from error
        except ChildError as error:
            raise SymbolicError(str(error)) from error
        finally:
            self.left -= time.monotonic() - begin
