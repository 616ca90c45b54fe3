"""What a test is about: the merged run, the base model (`--base`), or base and adapter side by side (`--unmerged`).

Generation, perplexity and lm-eval all ask here for the model and its tokenizer, so that each can test all three.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sorsa.errors import UsageError
from sorsa.run_folder import RunFolder

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from sorsa.config import RunConfig


@dataclasses.dataclass(frozen=True)
class Subject:
    """The model under test.

    Args:
        config: The run's settings.
        kind: `merged`, `base` or `unmerged`.
        merged: The merged model's directory; None for the other kinds.
        adapter: The trained adapter's directory of kind `unmerged`; None for the other kinds.
    """

    config: RunConfig
    kind: str
    merged: Path | None = None
    adapter: Path | None = None

    @property
    def name(self) -> str:
        """The model's place, for records."""
        return str(self.merged) if self.merged else self.config.model

    @property
    def base_folder(self) -> Path | None:
        """The directory of the base model; None where that comes from the hub or is not loaded at all."""
        return Path(self.config.model) if self.merged is None and Path(self.config.model).is_dir() else None

    def result_name(self, dataset: str) -> str:
        """Return the stem of the files in `results/`; the kinds never overwrite each other's."""
        return dataset if self.kind == "merged" else f"{self.kind}-{dataset}"

    def fingerprint(self) -> dict[str, Any]:
        """Return what tells this model and its tokenizer from others: hashes of their files, or a hub id."""
        from sorsa.evaluation.completions import model_fingerprint

        config, folder = self.config, self.merged or self.base_folder
        model: dict[str, Any] = (
            model_fingerprint(folder) if folder else {"hub": config.model, "revision": config.revision}
        )
        if self.adapter:
            model = {"base": model, "adapter": model_fingerprint(self.adapter)}
        tokenizer = Path(config.tokenizer) if config.tokenizer and self.kind == "base" else None
        named = model_fingerprint(tokenizer) if tokenizer and tokenizer.is_dir() else str(tokenizer or "")
        return {"model": model, "tokenizer": named}

    def load(self, dtype: torch.dtype) -> PreTrainedModel:
        """Load the model for inference onto this process's device.

        Args:
            dtype: Type of the weights; an adapter's own factors stay in FP32 and compute in this type.

        Raises:
            UsageError: It cannot be loaded, or the adapter was cut from another base model.
        """
        from sorsa.merging import attach
        from sorsa.models import load_base_model

        model = load_base_model(self.config, dtype, self.merged)
        if self.adapter is not None:
            model = attach(model, self.adapter)
        return model.eval()

    def load_tokenizer(self) -> PreTrainedTokenizerBase:
        """Load the tokenizer that belongs to the model. Raises UsageError where there is none."""
        from sorsa.models import load_tokenizer

        return load_tokenizer(self.config, self.merged or self.adapter)


def subject_kind(config: RunConfig) -> str:
    """Return which of the three the settings ask to test: `merged`, `base` or `unmerged`.

    Raises:
        UsageError: Both `base` and `unmerged` are set.
    """
    if config.base and config.unmerged:
        raise UsageError("--base and --unmerged: give one of them; the base model has no adapter to leave unmerged")
    return "base" if config.base else "unmerged" if config.unmerged else "merged"


def find_subject(config: RunConfig) -> Subject:
    """Return what the settings ask to test.

    Raises:
        UsageError: Both `base` and `unmerged` are set, or the run is not trained or not merged.
    """
    kind, folder = subject_kind(config), RunFolder(config.run_path, config.name)
    if kind == "base":
        return Subject(config, kind)
    if kind == "unmerged":
        return Subject(config, kind, adapter=folder.require_adapter())
    return Subject(config, kind, merged=folder.require_merged())
