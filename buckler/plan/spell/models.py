"""Steps with a model, spelled: training, answering, judging, measuring."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from buckler.data import Json
from buckler.errors import ConfigError
from buckler.evaluation.metrics import METRICS
from buckler.finetuning.attacks import ATTACKS, AttackSettings, attack_named
from buckler.finetuning.train import TrainSettings
from buckler.judges import coherence
from buckler.judges.named import JudgeSpec, judge_spec
from buckler.plan.spell.common import Model, numbered, spelled, step_of
from buckler.plan.spell.documents import OwnTasks
from buckler.steps.official import harness_version
from buckler.workflow.sources import Source, fingerprint
from buckler.workflow.store import Step


@dataclass(frozen=True, slots=True, kw_only=True)
class Turns:
    """A conversation over a document that goes on: after the first task, the second."""

    documents: Step
    first: str
    then: str
    wording: str
    language: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """The three steps that measure a model, with a file after each."""

    answers: Step
    verdicts: Step
    metrics: Step


def train(settings: TrainSettings, model: Model, training: Sequence[Step], seed: int, title: str) -> Step:
    """One training phase.

    Raises:
        ConfigError: the model is one that a server keeps.
    """
    if model.spec is not None and model.spec.is_own:
        raise ConfigError(
            f"{model.spec.name} is a model of backend {model.spec.backend_name}; training needs a folder or a hub id"
        )
    if model.spec is not None and model.spec.endpoint:
        raise ConfigError(
            f"{model.spec.name} is served by {model.spec.endpoint}; training needs the weights: a folder or a hub id"
        )
    params, inputs, paths = model.use()
    params = {"train": spelled(settings), "seed": seed, **params}
    step = step_of("models.train", title, params=params, inputs={**inputs, **numbered("rows", training)}, paths=paths)
    return replace(step, processes=settings.processes)


def measured(
    model: Model,
    probes: Sequence[Step],
    *,
    judge: JudgeSpec | str,
    max_new_tokens: int,
    base: Model | None = None,
    attack: AttackSettings | None = None,
    turns: Turns | None = None,
    own: OwnTasks = OwnTasks(),
    metrics: Sequence[str] = (),
    title: str,
) -> Measured:
    """The model's answers to the probes, judged and summed up; with `turns`, conversations over documents go on.

    With `base`, an untouched model, answers that it takes for noise are incoherent.
    """
    params, inputs, paths = model.use()
    more, own_paths = own.use()
    # Only an attack that changes what is asked may change the step's name.
    wraps = attack is not None and attack_named(attack.kind).wrap is not None
    asked: dict[str, Json] = {"sampling": {"max_new_tokens": max_new_tokens}, "attack": None}
    if attack is not None and wraps:
        asked |= {"attack": spelled(attack), **ATTACKS.code(attack.kind)}
    if turns is not None:
        asked |= {"two_turns": {"first": turns.first, "then": turns.then, "wording": turns.wording}, "language": turns.language}
        inputs = {**inputs, "documents": turns.documents}
    answers = step_of(
        "models.answer",
        f"answers of {title}",
        params={**asked, **params, **more},
        inputs={**inputs, **numbered("probes", probes)},
        paths=paths | own_paths,
    )
    if base is not None:
        answers = under_base(answers, base, title)
    verdicts = judged(answers, judge, title)
    both = {"answers": answers, "verdicts": verdicts}
    if metrics:
        more = {**more, "metrics": list(metrics), "code": [METRICS.code(name).get("code") for name in metrics]}
    summed = step_of("models.summarise_run", f"numbers of {title}", params=more, inputs=both, paths=own_paths)
    return Measured(answers=answers, verdicts=verdicts, metrics=summed)


def under_base(answers: Step, base: Model, title: str) -> Step:
    """The answers with their perplexity under an untouched model."""
    params, inputs, paths = base.use("base")
    name = f"perplexity under the base of the answers of {title}"
    return step_of("models.under_base", name, params=params, inputs={"answers": answers, **inputs}, paths=paths)


def judged(answers: Step, judge: JudgeSpec | str, title: str) -> Step:
    """A judge's verdicts. One that reads otherwise than it did has another version: its verdicts are other verdicts."""
    judge = judge_spec(judge) if isinstance(judge, str) else judge
    params: dict[str, Json] = {"judge": judge.label, "version": judge.version, "coherence": coherence.VERSION, **judge.code}
    paths = {"judge": judge.model_dump_json()}
    return step_of("models.judge", f"verdicts on {title}", params=params, inputs={"answers": answers}, paths=paths)


def utility(model: Model, rows: Step, title: str) -> Step:
    """Multiple-choice rows by the likelihood of their choices."""
    params, inputs, paths = model.use()
    return step_of("models.utility", f"utility of {title}", params=params, inputs={"rows": rows, **inputs}, paths=paths)


def official(model: Model, tasks: Sequence[str], folder: str | None, limit: int | None) -> Step:
    """The numbers of lm-evaluation-harness in its version; `folder` holds tasks of the user's own, and its content is hashed.

    Raises:
        ConfigError: the harness is not installed.
    """
    params, inputs, paths = model.use()
    params = {"tasks": list(tasks), "limit": limit, "harness": harness_version(), **params}
    if folder is not None:
        params, paths = params | {"folder": fingerprint(Source(source=folder))["source"]}, {**paths, "tasks": folder}
    return step_of("official.official", f"official {', '.join(tasks)}", params=params, inputs=inputs, paths=paths)


def perplexities(model: Model, texts: Mapping[str, Step], title: str) -> Step:
    """Perplexity of each kind of text under a model."""
    params, inputs, paths = model.use()
    kinds = {f"text/{name}": step for name, step in texts.items()}
    return step_of(
        "models.perplexities", f"perplexity of texts under {title}", params=params, inputs={**inputs, **kinds}, paths=paths
    )
