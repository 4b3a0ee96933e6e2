"""The beam's invariants: never worse than the original, never under the floor, the same whatever the order."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from buckler.curation.search import Candidate, best_cells, contenders, rank, rank_score, select
from buckler.data import Chat

DIRECTIONS = ["raise", "lower", "contrast", "random"]
GRID = [(temperature, top_p) for temperature in (0.2, 0.6, 1.0) for top_p in (0.5, 1.0)]


def candidate(
    name: str, perplexity: float, helpfulness: float, contrast: float = 0.0, turn: int = 1, cell=(0.0, 1.0)
) -> Candidate:
    return Candidate(
        chat=Chat.pair("q", name),
        perplexity=perplexity,
        helpfulness=helpfulness,
        contrast=contrast,
        round=turn,
        temperature=cell[0],
        top_p=cell[1],
    )


numbers = st.floats(min_value=1.0, max_value=100.0)
pools = st.lists(st.tuples(numbers, st.floats(1.0, 5.0), st.floats(-3, 3)), max_size=12)


@given(pool=pools, direction=st.sampled_from(DIRECTIONS), width=st.integers(1, 4), first=numbers)
def test_the_beam_never_ranks_worse_than_the_original_nor_falls_under_the_floor(pool, direction, width, first):
    original = candidate("original", first, 4.0, turn=0)
    others = [candidate(f"c{at}", *values) for at, values in enumerate(pool)]
    beam = select(others, original, direction=direction, floor=0.9, width=width, seed=0)
    assert 1 <= len(beam) <= width
    assert all(one.helpfulness >= 0.9 * 4.0 for one in beam)
    scores = [rank_score(one, direction, 0) for one in beam]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] >= rank_score(original, direction, 0) or beam[0] is original
    shuffled = random.Random(1).sample(others, len(others))
    assert [one.chat.id for one in select(shuffled, original, direction=direction, floor=0.9, width=width, seed=0)] == [
        one.chat.id for one in beam
    ]


def test_the_published_example_chooses_the_unlikely_and_helpful_text():
    original = candidate("original", 3.1, 5.0, turn=0)
    pool = [candidate("noise", 60.3, 1.0), candidate("chosen", 7.8, 5.0)]
    assert select(pool, original, direction="raise", floor=0.9, width=1, seed=0)[0].perplexity == 7.8


@given(
    cells=st.lists(st.tuples(st.sampled_from(GRID), numbers), max_size=20),
    kept=st.integers(1, len(GRID)),
    direction=st.sampled_from(["raise", "lower"]),
)
def test_the_cells_kept_are_those_with_the_best_candidates(cells, kept, direction):
    pool = [candidate(f"c{at}", perplexity, 4.0, cell=cell) for at, (cell, perplexity) in enumerate(cells)]
    chosen = best_cells(pool, GRID, kept, direction=direction, seed=0)
    assert len(chosen) == kept and chosen == [cell for cell in GRID if cell in chosen]
    best = {cell: max(rank_score(one, direction, 0) for one in pool if (one.temperature, one.top_p) == cell) for cell, _ in cells}
    left_out = [best[cell] for cell in best if cell not in chosen]
    assert not left_out or all(cell in best and best[cell] >= max(left_out) for cell in chosen)


@given(pool=pools, direction=st.sampled_from(DIRECTIONS), width=st.integers(1, 4), first=numbers)
def test_rating_only_the_contenders_selects_what_rating_every_candidate_would(pool, direction, width, first):
    original = candidate("original", first, 4.0, turn=0)
    others = [candidate(f"c{at}", *values) for at, values in enumerate(pool)]
    options = {"direction": direction, "width": width, "seed": 0}
    whole = select(others, original, floor=0.9, **options)
    beam, waiting, rated = [original], sorted(others, key=lambda one: rank(one, direction, 0)), 0
    while best := contenders(waiting, beam, **options):
        waiting, rated = waiting[len(best) :], rated + len(best)
        beam = select([*beam, *best], original, floor=0.9, **options)
    assert [one.chat.id for one in beam] == [one.chat.id for one in whole]
    assert rated + len(waiting) == len(others)
    if waiting and all(one.helpfulness >= 3.6 for one in others):
        assert rated <= 2 * width  # one wave fills the beam; a second can only look behind it
