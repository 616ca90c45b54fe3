"""Calling the kernel where Python's library has no function for it. Linux and the standard library only."""

from __future__ import annotations

import ctypes
import os

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_CAPBSET_DROP, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 1, 4, 24, 36, 38
_M_ARENA_MAX = -8

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def call(name: str, *arguments: int | bytes | None) -> None:
    """Call a function of the C library that returns 0.

    Args:
        name: Its name.
        *arguments: Whole numbers are passed as `unsigned long`, bytes as a pointer, None as NULL.

    Raises:
        OSError: It returned something else; the text names it.
    """
    if getattr(_libc, name)(*map(_convert, arguments)) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")


def system_call(name: str, number: int, *arguments: int | bytes | None) -> int:
    """Make a system call that the C library has no function for, and return its value.

    Args:
        name: For the error message.
        number: The same on x86_64 and aarch64 for every call since 2018 (those from 424 on).
        *arguments: As for `call`.

    Raises:
        OSError: The kernel refuses.
    """
    result = _libc.syscall(ctypes.c_long(number), *map(_convert, arguments))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")
    return result


def prctl(option: int, value: int) -> None:
    """Set one attribute of this process. Raises OSError where the kernel refuses."""
    call("prctl", option, value, 0, 0, 0)


def share_heap() -> None:
    """Let all threads to come allocate from one heap; glibc reserves 64 MiB of address space for each further one."""
    if hasattr(_libc, "mallopt"):
        _libc.mallopt(_M_ARENA_MAX, 1)


def _convert(argument: int | bytes | None) -> ctypes.c_ulong | bytes | None:
    return ctypes.c_ulong(argument) if isinstance(argument, int) else argument
