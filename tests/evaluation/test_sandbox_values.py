"""Values between candidate and judge: plain data crosses unchanged, and nothing else does."""

from __future__ import annotations

import collections
import json
import re
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


NAMES = {name: __import__(name) for name in ("array", "collections", "datetime", "fractions", "itertools")}
STANDARD = [
    "[1, 2]", "(1, 2)", "{1, 2}", "frozenset({1, 2})", "{'a': 1, 'b': 2}", "'ab'", "b'ab'", "bytearray(b'ab')", "1",
    "1.0", "True", "None", "1j", "range(1, 3)", "range(0)", "fractions.Fraction(1, 2)",
    "collections.deque([1, 2])", "collections.deque([1, 2], maxlen=2)", "collections.deque()",
    "collections.Counter('abb')", "collections.Counter(a=0)", "collections.Counter({'a': 1, 'b': 2})",
    "collections.OrderedDict(a=1, b=2)", "collections.OrderedDict(b=2, a=1)", "moved()",
    "collections.defaultdict(int, a=1, b=2)", "collections.defaultdict(list)", "collections.defaultdict(None, a=1)",
    "collections.namedtuple('P', 'x y')(1, 2)",
    "iter([1, 2])", "iter((1, 2))", "iter({1: 2})", "iter('ab')", "iter(range(1, 3))", "iter({1})", "reversed([1, 2])",
    "iter({'a': 1}.items())", "reversed({'a': 1})", "map(int, '12')", "filter(None, [1, 2])", "zip([1], [2])",
    "enumerate('ab')", "(x for x in [1, 2])", "iter([1, 2, 0].pop, 0)",
    "itertools.chain([1], [2])", "itertools.islice([1, 2], 2)", "itertools.permutations([1, 2])",
    "itertools.combinations([1, 2], 1)", "itertools.product([1, 2])", "itertools.accumulate([1, 1])",
    "itertools.pairwise([1, 2])", "itertools.zip_longest([1], [2])", "itertools.starmap(max, [(1, 0)])",
    "{'a': 1, 'b': 2}.keys()", "{'b': 1, 'a': 2}.keys()", "{'a': 1, 'b': 2}.values()", "{'a': 1, 'b': 2}.items()",
    "{'a': [1]}.items()", "{}.keys()", "collections.OrderedDict(b=2, a=1).keys()",
    "collections.OrderedDict(a=1).values()",
    "array.array('i', [1, 2])", "array.array('d')", "datetime.date(2024, 2, 29)", "datetime.time(1, 2, 3, 4)",
    "datetime.datetime(2024, 2, 29, 1, 2)", "datetime.datetime(2024, 2, 29, tzinfo=datetime.timezone.utc)",
    "datetime.timedelta(days=-1, seconds=5)",
]  # fmt: skip
SEEN = [
    "value", "value == [1, 2]", "value == (1, 2)", "value == {1, 2}", "value == {'a': 1, 'b': 2}",
    "value == {'a', 'b'}", "value == b'ab'", "{'a': 1, 'b': 2} == value", "[1, 2] == value", "value == same",
    "same == value", "len(value)", "list(value)", "next(value)", "bool(value)", "value[0]", "value['none']",
    "value.append(3) or list(value)", "value == collections.OrderedDict(a=1, b=2)",
    "value == collections.Counter(a=1, b=2, c=0)", "value == collections.deque([1, 2])", "sorted(value)",
    "isinstance(hash(value), int)", "1 in value", "value + value", "value < same",
]  # fmt: skip


def moved() -> collections.OrderedDict[str, int]:
    """Return a dict whose order is no longer that of insertion."""
    table = collections.OrderedDict(a=1, b=2)
    table.move_to_end("a")
    return table


def seen(expression: str, cross: bool) -> list[object]:
    """Return what tests would see of a value, as text or as the kind of exception."""
    found = []
    for look in SEEN:
        value, same = (eval(expression, {**NAMES, "moved": moved}) for _ in "12")
        if cross:
            value = values.decode(json.loads(json.dumps(values.encode(value))))
        try:
            found.append((look, ADDRESS.sub("", repr(eval(look, {**NAMES, "value": value, "same": same})))))
        except Exception as error:
            found.append((look, type(error)))
    return found


# What does not cross: names of a tuple's items; what kind of iterator it was; that a view belongs to an OrderedDict.
ADDRESS = re.compile(r"<.* object.* at 0x\w+>|P(?=\(x=1)|x=(?=1)|y=(?=2)|odict_(?=keys|values)|dict_(?=keys|values)")


@pytest.mark.parametrize("expression", STANDARD)
def test_standard_types_are_what_they_are_without_a_sandbox(expression: str) -> None:
    assert seen(expression, cross=True) == seen(expression, cross=False)


def test_standard_types_cross_the_sandbox() -> None:
    kept = [one for one in STANDARD if one not in ("moved()", "None")]
    program = f"import {', '.join(NAMES)}\ndef f(i): return eval({kept!r}[i])"
    lines = "".join(f"    a, b = candidate({i}), {one}\n    assert same(a, b), {i}\n" for i, one in enumerate(kept))
    test = (
        f"import {', '.join(NAMES)}\ndef same(a, b):\n    alone = hasattr(b, '__next__') or 'values' in str(type(b))\n"
        f"    return list(a) == list(b) and a != b if alone else a == b and b == a\ndef check(candidate):\n{lines}"
    )
    outcome = check(Candidate((program,), "f", "", test), sandbox.strongest_level())
    assert outcome.verdict == "passed", outcome


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
    malformed = [
        ["i", "junk"], {"a": 1}, [], ["d", [1]], ["Fraction", ["1", "0"]], ["Decimal", "x"], ["S", [["l", []]]],
        ["deque", [1], -1], ["deque", [1]], ["default", []], ["array", ["?", []]], ["date", "x"], ["keys", [["l", []]]],
        ["counter", [1]], [["l"], []], ["?", 1],
    ]  # fmt: skip
    for form in malformed:
        assert isinstance(values.decode(form), values.Opaque), form
    assert values.decode(["default", [], "eval"]).default_factory is None
