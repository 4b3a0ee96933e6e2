"""Steps over documents, spelled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from buckler.crosstask.build import CrossTaskSettings
from buckler.crosstask.document_attacks import AttackOptions
from buckler.crosstask.documents import DocumentSettings
from buckler.crosstask.own_tasks import tasks_code
from buckler.crosstask.tasks import TASK_REGISTRY
from buckler.data import Json
from buckler.plan.spell.common import Model, numbered, spelled, step_of
from buckler.workflow.sources import Source, fingerprint
from buckler.workflow.store import Step


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnTasks:
    """A file of the user's own tasks: its content is hashed, its place is not."""

    path: str = ""

    def use(self) -> tuple[dict[str, Json], dict[str, str]]:
        """Parameters and paths that make a step depend on it."""
        if not self.path:
            return {}, {}
        code: list[str] = tasks_code(self.path)
        return {"own_tasks": code or fingerprint(Source(source=self.path))["source"]}, {"own_tasks": self.path}


def tasks_params(tasks: Sequence[str]) -> dict[str, Json]:
    """The sources of tasks that installed packages bring, for the keys of steps; nothing for Buckler's own."""
    brought = {name: TASK_REGISTRY.code(name)["code"] for name in tasks if name in TASK_REGISTRY and TASK_REGISTRY.is_own(name)}
    return {"tasks_code": brought} if brought else {}


def made_ready(
    documents: Sequence[Step], settings: DocumentSettings, *, test: Sequence[Step] = (), labeller: Model | None = None
) -> Step:
    """Documents labelled, each once, and apart from the test's."""
    params, inputs, paths = labeller.use("labeller") if labeller is not None and settings.label_by == "model" else ({}, {}, {})
    return step_of(
        "documents.make_ready",
        "documents made ready",
        params={"documents": spelled(settings), **params},
        inputs={**numbered("documents", documents), **numbered("test", test), **inputs},
        paths=paths,
    )


def crosstask(
    settings: CrossTaskSettings,
    documents: Step,
    model: Model,
    seed: int,
    max_new_tokens: int,
    *,
    own: OwnTasks = OwnTasks(),
    aligned: Model | None = None,
    weakest: Step | None = None,
) -> Step:
    """Cross-task defence rows; the model answers benign documents that bring no reference.

    Args:
        settings: what the set holds.
        documents: made ready.
        model: the undefended one.
        seed: of every draw.
        max_new_tokens: of its answers.
        own: tasks of the user's own.
        aligned: who refusals are sampled from, the model itself if nobody is named.
        weakest: the step that names the one task refusals are built for.
    """
    params, inputs, paths = model.use()
    more, own_paths = own.use()
    params = {
        "crosstask": spelled(settings),
        "seed": seed,
        "max_new_tokens": max_new_tokens,
        **params,
        **more,
        **tasks_params(settings.tasks),
    }
    if settings.refusals_from == "model":
        named, given, places = (aligned or model).use("aligned")
        params, inputs, paths = params | named, inputs | given, paths | places
    if weakest is not None:
        inputs = {**inputs, "weakest": weakest}
    on = "the weakest task" if weakest is not None else ", ".join(settings.refused_tasks or settings.tasks)
    title = f"{settings.refusals} refusals on {on}, seed {seed}"
    return step_of(
        "documents.crosstask", title, params=params, inputs={"documents": documents, **inputs}, paths=paths | own_paths
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """How documents are asked about."""

    tasks: Sequence[str]
    wording: str
    language: str | None = None
    own: OwnTasks = OwnTasks()
    attack: str | None = None
    options: AttackOptions = AttackOptions()  # noqa: RUF009 - frozen
    seed: int = 0
    """Of what an attack draws."""
    harmful_alone: bool = False
    """Whether other documents are left out."""


def document_probes(documents: Step, asking: Asking) -> Step:
    """Every task asked of every document in one wording, as it is or under an attack."""
    more, paths = asking.own.use()
    params: dict[str, Json] = {"tasks": list(asking.tasks), "wording": asking.wording, "language": asking.language, **more}
    params |= tasks_params(asking.tasks)
    title = f"document probes, wording {asking.wording}"
    if asking.harmful_alone:
        params |= {"labels": ["harmful"]}
    if asking.attack is not None:
        params |= {"attack": asking.attack, "options": spelled(asking.options), "seed": asking.seed}
        title += f", attack {asking.attack}"
    return step_of("documents.probe_documents", title, params=params, inputs={"documents": documents}, paths=paths)


def by_agreement(probes: Step, model: Model, max_new_tokens: int) -> Step:
    """Document probes whose missing references are the undefended model's own answers."""
    params, inputs, paths = model.use()
    params = {"max_new_tokens": max_new_tokens, **params}
    title = "references by the undefended model"
    return step_of("documents.by_agreement", title, params=params, inputs={"probes": probes, **inputs}, paths=paths)


def weakest(answers: Step, verdicts: Step, tasks: Sequence[str]) -> Step:
    """The task whose malicious documents the model processes most often."""
    params: dict[str, Json] = {"tasks": list(tasks)}
    inputs = {"answers": answers, "verdicts": verdicts}
    return step_of("documents.weakest", "the task misused most", params=params, inputs=inputs)


def documents_apart(training: Sequence[Step], probes: Sequence[Step]) -> Step:
    """The check that no document of the defence is in the test."""
    inputs = {**numbered("rows", training), **numbered("probes", probes)}
    return step_of("documents.check_documents_apart", "documents of training and test are apart", inputs=inputs)
