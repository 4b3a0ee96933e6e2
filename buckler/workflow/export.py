"""The step that writes rows in a layout of another trainer, with an account of what was split, repeated, left out and lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from pydantic import Field

from buckler.data import (
    LOSS_WEIGHT,
    MASKED_TURNS,
    NOT_LEARNT,
    ROWS,
    Chat,
    Json,
    loss_weight,
    to_learn,
    write_json,
    write_jsonl,
    write_rows,
)
from buckler.errors import DataError
from buckler.finetuning.other_trainers import by_answer, learnt_answers, weighted
from buckler.finetuning.settings import Objective
from buckler.formats import WRITERS, write_chats
from buckler.formats.write import BY_ANSWER, HELD, lost_in, suffix_of, unwritable
from buckler.models.protocol import ModelSpec
from buckler.settings import Settings
from buckler.workflow.inputs import ModelRef, all_chats, code_of, model_spec
from buckler.workflow.step import Run, Step, numbered, step

ACCOUNT = "export.json"
WITH_IDS = ("trl", "axolotl")
"""Layouts that may hold token ids and labels in place of messages."""


class ExportStep(Settings):
    """Rows in a layout."""

    to: str
    loss_averaging: Literal["token", "row", "task"]
    balance: Literal["none", "task"]
    max_length: int | None = Field(ge=8)
    """For token ids."""


@dataclass(slots=True, kw_only=True)
class Prepared:
    """Rows as a layout takes them."""

    rows: list[Chat]
    account: dict[str, Json] = field(default_factory=dict)


def file_name(to: str) -> str:
    """The file of rows in a layout."""
    return f"{to.rpartition(':')[2]}{suffix_of(to)}"


@step("export")
def export(run: Run[ExportStep]) -> None:
    """Rows -> the file of a layout, an account of what became of them, and the rows as they are here."""
    settings, rows = run.settings, all_chats(run, "rows")
    prepared = _prepared(rows, settings, ids=run.has("model"))
    file = run.out / file_name(settings.to)
    if run.has("model"):
        written = _token_rows(prepared, settings, model_spec(run, "model"))
        write_jsonl(file, written)
        prepared.account["rows_written"] = len(written)
    else:
        write_chats(file, prepared.rows, settings.to)
        prepared.account["rows_written"] = len(prepared.rows)
    write_json(run.out / ACCOUNT, prepared.account)
    write_rows(run.out / ROWS, rows)


def export_step(settings: ExportStep, rows: Sequence[Step], model: ModelRef | None) -> Step:
    """The rows of steps in a layout; with a model, as the token ids of its chat template."""
    return export.plan(
        settings,
        title=f"rows for {settings.to}",
        inputs={**numbered("rows", rows), **({} if model is None else model.inputs())},
        outside={**({} if model is None else model.places()), **code_of(WRITERS.code(settings.to))},
    )


def _prepared(rows: Sequence[Chat], settings: ExportStep, *, ids: bool) -> Prepared:
    """The rows that the layout holds, weighted or repeated, one for each learnt answer where it takes them so.

    Raises:
        DataError: no row is left.
        ConfigError: the average does not fit the rows.
    """
    to, left_out = settings.to, dict[str, list[str]]()
    to_learn(rows)  # refuses a mark that its user has to explain
    held: list[Chat] = []
    for row in rows:
        answers = learnt_answers(row)
        masked = [at for at, turn in enumerate(row.messages) if turn["role"] == "assistant" and at not in answers]
        row = row.tagged(**{MASKED_TURNS: list[Json](masked)}) if masked and not ids and to in HELD and to != "chat" else row
        marked = row.meta.get(NOT_LEARNT)
        reason = f"marked as not to be learnt ({marked})" if marked else None if answers else "no answer to learn"
        reason = reason or (None if loss_weight(row) else f"{LOSS_WEIGHT} is 0")
        reason = reason or (None if ids else unwritable(row, to))
        if reason is None:
            held.append(row)
        else:
            left_out.setdefault(reason.partition(",")[0], []).append(row.id)
    if not held:
        reasons = "; ".join(f"{len(names)}: {reason}" for reason, names in left_out.items())
        raise DataError(f"none of the {len(rows)} rows can be written as {to} ({reasons})")
    spread = weighted(held, Objective(loss_averaging=settings.loss_averaging), balance=settings.balance == "task")
    split = not ids and to in BY_ANSWER and (to == "trl" or any(MASKED_TURNS in row.meta for row in held))
    written = [one for row in spread.rows for one in by_answer(row)] if split else spread.rows
    scale = len(written) / sum(map(loss_weight, written))
    written = [row.tagged(**{LOSS_WEIGHT: round(scale * loss_weight(row), 12)}) for row in written]
    turns = [turn for row in held for turn in row.messages if turn["role"] == "assistant"]
    return Prepared(
        rows=written,
        account={
            "layout": to,
            "rows_read": len(rows),
            "rows_written": len(written),
            "rows_with_several_answers": sum(len(learnt_answers(row)) > 1 for row in held),
            "one_row_per_answer": split,
            "answers": len(turns),
            "answers_learnt": sum(len(learnt_answers(row)) for row in held),
            "left_out": {reason: list[Json](names) for reason, names in left_out.items()},
            "lost": dict(lost_in(written, to)) if not ids else {},
            "average": settings.loss_averaging,
            "balance": settings.balance,
            "rows_repeated": spread.repeated,
            "shares": spread.cells,
            "largest_difference": {"as_read": round(spread.before, 6), "as_written": round(spread.after, 6)},
        },
    )


def _token_rows(prepared: Prepared, settings: ExportStep, spec: ModelSpec) -> list[dict[str, Json]]:
    """Rows as `buckler train` sees them: token ids, with -100 in `labels` where nothing is learnt.

    `loss_weight` is such that the mean over rows of weight times mean loss of a row's tokens is the objective.

    Raises:
        DataError: the template refuses a row, or none fits.
    """
    from buckler.finetuning.batches import encode
    from buckler.models.huggingface import template_of
    from buckler.models.loading import open_model

    model, tokenizer = open_model(spec, reads_weights=False)
    most = settings.max_length or 1024
    limit = min(most, getattr(model.config, "max_position_embeddings", None) or most)
    # The average over tasks is in the weights of the rows already.
    objective = Objective(loss_averaging="token" if settings.loss_averaging == "token" else "row")
    encoded, record = encode(template_of(model, tokenizer, spec), prepared.rows, objective, limit)
    record.pop("loss_weights", None)
    prepared.account["tokens"] = {"max_length": limit, **record}
    rows: list[dict[str, Json]] = []
    for row in encoded:
        labels: list[Json] = [token if learnt else -100 for token, learnt in zip(row.ids, row.supervised, strict=True)]
        written: dict[str, Json] = {"input_ids": list[Json](row.ids), "labels": labels}
        if settings.to == "axolotl":
            written["attention_mask"] = [1] * len(row.ids)
        else:
            written[LOSS_WEIGHT] = round(row.weight * sum(row.supervised), 12)
        rows.append(written)
    return rows
