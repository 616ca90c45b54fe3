"""`SorsaModel` and `OsoraModel`: PEFT's tuners. Find the layers, decompose them with a progress bar, guard loading."""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
from peft.utils.other import get_pattern_key
from torch import Tensor, nn
from tqdm import tqdm

from sorsa.adapters.config import ResidualConfig
from sorsa.adapters.fingerprint import same_base
from sorsa.adapters.layer import SorsaLinear
from sorsa.adapters.osora_layer import OsoraLinear
from sorsa.adapters.residual_layer import ResidualLinear

_DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)  # FP8 weights come with scales of their own


class ResidualModel(BaseTuner):
    """What both tuners do; `tuner_layer_cls` says with which layers."""

    tuner_layer_cls: type[ResidualLinear]
    target_module_mapping = TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING

    def inject_adapter(self, model: nn.Module, adapter_name: str, *args: Any, **kwargs: Any) -> None:
        """Add one adapter: first all layers (cheap, finds every error), then their decompositions."""
        super().inject_adapter(model, adapter_name, *args, **kwargs)
        config = self.peft_config[adapter_name]
        if not config.init_weights:
            return
        layers = self._layers(model, adapter_name).values()
        layers = [layer for layer in layers if layer.get_base_layer().weight.device.type != "meta"]
        for layer in tqdm(layers, desc=f"SVD ({config.decomposition})", unit="matrix", disable=len(layers) < 8):
            layer.initialize(adapter_name, config)

    @classmethod
    def _layers(cls, model: nn.Module, adapter_name: str) -> dict[str, ResidualLinear]:
        modules = model.named_modules()
        return {name: m for name, m in modules if isinstance(m, cls.tuner_layer_cls) and adapter_name in m.r}

    def _create_and_replace(
        self, config: ResidualConfig, adapter_name: str, target: nn.Module, target_name: str, parent: nn.Module,
        current_key: str, **_: Any,
    ) -> None:  # fmt: skip
        rank = config.rank_pattern.get(get_pattern_key(config.rank_pattern.keys(), current_key), config.r)
        linear = target.get_base_layer() if isinstance(target, BaseTunerLayer) else target
        if not isinstance(linear, nn.Linear) or linear.weight.dtype not in _DTYPES:
            method = config.peft_type.value
            raise TypeError(
                f"{method} adapts torch.nn.Linear with weights of 16 bits or more; {current_key} is {linear}"
            )
        layer = target if isinstance(target, self.tuner_layer_cls) else self.tuner_layer_cls(target)
        try:
            layer.update_layer(adapter_name, rank, config)
        except ValueError as error:
            raise ValueError(f"{current_key}: {error}") from None
        if layer is not target:
            if adapter_name != self.active_adapter:
                layer.requires_grad_(False)  # an additional adapter is not trained until it is activated
            self._replace_module(parent, target_name, layer, target)

    @classmethod
    def _remap_adapter_state_dict_for_load(
        cls, model: nn.Module, config: ResidualConfig, adapter_name: str, state_dict: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        # PEFT calls this with the file's tensors before any of them is used: the place to refuse a wrong base.
        remapped = super()._remap_adapter_state_dict_for_load(model, config, adapter_name, state_dict)
        layers = cls._layers(model, adapter_name)
        needed = {f"{name}.{part}.{adapter_name}" for name in layers for part in cls.tuner_layer_cls.stored_names()}
        if missing := sorted(needed - remapped.keys()):
            raise ValueError(
                f"the adapter's file lacks {len(missing)} tensors, the first is {missing[0]}: copy it again"
            )
        wrong = []
        for name, layer in layers.items():
            saved, weight = remapped[f"{name}.{cls.prefix}probe.{adapter_name}"], layer.get_base_layer().weight
            if weight.device.type != "meta" and not same_base(saved, weight):
                wrong.append(name.removeprefix("base_model.model."))
        if wrong:
            base = config.base_model_name_or_path or "another model"
            raise ValueError(
                f"this adapter was cut from other base weights ({base}): {len(wrong)} of {len(layers)} adapted "
                f"matrices differ, the first is {wrong[0]}. Load the base model it was trained on"
            )
        return remapped


class SorsaModel(ResidualModel):
    """A model whose targeted linear layers carry SORSA adapters. Made by `get_peft_model(model, SorsaConfig(...))`."""

    prefix = SorsaLinear.prefix
    tuner_layer_cls = SorsaLinear


class OsoraModel(ResidualModel):
    """A model whose targeted linear layers carry OSoRA adapters. Made by `get_peft_model(model, OsoraConfig(...))`."""

    prefix = OsoraLinear.prefix
    tuner_layer_cls = OsoraLinear
