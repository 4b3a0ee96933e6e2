"""The job `crosstask`: documents to the rows of a defence, refusals for the malicious and real answers for the benign."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from buckler.crosstask.build import CrossTaskSettings
from buckler.crosstask.card import defence_card
from buckler.crosstask.documents import DocumentSettings
from buckler.crosstask.task import ALL, MOST_MISUSED_TASK, current_names
from buckler.crosstask.tasks import read_tasks, task_named
from buckler.data import Chat, Json, read_chats, write_text
from buckler.evaluation.probes import MAX_NEW_TOKENS
from buckler.models.protocol import ModelSpec
from buckler.models.registry import SERVERS
from buckler.progress import ProgressCallback, no_progress
from buckler.workflow.documents import Prompting, crosstask_rows, document_probe_set, most_misused, prepared
from buckler.workflow.evaluation import evaluation_steps
from buckler.workflow.executor import run_steps
from buckler.workflow.inputs import ModelRef, own_tasks_at
from buckler.workflow.jobs.base import Earlier, Planned, Result, count_lines, deliver, deliver_rows, read_object, store_of
from buckler.workflow.jobs.drawing import DrawingJob
from buckler.workflow.jobs.loading import OPTION_NAMES, AnsweringJob, model_of
from buckler.workflow.rows import rows_of
from buckler.workflow.sources import Source
from buckler.workflow.step import Outside, Step
from buckler.workflow.store import Store

DEFENCE = "defence.jsonl"


class CrossTaskJob(AnsweringJob, DrawingJob):
    """A defence against malicious documents: refusals for the harmful, real answers for the benign."""

    method_fields = ("crosstask", "preparation")
    option_names = OPTION_NAMES["crosstask"]
    documents: tuple[Source, ...] = ()
    """Documents: files, a folder with the subfolders harmful, benign and useful, or `miniature:documents`."""
    model: ModelSpec = ModelSpec(name="miniature")
    """Model to be defended, which also answers the benign documents: `miniature`, a local folder, or a hub id."""
    adapter: str | None = None
    """PEFT adapter to load on the model."""
    tasks: Annotated[tuple[str, ...], AfterValidator(current_names)] = (ALL,)
    """Task of the defence: a name, `all`, or `most_misused_task` (performed most often on malicious documents)."""
    tasks_file: Path | None = None
    """YAML file of your own tasks, or `module:TASK`; separate several of the latter with commas."""
    crosstask: CrossTaskSettings = CrossTaskSettings()
    """Settings of the defence rows."""
    preparation: DocumentSettings = DocumentSettings()
    """Preparation of the documents: labels, maximum length, near-duplicates."""
    aligned: ModelSpec | None = None
    """Model whose refusals are sampled (default: the defended model)."""
    harmful: tuple[Source, ...] = ()
    """Documents to refuse, if their files have no labels."""
    benign: tuple[Source, ...] = ()
    """Documents to answer, if their files have no labels."""
    label_model: ModelSpec | None = None
    """Model that labels documents (default: the defended model)."""
    decontaminate: tuple[Source, ...] = ()
    """Test documents to decontaminate against; documents that equal or nearly equal one of them are left out."""
    max_new_tokens: int = Field(default=MAX_NEW_TOKENS, ge=1)
    """Maximum length of the model's answer to a benign document, in tokens."""

    @field_validator("tasks", mode="before")
    @classmethod
    def _one_or_several(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if len(self.tasks) > 1 and (alone := {ALL, MOST_MISUSED_TASK} & set(self.tasks)):
            raise ValueError(f"tasks: `{min(alone)}` stands alone; leave the other tasks out")
        if not (self.documents or self.harmful or self.benign):
            raise ValueError("no documents given; name files or folders, or use --harmful and --benign")
        return self

    @property
    def settings(self) -> CrossTaskSettings:
        """The settings of the rows, with the tasks that are named."""
        own = read_tasks(self.tasks_file) if self.tasks_file is not None else {}
        whole = (*self.crosstask.tasks, *(name for name in own if name not in self.crosstask.tasks))
        names = whole if self.tasks in ((ALL,), (MOST_MISUSED_TASK,)) else tuple(task_named(name, own).id for name in self.tasks)
        return CrossTaskSettings.model_validate({**self.crosstask.model_dump(), "tasks": names})

    def plan(self, earlier: Earlier = {}) -> Planned:  # noqa: B006 - never changed
        """The defence rows, with the documents made ready and, where it is asked for, the most misused task.

        Raises:
            ConfigError, DataError, BackendError: a model, a file or a task is not there.
        """
        settings, own = self.settings, own_tasks_at(self.tasks_file)
        model = model_of(self.model, earlier, self.adapter)
        labeller = model if self.label_model is None else model_of(self.label_model, earlier)
        test = [rows_of(source, documents=True) for source in self.decontaminate]
        ready = prepared(self._documents(earlier), self.preparation, test=test, labeller=labeller)
        most_misused = self._most_misused_task(settings, ready, model, own) if self.tasks == (MOST_MISUSED_TASK,) else None
        step = crosstask_rows(
            settings,
            ready,
            model,
            self.seed,
            self.max_new_tokens,
            own=own,
            aligned=None if self.aligned is None else model_of(self.aligned, earlier),
            most_misused=most_misused,
        )
        return Planned(
            result=step, gives="rows", more={"documents": ready, **({"weakest": most_misused} if most_misused else {})}
        )

    def run(
        self,
        out: Path,
        *,
        store: Store | None = None,
        earlier: Earlier = {},  # noqa: B006 - never changed
        progress: ProgressCallback = no_progress,
    ) -> DefenseRows:
        """Write `defence.jsonl`, `counts.json`, a data set card, and what was left out.

        Raises:
            BucklerError: a model, a file or a task is not there, or there are too few documents.
        """
        planned, store = self.plan(earlier), store_of(out, store)
        self.note_replaced(out, store, lambda: self.plan(earlier).targets)
        self.account_rows((self.drawn(one, documents=True) for one in self._sources()), out, documents=True)
        run_steps([planned.result], store, progress=progress)
        names = {"counts.json": "counts.json", "rejected.jsonl": "refusals-rejected.jsonl", SERVERS: SERVERS}
        written = deliver_rows(store.folder(planned.result), DEFENCE, out)
        written += deliver(store.folder(planned.result), names, out)
        ready = store.folder(planned.more["documents"])
        written += deliver(ready, {"rejected.jsonl": "documents-rejected.jsonl"}, out)
        named = planned.more.get("weakest")
        models = {"is defended": self.model.name, **({"refuses": self.aligned.name} if self.aligned is not None else {})}
        write_text(out / "README.md", defence_card(read_chats(out / DEFENCE), DEFENCE, self.settings, models, self.seed))
        written.append(out / "README.md")
        self.keep_settings(out)
        return DefenseRows(
            out=out,
            written=tuple(written),
            documents=read_object(ready / "counts.json"),
            most_misused_task={} if named is None else read_object(store.folder(named) / "weakest.json"),
            counts=read_object(out / "counts.json"),
        )

    def _sources(self) -> list[Source]:
        labels: dict[Literal["harmful", "benign"] | None, tuple[Source, ...]] = {
            None: self.documents, "harmful": self.harmful, "benign": self.benign,
        }  # fmt: skip
        return [
            source if label is None else source.model_copy(update={"label": label})
            for label, sources in labels.items()
            for source in sources
        ]

    def _documents(self, earlier: Earlier) -> list[Step]:
        return [self.source_rows(source, earlier, documents=True) for source in self._sources()]

    def _most_misused_task(self, settings: CrossTaskSettings, ready: Step, model: ModelRef, own: Mapping[str, Outside]) -> Step:
        """The undefended model asked every task of the malicious documents, in the first wording."""
        asking = Prompting(
            tasks=settings.tasks, wording=settings.wordings[0], language=settings.language, own=own, harmful_only=True
        )
        probes, title = document_probe_set(ready, asking), "the model, to find its most misused task"
        most = self.max_new_tokens
        measured = evaluation_steps(model, [probes], judge="keyword", max_new_tokens=most, own=own, title=title)
        return most_misused(measured.answers, measured.verdicts, settings.tasks)


@dataclass(frozen=True, kw_only=True, repr=False)
class DefenseRows(Result):
    """Rows of a defence in `defence.jsonl`."""

    documents: Mapping[str, Json]
    """Documents by label and length, and those left out by reason."""
    most_misused_task: Mapping[str, Json]
    """The task the model processes most, where it was asked for."""
    counts: Mapping[str, Json]
    """Rows of the defence by kind."""

    @property
    def path(self) -> Path:
        """The rows."""
        return self.out / DEFENCE

    def rows(self) -> list[Chat]:
        """The rows of the defence."""
        return read_chats(self.path)

    def lines(self) -> list[str]:
        """Files and counts."""
        return [
            *super().lines(),
            *(line for counts in (self.documents, self.most_misused_task, self.counts) for line in count_lines(counts)),
        ]

    def numbers(self) -> dict[str, Json]:
        """Counts of documents and rows."""
        return {"documents": dict(self.documents), "weakest": dict(self.most_misused_task), "counts": dict(self.counts)}

    def records(self) -> list[dict[str, Json]]:
        """One count of the rows a row."""
        return [
            {"count": line.strip().rsplit(": ", 1)[0], "number": line.rsplit(": ", 1)[1]} for line in count_lines(self.counts)
        ]
