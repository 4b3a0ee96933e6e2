"""Training rows to ids, to optimizer steps, to tensors.

`encode` cuts rows to length in their documents, marks their answers and gives each its weight in the objective; `steps_of` and
`micro_batches` plan which rows a step holds and which process takes which; `Batches` lays them side by side.

A step's rows are decided by their number, the batch size and the seed alone. Micro-batches, processes and packing only
divide them, so none of the three changes what is learnt.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from buckler.data import LOSS_WEIGHT, Chat, Json
from buckler.data.truncation import cut_to_fit
from buckler.errors import BackendError, ConfigError, DataError
from buckler.finetuning.settings import Objective, token_weights
from buckler.models.template_text import DATE
from buckler.models.thought_forms import split_thought, without_thoughts

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from buckler.models.chat_template import EncodedRow, Template


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainRow:
    """A row ready for the model."""

    ids: list[int]
    supervised: list[bool]
    """Of the same length: which of `ids` are to be learnt; never the first, since nothing stands before it to predict it from."""
    weight: float
    """Of each supervised token in the objective (`buckler.finetuning.settings.token_weights`)."""


def encode(
    template: Template, rows: Sequence[Chat], objective: Objective, limit: int, *, drop_reasoning: bool = False
) -> tuple[list[TrainRow], dict[str, Json]]:
    """Rows as sequences of ids with their weights, and an account of what is learnt, cut and dropped.

    A row has several sequences where the template changes earlier turns (`buckler.models.chat_template`); they share the row's
    weight. Weights are computed after rows were dropped, so that the averages stay exact.

    Args:
        template: The model's.
        rows: Each ends with an answer.
        objective: The average and the weights.
        limit: Most tokens of a sequence; a longer row has its document cut, or is dropped.
        drop_reasoning: Leave the thoughts of the rows out.

    Raises:
        DataError: the template refuses a row, a row has nothing to learn, or none is left.
        ConfigError: the objective does not fit the rows.
    """
    if bare := [chat for chat in rows if chat.answer is None]:
        raise DataError(f"{len(bare)} of {len(rows)} rows have no final answer to train on; the first: {_named(bare[0])}")
    kept: list[Chat] = []
    seen: list[EncodedRow] = []
    cut: list[Json] = []
    dropped: list[Json] = []
    unanswered: list[Json] = []
    for chat in rows:
        shorter = cut_to_fit(chat, lambda row: _encoded(template, row, drop_reasoning).length, limit)
        if shorter is None:
            dropped.append(chat.id)
            continue
        if shorter is not chat:
            cut.append(chat.id)
        encoded = _encoded(template, shorter, drop_reasoning)
        if not encoded.supervised_tokens and encoded.only_thoughts:
            unanswered.append(chat.id)
            continue
        if not encoded.supervised_tokens:
            raise DataError(f"{_named(chat)}: the chat template of {template.name} does not show where its answer begins")
        kept.append(shorter)
        seen.append(encoded)
    if not kept and unanswered:
        hint = "give them an answer, or remove the rows"
        raise DataError(
            f"{len(unanswered)} of {len(rows)} rows hold a thought and no answer, so nothing is left to learn; {hint}"
        )
    if not kept:
        raise DataError(f"none of the {len(rows)} rows fits in {limit} tokens; raise max_length or shorten the rows")
    marked = [list(_marks(row, objective.train_on_prompt)) for row in seen]
    weights = token_weights(kept, [sum(map(sum, marks)) for marks in marked], objective)
    # Each step is a mean over sequences; the weights are for a mean over rows.
    scale = sum(map(len, marked)) / len(kept)
    sequences = [
        TrainRow(ids=one.ids, supervised=marks, weight=weight * scale)
        for row, its_marks, weight in zip(seen, marked, weights, strict=True)
        for one, marks in zip(row.sequences, its_marks, strict=True)
    ]
    return sequences, {
        **_account(template, kept, seen, drop_reasoning),
        "cut": cut,
        "dropped": dropped,
        **({"dropped_without_answer": unanswered} if unanswered else {}),
        "sequences": len(sequences),
        "supervised_tokens": sum(sum(one.supervised) for one in sequences),
    }


def _encoded(template: Template, chat: Chat, drop_reasoning: bool) -> EncodedRow:
    """
    Raises:
        DataError: the template refuses the row.
    """
    try:
        return template.row(without_thoughts(chat.messages) if drop_reasoning else chat.messages)
    except BackendError as fault:
        raise DataError(f"{_named(chat)}: {fault}; change the row or remove it") from None


def _marks(row: EncodedRow, train_on_prompt: bool) -> Iterator[list[bool]]:
    """What is learnt of each sequence: its answers, or all of it but what an earlier sequence has already."""
    earlier: list[int] = []
    for one in row.sequences:
        shared = next((at for at, (here, there) in enumerate(zip(one.ids, earlier, strict=False)) if here != there), len(earlier))
        all_new = [at >= max(shared, 1) for at in range(len(one.ids))]
        yield all_new if train_on_prompt else [False, *one.supervised[1:]]
        earlier = one.ids


def _account(template: Template, rows: Sequence[Chat], seen: Sequence[EncodedRow], drop_reasoning: bool) -> dict[str, Json]:
    """How many rows, answers, ends of turn and thoughts there are, and how many of them are learnt."""
    turns = [turn for chat in rows for turn in chat.messages if turn["role"] == "assistant"]
    thoughts = sum(bool(split_thought(turn).get("reasoning_content")) for turn in turns)
    learnt = sum(row.thoughts_learnt for row in seen)
    if template.written.thought is None:  # those within a text are a part of it
        learnt += thoughts - sum(bool(turn.get("reasoning_content")) for turn in turns)
    return {
        "rows": len(rows),
        "answers": sum(row.turns for row in seen),
        "answers_learnt": sum(row.learnt for row in seen),
        "ends_added": sum(row.added_ends > 0 for row in seen),
        "ends_not_learnt": sum(row.without_end > 0 for row in seen),
        **({"only_thoughts": only} if (only := sum(row.only_thoughts for row in seen)) else {}),
        **({"thoughts": thoughts, "thoughts_learnt": 0 if drop_reasoning else learnt} if thoughts else {}),
        **({"loss_weights": weighted} if (weighted := sum(LOSS_WEIGHT in chat.meta for chat in rows)) else {}),
        **({"chat_template_kwargs": template.written.settings} if template.written.settings else {}),
        **({"chat_template_date": DATE.isoformat()} if template.written.is_dated else {}),
    }


def _named(chat: Chat) -> str:
    return f"{chat.meta.get('source', 'row')} {chat.id}"


def as_seen(row: TrainRow, tokenizer: PreTrainedTokenizerBase) -> str:
    """The row as the model sees it, what is learnt of it between >>> and <<<: a wrong template is seen at once."""
    parts: list[str] = []
    at = 0
    while at < len(row.ids):
        end = next((to for to in range(at, len(row.ids)) if row.supervised[to] != row.supervised[at]), len(row.ids))
        text = tokenizer.decode(row.ids[at:end])
        parts.append(f">>>{text}<<<" if row.supervised[at] else text)
        at = end
    return "".join(parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class MicroBatch:
    """Rows that go through the model together."""

    rows: Sequence[int]
    """Their places in the set."""
    of_step: int
    """How many rows the whole optimizer step has, over all its micro-batches and processes."""
    counts: bool = True
    """False where there was no row left for this micro-batch: processes must stay in step, so it repeats a row at weight 0."""


def steps_of(rows: int, *, batch_size: int, epochs: float, seed: int) -> list[list[int]]:
    """The rows of each optimizer step: every epoch a new permutation, its last step with what is left."""
    wanted = math.ceil(epochs * math.ceil(rows / batch_size))
    steps: list[list[int]] = []
    for epoch in range(math.ceil(epochs)):
        order = torch.randperm(rows, generator=torch.Generator().manual_seed(seed + epoch)).tolist()
        steps += [order[at : at + batch_size] for at in range(0, rows, batch_size)]
    return steps[:wanted]


def micro_batches(steps: Sequence[Sequence[int]], *, accumulation: int, processes: int, process: int) -> list[MicroBatch]:
    """What one process does: `accumulation` micro-batches a step, their sizes over all processes differing by one at most."""
    parts = accumulation * processes
    plan = []
    for step in steps:
        for part in range(process * accumulation, (process + 1) * accumulation):
            of_process = step[len(step) * part // parts : len(step) * (part + 1) // parts]
            plan.append(MicroBatch(rows=of_process or step[:1], of_step=len(step), counts=bool(of_process)))
    return plan


class Batches:
    """A process's micro-batches as tensors, in the order they are trained on; a map-style data set of torch.

    Each has `input_ids`, int64 `(rows, longest)`; `token_weights`, float32 of the same shape, 0 on pads and on what is not
    learnt (there are no labels of -100); `attention_mask` or, packed, `position_ids`, int64 of the same shape; and `of_step`,
    a float32 scalar.
    """

    def __init__(self, rows: Sequence[TrainRow], plan: Sequence[MicroBatch], *, pad: int, pack_to: int | None) -> None:
        """`pack_to`: how many tokens a packed sequence may hold; None gives each row a sequence of its own."""
        self.rows, self.plan, self.pad, self.pack_to = rows, plan, pad, pack_to

    def __len__(self) -> int:
        return len(self.plan)

    def __getitem__(self, at: int) -> dict[str, Tensor]:
        micro = self.plan[at]
        rows = [self.rows[number] for number in micro.rows]
        if self.pack_to is None:
            batch = side_by_side(rows, self.pad)
        else:
            groups = first_fit([len(row.ids) for row in rows], self.pack_to)
            batch = packed([[rows[number] for number in group] for group in groups], self.pad)
        batch["token_weights"] *= micro.counts
        return {**batch, "of_step": torch.tensor(float(micro.of_step))}


def side_by_side(rows: Sequence[TrainRow], pad: int) -> dict[str, Tensor]:
    """A sequence a row, right-padded: `input_ids`, `attention_mask` (0 on pads), `token_weights`, each `(rows, longest)`."""
    batch = _empty(len(rows), max(len(row.ids) for row in rows), pad)
    mask = torch.zeros_like(batch["input_ids"])
    for at, row in enumerate(rows):
        _put(batch, at, 0, row)
        mask[at, : len(row.ids)] = 1
    return {**batch, "attention_mask": mask}


def packed(groups: Sequence[Sequence[TrainRow]], pad: int) -> dict[str, Tensor]:
    """Several rows a sequence: `input_ids`, `position_ids` and `token_weights`, each `(groups, longest)`.

    Positions begin anew with every row, which is how transformers knows them apart where it is given no attention mask and
    no cache. What pads the end is one more row, of weight 0.
    """
    longest = max(sum(len(row.ids) for row in group) for group in groups)
    batch = _empty(len(groups), longest, pad)
    positions = torch.zeros_like(batch["input_ids"])
    for at, group in enumerate(groups):
        start = 0
        for row in group:
            _put(batch, at, start, row)
            positions[at, start : start + len(row.ids)] = torch.arange(len(row.ids))
            start += len(row.ids)
        positions[at, start:] = torch.arange(longest - start)
    return {**batch, "position_ids": positions}


def first_fit(lengths: Sequence[int], room: int) -> list[list[int]]:
    """Lengths into groups of at most `room`, the longest first, each into the first group that has place for it."""
    groups: list[list[int]] = []
    free: list[int] = []
    for number in sorted(range(len(lengths)), key=lambda at: (-lengths[at], at)):
        at = next((at for at, left in enumerate(free) if left >= lengths[number]), len(groups))
        if at == len(groups):
            groups.append([])
            free.append(room)
        groups[at].append(number)
        free[at] -= lengths[number]
    return groups


@torch.no_grad()
def require_separate_rows(model: PreTrainedModel, rows: Sequence[TrainRow], name: str) -> None:
    """Try whether `model` reads packed rows as it reads them alone.

    Where a model has no positions, or its attention does not look at them, packed rows see each other, and nothing says so.

    Raises:
        ConfigError: they do.
    """
    first, second = (
        TrainRow(ids=row.ids[:16], supervised=[False] * len(row.ids[:16]), weight=0.0) for row in (rows[0], rows[-1])
    )
    batch = packed([[first, second], [second, first]], pad=0)
    batch = {key: batch[key].to(model.device) for key in ("input_ids", "position_ids")}
    refusal = f"{name}: packed rows would see each other in this model; leave `packing` off"
    try:
        together = model(**batch, use_cache=False).logits[:1, -len(second.ids) :]
    except (TypeError, ValueError):
        raise ConfigError(refusal) from None
    alone = model(input_ids=batch["input_ids"][:1, -len(second.ids) :], use_cache=False).logits
    # Rounding differs by shape; what leaks in from another row is of the size of the logits themselves.
    allowed = math.sqrt(torch.finfo(alone.dtype).eps) * float(alone.max() - alone.min())
    if float((together - alone).abs().max()) > allowed:
        raise ConfigError(refusal)


def _empty(sequences: int, length: int, pad: int) -> dict[str, Tensor]:
    return {"input_ids": torch.full((sequences, length), pad), "token_weights": torch.zeros((sequences, length))}


def _put(batch: dict[str, Tensor], at: int, start: int, row: TrainRow) -> None:
    end = start + len(row.ids)
    batch["input_ids"][at, start:end] = torch.tensor(row.ids)
    batch["token_weights"][at, start:end] = torch.tensor(row.supervised, dtype=torch.float32) * row.weight
