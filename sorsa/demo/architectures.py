"""The demo's two base models before training: a Llama of 3.4 M parameters and an RWKV6 of 1.7 M."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sorsa.demo.tokenizer import CONTEXT, VOCABULARY

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

    from sorsa.rwkv6.modeling import Rwkv6ForCausalLM


def build_llama(tokenizer: PreTrainedTokenizerFast, seed: int) -> LlamaForCausalLM:
    """Return the untrained Llama in FP32.

    Args:
        tokenizer: Gives the ids of the special tokens.
        seed: Seed of the weights.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=256,  # 384 is three times slower on a CPU, 192 no faster
        intermediate_size=704,  # 8/3 of the hidden size, a multiple of 64, as Llama has it
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config)


def build_rwkv6(tokenizer: PreTrainedTokenizerFast, seed: int) -> Rwkv6ForCausalLM:
    """Return the untrained RWKV6 in FP32; arguments as for `build_llama`."""
    import torch

    from sorsa.rwkv6.configuration import Rwkv6Config
    from sorsa.rwkv6.modeling import Rwkv6ForCausalLM

    torch.manual_seed(seed)
    config = Rwkv6Config(
        vocab_size=VOCABULARY,
        hidden_size=160,  # 1.7 M parameters with the untied head: 3.4 MB in BF16
        num_hidden_layers=4,
        head_size=32,
        mix_rank=16,
        decay_rank=16,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return Rwkv6ForCausalLM(config)
