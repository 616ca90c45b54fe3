"""Write a SORSA adapter as an ordinary LoRA adapter of rank 2r, for servers and tools that know only LoRA.

`W - W0 = U diag(S) Vt - U0 diag(S0) Vt0` has rank at most 2r, so the LoRA `B A` with `B = [U - U0, U0]` and
`A = [S Vt; S Vt - S0 Vt0]` is the same function on the same, unchanged base model. No model is loaded for this.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from sorsa.adapters.decomposition import difference_factors
from sorsa.errors import UsageError
from sorsa.files import whole_directory, write_json

if TYPE_CHECKING:
    from sorsa.config import RunConfig

_CONFIG, _WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
# fields that mean the same in PEFT's LoraConfig
_SHARED = (
    "base_model_name_or_path", "revision", "task_type", "target_modules", "exclude_modules", "modules_to_save",
    "layers_to_transform", "layers_pattern", "inference_mode",
)  # fmt: skip


def export_lora(adapter_dir: str | Path, out_dir: str | Path, replace: bool = False) -> None:
    """Convert a saved SORSA adapter to a LoRA adapter of rank 2r that stock PEFT loads on the same base model.

    Args:
        adapter_dir: Folder written by `save_pretrained`, with `adapter_config.json` and `adapter_model.safetensors`.
        out_dir: Folder to write.
        replace: Whether an existing `out_dir` is replaced.

    Raises:
        UsageError: The source is no SORSA adapter or is damaged, or the target exists and is not to be replaced.
    """
    source, target = Path(adapter_dir), Path(out_dir)
    if target.exists() and not replace:
        raise UsageError(f"{target} exists: name a new folder for the exported LoRA, or remove it")
    config, tensors = _read_adapter(source)
    layers: dict[str, dict[str, Tensor]] = {}
    exported: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        layer, separator, name = key.rpartition(".sorsa_")
        if separator:
            layers.setdefault(layer, {})[name] = tensor.float()
        else:
            exported[key] = tensor  # modules_to_save
    for layer, factors in layers.items():
        rank = factors["S"].numel()
        B, A = difference_factors(factors, 1.0 if config["alpha"] is None else config["alpha"] / rank)
        exported[f"{layer}.lora_B.weight"], exported[f"{layer}.lora_A.weight"] = B.contiguous(), A.contiguous()
    with whole_directory(target, replace) as folder:
        save_file(exported, folder / _WEIGHTS, metadata={"format": "pt"})
        write_json(folder / _CONFIG, _lora_config(config))


def export_run(config: RunConfig) -> None:
    """Export the adapter of a finished run to `runs/<name>/lora` (`run.py --name X --export-lora`)."""
    from sorsa.run_folder import RunFolder

    folder = RunFolder(config.run_path, config.name)
    if folder.lora.exists() and not config.overwrite:
        raise UsageError(f"{folder.lora} exists: run {config.name!r} is exported already; replace it with --overwrite")
    export_lora(folder.require_adapter(), folder.lora, replace=config.overwrite)
    print(f"LoRA of rank {2 * config.rank} with the same function: {folder.lora}")


def _read_adapter(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        config = json.loads((folder / _CONFIG).read_text())
        tensors = load_file(folder / _WEIGHTS)
    except FileNotFoundError as error:
        raise UsageError(f"{folder} is no saved adapter: {Path(error.filename).name} is missing") from error
    except (json.JSONDecodeError, SafetensorError) as error:
        raise UsageError(f"{folder} is damaged: {error}") from error
    if config.get("peft_type") != "SORSA":
        raise UsageError(f"{folder} holds a {config.get('peft_type')} adapter; only SORSA adapters are exported")
    return config, tensors


def _lora_config(config: dict[str, Any]) -> dict[str, Any]:
    doubled = {name: 2 * rank for name, rank in config["rank_pattern"].items()}
    return {
        **{name: config.get(name) for name in _SHARED},
        "peft_type": "LORA",
        "r": 2 * config["r"],
        "lora_alpha": 2 * config["r"],  # alpha = rank: LoRA's own scale is then 1
        "rank_pattern": doubled,
        "alpha_pattern": doubled,
        "lora_dropout": 0.0,
        "bias": "none",
    }
