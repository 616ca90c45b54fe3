"""The trusted side of one HumanEval check: run as `python -I -S judge.py`, spoken to over standard input and output.

    grader --(1: program)--> judge --fork--> candidate, shut in by isolation.py
           --(2: tests)----> judge --calls--> candidate --plain values--> judge --verdict--> grader

The tests run here, with a stand-in for the candidate's function that sends the arguments over a pipe and gets a plain
value back. The candidate's process was forked before the tests arrived, and holds neither them nor the verdict's pipe.
So nothing it does (exiting, printing, patching builtins, frames, threads, `__eq__`) can say "passed".
"""

from __future__ import annotations

import builtins
import contextlib
import os
import select
import signal
import sys
import time
import types
from collections.abc import Callable
from typing import Any

# This file runs alone, outside the package.
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import isolation
import values

MAX_ERROR = 300  # characters of an exception text that are kept
MAX_KILLING = 5.0  # seconds; without PID namespaces a fork bomb is killed process by process


class CandidateGone(BaseException):
    """The candidate's process ended or broke the protocol. Not an Exception: tests must not swallow it."""


class CandidateTimeout(BaseException):
    """The candidate did not answer in time."""


def serve(request: dict[str, Any], requests: int, replies: int) -> None:
    """Be the candidate: load the first program that compiles, then answer calls until the pipe closes."""
    os.dup2(os.open("/dev/null", os.O_RDWR), 0)
    os.dup2(0, 1)
    os.dup2(0, 2)
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.path[:] = [*sys.path[1:], *request["packages"]]
    sys.argv[:] = [""]
    try:
        function = load(request["programs"], request["entry_point"])
    except BaseException as error:  # whatever the program raised, SystemExit too, is its failure
        values.send(replies, {"error": [type(error).__name__, str(error)[:MAX_ERROR]]})
        return
    values.send(replies, {"value": None})
    while True:
        arguments, keywords = (values.decode(part) for part in values.receive(requests))
        try:
            reply = {"value": values.encode(function(*arguments, **keywords))}
        except BaseException as error:
            reply = {"error": [type(error).__name__, str(error)[:MAX_ERROR]]}
        values.send(replies, reply)


def load(programs: list[str], entry_point: str) -> Callable[..., Any]:
    """Run the first program that compiles and return its function; the last one's error counts if none does."""
    for index, program in enumerate(programs):
        try:
            code = compile(program, "candidate.py", "exec")
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            if index == len(programs) - 1:
                raise
            continue
        module = types.ModuleType("candidate")  # a real module, for dataclasses and pickling inside the candidate
        sys.modules["candidate"] = module
        exec(code, module.__dict__)
        if not callable(getattr(module, entry_point, None)):
            raise NameError(f"the program does not define {entry_point}")
        return getattr(module, entry_point)
    raise SyntaxError("no program")


def start(request: dict[str, Any]) -> tuple[int, int, int, int]:
    """Fork the candidate behind a warden; return (warden pid, control pipe, requests pipe, replies pipe).

    The warden stays outside the candidate's namespaces. It kills the candidate when the control pipe closes, which also
    happens if this process dies.
    """
    control_read, control = os.pipe()
    request_read, requests = os.pipe()
    replies, reply_write = os.pipe()
    warden = os.fork()
    if warden:
        for pipe in (control_read, request_read, reply_write):
            os.close(pipe)
        return warden, control, requests, replies
    try:
        for pipe in (0, 1, control, requests, replies):
            os.close(pipe)
        os.setsid()
        isolation.adopt_orphans()
        isolation.unshare(request["level"])
        candidate = os.fork()
        if candidate == 0:
            os.setsid()
            os.close(control_read)
            isolation.enter(*(request[key] for key in ("level", "folder", "visible", "hidden", "cpu_seconds")))
            serve(request, request_read, reply_write)
            os._exit(0)
        os.close(reply_write)
        watch(candidate, control_read)
    except BaseException as error:
        with contextlib.suppress(OSError):
            values.send(reply_write, {"broken": f"{type(error).__name__}: {error}"})
    finally:
        os._exit(0)


def watch(candidate: int, control: int) -> None:
    """Wait until the candidate ends or the control pipe closes; then kill it and everything that it started."""
    handle = os.pidfd_open(candidate)
    select.select([handle, control], [], [])
    deadline = time.monotonic() + MAX_KILLING
    # In a PID namespace the candidate is process 1 and the kernel ends the others with it; else they are looked up.
    left = {candidate}
    while time.monotonic() < deadline:
        seen: set[int] = set()
        while new := left - seen:
            seen |= new
            _signal(new, signal.SIGSTOP)  # who is stopped cannot fork, so this ends even with a fork bomb
            left = isolation.descendants()
        _signal(seen, signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG) != (0, 0):
                pass
        except ChildProcessError:  # nobody is left: orphans would have become children of this process
            return
        time.sleep(0.001)
        left = isolation.descendants()  # a fork may have been under way when the stop arrived


def _signal(processes: set[int], number: int) -> None:
    for process in processes:
        with contextlib.suppress(OSError):
            os.kill(process, number)


def judge(tests: dict[str, Any], requests: int, replies: int, deadline: float) -> None:
    """Run the tests against the candidate. Raises whatever makes them fail."""

    def receive() -> Any:
        try:
            reply = values.receive(replies, deadline)
        except TimeoutError as error:
            raise CandidateTimeout from error
        except (values.Closed, OSError) as error:
            raise CandidateGone("the candidate's process ended") from error
        if not isinstance(reply, dict) or "broken" in reply:
            raise CandidateGone(str(reply)[:MAX_ERROR])
        if "error" in reply:
            raise exception(reply["error"])
        return values.decode(reply.get("value"))

    def candidate(*arguments: Any, **keywords: Any) -> Any:
        try:
            values.send(requests, [values.encode(list(arguments)), values.encode(keywords)])
        except OSError as error:
            raise CandidateGone("the candidate's process ended") from error
        return receive()

    receive()  # the program has loaded
    scope: dict[str, Any] = {}
    exec(tests["prompt"], scope)  # helpers that the tests use, such as HumanEval/38's encode_cyclic
    scope[tests["entry_point"]] = candidate
    exec(tests["test"], scope)
    scope["check"](candidate)


def exception(error: Any) -> Exception:
    """Return an exception of the same built-in class as the candidate's, so that tests may expect it."""
    name, text = (error[0], error[1]) if isinstance(error, list) and len(error) == 2 else ("Exception", "")
    kind = getattr(builtins, str(name), None)
    if not (isinstance(kind, type) and issubclass(kind, Exception)):
        kind = RuntimeError
    try:
        return kind(f"{name}: {text}")
    except TypeError:  # UnicodeDecodeError and the like want more arguments
        return RuntimeError(f"{name}: {text}")


def verdict(tests: dict[str, Any], requests: int, replies: int) -> tuple[str, str]:
    """Return the verdict on the candidate and its detail."""
    try:
        judge(tests, requests, replies, time.monotonic() + tests["seconds"])
    except CandidateTimeout:
        return "timeout", f"no answer within {tests['seconds']} s"
    except CandidateGone as error:
        return "error", str(error)
    except BaseException as error:  # AssertionError above all; any exception of the tests fails the candidate
        return "failed", f"{type(error).__name__}: {error}"[:MAX_ERROR]
    return "passed", ""


def main() -> None:
    """Judge one candidate and print `{"verdict", "detail"}` as a message."""
    request = values.receive(0)
    warden, control, requests, replies = start(request)
    isolation.hide_memory()
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    tests = values.receive(0)
    verdict_pipe = os.dup(1)
    os.dup2(os.open("/dev/null", os.O_RDWR), 1)
    isolation.limit_resources(request["cpu_seconds"])
    word, detail = verdict(tests, requests, replies)
    os.close(control)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(warden, 0)
    values.send(verdict_pipe, {"verdict": word, "detail": detail})


if __name__ == "__main__":
    main()
