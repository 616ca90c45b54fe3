"""RWKV6 ("Finch", x060) as a Hugging Face model: names, shapes and logits of the published checkpoints.

    x += time_mix(ln1(x)); x += channel_mix(ln2(x))        per block; blocks.0.pre_ln follows the embedding

The recurrent state takes the place of a key-value cache: `forward` returns it, `generate` carries it. Padding on the
left is exact: where the attention mask is 0, the inputs of both mixings are 0, which leaves the state empty.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor, nn
from transformers import GenerationMixin, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.utils import ModelOutput, can_return_tuple

from sorsa.errors import UsageError
from sorsa.rwkv6.configuration import Rwkv6Config
from sorsa.rwkv6.mixing import ChannelMix, LayerState, TimeMix


@dataclasses.dataclass(frozen=True)
class Rwkv6State:
    """What the model remembers of `length` tokens (padding included): one `LayerState` per block, never changed."""

    layers: tuple[LayerState, ...]
    length: int


@dataclasses.dataclass
class Rwkv6ModelOutput(ModelOutput):
    """Result of `Rwkv6Model`."""

    last_hidden_state: Tensor | None = None  # (B, T, C), the head's input
    state: Rwkv6State | None = None
    hidden_states: tuple[Tensor, ...] | None = None  # input of each block, then the head's, each (B, T, C)


@dataclasses.dataclass
class Rwkv6Output(ModelOutput):
    """Result of `Rwkv6ForCausalLM`; `generate` carries the state from step to step."""

    loss: Tensor | None = None  # ()
    logits: Tensor | None = None  # (B, T, V)
    state: Rwkv6State | None = None
    hidden_states: tuple[Tensor, ...] | None = None


class Rwkv6Block(GradientCheckpointingLayer):
    """One block: time mixing and channel mixing, each behind a LayerNorm and beside the residual stream."""

    def __init__(self, config: Rwkv6Config, index: int) -> None:
        """Build block number `index`; the first one also normalises the embedding."""
        super().__init__()
        C, eps = config.hidden_size, config.layer_norm_epsilon
        self.index = index
        if index == 0:
            self.pre_ln = nn.LayerNorm(C, eps=eps)
        self.ln1 = nn.LayerNorm(C, eps=eps)
        self.ln2 = nn.LayerNorm(C, eps=eps)
        self.attention = TimeMix(config)
        self.feed_forward = ChannelMix(config)

    def forward(self, x: Tensor, mask: Tensor | None, state: LayerState | None) -> tuple[Tensor, LayerState]:
        """Apply the block to x (B, T, C).

        Args:
            x: The residual stream.
            mask: (B, T, 1), 0 at padding and 1 elsewhere; None means no padding.
            state: The state before these tokens; None at the start of a text.

        Returns:
            The residual stream (B, T, C) and the state after these tokens.
        """
        if self.index == 0:
            x = self.pre_ln(x)
        a = _masked(self.ln1(x), mask)
        mixed, kv = self.attention(a, state)
        x = x + mixed
        f = _masked(self.ln2(x), mask)
        # copies: views would keep the whole text's a and f in memory
        return x + self.feed_forward(f, state), LayerState(a[:, -1].clone(), kv, f[:, -1].clone())


def _masked(x: Tensor, mask: Tensor | None) -> Tensor:
    return x if mask is None else x * mask.to(x.dtype)


class Rwkv6PreTrainedModel(PreTrainedModel):
    """What both classes share: loading, initialization, and what transformers must know about RWKV6."""

    config_class = Rwkv6Config
    base_model_prefix = "rwkv"
    supports_gradient_checkpointing = True
    _no_split_modules = ("Rwkv6Block",)
    _is_stateful = True  # no going back to an earlier token: assisted generation is refused

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Fill a module that no checkpoint filled: RWKV6's schedules over channels, variance-keeping matrices."""
        if isinstance(module, nn.Linear):
            init.normal_(module.weight, std=module.in_features**-0.5)
        elif isinstance(module, nn.Embedding):
            init.normal_(module.weight, std=0.02)  # any size would do: a LayerNorm follows
        elif isinstance(module, nn.LayerNorm | nn.GroupNorm):
            init.ones_(module.weight)
            init.zeros_(module.bias)
        elif isinstance(module, TimeMix | ChannelMix):
            _init_mixing(module)


def _init_mixing(module: TimeMix | ChannelMix) -> None:
    """Fill the raw parameters: shifts from 1 to 0 and decays from slow to fast over the channels."""
    C = module.time_maa_k.shape[-1]
    ramp = torch.arange(C, dtype=torch.float32) / max(C - 1, 1)  # 0 .. 1
    for name, parameter in module.named_parameters(recurse=False):
        if name in {"time_maa_w1", "time_decay_w1"}:
            init.normal_(parameter, std=1e-2)  # small: the shifts and decays begin almost independent of the data
        elif name in {"time_maa_w2", "time_decay_w2"}:
            init.uniform_(parameter, -0.01, 0.01)
        elif name == "time_decay":
            init.copy_(parameter, (-6 + 5 * ramp).view_as(parameter))  # a token's half-life: 280 tokens .. 2
        elif name == "time_faaaa":
            init.copy_(parameter, (0.5 * (1 - ramp)).view_as(parameter))
        else:
            init.copy_(parameter, (1 - ramp).view_as(parameter))


class Rwkv6Model(Rwkv6PreTrainedModel):
    """Embedding, blocks and final LayerNorm."""

    def __init__(self, config: Rwkv6Config) -> None:
        """Build the model from its sizes."""
        super().__init__(config)
        self.embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.blocks = nn.ModuleList(Rwkv6Block(config, index) for index in range(config.num_hidden_layers))
        self.ln_out = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_epsilon)
        self.gradient_checkpointing = False
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """Return the embedding."""
        return self.embeddings

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the embedding."""
        self.embeddings = value

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        state: Rwkv6State | None = None,
        use_cache: bool | None = None,
        output_hidden_states: bool | None = None,
        **kwargs: Any,
    ) -> Rwkv6ModelOutput:
        """Run the model without its head; arguments as in `Rwkv6ForCausalLM.forward`.

        Returns:
            The head's input (B, T, C), the state if asked for, the hidden states if asked for.

        Raises:
            ValueError: Neither or both of `input_ids` and `inputs_embeds` are given.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give exactly one of input_ids and inputs_embeds")
        x = self.embeddings(input_ids) if inputs_embeds is None else inputs_embeds
        length = x.shape[1]
        mask = None if attention_mask is None else attention_mask[:, -length:, None]
        before = state.layers if state is not None else (None,) * len(self.blocks)
        if use_cache is None:
            use_cache = self.config.use_cache and not self.training
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        hidden, after = [], []
        for block, layer_state in zip(self.blocks, before, strict=True):
            if output_hidden_states:
                hidden.append(x)
            x, new_state = block(x, mask, layer_state)
            if use_cache:
                after.append(new_state)
        x = self.ln_out(x)
        seen = length + (0 if state is None else state.length)
        return Rwkv6ModelOutput(
            last_hidden_state=x,
            state=Rwkv6State(tuple(after), seen) if use_cache else None,
            hidden_states=(*hidden, x) if output_hidden_states else None,
        )


class Rwkv6ForCausalLM(Rwkv6PreTrainedModel, GenerationMixin):
    """RWKV6 with its language-modelling head."""

    def __init__(self, config: Rwkv6Config) -> None:
        """Build the model from its sizes."""
        super().__init__(config)
        self.rwkv = Rwkv6Model(config)
        self.head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """Return the embedding."""
        return self.rwkv.embeddings

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the embedding."""
        self.rwkv.embeddings = value

    def get_output_embeddings(self) -> nn.Module:
        """Return the head."""
        return self.head

    def set_output_embeddings(self, value: nn.Module) -> None:
        """Replace the head."""
        self.head = value

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        state: Rwkv6State | None = None,
        use_cache: bool | None = None,
        output_hidden_states: bool | None = None,
        logits_to_keep: int = 0,
        **kwargs: Any,
    ) -> Rwkv6Output:
        """Compute logits, and the loss where labels are given.

        Args:
            input_ids: (B, T) token ids.
            attention_mask: (B, T) or longer, of which the last T columns count: 0 at padding, which belongs on the
                left. Padding on the right changes no logits of the text before it, but it enters the returned state.
            inputs_embeds: (B, T, C), in place of `input_ids`.
            labels: (B, T) token ids, -100 where no loss is taken; shifted here by one.
            state: What an earlier call returned; it is not changed.
            use_cache: Whether to return the state; None means the configured value, in training False.
            output_hidden_states: Whether to return the residual stream before every block.
            logits_to_keep: Compute only the last so many positions' logits; 0 means all.
            **kwargs: `num_items_in_batch` divides the summed loss, as the Trainer asks for.

        Returns:
            Loss (), logits (B, T or logits_to_keep, V), state, hidden states.
        """
        output = self.rwkv(
            input_ids=input_ids,
            attention_mask=attention_mask,
            inputs_embeds=inputs_embeds,
            state=state,
            use_cache=use_cache,
            output_hidden_states=output_hidden_states,
        )
        logits = self.head(output.last_hidden_state[:, -logits_to_keep:])  # -0 keeps all
        loss = None
        if labels is not None:
            loss = self.loss_function(logits=logits, labels=labels, vocab_size=self.config.vocab_size, **kwargs)
        return Rwkv6Output(loss=loss, logits=logits, state=output.state, hidden_states=output.hidden_states)

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        return False  # the state is made by the first forward pass

    def prepare_inputs_for_generation(
        self, input_ids: Tensor, state: Rwkv6State | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        """Cut off the tokens that the state already holds; `generate` calls this before every step.

        Args:
            input_ids: (B, T) all tokens so far.
            state: The state of the first `state.length` of them.
            **kwargs: What else `generate` carries; the attention mask, `use_cache` and `logits_to_keep` are passed on.

        Raises:
            UsageError: A state was given to `generate` with only the new tokens, or fewer.
        """
        if state is not None:
            if input_ids.shape[1] <= state.length:
                raise UsageError(
                    f"input_ids: {input_ids.shape[1]} tokens with a state of {state.length} tokens; give the whole "
                    "text, the state's tokens included, and at least one new token"
                )
            input_ids = input_ids[:, state.length :]
        passed = {name: kwargs[name] for name in ("attention_mask", "use_cache", "logits_to_keep") if name in kwargs}
        return {"input_ids": input_ids, "state": state, **passed}

    def _update_model_kwargs_for_generation(self, outputs: ModelOutput, *args: Any, **kwargs: Any) -> dict[str, Any]:
        carried = super()._update_model_kwargs_for_generation(outputs, *args, **kwargs)
        return carried | {"state": outputs.get("state")}  # transformers 5.24 carries only what is called `cache`

    def _beam_search(self, *args: Any, **kwargs: Any) -> Any:
        raise UsageError("num_beams > 1: beam search is not supported for RWKV6; leave num_beams at 1")
