"""Merging: `W = Wr + U diag(S) V^T` in FP32, written as an ordinary Hugging Face directory (paper section 4).

The weights are written in FP32, 27 GB for Llama 2 7B. FP32 is what was trained and what `--test-precision fp32` has to
measure; a BF16 file keeps 8 bits of each weight, which swallows much of what fine-tuning changed, and could never be
turned back. Loading in BF16 rounds once, when the test asks for it. Beside an RWKV6 lies the same for its runtime.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from sorsa.errors import UsageError
from sorsa.files import whole_directory
from sorsa.models import is_rwkv6, load_base_model, load_tokenizer, make_savable
from sorsa.run_folder import RunFolder, environment
from sorsa.rwkv6 import RUNTIME_FILE
from sorsa.trained_weights import INDEX, load_weights

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from sorsa.config import RunConfig

logger = logging.getLogger(__name__)


def merge(config: RunConfig) -> None:
    """Merge the run's adapter into its base model and write `runs/NAME/merged`.

    Args:
        config: The resolved settings; `name`, `run_path`, `model`, `revision`, `local` and `overwrite` are read.

    Raises:
        UsageError: The run is not trained, is merged already, or its adapter was cut from another base model.
        OSError: The disk is full; nothing half-written is left.
    """
    folder = RunFolder(config.run_path, config.name)
    adapter = folder.require_adapter()
    if folder.merged.exists() and not config.overwrite:
        raise UsageError(
            f"run {config.name!r} is merged already ({folder.merged}); replace it with --overwrite, or go on with "
            f"{folder.command('test')} --test-dataset NAME"
        )
    start = time.perf_counter()
    merged = _merged(load_base_model(config, torch.float32), adapter)
    tokenizer = load_tokenizer(config, path=adapter)
    make_savable(merged)
    with whole_directory(folder.merged, replace=config.overwrite) as directory:
        merged.save_pretrained(directory, max_shard_size="5GB")
        tokenizer.save_pretrained(directory)
        if is_rwkv6(merged.config):
            _write_runtime_file(directory)
    seconds = round(time.perf_counter() - start, 3)
    folder.update_record(merge={"seconds": seconds, **environment()})
    print(
        f"merged {config.name} in {seconds:.1f} s: {folder.merged}; "
        f"next: {folder.command('test')} --test-dataset gsm-8k"
    )


def _write_runtime_file(directory: Path) -> None:
    """Write an RWKV6's weights once more, from its files and not from memory, for the `rwkv` runtime."""
    from sorsa.rwkv6.convert import directory_to_pth

    try:
        directory_to_pth(directory, directory / RUNTIME_FILE)
    except UsageError as error:  # an epsilon that the runtime does not have; everything else needs no runtime
        logger.warning("no %s for the rwkv runtime: %s", RUNTIME_FILE, error)


def attach(base: PreTrainedModel, adapter: Path) -> PreTrainedModel:
    """Put what was trained on the base model: an adapter beside its weights, or trained weights in their place.

    Args:
        base: The base model, in any floating-point type; an adapter's factors stay in FP32.
        adapter: A run's `adapter/`.

    Returns:
        The model with PEFT's layers, or `base` itself where whole weights were trained.

    Raises:
        UsageError: It was trained on another base model.
    """
    from peft import PeftModel

    import sorsa  # noqa: F401  registers SORSA with PEFT

    try:
        if (adapter / INDEX).is_file():  # what was saved decides, whatever --peft says now
            return load_weights(base, adapter)
        return PeftModel.from_pretrained(base, str(adapter))
    except torch.OutOfMemoryError:
        raise
    except (ValueError, RuntimeError) as error:  # another fingerprint; other shapes
        reason = " ".join(str(error).split())[:300]
        raise UsageError(
            f"adapter {adapter}: does not fit the base model {base.name_or_path} ({reason}); give the model it was "
            "trained on with --model"
        ) from error


def _merged(base: PreTrainedModel, adapter: Path) -> PreTrainedModel:
    """Put what was trained into the base model; raise UsageError where it does not belong to it."""
    model = attach(base, adapter)
    if not hasattr(model, "merge_and_unload"):
        return model
    return model.merge_and_unload(progressbar=True, safe_merge=True)  # matrix by matrix, refusing NaN
