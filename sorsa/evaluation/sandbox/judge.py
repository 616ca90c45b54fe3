"""The trusted side of HumanEval checks: run by inside.py, spoken to over standard input and output.

    grader --(1: program)--> helper --fork--> judge --fork--> warden --fork--> candidate, shut in by isolation.py
           --(2: tests)---------------------> judge --calls------------------> candidate
           <--verdict------------------------ judge <--plain values----------- candidate

The helper is this script: it stays, so that Python starts once and not per candidate. It forks one judge per candidate,
which runs the tests with a stand-in for the candidate's function that sends the arguments over a pipe and gets a plain
value back. The candidate's process was started before the tests arrived, and holds neither them nor the verdict's pipe.
So nothing it does (exiting, printing, patching builtins, frames, threads, `__eq__`) can say "passed". Each call carries
a token that its reply must repeat: what was sent before the question was asked is no answer.
"""

from __future__ import annotations

import builtins
import contextlib
import importlib
import os
import select
import shutil
import signal
import sys
import time
from typing import Any

from . import isolation, values, warden

MAX_ERROR = 300  # characters of an exception text that are kept

# What candidates and tests use most, loaded once; it also serves candidates whose user cannot enter Python's folder.
_COMMON_MODULES = (
    "math cmath re collections itertools functools operator string heapq bisect random statistics fractions decimal "
    "datetime copy hashlib json typing dataclasses enum array struct time calendar queue threading textwrap numbers "
    "doctest socket"
)


class CandidateGone(BaseException):
    """The candidate's process ended or broke the protocol. Not an Exception: tests must not swallow it."""


class CandidateTimeout(BaseException):
    """The candidate did not answer in time."""


class SandboxBroken(BaseException):
    """The candidate could not be shut in, so nothing of it has run."""


class Stub:
    """Stands for the candidate's function.

    Args:
        requests: File descriptor to write calls to.
        replies: File descriptor to read values from.
        deadline: time.monotonic() at which the candidate's time is over.
    """

    def __init__(self, requests: int, replies: int, deadline: float) -> None:
        """Keep the pipes."""
        self._requests, self._replies, self._deadline = requests, replies, deadline
        self.program: int | None = None  # index of the spelling that compiled
        self.filtered = False
        self._end: BaseException | None = None  # once over, always over: a bare `except` in a test changes nothing

    def begin(self, request: dict[str, Any]) -> None:
        """Send what to run and wait until it is loaded.

        Raises:
            SandboxBroken: The candidate could not be shut in.
            CandidateGone, CandidateTimeout, Exception: Its program failed.
        """
        try:
            with contextlib.suppress(BrokenPipeError):  # then the reply says what went wrong
                values.send(self._requests, request, self._deadline)
            first = values.receive(self._replies, self._deadline)
            self.filtered = first["ready"]  # nothing untrusted has run before this message
        except (values.Closed, OSError) as error:  # a TimeoutError is an OSError
            raise SandboxBroken("it did not start") from error
        except KeyError:
            raise SandboxBroken(str(first.get("broken"))) from None
        second = self._receive()
        if isinstance(second.get("program"), int):
            self.program = second["program"]
            second = self._receive()
        self._value(second, request["token"])

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        """Call the candidate's function in its own process."""
        self.raise_if_over()
        token = os.urandom(8).hex()
        message = {
            "token": token,
            "arguments": values.encode(list(arguments)),
            "keywords": values.encode(keywords),
        }
        try:
            values.send(self._requests, message, self._deadline)
        except TimeoutError as error:
            raise self._over(CandidateTimeout()) from error
        except OSError as error:
            raise self._over(CandidateGone("the candidate's process ended")) from error
        return self._value(self._receive(), token)

    def raise_if_over(self) -> None:
        """Raise what ended the candidate, if it has ended."""
        if self._end is not None:
            raise self._end

    def _over(self, reason: BaseException) -> BaseException:
        self._end = reason
        return reason

    def _receive(self) -> dict[str, Any]:
        try:
            reply = values.receive(self._replies, self._deadline)
        except TimeoutError as error:
            raise self._over(CandidateTimeout()) from error
        except (values.Closed, OSError) as error:
            raise self._over(CandidateGone("the candidate's process ended")) from error
        if not isinstance(reply, dict):
            raise self._over(CandidateGone("the candidate sent what is no reply"))
        return reply

    def _value(self, reply: dict[str, Any], token: str) -> Any:
        if reply.get("token") != token:
            raise self._over(CandidateGone("the candidate sent a reply to no question"))
        if "error" in reply:
            raise exception(reply["error"], reply.get("value"))
        return values.decode(reply.get("value"))


def exception(error: Any, value: Any) -> BaseException:
    """Return an exception with the built-in base classes of the candidate's, its arguments and its text.

    So `except ValueError` in the tests catches the candidate's own subclass of ValueError. Only built-in classes count:
    the candidate's are named, and nothing of theirs runs here.

    Args:
        error: `[name, names of the built-in classes among its bases, text]`.
        value: Form of the list of its arguments.
    """
    if not isinstance(error, list) or [type(part) for part in error] != [str, list, str]:
        return RuntimeError("the candidate sent what is no exception")
    name, names, text = error
    try:
        # StopIteration would end a loop of the tests' as if all were well
        kinds = [kind for one in dict.fromkeys(names) if issubclass(kind := vars(builtins)[one], BaseException)
                 and not issubclass(kind, StopIteration)]  # fmt: skip
        arguments = values.decode(value)
        arguments = arguments if type(arguments) is list else [text]
        # a UnicodeError looks at its arguments when it is shown, and some Pythons crash on odd ones
        if kinds[0].__name__ == name and not issubclass(kinds[0], UnicodeError):
            return kinds[0](*arguments)
        bases = [kind for kind in kinds if not any(issubclass(other, kind) for other in kinds if other is not kind)]
        made = type(name, tuple(bases), {"__str__": lambda _: text})
        return made.__new__(made, *arguments)
    except Exception:  # no built-in class can be raised with these arguments, or no class have these bases
        return RuntimeError(f"{name}: {text}")


def describe(error: BaseException) -> str:
    """Return an exception as text; the values in it may have no short form, such as an integer of a million digits."""
    try:
        return f"{type(error).__name__}: {error}"[:MAX_ERROR]
    except (ValueError, RecursionError, MemoryError):
        return type(error).__name__


def run_tests(tests: dict[str, Any], candidate: Stub) -> None:
    """Run the tests against the candidate. Raises whatever makes them fail."""
    scope: dict[str, Any] = {}
    exec(tests["prompt"], scope)  # helpers that the tests use, such as HumanEval/38's encode_cyclic
    scope[tests["entry_point"]] = candidate
    exec(tests["test"], scope)
    scope["check"](candidate)
    candidate.raise_if_over()


def judge(request: dict[str, Any]) -> None:
    """Judge one candidate and send `{"verdict", "detail", "program", "filtered"}` to the grader."""
    isolation.die_with_parent()
    keeper, control, requests, replies = warden.start(request)
    isolation.hide_memory()
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    tests = values.receive(0)
    verdict_pipe = os.dup(1)
    for standard in (0, 1):
        os.dup2(os.open("/dev/null", os.O_RDWR), standard)
    os.set_blocking(requests, False)
    isolation.shut_in_judge(request["visible"], request["cpu_seconds"])
    candidate = Stub(requests, replies, time.monotonic() + tests["seconds"])
    word, detail = "passed", ""
    try:
        candidate.begin(request)
        run_tests(tests, candidate)
    except SandboxBroken as error:
        word, detail = "broken", str(error)
    except CandidateTimeout:
        word, detail = "timeout", f"no answer within {tests['seconds']} s"
    except CandidateGone as error:
        word, detail = "error", str(error)
    except BaseException as error:  # AssertionError above all; any exception of the tests fails the candidate
        word, detail = "failed", describe(error)
    os.close(control)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(keeper, 0)
    verdict = {"verdict": word, "detail": detail, "program": candidate.program, "filtered": candidate.filtered}
    values.send(verdict_pipe, verdict)


def wait(process: int) -> int | None:
    """Wait for a judge and return its status; None when the grader has gone, and the judge with it."""
    handle = os.pidfd_open(process)
    events = select.poll()
    events.register(handle, select.POLLIN)
    events.register(0, 0)  # hang-up is reported unasked; the message that lies there is the judge's to read
    gone = any(descriptor == 0 for descriptor, _ in events.poll())
    if gone:
        os.kill(process, signal.SIGKILL)  # its warden notices and ends the candidate
    os.close(handle)
    status = os.waitpid(process, 0)[1]
    return None if gone else status


def sweep(folder: str) -> None:
    """Delete the working folder in the grader's place, as soon as the candidate has left it."""
    end = time.monotonic() + warden.MAX_KILLING
    while os.path.isdir(folder) and time.monotonic() < end:
        with contextlib.suppress(OSError, RecursionError):
            shutil.rmtree(folder)
        time.sleep(0.05)


def main() -> None:
    """Be the helper: one judge after the other, until the grader closes standard input."""
    for name in _COMMON_MODULES.split():
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    while True:
        try:
            request = values.receive(0)
        except values.Closed:
            return
        sys.path += [path for path in request["packages"] if path not in sys.path]
        for name in request["modules"]:
            importlib.import_module(name)
        process = os.fork()
        if process == 0:
            judge(request)
            os._exit(0)
        status = wait(process)
        if status is None:
            return sweep(request["folder"])
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU:
            detail = "the tests' own work took too long"  # say on an enormous number that the candidate returned
            values.send(1, {"verdict": "timeout", "detail": detail, "program": None, "filtered": True})
        elif status != 0:
            return  # no verdict; the grader asks another helper
