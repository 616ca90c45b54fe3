"""Answers of a model and gold answers on one line of a terminal, where they cannot do anything."""

from __future__ import annotations

from typing import Any


def readable(value: Any, longest: int = 300) -> str:
    """Return text on one line, shortened and without control characters: an answer must not move a cursor.

    Args:
        value: What a grader read; None is `nothing`.
        longest: Characters kept.
    """
    if value is None:
        return "nothing"
    text = " ".join(str(value).split())
    text = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)
    return text if len(text) <= longest else text[:longest] + " ..."


def gold_text(gold: Any, longest: int = 300) -> str:
    """Return the end of a worked solution's last line, where its answer stands, or a HumanEval problem's name.

    Args:
        gold: What a benchmark gives its grader.
        longest: Characters kept.
    """
    if isinstance(gold, dict):
        return readable(gold.get("task_id", "its tests"), longest)
    text = readable(str(gold).strip().rpartition("\n")[2], 10**6)
    return text if len(text) <= longest else "... " + text[-longest:]
