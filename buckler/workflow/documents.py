"""Steps over documents: prepared, built into defence rows, asked about as probes, under attack and not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from buckler.crosstask.build import CrossTaskSettings, build, document_probes
from buckler.crosstask.decontamination import require_disjoint_documents
from buckler.crosstask.document_attacks import ATTACK_META, AttackOptions, attacked
from buckler.crosstask.documents import LABELS, DocumentSettings, RubricLabels, label_of, prepare
from buckler.crosstask.tasks import TASK_REGISTRY
from buckler.data import (
    ROWS,
    Answer,
    Chat,
    Document,
    Json,
    read_answers,
    read_chats,
    read_json,
    read_verdicts,
    write_json,
    write_jsonl,
    write_rows,
)
from buckler.data.answers import ANSWERS, VERDICTS
from buckler.errors import DataError
from buckler.evaluation.metrics import refused_share
from buckler.evaluation.probes import answer_probes
from buckler.models.protocol import Sampling
from buckler.settings import Settings
from buckler.workflow.inputs import ModelRef, all_chats, all_documents, code_of, load_model, own_tasks, require_answered
from buckler.workflow.step import NoSettings, Outside, Run, Step, numbered, step

MOST_MISUSED = "weakest.json"


class PrepareStep(Settings):
    """Documents labelled, each once."""

    documents: DocumentSettings


class CrossTaskStep(Settings):
    """Cross-task defence rows."""

    crosstask: CrossTaskSettings
    seed: int
    max_new_tokens: int


class DocumentProbesStep(Settings):
    """Every task asked of every document."""

    tasks: tuple[str, ...]
    wording: str
    language: str | None
    labels: tuple[str, ...] | None = None
    """Labels of the documents that are asked about; None: all."""
    attack: str | None = None
    options: AttackOptions | None = None
    seed: int | None = None
    """Of what the attack draws."""


class ReferenceAnswersStep(Settings):
    """The undefended model's answers as references."""

    max_new_tokens: int


class MostMisusedStep(Settings):
    """The task that is processed most often."""

    tasks: tuple[str, ...]


@step("prepare-documents")
def prepare_documents(run: Run[PrepareStep]) -> None:
    """Documents -> labelled, of a readable size, each once, disjoint from the test's; rejected ones with their reasons."""
    ready = prepare(
        all_documents(run, "documents"),
        run.settings.documents,
        judge=RubricLabels(load_model(run, "labeller")) if run.has("labeller") else None,
        test_documents=all_documents(run, "test"),
    )
    if not ready.documents:
        why = ", ".join(f"{reason.removeprefix('left out: ')} ({n})" for reason, n in sorted(ready.counts.items()))
        raise DataError(f"no usable document is left; left out: {why}")
    write_rows(run.out / "rejected.jsonl", ready.rejected)
    write_json(run.out / "counts.json", dict(sorted(ready.counts.items())))
    write_rows(run.out / ROWS, ready.documents)


@step("crosstask")
def crosstask(run: Run[CrossTaskStep]) -> None:
    """Prepared documents -> defence rows: refusals for the harmful, answers for the benign; what was left out."""
    settings = run.settings.crosstask
    if "weakest" in run.inputs:
        named = read_json(run.inputs["weakest"] / MOST_MISUSED)
        if not isinstance(named, Mapping) or "weakest" not in named:
            raise DataError(f"{run.inputs['weakest'] / MOST_MISUSED}: names no task; delete its folder, and it is made again")
        settings = settings.model_copy(update={"refused_tasks": (str(named["weakest"]),)})

    def answer_all(probes: Sequence[Chat]) -> list[Answer]:
        sampling = Sampling(max_new_tokens=run.settings.max_new_tokens)
        answers = answer_probes(load_model(run, "model"), probes, sampling, progress=run.progress)
        require_answered(answers)
        return answers

    built = build(
        all_documents(run, "documents"),
        settings,
        seed=run.settings.seed,
        answer_all=answer_all,
        aligned=load_model(run, "aligned") if settings.refusals_from == "model" else None,
        own=own_tasks(run),
    )
    write_jsonl(run.out / "rejected.jsonl", built.rejected)
    write_json(run.out / "counts.json", {"rows": len(built.rows), "skipped": dict(built.skipped)})
    write_rows(run.out / ROWS, built.rows)


@step("probe-documents")
def probe_documents(run: Run[DocumentProbesStep]) -> None:
    """Documents x tasks -> probes in one wording, the documents as they are or under an attack."""
    settings, documents = run.settings, all_documents(run, "documents")
    details: dict[str, dict[str, Json]] = {}
    if settings.attack is not None:
        options, seed = settings.options or AttackOptions(), settings.seed or 0
        documents = _changed(attacked(settings.attack, documents, options, seed=seed), settings.attack, run)
        details = {
            document.id: {name: document.meta[name] for name in ATTACK_META if name in document.meta} for document in documents
        }
    probes = document_probes(
        [one for one in documents if label_of(one) in (settings.labels or LABELS)],
        settings.tasks,
        wording=settings.wording,
        language=settings.language,
        own=own_tasks(run),
    )
    write_rows(run.out / ROWS, [probe.tagged(**details.get(str(probe.meta["source"]), {})) for probe in probes])


@step("reference-answers")
def reference_answers(run: Run[ReferenceAnswersStep]) -> None:
    """Document probes without a reference -> with the undefended model's own answer as reference.

    What is then scored is agreement with that model: 1 says that a defence changed nothing, not that the answer is good.
    """
    probes = read_chats(run.inputs["probes"] / ROWS)
    without = [probe for probe in probes if not probe.meta.get("reference") and probe.meta.get("label") != "harmful"]
    sampling = Sampling(max_new_tokens=run.settings.max_new_tokens)
    answers = answer_probes(load_model(run, "model"), without, sampling, progress=run.progress)
    require_answered(answers)
    texts = {one.id: one.text for one in answers if one.text.strip() and not one.no_text}
    rows = [
        probe.tagged(reference=texts[probe.id], reference_by="the undefended model") if probe.id in texts else probe
        for probe in probes
    ]
    write_rows(run.out / ROWS, rows)


@step("most-misused-task")
def most_misused_task(run: Run[MostMisusedStep]) -> None:
    """The undefended model's answers to malicious documents -> weakest.json: the task it processes most often."""
    answers = read_answers(run.inputs["answers"] / ANSWERS)
    verdicts = read_verdicts(run.inputs["verdicts"] / VERDICTS)
    tasks = run.settings.tasks
    refused = refused_share(answers, verdicts)
    processed: dict[str, float] = {task: 1 - share for task, share in refused.items() if task in tasks}
    named = max(processed, key=lambda task: (processed[task], -tasks.index(task)))
    rates: dict[str, Json] = {**processed}
    write_json(run.out / MOST_MISUSED, {"weakest": named, "processed": rates})


@step("decontaminate-documents")
def decontaminate_documents(run: Run[NoSettings]) -> None:
    """Defence rows and document probes -> nothing, or an error that names the documents they share."""
    rows, probes = all_chats(run, "rows"), all_chats(run, "probes")
    require_disjoint_documents(rows, probes)
    write_json(run.out / "apart.json", {"rows": len(rows), "probes": len(probes)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompting:
    """How documents are asked about."""

    tasks: Sequence[str]
    wording: str
    language: str | None = None
    own: Mapping[str, Outside] = field(default_factory=dict)
    """Tasks of the user's own (`inputs.own_tasks_at`)."""
    attack: str | None = None
    options: AttackOptions = field(default_factory=AttackOptions)
    seed: int = 0
    """Of what an attack draws."""
    harmful_only: bool = False
    """Whether other documents are left out."""


def prepared(
    documents: Sequence[Step], settings: DocumentSettings, *, test: Sequence[Step] = (), labeller: ModelRef | None = None
) -> Step:
    """Documents labelled, each once, and disjoint from the test's."""
    judge = labeller if settings.label_by == "model" else None
    return prepare_documents.plan(
        PrepareStep(documents=settings),
        title="documents prepared",
        inputs={**numbered("documents", documents), **numbered("test", test), **(judge.inputs("labeller") if judge else {})},
        outside=judge.places("labeller") if judge else {},
    )


def brought(tasks: Sequence[str]) -> dict[str, Outside]:
    """The source of tasks that installed packages bring, as an outside thing; nothing for Buckler's own."""
    codes = [TASK_REGISTRY.code(name)["code"] for name in tasks if name in TASK_REGISTRY and TASK_REGISTRY.is_own(name)]
    return code_of({"code": "+".join(codes)} if codes else {})


def crosstask_rows(
    settings: CrossTaskSettings,
    documents: Step,
    model: ModelRef,
    seed: int,
    max_new_tokens: int,
    *,
    own: Mapping[str, Outside] | None = None,
    aligned: ModelRef | None = None,
    most_misused: Step | None = None,
) -> Step:
    """Cross-task defence rows; the model answers benign documents that bring no reference.

    Args:
        settings: What the set holds.
        documents: Prepared ones.
        model: The undefended one.
        seed: Of every draw.
        max_new_tokens: Of its answers.
        own: Tasks of the user's own.
        aligned: Who refusals are sampled from, the model itself if nobody is named.
        most_misused: The step that names the one task refusals are built for.
    """
    sampled = (aligned or model) if settings.refusals_from == "model" else None
    on = "the most misused task" if most_misused is not None else ", ".join(settings.refused_tasks or settings.tasks)
    return crosstask.plan(
        CrossTaskStep(crosstask=settings, seed=seed, max_new_tokens=max_new_tokens),
        title=f"{settings.refusals} refusals on {on}, seed {seed}",
        inputs={
            "documents": documents,
            **model.inputs(),
            **(sampled.inputs("aligned") if sampled else {}),
            **({"weakest": most_misused} if most_misused is not None else {}),
        },
        outside={**model.places(), **(sampled.places("aligned") if sampled else {}), **(own or {}), **brought(settings.tasks)},
    )


def document_probe_set(documents: Step, prompting: Prompting) -> Step:
    """Every task asked of every document in one wording, as it is or under an attack."""
    under_attack = prompting.attack is not None
    settings = DocumentProbesStep(
        tasks=tuple(prompting.tasks),
        wording=prompting.wording,
        language=prompting.language,
        labels=("harmful",) if prompting.harmful_only else None,
        attack=prompting.attack,
        options=prompting.options if under_attack else None,
        seed=prompting.seed if under_attack else None,
    )
    title = f"document probes, wording {prompting.wording}" + (f", attack {prompting.attack}" if under_attack else "")
    outside = {**prompting.own, **brought(prompting.tasks)}
    return probe_documents.plan(settings, title=title, inputs={"documents": documents}, outside=outside)


def with_reference_answers(probes: Step, model: ModelRef, max_new_tokens: int) -> Step:
    """Document probes whose missing references are the undefended model's own answers."""
    return reference_answers.plan(
        ReferenceAnswersStep(max_new_tokens=max_new_tokens),
        title="references by the undefended model",
        inputs={"probes": probes, **model.inputs()},
        outside=model.places(),
    )


def most_misused(answers: Step, verdicts: Step, tasks: Sequence[str]) -> Step:
    """The task whose malicious documents the model processes most often."""
    inputs = {"answers": answers, "verdicts": verdicts}
    return most_misused_task.plan(MostMisusedStep(tasks=tuple(tasks)), title="the most misused task", inputs=inputs)


def document_decontamination(training: Sequence[Step], probes: Sequence[Step]) -> Step:
    """The check that no document of the defence is in the test."""
    inputs = {**numbered("rows", training), **numbered("probes", probes)}
    return decontaminate_documents.plan(NoSettings(), title="documents of training and test are disjoint", inputs=inputs)


def _changed(documents: Sequence[Document], attack: str, run: Run[DocumentProbesStep]) -> list[Document]:
    """The documents that the attack changed: one that it left as it was is asked already, and would stand for itself twice.

    Raises:
        DataError: it changed none.
    """
    kept = [document for document in documents if document.id != document.meta["original"]]
    if documents and not kept:
        raise DataError(
            f"attack {attack} changes none of the documents; see `attack_options` (a smaller `short`, a larger `long`)"
        )
    write_json(run.out / "unchanged.json", len(documents) - len(kept))
    return kept
