"""The untrusted side of a check: shuts itself in, then runs the program and answers calls over two pipes.

Forked from the warden, or at level `bwrap` run by bubblewrap through inside.py. It never holds the tests.
"""

from __future__ import annotations

import builtins
import os
import sys
import types

from . import isolation, values

TYPE_CHECKING = False  # as the typing module's; loading that takes a tenth of bubblewrapped candidate's start
if TYPE_CHECKING:
    from typing import Any

REQUESTS, REPLIES = 3, 4  # file descriptors
MAX_ERROR = 300  # characters of an exception text that are kept


def main() -> None:
    """Be the candidate until the pipes close; the first request says how to be shut in and what to run.

    Three messages come before the first call: `ready` when shut in, `program` with the index of the spelling that
    compiles, and the loaded program's `value`. The first two are sent before any untrusted line runs.
    """
    request = values.receive(REQUESTS)
    try:
        keys = ("level", "folder", "visible", "aliases", "hidden", "cpu_seconds", "uid")
        filtered = isolation.enter(*(request[key] for key in keys))
    except OSError as error:
        values.send(REPLIES, {"broken": str(error)[:MAX_ERROR]})
        return
    values.send(REPLIES, {"ready": filtered})
    for standard in (0, 1, 2):
        os.dup2(os.open("/dev/null", os.O_RDWR), standard)
    os.closerange(REPLIES + 1, isolation.OPEN_FILES)
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.path += [path for path in request["packages"] if path not in sys.path]
    sys.argv[:] = [""]
    _serve(request["programs"], request["entry_point"], request["token"])


def _serve(programs: list[str], entry_point: str, token: str) -> None:
    try:
        index, code = _compile(programs)
        values.send(REPLIES, {"program": index})
        module = types.ModuleType("candidate")  # a real module, for dataclasses and pickling inside the candidate
        sys.modules["candidate"] = module
        exec(code, module.__dict__)
        function = getattr(module, entry_point, None)
        if not callable(function):
            raise NameError(f"the program does not define {entry_point}")
    except BaseException as error:  # whatever the program raised, SystemExit too, is its failure
        values.send(REPLIES, {"token": token, **_describe(error)})
        return
    values.send(REPLIES, {"token": token, "value": None})
    while True:
        request = values.receive(REQUESTS)
        token = request["token"]
        try:
            arguments, keywords = values.decode(request["arguments"]), values.decode(request["keywords"])
            reply = {"token": token, "value": values.encode(function(*arguments, **keywords))}
        except BaseException as error:
            reply = {"token": token, **_describe(error)}
        values.send(REPLIES, reply)


def _compile(programs: list[str]) -> tuple[int, types.CodeType]:
    """Return index and code of the first program that compiles; the last one's error counts if none does."""
    for index, program in enumerate(programs):
        try:
            return index, compile(program, "candidate.py", "exec")
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            if index == len(programs) - 1:
                raise
    raise SyntaxError("no program")


def _describe(error: BaseException) -> dict[str, Any]:
    """Return what the tests may see of an exception: see `judge.exception`."""
    kind = type(error)
    names = [base.__name__ for base in kind.__mro__ if vars(builtins).get(base.__name__) is base]
    try:
        text, arguments = str(error)[:MAX_ERROR], values.encode(list(error.args))
    except BaseException:  # a class of the candidate's may raise here too
        text, arguments = "?", ["o"]
    return {"error": [kind.__name__, names, text], "value": arguments}
