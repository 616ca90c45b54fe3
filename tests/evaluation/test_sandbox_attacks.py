"""The attacks of bench/sandbox_attacks.py: none forges a pass, none reaches anything outside."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sorsa.evaluation import sandbox
from sorsa.evaluation.sandbox.levels import FLOOR, try_level

BENCH = Path(__file__).resolve().parents[2] / "bench"
SECONDS = 1.0  # per attack
# these run until their time is over; at the strongest level only
SLOW = ("stop itself", "sleep", "spin", "spin deaf to signals", "print for ever", "never read", "half a message",
        "enormous integer", "colliding hashes", "allocate", "memory of the judge", "memory in files",
        "memory in segments")  # fmt: skip
STRONGEST = sandbox.strongest_level()
ABOVE_FLOOR = sandbox.LEVELS[: sandbox.LEVELS.index(FLOOR) + 1]


@pytest.fixture(scope="module")
def bench() -> Iterator[tuple[Any, Any]]:
    """The bench's modules: the tables, and the world that is watched."""
    sys.path.insert(0, str(BENCH))
    import sandbox_attacks
    import sandbox_world

    yield sandbox_attacks, sandbox_world
    sys.path.remove(str(BENCH))


def run(bench: tuple[Any, Any], table: str, level: str, folder: Path) -> dict[str, tuple[str, list[str]]]:
    """Return the verdict and the effects of every attack that passed, had an effect or never ran."""
    found = {}
    with bench[1].World(folder) as world:
        for name, program in getattr(bench[0], table).items():
            if level == STRONGEST or name not in SLOW:
                outcome, effects, _ = world.attack(program, level, SECONDS)
                forged = table == "FORGERIES" and outcome.verdict == "passed"
                if effects or forged or bench[1].broken(name, outcome):
                    found[name] = (outcome.verdict, effects)
    return found


def test_there_are_enough(bench: tuple[Any, Any]) -> None:
    assert len(bench[0].FORGERIES) + len(bench[0].EFFECTS) >= 120
    assert set(SLOW) <= {*bench[0].FORGERIES, *bench[0].EFFECTS}


@pytest.mark.parametrize("table", ["FORGERIES", "EFFECTS"])
@pytest.mark.parametrize("level", ABOVE_FLOOR)
def test_attacks(bench: tuple[Any, Any], level: str, table: str, tmp_path: Path) -> None:
    outcome = try_level(level)
    if outcome.verdict != "passed":
        pytest.skip(f"level {level} does not work here: {outcome.detail}")
    assert run(bench, table, level, tmp_path) == {}


# attacks that succeed with resource limits alone, root's candidate being a user of its own or not
SEEN = {
    "leaked": ("read a file in /tmp", "read /etc/passwd", "read by descriptor path"),
    "file changed": ("write a file in /tmp", "delete a file", "rename a file", "truncate a file", "truncate by opening",
                     "write through a link"),
    "something made": ("make a file beside", "make a folder beside", "write into shared memory"),
    "socket reached": ("TCP to this machine", "UDP to this machine", "abstract Unix socket",
                       "Unix socket in the file system", "datagram by a pair"),
    "kernel objects": ("message queue",),
}  # fmt: skip


def test_the_world_sees_effects(bench: tuple[Any, Any], tmp_path: Path) -> None:
    """At level `limits` files can be read and things made: the bench must say so, or it could not fail."""
    with bench[1].World(tmp_path) as world:
        for effect, names in SEEN.items():
            for name in names:
                found = world.attack(bench[0].EFFECTS[name], "limits", sandbox.SECONDS)[1]
                assert any(one.startswith(effect) for one in found), (name, found)


def test_an_attack_that_never_ran_is_said(bench: tuple[Any, Any], tmp_path: Path) -> None:
    with bench[1].World(tmp_path) as world:
        outcome = world.attack("def f(x) return", "limits", sandbox.SECONDS)[0]
        assert bench[1].broken("any", outcome) and not bench[1].broken("not python", outcome)
        assert bench[1].broken("any", sandbox.Outcome("broken", ""))
        assert not bench[1].broken("any", world.attack("def f(x): return 1", "limits", sandbox.SECONDS)[0])


def test_the_clock_and_keys_are_looked_at(
    bench: tuple[Any, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with bench[1].World(tmp_path) as world:
        honest = "def f(x): return x * x"
        assert world.attack(honest, "limits", sandbox.SECONDS)[1] == []
        monkeypatch.setattr(bench[1], "_since_boot", lambda: world.since_boot + 60)
        monkeypatch.setattr(bench[1], "_text", lambda path: f"1 user {world.mark}: 1" if path == "/proc/keys" else "")
        assert {"clock", "kernel key"} <= set(world.attack(honest, "limits", sandbox.SECONDS)[1])
