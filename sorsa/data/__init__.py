"""Training sets: from a registered name or a local file to tokenised samples.

To add a data set: write a module with `HUB_ID`, `HUB_SPLIT`, `COLUMNS` and `prompt(query)`, add one line to `DATASETS`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import datasets

    from sorsa.config import RunConfig
    from sorsa.data.tokenise import TokenCounts

DATASETS: dict[str, str] = {
    "metamath": "sorsa.data.metamath",
    "code": "sorsa.data.codefeedback",
}


def load_training_set(config: RunConfig, tokenizer: Any) -> tuple[datasets.Dataset, TokenCounts]:
    """Return the tokenised training set of a run and what tokenising did to it.

    Args:
        config: The run's settings; the group `data` and `cache_path`, `local` are read.
        tokenizer: The model's Hugging Face tokenizer.

    Returns:
        A memory-mapped data set with the columns `input_ids` and `labels` (-100 on the prompt), and its counts.

    Raises:
        UsageError: The data set cannot be read, lacks a column, has an empty response, or no sample fits the length.
    """
    from sorsa.data.loading import load_rows
    from sorsa.data.tokenise import tokenise

    rows, recipe = load_rows(config)
    return tokenise(rows, recipe, config, tokenizer)
