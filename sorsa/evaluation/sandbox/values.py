"""Python values over a pipe: only plain built-in data survives, so no behaviour crosses.

A class with a lying `__eq__`, a patched int or a thread cannot cross; what has no plain form becomes an Opaque, which
equals nothing. Iterators stay iterators (a `map` object is not equal to a list, as in an ordinary test run).
"""

from __future__ import annotations

import itertools
import json
import os
import select
import struct
import time
from typing import Any

MAX_MESSAGE = 16 << 20  # bytes; HumanEval's largest arguments are a few kilobytes
MAX_ITEMS = 200_000  # values in one message
MAX_DEPTH = 100
_ITERATORS = (type(iter([])), map, filter, zip, range, enumerate, reversed, type(x for x in ()))
_VIEWS = (type({}.keys()), type({}.values()), type({}.items()))
_SCALARS = {
    "i": lambda text: int(text, 16),
    "f": float.fromhex,
    "y": bytes.fromhex,
    "c": lambda pair: complex(float.fromhex(pair[0]), float.fromhex(pair[1])),
    "s": str,
}
_COLLECTIONS = {"l": list, "t": tuple, "S": set, "F": frozenset, "d": dict, "I": iter}


class Opaque:
    """Stands for a value without plain form."""


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
        return ["i", hex(int.__index__(value))]
    if isinstance(value, float):
        return ["f", float.hex(value)]
    if isinstance(value, str):
        return ["s", str.__str__(value)]
    if isinstance(value, bytes | bytearray):
        return ["y", bytes(value).hex()]
    if isinstance(value, complex):
        return ["c", [float.hex(value.real), float.hex(value.imag)]]
    if isinstance(value, dict):
        return ["d", [[encode(k, depth + 1, left), encode(v, depth + 1, left)] for k, v in dict.items(value)]]
    for kind, types in (("l", list), ("t", tuple), ("S", set), ("F", frozenset), ("S", _VIEWS), ("I", _ITERATORS)):
        if isinstance(value, types):
            items = itertools.islice(iter(value), max(left[0], 0) + 1)  # an endless generator ends here
            return [kind, [encode(item, depth + 1, left) for item in items]]
    return ["o"]


def decode(form: Any) -> Any:
    """Return the plain value of a form made by `encode`; a malformed one gives an Opaque."""
    try:
        return _decode(form)
    except (TypeError, ValueError, KeyError, IndexError, OverflowError, RecursionError):
        return Opaque()


def _decode(form: Any) -> Any:
    if form is None or form is True or form is False:
        return form
    kind = form[0]
    if kind == "o":
        return Opaque()
    if kind in _SCALARS:
        return _SCALARS[kind](form[1])
    if kind == "d":
        return {_decode(key): _decode(value) for key, value in form[1]}
    return _COLLECTIONS[kind]([_decode(item) for item in form[1]])


def send(pipe: int, message: Any) -> None:
    """Write one message to a file descriptor. Raises OSError if the other side is gone."""
    data = json.dumps(message).encode()
    if len(data) > MAX_MESSAGE:
        data = json.dumps({"value": ["o"]}).encode()
    data = struct.pack(">I", len(data)) + data
    while data:
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
