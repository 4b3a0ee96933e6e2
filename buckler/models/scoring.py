"""Likelihoods of answers: hidden states first, then the output head over chunks of answer positions, in bounded memory.

Logits of batch x length x vocabulary are never held: with today's vocabularies they cost more than the model. What common
architectures do to logits after the head is in their configuration. The short cut is compared with the model's own forward on
first use; a model that does something else is scored by its own forward, row by row.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import cross_entropy
from transformers import DynamicCache, PreTrainedModel

from buckler.models.decoding import CPU_READ, batches, can_decode, left_padded, right_padded

if TYPE_CHECKING:
    from torch import Tensor


LOGITS = 1 << 24
"""Most logits made at once: 64 MiB of float32."""


@dataclass(frozen=True, slots=True, order=True)
class Row:
    """Ids whose likelihood is wanted, after the ids before them; neither is empty."""

    context: tuple[int, ...]
    answer: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.context) + len(self.answer)


class Scorer:
    """Summed negative log-likelihoods, in nats, under one model."""

    def __init__(self, model: PreTrainedModel, pad: int) -> None:
        self._model, self._pad = model, pad
        self._decoder, self._head = model.base_model, model.get_output_embeddings()
        # Known to be wrong for PEFT's virtual tokens and for a model of one piece; else None until the first row is seen.
        fits = isinstance(model, PreTrainedModel) and self._decoder is not model and self._head is not None
        self._short_cut: bool | None = None if fits else False
        self._can_share = can_decode(model) and not model._is_stateful

    @torch.inference_mode()
    def sums(self, rows: Sequence[Row], budget: int) -> Iterator[dict[Row, float]]:
        """The sum over the answer's ids of each row, batch after batch; equal rows are scored once.

        Args:
            rows: in any order.
            budget: most tokens, padding included, that are held at once.
        """
        if rows and self._short_cut is None:
            self._short_cut = self._agrees(min(rows, key=len))
        if not self._short_cut:
            yield {row: float(_nll(self._own_logits(row), row.answer).double().sum()) for row in set(rows)}
            return
        shared, alone = self._parted(set(rows))
        for batch in _cut(sorted(shared, key=lambda row: (len(row.context), row)), budget):
            yield dict(zip(batch, self._reduced(self._after_shared(batch), batch), strict=True))
        if self._model.device.type == "cpu":
            budget = min(budget, CPU_READ)
        for batch in _cut(sorted(alone, key=lambda row: (len(row), row)), budget):
            yield dict(zip(batch, self._reduced(self._after(batch), batch), strict=True))

    def _parted(self, rows: set[Row]) -> tuple[list[Row], list[Row]]:
        """Rows whose context is worth one reading for all of them, and the others.

        Reading it once needs a cache and loses some speed; it gains where half of the tokens, or more, would be the context
        over again.
        """
        if not self._can_share:
            return [], list(rows)
        uses = Counter(row.context for row in rows)
        tokens: Counter[tuple[int, ...]] = Counter()
        for row in rows:
            tokens[row.context] += len(row)
        worth = {c for c, n in uses.items() if len(c) > 1 and 2 * (n - 1) * len(c) >= tokens[c]}
        return [row for row in rows if row.context in worth], [row for row in rows if row.context not in worth]

    def _after(self, rows: Sequence[Row]) -> Tensor:
        """Hidden states `(ids of all answers, width)` that predict these ids, answer after answer."""
        ids = right_padded([row.context + row.answer[:-1] for row in rows], self._pad, self._model.device)
        hidden = self._decoder(input_ids=ids, use_cache=False).last_hidden_state
        return _picked(hidden, [(len(row.context) - 1, len(row.answer)) for row in rows])

    def _after_shared(self, rows: Sequence[Row]) -> Tensor:
        """As `_after`, but each context is read once; its last id is read again with each answer, which it predicts."""
        place = self._model.device
        first: dict[tuple[int, ...], int] = {}
        owner = torch.tensor([first.setdefault(row.context, len(first)) for row in rows], device=place)
        ids, mask, positions = left_padded([context[:-1] for context in first], self._pad, place)
        cache = DynamicCache(config=self._model.config)
        self._decoder(input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True)
        cache.reorder_cache(owner)
        ids = right_padded([(row.context[-1], *row.answer[:-1]) for row in rows], self._pad, place)
        positions = positions[owner, -1:] + 1 + torch.arange(ids.shape[1], device=place)
        mask = torch.cat([mask[owner], torch.ones_like(ids)], 1)
        hidden = self._decoder(
            input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True
        ).last_hidden_state
        return _picked(hidden, [(0, len(row.answer)) for row in rows])

    def _reduced(self, hidden: Tensor, rows: Sequence[Row]) -> list[float]:
        """The sum of each row, from hidden states `(ids of all answers, width)`; logits are made a chunk at a time."""
        targets = [token for row in rows for token in row.answer]
        chunk = self._chunk()
        spans = [slice(at, at + chunk) for at in range(0, len(targets), chunk)]
        losses = iter(torch.cat([_nll(logits_of(self._model, hidden[span]), targets[span]) for span in spans]).double().tolist())
        return [sum(islice(losses, len(row.answer))) for row in rows]

    def _chunk(self) -> int:
        """Positions whose logits are made at once."""
        return max(1, LOGITS // int(self._head.weight.shape[0]))

    def _agrees(self, row: Row) -> bool:
        """Whether the short cut gives the model's own logits, up to the rounding of its number format."""
        row = Row(row.context, row.answer[: self._chunk()])
        return differ_by_rounding(logits_of(self._model, self._after([row])), self._own_logits(row))

    def _own_logits(self, row: Row) -> Tensor:
        """Logits `(ids of the answer, vocabulary)` by the model's own forward over ids `(1, length)`."""
        ids = torch.tensor([row.context + row.answer[:-1]], device=self._model.device)
        logits: Tensor = self._model(input_ids=ids, use_cache=False, logits_to_keep=len(row.answer)).logits[0]
        return logits[-len(row.answer) :]


def logits_of(model: PreTrainedModel, hidden: Tensor) -> Tensor:
    """Logits `(..., vocabulary)` of hidden states `(..., width)`; Cohere and Granite scale them, Gemma caps them."""
    config = model.config
    logits: Tensor = model.get_output_embeddings()(hidden)
    if scale := getattr(config, "logit_scale", None):
        logits = logits * scale
    if scale := getattr(config, "logits_scaling", None):
        logits = logits / scale
    if cap := getattr(config, "final_logit_softcapping", None):
        logits = torch.tanh(logits / cap) * cap
    return logits


def differ_by_rounding(logits: Tensor, own: Tensor) -> bool:
    """Whether logits are the model's own, up to the rounding of their number format."""
    return bool((logits - own).abs().max() <= 16 * torch.finfo(own.dtype).eps * own.abs().max())


def _cut(rows: Sequence[Row], budget: int) -> list[list[Row]]:
    return [[rows[at] for at in batch] for batch in batches(range(len(rows)), [len(row) for row in rows], budget)]


def _picked(hidden: Tensor, spans: Sequence[tuple[int, int]]) -> Tensor:
    """From hidden states `(rows, length, width)` those at `count` positions from `start` on, row after row."""
    length = hidden.shape[1]
    flat = [at * length + start + step for at, (start, count) in enumerate(spans) for step in range(count)]
    return hidden.flatten(0, 1)[torch.tensor(flat, device=hidden.device)]


def _nll(logits: Tensor, targets: Sequence[int]) -> Tensor:
    """Negative log-likelihoods, float32 `(positions,)`, of the targets under logits `(positions, vocabulary)`."""
    return cross_entropy(logits.float(), torch.tensor(targets, device=logits.device), reduction="none")
