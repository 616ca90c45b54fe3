"""Which level of isolation works on this machine, found by running a harmless candidate that tries to get out."""

from __future__ import annotations

import functools
import logging
import os
import socket
import tempfile

from sorsa.errors import UsageError
from sorsa.evaluation.sandbox import bwrap, isolation
from sorsa.evaluation.sandbox.helper import Candidate, Helper, Outcome

logger = logging.getLogger(__name__)

FLOOR = "landlock"  # the weakest level at which a candidate can neither read nor change what is outside
_WEAKER = "limits"

# What it can do that it should not be able to; an import from the library shows that it can still work.
_PROBE = """\
def f(secret, port):
    import json, os
    done = []
    for name, attempt in {
        "read files": lambda: open(secret),
        "write files": lambda: open(secret + ".new", "w"),
        "reach the network": lambda: __import__("socket").socket().connect(("127.0.0.1", port)),
    }.items():
        try:
            attempt()
            done.append(name)
        except (OSError, ImportError):
            pass
    return done
"""


def try_level(level: str) -> Outcome:
    """Run the probe at one level; `passed` means that it works, and above `limits` that nothing got out.

    Args:
        level: One of isolation.LEVELS.
    """
    # a folder of its own, in which whatever the probe makes goes away; what holds must be the level, not a file's mode
    with (
        tempfile.TemporaryDirectory(prefix="sorsa-canary-") as folder,
        socket.create_server(("127.0.0.1", 0)) as outside,
    ):
        os.chmod(folder, 0o777)
        secret = os.path.join(folder, "secret")
        with open(secret, "x"):
            os.chmod(secret, 0o666)
        must = "is not None" if level == _WEAKER else "== []"
        port = outside.getsockname()[1]  # the grader's: a network namespace has a loopback too, but not this listener
        test = f"def check(candidate):\n    done = candidate({secret!r}, {port})\n    assert done {must}, done\n"
        helper = Helper()
        try:
            return helper.check(Candidate((_PROBE,), "f", "", test), level)
        finally:
            helper.close()


@functools.cache
def _search() -> tuple[str | None, bool, tuple[str, ...]]:
    """Return the strongest level, whether system calls are filtered there, and why those above it do not work."""
    reasons: list[str] = []
    for level in isolation.LEVELS:
        outcome = Outcome("broken", "not installed") if level == "bwrap" and not bwrap.program() else try_level(level)
        if outcome.verdict == "passed":
            return level, outcome.filtered, tuple(reasons)
        hint = "; see bwrap --unshare-user --ro-bind / / true" if level == "bwrap" and bwrap.program() else ""
        reasons.append(f"{level}: {outcome.detail}{hint}")
    return None, False, tuple(reasons)


def strongest_level() -> str:
    """Return the strongest level that works here.

    Raises:
        UsageError: Not even child processes with limits work.
    """
    level, _, reasons = _search()
    if level is None:
        raise UsageError(f"code cannot be run safely on this system ({'; '.join(reasons)}); test humaneval on Linux")
    return level


def describe(level: str) -> str:
    """Return a level for records, with whether system calls are filtered there.

    Args:
        level: What `require_level` returned.
    """
    return level if level == _WEAKER else f"{level}, {'filtered' if _search()[1] else 'not filtered'}"


def require_level(allow_unsandboxed: bool) -> str:
    """Return the strongest level that works here, unless that is below the floor and nobody agreed to it.

    Args:
        allow_unsandboxed: Consent to resource limits alone, with a warning.

    Raises:
        UsageError: No level at or above the floor works; the line says what is missing and what to do.
    """
    level = strongest_level()
    _, filtered, reasons = _search()
    if level != _WEAKER:
        if not filtered:
            logger.warning("no system-call filter on this processor or kernel; level %s runs without it", level)
        return level
    missing = "; ".join(reasons)
    if not allow_unsandboxed:
        raise UsageError(
            f"no sandbox works on this system ({missing}): install bubblewrap (apt-get install bubblewrap), or run "
            "model-written code with resource limits alone by --allow-unsandboxed"
        )
    logger.warning(
        "no sandbox works here (%s): model-written code runs with resource limits only, and can read and change "
        "what this user can",
        missing,
    )
    return level
