"""Draws the next token of each answer: temperature and nucleus, with settings and a random stream of each answer's own."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from transformers import LogitsProcessor

from buckler.models.cache import greedy_tokens
from buckler.models.protocol import Request

if TYPE_CHECKING:
    from torch import Tensor

HEAD = 128
"""Likeliest tokens looked at first; few draws fall behind them, and those are made again over the whole vocabulary."""


class RowSampler:
    """Draws tokens for many requests at once; what shares the batch does not change a draw.

    One uniform number a request and step picks the token by inverse transform from the request's own nucleus. The stream of
    these numbers is seeded by `Request.key`, so it depends on the conversation and the sampling alone.
    """

    def __init__(self, requests: Sequence[Request]) -> None:
        self._streams = [random.Random(request.key) for request in requests]
        self._settings = [(request.sampling.temperature, request.sampling.top_p) for request in requests]

    def draw(self, logits: Tensor, members: Sequence[int], rows: Sequence[int]) -> list[int]:
        """The next token of each request in `members`; request `members[i]` reads row `rows[i]` of `logits`.

        Args:
            logits: `(rows, vocabulary)` in any float type; several requests may read one row.
            members: which of the requests draw.
            rows: the row of each.
        """
        chosen = [0] * len(members)
        greedy = [at for at, member in enumerate(members) if self._settings[member][0] <= 0]
        if greedy:
            tokens = greedy_tokens(logits)
            for at in greedy:
                chosen[at] = tokens[rows[at]]
        sampled = [at for at, member in enumerate(members) if self._settings[member][0] > 0]
        if sampled:
            plan = [(rows[at], self._streams[members[at]].random(), *self._settings[members[at]]) for at in sampled]
            for at, token in zip(sampled, _sampled(logits, plan), strict=True):
                chosen[at] = token
        return chosen


class OnlyDrawn(LogitsProcessor):  # type: ignore[misc]
    """A `RowSampler` inside transformers' own `generate`: all tokens but the drawn one are forbidden."""

    def __init__(self, requests: Sequence[Request]) -> None:
        self._sampler = RowSampler(requests)
        self._members = range(len(requests))

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores `(requests, vocabulary)` in which each row allows one token: 0 for the drawn one, -inf for all others."""
        chosen = torch.tensor(self._sampler.draw(scores, self._members, self._members), device=scores.device)
        return torch.full_like(scores, -torch.inf).scatter_(1, chosen[:, None], 0.0)


def _sampled(logits: Tensor, plan: list[tuple[int, float, float, float]]) -> list[int]:
    """One token for each (row, number, temperature, top_p) of `plan`, from logits `(rows, vocabulary)`.

    One transfer to the device and one back, mostly.
    """
    row, number, temperature, top_p = torch.tensor(plan, dtype=torch.float64).T.to(logits.device)
    probability = (logits[row.long()].float() / temperature.float()[:, None]).softmax(-1)
    tokens, sure = nucleus(probability, number, top_p, min(HEAD, probability.shape[1]))
    drawn: list[int] = torch.where(sure, tokens, -1).tolist()
    unsure = [at for at, token in enumerate(drawn) if token < 0]
    if unsure:
        rest = torch.tensor(unsure, device=logits.device)
        again, _ = nucleus(probability[rest], number[rest], top_p[rest], probability.shape[1])
        for at, token in zip(unsure, again.tolist(), strict=True):
            drawn[at] = token
    return drawn


def nucleus(probability: Tensor, numbers: Tensor, top_p: Tensor, head: int) -> tuple[Tensor, Tensor]:
    """Draw from each row's nucleus (Holtzman et al., arXiv 1904.09751) by inverse transform.

    Args:
        probability: float32 `(rows, vocabulary)`.
        numbers: float64 `(rows,)`, uniform in [0, 1).
        top_p: float64 `(rows,)`: the nucleus is the smallest set of likeliest tokens whose probability reaches it.
        head: how many of the likeliest tokens are sorted.

    Returns:
        tokens, int64 `(rows,)`, and whether `head` tokens were enough to know each, bool `(rows,)`.
    """
    values, tokens = probability.topk(head, dim=-1)
    reached = values.double().cumsum(-1)
    inside = (reached - values.double()) < top_p[:, None]
    inside[:, 0] = True
    whole = head == probability.shape[1]
    closed = ~inside[:, -1] | whole
    mass = torch.where(closed, (values.double() * inside).sum(-1), top_p)
    wanted = numbers * mass
    # Open nuclei: with top_p = 1 the mass is known (all of it), so a draw within the head stands; below 1 it is not.
    sure = closed | ((top_p >= 1.0) & (wanted < reached[:, -1]))
    picked = torch.searchsorted(reached, wanted.clamp(max=mass - 1e-12)[:, None])
    return tokens.gather(1, picked.clamp(max=head - 1))[:, 0], sure
