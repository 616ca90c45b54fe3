"""The one exception class for mistakes of the user: `run.py` prints its text on stderr and exits with code 2."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UsageError(ValueError):
    """Bad input. The message names the thing, the value received, what would be right, and the next step."""


class Diverged(UsageError):
    """Training led to a loss that is no finite number: the settings were bad, the program and the data may be fine."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ` Did you mean 'x'? Known: a, b.` for an unknown word, to append to an error message.

    Args:
        word: What the user wrote.
        known: Every accepted spelling.
    """
    known = sorted(known)
    close = difflib.get_close_matches(word, known, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return f"{hint} Known: {', '.join(known) or 'none'}."
