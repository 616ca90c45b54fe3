"""What holds a candidate, at each level: the last steps of shutting itself in, before its first untrusted line.

Level `bwrap`: the bubblewrap program made the namespaces (bwrap.py); on systems that refuse them to ordinary users it
is often the one program that may.
Level `namespaces`: the same by our own hand (namespaces.py): own PID, mount, network, IPC and host-name namespaces; the
file system shows only Python's libraries (read-only) and one small folder; no /proc, no network device.
Level `landlock`: the host's namespaces, but Landlock (landlock.py) hides all files but those, and refuses writing.
Level `limits`: resource limits and a separate session only.
Above `limits` a system-call filter (seccomp.py) refuses new processes, sockets, signals and much else. Privileges are
given up and resources limited at every level.

Memory: with the filter there is one process, so its address space is the total: MEMORY, plus what its folder holds; and
as much for the judge, which decodes what it sends. Without the filter (level `limits`, an unknown processor)
TASKS_WITHOUT_FILTER processes have half as much each.
"""

from __future__ import annotations

import contextlib
import os
import resource
import stat
import struct

from . import landlock, namespaces, seccomp
from .kernel import (
    PR_CAPBSET_DROP,
    PR_SET_CHILD_SUBREAPER,
    PR_SET_DUMPABLE,
    PR_SET_NO_NEW_PRIVS,
    PR_SET_PDEATHSIG,
    call,
    prctl,
    share_heap,
)

LEVELS = ("bwrap", "namespaces", "landlock", "limits")  # strongest first
REAL_FOLDER = ("landlock", "limits")  # levels whose working folder lies on the host's disk

MEMORY = 1 << 30  # bytes of address space; Python, numpy and a list of ten million numbers fit
MEMORY_WITHOUT_FILTER = 512 << 20
TASKS_WITHOUT_FILTER = 4  # 4 x 512 MiB = 2 GiB
FILE_SIZE = 1 << 20  # bytes per file; with OPEN_FILES it also bounds what deleted but open files hold
FOLDER_SIZE = 32 << 20  # bytes in the working folder
OPEN_FILES = 64
THREADS = 80  # a pool of 64, and some; their stacks take 8 MiB of MEMORY each, if only reserved

_LAST_CAPABILITY = 40
# From here on a uid belongs to nobody; one per candidate, so that the process limit counts each alone.
_FIRST_UID = 0x40000000


def hide_memory() -> None:
    """Forbid other processes of the same user to trace this one or read its memory."""
    with contextlib.suppress(OSError):
        prctl(PR_SET_DUMPABLE, 0)


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends, so that none escapes by forking twice."""
    prctl(PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent() -> None:
    """Be killed when the parent process ends, however it ends. A change of user undoes this."""
    prctl(PR_SET_PDEATHSIG, 9)


def descendants() -> set[int]:
    """Return the process ids of the children of this process, of their children, and so on, from its own /proc."""
    found: set[int] = set()
    waiting = [os.getpid()]
    while waiting:
        process = waiting.pop()
        with contextlib.suppress(OSError):  # it may just have ended
            for thread in os.listdir(f"/proc/{process}/task"):
                with open(f"/proc/{process}/task/{thread}/children") as stream:
                    waiting += [int(word) for word in stream.read().split()]
        found.add(process)
    return found - {os.getpid()}


def new_user(level: str, visible: list[str], folder: str) -> int | None:
    """Give a folder to a uid of nobody's for one candidate, and return that; None where it keeps this process's.

    Args:
        level: One of LEVELS.
        visible: What it must be able to read.
        folder: Its working folder.
    """
    if os.geteuid() != 0:
        return None
    # Python inside /root, say, cannot be entered by others; Landlock holds a root without capabilities as well
    if level == "landlock" and not all(map(_open_to_all, visible)):
        return None
    uid = _FIRST_UID + int.from_bytes(os.urandom(3), "big")
    try:
        os.chown(folder, uid, uid)
    except OSError:  # root of a container that has not all users, or not that right
        return None
    return uid


def _open_to_all(path: str) -> bool:
    while path != "/":
        path = os.path.dirname(path)
        if not os.stat(path).st_mode & stat.S_IXOTH:
            return False
    return True


def enter(
    level: str,
    folder: str,
    visible: list[str],
    aliases: dict[str, str],
    hidden: list[str],
    seconds: int,
    uid: int | None,
) -> bool:
    """Shut the calling process in for good; called in the candidate's process, before any untrusted line.

    Args:
        level: One of LEVELS.
        folder: An existing empty folder: mount point of the new root at level `namespaces`, else the working folder.
        visible: Files and folders that stay readable.
        aliases: Other paths of those, as links to make at level `namespaces`.
        hidden: What lies inside visible folders and does not stay readable.
        seconds: CPU time limit.
        uid: The user to become; None to stay who one is.

    Returns:
        Whether system calls are filtered.

    Raises:
        OSError: A step was refused; the process must not go on.
    """
    rules = landlock.ruleset(visible, hidden, folder) if level == "landlock" else None
    if level == "namespaces":
        namespaces.new_root(folder, visible, aliases, hidden)
    # opened as who we are, who may pass the folders above it; entered as the new user, to whom alone it belongs
    scratch = os.open("/scratch" if level in ("bwrap", "namespaces") else folder, os.O_PATH | os.O_DIRECTORY)
    limit_resources(seconds, MEMORY)
    share_heap()
    _drop_privileges(uid)
    os.fchdir(scratch)
    os.close(scratch)
    die_with_parent()
    if rules is not None:
        landlock.restrict(rules)
    filtered = level != "limits" and seccomp.install()
    if level == "landlock" and not filtered:
        raise OSError("no system-call filter, without which Landlock lets signals and sockets pass")
    if not filtered:
        _limit(resource.RLIMIT_AS, MEMORY_WITHOUT_FILTER)
        _limit(resource.RLIMIT_NPROC, (0 if _counts_alone(uid) else _tasks_of_user()) + TASKS_WITHOUT_FILTER)
    return filtered


def shut_in_judge(visible: list[str], seconds: int) -> None:
    """Take from the judge what it does not need, as far as the kernel can: its tests may come from a file or the hub.

    Args:
        visible: Files and folders that stay readable.
        seconds: CPU time limit.
    """
    limit_resources(seconds, MEMORY)
    with contextlib.suppress(OSError):
        prctl(PR_SET_NO_NEW_PRIVS, 1)
        seccomp.install()
        landlock.restrict(landlock.ruleset(visible, [], None))


def limit_resources(seconds: int, memory: int) -> None:
    """Set the limits on CPU seconds, bytes of memory, file size, open files and core dumps."""
    _limit(resource.RLIMIT_CPU, seconds, 1)  # a second between the signal that says why and the one that kills
    _limit(resource.RLIMIT_AS, memory)
    _limit(resource.RLIMIT_FSIZE, FILE_SIZE)
    _limit(resource.RLIMIT_NOFILE, OPEN_FILES)
    _limit(resource.RLIMIT_CORE, 0)


def _limit(kind: int, value: int, between: int = 0) -> None:
    """Lower a soft limit to `value` and the hard one to `between` above it."""
    hard = resource.getrlimit(kind)[1]
    top = value + between if hard == resource.RLIM_INFINITY else min(value + between, hard)
    resource.setrlimit(kind, (min(value, top), top))


def _drop_privileges(uid: int | None) -> None:
    """Give up root and every capability for good, and limit the number of threads."""
    if uid is not None:
        for capability in range(_LAST_CAPABILITY + 1):
            with contextlib.suppress(OSError):  # the kernel may know fewer, and bubblewrap has dropped most
                prctl(PR_CAPBSET_DROP, capability)
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    _limit(resource.RLIMIT_NPROC, THREADS if _counts_alone(uid) else _tasks_of_user() + THREADS)
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    header, none = struct.pack("Ii", 0x20080522, 0), bytes(24)  # capability interface version 3; all sets empty
    call("capset", header, none)


def _counts_alone(uid: int | None) -> bool:
    """Return whether the kernel's limit on processes counts only the candidate's."""
    return uid is not None or os.getpid() == 1  # a user of its own, or a namespace of its own


def _tasks_of_user() -> int:
    """Return how many threads the user already runs; the kernel's limit counts them all."""
    count = 0
    for name in os.listdir("/proc"):
        with contextlib.suppress(OSError):
            if name.isdigit() and os.stat(f"/proc/{name}").st_uid == os.geteuid():
                count += len(os.listdir(f"/proc/{name}/task"))
    return count
