"""A cache of keys and values that grows in place.

The cache of transformers is written anew, whole, for every token.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

if TYPE_CHECKING:
    from torch import Tensor


class PreallocatedLayer(DynamicLayer):  # type: ignore[misc]
    """The keys and values of a layer, `(rows, heads, tokens, width)`, as views of tensors with room for more tokens."""

    keys: Tensor
    values: Tensor

    def __init__(self, room: int) -> None:
        super().__init__()
        self._room = max(1, room)
        self._allocated: tuple[Tensor, ...] = ()

    def update(self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object) -> tuple[Tensor, Tensor]:
        """Write new tokens behind those that are there."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        before = self.get_seq_length()
        after = before + key_states.shape[-2]
        if not self._allocated or self._allocated[0].shape[2] < after:
            self._allocated = (self._longer(self.keys, key_states, before), self._longer(self.values, value_states, before))
        self.keys, self.values = (
            held[: new.shape[0], :, :after] for held, new in zip(self._allocated, (key_states, value_states), strict=True)
        )
        self.keys[:, :, before:] = key_states
        self.values[:, :, before:] = value_states
        return self.keys, self.values

    def _longer(self, old: Tensor, new: Tensor, before: int) -> Tensor:
        """A tensor with room for what `old` holds, for `new` and for more."""
        rows, heads, added, width = new.shape
        held = new.new_empty(rows, heads, before + added + self._room, width)
        if before:
            held[:, :, :before] = old
        return held

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Choose rows; in place where there are no more of them than before."""
        if not self.get_seq_length():
            return
        keys, values = self.keys[beam_idx], self.values[beam_idx]
        if self._allocated[0].shape[0] < len(beam_idx):
            self.keys, self.values, self._allocated = keys, values, ()
            return
        tokens = keys.shape[2]
        self.keys, self.values = (held[: len(beam_idx), :, :tokens] for held in self._allocated)
        self.keys.copy_(keys)
        self.values.copy_(values)


def preallocated_cache(model: PreTrainedModel, room: int) -> DynamicCache:
    """The cache that transformers would make, whose plain layers have room for so many tokens after the first ones.

    Layers with a window, and recurrent ones, hold little and stay as they are.
    """
    cache = DynamicCache(config=model.config)
    cache.layers = [PreallocatedLayer(room) if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


def greedy_tokens(logits: Tensor) -> list[int]:
    """The first of the greatest of each row of logits `(rows, vocabulary)`.

    On a CPU by numpy, whose search is about ten times as fast in float32.
    """
    if logits.device.type == "cpu":
        numbers: list[int] = logits.float().numpy().argmax(-1).tolist()
        return numbers
    found: list[int] = torch.argmax(logits, -1).tolist()
    return found
