"""The model of a plan, without weights: the paper's four 7B architectures (Table 1) and SmolLM2 are embedded.

So a plan needs neither a network nor a licence. Numbers are those of the models' own config.json.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from sorsa.errors import UsageError
from sorsa.rwkv6 import MODEL_TYPE, RWKV6_7B, register_rwkv6

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from sorsa.config import RunConfig

_LLAMA2_7B = {
    "model_type": "llama",
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "rms_norm_eps": 1e-5,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": False,
}
_MISTRAL_7B = {
    "model_type": "mistral",
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-5,
    "max_position_embeddings": 32768,
    "sliding_window": 4096,
    "tie_word_embeddings": False,
}
_GEMMA_7B = {
    "model_type": "gemma",
    "vocab_size": 256000,
    "hidden_size": 3072,
    "intermediate_size": 24576,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "head_dim": 256,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": True,
}
_SMOLLM2_135M = {
    "model_type": "llama",
    "vocab_size": 49152,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "rms_norm_eps": 1e-5,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": True,
}
_RWKV6_7B = {"model_type": MODEL_TYPE, **RWKV6_7B}

EMBEDDED: dict[str, dict[str, Any]] = {
    "meta-llama/Llama-2-7b-hf": _LLAMA2_7B,
    "mistralai/Mistral-7B-v0.1": _MISTRAL_7B,
    "google/gemma-7b": _GEMMA_7B,
    "RWKV/v6-Finch-7B-HF": _RWKV6_7B,
    "BlinkDL/rwkv-6-world": _RWKV6_7B,
    "HuggingFaceTB/SmolLM2-135M": _SMOLLM2_135M,
}
"""Hub id to the arguments of its transformers configuration."""


def build_skeleton(config: RunConfig) -> PreTrainedModel:
    """Build the run's base model in FP32 on the meta device, where a weight has a shape and no memory.

    Args:
        config: The run's settings; `model`, `revision` and `local` are read. A directory wins over an embedded id.

    Raises:
        UsageError: The model is neither embedded, nor a readable directory, nor on a reachable hub.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    register_rwkv6()
    if config.model in EMBEDDED and not Path(config.model).exists():
        settings = dict(EMBEDDED[config.model])
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(AutoConfig.for_model(settings.pop("model_type"), **settings))
    from sorsa.models import load_skeleton

    try:
        # FP32, as the paper trains, whatever the checkpoint's own type
        return load_skeleton(config, check_weights=False).float()
    except UsageError as error:
        if Path(config.model).exists():
            raise
        raise UsageError(f"{error}; --plan needs no files for {', '.join(EMBEDDED)}") from error
