"""RWKV6 ("Finch", x060) without remote code: `configuration.py`, `modeling.py` with its two mixings in `mixing.py` and
the recurrence in `wkv.py`, the World tokenizer in `tokenizer.py`, checkpoints of both namings in `convert.py`.

Whoever loads models calls `register_rwkv6()` first; nothing here imports torch or transformers before that.
"""

from __future__ import annotations

from typing import Any

# Our own type: "rwkv" is transformers' RWKV-4, and flash-linear-attention has a "rwkv6" of another layout.
MODEL_TYPE = "rwkv6_finch"
PUBLISHED_MODEL_TYPE = "rwkv6"

RUNTIME_FILE = "model.pth"  # in a model directory: its weights for the `rwkv` runtime, with BlinkDL's names

# The paper's fourth model, as arguments of Rwkv6Config: 7,635,746,816 parameters in 902 tensors.
RWKV6_7B: dict[str, Any] = {
    "vocab_size": 65536,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "head_size": 64,
    "mix_rank": 64,  # the 7B doubles both inner ranks of the smaller models
    "decay_rank": 128,
}


def register_rwkv6() -> None:
    """Let AutoConfig, AutoModelForCausalLM and AutoTokenizer know RWKV6; calling it again changes nothing.

    Published directories are read too, unless flash-linear-attention has registered their model type before.
    """
    from transformers import CONFIG_MAPPING, AutoConfig, AutoModelForCausalLM, AutoTokenizer

    from sorsa.rwkv6.configuration import PublishedRwkv6Config, Rwkv6Config
    from sorsa.rwkv6.modeling import Rwkv6ForCausalLM
    from sorsa.rwkv6.tokenizer import Rwkv6Tokenizer

    AutoConfig.register(MODEL_TYPE, Rwkv6Config, exist_ok=True)
    if PUBLISHED_MODEL_TYPE not in CONFIG_MAPPING:
        AutoConfig.register(PUBLISHED_MODEL_TYPE, PublishedRwkv6Config)
    AutoModelForCausalLM.register(Rwkv6Config, Rwkv6ForCausalLM, exist_ok=True)
    AutoTokenizer.register(Rwkv6Config, slow_tokenizer_class=Rwkv6Tokenizer, exist_ok=True)
