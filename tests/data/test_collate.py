"""Batches: right padding, the mask from lengths even where the pad token is the end token, no labels on padding."""

from __future__ import annotations

from sorsa.data.collate import ResponseCollator


def test_a_batch() -> None:
    import torch

    end = 9  # is also the pad token
    samples = [
        {"input_ids": [1, 2, end], "labels": [-100, 2, end]},
        {"input_ids": [1, 3, 4, 5, end], "labels": [-100, -100, 4, 5, end]},
    ]
    batch = ResponseCollator(pad_token_id=end)(samples)
    assert batch["input_ids"].tolist() == [[1, 2, end, end, end], [1, 3, 4, 5, end]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]
    assert batch["labels"].tolist() == [[-100, 2, end, -100, -100], [-100, -100, 4, 5, end]]
    assert {tensor.dtype for tensor in batch.values()} == {torch.int64}
