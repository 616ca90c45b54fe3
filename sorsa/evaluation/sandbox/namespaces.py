"""Kernel namespaces of our own making: a root that shows only Python's libraries, no network, no other processes."""

from __future__ import annotations

import contextlib
import os

from .kernel import call

SCRATCH = "32m"  # size of the in-memory working folder; counts as memory
ENTRIES = 1000  # files in it; an empty file costs memory too

_NEWNS, _NEWUTS, _NEWIPC, _NEWUSER, _NEWPID, _NEWNET = 0x20000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_REMOUNT, _MS_BIND, _MS_REC, _MS_PRIVATE = 1, 2, 4, 32, 4096, 16384, 1 << 18
_MNT_DETACH = 2


def unshare() -> None:
    """Leave the namespaces of the parent; the next child is process 1 of a new PID namespace.

    Raises:
        OSError: The kernel refuses.
    """
    spaces = _NEWNS | _NEWPID | _NEWNET | _NEWIPC | _NEWUTS
    if os.geteuid() == 0:
        with contextlib.suppress(PermissionError):  # root of a container may not
            call("unshare", spaces)  # root drops its rights later; a user namespace would keep uid 0 outside it
            return
    uid, gid = os.geteuid(), os.getegid()
    call("unshare", spaces | _NEWUSER)
    for name, text in (("setgroups", "deny"), ("uid_map", f"1000 {uid} 1"), ("gid_map", f"1000 {gid} 1")):
        with open(f"/proc/self/{name}", "w") as stream:
            stream.write(text)


def new_root(folder: str, visible: list[str], aliases: dict[str, str], hidden: list[str]) -> None:
    """Make `folder` an in-memory file system that shows only `visible`, then make it the root.

    Args:
        folder: An existing empty folder.
        visible: Files and folders that stay readable.
        aliases: Links to make, path -> where it leads.
        hidden: Files and folders inside visible ones that become empty.

    Raises:
        OSError: The kernel refuses.
    """
    call("mount", b"none", b"/", None, _MS_REC | _MS_PRIVATE, None)
    call("mount", b"tmpfs", folder.encode(), b"tmpfs", _MS_NOSUID | _MS_NODEV, f"size={SCRATCH},mode=755".encode())
    for path in visible:
        _show(path, folder + path)
    for path, real in aliases.items():
        os.makedirs(os.path.dirname(folder + path), exist_ok=True)
        os.symlink(real, folder + path)
    for path in hidden:
        if os.path.isdir(folder + path):
            call("mount", b"tmpfs", (folder + path).encode(), b"tmpfs", _MS_RDONLY, b"size=4k")
        elif os.path.exists(folder + path):
            call("mount", b"/dev/null", (folder + path).encode(), None, _MS_BIND, None)
    os.mkdir(folder + "/scratch")
    options = f"size={SCRATCH},nr_inodes={ENTRIES},mode=777".encode()
    call("mount", b"tmpfs", (folder + "/scratch").encode(), b"tmpfs", _MS_NOSUID | _MS_NODEV, options)
    os.chdir(folder)
    call("pivot_root", b".", b".")
    call("umount2", b".", _MNT_DETACH)
    call("mount", b"none", b"/", None, _MS_REMOUNT | _MS_BIND | _MS_RDONLY | _MS_NOSUID | _MS_NODEV, None)


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
    call("mount", path.encode(), target.encode(), None, _MS_BIND | _MS_REC, None)
    kept = os.statvfs(target).f_flag & 0x3FF & ~_MS_REMOUNT  # flags of the source that may not be taken away
    device = 0 if path.startswith("/dev/") else _MS_NODEV
    flags = _MS_REMOUNT | _MS_BIND | _MS_RDONLY | _MS_NOSUID | device | kept
    call("mount", b"none", target.encode(), None, flags, None)
