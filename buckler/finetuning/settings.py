"""How a model is fine-tuned: the objective, the settings of one training phase, and stages as lists of phases.

The objective is masked negative log-likelihood, averaged per token, per row or per task.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Literal, TypeAlias

from pydantic import Field, ValidationInfo, field_serializer, field_validator

from buckler.data import Chat, loss_weight
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

    `w_i` is `part_weights[g(i)]` times the row's own `loss_weight`, each 1 where none is given. `token_weights` says how a step
    of a few rows estimates it.
    """

    loss_averaging: Literal["token", "row", "task"] = "row"
    """Loss averaging: over tokens, rows (single-task) or tasks (mixed-task)."""
    part_weights: dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]] = Field(default_factory=dict)
    """Loss weights by part of the data (`meta["part"]`): defence, utility, safety, customer."""
    train_on_prompt: bool = False
    """Compute the loss on the prompt too, malicious documents included, as in the authors' released code; for reproduction
    only."""


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
    weights = row_weights(rows, objective)
    per_token = objective.loss_averaging == "token"
    total = sum(weight * (count if per_token else 1) for weight, count in zip(weights, tokens, strict=True))
    if rows and not total:
        raise ConfigError("part_weights or loss_weight are zero for every row: there is nothing to train on; make one positive")
    scale = len(rows) / total if rows else 0.0
    return [weight * scale / (1 if per_token else count) for weight, count in zip(weights, tokens, strict=True)]


def row_weights(rows: Sequence[Chat], objective: Objective) -> list[float]:
    """`w_i`, in which the task average is already written down.

    Raises:
        ConfigError: a weight is for a part that no row has, or tasks are to be averaged and no row names one.
        DataError: a row's `loss_weight` is no weight.
    """
    parts = Counter(part_of(chat) for chat in rows)
    for name in objective.part_weights:
        if name not in parts:
            raise ConfigError(f"part_weights names {name!r}, but no row has that part; the parts are {sorted(parts)}")
    weights = [objective.part_weights.get(part_of(chat), 1.0) * loss_weight(chat) for chat in rows]
    if objective.loss_averaging != "task":
        return weights
    if rows and not any(task_of(chat) for chat in rows):
        raise ConfigError('loss_averaging is "task", but no row names its task in meta["task"]; use "row"')
    cells = Counter((part_of(chat), task_of(chat)) for chat in rows)
    tasks = Counter(part for part, _ in cells)
    return [
        weight * parts[part_of(chat)] / (tasks[part_of(chat)] * cells[part_of(chat), task_of(chat)])
        for weight, chat in zip(weights, rows, strict=True)
    ]


Part: TypeAlias = Literal["defence", "customer"]
Stage: TypeAlias = Literal["none", "pre", "in", "post", "all"]

STAGES: dict[Stage, tuple[tuple[Part, ...], ...]] = {
    "none": (("customer",),),
    "pre": (("defence",), ("customer",)),
    "in": (("customer", "defence"),),
    "post": (("customer",), ("defence",)),
    "all": (("defence",), ("customer", "defence"), ("defence",)),
}
"""The phases of each stage at which a defence acts, each a list of row sets (arXiv 2410.02220): `defence` is its `D~`, the
defence's rows, `customer` its `C`, the customer's rows with whatever an adversary slipped in."""


LEARNING_RATES: dict[str, float] = {"full": 2e-5, "lora": 2e-4}
"""The peak learning rate of each method where none is given: adapters start from nothing and take ten times as much."""


ALL_LINEAR = "all-linear"


class LoRA(Settings):
    """Low-rank adapters. Rank, scale and dropout are those of arXiv 2405.15202, which adapts q_proj and v_proj alone."""

    r: int = Field(default=8, ge=1)
    """Rank of the adapters."""
    alpha: int = Field(default=16, ge=1)
    """Scale of the adapters: what they add is multiplied by alpha / rank."""
    dropout: float = Field(default=0.05, ge=0, lt=1)
    """Dropout before the adapters."""
    targets: tuple[str, ...] = Field(default=(ALL_LINEAR,), min_length=1)
    """Layers that get adapters, by the end of their name, such as q_proj and v_proj: a name or a list of them; `all-linear` is
    every linear layer but the output."""

    @property
    def named(self) -> tuple[str, ...]:
        """The layers that are named; none stands for all linear ones."""
        return () if self.targets == (ALL_LINEAR,) else self.targets

    @field_validator("targets", mode="before")
    @classmethod
    def _one_or_several(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @field_validator("targets")
    @classmethod
    def _all_or_names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        names = tuple(dict.fromkeys(name.strip() for name in value))
        if ALL_LINEAR in names and len(names) > 1:
            raise ValueError(f"{ALL_LINEAR} stands alone; remove it or the other names")
        for name in names:
            if not re.fullmatch(r"[\w-]+(\.[\w-]+)*", name):
                raise ValueError(f"{name!r} is no name of a layer; give names such as q_proj, each as an entry of the list")
        return names


UNUSED_LORA = LoRA(targets=("q_proj", "v_proj"))
"""What records and hashes of a full fine-tuning hold, in which LoRA settings have no part: the defaults of version 0.1.0."""


class TrainSettings(Settings):
    """How a phase is trained.

    `accumulation`, `micro_batch_tokens`, `gradient_checkpointing`, `processes` and `packing` divide an optimizer step's work and
    nothing else: its rows, its loss and its gradient stay the same but for rounding (and for which values a dropout leaves out).
    """

    unwritten_if_empty = ("drop_reasoning", "micro_batch_tokens")
    unwritten_if_default = ("gradient_checkpointing",)
    method: Literal["full", "lora"] = "full"
    """Training method: `full` updates all weights, `lora` trains low-rank adapters."""
    lora: LoRA = LoRA()
    """Adapter settings for method `lora`."""
    epochs: float = Field(default=3, gt=0)
    """Number of passes over the rows."""
    learning_rate: float = Field(default=None, gt=0, validate_default=True)
    """Peak learning rate (default: 2e-4 for `lora`, 2e-5 for `full`)."""
    batch_size: int = Field(default=16, ge=1)
    """Rows per optimizer step, over all micro-batches and processes."""
    accumulation: int = Field(default=1, ge=1)
    """Minimum number of micro-batches per optimizer step and process (gradient accumulation). There are more where a step does
    not fit in one, or where rows of similar lengths together need less padding."""
    micro_batch_tokens: int | None = Field(default=None, ge=1)
    """Maximum number of tokens in a micro-batch, padding included; a longer row is one alone (default: what fits the free memory
    of a GPU; 4096 on a CPU)."""
    gradient_checkpointing: Literal["auto", "on", "off"] = "auto"
    """Compute activations again in the backward pass instead of keeping them: a fraction of the memory for a third more work.
    `auto`: for models from 1 billion parameters."""
    processes: int = Field(default=1, ge=1, validate_default=True)
    """Number of processes on this machine that share each step, each with the whole model on a GPU of its own (or on the
    CPU)."""
    packing: bool = False
    """Pack several rows into one sequence of up to `max_length` tokens instead of giving each a sequence of its own. Rows of
    similar lengths share a micro-batch anyway, so that this gains little."""
    warmup_steps: int = Field(default=0, ge=0)
    """Number of warm-up steps, in which the learning rate rises to its peak."""
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    """Learning-rate schedule after warm-up."""
    max_length: int = Field(default=1024, ge=8)
    """Maximum length of a row, in tokens, limited by the model's context length; a longer row has its document truncated, or is
    dropped if it has none."""
    drop_reasoning: bool = False
    """Leave the reasoning of the rows (`reasoning_content`, or a `<think>` part before the answer) out instead of training it."""
    objective: Objective = Objective()
    checkpoint_every: int = Field(default=200, ge=0)
    """Optimizer steps between checkpoints for resuming; 0 saves none."""

    @field_serializer("lora")
    def _of_the_method(self, lora: LoRA) -> dict[str, object]:
        return (lora if self.method == "lora" else UNUSED_LORA).model_dump(mode="json")

    @field_validator("learning_rate", mode="before")
    @classmethod
    def _by_method(cls, value: object, info: ValidationInfo) -> object:
        return LEARNING_RATES.get(info.data.get("method", "full")) if value is None else value

    @field_validator("processes")
    @classmethod
    def _each_has_a_row(cls, processes: int, info: ValidationInfo) -> int:
        accumulation, batch_size = info.data.get("accumulation", 1), info.data.get("batch_size", processes)
        if processes * accumulation > batch_size:
            raise ValueError(
                f"batch_size is {batch_size}, but {processes} process(es) with {accumulation} micro-batch(es) each need at least "
                f"{processes * accumulation} rows"
            )
        return processes
