"""Python values over a pipe: only plain built-in data survives, so no behaviour crosses.

A class with a lying `__eq__`, a patched int or a thread cannot cross; what has no plain form becomes an Opaque, which
equals nothing. What does cross equals what it would in an ordinary test run: a `map` object or a deque is no list, a
Counter is a dict. Subclasses come over as what they derive from (a named tuple is a tuple without names), numpy's
scalars as Python's, and a defaultdict keeps a factory that is a built-in type.
"""

from __future__ import annotations

import importlib
import itertools
import json
import os
import select
import struct
import sys
import time
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Iterator

TYPE_CHECKING = False  # see candidate.py
if TYPE_CHECKING:
    from typing import Any

MAX_MESSAGE = 32 << 20  # bytes; HumanEval+ has lists of a million numbers
MAX_ITEMS = 3_000_000  # values in one message
MAX_DEPTH = 100
_RAW = (str, int, float, bool, type(None))  # types that JSON has
_RAW_INT = 1 << 64  # JSON's decimal digits take quadratic time for large integers; those go in base 16
# kind: (type, how its items become such a value again)
_COLLECTIONS = {
    "l": (list, list),
    "t": (tuple, tuple),
    "S": (set, set),
    "F": (frozenset, frozenset),
    "keys": (type({}.keys()), lambda items: dict.fromkeys(items).keys()),
    "items": (type({}.items()), lambda items: dict(items).items()),
    "values": (type({}.values()), lambda items: dict(enumerate(items)).values()),  # equal to nothing, not even another
    "I": (Iterator, iter),
}
_DICTS = {"d": dict, "ordered": OrderedDict, "counter": lambda pairs: Counter(dict(pairs))}
_FACTORIES = {one.__name__: one for one in (int, float, complex, bool, str, bytes, list, tuple, dict, set, frozenset)}
_SCALARS = {
    "i": lambda text: int(text, 16),
    "y": bytes.fromhex,
    "bytearray": bytearray.fromhex,
    "c": lambda pair: complex(*pair),
    "r": lambda ends: range(*(int(end, 16) for end in ends)),
}
# Of modules not worth loading just to find that a value is none of theirs. kind: (module, how it is written, and read)
_LIBRARY = {
    "Fraction": (
        "fractions",
        lambda value: [hex(value.numerator), hex(value.denominator)],
        lambda kind, pair: kind(int(pair[0], 16), int(pair[1], 16)),
    ),
    "Decimal": ("decimal", str, lambda kind, text: kind(text)),
    "array": ("array", lambda value: [value.typecode, value.tolist()], lambda kind, parts: kind(*parts)),
    # before its base, date
    "datetime": ("datetime", lambda value: value.isoformat(), lambda kind, text: kind.fromisoformat(text)),
    "date": ("datetime", lambda value: value.isoformat(), lambda kind, text: kind.fromisoformat(text)),
    "time": ("datetime", lambda value: value.isoformat(), lambda kind, text: kind.fromisoformat(text)),
    "timedelta": (
        "datetime",
        lambda value: [value.days, value.seconds, value.microseconds],
        lambda kind, parts: kind(*parts),
    ),
}


class Opaque:
    """Stands for a value without plain form; neither true nor false, so that a test of it alone fails."""

    def __bool__(self) -> bool:
        """Refuse."""
        raise TypeError("the candidate returned a value that cannot be carried over, which is neither true nor false")


class Closed(Exception):
    """The other side has closed its end of the pipe."""


def encode(value: Any, depth: int = 0, left: list[int] | None = None) -> Any:
    """Return a JSON form of a value made of built-in types; anything else becomes Opaque.

    Args:
        value: Any object; subclasses of built-in types lose their behaviour.
        depth: Nesting so far.
        left: One counter of values still allowed, shared by the whole message.
    """
    left = [MAX_ITEMS] if left is None else left
    left[0] -= 1
    if depth > MAX_DEPTH or left[0] < 0:
        return ["o"]
    if value is None or value is True or value is False:
        return value
    if isinstance(value, int):
        number = int.__index__(value)
        return number if -_RAW_INT < number < _RAW_INT else ["i", hex(number)]
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, dict):
        return _encode_dict(value, depth, left)
    if isinstance(value, deque):
        return ["deque", _encode_items(value, depth, left), value.maxlen]
    for kind, (types, _) in _COLLECTIONS.items():
        if isinstance(value, types):
            return [kind, _encode_items(value, depth, left)]
    return _encode_rare(value)


def _encode_dict(value: Any, depth: int, left: list[int]) -> list[Any]:
    ordered = isinstance(value, OrderedDict)
    items = (OrderedDict if ordered else dict).items(value)  # a dict's own order is another after `move_to_end`
    pairs = [[encode(k, depth + 1, left), encode(v, depth + 1, left)] for k, v in items]
    if isinstance(value, defaultdict):
        return ["default", pairs, next((n for n, one in _FACTORIES.items() if one is value.default_factory), None)]
    return ["ordered" if ordered else "counter" if isinstance(value, Counter) else "d", pairs]


def _encode_items(value: Any, depth: int, left: list[int]) -> list[Any]:
    items = list(itertools.islice(iter(value), max(left[0], 0) + 1))  # an endless generator ends here
    if all(type(item) in _RAW and (type(item) is not int or -_RAW_INT < item < _RAW_INT) for item in items):
        left[0] -= len(items)
        if left[0] >= 0:
            return items  # a million numbers in a tenth of a second
    return [encode(item, depth + 1, left) for item in items]


def _encode_rare(value: Any) -> Any:
    if isinstance(value, bytes | bytearray):
        return ["y" if isinstance(value, bytes) else "bytearray", bytes(value).hex()]
    if isinstance(value, complex):
        return ["c", [value.real, value.imag]]
    if isinstance(value, range):
        return ["r", [hex(end) for end in (value.start, value.stop, value.step)]]
    for kind, (module, write, _) in _LIBRARY.items():
        if module in sys.modules and isinstance(value, getattr(sys.modules[module], kind)):
            return [kind, write(value)]
    if type(value).__module__ == "numpy" and getattr(value, "shape", None) == ():
        plain = value.item()
        return encode(plain, MAX_DEPTH) if type(plain).__module__ == "builtins" else ["o"]
    return ["o"]


def decode(form: Any) -> Any:
    """Return the plain value of a form made by `encode`; a malformed one gives an Opaque."""
    try:
        return _decode(form)
    except (TypeError, ValueError, KeyError, IndexError, ArithmeticError, RecursionError):
        return Opaque()


def _decode(form: Any) -> Any:
    if isinstance(form, _RAW):
        return form
    kind, content = form[0], form[1] if len(form) > 1 else None
    if kind == "o":
        return Opaque()
    if kind in _SCALARS:
        return _SCALARS[kind](content)
    if kind in _LIBRARY:
        module, _, read = _LIBRARY[kind]
        return read(getattr(importlib.import_module(module), kind), content)
    if kind in _DICTS or kind == "default":
        pairs = [(_decode(key), _decode(value)) for key, value in content]
        return _DICTS[kind](pairs) if kind in _DICTS else defaultdict(_FACTORIES.get(form[2]), pairs)
    items = [_decode(item) if isinstance(item, list | dict) else item for item in content]
    return deque(items, form[2]) if kind == "deque" else _COLLECTIONS[kind][1](items)


def send(pipe: int, message: dict[str, Any], deadline: float | None = None) -> None:
    """Write one message to a file descriptor.

    Args:
        pipe: File descriptor; non-blocking where there is a deadline.
        message: What JSON can write; a `value` that makes it too long is replaced by an Opaque.
        deadline: time.monotonic() after which to give up; None waits for ever.

    Raises:
        OSError: The other side is gone.
        TimeoutError: The deadline passed.
    """
    data = json.dumps(message).encode()
    if len(data) > MAX_MESSAGE:
        data = json.dumps({**message, "value": ["o"]}).encode()
    data = memoryview(struct.pack(">I", len(data)) + data)
    while data:
        if deadline is not None:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([], [pipe], [], left)[1]:
                raise TimeoutError
        data = data[os.write(pipe, data) :]


def receive(pipe: int, deadline: float | None = None) -> Any:
    """Read one message.

    Args:
        pipe: File descriptor.
        deadline: time.monotonic() after which to give up; None waits for ever.

    Raises:
        TimeoutError: The deadline passed.
        Closed: The pipe closed, or what came is not a message.
    """
    (size,) = struct.unpack(">I", _exactly(pipe, 4, deadline))
    if size > MAX_MESSAGE:
        raise Closed("message too long")
    try:
        return json.loads(_exactly(pipe, size, deadline))
    except (ValueError, RecursionError) as error:
        raise Closed("not a message") from error


def _exactly(pipe: int, size: int, deadline: float | None) -> bytes:
    data = bytearray()
    while len(data) < size:
        if deadline is not None:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([pipe], [], [], left)[0]:
                raise TimeoutError
        piece = os.read(pipe, min(size - len(data), 1 << 16))
        if not piece:
            raise Closed("closed")
        data += piece
    return bytes(data)
