"""Sizes of an RWKV6 model. `Rwkv6Config(**RWKV6_7B)` is the paper's 7B; `convert.py` reads them off a checkpoint."""

from __future__ import annotations

from typing import Any, ClassVar

from transformers import PreTrainedConfig

from sorsa.errors import UsageError
from sorsa.rwkv6 import MODEL_TYPE, PUBLISHED_MODEL_TYPE


class Rwkv6Config(PreTrainedConfig):
    """Configuration of `Rwkv6ForCausalLM`; reads the `config.json` of the published Hugging Face checkpoints too.

    Args:
        vocab_size: Rows of the embedding and of the untied head.
        hidden_size: Width C; a multiple of `head_size`.
        intermediate_size: Width of channel mixing; None means 3.5 C, rounded down to a multiple of 32.
        num_hidden_layers: Number of blocks.
        head_size: N: keys and values per head.
        mix_rank: Inner rank of the data-dependent token shift (`time_maa_w1/_w2`); None means 32, from C = 4096 on 64.
        decay_rank: Inner rank of the data-dependent decay (`time_decay_w1/_w2`); None means 64, from C = 4096 on 128.
        layer_norm_epsilon: Epsilon of every LayerNorm.
        head_size_divisor: The heads' GroupNorm `ln_x` has epsilon `layer_norm_epsilon * head_size_divisor**2`.
        use_cache: Whether a forward pass outside training returns the recurrent state.
        bos_token_id: Start token; 0 is end-of-text in the World vocabulary.
        eos_token_id: End token.
        pad_token_id: Padding; its embedding never enters the state where the attention mask is 0.
        tie_word_embeddings: RWKV6's head is its own matrix; only False is accepted.
        **kwargs: The common settings of `PreTrainedConfig`.

    Raises:
        UsageError: A size is not positive, heads do not divide the width, or a setting RWKV6 has not.
    """

    model_type = MODEL_TYPE
    keys_to_ignore_at_inference: ClassVar[list[str]] = ["state"]  # Trainer.evaluate gathers only the logits

    def __init__(
        self,
        vocab_size: int = 65536,
        hidden_size: int = 2048,
        intermediate_size: int | None = None,
        num_hidden_layers: int = 24,
        head_size: int = 64,
        mix_rank: int | None = None,
        decay_rank: int | None = None,
        layer_norm_epsilon: float = 1e-5,
        head_size_divisor: int = 8,
        use_cache: bool = True,
        bos_token_id: int | None = 0,
        eos_token_id: int | list[int] | None = 0,
        pad_token_id: int | None = 0,
        tie_word_embeddings: bool = False,
        **kwargs: Any,
    ) -> None:
        large = hidden_size >= 4096
        self.vocab_size, self.hidden_size, self.num_hidden_layers = vocab_size, hidden_size, num_hidden_layers
        self.intermediate_size = int(3.5 * hidden_size) // 32 * 32 if intermediate_size is None else intermediate_size
        self.head_size = head_size
        self.mix_rank = (64 if large else 32) if mix_rank is None else mix_rank
        self.decay_rank = (128 if large else 64) if decay_rank is None else decay_rank
        self.layer_norm_epsilon, self.head_size_divisor = layer_norm_epsilon, head_size_divisor
        self.use_cache = use_cache
        self.bos_token_id, self.eos_token_id, self.pad_token_id = bos_token_id, eos_token_id, pad_token_id
        self.tie_word_embeddings = tie_word_embeddings
        kwargs.pop("auto_map", None)  # where the published files name their code
        # In the published files: a name for the head *size* or nothing; heads are counted from the sizes instead.
        kwargs.pop("num_attention_heads", None)
        self._check(kwargs.pop("attention_hidden_size", None) or hidden_size)
        super().__init__(
            **kwargs
            | {
                "bos_token_id": bos_token_id,
                "eos_token_id": eos_token_id,
                "pad_token_id": pad_token_id,
                "tie_word_embeddings": tie_word_embeddings,
            }
        )

    @property
    def num_heads(self) -> int:
        """H = C / N."""
        return self.hidden_size // self.head_size

    def _check(self, attention_hidden_size: int) -> None:
        for name in (
            "vocab_size",
            "hidden_size",
            "intermediate_size",
            "num_hidden_layers",
            "head_size",
            "mix_rank",
            "decay_rank",
            "head_size_divisor",
        ):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise UsageError(f"RWKV6 config: {name} = {value!r}: must be a positive integer")
        if self.hidden_size % self.head_size:
            raise UsageError(
                f"RWKV6 config: hidden_size = {self.hidden_size}: must be a multiple of head_size = {self.head_size}"
            )
        if attention_hidden_size != self.hidden_size:
            raise UsageError(
                f"RWKV6 config: attention_hidden_size = {attention_hidden_size}: only the hidden size, "
                f"{self.hidden_size}, is supported, as in every published RWKV6 model"
            )
        if self.tie_word_embeddings:
            raise UsageError("RWKV6 config: tie_word_embeddings = True: RWKV6 has an untied head; set it to False")


class PublishedRwkv6Config(Rwkv6Config):
    """Stands for the `rwkv6` in the `config.json` of the published checkpoints: reading one gives an `Rwkv6Config`."""

    model_type = PUBLISHED_MODEL_TYPE

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """Read a published config as ours; arguments and result as for `PreTrainedConfig.from_dict`."""
        return Rwkv6Config.from_dict(config_dict | {"model_type": MODEL_TYPE}, **kwargs)
