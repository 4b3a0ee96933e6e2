"""What another trainer needs to learn the same lesson: rows by answer, weights or repetitions, and its configuration."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import yaml

from buckler.data import LOSS_WEIGHT, Chat, Json, loss_weight, masked_turns
from buckler.errors import ConfigError
from buckler.finetuning.settings import Objective, TrainSettings, part_of, row_weights, task_of
from buckler.models.thought_forms import is_only_thought

MODEL = "MODEL"
"""Stands in a configuration where no model was named."""
MOST_REPEATED = 1000
"""Repetitions of a row beyond which a balance is refused: weights then say it better."""


def learnt_answers(row: Chat) -> list[int]:
    """The numbers of the turns that `buckler train` learns: answers to a question, not marked, that are more than a thought."""
    has_question, masked, found = False, masked_turns(row), []
    for number, turn in enumerate(row.messages):
        if turn["role"] == "assistant" and has_question and number not in masked and not is_only_thought(turn):
            found.append(number)
        has_question |= turn["role"] not in ("system", "assistant")
    return found


def by_answer(row: Chat) -> list[Chat]:
    """The row once for each learnt answer, up to and with it; the row's weight is divided by their number."""
    numbers = learnt_answers(row)
    share = loss_weight(row) / max(len(numbers), 1)
    return [Chat.of(row.messages[: number + 1], **{**row.meta, LOSS_WEIGHT: share}) for number in numbers]


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighted:
    """Rows with the weight of each in `loss_weight`, 1 on average, and how far they are from the exact loss without it."""

    rows: list[Chat]
    repeated: int
    """Rows that stand more than once."""
    cells: dict[str, dict[str, Json]]
    """By part and task: rows, repetitions, the exact share of the loss, and the share of the rows written."""
    before: float
    """Largest difference of a cell's share of the rows from its exact share of the loss, as they came."""
    after: float
    """The same as they are written."""


def weighted(rows: Sequence[Chat], objective: Objective, *, balance: bool) -> Weighted:
    """Rows for an objective's average over rows or tasks.

    With `w_i` the objective's weight of row i, a trainer that weighs every row alike minimises the exact loss where each row
    stands `w_i` times. With `balance` each stands `r_i = round(w_i / min w)` times, and `loss_weight` holds what is left,
    `w_i / r_i`; without, each stands once. The weighted mean over rows is the exact one in both cases.

    Raises:
        ConfigError: the objective does not fit the rows, or a row would have to be repeated too often.
    """
    weights = row_weights(rows, objective)
    if not sum(weights):
        raise ConfigError(f"{LOSS_WEIGHT} is zero for every row: there is nothing to train on; make one positive")
    least = min(weight for weight in weights if weight)
    times = [round(weight / least) if balance else 1 for weight in weights]
    if max(times) > MOST_REPEATED:
        raise ConfigError(
            f"balancing would repeat a row {max(times)} times; leave out `balance`, and train with {LOSS_WEIGHT} or fewer tasks"
        )
    scale = sum(times) / sum(weights)
    written = [
        row.tagged(**{LOSS_WEIGHT: scale * weight / number})
        for row, weight, number in zip(rows, weights, times, strict=True)
        for _ in range(number)
    ]
    names = [f"{part_of(row)}/{task_of(row)}".strip("/") or "all" for row in rows]
    exact, came, stands = (_shares(names, values) for values in (weights, [1.0] * len(rows), times))
    cells: dict[str, dict[str, Json]] = {
        name: {
            "rows": sum(one == name for one in names),
            "written": sum(number for one, number in zip(names, times, strict=True) if one == name),
            "exact_share": round(exact[name], 4),
            "written_share": round(stands[name], 4),
        }
        for name in sorted(exact)
    }
    return Weighted(
        rows=written,
        repeated=sum(number > 1 for number in times),
        cells=cells,
        before=max(abs(exact[name] - came[name]) for name in exact),
        after=max(abs(exact[name] - stands[name]) for name in exact),
    )


def _shares(names: Sequence[str], values: Sequence[float]) -> dict[str, float]:
    sums: Counter[str] = Counter()
    for name, value in zip(names, values, strict=True):
        sums[name] += value  # type: ignore[assignment]
    total = sum(values)
    return {name: value / total for name, value in sums.items()}


def configuration(layout: str, file: str, settings: TrainSettings, *, model: str, ids: bool, by_answer: bool, masks: bool) -> str:
    """The configuration of the trainer that reads a layout, as YAML with a first line that says how to start it; "" for none.

    Args:
        layout: Name of the layout.
        file: The file of rows, beside which the configuration lies.
        settings: What `buckler train` would use; its numbers are put under the trainer's own names.
        model: Name of the model, or `MODEL`.
        ids: Whether the rows are token ids and labels.
        by_answer: Whether each row is there for its last answer alone.
        masks: Whether answers are marked that are not to be learnt.
    """
    batches: dict[str, Json] = {
        "per_device_train_batch_size": settings.batch_size,
        "learning_rate": settings.learning_rate,
        "num_train_epochs": settings.epochs,
        "lr_scheduler_type": settings.schedule,
        "output_dir": "trained",
    }
    values: dict[str, Json]
    if layout == "trl":
        start = f"trl sft --config {layout}.yaml"
        data: Json = [{"path": "json", "data_files": file, "split": "train"}]
        loss: dict[str, Json] = {} if ids else {"completion_only_loss": True}
        values = {"model_name_or_path": model, "datasets": data, "max_length": settings.max_length, **loss, **batches}
    elif layout in ("llamafactory", "alpaca", "sharegpt"):
        start = f"llamafactory-cli train {layout}.yaml"
        values = {
            **{"model_name_or_path": model, "stage": "sft", "do_train": True, "finetuning_type": settings.method},
            **{"dataset_dir": ".", "dataset": layout, "cutoff_len": settings.max_length},
            **({"mask_history": True} if by_answer else {}),
            **batches,
        }
    elif layout == "axolotl":
        start = f"axolotl train {layout}.yaml"
        plain: dict[str, Json] = {"path": file, "ds_type": "json"}
        chat: dict[str, Json] = {"type": "chat_template", "roles_to_train": ["assistant"], "train_on_eos": "turn"}
        marked: dict[str, Json] = {"message_field_training": "train"} if masks else {}
        values = {
            "base_model": model,
            "datasets": [{**plain, "type": None} if ids else {**plain, **chat, **marked}],
            **({} if ids else {"chat_template": "tokenizer_default"}),
            **{"sequence_len": settings.max_length, "micro_batch_size": settings.batch_size, "gradient_accumulation_steps": 1},
            **{"learning_rate": settings.learning_rate, "num_epochs": settings.epochs, "lr_scheduler": settings.schedule},
            **{"optimizer": "adamw_torch", "output_dir": "trained"},
        }
    else:
        return ""
    named = "" if model != MODEL else f"Put the name of the model in place of {MODEL}. "
    return f"# {named}In this folder: {start}\n" + yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
