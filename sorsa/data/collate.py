"""From samples to a padded batch. The attention mask comes from the lengths: the pad token usually is the
end-of-sequence token, and a mask of `id != pad` would hide the end of every response (README, difference 11).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sorsa.data.tokenise import IGNORED

if TYPE_CHECKING:
    import torch


class ResponseCollator:
    """Pads samples on the right to the longest of the batch.

    Args:
        pad_token_id: The id to fill up with; any will do, it is masked and not learned.
    """

    def __init__(self, pad_token_id: int) -> None:
        self.pad_token_id = pad_token_id

    def __call__(self, samples: Sequence[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
        """Return `input_ids`, `attention_mask` and `labels`, each (samples, longest), int64.

        Args:
            samples: Rows with `input_ids` and `labels` of equal length.
        """
        import torch

        longest = max(len(sample["input_ids"]) for sample in samples)
        shape = (len(samples), longest)
        batch = {
            "input_ids": torch.full(shape, self.pad_token_id, dtype=torch.long),
            "attention_mask": torch.zeros(shape, dtype=torch.long),
            "labels": torch.full(shape, IGNORED, dtype=torch.long),
        }
        for row, sample in enumerate(samples):
            size = len(sample["input_ids"])
            batch["input_ids"][row, :size] = torch.as_tensor(sample["input_ids"])
            batch["attention_mask"][row, :size] = 1
            batch["labels"][row, :size] = torch.as_tensor(sample["labels"])
        return batch
