"""A system-call filter: what no HumanEval solution needs and what would reach beyond the process gets "not permitted".

New processes and programs, sockets, signals to others, tracing, mounting, namespaces, kernel keys and modules, shared
memory that outlives or escapes the memory limit, and changing modes, owners or times of files (Landlock lets those
pass). Threads stay allowed: they share the one address space that is limited. Tables for x86_64 and aarch64.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct

from .kernel import call

_PR_SET_SECCOMP, _MODE_FILTER = 22, 2
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_DENY = _ERRNO | errno.EPERM
# classic BPF: load a word of the call's description, compare, return
_LOAD, _IF_EQUAL, _IF_AT_LEAST, _IF_ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_AND = 0x54
_NUMBER, _ARCHITECTURE = 0, 4  # offsets in struct seccomp_data; argument i begins at 16 + 8 i, low word first
_X32 = 0x40000000  # x86_64 has a second table of numbers from here on

# From here on (the numbers are the same on both) every call is one that the kernel does not know: setxattrat,
# file_setattr and whatever will come. Python and the C library need none: they go back to the older calls.
_UNKNOWN = 453

AUDIT = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
# name: (number on x86_64, number on aarch64); None where that architecture lacks it
DENIED: dict[str, tuple[int | None, int | None]] = {
    # processes and programs
    "fork": (57, None), "vfork": (58, None), "execve": (59, 221), "execveat": (322, 281),
    # the network
    "socket": (41, 198), "connect": (42, 203), "bind": (49, 200), "listen": (50, 201), "accept": (43, 202),
    "accept4": (288, 242),
    # other processes: tracing, memory, signals, limits, priorities
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "kcmp": (312, 272),
    "pidfd_open": (434, 434), "pidfd_getfd": (438, 438), "pidfd_send_signal": (424, 424),
    "process_madvise": (440, 440), "process_mrelease": (448, 448), "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240), "setpriority": (141, 140), "ioprio_set": (251, 30),
    "sched_setaffinity": (203, 122), "sched_setscheduler": (144, 119), "sched_setparam": (142, 118),
    "sched_setattr": (314, 274), "migrate_pages": (256, 238), "move_pages": (279, 239), "setpgid": (109, 154),
    # mounts and namespaces
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51), "unshare": (272, 97),
    "setns": (308, 268), "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430),
    "fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433), "mount_setattr": (442, 442),
    # the kernel itself
    "bpf": (321, 280), "perf_event_open": (298, 241), "add_key": (248, 217), "request_key": (249, 218),
    "keyctl": (250, 219), "userfaultfd": (323, 282), "io_uring_setup": (425, 425), "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427), "init_module": (175, 105), "finit_module": (313, 273),
    "delete_module": (176, 106), "kexec_load": (246, 104), "kexec_file_load": (320, 294), "reboot": (169, 142),
    "swapon": (167, 224), "swapoff": (168, 225), "personality": (135, 92), "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265), "acct": (163, 89), "quotactl": (179, 60), "quotactl_fd": (443, 443),
    "settimeofday": (164, 170), "clock_settime": (227, 112), "adjtimex": (159, 171), "clock_adjtime": (305, 266),
    "sethostname": (170, 161), "setdomainname": (171, 162), "syslog": (103, 116), "vhangup": (153, 58),
    "fanotify_init": (300, 262), "iopl": (172, None), "ioperm": (173, None), "modify_ldt": (154, None),
    "sync": (162, 81), "syncfs": (306, 267),
    # memory that the limit on the address space does not count, or that outlives the process
    "memfd_create": (319, 279), "memfd_secret": (447, 447), "shmget": (29, 194), "shmat": (30, 196),
    "msgget": (68, 186), "semget": (64, 190), "mq_open": (240, 180),
    # room on the disk beyond the limit on a file's size
    "fallocate": (285, 47),
    # attributes of files that may belong to the user who grades
    "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452), "chown": (92, None),
    "lchown": (94, None), "fchown": (93, 55), "fchownat": (260, 54), "utime": (132, None), "utimes": (235, None),
    "futimesat": (261, None), "utimensat": (280, 88), "setxattr": (188, 5), "lsetxattr": (189, 6),
    "fsetxattr": (190, 7), "removexattr": (197, 14), "lremovexattr": (198, 15), "fremovexattr": (199, 16),
    "mknod": (133, None), "mknodat": (259, 33),
}  # fmt: skip
# calls that depend on an argument, or that must look as if the kernel did not know them
CONDITIONAL = {
    "kill": (62, 129), "tkill": (200, 130), "tgkill": (234, 131), "clone": (56, 220), "clone3": (435, 435),
    "ioctl": (16, 29), "fcntl": (72, 25), "prlimit64": (302, 261), "socketpair": (53, 199),
}  # fmt: skip

_CLONE_THREAD = 0x10000
_CLONE_FILES = 0x400  # without it a thread could have open files of its own, as many again
_CLONE_NAMESPACES = 0x7E020000
# TCGETS, TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX: what reading, writing and isatty need
_IOCTLS = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)
_FCNTLS = (8, 10, 15, 1024, 1026)  # F_SETOWN, F_SETSIG, F_SETOWN_EX, F_SETLEASE, F_NOTIFY: signals to others, leases
_AF_UNIX = 1
# a datagram socket may send to any address, so only these; the other bits of the type are flags
_SOCK_STREAM, _SOCK_SEQPACKET, _TYPE_BITS = 1, 5, 0xF

Instruction = tuple[int, int, int, int]  # code, jump if true, jump if false, constant


def supported() -> bool:
    """Return whether there is a table for this processor."""
    return os.uname().machine in AUDIT and struct.calcsize("P") == 8


def install() -> bool:
    """Filter the system calls of this process and all its threads from now on; False where that is not possible.

    The process must have given up gaining privileges (PR_SET_NO_NEW_PRIVS).
    """
    if not supported():
        return False
    filters = program(os.uname().machine, os.getpid())
    data = ctypes.create_string_buffer(b"".join(struct.pack("<HBBI", *one) for one in filters))
    description = struct.pack("@HP", len(filters), ctypes.addressof(data))  # struct sock_fprog
    try:
        call("prctl", _PR_SET_SECCOMP, _MODE_FILTER, description, 0, 0)
    except OSError:  # a kernel built without it
        return False
    return True


def program(machine: str, process: int) -> list[Instruction]:
    """Return the filter.

    Args:
        machine: A key of AUDIT.
        process: The only process that may be sent a signal, so that it can end itself and abort().
    """
    column = list(AUDIT).index(machine)
    code: list[Instruction] = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_IF_EQUAL, 1, 0, AUDIT[machine]),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER),
    ]
    if machine == "x86_64":
        code += [(_IF_AT_LEAST, 0, 1, _X32), (_RETURN, 0, 0, _KILL)]
    code += [(_IF_AT_LEAST, 0, 1, _UNKNOWN), (_RETURN, 0, 0, _ERRNO | errno.ENOSYS)]
    for numbers in DENIED.values():
        if numbers[column] is not None:
            code += [(_IF_EQUAL, 0, 1, numbers[column]), (_RETURN, 0, 0, _DENY)]
    blocks = {
        "kill": _only(0, (process,)),
        "tkill": _only(0, (process,)),
        "tgkill": _only(0, (process,)),
        "prlimit64": _only(0, (0, process)),
        "socketpair": [
            (_LOAD, 0, 0, _argument(0)),
            (_IF_EQUAL, 0, 4, _AF_UNIX),
            (_LOAD, 0, 0, _argument(1)),
            (_AND, 0, 0, _TYPE_BITS),
            (_IF_EQUAL, 2, 0, _SOCK_STREAM),
            (_IF_EQUAL, 1, 0, _SOCK_SEQPACKET),
            (_RETURN, 0, 0, _DENY),
            (_RETURN, 0, 0, _ALLOW),
        ],
        "ioctl": _only(1, _IOCTLS),
        "fcntl": _all_but(1, _FCNTLS),
        "clone": [
            (_LOAD, 0, 0, _argument(0)),
            (_IF_ANY_BIT, 0, 3, _CLONE_THREAD),
            (_IF_ANY_BIT, 0, 2, _CLONE_FILES),
            (_IF_ANY_BIT, 1, 0, _CLONE_NAMESPACES),
            (_RETURN, 0, 0, _ALLOW),
            (_RETURN, 0, 0, _DENY),
        ],
        # its flags lie in memory, where a filter cannot look; the C library then takes clone
        "clone3": [(_RETURN, 0, 0, _ERRNO | errno.ENOSYS)],
    }
    for name, block in blocks.items():
        code += [(_IF_EQUAL, 0, len(block), CONDITIONAL[name][column]), *block]
    return [*code, (_RETURN, 0, 0, _ALLOW)]


def _argument(index: int) -> int:
    return 16 + 8 * index


def _only(index: int, values: tuple[int, ...]) -> list[Instruction]:
    """Return a block that allows a call only with one of these values of an argument."""
    tests = [(_IF_EQUAL, len(values) - place, 0, value) for place, value in enumerate(values)]
    return [(_LOAD, 0, 0, _argument(index)), *tests, (_RETURN, 0, 0, _DENY), (_RETURN, 0, 0, _ALLOW)]


def _all_but(index: int, values: tuple[int, ...]) -> list[Instruction]:
    """Return a block that refuses a call with one of these values of an argument."""
    tests = [(_IF_EQUAL, len(values) - place, 0, value) for place, value in enumerate(values)]
    return [(_LOAD, 0, 0, _argument(index)), *tests, (_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _DENY)]
