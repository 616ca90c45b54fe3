"""Full fine-tuning: every weight of the model is trained, embeddings and head included. No adapter."""

from __future__ import annotations

from sorsa.methods import Method

METHOD = Method(settings=frozenset(), peft_config=None)
