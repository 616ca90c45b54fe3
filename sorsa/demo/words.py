"""Vocabulary shared by the demo's word problems and its pre-training text: people and things."""

from __future__ import annotations

import random

# (name, subject pronoun): nothing in the arithmetic depends on either.
PEOPLE = (
    ("Tom", "he"), ("Anna", "she"), ("Ben", "he"), ("Mia", "she"), ("Leo", "he"), ("Ella", "she"),
    ("Sam", "he"), ("Nora", "she"), ("Max", "he"), ("Lily", "she"), ("Jack", "he"), ("Rosa", "she"),
)  # fmt: skip
ITEMS = (
    "apples", "books", "pencils", "cards", "coins", "eggs", "stamps", "shells",
    "stickers", "toys", "balls", "flowers", "buttons", "cookies", "marbles", "stones",
)  # fmt: skip


def draw_words(rng: random.Random) -> dict[str, str]:
    """Draw the words that fill a sentence template.

    Args:
        rng: Source of randomness.

    Returns:
        `name`, `he`, `He` of one person, `other` and `third` (two other people's names) and `items` (a plural).
    """
    (name, he), (other, _), (third, _) = rng.sample(PEOPLE, 3)
    return {
        "name": name,
        "he": he,
        "He": he.capitalize(),
        "other": other,
        "third": third,
        "items": rng.choice(ITEMS),
    }
