"""Training rows to ids: cut to length in their documents, their answers marked, each with its weight in the objective."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from buckler.cutting import cut_to_fit
from buckler.data import Chat, Json
from buckler.errors import DataError
from buckler.training.objectives import Objective, token_weights

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from buckler.lm.template import Template


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainRow:
    """A row ready for the model."""

    ids: list[int]
    supervised: list[bool]
    """Which of `ids` are to be learnt; never the first, since nothing stands before it to predict it from."""
    weight: float
    """Of each supervised token in the objective (`buckler.training.objectives.token_weights`)."""


def encode(template: Template, rows: Sequence[Chat], objective: Objective, limit: int) -> tuple[list[TrainRow], dict[str, Json]]:
    """Rows as ids with their weights, and what became of rows longer than `limit` tokens: cut, or dropped.

    Weights are computed after rows were dropped, so that the averages stay exact.

    Raises:
        DataError: a row has nothing to learn, or none is left.
        ConfigError: the objective does not fit the rows.
    """
    kept: list[Chat] = []
    cut: list[Json] = []
    dropped: list[Json] = []
    if bare := [chat for chat in rows if chat.answer is None]:
        first = f"{bare[0].meta.get('source', 'row')} {bare[0].id}"
        raise DataError(
            f"{len(bare)} of {len(rows)} rows end without an answer, so there is nothing to learn from them; the first: {first}"
        )
    for chat in rows:
        shorter = cut_to_fit(chat, lambda row: len(template.row(row.messages).ids), limit)
        if shorter is None:
            dropped.append(chat.id)
            continue
        if shorter is not chat:
            cut.append(chat.id)
        kept.append(shorter)
    if not kept:
        raise DataError(f"none of the {len(rows)} rows fits in {limit} tokens; raise max_length or shorten the rows")
    seen = [template.row(chat.messages) for chat in kept]
    supervised = [[False] + ([True] * (len(row.ids) - 1) if objective.train_on_prompt else row.supervised[1:]) for row in seen]
    tokens = [sum(marks) for marks in supervised]
    if 0 in tokens:
        raise DataError(f"row {kept[tokens.index(0)].id}: has no token to learn")
    weights = token_weights(kept, tokens, objective)
    return [
        TrainRow(ids=row.ids, supervised=marks, weight=weight)
        for row, marks, weight in zip(seen, supervised, weights, strict=True)
    ], {"rows": len(kept), "cut": cut, "dropped": dropped, "supervised_tokens": sum(tokens)}


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
