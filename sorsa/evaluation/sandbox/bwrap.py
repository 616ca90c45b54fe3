"""Starting a candidate through bubblewrap (0.7 or newer, for --size), which makes the namespaces."""

from __future__ import annotations

import os
import sys

from .isolation import FOLDER_SIZE

_PLACES = ("/usr/bin/bwrap", "/usr/local/bin/bwrap", "/bin/bwrap")  # never by PATH, which the user's folders may lead
_PACKAGE = "/sandbox"  # where the candidate's side of this package lies inside
_FOR_ROOT = ("CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP")  # with which enter() becomes nobody, and loses them


def program() -> str | None:
    """Return the path of the bubblewrap program, or None where it is not installed."""
    return next((path for path in _PLACES if os.access(path, os.X_OK)), None)


def become(visible: list[str], aliases: dict[str, str], hidden: list[str], uid: int | None) -> None:
    """Turn this process into bubblewrap, which runs inside.py; open file descriptors stay.

    Args:
        visible: Files and folders that stay readable.
        aliases: Links to make, path -> where it leads.
        hidden: Files and folders inside visible ones that become empty.
        uid: The user that the candidate will become, or None.

    Raises:
        OSError: bubblewrap is not installed or cannot be run.
    """
    found = program()
    if found is None:
        raise OSError("bubblewrap is not installed")
    python = os.path.realpath(sys.executable)
    command = [found, "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
    command += ["--die-with-parent", "--as-pid-1", "--new-session", "--cap-drop", "ALL"]
    if uid is None:
        command += ["--unshare-user"]
    else:
        for capability in _FOR_ROOT:
            command += ["--cap-add", capability]
    shown = [*visible] if any(python.startswith(path + "/") for path in visible) else [*visible, python]
    for path in shown:
        # the parent first: bubblewrap would make it for its own user alone
        kind = "--dev-bind" if path.startswith("/dev/") else "--ro-bind"
        command += ["--dir", os.path.dirname(path), kind, path, path]
    for path, real in aliases.items():
        command += ["--dir", os.path.dirname(path), "--symlink", real, path]
    for path in hidden:
        if any(path.startswith(one + "/") for one in visible):
            empty = ["--tmpfs", path, "--remount-ro", path] if os.path.isdir(path) else ["--ro-bind", "/dev/null", path]
            command += empty
    command += ["--ro-bind", os.path.dirname(os.path.abspath(__file__)), _PACKAGE]
    command += ["--perms", "0777", "--size", str(FOLDER_SIZE), "--tmpfs", "/scratch", "--remount-ro", "/"]
    os.execve(found, [*command, "--", python, "-I", "-S", f"{_PACKAGE}/inside.py", "candidate"], {})
