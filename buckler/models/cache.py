"""A cache of keys and values that grows in place.

The cache of transformers is written anew, whole, for every token.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

if TYPE_CHECKING:
    from torch import Tensor


class PreallocatedLayer(DynamicLayer):  # type: ignore[misc]
    """The keys and values of a layer, `(rows, heads, tokens, width)`, as views of tensors with room for more of them."""

    keys: Tensor
    values: Tensor

    def __init__(self, room: int) -> None:
        super().__init__()
        self._room = max(1, room)
        self._held: tuple[Tensor, ...] = ()
        self._first = 0
        """The column of `_held` where the views begin."""

    def update(self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object) -> tuple[Tensor, Tensor]:
        """Write new tokens behind those that are there."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        before, added = self.get_seq_length(), key_states.shape[2]
        if not self._held or self._held[0].shape[2] < self._first + before + added:
            self._hold((key_states, value_states), key_states.shape[0], before + added + self._room)
        self._view(key_states.shape[0], before + added)
        self.keys[:, :, before:] = key_states
        self.values[:, :, before:] = value_states
        return self.keys, self.values

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Choose rows; those that stay in their place are not touched."""
        rows, tokens = len(beam_idx), self.get_seq_length()
        if not tokens:
            return
        moved = (beam_idx != torch.arange(rows, device=beam_idx.device)).nonzero()[:, 0]
        chosen = [live[beam_idx[moved]] for live in (self.keys, self.values)]
        if self._held[0].shape[0] < rows:
            self._hold((self.keys, self.values), rows + rows // 2, tokens + self._room)
        self._view(rows, tokens)
        self.keys[moved], self.values[moved] = chosen

    def drop_first(self, tokens: int) -> None:
        """Forget the first columns: no row has a token there."""
        self._first += tokens
        self._view(self.keys.shape[0], self.get_seq_length() - tokens)

    def right_aligned(self, columns: Tensor) -> None:
        """Let column `columns[row, at]`, int64 `(rows, tokens)`, of each row be its column `at`."""
        at = columns[:, None, :, None]
        self._held = tuple(live.gather(2, at.expand(-1, live.shape[1], -1, live.shape[3])) for live in (self.keys, self.values))
        self._first = 0
        self._view(*columns.shape)

    def append_rows(self, other: PreallocatedLayer) -> None:
        """Put the rows of another layer, which has no more tokens, below: they end together at the right."""
        rows, tokens, free = self.keys.shape[0], self.get_seq_length(), self.get_seq_length() - other.get_seq_length()
        both = rows + other.keys.shape[0]
        if self._held[0].shape[0] < both:
            self._hold((self.keys, self.values), both, tokens + self._room)
        self._view(both, tokens)
        for live, new in ((self.keys, other.keys), (self.values, other.values)):
            live[rows:, :, :free] = 0  # never attended to, but numbers
            live[rows:, :, free:] = new

    def _view(self, rows: int, tokens: int) -> None:
        self.keys, self.values = (held[:rows, :, self._first : self._first + tokens] for held in self._held)

    def _hold(self, like: tuple[Tensor, Tensor], rows: int, tokens: int) -> None:
        """Room for so many rows and tokens, in which what there is stands first."""
        live = (self.keys, self.values) if self.get_seq_length() else ()
        self._held = tuple(one.new_empty(rows, one.shape[1], tokens, one.shape[3]) for one in like)
        self._first = 0
        for held, old in zip(self._held, live, strict=False):
            held[: old.shape[0], :, : old.shape[2]] = old


def preallocated_cache(model: PreTrainedModel, room: int) -> DynamicCache:
    """The cache that transformers would make, whose plain layers have room for so many tokens after the first ones.

    Layers with a window, and recurrent ones, hold little and stay as they are.
    """
    cache = DynamicCache(config=model.config)
    cache.layers = [PreallocatedLayer(room) if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


def is_plain(cache: DynamicCache) -> bool:
    """Whether all that is remembered lies in preallocated layers, whose rows and columns can be chosen, moved and joined."""
    return all(type(layer) is PreallocatedLayer for layer in cache.layers)


def in_place(leaves: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Leaves `(row, token)` in an order that leaves as many as can be in their row."""
    order: list[tuple[int, int] | None] = [None] * len(leaves)
    others = []
    for leaf in leaves:
        if leaf[0] < len(order) and order[leaf[0]] is None:
            order[leaf[0]] = leaf
        else:
            others.append(leaf)
    rest = iter(others)
    return [next(rest) if leaf is None else leaf for leaf in order]


def greedy_tokens(logits: Tensor) -> list[int]:
    """The first of the greatest of each row of logits `(rows, vocabulary)`.

    On a CPU by numpy, whose search is about ten times as fast in float32.
    """
    if logits.device.type == "cpu":
        numbers: list[int] = logits.float().numpy().argmax(-1).tolist()
        return numbers
    found: list[int] = torch.argmax(logits, -1).tolist()
    return found
