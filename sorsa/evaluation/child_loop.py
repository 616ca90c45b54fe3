"""The child's side of `child.py`: a process that imports once, and serves from a copy of itself that may be lost.

The process imports sympy, then forks. The copy answers requests, one JSON object a line; when a request takes too long
the kernel ends the copy (a timer whose signal nobody catches), the original says so and forks anew, which takes
milliseconds where a new start takes half a second. When standard input closes, whoever listens ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import sys
import warnings
from collections.abc import Callable
from typing import Any

MEMORY = 512 << 20  # bytes of address space, half of what grading may take; sympy with math-verify needs 62 MB
# What the interpreter may still do once everything is imported: run code it has (`exec`) and look at itself. An audit
# hook, which cannot be removed again, refuses all else: files, processes, sockets, ctypes, and `compile`, without which
# no text is evaluated (`eval` of a string compiles it first).
_ALLOWED = {"exec", "object.__getattr__", "sys._getframe", "builtins.id"}


class Forbidden(PermissionError):
    """The interpreter was about to do what this process must not do."""


def shut_in(may_compile: Callable[[Any], bool]) -> None:
    """Refuse, for good, everything outside _ALLOWED in this process.

    Args:
        may_compile: Tells of a source (text, bytes or syntax tree) whether it may be compiled.
    """

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in _ALLOWED and not (event == "compile" and may_compile(arguments[0])):
            raise Forbidden(event)

    sys.addaudithook(hook)


def serve(answer: Callable[[dict[str, Any]], dict[str, Any]], may_compile: Callable[[Any], bool] | None = None) -> None:
    """Answer requests on standard input until it closes; never returns to other code.

    Args:
        answer: Turns one request into its reply. Its key `seconds` is the time the request may take.
        may_compile: Shuts the process in, see `shut_in`; None where the text of a model is never parsed.
    """
    for kind, value in ((resource.RLIMIT_AS, MEMORY), (resource.RLIMIT_CORE, 0), (resource.RLIMIT_FSIZE, 0)):
        with contextlib.suppress(ValueError, OSError):  # a lower limit set from outside stays
            resource.setrlimit(kind, (value, value))
    warnings.simplefilter("ignore")  # nobody reads them, and showing one opens the source file
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # the kernel's default action is to end the process
    _send({"ready": True})
    while True:
        pid = os.fork()
        if pid == 0:
            if may_compile is not None:
                shut_in(may_compile)
            _answer_all(answer)
            os._exit(0)
        status = os.waitpid(pid, 0)[1]
        if not os.WIFSIGNALED(status):
            return
        _send({"timeout": True} if os.WTERMSIG(status) == signal.SIGALRM else {"error": "out of memory or a crash"})


def _answer_all(answer: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    for line in iter(sys.stdin.buffer.readline, b""):
        request = json.loads(line)
        signal.setitimer(signal.ITIMER_REAL, request["seconds"])
        try:
            reply = answer(request)
        except MemoryError:
            reply = {"error": "out of memory"}
        except Exception as error:  # sympy raises almost anything; the parent counts it as a wrong answer
            reply = {"error": f"{type(error).__name__}: {str(error)[:200]}"}
        signal.setitimer(signal.ITIMER_REAL, 0)
        _send(reply)


def _send(reply: dict[str, Any]) -> None:
    sys.stdout.buffer.write(json.dumps(reply).encode() + b"\n")
    sys.stdout.buffer.flush()
