"""Mixing: the same seed gives the same rows, counts are kept, no row stands twice unless asked for."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buckler.data import Chat
from buckler.data.rows import mix
from buckler.errors import ConfigError, DataError


def chats(name, count):
    return [Chat.pair(f"{name} {number}", "answer") for number in range(count)]


PARTS = {"harmful": chats("harmful", 10), "benign": chats("benign", 90)}


def test_same_seed_same_rows_and_another_seed_others():
    counts = {"harmful": 5, "benign": 45}
    first = mix(PARTS, counts, seed=1)
    assert first == mix(PARTS, counts, seed=1)
    assert [row.id for row in first] != [row.id for row in mix(PARTS, counts, seed=2)]
    assert Counter(row.query.split()[0] for row in first) == counts
    assert [row.query for row in first] != sorted(row.query for row in first)


def test_the_draw_of_a_seed_stays_what_it_is():
    rows = mix({"a": chats("a", 5), "b": chats("b", 5)}, {"a": 2, "b": 2}, seed=7)
    assert [row.query for row in rows] == ["b 3", "b 0", "a 0", "a 2"]


def test_another_part_beside_it_changes_nothing_in_a_part():
    alone = mix({"benign": PARTS["benign"]}, {"benign": 20}, seed=3)
    both = mix(PARTS, {"harmful": 4, "benign": 20}, seed=3)
    assert {row.id for row in alone} == {row.id for row in both if row.query.startswith("benign")}


def test_copies_stand_once_and_a_shared_row_belongs_to_the_first_part():
    rows = chats("x", 4)
    mixed = mix({"a": rows + rows, "b": [rows[0], *chats("y", 2)]}, {"a": 4, "b": 2}, seed=0)
    assert len({row.id for row in mixed}) == 6
    with pytest.raises(DataError, match="'b': 3 rows requested, but only 2 distinct"):
        mix({"a": rows, "b": [rows[0], *chats("y", 2)]}, {"a": 4, "b": 3}, seed=0)


@given(st.integers(1, 30), st.integers(0, 200), st.integers())
def test_repeats_take_every_row_as_often_as_any_other(size, count, seed):
    mixed = mix({"a": chats("a", size)}, {"a": count}, seed=seed, repeat=True)
    times = Counter(row.id for row in mixed)
    assert len(mixed) == count
    assert not times or max(times.values()) - min(times.get(row.id, 0) for row in chats("a", size)) <= 1


def test_what_is_not_understood_is_refused():
    with pytest.raises(ConfigError, match="unmatched: benign"):
        mix(PARTS, {"harmful": 1}, seed=0)
    with pytest.raises(ConfigError, match="-1 rows"):
        mix({"a": []}, {"a": -1}, seed=0)
    with pytest.raises(DataError, match="0 distinct"):
        mix({"a": []}, {"a": 1}, seed=0, repeat=True)
