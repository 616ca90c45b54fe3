"""Shutting a process in: kernel namespaces, a read-only root without secrets, resource limits.

Linux and the standard library only.

Level `namespaces`: own PID, mount, network, IPC and host-name namespaces; the file system shows only Python's libraries
(read-only) and one small in-memory folder; no /proc, no network device, no privileges.
Level `limits`: resource limits and a separate session only; where namespaces are refused by the kernel or a container.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import resource
import struct
import sys

LEVELS = ("namespaces", "limits")  # strongest first

MEMORY = 1 << 30  # bytes of address space
FILE_SIZE = 16 << 20  # bytes per file
SCRATCH = "32m"  # size of the in-memory working folder
OPEN_FILES = 64
PROCESSES = 32

_NEWNS, _NEWCGROUP, _NEWUTS, _NEWIPC, _NEWUSER, _NEWPID, _NEWNET = (
    0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000,
)  # fmt: skip
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_REMOUNT, _MS_BIND, _MS_REC, _MS_PRIVATE = 1, 2, 4, 32, 4096, 16384, 1 << 18
_MNT_DETACH = 2
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_CAPBSET_DROP, _PR_SET_CHILD_SUBREAPER, _PR_SET_NO_NEW_PRIVS = 1, 4, 24, 36, 38
_LAST_CAPABILITY = 40
# From here on a uid belongs to nobody; one per candidate, so that the process limit counts each alone.
_FIRST_UID = 0x40000000

_COMMON_MODULES = (
    "math cmath re collections itertools functools operator string heapq bisect random statistics fractions decimal "
    "datetime copy hashlib json typing dataclasses enum array struct time calendar queue threading textwrap"
)

_libc = ctypes.CDLL(None, use_errno=True)


def _call(name: str, *arguments: int | bytes | None) -> None:
    converted = [ctypes.c_ulong(a) if isinstance(a, int) else a for a in arguments]
    if getattr(_libc, name)(*converted) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")


def hide_memory() -> None:
    """Forbid other processes of the same user to trace this one or read its memory."""
    with contextlib.suppress(OSError):
        _call("prctl", _PR_SET_DUMPABLE, 0, 0, 0, 0)


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends, so that none escapes by forking twice."""
    _call("prctl", _PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


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


def unshare(level: str) -> None:
    """Leave the namespaces of the parent; the next child is process 1 of a new PID namespace.

    Raises:
        OSError: The kernel refuses.
    """
    if level != "namespaces":
        return
    spaces = _NEWNS | _NEWPID | _NEWNET | _NEWIPC | _NEWUTS
    if os.geteuid() == 0:
        _call("unshare", spaces)  # root drops its rights later; a user namespace would keep uid 0 outside it
        return
    uid, gid = os.geteuid(), os.getegid()
    _call("unshare", spaces | _NEWUSER)
    for name, text in (("setgroups", "deny"), ("uid_map", f"1000 {uid} 1"), ("gid_map", f"1000 {gid} 1")):
        with open(f"/proc/self/{name}", "w") as stream:
            stream.write(text)


def enter(level: str, folder: str, visible: list[str], hidden: list[str], seconds: int) -> None:
    """Shut the calling process in; called in the child, before any untrusted line.

    Args:
        level: One of LEVELS.
        folder: An existing empty folder: mount point of the new root, or the working folder at level `limits`.
        visible: Files and folders that stay readable.
        hidden: Folders inside visible ones that become empty.
        seconds: CPU time limit.

    Raises:
        OSError: A step was refused; the process must not go on.
    """
    _call("prctl", _PR_SET_PDEATHSIG, 9, 0, 0, 0)
    if level == "namespaces":
        _new_root(folder, visible, hidden)
    else:
        os.chdir(folder)
        if os.geteuid() == 0:
            _preload()
    limit_resources(seconds)
    _drop_privileges()


def _preload() -> None:
    """Import what candidates use most while the library can be read; the new user may not be able to enter it."""
    for name in _COMMON_MODULES.split():
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


def limit_resources(seconds: int) -> None:
    """Set the limits on CPU seconds, memory, file size, open files and core dumps."""
    for kind, value in (
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_AS, MEMORY),
        (resource.RLIMIT_FSIZE, FILE_SIZE),
        (resource.RLIMIT_NOFILE, OPEN_FILES),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(kind)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (value, value))


def _new_root(folder: str, visible: list[str], hidden: list[str]) -> None:
    """Make `folder` an in-memory file system that shows only `visible`, then make it the root."""
    _call("mount", b"none", b"/", None, _MS_REC | _MS_PRIVATE, None)
    _call("mount", b"tmpfs", folder.encode(), b"tmpfs", _MS_NOSUID | _MS_NODEV, f"size={SCRATCH},mode=755".encode())
    for path in visible:
        _show(path, folder + path)
    for path in hidden:
        if os.path.isdir(folder + path):
            _call("mount", b"tmpfs", (folder + path).encode(), b"tmpfs", _MS_RDONLY, b"size=4k")
    os.mkdir(folder + "/scratch")
    options = f"size={SCRATCH},nr_inodes=1000,mode=777".encode()
    _call("mount", b"tmpfs", (folder + "/scratch").encode(), b"tmpfs", _MS_NOSUID | _MS_NODEV, options)
    os.chdir(folder)
    _call("pivot_root", b".", b".")
    _call("umount2", b".", _MNT_DETACH)
    _call("mount", b"none", b"/", None, _MS_REMOUNT | _MS_BIND | _MS_RDONLY | _MS_NOSUID | _MS_NODEV, None)
    os.chdir("/scratch")


def _show(path: str, target: str) -> None:
    """Bind a file or folder of the host read-only at `target`."""
    if not os.path.exists(path):
        return
    if os.path.isdir(path):
        os.makedirs(target, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(target, "x"):
            pass
    _call("mount", path.encode(), target.encode(), None, _MS_BIND | _MS_REC, None)
    kept = os.statvfs(target).f_flag & 0x3FF & ~_MS_REMOUNT  # flags of the source that may not be taken away
    device = 0 if path.startswith("/dev/") else _MS_NODEV
    _call(
        "mount", b"none", target.encode(), None, _MS_REMOUNT | _MS_BIND | _MS_RDONLY | _MS_NOSUID | device | kept, None
    )


def _drop_privileges() -> None:
    """Give up root and every capability for good, and limit the number of processes."""
    process_limit = (resource.RLIMIT_NPROC, (PROCESSES, PROCESSES))
    if os.geteuid() == 0:
        for capability in range(_LAST_CAPABILITY + 1):
            with contextlib.suppress(OSError):  # the kernel may know fewer
                _call("prctl", _PR_CAPBSET_DROP, capability, 0, 0, 0)
        uid = _FIRST_UID + int.from_bytes(os.urandom(3), "big")
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
        resource.setrlimit(*process_limit)
    elif os.getpid() == 1:  # in a namespace of its own the user's other processes do not count
        resource.setrlimit(*process_limit)
    else:
        allowed = _tasks_of_user() + PROCESSES
        resource.setrlimit(resource.RLIMIT_NPROC, (allowed, allowed))
    _call("prctl", _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    header, none = struct.pack("Ii", 0x20080522, 0), bytes(24)  # capability interface version 3; all sets empty
    _call("capset", header, none)


def _tasks_of_user() -> int:
    """Return how many threads the user already runs; the kernel's limit counts them all."""
    count = 0
    for name in os.listdir("/proc"):
        with contextlib.suppress(OSError):
            if name.isdigit() and os.stat(f"/proc/{name}").st_uid == os.geteuid():
                count += len(os.listdir(f"/proc/{name}/task"))
    return count


def python_paths(packages: list[str]) -> list[str]:
    """Return what a running Python needs to import: its library, shared libraries, and the given package folders."""
    library = os.path.dirname(os.__file__)
    system = ["/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache", "/dev/null", "/dev/urandom", "/dev/zero"]
    extensions = [path for path in sys.path if path.endswith("lib-dynload")]
    shown: list[str] = []
    for path in [*system, os.path.join(sys.base_prefix, "lib"), library, *extensions, *packages]:
        real = os.path.abspath(path)
        if os.path.exists(real) and not any(real == old or real.startswith(old + "/") for old in shown):
            shown.append(real)
    return shown
