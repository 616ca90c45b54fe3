"""The process between judge and candidate: it starts the candidate and ends everything the candidate has started.

It stays outside the candidate's namespaces, and acts when the candidate ends, when the judge closes the control pipe
(which the kernel does for it if it dies), or when the working folder holds too much.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from typing import Any

from . import bwrap, candidate, isolation, namespaces, values

MAX_KILLING = 5.0  # seconds; without PID namespaces a fork bomb is killed process by process
LOOK_EVERY = 0.1  # seconds between looks at a working folder on the disk: at 1 GB/s, 100 MB more than allowed


def start(request: dict[str, Any]) -> tuple[int, int, int, int]:
    """Fork a warden, which starts the candidate.

    Args:
        request: How to shut the candidate in; its keys are `isolation.enter`'s arguments.

    Returns:
        The warden's process id; file descriptors of the control pipe, the requests pipe and the replies pipe.
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
        if request["level"] == "namespaces":
            namespaces.unshare()
        process = os.fork()
        if process == 0:
            os.setsid()
            _run_candidate(request, request_read, reply_write)
            os._exit(0)
        os.close(request_read)
        os.close(reply_write)
        _watch(process, control_read, request["level"], request["folder"])
    except BaseException as error:
        with contextlib.suppress(OSError):
            values.send(reply_write, {"broken": f"{type(error).__name__}: {error}"})
    finally:
        os._exit(0)


def _run_candidate(request: dict[str, Any], requests: int, replies: int) -> None:
    """Hand over to the candidate's side with just its two pipes."""
    requests, replies = os.dup(requests), os.dup(replies)  # away from where the next line puts them
    spare = max(requests, replies, candidate.REPLIES) + 1
    os.dup2(requests, spare)
    os.dup2(replies, candidate.REPLIES)
    os.dup2(spare, candidate.REQUESTS)
    os.closerange(candidate.REPLIES + 1, 1 << 20)
    os.set_inheritable(candidate.REQUESTS, True)
    os.set_inheritable(candidate.REPLIES, True)
    if request["level"] == "bwrap":
        for standard in (0, 1, 2):  # Python gives no sys.stdin and sys.stdout to who starts without them
            os.dup2(os.open("/dev/null", os.O_RDWR), standard)
        try:
            bwrap.become(*(request[key] for key in ("visible", "aliases", "hidden", "uid")))
        except OSError as error:
            values.send(candidate.REPLIES, {"broken": str(error)})
    else:
        with contextlib.suppress(values.Closed, OSError):  # the judge has gone
            candidate.main()


def _watch(process: int, control: int, level: str, folder: str) -> None:
    """Wait until the candidate ends or has to; then kill it and everything that it started."""
    handle = os.pidfd_open(process)
    pause = LOOK_EVERY if level == "bwrap" or level in isolation.REAL_FOLDER else None
    while not select.select([handle, control], [], [], pause)[0]:
        place = _scratch_inside() if level == "bwrap" else folder
        if place is not None and _overfull(place):
            break
    deadline = time.monotonic() + MAX_KILLING
    # In a PID namespace the candidate is process 1 and the kernel ends the others with it; else they are looked up.
    left = {process}
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


def _scratch_inside() -> str | None:
    """Return the path of bubblewrap's in-memory working folder, whose number of files it cannot limit."""
    paths = (f"/proc/{process}/root/scratch" for process in isolation.descendants())
    return next(filter(os.path.isdir, paths), None)


def _overfull(folder: str) -> bool:
    """Return whether the folder holds more than is allowed, or what cannot be looked at."""
    size = entries = 0
    waiting = [folder]  # not os.walk, which before Python 3.12 goes only as deep as the recursion limit
    while waiting:
        try:
            with os.scandir(waiting.pop()) as found:
                for entry in found:
                    entries += 1
                    with contextlib.suppress(FileNotFoundError):  # just removed
                        size += entry.stat(follow_symlinks=False).st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    if entries > namespaces.ENTRIES or size > isolation.FOLDER_SIZE:
                        return True
        except FileNotFoundError:
            continue
        except OSError:
            return True
    return False


def _signal(processes: set[int], number: int) -> None:
    for process in processes:
        with contextlib.suppress(OSError):
            os.kill(process, number)
