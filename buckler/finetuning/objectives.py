"""What a training phase minimises: masked negative log-likelihood, averaged per token, per row or per task."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from buckler.data import Chat
from buckler.errors import ConfigError
from buckler.settings import Settings


class Objective(Settings):
    """How the losses of a set's rows become one number.

    With `l_i` the summed negative log-likelihood of row i's supervised tokens, `n_i` their number, `g(i)` its part and
    `a(i)` its task:

    * token: `sum_i w_i l_i / sum_i w_i n_i`, the mean over tokens;
    * row:   `sum_i w_i (l_i / n_i) / sum_i w_i`, arXiv 2405.15202's single-task loss when the set is one task's refusals;
    * task:  the same with `w_i` divided by the number of rows of the task in the part, so that within a part each task
      counts the same: `L_mix = (1/|A|) sum_a L_a` when the set is defence rows alone. A part keeps the share that its
      rows have of the set (the authors' one shuffled set) times its weight.

    `w_i` is `part_weights[g(i)]`, 1 where none is given. `token_weights` says how a step of a few rows estimates it.
    """

    average: Literal["token", "row", "task"] = "row"
    """Averaging of the loss: over tokens, rows (single-task) or tasks (mixed-task)."""
    part_weights: dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]] = Field(default_factory=dict)
    """Weight by `meta["part"]`: defence, utility, safety, customer."""
    train_on_prompt: bool = False
    """Also fit the prompt, malicious documents included: the authors' released setting, for reproduction only."""


def part_of(chat: Chat) -> str:
    """The part of the set the row belongs to, "" if it names none."""
    return str(chat.meta.get("part", ""))


def task_of(chat: Chat) -> str:
    """The task the row is of, "" if it names none."""
    return str(chat.meta.get("task") or "")


def token_weights(rows: Sequence[Chat], tokens: Sequence[int], objective: Objective) -> list[float]:
    """The weight `c_i` of each supervised token of row i, such that the objective is `(1/N) sum_i c_i l_i`.

    Every average is linear in the rows' losses once its denominator is taken over the *whole set* of N rows:

    * token:     `c_i = w_i N / sum_j w_j n_j`
    * row, task: `c_i = w_i N / (n_i sum_j w_j)`, with the task's `w_i`

    An optimizer step that holds the rows S minimises `(1/|S|) sum_{i in S} c_i l_i`. Where S is drawn from the set without
    regard to what the rows are, its mean is the objective, whether or not a task or a part is absent from S; were
    the denominators those of the step, a task that is rare would count too little. Where S is the whole set, it is the
    objective itself. A sum does not care how it is split: micro-batches, packed sequences and processes add up to it.

    Args:
        rows: the rows that are trained on, none left out.
        tokens: supervised tokens of each (`n_i`), at least 1.
        objective: the average and the weights of parts.

    Raises:
        ConfigError: a weight is for a part that no row has, all weights are zero, or tasks are to be averaged and no row
            names one.
    """
    weights = _row_weights(rows, objective)
    per_token = objective.average == "token"
    total = sum(weight * (count if per_token else 1) for weight, count in zip(weights, tokens, strict=True))
    if rows and not total:
        raise ConfigError("part_weights are zero for every row: nothing would be learnt")
    scale = len(rows) / total if rows else 0.0
    return [weight * scale / (1 if per_token else count) for weight, count in zip(weights, tokens, strict=True)]


def _row_weights(rows: Sequence[Chat], objective: Objective) -> list[float]:
    """`w_i`, in which the task average is already written down."""
    parts = Counter(part_of(chat) for chat in rows)
    for name in objective.part_weights:
        if name not in parts:
            raise ConfigError(f"part_weights names {name!r}, but no row is of it; the parts are {sorted(parts)}")
    weights = [objective.part_weights.get(part_of(chat), 1.0) for chat in rows]
    if objective.average != "task":
        return weights
    if rows and not any(task_of(chat) for chat in rows):
        raise ConfigError('average is "task", but no row names its task in meta["task"]; use "row"')
    cells = Counter((part_of(chat), task_of(chat)) for chat in rows)
    tasks = Counter(part for part, _ in cells)
    return [
        weight * parts[part_of(chat)] / (tasks[part_of(chat)] * cells[part_of(chat), task_of(chat)])
        for weight, chat in zip(weights, rows, strict=True)
    ]
