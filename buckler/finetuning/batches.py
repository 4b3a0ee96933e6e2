"""Training rows to ids, and micro-batches of them to tensors.

`encode` cuts rows to length in their documents, marks their answers and gives each its weight in the objective; `tensors` lays
the rows of a micro-batch side by side. Which rows these are, `buckler.finetuning.plan` says.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from buckler.data import LOSS_WEIGHT, NOT_LEARNT, Chat, Json, masked_turns, to_learn
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
    marked_rows = Counter(str(chat.meta[NOT_LEARNT]) for chat in rows if chat.meta.get(NOT_LEARNT))
    if marked_rows.total() == len(rows) > 0:
        marks = "; ".join(f"{number}: {mark}" for mark, number in marked_rows.items())
        raise DataError(f"all {len(rows)} rows are marked as not to be learnt ({marks}); remove the marks or name other rows")
    rows = to_learn(rows)
    if objective.train_on_prompt and (partly := [chat for chat in rows if masked_turns(chat)]):
        raise ConfigError(
            f"{_named(partly[0])}: has turns that are not to be learnt, but train_on_prompt learns whole rows; switch it off"
        )
    if bare := [chat for chat in rows if chat.answer is None]:
        raise DataError(f"{len(bare)} of {len(rows)} rows have no final answer to train on; the first: {_named(bare[0])}")
    kept: list[Chat] = []
    seen: list[EncodedRow] = []
    cut: list[Json] = []
    dropped: list[Json] = []
    unanswered: list[Json] = []
    for chat in rows:
        encoded = _encoded(template, chat, drop_reasoning)
        if encoded.length > limit:
            shorter = cut_to_fit(chat, lambda row: _encoded(template, row, drop_reasoning).length, limit)
            if shorter is None:
                dropped.append(chat.id)
                continue
            cut.append(chat.id)
            chat, encoded = shorter, _encoded(template, shorter, drop_reasoning)
        if not encoded.supervised_tokens and encoded.only_thoughts:
            unanswered.append(chat.id)
            continue
        if not encoded.supervised_tokens:
            raise DataError(f"{_named(chat)}: the chat template of {template.name} does not show where its answer begins")
        kept.append(chat)
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
        **({"dropped_as_marked": dict(marked_rows)} if marked_rows else {}),
        "sequences": len(sequences),
        "supervised_tokens": sum(sum(one.supervised) for one in sequences),
    }


def _encoded(template: Template, chat: Chat, drop_reasoning: bool) -> EncodedRow:
    """
    Raises:
        DataError: the template refuses the row.
    """
    try:
        return template.row(without_thoughts(chat.messages) if drop_reasoning else chat.messages, masked_turns(chat))
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
    calls = sum(bool(turn.get("tool_calls")) for turn in turns)
    results = sum(turn["role"] == "tool" for chat in rows for turn in chat.messages)
    return {
        "rows": len(rows),
        "answers": sum(row.turns for row in seen),
        "answers_learnt": sum(row.learnt for row in seen),
        "ends_added": sum(row.added_ends > 0 for row in seen),
        "ends_not_learnt": sum(row.without_end > 0 for row in seen),
        **({"answers_rewritten": rewritten} if (rewritten := sum(row.rewritten for row in seen)) else {}),
        **({"answers_masked": masked} if (masked := sum(row.masked for row in seen)) else {}),
        **({"only_thoughts": only} if (only := sum(row.only_thoughts for row in seen)) else {}),
        **({"thoughts": thoughts, "thoughts_learnt": 0 if drop_reasoning else learnt} if thoughts else {}),
        **({"loss_weights": weighted} if (weighted := sum(LOSS_WEIGHT in chat.meta for chat in rows)) else {}),
        **({"tool_calls": calls, "tool_calls_learnt": sum(row.calls_learnt for row in seen)} if calls else {}),
        **({"tool_results": results} if results else {}),
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


def tensors(sequences: Sequence[Sequence[TrainRow]], pad: int, of_step: int) -> dict[str, Tensor]:
    """A micro-batch of sequences, each of one row or several.

    `input_ids`, int64 `(sequences, longest)`; `token_weights`, float32 of the same shape, 0 on pads and on what is not learnt;
    `position_ids` where a sequence holds several rows; `wanted`, int64: the places before supervised tokens, in the flattened
    `(sequences, longest - 1)`; `of_step`, a float32 scalar: the rows of the whole step.

    Positions begin anew with every row, which is how transformers knows them apart where it is given no attention mask and no
    cache. What pads the end is one more row, of weight 0; where each sequence is one row, no real token sees it.
    """
    longest = max(sum(len(row.ids) for row in rows) for rows in sequences)
    batch = {
        "input_ids": torch.full((len(sequences), longest), pad),
        "token_weights": torch.zeros((len(sequences), longest)),
        "of_step": torch.tensor(float(of_step)),
    }
    positions = torch.zeros_like(batch["input_ids"])
    for at, rows in enumerate(sequences):
        start = 0
        for row in rows:
            end = start + len(row.ids)
            batch["input_ids"][at, start:end] = torch.tensor(row.ids)
            batch["token_weights"][at, start:end] = torch.tensor(row.supervised, dtype=torch.float32) * row.weight
            positions[at, start:end] = torch.arange(len(row.ids))
            start = end
        positions[at, start:] = torch.arange(longest - start)
    batch["wanted"] = (batch["token_weights"][:, 1:] > 0).flatten().nonzero()[:, 0]
    return {**batch, "position_ids": positions} if any(len(rows) > 1 for rows in sequences) else batch


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
    batch = tensors([[first, second], [second, first]], pad=0, of_step=1)
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
