"""Write an adapter as an ordinary LoRA adapter, for servers and tools that know only LoRA. No model is loaded for this.

`W - W0 = B A` is the same function on the same, unchanged base model (each layer's `difference`). For SORSA its rank is
2r; for OSoRA, whose row space `Vt0` never changes, r.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from sorsa.adapters.layer import SorsaLinear
from sorsa.adapters.osora_layer import OsoraLinear
from sorsa.adapters.residual_layer import ResidualLinear
from sorsa.errors import UsageError
from sorsa.files import whole_directory, write_json
from sorsa.trained_weights import INDEX

if TYPE_CHECKING:
    from sorsa.config import RunConfig

_LAYERS: dict[str, type[ResidualLinear]] = {"SORSA": SorsaLinear, "OSORA": OsoraLinear}
_CONFIG, _WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
# fields that mean the same in PEFT's LoraConfig
_SHARED = (
    "base_model_name_or_path", "revision", "task_type", "target_modules", "exclude_modules", "modules_to_save",
    "layers_to_transform", "layers_pattern", "inference_mode",
)  # fmt: skip


def export_lora(adapter_dir: str | Path, out_dir: str | Path, replace: bool = False) -> int:
    """Convert a saved SORSA or OSoRA adapter to a LoRA adapter that stock PEFT loads on the same base model.

    Args:
        adapter_dir: Folder written by `save_pretrained`, with `adapter_config.json` and `adapter_model.safetensors`.
        out_dir: Folder to write.
        replace: Whether an existing `out_dir` is replaced.

    Returns:
        The LoRA's rank: 2r for SORSA, r for OSoRA.

    Raises:
        UsageError: The source is no such adapter or is damaged, or the target exists and is not to be replaced.
    """
    source, target = Path(adapter_dir), Path(out_dir)
    if target.exists() and not replace:
        raise UsageError(f"{target} exists: name a new folder for the exported LoRA, or remove it")
    config, tensors = _read_adapter(source)
    layer_class = _LAYERS[config["peft_type"]]
    layers: dict[str, dict[str, Tensor]] = {}
    exported: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        layer, separator, name = key.rpartition(f".{layer_class.prefix}")
        if separator:
            layers.setdefault(layer, {})[name] = tensor.float()
        else:
            exported[key] = tensor  # modules_to_save
    for layer, factors in layers.items():
        rank = factors["S0"].numel()
        B, A = layer_class.difference(factors, 1.0 if config["alpha"] is None else config["alpha"] / rank)
        exported[f"{layer}.lora_B.weight"], exported[f"{layer}.lora_A.weight"] = B.contiguous(), A.contiguous()
    lora_config = _lora_config(config, times=layer_class.difference_rank)
    with whole_directory(target, replace) as folder:
        save_file(exported, folder / _WEIGHTS, metadata={"format": "pt"})
        write_json(folder / _CONFIG, lora_config)
    return lora_config["r"]


def export_run(config: RunConfig) -> None:
    """Export the adapter of a finished run to `runs/<name>/lora` (`run.py --name X --export-lora`)."""
    from sorsa.run_folder import RunFolder

    folder = RunFolder(config.run_path, config.name)
    if folder.lora.exists() and not config.overwrite:
        raise UsageError(f"{folder.lora} exists: run {config.name!r} is exported already; replace it with --overwrite")
    rank = export_lora(folder.require_adapter(), folder.lora, replace=config.overwrite)
    print(f"LoRA of rank {rank} with the same function: {folder.lora}")


def _read_adapter(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    if (folder / INDEX).is_file():
        raise UsageError(f"{folder} holds trained weights and no adapter: there is no LoRA in them to export")
    try:
        config = json.loads((folder / _CONFIG).read_text())
        tensors = load_file(folder / _WEIGHTS)
    except FileNotFoundError as error:
        raise UsageError(f"{folder} is no saved adapter: {Path(error.filename).name} is missing") from error
    except (json.JSONDecodeError, SafetensorError) as error:
        raise UsageError(f"{folder} is damaged: {error}") from error
    if config.get("peft_type") == "LORA" and not config.get("use_dora"):
        raise UsageError(f"{folder} is a plain LoRA already: any program that knows LoRA loads it as it is")
    if config.get("peft_type") not in _LAYERS:
        allowed = " and ".join(_LAYERS)
        raise UsageError(f"{folder} holds a {config.get('peft_type')} adapter; only {allowed} adapters are exported")
    return config, tensors


def _lora_config(config: dict[str, Any], times: int) -> dict[str, Any]:
    rank = times * config["r"]
    ranks = {name: times * rank for name, rank in config["rank_pattern"].items()}
    return {
        **{name: config.get(name) for name in _SHARED},
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": rank,  # alpha = rank: LoRA's own scale is then 1
        "rank_pattern": ranks,
        "alpha_pattern": ranks,
        "lora_dropout": 0.0,
        "bias": "none",
    }
