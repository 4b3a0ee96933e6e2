"""Everything the report shows of an experiment, from the files of finished steps, or again from saved results."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path

from pydantic import RootModel

from buckler import __version__
from buckler.crosstask.task import MOST_MISUSED_TASK
from buckler.crosstask.tasks import read_tasks, scorers
from buckler.data import ANSWERS, VERDICTS, Answer, Json, Verdict, content_id, read_answers, read_json, read_verdicts
from buckler.errors import DataError
from buckler.evaluation.metrics import summarise
from buckler.evaluation.scores import score_answers
from buckler.experiments.base import Arm, CommonRecipe, MeasuredArm, Plan
from buckler.experiments.comparisons import differences, over_seeds
from buckler.experiments.judge_reliability import RunJudge, judge_again, judge_card, judge_of
from buckler.experiments.registry import experiment_of
from buckler.experiments.results import (
    ArmResult,
    MostMisusedResult,
    PhraseRule,
    Record,
    RunResult,
    SampleResult,
    Saved,
    SearchResult,
    SpreadResult,
    StepKeys,
    TrainingResult,
)
from buckler.judges.named import JudgeSpec, judge_spec
from buckler.models.registry import identity
from buckler.settings import read_as
from buckler.workflow.documents import most_misused_task
from buckler.workflow.evaluation import Measured
from buckler.workflow.jobs.base import read_object
from buckler.workflow.step import Step, in_order
from buckler.workflow.store import Store

SAMPLES = 2
"""Answers shown for each arm and probe set."""
PACKAGES = ("torch", "transformers", "tokenizers", "peft", "accelerate", "numpy", "scipy")


def collect(recipe: CommonRecipe, plan: Plan, store: Store, search: Sequence[SearchResult] | None = None) -> RunResult:
    """Everything the report shows, recomputed from the files of finished steps.

    Args:
        recipe: what was run.
        plan: its steps, every one finished.
        store: where they left their files.
        search: the course of each search, where the recipe asks for one.
    """
    arms = [_measured(arm, store) for arm in plan.arms]
    result = RunResult(
        name=recipe.name,
        kind=recipe.kind,
        about=recipe.about,
        seeds=list(recipe.seeds),
        arms=[_arm_result(arm, one.metrics, store) for arm, one in zip(plan.arms, arms, strict=True)],
        perplexity={
            name: read_as(_Spreads, file).root for name, file in _figures(plan, store, "perplexity/", "perplexity.json").items()
        },
        curation={name: read_json(file) for name, file in _figures(plan, store, "curated/", "counts.json").items()},
        most_misused=_most_misused_task(plan.arms, store),
        record=record(recipe),
    )
    result = result.model_copy(update=_derived(recipe.kind, recipe.seeds, arms, judge_of(recipe)))
    return result if search is None else result.model_copy(update={"search": list(search)})


def collect_again(results: RunResult, store: Store) -> RunResult:
    """Saved results with every number that comes from answers computed anew: from the stored answers and verdicts, no model.

    What training and curation left, perplexities and the course of a search are kept as they were saved; so is what the authors'
    phrases say of results that do not name the steps which judged by them.

    Raises:
        DataError: answers or verdicts are not there, or no longer belong together; the results were saved by a version that did
            not keep what is needed.
    """
    name, card = results.record.judge.get("name"), results.judge_card
    needed = {
        "record": "record" in results.model_fields_set,
        "judge": name is not None,
        "judge_card": "judge_card" in results.model_fields_set,
        "agreement": card is None or "agreement" in card.model_fields_set,
        "steps": all(saved.steps is not None for saved in results.arms),
        "seeds": bool(results.seeds),
        "labels": _labelled_alike(results),
    }
    for part, there in needed.items():
        if not there:
            raise DataError(f"results of {results.name}: {part!r} is missing; run the recipe again")
    own = results.record.recipe.get("tasks_file", results.record.recipe.get("own_tasks"))
    by_task = scorers(read_tasks(Path(own)) if isinstance(own, str) else None)
    named = results.record.recipe.get("metrics")
    further = [str(name) for name in named] if isinstance(named, list) else []
    arms: list[MeasuredArm] = []
    for saved in results.arms:
        assert saved.steps is not None
        answers, verdicts = _files(store, saved.steps.answers, saved.steps.verdicts)
        read, second = read_answers(answers), saved.steps.second_verdicts
        metrics = summarise(read, read_verdicts(verdicts), score_answers(read, by_task), further)
        arms.append(
            MeasuredArm(
                labels=saved.labels,
                answers_file=answers,
                verdicts_file=verdicts,
                metrics=metrics,
                second_verdicts=None if second is None else _Stored(store.folder(second) / VERDICTS),
            )
        )
    again = [one.model_copy(update={"metrics": dict(arm.metrics)}) for one, arm in zip(results.arms, arms, strict=True)]
    derived = _derived(results.kind, results.seeds, arms, judge_again(str(name), results.judge_card))
    if all(arm.second_verdicts is None for arm in arms):
        derived["paper_rule"] = results.paper_rule
    return results.model_copy(update={"arms": again, **derived})


def _labelled_alike(results: RunResult) -> bool:
    """Whether all arms have the same labels, a seed among them; the rows have them without it."""
    arms = {frozenset(one.labels) for one in results.arms} | {frozenset((*one.labels, "seed")) for one in results.rows}
    return len(arms) <= 1 and all(isinstance(one.labels.get("seed"), int) for one in results.arms)


def _derived(kind: str, seeds: Sequence[int], arms: Sequence[MeasuredArm], judge: RunJudge) -> dict[str, object]:
    """The parts of results that follow from the arms' answers, verdicts and metrics."""
    experiment, rows = experiment_of(kind), over_seeds(arms)
    compare = experiment.phrase_rule
    return {
        "rows": rows,
        "differences": differences(experiment.pairs, arms),
        "paper_rule": PhraseRule() if compare is None else compare(arms, seeds[0], judge.name),
        "judge_card": judge_card(judge, rows),
        "samples": [one for arm in arms if arm.seed == seeds[0] for one in _samples(arm)],
    }


def read_metrics(measured: Measured, store: Store) -> Mapping[str, Json]:
    """The numbers of a finished measurement."""
    return read_object(store.folder(measured.metrics) / "metrics.json")


def _files(store: Store, answers: Step | str, verdicts: Step | str) -> tuple[Path, Path]:
    """The answers and the verdicts that these steps, or the steps of these keys, left in the store."""
    return store.folder(answers) / ANSWERS, store.folder(verdicts) / VERDICTS


def _measured(arm: Arm, store: Store) -> MeasuredArm:
    """An arm whose steps are finished."""
    answers, verdicts = _files(store, arm.measured.answers, arm.measured.verdicts)
    second = arm.second_verdicts
    return MeasuredArm(
        labels=arm.labels,
        answers_file=answers,
        verdicts_file=verdicts,
        metrics=read_metrics(arm.measured, store),
        second_verdicts=None if second is None else _Stored(store.folder(second) / VERDICTS),
    )


class _Stored:
    """Verdicts that a judging step left."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, answers: Sequence[Answer]) -> list[Verdict]:
        by_id = {one.id: one for one in read_verdicts(self.path)}
        if missing := [answer.id for answer in answers if answer.id not in by_id]:
            raise DataError(f"{self.path}: no verdict on answer {missing[0]}; run the recipe again")
        return [by_id[answer.id] for answer in answers]


_Spreads = RootModel[dict[str, SpreadResult]]


class _Training(Saved):
    """What is read of `training.json`."""

    rows: int
    cut: list[object]
    dropped: list[object]
    steps: int


def _arm_result(arm: Arm, metrics: Mapping[str, Json], store: Store) -> ArmResult:
    """An arm as results keep it: its labels, numbers, training, and the keys of the steps that measured it."""
    training = []
    for phase in arm.phases:
        seen = read_as(_Training, store.folder(phase) / "training.json")
        training.append(TrainingResult(rows=seen.rows, cut=len(seen.cut), dropped=len(seen.dropped), steps=seen.steps))
    measured, second = arm.measured, arm.second_verdicts
    steps = {"answers": measured.answers, "verdicts": measured.verdicts, "metrics": measured.metrics}
    steps |= {} if second is None else {"second_verdicts": second}
    keys = StepKeys.model_validate({name: store.folder(step).name for name, step in steps.items()})
    return ArmResult(labels=dict(arm.labels), metrics=dict(metrics), training=training, steps=keys)


def _figures(plan: Plan, store: Store, prefix: str, file: str) -> dict[str, Path]:
    """The `file` that each of the plan's figures of this prefix left, by the rest of their name."""
    return {
        name.removeprefix(prefix): store.folder(step) / file for name, step in plan.figures.items() if name.startswith(prefix)
    }


def _most_misused_task(arms: Sequence[Arm], store: Store) -> list[MostMisusedResult]:
    """What `most_misused_task` stood for, by model and seed, with the process rates on training documents that named it."""
    by_model: dict[tuple[str | int, int], MostMisusedResult] = {}
    for arm in (one for one in arms if one.labels.get("trained on") == MOST_MISUSED_TASK):
        step = next(step for step in in_order(arm.phases) if step.name == most_misused_task.name)
        named = read_object(store.folder(step) / "weakest.json")
        model, seed = arm.labels["model"], int(arm.labels["seed"])
        by_model[model, seed] = MostMisusedResult.model_validate({"model": model, "seed": seed, **named})
    return list(by_model.values())


def _samples(arm: MeasuredArm) -> list[SampleResult]:
    """A few answers of an arm with their verdicts, for people to read."""
    verdicts = arm.verdicts()
    shown: dict[str, int] = {}
    samples = []
    for one in arm.answers():
        kind = str(one.meta.get("set"))
        shown[kind] = shown.get(kind, 0) + 1
        if shown[kind] <= SAMPLES:
            samples.append(arm.sample(one, verdicts[one.id]))
    return samples


def record(recipe: CommonRecipe) -> Record:
    """How it was made: the recipe with its controls written out, what each model is by content, judge and versions."""
    values = recipe.recorded()
    return Record(
        buckler=__version__,
        python=platform.python_version(),
        libraries={name: metadata.version(name) for name in PACKAGES},
        judge=_judge(judge_spec(recipe.judge)),
        models={name: identity(spec) for name, spec in recipe.models.items()},
        recipe=values,
        recipe_id=content_id(values),
    )


def _judge(judge: JudgeSpec) -> dict[str, Json]:
    """Name, version, and where it is made of models, what these are by content."""
    models: dict[str, Json] = {spec.name: identity(spec) for spec in judge.models}
    return {"name": judge.label, "version": judge.version, **({"models": models} if models else {})}
