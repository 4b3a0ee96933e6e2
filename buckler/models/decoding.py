"""Decoding over a transformers model and its cache, where answers that hold the same tokens so far share one row.

The rows of a batch are the leaves of a trie. All requests with one prompt begin in one row, which is its prefill; a row splits
where their draws part, and leaves when its answers have ended. One prefill a prompt, room freed by short answers, and low
temperatures that mostly agree are then one thing: choosing which rows of the cache go on. `batches`, `left_padded` and
`right_padded` make batches of lists of token ids, for scoring too.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence, Set
from typing import TYPE_CHECKING

import torch
from transformers import DynamicCache, PreTrainedModel

from buckler.models.sampling import RowSampler

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
    cache = DynamicCache(config=model.config)
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
