"""What a data set is to the rest of the package: where it lies, its two columns, its prompt."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable

from sorsa.data import DATASETS


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """A training set.

    Args:
        hub_id: Its repository on the Hugging Face hub, split `train`.
        query: Column with the instruction.
        response: Column with the text to learn.
        prompt: Function from a query to the text before the response.
    """

    hub_id: str
    query: str
    response: str
    prompt: Callable[[str], str]


def recipe(name: str) -> Recipe:
    """Return the recipe of a name in `sorsa.data.DATASETS`."""
    return importlib.import_module(DATASETS[name]).RECIPE


def recipe_for_columns(columns: list[str]) -> Recipe | None:
    """Return the recipe whose two columns a local file has, or None; the first registered wins."""
    return next((found for name in DATASETS if {(found := recipe(name)).query, found.response} <= set(columns)), None)


def expected_columns() -> str:
    """Return the pairs of columns that are understood, for error messages."""
    pairs = [(name, recipe(name)) for name in DATASETS]
    return ", or ".join(f"{found.query} and {found.response} (as {name})" for name, found in pairs)
