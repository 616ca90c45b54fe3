"""Which files of a Hugging Face directory hold the weights."""

from __future__ import annotations

import json
from pathlib import Path

from sorsa.errors import UsageError


def weight_files(directory: Path) -> list[Path]:
    """Return the safetensors files that transformers would load from a model directory: the index decides.

    Args:
        directory: The model's.

    Raises:
        UsageError: There are none, the index is broken, or one that it names is missing.
    """
    single, index = directory / "model.safetensors", directory / "model.safetensors.index.json"
    if single.is_file():
        return [single]
    if not index.is_file():
        found = ", ".join(sorted(p.name for p in directory.iterdir() if p.suffix in {".bin", ".pth", ".gguf"}))
        hint = f"; {found} cannot be read, convert to safetensors" if found else ""
        raise UsageError(
            f"model directory {directory}: no weights in it (looked for model.safetensors and "
            f"model.safetensors.index.json){hint or '; download them again or correct the path'}"
        )
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise UsageError(f"weights {index}: not a safetensors index ({error!r}); download the file again") from error
    missing = [name for name in names if not (directory / name).is_file()]
    if missing:
        raise UsageError(
            f"model directory {directory}: {len(missing)} of {len(names)} weight files are missing, the first is "
            f"{missing[0]}; download them again"
        )
    return [directory / name for name in names]
