"""Batches keep the order and the budget, and pad on the side they say."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from buckler.models.decoding import batches, left_padded, right_padded

pytestmark = pytest.mark.ml


@given(st.lists(st.integers(1, 50)), st.integers(1, 100))
def test_batches_keep_the_order_and_the_budget(sizes, budget):
    cut = list(batches(range(len(sizes)), sizes, budget))
    assert [item for batch in cut for item in batch] == list(range(len(sizes)))
    for batch in cut:
        assert len(batch) == 1 or max(sizes[item] for item in batch) * len(batch) <= budget


def test_padding_stands_where_it_says():
    place = torch.device("cpu")
    ids, mask, positions = left_padded([[5], [6, 7, 8]], 0, place)
    assert ids.tolist() == [[0, 0, 5], [6, 7, 8]]
    assert mask.tolist() == [[0, 0, 1], [1, 1, 1]]
    assert positions.tolist() == [[0, 0, 0], [0, 1, 2]]
    assert right_padded([[5], [6, 7, 8]], 0, place).tolist() == [[5, 0, 0], [6, 7, 8]]
