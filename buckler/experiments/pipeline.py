"""Recipes of jobs one after another: `kind: pipeline`. An entry's body is the job's settings; `@NAME` is an earlier entry.

    kind: pipeline
    name: hardening
    steps:
      - curate: {texts: texts.jsonl, preset: quick}
        name: curated
      - train: {rows: ["@curated", customer.jsonl], train: {method: lora}}
        name: tuned
      - evaluate: {model: "@tuned", probes: [xstest.csv]}

The steps are those that the commands of the same names make: work that is in the store is not done again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self, TypeAlias

from pydantic import Field, model_validator

from buckler.data import Json
from buckler.data.yaml_text import read_yaml
from buckler.errors import ConfigError
from buckler.experiments.base import anchored
from buckler.progress import ProgressCallback, no_progress
from buckler.registry import read_from, refuse_code
from buckler.settings import FILE_NAME, Settings, parse
from buckler.workflow.executor import run_steps
from buckler.workflow.jobs.base import EARLIER, Planned, Result, named_step
from buckler.workflow.jobs.crosstask import CrossTaskJob
from buckler.workflow.jobs.curate import CurateJob
from buckler.workflow.jobs.customize import AttackJob, TrainedModel, TrainJob
from buckler.workflow.jobs.evaluate import EvaluateJob
from buckler.workflow.jobs.export import ExportJob
from buckler.workflow.jobs.gate import GateDecision, GateJob
from buckler.workflow.jobs.judge import JudgeJob
from buckler.workflow.rows import storage
from buckler.workflow.step import Step, in_order
from buckler.workflow.store import Store

AnyJob: TypeAlias = CurateJob | CrossTaskJob | AttackJob | ExportJob | TrainJob | EvaluateJob | JudgeJob | GateJob


class Entry(Settings):
    """One job of a pipeline: exactly one of the keys that are jobs, and a name for later entries to use."""

    name: str = Field(default="", pattern=rf"{FILE_NAME}|^$")
    """Name of the entry (default: the name of its job)."""
    curate: CurateJob | None = None
    """Curation of harmless texts."""
    crosstask: CrossTaskJob | None = None
    """Training rows against malicious documents."""
    attack: AttackJob | None = None
    """Customer's training rows under an attack."""
    export: ExportJob | None = None
    """Rows in the layout of another trainer."""
    train: TrainJob | None = None
    """Fine-tuning of a model."""
    evaluate: EvaluateJob | None = None
    """Evaluation of a model."""
    judge: JudgeJob | None = None
    """New judgement of an earlier entry's answers."""
    gate: GateJob | None = None
    """Comparison of two models, or of the answers of two earlier entries."""

    @model_validator(mode="after")
    def _one_job(self) -> Self:
        if len(self.jobs) != 1:
            named = ", ".join(self.jobs) or "none"
            raise ValueError(f"an entry must have exactly one job of {', '.join(JOBS)}, but this one has {named}")
        return self

    @property
    def jobs(self) -> dict[str, AnyJob]:
        """The jobs it has, by their keys."""
        all_jobs: dict[str, AnyJob | None] = {name: getattr(self, name) for name in JOBS}
        return {name: job for name, job in all_jobs.items() if job is not None}

    @property
    def label(self) -> str:
        """What later entries call it."""
        return self.name or next(iter(self.jobs))


JOBS = tuple(name for name in Entry.model_fields if name != "name")


class PipelineRecipe(Settings):
    """Jobs one after another."""

    checks_itself = ("about",)
    kind: Literal["pipeline"]
    """Kind of the recipe."""
    name: str = Field(pattern=FILE_NAME)
    """Name of the pipeline, and of the folder of its results."""
    about: str = ""
    """Description in one sentence."""
    steps: tuple[Entry, ...] = Field(min_length=1)
    """Entries in order; each may use the earlier ones as `@NAME`."""

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [entry.label for entry in self.steps]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"two entries have the name {twice!r}; give one of them another `name`")
        return self


@dataclass(frozen=True, kw_only=True, repr=False)
class PipelineResult(Result):
    """The results of a pipeline's entries, by name."""

    results: Mapping[str, Result]

    def lines(self) -> list[str]:
        """Each entry's lines under its name."""
        return [line for name, result in self.results.items() for line in (f"{name}:", *result.lines())]

    def numbers(self) -> dict[str, Json]:
        """Each entry's result."""
        return {"entries": {name: result.to_json() for name, result in self.results.items()}}

    def records(self) -> list[dict[str, Json]]:
        """One entry a row."""
        return [{"entry": name, "result": type(one).__name__, "out": str(one.out)} for name, one in self.results.items()]

    @property
    def exit_status(self) -> int:
        """That of the gates in it: 1 if one is worse, else 3 if one is inconclusive, else 0."""
        statuses = {one.exit_status for one in self.results.values() if isinstance(one, GateDecision)}
        return next((status for status in (1, 3) if status in statuses), 0)

    def __getitem__(self, name: str) -> Result:
        """The result of an entry."""
        return self.results[name]


def is_pipeline(path: Path) -> bool:
    """Whether a recipe file is a pipeline.

    Raises:
        ConfigError: it cannot be read.
    """
    values = read_yaml(path)
    return isinstance(values, Mapping) and values.get("kind") == "pipeline"


def read_pipeline(path: Path, *, trust_code: bool = False) -> PipelineRecipe:
    """A pipeline from its file; relative paths are taken from the file's folder where something lies there.

    A `module:name` in it is refused without `trust_code`.

    Raises:
        ConfigError: the file or something in it is not understood.
    """
    with read_from(str(path), trusted=trust_code):
        recipe = parse(PipelineRecipe, read_yaml(path), str(path))
        refuse_code(recipe)
    return anchored(recipe, path.parent)


def plan_pipeline(recipe: PipelineRecipe) -> dict[str, Planned]:
    """The steps of every entry but gates, which compare files; what gates name is checked.

    Raises:
        ConfigError, DataError, BackendError: a model, a file or an earlier entry is not there; nothing has run yet.
    """
    plans: dict[str, Planned] = {}
    for entry in recipe.steps:
        for job in entry.jobs.values():
            if isinstance(job, GateJob):
                _check_gate(job, plans)
            else:
                plans[entry.label] = job.plan(plans)
    return plans


def run_pipeline(
    recipe: PipelineRecipe,
    store: Store,
    *,
    workers: int = 1,
    cluster: str | None = None,
    progress: ProgressCallback = no_progress,
) -> PipelineResult:
    """Run every entry's steps, then write its files to `reports/NAME/ENTRY` in the store.

    Raises:
        BucklerError: an entry cannot be planned, or a step failed; finished ones are kept.
    """
    plans, out = plan_pipeline(recipe), store.root / "reports" / recipe.name
    checks = [plan.more["attack"] for plan in plans.values() if "attack" in plan.more]
    for targets in (checks, _targets(plans)):
        run_steps(targets, store, workers=workers, cluster=cluster, progress=progress)
    results: dict[str, Result] = {}
    for entry in recipe.steps:
        for job in entry.jobs.values():
            if isinstance(job, GateJob):
                results[entry.label] = _with_files(job, results).run(out / entry.label, store=store, progress=progress)
            else:
                results[entry.label] = job.run(out / entry.label, store=store, earlier=plans, progress=progress)
    return PipelineResult(out=out, written=tuple(result.out for result in results.values()), results=results)


def dry_run_lines(recipe: PipelineRecipe, store: Store) -> list[str]:
    """What a run would do: each entry's steps and how many of them are done."""
    lines, plans = [], plan_pipeline(recipe)
    for entry in recipe.steps:
        name, gate = entry.label, entry.gate
        if gate is not None:
            base, tuned = gate.sides_as_named()
            lines.append(f"{name}: a gate, {tuned} against {base}; decides the exit status")
        else:
            steps = in_order(plans[name].targets)
            lines.append(f"{name}: {len(steps)} steps, {sum(store.is_done(step) for step in steps)} done")
    return list(filter(None, [*lines, storage(in_order(_targets(plans)), store)]))


def _targets(plans: Mapping[str, Planned]) -> Sequence[Step]:
    return [step for plan in plans.values() for step in plan.targets]


def _check_gate(job: GateJob, plans: Mapping[str, Planned]) -> None:
    """Check what a gate compares before anything runs.

    Raises:
        ConfigError, DataError, BackendError: a side is not there, or cannot be compared.
    """
    sides = [spec.name for spec in (job.base, job.tuned) if spec is not None]
    for name in (name for name in sides if name.startswith(EARLIER)):
        plan = plans.get(name.removeprefix(EARLIER))
        if (plan is None or plan.gives != "model") and "answers" not in named_step(name, plans, "answers").more:
            raise ConfigError(f"gate: {name} asks no probes, so there are no answers to compare")
    if not any(name.startswith(EARLIER) for name in sides):
        job.check()


def _with_files(job: GateJob, results: Mapping[str, Result]) -> GateJob:
    """The gate with what the earlier entries that it names made: saved answers, or a model."""
    changes: dict[str, object] = {}
    for side, spec in (("base", job.base), ("tuned", job.tuned)):
        if spec is not None and spec.name.startswith(EARLIER):
            entry = spec.name.removeprefix(EARLIER)
            made = results[entry]
            changes[side] = spec.model_copy(update={"name": str(made.path if isinstance(made, TrainedModel) else made.out)})
    return job.model_copy(update=changes)
