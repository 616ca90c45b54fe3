"""The third opinion: yielded beside the rules where its package is installed, and never able to do anything else."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sorsa.evaluation import gsm8k, math, opinions
from sorsa.evaluation.benchmark import DIFFERENT, EQUAL, NO_ANSWER, OPINIONS, RULES, TIMEOUT, UNREADABLE, Item
from sorsa.evaluation.child import Child, ChildError, ChildTimeout


def verdicts(module: object, pairs: list[tuple[str | None, str]]) -> list:
    graded = list(module.grade_all([Item(answer, gold, extracted=True) for answer, gold in pairs]))
    assert all(tuple(one) == (*RULES, *OPINIONS) for one in graded)
    return [one["math-verify"] for one in graded]


def test_its_verdicts_on_math() -> None:
    pytest.importorskip("math_verify")
    rows = [
        ("0.5", r"so $\boxed{\frac{1}{2}}$", EQUAL),
        (r"\sqrt{20}", r"2\sqrt{5}", EQUAL),
        ("**7**.", "7", EQUAL),
        ("6", "7", DIFFERENT),
        ("9**9**9**9**9" + "x" * 500, "7", UNREADABLE),  # too long to be an answer
        ("9^{9^{9^{9}}}", "7", TIMEOUT),
        (None, "7", NO_ANSWER),
        ("x+1", "1+x", EQUAL),  # after a time-out the next answer is read as before
    ]
    found = verdicts(math, [row[:2] for row in rows])
    assert [one.reason for one in found] == [row[2] for row in rows]
    assert [one.correct for one in found] == [row[2] == EQUAL for row in rows]


def test_its_verdicts_on_gsm8k() -> None:
    pytest.importorskip("math_verify")
    found = verdicts(gsm8k, [("18 eggs", "#### 18"), ("$1,800.00", "#### 1800"), ("17", "#### 18"), ("1" * 900, "18")])
    assert [one.reason for one in found] == [EQUAL, EQUAL, DIFFERENT, UNREADABLE]


@pytest.mark.parametrize("module", [gsm8k, math])
def test_junk_is_graded_in_time(module: object) -> None:
    pytest.importorskip("math_verify")
    junk = [r"\log_{" * 12 + "2" + "}3" * 12, "(" * 450, "9**9**9**9", " " * 450, "\ud800" * 9, "9" * 1_000_000, "\0"]
    begin = time.monotonic() + 15  # the first answer waits for the child processes
    for text, one in zip(junk, module.grade_all([Item(text, "5", extracted=True) for text in junk]), strict=True):
        assert not any(verdict.correct for verdict in one.values()), text[:40]
        assert time.monotonic() - begin < 5, text[:40]
        begin = time.monotonic()


@pytest.mark.parametrize("module", [gsm8k, math])
def test_without_the_package_there_are_the_rules_alone(module: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opinions, "installed", lambda: False)
    assert tuple(next(module.grade_all([Item("1", "1", extracted=True)]))) == RULES


def test_its_version_is_recorded() -> None:
    from sorsa.run_folder import environment

    assert {"math-verify", "sympy"} <= set(environment()["versions"])


def test_it_cannot_run_the_text(tmp_path: Path) -> None:
    pytest.importorskip("math_verify")
    target = tmp_path / "touched"
    baits = [
        f"__import__('os').system('touch {target}')",
        f"$__import__('os').system('touch {target}')$",
        rf"$\text{{open('{target}','w')}}$",
        f"1 + open('{target}','w').fileno()",
    ]
    with Child("sorsa.evaluation.math_verify_worker") as child:
        for bait in baits:
            for request in ({"answer": bait, "gold": "$5$"}, {"answer": "$5$", "gold": bait}):
                assert not child.ask(request, 5)["equal"]
    assert not target.exists()


def test_the_real_child_is_shut_in() -> None:
    pytest.importorskip("math_verify")
    # the module as it is, but what it serves requests with tries what must be refused
    code = """
import runpy
from sorsa.evaluation import child_loop
def attack(answer):
    refused = []
    for harm in (lambda: eval("().__class__"), lambda: open("/etc/passwd"), lambda: eval("1 + 1")):
        try:
            harm()
            refused.append(False)
        except child_loop.Forbidden:
            refused.append(True)
    child_loop._send({"refused": refused})
child_loop._answer_all = attack
runpy.run_module("sorsa.evaluation.math_verify_worker", run_name="__main__")
"""
    done = subprocess.run([sys.executable, "-c", code], stdin=subprocess.DEVNULL, capture_output=True, check=True)
    assert done.stdout.splitlines() == [b'{"ready": true}', b'{"refused": [true, true, false]}']


@pytest.mark.parametrize(
    ("source", "allowed"),
    [
        (b"Integer (65 )", True),
        ("Float ('3.21' )", True),
        ("Integer (3 )+Integer (4 )**Integer (2 )", True),
        ("from sympy import *", True),
        ("def monomial_ldiv(A, B):\n    (a0,) = A\n    (b0,) = B\n    return (a0 - b0,)\n", True),
        (ast.parse("Add(Integer(3), Integer(4), evaluate=False)", mode="eval"), True),
        ("from os import *", False),
        ("().__class__", False),
        ("Integer.mro()", False),
        ("Integer (1 ).__class__", False),
        ("open('x')", False),
        ("Symbol ('x' )", False),
        ("Float ('a' )", False),
        ("lambda: 1", False),
        ("def monomial_x(A):\n    return A.real\n", False),
        (ast.parse("open('x')", mode="eval"), False),
        (ast.parse("Integer.mro", mode="eval"), False),
        (None, False),
    ],
)
def test_what_may_be_compiled(source: object, allowed: bool) -> None:
    pytest.importorskip("math_verify")
    from sorsa.evaluation.math_verify_worker import harmless

    assert harmless(source) == allowed


@pytest.mark.parametrize(
    "line",
    [
        "eval('1')",
        "exec('pass')",
        "open('/etc/passwd')",
        "os.system('true')",
        "os.fork()",
        "os.listdir('/')",
        "socket.socket()",
        "import wave",
        "ctypes.CDLL(None)",
    ],
)
def test_shut_in(line: str) -> None:
    code = f"""
import ctypes, os, socket
from sorsa.evaluation.child_loop import Forbidden, shut_in
def attack():
    {line}
shut_in(lambda source: False)
try:
    attack()
except Forbidden:
    os._exit(7)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 7


def test_a_lost_child_is_replaced_at_once() -> None:
    with Child("sorsa.evaluation.symbolic_worker") as child:
        two = ["num", "2"]
        same = {"mode": "equal", "a": two, "b": two}
        assert child.ask(same, 5) == {"equal": True}
        original, begin = child._process, time.monotonic()
        slow = {"mode": "equal", "a": ["log", two, ["log", ["sym", "x"], ["sym", "y"]]], "b": ["sym", "z"]}
        for _ in range(8):
            slow["a"] = ["log", slow["a"], ["add", slow["a"], ["sym", "y"]]]
        with pytest.raises(ChildTimeout):
            child.ask(slow, 0.2)
        assert child.ask(same, 5) == {"equal": True}
        assert child._process is original and time.monotonic() - begin < 3
        with pytest.raises(ChildError, match="Refused"):
            child.ask({"mode": "equal", "a": ["text", "x"], "b": two}, 5)
    assert original.poll() is not None


def test_a_child_that_ends_is_an_error() -> None:
    with Child("sorsa.errors") as child, pytest.raises(ChildError, match="the worker ended"):
        child.ask({}, 5)


def test_nothing_stays_when_the_parent_is_killed() -> None:
    code = """
import time
from sorsa.evaluation.child import Child
child = Child("sorsa.evaluation.symbolic_worker")
child.ask({"mode": "equal", "a": ["num", "1"], "b": ["num", "1"]}, 5)
print(child._process.pid, flush=True)
time.sleep(60)
"""
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    group = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 10
    with pytest.raises(ProcessLookupError):
        while time.monotonic() < deadline:
            os.killpg(group, 0)
            time.sleep(0.05)


def test_memory_is_bounded() -> None:
    code = """
import resource
from sorsa.evaluation.child_loop import serve
serve(lambda request: {"length": len(bytes(1 << 30))})
"""
    request = b'{"seconds": 5}\n'
    done = subprocess.run([sys.executable, "-c", code], input=request, capture_output=True, check=True)
    assert done.stdout.splitlines() == [b'{"ready": true}', b'{"error": "out of memory"}']
