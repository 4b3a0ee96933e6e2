"""Drawing tokens: the nucleus, the short cut over likely tokens, and each request's own stream."""

from __future__ import annotations

import pytest
import torch

from buckler.models.protocol import Request, Sampling
from buckler.models.sampling import HEAD, RowSampler, nucleus

pytestmark = pytest.mark.ml


@pytest.mark.parametrize("top_p", [0.3, 0.9, 1.0])
def test_the_short_cut_over_likely_tokens_draws_what_a_whole_sort_draws(top_p):
    generator = torch.Generator().manual_seed(1)
    probability = (torch.randn(200, 500, generator=generator) * 3).softmax(-1)
    numbers = torch.rand(200, generator=generator, dtype=torch.float64)
    limits = torch.full((200,), top_p, dtype=torch.float64)
    whole, certain = nucleus(probability, numbers, limits, 500)
    short, sure = nucleus(probability, numbers, limits, 32)
    assert (bool(certain.all()) and 0 < int(sure.sum()) < 200) or top_p == 0.3
    assert torch.equal(short[sure], whole[sure])


def test_the_nucleus_is_the_smallest_set_that_reaches_top_p():
    probability = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).repeat(1000, 1)
    numbers = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    tokens, _ = nucleus(probability, numbers, torch.full((1000,), 0.75, dtype=torch.float64), 4)
    counts = torch.bincount(tokens, minlength=4).tolist()
    assert counts == [625, 375, 0, 0]


def requests(*settings: tuple[float, float]) -> list[Request]:
    return [
        Request(messages=(), sampling=Sampling(temperature=temperature, top_p=top_p, seed=seed))
        for seed, (temperature, top_p) in enumerate(settings)
    ]


def test_requests_of_one_row_draw_as_they_would_from_rows_of_their_own():
    samplings = requests((0.0, 1.0), (0.7, 0.9), (1.0, 1.0), (2.0, 0.95))
    logits = torch.randn(3, 50, generator=torch.Generator().manual_seed(0))
    rows = [2, 0, 2, 2]
    together = RowSampler(samplings)
    alone = RowSampler(samplings)
    for _ in range(20):
        drawn = together.draw(logits, range(4), rows)
        assert drawn == [alone.draw(logits[[row]], [at], [0])[0] for at, row in enumerate(rows)]
    assert drawn[0] == int(logits[2].argmax())


def test_a_draw_behind_the_likeliest_tokens_is_found_in_the_whole_vocabulary():
    flat = torch.zeros(1, 100 * HEAD)
    sampler = RowSampler(requests(*[(1.0, 1.0)] * 200))
    drawn = sampler.draw(flat, range(200), [0] * 200)
    assert len(set(drawn)) > 180 and min(drawn) >= 0
