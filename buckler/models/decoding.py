"""Decoding over a transformers model and its cache, where rows leave as their answers end and waiting ones enter.

The rows of a batch are the leaves of a trie. All requests with one prompt begin in one row; a row splits where their draws part,
and leaves when its answers have ended. One prefill a prompt, room freed by short answers, and low temperatures that mostly
agree are then one thing: choosing which rows of the cache go on. What all prompts begin with is read once, and newcomers are
read in a batch of their own that joins the others. `batches`, `left_padded` and `right_padded` make batches of lists of token
ids, for scoring too.
"""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Iterator, Mapping, Sequence, Set
from typing import TYPE_CHECKING

import torch
from transformers import DynamicCache, PreTrainedModel

from buckler.models.cache import in_place, is_plain, preallocated_cache
from buckler.models.sampling import RowSampler

if TYPE_CHECKING:
    from torch import Tensor

WORTH = 4
"""Newcomers enter when they are a quarter of the rows under way, or all that wait: a forward for few costs nearly as much."""
READ, CPU_READ = 16384, 2048
"""Most tokens of prompts that are read at once. More would not fit beside a large cache, nor into a CPU's caches."""
LEAD = 64
"""Tokens that reading the common beginning of all prompts once must save to be worth a forward of its own."""


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
    new_tokens: Sequence[int],
    stops: Set[int],
    pad: int,
    budget: int,
) -> Iterator[dict[int, list[int]]]:
    """Continue each prompt until it draws one of `stops` or has as many tokens as it may.

    Args:
        model: a causal model for which `can_decode` holds.
        prompts: token ids, one tuple a request; equal ones are read once.
        sampler: draws for request `i` from its own stream.
        new_tokens: most tokens of each answer.
        stops: ids that end an answer.
        pad: any id; it fills the left of shorter prompts and is never attended to.
        budget: most tokens that the cache may come to hold, padding included, if no answer ends early and all differ.

    Yields:
        The ids of answers, the stop included where there is one, by their requests' numbers; each once, before others enter.
    """
    # The longest first: newcomers then never need more columns than the rows that are there.
    waiting = deque(sorted(range(len(prompts)), key=lambda at: (-len(prompts[at]), prompts[at], at)))
    lengths = [len(prompt) for prompt in prompts]
    sizes = [length + new for length, new in zip(lengths, new_tokens, strict=True)]
    most = CPU_READ if model.device.type == "cpu" else READ
    lead = _Lead(model, prompts, max(new_tokens, default=1))
    answers: list[list[int]] = [[] for _ in prompts]
    rows: _Rows | None = None

    def drawn(rows: _Rows, logits: Tensor) -> _Rows | None:
        """The rows that go on."""
        row = {at: number for number, members in enumerate(rows.members) for at in members}
        for at, token in zip(row, sampler.draw(logits, list(row), list(row.values())), strict=True):
            answers[at].append(token)
        going = {at: tokens[-1] for at in row if (tokens := answers[at])[-1] not in stops and len(tokens) < new_tokens[at]}
        ended.update((at, answers[at]) for at in row if at not in going)
        return rows.split(going) if going else None

    ended: dict[int, list[int]] = {}
    while waiting or rows is not None:
        going = [] if rows is None else [at for members in rows.members for at in members]
        if entering := _entering(waiting, going, lengths, sizes, budget, most, rows):
            if ended:
                yield ended
                ended = {}
            newcomers = drawn(*lead.rows({at: prompts[at] for at in entering}, pad))
            rows = newcomers if rows is None else rows if newcomers is None else rows.joined(newcomers)
        elif rows is not None:
            rows = drawn(rows, rows.read())
    yield ended


def _entering(
    waiting: deque[int],
    going: Sequence[int],
    lengths: Sequence[int],
    sizes: Sequence[int],
    budget: int,
    most: int,
    rows: _Rows | None,
) -> list[int]:
    """Take those that enter now: as many as fit, of at most `most` tokens, if they are worth a forward of their own."""
    if not waiting or (rows is not None and not is_plain(rows.cache)):
        return []
    longest = max((sizes[at] for at in going), default=0)
    count, read = 0, 0
    for at in waiting:
        longest, read = max(longest, sizes[at]), max(read, lengths[at])
        if (len(going) + count + 1) * longest > budget or (count + 1) * read > most:
            break
        count += 1
    worth = not going or count == len(waiting) or count * WORTH >= len(going) or (count + 1) * read > most
    return [waiting.popleft() for _ in range(max(count, not going))] if worth else []


class _Lead:
    """What all prompts begin with, read once where that is worth a forward and the model's memory can be moved."""

    def __init__(self, model: PreTrainedModel, prompts: Sequence[tuple[int, ...]], room: int) -> None:
        self._model, self._room = model, room
        distinct = set(prompts)
        least, most = (min(distinct), max(distinct)) if len(distinct) > 1 else ((), ())
        same = next((at for at, (a, b) in enumerate(zip(least, most, strict=False)) if a != b), min(len(least), len(most)))
        self._ids = least[: min(same, min(map(len, distinct), default=1) - 1)]
        self._cache: DynamicCache | None = None
        cache = preallocated_cache(model, 1)
        if len(self._ids) * (len(distinct) - 1) >= LEAD and is_plain(cache):
            ids = torch.tensor([self._ids], device=model.device)
            model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
            self._cache = cache

    def rows(self, prompts: Mapping[int, tuple[int, ...]], pad: int) -> tuple[_Rows, Tensor]:
        """Rows that hold the prompts of requests, and logits `(rows, vocabulary)` after them."""
        rows: dict[tuple[int, ...], list[int]] = {}
        for at, prompt in prompts.items():
            rows.setdefault(prompt, []).append(at)
        cache, lead = preallocated_cache(self._model, self._room), 0 if self._cache is None else len(self._ids)
        ids, mask, positions = left_padded([prompt[lead:] for prompt in rows], pad, self._model.device)
        if self._cache is not None:
            for layer, held in zip(cache.layers, self._cache.layers, strict=True):
                layer.update(*(one.expand(len(rows), -1, -1, -1) for one in (held.keys, held.values)))
        # Without padding the model needs no mask, and takes a quicker way.
        padded = len(set(map(len, rows))) > 1
        held = torch.cat([mask.new_ones(len(rows), lead), mask], 1)
        places = {"attention_mask": held, "position_ids": positions + lead} if padded else {}
        logits = self._model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1, **places).logits[:, -1]
        if lead and padded:
            # Pads stand between the lead and what follows it: let them stand at the left.
            column = torch.arange(lead + ids.shape[1], device=ids.device) - (mask == 0).sum(1)[:, None]
            columns = torch.where(column < lead, column.clamp(min=0), column + (mask == 0).sum(1)[:, None])
            for layer in cache.layers:
                layer.right_aligned(columns)
        return _Rows(self._model, cache, list(rows.values()), list(map(len, rows))), logits


class _Rows:
    """Answers under way: the rows of a cache, left-padded, and the requests that share each.

    The mask is `(rows, tokens of the cache)`; ids and positions of a forward are `(rows, 1)`, of the token drawn last.
    """

    def __init__(self, model: PreTrainedModel, cache: DynamicCache, members: list[list[int]], lengths: list[int]) -> None:
        self._model, self.cache, self.members, self._lengths = model, cache, members, lengths
        self._width = max(lengths)
        self._last: list[int] = []

    def read(self) -> Tensor:
        """Logits `(rows, vocabulary)` after the last tokens."""
        place = self._model.device
        ids, positions = torch.tensor([self._last, self._lengths], device=place)[:, :, None]
        self._lengths = [length + 1 for length in self._lengths]
        self._width += 1
        places = {}
        if min(self._lengths) < self._width:
            mask = (torch.arange(self._width, device=place) >= self._width - 1 - positions).long()
            places = {"attention_mask": mask, "position_ids": positions}
        output = self._model(input_ids=ids, past_key_values=self.cache, use_cache=True, logits_to_keep=1, **places)
        logits: Tensor = output.logits[:, -1]
        return logits

    def split(self, going: Mapping[int, int]) -> _Rows:
        """The rows of requests that go on, each with the token it drew: one row for each different answer."""
        leaves: dict[tuple[int, int], list[int]] = {}
        for row, members in enumerate(self.members):
            for at in members:
                if at in going:
                    leaves.setdefault((row, going[at]), []).append(at)
        chosen = in_place(list(leaves))
        parents = [row for row, _ in chosen]
        if parents != list(range(len(self.members))):
            # The one choice of rows that every kind of layer knows, recurrent ones too.
            self.cache.reorder_cache(torch.tensor(parents, device=self._model.device))
        self.members = [leaves[leaf] for leaf in chosen]
        self._lengths = [self._lengths[row] for row in parents]
        self._last = [token for _, token in chosen]
        unused = self._width - max(self._lengths)
        if unused and is_plain(self.cache):
            for layer in self.cache.layers:
                layer.drop_first(unused)
            self._width -= unused
        return self

    def joined(self, other: _Rows) -> _Rows:
        """These rows and those of `other` below them."""
        for layer, new in zip(self.cache.layers, other.cache.layers, strict=True):
            layer.append_rows(new)
        self.members, self._lengths = self.members + other.members, self._lengths + other._lengths
        self._last += other._last
        return self


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
