"""Values between candidate and judge: plain data crosses unchanged, and nothing else does."""

from __future__ import annotations

import json
import time
from decimal import Decimal
from fractions import Fraction

import pytest

from sorsa.evaluation import sandbox
from sorsa.evaluation.sandbox import Candidate, check, values


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        0.1,
        -0.0,
        float("inf"),
        "é\ud800",
        b"x",
        1j,
        [1, (2, {3}), {"a": [None]}],
        frozenset({1}),
        2**64,
        [1, 2.5, "a", True, None, -(2**70)],
        Fraction(1, 3),
        Decimal("0.10"),
        range(3, 9, 2),
    ],
)
def test_values_cross_unchanged(value: object) -> None:
    back = values.decode(values.encode(value))
    assert back == value and type(back) is type(value)


def test_large_integers_cross() -> None:
    assert values.decode(values.encode(-(2**50_000))) == -(2**50_000)  # beyond what int() reads in decimal


def test_a_million_numbers_cross_quickly() -> None:
    numbers = [n if n % 2 else n / 2 for n in range(1_000_000)]
    begin = time.monotonic()
    assert values.decode(json.loads(json.dumps(values.encode(numbers)))) == numbers
    assert time.monotonic() - begin < 10  # 1.4 s on two busy cores


def test_views_and_iterators_stay_what_they_equal() -> None:
    table = {"a": 1}
    for value in (table.keys(), table.items()):
        assert values.decode(values.encode(value)) == value
    for value in (table.values(), map(str, [1]), reversed([1])):
        back = values.decode(values.encode(value))
        assert back not in ({1}, [1], ["1"]) and next(back) in (1, "1")


def test_numpy_scalars_become_plain() -> None:
    import numpy as np

    back = values.decode(values.encode([np.int64(3), np.float32(0.5), np.bool_(True), np.array([1])]))
    assert back[:3] == [3, 0.5, True] and type(back[0]) is int and isinstance(back[3], values.Opaque)


def test_what_has_no_plain_form_is_not_true() -> None:
    program = "import numpy as np\ndef f(x): return np.array([False])"
    test = "def check(candidate):\n    assert candidate(2)\n"
    outcome = check(Candidate((program,), "f", "", test), sandbox.strongest_level())
    assert outcome.verdict == "failed" and "neither true nor false" in outcome.detail


def test_values_lose_behaviour() -> None:
    class Liar(int):
        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = int.__hash__

    assert values.decode(values.encode(Liar(1))) != 2
    assert values.decode(values.encode(object())) != object()
    for form in (["i", "junk"], {"a": 1}, [], ["d", [1]], ["q", ["1", "0"]], ["D", "x"], ["S", [["l", []]]], ["?", 1]):
        assert isinstance(values.decode(form), values.Opaque)
