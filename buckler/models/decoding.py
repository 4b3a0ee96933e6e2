"""Decoding over a transformers model and its cache, where answers that hold the same tokens so far share one row.

The rows of a batch are the leaves of a trie. All requests with one prompt begin in one row, which is its prefill; a row splits
where their draws part, and leaves when its answers have ended. One prefill a prompt, room freed by short answers, and low
temperatures that mostly agree are then one thing: choosing which rows of the cache go on. `batches`, `left_padded` and
`right_padded` make batches of lists of token ids, for scoring too. `RowSampler` samples by temperature and nucleus where every
answer has its own settings and its own random stream.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence, Set
from typing import TYPE_CHECKING

import torch
from transformers import PreTrainedModel

if TYPE_CHECKING:
    from torch import Tensor
import random
from typing import TYPE_CHECKING

from transformers import LogitsProcessor

from buckler.models.cache import greedy_tokens, preallocated_cache
from buckler.models.protocol import Request

if TYPE_CHECKING:
    from torch import Tensor


def can_decode(model: PreTrainedModel) -> bool:
    """Whether `decode` can drive this model: it takes positions, and all it remembers is in a cache whose rows can be chosen."""
    # RecurrentGemma keeps its state in its own modules.
    known = set(inspect.signature(model.forward).parameters)
    takes = {"attention_mask", "position_ids", "past_key_values", "logits_to_keep"} <= known
    return takes and model.config.model_type != "recurrent_gemma"


@torch.inference_mode()
def decode(
    model: PreTrainedModel,
    prompts: Sequence[tuple[int, ...]],
    sampler: RowSampler,
    *,
    new_tokens: int,
    stops: Set[int],
    pad: int,
) -> list[list[int]]:
    """Continue each prompt until it draws one of `stops` or has `new_tokens` tokens.

    A forward reads ids `(rows, length)`, int64: the left-padded prompts, then `(leaves, 1)`, the last token of each leaf. Mask
    `(rows, tokens so far)` and the cache follow the leaves; logits are `(rows, vocabulary)` of the last place only.

    Args:
        model: a causal model for which `can_decode` holds.
        prompts: token ids, one tuple a request; equal ones are read once.
        sampler: draws for request `i` from its own stream.
        new_tokens: most tokens of an answer.
        stops: ids that end an answer.
        pad: any id; it fills the left of shorter prompts and is never attended to.

    Returns:
        The ids of each answer, the stop included where there is one.
    """
    first: dict[tuple[int, ...], int] = {}
    row = [first.setdefault(prompt, len(first)) for prompt in prompts]
    ids, mask, positions = left_padded(list(first), pad, model.device)
    padded = min(map(len, first)) < ids.shape[1]
    cache = preallocated_cache(model, new_tokens)
    answers: list[list[int]] = [[] for _ in prompts]
    going = list(range(len(prompts)))
    while True:
        # Without padding the model needs no mask, and takes a quicker way.
        places = {"attention_mask": mask, "position_ids": positions} if padded else {}
        logits = model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1, **places).logits[:, -1]
        for at, token in zip(going, sampler.draw(logits, going, [row[at] for at in going]), strict=True):
            answers[at].append(token)
        going = [at for at in going if answers[at][-1] not in stops and len(answers[at]) < new_tokens]
        if not going:
            return answers
        leaves: dict[tuple[int, int], int] = {}
        for at in going:
            row[at] = leaves.setdefault((row[at], answers[at][-1]), len(leaves))
        parents = [parent for parent, _ in leaves]
        if parents != list(range(len(logits))):
            kept = torch.tensor(parents, device=ids.device)
            cache.reorder_cache(kept)  # the one choice of rows that every kind of layer knows, recurrent ones too
            mask, positions = mask[kept], positions[kept]
        ids = torch.tensor([[token] for _, token in leaves], device=ids.device)
        mask = torch.cat([mask, mask.new_ones(len(leaves), 1)], 1)
        positions = positions[:, -1:] + 1


def batches(items: Sequence[int], sizes: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Cut `items`, one after another, into runs whose padded size stays within `budget`; a run has at least one.

    Args:
        items: what is cut, best sorted so that neighbours have like sizes.
        sizes: tokens of each item.
        budget: most tokens of a run: its longest item times its length.
    """
    batch: list[int] = []
    longest = 0
    for item, size in zip(items, sizes, strict=True):
        if batch and max(longest, size) * (len(batch) + 1) > budget:
            yield batch
            batch, longest = [], 0
        batch.append(item)
        longest = max(longest, size)
    if batch:
        yield batch


def left_padded(rows: Sequence[Sequence[int]], pad: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Ids, attention mask and positions, each int64 `(rows, longest)`; rows end together at the right, ready to be continued.

    The mask is 0 on the pads at the left and 1 on the row's own ids; positions count the latter from 0 and are 0 on the pads.
    """
    longest = max(len(row) for row in rows)
    ids = torch.tensor([[pad] * (longest - len(row)) + list(row) for row in rows], device=device)
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows], device=device)
    return ids, mask, (mask.cumsum(1) - 1).clamp(min=0)


def right_padded(rows: Sequence[Sequence[int]], pad: int, device: torch.device) -> Tensor:
    """Ids, int64 `(rows, longest)`, with `pad` after each row's own: a causal model does not see them, so no mask is needed."""
    longest = max(len(row) for row in rows)
    return torch.tensor([list(row) + [pad] * (longest - len(row)) for row in rows], device=device)


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
