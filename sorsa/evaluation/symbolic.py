"""A bounded child process for symbolic comparison: started when needed, reused, killed on time-out."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from sorsa.evaluation.latex import Node

START_SECONDS = 60.0  # importing sympy on a loaded machine
BUDGET_SECONDS = 1.5  # per answer and rule; an honest comparison takes milliseconds


class SymbolicTimeout(Exception):
    """The comparison did not end within the budget of its answer."""


class SymbolicError(Exception):
    """The worker could not compare the two expressions."""


class SymbolicWorker:
    """Compares nodes in a child process. Use as a context manager; the child ends with it.

    Args:
        budget: Seconds that all comparisons after one `renew()` may take together.
    """

    def __init__(self, budget: float = BUDGET_SECONDS) -> None:
        self.budget, self.left = budget, budget
        self._child: subprocess.Popen[bytes] | None = None
        self._buffer = b""

    def __enter__(self) -> SymbolicWorker:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

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
            SymbolicTimeout: The budget of this answer is used up; the child was killed.
            SymbolicError: The child refused or failed.
        """
        if self.left <= 0:
            raise SymbolicTimeout
        self._start()
        begin = time.monotonic()
        try:
            self._child.stdin.write(json.dumps({"mode": mode, "a": a, "b": b}).encode() + b"\n")
            self._child.stdin.flush()
            reply = self._read(self.left)
        except OSError as error:
            self.stop()
            raise SymbolicError(f"the worker ended: {error}") from error
        finally:
            self.left -= time.monotonic() - begin
        if "error" in reply:
            raise SymbolicError(reply["error"])
        return reply["equal"]

    def stop(self) -> None:
        """End the child, if one runs."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            self._child.stdin.close()
            self._child.stdout.close()
            self._child, self._buffer = None, b""

    def _start(self) -> None:
        if self._child is not None:
            return
        root = str(Path(__file__).resolve().parents[2])  # so that the child finds the package we were loaded from
        paths = [root, os.environ["PYTHONPATH"]] if os.environ.get("PYTHONPATH") else [root]
        self._child = subprocess.Popen(
            [sys.executable, "-m", "sorsa.evaluation.symbolic_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
            start_new_session=True,  # Ctrl-C goes to the parent alone, which ends the child itself
        )
        self._read(START_SECONDS)

    def _read(self, seconds: float) -> dict[str, Any]:
        deadline = time.monotonic() + seconds
        stream = self._child.stdout.fileno()
        while b"\n" not in self._buffer:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([stream], [], [], left)[0]:
                self.stop()
                raise SymbolicTimeout
            piece = os.read(stream, 65536)
            if not piece:
                self.stop()
                raise SymbolicError("the worker ended (out of memory or a crash)")
            self._buffer += piece
        line, _, self._buffer = self._buffer.partition(b"\n")
        return json.loads(line)
