"""Running code written by a model, shut in, and deciding outside its reach whether it passes its tests.

`check_all` is what benchmarks use; `judge.py` says how one check works, `isolation.py` what holds the candidate,
`levels.py` how the level is chosen.
"""

from __future__ import annotations

import concurrent.futures
import logging
import os
import queue
from collections.abc import Iterable, Iterator

from sorsa.errors import UsageError
from sorsa.evaluation.sandbox.helper import SECONDS, Candidate, Helper, Outcome
from sorsa.evaluation.sandbox.isolation import LEVELS
from sorsa.evaluation.sandbox.levels import describe, require_level, strongest_level

__all__ = [
    "LEVELS",
    "SECONDS",
    "Candidate",
    "Outcome",
    "check",
    "check_all",
    "describe",
    "require_level",
    "strongest_level",
]

logger = logging.getLogger(__name__)

# what shows whether a check that broke, and broke again, did so by the machine's fault
_HARMLESS = Candidate(("def f(): return 1",), "f", "", "def check(candidate):\n    assert candidate() == 1\n")


def check(candidate: Candidate, level: str) -> Outcome:
    """Run one candidate against its tests.

    Args:
        candidate: The program and its tests.
        level: One of LEVELS.
    """
    helper = Helper()
    try:
        return helper.check(candidate, level)
    finally:
        helper.close()


def check_all(
    candidates: Iterable[Candidate], workers: int | None = None, level: str | None = None
) -> Iterator[Outcome]:
    """Yield the outcome of each candidate in order, several at a time.

    Args:
        candidates: What to run.
        workers: How many run at once; default one per CPU core available to this process.
        level: One of LEVELS; default the strongest that works here.

    Raises:
        UsageError: A check could not be made, nor one of a harmless program. Where that one can be made, the program
            may have had a part in it, and must not end the work of all: then its outcome is `broken`.
    """
    level = level or strongest_level()
    workers = workers or len(os.sched_getaffinity(0))
    helpers = [Helper() for _ in range(workers)]
    idle: queue.SimpleQueue[Helper] = queue.SimpleQueue()
    for helper in helpers:
        idle.put(helper)

    def work(candidate: Candidate) -> Outcome:
        helper = idle.get()
        try:
            outcome = helper.check(candidate, level)
            if outcome.verdict == "broken" and not helper.closed:
                _require_working(helper, level)
                outcome = helper.check(candidate, level)
            return outcome
        finally:
            idle.put(helper)

    # threads only wait; the work is in child processes
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        results = pool.map(work, candidates)
        try:
            yield from results
        finally:  # after Ctrl-C too: what has not begun is cancelled, what runs is killed
            results.close()
            for helper in helpers:
                helper.close()


def _require_working(helper: Helper, level: str) -> None:
    outcome = helper.check(_HARMLESS, level)
    if outcome.verdict == "broken" and not helper.closed:
        raise UsageError(
            f"the sandbox (level {level}) stopped working: {outcome.detail}; see whether processes, memory or disk "
            "have run out, then grade again"
        )
