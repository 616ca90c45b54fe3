"""What a model remembers of the rows that it answers together, so that a row can leave and another take its place.

A row has a slot. `AttentionRows` keeps keys and values with the rows' ends in one column: with rotary positions already
in the keys, a text may stand in any columns, as long as the mask says which. `StateRows` keeps RWKV6's state, which has
no width. Both give the logits of the next token, and nothing else of the model is known outside of this file.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

from sorsa.models import is_rwkv6
from sorsa.rwkv6.mixing import LayerState
from sorsa.rwkv6.modeling import Rwkv6State

# Free columns made at a time. Appending by `torch.cat` would copy the whole cache for every token (a fifth of the time
# on a CPU); 64 copy it every 64th token and leave at most 64 columns unused.
SPARE = 64
# A prompt's layer: keys and values, each (b, H, w, D)
Layers = list[tuple[Tensor, Tensor]]


def left_padded(prompts: Sequence[list[int]], pad: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return token ids and attention mask, both (b, w), of prompts whose ends stand in one column."""
    width = max(map(len, prompts))
    ids = [[pad] * (width - len(prompt)) + prompt for prompt in prompts]
    mask = [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)


def rows_class(model: PreTrainedModel) -> type[AttentionRows] | type[StateRows] | None:
    """Return the class that keeps this model's rows, None where its cache is of another kind."""
    if is_rwkv6(model.config):
        return StateRows
    if model.config.is_encoder_decoder or not model._supports_default_dynamic_cache():
        return None
    accepted = inspect.signature(model.forward).parameters
    if not {"position_ids", "logits_to_keep"} <= accepted.keys() or not _cache_argument(model):
        return None
    layers = DynamicCache(config=model.config.get_text_config(decoder=True)).layers
    # a sliding window's layer differs in what it throws away, which the mask hides here; other layers in more than that
    known = all(isinstance(layer, DynamicLayer) and not hasattr(layer, "update_indexer") for layer in layers)
    chunked = "chunked_attention" in (getattr(model.config, "layer_types", None) or ())  # its mask counts columns
    return AttentionRows if known and not chunked else None


def _cache_argument(model: PreTrainedModel) -> str | None:
    """Return what `forward` calls its cache: transformers 5.24 renamed it."""
    accepted = inspect.signature(model.forward).parameters
    return next((name for name in ("cache", "past_key_values") if name in accepted), None)


class AttentionRows:
    """Keys and values of a number of slots, in columns `first` to `end` of stores with spare columns.

    Args:
        model: A model of `rows_class`.
        slots: Number of rows.
        pad: A token id for padding.
    """

    def __init__(self, model: PreTrainedModel, slots: int, pad: int) -> None:
        """Begin with empty slots."""
        self._model, self._pad = model, pad
        self._argument = _cache_argument(model)
        self.lengths = [0] * slots  # tokens of each row, 0 for a slot that nobody uses
        self.first = self.end = 0
        self._positions = torch.zeros(slots, 1, dtype=torch.long, device=model.device)  # of the next token
        self._layers: list[_Store] = []
        self._cache: Cache | None = None
        self._mask: Tensor = torch.zeros(slots, 0, dtype=torch.bool, device=model.device)  # (B, capacity)

    def read(self, prompts: Sequence[list[int]]) -> tuple[Tensor, Layers]:
        """Compute prompts, without a change to the rows: logits (b, V) and the keys and values."""
        ids, mask = left_padded(prompts, self._pad, self._model.device)
        cache = DynamicCache()
        logits = self._forward(ids, mask, (mask.cumsum(1) - 1).clamp(min=0), cache)
        return logits, [(layer.keys, layer.values) for layer in cache.layers]

    def put(self, slots: list[int], prompts: Sequence[list[int]], layers: Layers) -> None:
        """Give what `read` returned to slots that nobody uses."""
        width = max(map(len, prompts))
        if not self._layers:
            self._layers = [_Store(self, *pair, slots=len(self.lengths)) for pair in layers]
            self._cache = Cache(layers=self._layers)
        if width > self.end:
            self._move(range(len(self.lengths)), width)
        begin = self.end - width
        for store, (keys, values) in zip(self._layers, layers, strict=True):
            store.keys[slots, :, begin : self.end] = keys
            store.values[slots, :, begin : self.end] = values
        for slot, prompt in zip(slots, prompts, strict=True):
            self.lengths[slot] = len(prompt)
            self._mask[slot] = False
            self._mask[slot, self.end - len(prompt) : self.end] = True
            self._positions[slot] = len(prompt)
        self._trim()

    def step(self, tokens: Tensor) -> Tensor:
        """Append one token (B,) to every row and return the logits (B, V) of the next; free slots give noise."""
        if self.end == self._mask.shape[1]:
            self._move(range(len(self.lengths)), self.end - self.first)
        self._mask[:, self.end] = True  # in a free slot too: a row without any column would be NaN
        logits = self._forward(tokens[:, None], self._mask, self._positions, self._cache)
        self.end += 1
        self.lengths = [length and length + 1 for length in self.lengths]
        self._positions += 1
        return logits

    def release(self, slots: list[int]) -> None:
        """Let slots be free; columns on the left that only they used are no longer looked at."""
        for slot in slots:
            self.lengths[slot] = 0
        self._trim()

    def keep(self, slots: list[int]) -> None:
        """Keep only these slots, in this order."""
        self.lengths = [self.lengths[slot] for slot in slots]
        self._positions = self._positions[slots]
        self._move(slots, self.end - self.first)

    def bytes(self, width: int) -> int:
        """Return the memory that one row of so many tokens takes; call after the first `put`."""
        return sum(store.bytes_per_token() for store in self._layers) * width

    def _forward(self, ids: Tensor, mask: Tensor, positions: Tensor, cache: Cache | None) -> Tensor:
        options: dict[str, Any] = {"position_ids": positions, "use_cache": True, "logits_to_keep": 1}
        options[self._argument or ""] = cache
        return self._model(input_ids=ids, attention_mask=mask, **options).logits[:, -1]

    def _trim(self) -> None:
        self.first = self.end - max(self.lengths)

    def _move(self, slots: Sequence[int], width: int) -> None:
        """Copy the columns in use of some slots into new stores: their end in column `width`, spare ones behind it."""
        live = self.end - self.first
        slots = list(slots)
        for store in self._layers:
            store.keys = _moved(store.keys, slots, self.first, self.end, width)
            store.values = _moved(store.values, slots, self.first, self.end, width)
        mask = self._mask.new_zeros(len(slots), width + SPARE)
        mask[:, width - live : width] = self._mask[slots, self.first : self.end]
        self._mask = mask
        self.first, self.end = width - live, width


def _moved(old: Tensor, slots: list[int], first: int, end: int, width: int) -> Tensor:
    """Return a store (B, H, width + SPARE, D); zeros, since what a mask hides still must not be NaN."""
    new = old.new_zeros(len(slots), old.shape[1], width + SPARE, old.shape[3])
    part = old[:, :, first:end]
    new[:, :, width - (end - first) : width] = part if slots == list(range(old.shape[0])) else part[slots]
    return new


class _Store(DynamicLayer):
    """One layer's keys and values, each (B, H, capacity, D); the rows say which columns count."""

    def __init__(self, rows: AttentionRows, keys: Tensor, values: Tensor, slots: int) -> None:
        super().__init__()
        self._rows = rows
        self.dtype, self.device, self.is_initialized = keys.dtype, keys.device, True
        self.keys = keys.new_zeros(slots, keys.shape[1], 0, keys.shape[3])
        self.values = values.new_zeros(slots, values.shape[1], 0, values.shape[3])

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Write one token's keys and values, each (B, H, 1, D), and return the whole stores; the mask says the rest."""
        end = self._rows.end
        self.keys[:, :, end : end + 1] = key_states
        self.values[:, :, end : end + 1] = value_states
        return self.keys, self.values

    def get_seq_length(self, *args: Any) -> int:
        """Return the column of the next token."""
        return self._rows.end

    def get_mask_sizes(self, *args: Any) -> tuple[int, int]:
        """Return how many columns attention is given, and which is the first."""
        return self.keys.shape[2], 0

    def bytes_per_token(self) -> int:
        """Return the memory of one column of one row."""
        return sum(store.shape[1] * store.shape[3] * store.element_size() for store in (self.keys, self.values))


class StateRows:
    """RWKV6's state of a number of slots; arguments and methods as in `AttentionRows`."""

    def __init__(self, model: PreTrainedModel, slots: int, pad: int) -> None:
        """Begin with empty slots."""
        self._model, self._slots, self._pad = model, slots, pad
        self._layers: tuple[LayerState, ...] = ()

    def read(self, prompts: Sequence[list[int]]) -> tuple[Tensor, tuple[LayerState, ...]]:
        """Compute prompts, without a change to the rows: logits (b, V) and the state of each layer."""
        ids, mask = left_padded(prompts, self._pad, self._model.device)
        output = self._model(input_ids=ids, attention_mask=mask, use_cache=True, logits_to_keep=1)
        return output.logits[:, -1], output.state.layers

    def put(self, slots: list[int], prompts: Sequence[list[int]], layers: tuple[LayerState, ...]) -> None:
        """Give what `read` returned to slots that nobody uses."""
        if not self._layers:
            self._layers = tuple(
                LayerState(*(part.new_zeros(self._slots, *part.shape[1:]) for part in layer)) for layer in layers
            )
        for mine, new in zip(self._layers, layers, strict=True):
            for old, part in zip(mine, new, strict=True):
                old[slots] = part

    def step(self, tokens: Tensor) -> Tensor:
        """Append one token (B,) to every row and return the logits (B, V) of the next; free slots give noise."""
        output = self._model(input_ids=tokens[:, None], state=Rwkv6State(self._layers, 0), use_cache=True)
        self._layers = output.state.layers
        return output.logits[:, -1]

    def release(self, slots: list[int]) -> None:
        """Nothing to do: a state has no width."""

    def keep(self, slots: list[int]) -> None:
        """Keep only these slots, in this order."""
        self._layers = tuple(LayerState(*(part[slots] for part in layer)) for layer in self._layers)

    def bytes(self, width: int) -> int:
        """Return the memory that one row takes, however long it is; call after the first `put`."""
        return sum(part[0].nbytes for layer in self._layers for part in layer)
