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
    """Return the verdict and the effects of every attack that passed or had an effect."""
    found = {}
    with bench[1].World(folder) as world:
        for name, program in getattr(bench[0], table).items():
            if level == STRONGEST or name not in SLOW:
                outcome, effects, _ = world.attack(program, level, SECONDS)
                if effects or (table == "FORGERIES" and outcome.verdict == "passed"):
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


def test_the_world_sees_effects(bench: tuple[Any, Any], tmp_path: Path) -> None:
    """At level `limits` files can be read and things made: the bench must say so, or it could not fail."""
    with bench[1].World(tmp_path) as world:
        names = ("read a file in /tmp", "write into shared memory", "message queue")
        effects = [world.attack(bench[0].EFFECTS[name], "limits", sandbox.SECONDS)[1] for name in names]
    assert effects[0][0].startswith("leaked: ") and effects[1:] == [["something made"], ["kernel objects"]]
