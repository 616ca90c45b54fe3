"""A bounded child process that answers questions about expressions: started when needed, reused, replaced when lost."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Self

START_SECONDS = 60.0  # importing sympy on a loaded machine
GRACE_SECONDS = 1.0  # the kernel ends a late request by itself; this is for a machine that is very late


class ChildTimeout(Exception):
    """The request did not end within its time."""


class ChildError(Exception):
    """The child could not answer: it refused, failed, or ran out of memory."""


class Child:
    """Runs a module that ends in `child_loop.serve`. Use as a context manager; the process ends with it.

    Args:
        module: Name of the module to run.
    """

    def __init__(self, module: str) -> None:
        self.module = module
        self._process: subprocess.Popen[bytes] | None = None
        self._ready = False
        self._buffer = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def ask(self, request: dict[str, Any], seconds: float) -> dict[str, Any]:
        """Send a request and return the reply.

        Args:
            request: JSON types.
            seconds: How long the child may work on it; starting it does not count.

        Raises:
            ChildTimeout: It did not end in time.
            ChildError: The child refused, failed or ended.
        """
        self.prepare()
        try:
            self._process.stdin.write(json.dumps({**request, "seconds": seconds}).encode() + b"\n")
            self._process.stdin.flush()
        except OSError as error:
            self.stop()
            raise ChildError(f"the worker ended: {error}") from error
        reply = self._read(seconds + GRACE_SECONDS)
        if "timeout" in reply:
            raise ChildTimeout
        if "error" in reply:
            raise ChildError(reply["error"])
        return reply

    def start(self) -> None:
        """Start the process if none runs, without waiting until it is ready."""
        if self._process is not None:
            return
        root = str(Path(__file__).resolve().parents[2])  # so that the child finds the package we were loaded from
        paths = [root, os.environ["PYTHONPATH"]] if os.environ.get("PYTHONPATH") else [root]
        self._process = subprocess.Popen(
            [sys.executable, "-m", self.module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
            start_new_session=True,  # Ctrl-C goes to the parent alone, which ends the child itself
        )

    def prepare(self) -> None:
        """Start the process if none runs, and wait until it can answer."""
        self.start()
        if not self._ready:
            self._read(START_SECONDS)
            self._ready = True

    def stop(self) -> None:
        """End the process and its copy, if one runs."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)  # not waited for yet, so the number is still its own
            self._process.wait()
            self._process.stdin.close()
            self._process.stdout.close()
            self._process, self._buffer, self._ready = None, b"", False

    def _read(self, seconds: float) -> dict[str, Any]:
        deadline = time.monotonic() + seconds
        stream = self._process.stdout.fileno()
        while b"\n" not in self._buffer:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([stream], [], [], left)[0]:
                self.stop()
                raise ChildTimeout
            piece = os.read(stream, 65536)
            if not piece:
                self.stop()
                raise ChildError("the worker ended")
            self._buffer += piece
        line, _, self._buffer = self._buffer.partition(b"\n")
        return json.loads(line)
