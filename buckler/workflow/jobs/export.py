"""The job `export`: rows in the layout of another trainer, with that trainer's own configuration beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from buckler.data import Json, read_json, write_json, write_text
from buckler.errors import DataError
from buckler.finetuning.other_trainers import MODEL, configuration
from buckler.finetuning.settings import TrainSettings
from buckler.formats import WRITERS
from buckler.models.protocol import ModelSpec
from buckler.progress import ProgressCallback, no_progress
from buckler.workflow.executor import run_steps
from buckler.workflow.export import ACCOUNT, WITH_IDS, ExportStep, export_step, file_name
from buckler.workflow.jobs.base import Earlier, Planned, Result, deliver, mapping, read_object, store_of, whole
from buckler.workflow.jobs.drawing import DrawingJob
from buckler.workflow.jobs.loading import model_of
from buckler.workflow.sources import Source
from buckler.workflow.store import Store

DATASETS = "dataset_info.json"


class ExportJob(DrawingJob):
    """Rows for another trainer, in its layout and with its configuration; only answers are learnt, as in `buckler train`."""

    rows: tuple[Source, ...] = Field(min_length=1)
    """Training rows: one or more files that Buckler wrote, or files in any known format."""
    to: str
    """Layout of the rows: trl, alpaca, sharegpt, openai, llamafactory, axolotl, chat, or your own as `module:name`."""
    model: ModelSpec | None = None
    """Model whose chat template turns the rows into token ids and labels, for trl and axolotl (default: messages, which the
    trainer puts through the template itself)."""
    loss_averaging: Literal["token", "row", "task"] = "row"
    """Loss averaging that `loss_weight` stands for: over tokens, rows (single-task) or tasks (mixed-task)."""
    balance: Literal["none", "task"] = "none"
    """Repetition of whole rows so that all tasks count the same without weights, for trainers that cannot weigh rows."""
    max_length: int = Field(default=1024, ge=8)
    """Maximum length of a row, in tokens, for the trainer's configuration and for token ids."""

    @model_validator(mode="before")
    @classmethod
    def _balanced_by_task(cls, values: object) -> object:
        """Balancing tasks is averaging over them."""
        is_balanced = isinstance(values, Mapping) and values.get("balance") == "task" and "loss_averaging" not in values
        return {**values, "loss_averaging": "task"} if isinstance(values, Mapping) and is_balanced else values

    @field_validator("to")
    @classmethod
    def _known_layout(cls, name: str) -> str:
        WRITERS.get(name)
        return name

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.balance == "task" and self.loss_averaging != "task":
            other = f"`loss_averaging` is {self.loss_averaging}"
            raise ValueError(f"`balance` task averages over tasks, but {other}; leave one of them out")
        if self.balance == "task" and self.to == "chat":
            raise ValueError("`buckler train` uses the weights in the layout chat and reads each row once; leave out `balance`")
        if self.model is not None and self.to not in WITH_IDS:
            raise ValueError(f"token ids of a model can be written for {' and '.join(WITH_IDS)} only; leave out the model")
        return self

    def plan(self, earlier: Earlier = {}) -> Planned:  # noqa: B006 - never changed
        """The rows in their layout.

        Raises:
            ConfigError, DataError, BackendError: a file or the model is not there.
        """
        rows = [self.source_rows(source, earlier) for source in self.rows]
        model = None if self.model is None else model_of(self.model, earlier)
        length = None if model is None else self.max_length
        settings = ExportStep(to=self.to, loss_averaging=self.loss_averaging, balance=self.balance, max_length=length)
        return Planned(result=export_step(settings, rows, model), gives="rows")

    def run(
        self,
        out: Path,
        *,
        store: Store | None = None,
        earlier: Earlier = {},  # noqa: B006 - never changed
        progress: ProgressCallback = no_progress,
    ) -> Exported:
        """Write the rows, the trainer's configuration where it has one, and `export.json`.

        Raises:
            BucklerError: a file or the model is not there, or no row can be written in the layout.
        """
        planned, store = self.plan(earlier), store_of(out, store)
        self.account_rows(map(self.drawn, self.rows), out, first=True)
        run_steps([planned.result], store, progress=progress)
        folder, file = store.folder(planned.result), file_name(self.to)
        entries = folder / DATASETS
        known = _entries(out / DATASETS) if entries.exists() else {}
        written = deliver(folder, {file: file, ACCOUNT: ACCOUNT}, out)
        if entries.exists():
            write_json(out / DATASETS, {**known, **_entries(entries)})
            written.append(out / DATASETS)
        account = read_object(out / ACCOUNT)
        text = configuration(
            self.to,
            file,
            TrainSettings(max_length=self.max_length),
            model=MODEL if self.model is None else self.model.name,
            ids=self.model is not None,
            by_answer=account.get("one_row_per_answer") is True,
            masks=account.get("answers") != account.get("answers_learnt"),
        )
        if text:
            write_text(out / f"{self.to}.yaml", text)
            written.append(out / f"{self.to}.yaml")
        return Exported(out=out, written=tuple(written), path=out / file, account=account)


def _entries(path: Path) -> Mapping[str, Json]:
    """The data sets of LLaMA-Factory that a folder has already.

    Raises:
        DataError: the file is something else.
    """
    known = read_json(path) if path.exists() else {}
    if not isinstance(known, Mapping):
        raise DataError(f"{path}: expected an object of datasets; correct the file or move it away")
    return known


@dataclass(frozen=True, kw_only=True, repr=False)
class Exported(Result):
    """Rows in the layout of another trainer."""

    path: Path
    """The rows."""
    account: Mapping[str, Json]
    """What was read, written, split, repeated, left out and lost (`export.json`)."""

    def lines(self) -> list[str]:
        """Files, numbers, and whatever is not in the file as it stands in the rows."""
        account, to = self.account, str(self.account["layout"])
        lines = [
            *super().lines(),
            f"{account['rows_read']} rows read, {account['rows_written']} rows written",
            f"{account['answers_learnt']} of {account['answers']} answers are there to be learnt",
        ]
        if account["one_row_per_answer"] and (several := whole(account["rows_with_several_answers"])):
            lines.append(f"{several} rows with several answers stand once for each answer, with an equal share of their weight")
        for reason, names in mapping(account["left_out"]).items():
            ids = [str(name) for name in names] if isinstance(names, list) else []
            lines.append(f"{len(ids)} rows left out, {reason}: {', '.join(ids[:5])}{', ...' if len(ids) > 5 else ''}")
        lost = mapping(account["lost"])
        if number := lost.get("reasoning"):
            lines.append(f"{number} rows lose the reasoning of their answers, which {to} has no place for")
        if number := lost.get("loss_weight"):
            hint = "; `--balance task` repeats rows instead" if account["average"] == "task" != account["balance"] else ""
            lines.append(f"{number} rows lose their loss_weight, which {to} has no place for{hint}")
        if account["average"] == "task":
            difference = mapping(account["largest_difference"])
            read, written = (f"{100 * float(str(difference[name])):.1f}" for name in ("as_read", "as_written"))
            lines.append(
                f"by the number of rows alone, the share of a task is up to {written} percentage points from its share of the "
                f"mixed-task loss ({read} as read){'' if 'loss_weight' in lost else '; loss_weight makes up for the rest'}"
            )
        if isinstance(tokens := account.get("tokens"), Mapping):
            cut, dropped = (tokens[name] for name in ("cut", "dropped"))
            sizes = [len(one) if isinstance(one, list) else 0 for one in (cut, dropped)]
            lines.append(f"{tokens['supervised_tokens']} tokens to learn; {sizes[0]} rows had their document truncated")
            lines += [f"{sizes[1]} rows were dropped, longer than max_length"] if sizes[1] else []
        return [*lines, *_of_trainer(to, ids="tokens" in account)]

    def numbers(self) -> dict[str, Json]:
        """The account."""
        return {"export": dict(self.account)}

    def records(self) -> list[dict[str, Json]]:
        """One part and task a row."""
        return [{"part and task": name, **mapping(cell)} for name, cell in mapping(self.account["shares"]).items()]


def _of_trainer(to: str, *, ids: bool) -> list[str]:
    """What the trainer itself does otherwise than `buckler train`."""
    if to == "trl" and not ids:
        return [
            "TRL also learns what the template writes after the end of an answer (ChatML: a newline); --model writes exact ids",
            "TRL averages over tokens and reads no loss_weight; buckler.integrations.weighted_loss gives it the exact loss",
        ]
    if to == "trl":
        return ["TRL averages over tokens and reads no loss_weight; buckler.integrations.weighted_loss gives it the exact loss"]
    return ["the trainer averages over tokens, `buckler train` over rows or tasks"] if to in ("llamafactory", "axolotl") else []
