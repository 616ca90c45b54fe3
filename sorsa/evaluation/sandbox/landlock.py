"""Landlock: an unprivileged process gives up the file system but for named places, TCP, and signals to others.

The kernel's answer decides what is asked for: each attempt names fewer features, the last one those without which the
level would not hold (no file outside can be read, written, made, removed or cut).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator

from .kernel import system_call

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_PATH_BENEATH = 1

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR, _REMOVE_FILE, _MAKE_REG, _TRUNCATE = 1, 2, 4, 8, 32, 256, 1 << 14
_FILES = (1 << 15) - 1  # every right up to TRUNCATE, with which Linux 6.2 closed the last way to destroy a file
_IOCTL_DEVICE = 1 << 15
_TCP = 3  # bind and connect
_SCOPES = 3  # abstract Unix sockets and signals outside the domain

# (rights on files, rights on the network, scopes), most first
_ATTEMPTS = ((_FILES | _IOCTL_DEVICE, _TCP, _SCOPES), (_FILES | _IOCTL_DEVICE, _TCP), (_FILES, _TCP), (_FILES,))
_READ = _EXECUTE | _READ_FILE | _READ_DIR
_OF_A_FILE = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE  # the rights a rule for a single file may name
_SCRATCH = _READ_FILE | _READ_DIR | _WRITE_FILE | _TRUNCATE | _MAKE_REG | _REMOVE_FILE  # plain files, no folders


def ruleset(visible: list[str], hidden: list[str], scratch: str | None) -> int:
    """Return the file descriptor of a set of rules for `restrict`.

    Args:
        visible: Files and folders that stay readable; /dev/null also writable.
        hidden: Folders inside visible ones whose files do not.
        scratch: A folder for files of one's own, or None.

    Raises:
        OSError: The kernel has no Landlock, or one that does not cover what the level needs.
    """
    rules = _create()
    for path in visible:
        for shown, rights in _without(path, hidden):
            _allow(rules, shown, rights | (_WRITE_FILE if shown == "/dev/null" else 0))
    if scratch is not None:
        _allow(rules, scratch, _SCRATCH)
    return rules


def _create() -> int:
    for attempt in _ATTEMPTS:
        attributes = struct.pack(f"<{len(attempt)}Q", *attempt)
        try:
            return system_call("landlock", _CREATE_RULESET, attributes, len(attributes), 0)
        except OSError as error:
            refused = error
    raise refused


def restrict(rules: int) -> None:
    """Obey a set of rules from now on, for good. Raises OSError where the kernel refuses."""
    system_call("landlock", _RESTRICT_SELF, rules, 0)
    os.close(rules)


def _without(path: str, hidden: list[str]) -> Iterator[tuple[str, int]]:
    """Yield what must be allowed so that a path can be read but for the hidden folders: rights reach downwards."""
    if path in hidden:
        return
    if not any(one.startswith(path + "/") for one in hidden):
        yield path, _READ
        return
    yield path, _READ_DIR  # Python looks for modules by listing the folder
    for name in os.listdir(path):
        yield from _without(os.path.join(path, name), hidden)


def _allow(rules: int, path: str, rights: int) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:  # a dangling link
        return
    try:
        if not os.path.isdir(path):
            rights &= _OF_A_FILE
        system_call("landlock", _ADD_RULE, rules, _PATH_BENEATH, struct.pack("<Qi", rights, place), 0)
    finally:
        os.close(place)
