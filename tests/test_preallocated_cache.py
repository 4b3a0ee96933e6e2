"""The cache that grows in place: after any choice of rows, columns and newcomers it holds what plain concatenation holds."""

from __future__ import annotations

import pytest
import torch
from architectures import random_model

from buckler.models.cache import PreallocatedLayer, greedy_tokens, is_plain, preallocated_cache

pytestmark = pytest.mark.ml


def states(rows: int, tokens: int, seed: int = 0, width: int = 3) -> torch.Tensor:
    return torch.randn(rows, 2, tokens, width, generator=torch.Generator().manual_seed(seed))


def filled(rows: int, tokens: int, room: int = 1, seed: int = 0) -> tuple[PreallocatedLayer, torch.Tensor, torch.Tensor]:
    """A layer, and the keys and values in it; the values are wider than the keys."""
    layer = PreallocatedLayer(room)
    keys, values = states(rows, tokens, seed), states(rows, tokens, seed + 1, width=5)
    layer.update(keys, values)
    return layer, keys, values


def require_same(layer: PreallocatedLayer, keys: torch.Tensor, values: torch.Tensor) -> None:
    assert torch.equal(layer.keys, keys) and torch.equal(layer.values, values)
    assert layer.get_seq_length() == keys.shape[2]


@pytest.mark.parametrize("room", [0, 1, 4, 100])
def test_tokens_stand_behind_one_another_whatever_the_room(room):
    layer, keys, values = filled(3, 4, room)
    for step in range(10):
        new = states(3, 1, seed=step), states(3, 1, seed=step + 50, width=5)
        returned = layer.update(*new)
        keys, values = torch.cat([keys, new[0]], 2), torch.cat([values, new[1]], 2)
        require_same(layer, keys, values)
        assert returned[0] is layer.keys and returned[1] is layer.values


@pytest.mark.parametrize("rows", [[1], [0, 2], [2, 1], [2, 1, 0], [0, 0, 1, 2, 2, 2], [3, 3, 3, 3, 3], [0, 1, 2, 3]])
def test_rows_are_chosen_dropped_and_doubled(rows):
    layer, keys, values = filled(4, 5, room=2)
    chosen = torch.tensor(rows)
    for _ in range(2):
        layer.reorder_cache(chosen)
        keys, values = keys[chosen], values[chosen]
        require_same(layer, keys, values)
        chosen = torch.arange(len(rows)).flip(0)
    new = states(len(rows), 1, seed=9), states(len(rows), 1, seed=10, width=5)
    layer.update(*new)
    require_same(layer, torch.cat([keys, new[0]], 2), torch.cat([values, new[1]], 2))


def test_rows_that_stay_are_not_written_again():
    layer, _, _ = filled(4, 5, room=2)
    before = layer.keys.data_ptr()
    layer.reorder_cache(torch.tensor([0, 3, 2]))
    assert layer.keys.data_ptr() == before and layer.keys.shape[0] == 3


def test_first_columns_are_forgotten_and_their_room_is_used_again():
    layer, keys, values = filled(2, 6, room=2)
    for step in range(8):
        layer.drop_first(2)
        new = states(2, 2, seed=step), states(2, 2, seed=step + 50, width=5)
        layer.update(*new)
        keys, values = torch.cat([keys[:, :, 2:], new[0]], 2), torch.cat([values[:, :, 2:], new[1]], 2)
        require_same(layer, keys, values)
    assert all(held.shape[2] <= 6 + 2 + 2 for held in layer._held)


@pytest.mark.parametrize("tokens", [1, 3, 5])
def test_newcomers_end_where_the_others_end(tokens):
    layer, keys, values = filled(2, 5)
    layer.drop_first(0)
    other, new_keys, new_values = filled(3, tokens, seed=20)
    layer.append_rows(other)
    assert torch.equal(layer.keys[:2], keys) and torch.equal(layer.values[:2], values)
    assert torch.equal(layer.keys[2:, :, 5 - tokens :], new_keys) and torch.equal(layer.values[2:, :, 5 - tokens :], new_values)
    assert not layer.keys[2:, :, : 5 - tokens].any() and not layer.values[2:, :, : 5 - tokens].any()


def test_columns_of_each_row_are_put_where_they_are_wanted():
    layer, keys, values = filled(2, 4)
    layer.right_aligned(torch.tensor([[0, 1, 2, 3], [2, 0, 1, 3]]))
    order = torch.tensor([2, 0, 1, 3])
    require_same(layer, torch.stack([keys[0], keys[1][:, order]]), torch.stack([values[0], values[1][:, order]]))
    layer.update(states(2, 1), states(2, 1, width=5))
    assert layer.get_seq_length() == 5


def test_only_a_cache_whose_layers_all_keep_every_token_is_plain():
    for name, expected in (("Llama", True), ("Gemma2", False), ("Lfm2", False)):
        model = random_model(name)
        cache = preallocated_cache(model, 4)
        with torch.inference_mode():
            model(input_ids=torch.tensor([[5, 6, 7]]), past_key_values=cache, use_cache=True)
        assert is_plain(cache) == expected, name


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_greedy_token_is_the_first_of_the_greatest(dtype):
    logits = torch.tensor([[0.0, 3.0, 3.0, -1.0], [2.0, 2.0, 1.0, 2.0], [-5.0, -4.0, -3.0, -2.0]], dtype=dtype)
    assert greedy_tokens(logits) == [1, 0, 3]
