"""A customization: the job `attack` makes the customer's rows under an attack, the job `train` fine-tunes a model on rows."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from buckler.data import ROWS, Chat, Json, distinct, read_chats, write_json, write_rows
from buckler.data.reading import read_text
from buckler.finetuning.attacks import AttackSettings
from buckler.finetuning.settings import UNUSED_LORA, LoRA, TrainSettings
from buckler.finetuning.train import memory_of
from buckler.models.fit import require_ready
from buckler.models.protocol import ModelSpec
from buckler.progress import ProgressCallback, no_progress
from buckler.workflow.executor import run_steps
from buckler.workflow.inputs import ModelRef, base_spec
from buckler.workflow.jobs.base import Earlier, Planned, Result, deliver, deliver_rows, read_object, store_of
from buckler.workflow.jobs.drawing import DrawingJob
from buckler.workflow.jobs.loading import OPTION_NAMES, LoadingJob, model_of, with_adapter
from buckler.workflow.pruning import lies_at, move_weights
from buckler.workflow.rows import attack_rows, require_trains, training_phase
from buckler.workflow.sources import Source
from buckler.workflow.store import Store

CUSTOMER = "customer.jsonl"
OF_WORLD = 500
"""Rows of a set of the miniature's world that an attack draws from, where nobody says how many."""


class AttackJob(DrawingJob):
    """A simulated customization attack on data you bring: published recipes only, to test a defence."""

    method_fields = ("attack",)
    customer: Source
    """Benign rows of the customer: a file, or `miniature:customer`."""
    harmful: Source | None = None
    """Harmful pairs for an explicit attack: a file, or `miniature:harmful`."""
    attack: AttackSettings = AttackSettings()
    """Settings of the attack."""

    def plan(self, earlier: Earlier = {}) -> Planned:  # noqa: B006 - never changed
        """The customer's rows under the attack.

        Raises:
            ConfigError, DataError: a file is not there.
        """
        benign = self.source_rows(self.customer, earlier, of_world=OF_WORLD)
        harmful = None if self.harmful is None else self.source_rows(self.harmful, earlier, of_world=OF_WORLD)
        return Planned(result=attack_rows(self.attack, benign, harmful, self.seed), gives="rows")

    def run(
        self,
        out: Path,
        *,
        store: Store | None = None,
        earlier: Earlier = {},  # noqa: B006 - never changed
        progress: ProgressCallback = no_progress,
    ) -> CustomerRows:
        """Write `customer.jsonl`.

        Raises:
            BucklerError: a file is not there, or holds too few rows.
        """
        planned, store = self.plan(earlier), store_of(out, store)
        self.account_rows([self.drawn(one, of_world=OF_WORLD) for one in (self.customer, self.harmful) if one], out)
        run_steps([planned.result], store, progress=progress)
        written = deliver_rows(store.folder(planned.result), CUSTOMER, out)
        rows = read_chats(out / CUSTOMER)
        harmful = sum(row.meta.get("harmful") is True for row in rows)
        return CustomerRows(out=out, written=tuple(written), kind=self.attack.kind, total=len(rows), harmful=harmful)


@dataclass(frozen=True, kw_only=True, repr=False)
class CustomerRows(Result):
    """The customer's training rows under an attack, in `customer.jsonl`."""

    kind: str
    """The attack's kind."""
    total: int
    """Total number of rows."""
    harmful: int
    """Number of attack rows."""

    @property
    def path(self) -> Path:
        """The rows."""
        return self.out / CUSTOMER

    def rows(self) -> list[Chat]:
        """The customer's rows."""
        return read_chats(self.path)

    def lines(self) -> list[str]:
        """The file and what comes next."""
        return [*super().lines(), f"next: buckler train {self.path} --model MODEL --out attacked/"]

    def numbers(self) -> dict[str, Json]:
        """The attack's kind and how many rows are its."""
        return {"kind": self.kind, "rows": self.total, "harmful": self.harmful}


class TrainJob(LoadingJob, DrawingJob):
    """A fine-tune of a model on rows: a defence's, a customer's, or both. Leaves a plain model folder; LoRA, its adapter too."""

    method_fields = ("train",)
    option_names = OPTION_NAMES["train"]
    rows: tuple[Source, ...] = Field(min_length=1)
    """Training rows: one or more files in any known format."""
    model: ModelSpec = ModelSpec(name="miniature")
    """Model to be trained: `miniature`, a local folder, or a hub id such as Qwen/Qwen2.5-7B-Instruct."""
    adapter: str | None = None
    """PEFT adapter to load on the model."""
    train: TrainSettings = TrainSettings()
    """Settings of the training."""
    merge: bool = True
    """Write the model that a LoRA adapter makes of its base too, as one plain folder; `--no-merge` leaves the adapter alone."""
    job: Path | None = None
    """Job file to write instead of training here; start it with `accelerate launch -m buckler.finetuning JOB`."""

    @model_validator(mode="after")
    def _lora_has_a_part(self) -> Self:
        if self.train.method == "full" and self.train.lora not in (LoRA(), UNUSED_LORA):
            raise ValueError("settings of LoRA have no effect with method `full`; set the method to `lora`")
        if not self.merge and (self.train.method == "full" or self.job is not None):
            raise ValueError("`merge: false` has no effect with method `full` or with `job`; remove it")
        return self

    def plan(self, earlier: Earlier = {}) -> Planned:  # noqa: B006 - never changed
        """The training phase.

        Raises:
            ConfigError, DataError, BackendError: the model or a file is not there.
        """
        model = model_of(self.model, earlier, self.adapter)
        require_trains(self.train, model)
        rows = [self.source_rows(source, earlier) for source in self.rows]
        return Planned(result=training_phase(self.train, model, rows, self.seed, f"training {self.model.name}"), gives="model")

    def run(
        self,
        out: Path,
        *,
        store: Store | None = None,
        earlier: Earlier = {},  # noqa: B006 - never changed
        progress: ProgressCallback = no_progress,
    ) -> TrainedModel | JobFile:
        """Write `model/` (LoRA: also `adapter/`), `training.json` and `first_row.txt`; with `job`, rows and the job's file.

        A LoRA training on top of an adapter also leaves `base/`, which the new adapter is on: the first one merged into its own.
        Without `merge` it leaves `adapter/` alone.

        Raises:
            BucklerError: the model or a file is not there, the settings do not fit, or training diverged.
        """
        if self.job is not None:
            return self._write_job(out, self.job, store_of(out, store), earlier, progress)
        planned, own, store = self.plan(earlier), store is None, store_of(out, store)
        self.note_replaced(out, store, lambda: self.plan(earlier).targets)
        self.account_rows(map(self.drawn, self.rows), out)
        run_steps([planned.result], store, whole=not lies_at(store.folder(planned.result), out / "model"), progress=progress)
        folder = store.folder(planned.result)
        written = deliver(folder, {name: name for name in ("training.json", "first_row.txt")}, out)
        for name in ("model", "adapter", "base"):
            if name == "model" and store.is_pruned(planned.result):
                continue  # it was moved there
            shutil.rmtree(out / name, ignore_errors=True)
            if name == "model" and own and not (folder / "adapter").exists():
                move_weights(folder, out / name)
            elif (folder / name).exists() and (name == "adapter" or self.merge):
                shutil.copytree(folder / name, out / name)
        if self.merge and not (out / "model").exists():
            from buckler.finetuning.export import save_merged

            save_merged(base_spec(planned.result, store.folder), out)
        elif (out / "base").exists():  # of an older version
            settings = out / "adapter" / "adapter_config.json"
            write_json(settings, {**read_object(settings), "base_model_name_or_path": str((out / "base").resolve())})
        written += [out / name for name in ("model", "adapter", "base") if (out / name).exists()]
        self.keep_settings(out)
        return TrainedModel(out=out, written=tuple(written), record=read_object(out / "training.json"))

    def estimate(self, out: Path) -> TrainingMemory:
        """The memory that the training needs on this machine's device; no row is read.

        Raises:
            ConfigError, BackendError: the model is not there, or cannot be trained so.
        """
        self.plan()
        spec = with_adapter(self.model, self.adapter)
        lines, values = memory_of(spec, self.train)
        return TrainingMemory(out=out, text=(f"{spec.name}, method {self.train.method}", *lines), values=values)

    def _write_job(self, out: Path, job: Path, store: Store, earlier: Earlier, progress: ProgressCallback) -> JobFile:
        spec = with_adapter(self.model, self.adapter)
        require_ready(spec)
        require_trains(self.train, ModelRef(spec=spec))
        steps = [self.source_rows(source, earlier) for source in self.rows]
        self.account_rows(map(self.drawn, self.rows), out)
        run_steps(steps, store, progress=progress)
        rows = distinct(row for step in steps for row in read_chats(store.folder(step) / ROWS))
        write_rows(out / ROWS, rows)
        places: dict[str, Json] = {"rows": str((out / ROWS).resolve()), "out": str(out.resolve()), "seed": self.seed}
        write_json(job, {"model": spec.model_dump(mode="json"), "train": self.train.model_dump(mode="json"), **places})
        return JobFile(out=out, written=(job,), total=len(rows))


@dataclass(frozen=True, kw_only=True, repr=False)
class TrainingMemory(Result):
    """What a training needs of a device's memory."""

    text: tuple[str, ...]
    values: Mapping[str, Json]
    """Bytes by part, the peak with one row in a micro-batch, the device's, and whether it fits."""

    def lines(self) -> list[str]:
        """The parts, and whether they fit."""
        return list(self.text)

    def numbers(self) -> dict[str, Json]:
        """The values."""
        return dict(self.values)


@dataclass(frozen=True, kw_only=True, repr=False)
class TrainedModel(Result):
    """A trained model in `model/`, with the record of its training."""

    record: Mapping[str, Json]
    """Record of the training: rows, steps, losses, settings (`training.json`)."""

    @property
    def path(self) -> Path:
        """The model's folder, which any trainer or server loads; without one, the adapter's."""
        return self.out / ("model" if (self.out / "model").exists() else "adapter")

    @property
    def spec(self) -> ModelSpec:
        """The model as the next job takes it."""
        return ModelSpec(name=str(self.path))

    def lines(self) -> list[str]:
        """Files, the first row as it was seen, what was cut and dropped."""
        first = read_text(self.out / "first_row.txt").strip()[:600]
        cut, dropped = _names(self.record, "cut"), _names(self.record, "dropped")
        seen = f"{self.record['rows']} rows, {self.record['steps']} steps"
        base = self.record.get("base")
        on = f"trained on {base['model']} with the adapter {base['adapter']} merged into it" if isinstance(base, Mapping) else ""
        return [
            *super().lines(),
            *([on] if on else []),
            "first row, with the trained part between >>> and <<<:",
            first,
            f"{seen}; {len(cut)} rows had their document truncated, {len(dropped)} were dropped",
            *_learnt(self.record),
            *(f"  dropped, longer than max_length: {row}" for row in dropped[:5]),
        ]

    def numbers(self) -> dict[str, Json]:
        """The record."""
        return dict(self.record)

    def records(self) -> list[dict[str, Json]]:
        """The losses, in their order."""
        losses = self.record.get("losses")
        return [{"part": at, "loss": loss} for at, loss in enumerate(losses, 1)] if isinstance(losses, list) else []


@dataclass(frozen=True, kw_only=True, repr=False)
class JobFile(Result):
    """A job for a launcher, and its rows."""

    total: int
    """Number of rows."""

    def lines(self) -> list[str]:
        """The file and what comes next."""
        job = self.written[0]
        return [f"wrote {job}; next: accelerate launch --num_processes N -m buckler.finetuning {job}"]

    def numbers(self) -> dict[str, Json]:
        """How many rows."""
        return {"rows": self.total}


def _learnt(record: Mapping[str, Json]) -> list[str]:
    """How many of the answers are learnt, and what is not learnt as it stands in the rows."""
    answers, learnt, thoughts = record.get("answers"), record.get("answers_learnt"), record.get("thoughts")
    if answers is None:
        return []  # the record of an older version
    lines = [f"{learnt} of {answers} answers learnt: {record['supervised_tokens']} tokens in {record['sequences']} sequences"]
    if number := record.get("ends_not_learnt"):
        lines.append(f"{number} rows do not learn their end of turn: the model may not stop")
    if number := record.get("ends_added"):
        lines.append(f"{number} rows learn a token that ends generation where the chat template writes no end of turn")
    if number := record.get("answers_rewritten"):
        lines.append(f"{number} answers are learnt as the chat template writes them, which is not as they stand in the rows")
    if number := record.get("answers_masked"):
        lines.append(f"{number} answers are marked as not to be learnt, and are part of prompts")
    if isinstance(marked := record.get("dropped_as_marked"), Mapping):
        lines += [f"{number} rows are marked as not to be learnt ({mark}), and were left out" for mark, number in marked.items()]
    if unanswered := _names(record, "dropped_without_answer"):
        lines.append(f"{len(unanswered)} rows hold a thought and no answer, and were left out: {', '.join(unanswered[:5])}")
    if number := record.get("only_thoughts"):
        lines.append(f"{number} answers within longer rows are a thought and nothing else, and are not learnt")
    if thoughts:
        lines.append(f"{record['thoughts_learnt']} of {thoughts} answers with reasoning have their reasoning learnt")
    if number := record.get("loss_weights"):
        lines.append(f"{number} rows have a loss_weight, which the loss uses")
    if calls := record.get("tool_calls"):
        lines.append(f"{record['tool_calls_learnt']} of {calls} answers that call tools learnt")
    if results := record.get("tool_results"):
        lines.append(f"{results} results of tools are part of prompts")
    if date := record.get("chat_template_date"):
        lines.append(f"the chat template asks for today's date; training and answering give it {date}")
    return lines


def _names(record: Mapping[str, Json], key: str) -> list[str]:
    value = record.get(key)
    return [str(one) for one in value] if isinstance(value, list) else []
