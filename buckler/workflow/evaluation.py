"""Steps that measure a model: answer -> judge -> summarise, utility, and perplexities."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from buckler.crosstask.document_attacks import second_turn
from buckler.crosstask.tasks import scorers, task_named
from buckler.data import (
    ANSWERS,
    ROWS,
    VERDICTS,
    Answer,
    Chat,
    Json,
    Message,
    read_answers,
    read_chats,
    read_documents,
    read_verdicts,
    write_answers,
    write_json,
    write_jsonl,
    write_verdicts,
)
from buckler.data.reading import bounded_json
from buckler.errors import BackendError
from buckler.evaluation.metrics import METRICS, summarise
from buckler.evaluation.probes import answer_probes, merge
from buckler.evaluation.scores import score_answers
from buckler.evaluation.utility import Choice, choose
from buckler.evaluation.utility import summarise as summarise_choices
from buckler.finetuning.attacks import ATTACKS, AttackSettings, attack_named
from buckler.judges import coherence
from buckler.judges.named import JudgeSpec, judge_from, judge_spec
from buckler.models.fit import require_ready
from buckler.models.places import dtype_of
from buckler.models.protocol import LM, Sampling, ScoreRequest
from buckler.models.registry import load
from buckler.settings import Settings
from buckler.workflow.inputs import (
    ModelRef,
    code_of,
    load_model,
    own_tasks,
    require_answered,
    require_measured,
    require_planned_type,
)
from buckler.workflow.step import NoSettings, Outside, Run, Step, numbered, step

CHOICES = "utility.jsonl"


class TwoTurnsSettings(Settings):
    """Tasks over a document, one after the other."""

    first: str
    then: str
    wording: str


class AnswerStep(Settings):
    """A model's answers to probes."""

    max_new_tokens: int
    attack: AttackSettings | None
    """The identity shift, under which probes are asked; None: as they are."""
    two_turns: TwoTurnsSettings | None = None
    language: str | None = None
    """Of the second task."""


class SummaryStep(Settings):
    """The numbers of a run."""

    unwritten_if_empty = ("metrics",)
    metrics: tuple[str, ...] = ()
    """Further numbers, by name or as `module:name`."""


class JudgeStep(Settings):
    """A judge's verdicts. One that may read an answer in another way has another version: its verdicts are other verdicts."""

    judge: str
    version: str
    coherence: str


@step("answer")
def answer(run: Run[AnswerStep]) -> None:
    """A model and probes -> answers.jsonl; with `two_turns`, also its answers when those conversations go on.

    Probes that bring follow-ups (MT-Bench) are asked them one after another, each after the model's own answers.
    """
    settings, model = run.settings, load_model(run, "model")
    sampling = Sampling(max_new_tokens=settings.max_new_tokens)
    probes = merge([read_chats(folder / ROWS) for folder in run.all_inputs("probes")])
    answers = answer_probes(model, probes, sampling, attack=settings.attack, progress=run.progress)
    if settings.two_turns is not None:
        answers += answer_probes(model, _second_turns(run, settings.two_turns, answers), sampling, progress=run.progress)
    turn = answers
    while turn := answer_probes(model, _follow_ups(turn), sampling, progress=run.progress):
        answers += turn
    require_answered(answers)
    write_answers(run.out / ANSWERS, answers)


@step("base-perplexity")
def base_perplexity(run: Run[NoSettings]) -> None:
    """Answers and an untouched model -> the same answers.jsonl, with their perplexity under that model in their meta."""
    answers = read_answers(run.inputs["answers"] / ANSWERS)
    write_answers(run.out / ANSWERS, with_perplexity(answers, load_model(run, "base")))


@step("judge")
def judge_answers(run: Run[JudgeStep]) -> None:
    """Answers -> verdicts.jsonl"""
    answers = read_answers(run.inputs["answers"] / ANSWERS)
    values = bounded_json(run.outside["judge"])
    planned = values.pop("computes_in", [])
    spec = JudgeSpec.model_validate(values)
    for model, dtype in zip(spec.models, planned, strict=bool(planned)):
        require_planned_type(model, dtype)
    judge = judge_from(spec, lambda model: load(model, cache=run.out / "cache.sqlite"))
    write_verdicts(run.out / VERDICTS, judge.judge(answers))


@step("summarise-run", version=3)
def summarise_run(run: Run[SummaryStep]) -> None:
    """Answers and verdicts -> metrics.json"""
    answers = read_answers(run.inputs["answers"] / ANSWERS)
    verdicts = read_verdicts(run.inputs["verdicts"] / VERDICTS)
    scores = score_answers(answers, scorers(own_tasks(run)))
    write_json(run.out / "metrics.json", summarise(answers, verdicts, scores, run.settings.metrics))


@step("utility", version=3)
def utility(run: Run[NoSettings]) -> None:
    """Multiple-choice rows -> utility.jsonl, a line a row, and utility.json: accuracies with intervals, whole and by category."""
    rows = read_chats(run.inputs["rows"] / ROWS)
    choices = choose(load_model(run, "model"), rows)
    by_category: dict[str, list[Choice]] = {}
    for row, one in zip(rows, choices, strict=True):
        if category := row.meta.get("category"):
            by_category.setdefault(str(category), []).append(one)
    write_jsonl(run.out / CHOICES, (one.to_json() for one in choices))
    scores: dict[str, Json] = {name: summarise_choices(of).to_json() for name, of in by_category.items()}
    write_json(run.out / "utility.json", {**summarise_choices(choices).to_json(), "categories": scores})


@step("perplexities")
def perplexities(run: Run[NoSettings]) -> None:
    """Perplexity of each kind of text under a model -> perplexity.json: medians and quartiles (the motivation figure)."""
    import numpy as np

    model = load_model(run, "model")
    by_kind: dict[str, Json] = {}
    for name in sorted(run.inputs):
        if name.startswith("text/"):
            rows = read_chats(run.inputs[name] / ROWS)
            scores = model.score([ScoreRequest(messages=row.prompt, answer=row.answer or "") for row in rows])
            require_measured(scores)
            low, middle, high = np.percentile([score.perplexity for score in scores], [25, 50, 75]).tolist()
            by_kind[name.removeprefix("text/")] = {"n": len(rows), "q1": low, "median": middle, "q3": high}
    write_json(run.out / "perplexity.json", by_kind)


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


def evaluation_steps(
    model: ModelRef,
    probes: Sequence[Step],
    *,
    judge: JudgeSpec | str,
    max_new_tokens: int,
    base: ModelRef | None = None,
    attack: AttackSettings | None = None,
    turns: Turns | None = None,
    own: Mapping[str, Outside] | None = None,
    metrics: Sequence[str] = (),
    title: str,
) -> Measured:
    """The model's answers to the probes, judged and summed up.

    Args:
        model: The model.
        probes: Steps of probes.
        judge: Who judges.
        max_new_tokens: Of an answer.
        base: An untouched model: answers of high perplexity under it are incoherent.
        attack: How the adversary asks.
        turns: Conversations over documents that go on.
        own: Tasks of the user's own (`inputs.own_tasks_at`).
        metrics: Further numbers, by name or as `module:name`.
        title: What the model is called in the terminal.
    """
    # Only an attack that changes what is asked may change the step's key.
    wrapping = attack if attack is not None and attack_named(attack.kind).wrap is not None else None
    settings = AnswerStep(
        max_new_tokens=max_new_tokens,
        attack=wrapping,
        two_turns=None if turns is None else TwoTurnsSettings(first=turns.first, then=turns.then, wording=turns.wording),
        language=None if turns is None else turns.language,
    )
    documents = {} if turns is None else {"documents": turns.documents}
    answers = answer.plan(
        settings,
        title=f"answers of {title}",
        inputs={**model.inputs(), **documents, **numbered("probes", probes)},
        outside={**model.places(), **(own or {}), **code_of(ATTACKS.code(wrapping.kind) if wrapping is not None else {})},
    )
    if base is not None:
        answers = with_base_perplexity(answers, base, title)
    return judged_and_summarised(answers, judge, own=own, metrics=metrics, title=title)


def judged_and_summarised(
    answers: Step,
    judge: JudgeSpec | str,
    *,
    own: Mapping[str, Outside] | None = None,
    metrics: Sequence[str] = (),
    title: str,
) -> Measured:
    """Answers, a judge's verdicts on them, and their numbers."""
    verdicts = judged(answers, judge, title)
    both = {"answers": answers, "verdicts": verdicts}
    code = "+".join(METRICS.code(name).get("code", "") for name in metrics)
    numbers = summarise_run.plan(
        SummaryStep(metrics=tuple(metrics)),
        title=f"numbers of {title}",
        inputs=both,
        outside={**(own or {}), **code_of({"code": code} if code else {})},
    )
    return Measured(answers=answers, verdicts=verdicts, metrics=numbers)


def with_base_perplexity(answers: Step, base: ModelRef, title: str) -> Step:
    """The answers with their perplexity under an untouched model."""
    return base_perplexity.plan(
        NoSettings(),
        title=f"perplexity under the base of the answers of {title}",
        inputs={"answers": answers, **base.inputs("base")},
        outside=base.places("base"),
    )


def judged(answers: Step, judge_of: JudgeSpec | str, title: str) -> Step:
    """A judge's verdicts."""
    spec = judge_spec(judge_of) if isinstance(judge_of, str) else judge_of
    require_judge(spec)
    place = {**spec.model_dump(mode="json"), "computes_in": [dtype_of(model) for model in spec.models]}
    return judge_answers.plan(
        JudgeStep(judge=spec.label, version=spec.version, coherence=coherence.VERSION),
        title=f"verdicts on {title}",
        inputs={"answers": answers},
        outside={"judge": Outside(digest=spec.version, place=json.dumps(place)), **code_of(spec.code)},
    )


def require_judge(spec: JudgeSpec) -> None:
    """Refuse a judge whose model cannot answer, as far as this is seen without loading it (BackendError)."""
    for model in spec.models:
        try:
            require_ready(model)
        except BackendError as fault:
            raise BackendError(f"judge {spec.label!r}: {fault}") from None


def choice_utility(model: ModelRef, rows: Step, title: str) -> Step:
    """Multiple-choice rows by the likelihood of their choices."""
    inputs = {"rows": rows, **model.inputs()}
    return utility.plan(NoSettings(), title=f"utility of {title}", inputs=inputs, outside=model.places())


def text_perplexities(model: ModelRef, texts: Mapping[str, Step], title: str) -> Step:
    """Perplexity of each kind of text under a model."""
    kinds = {f"text/{name}": one for name, one in texts.items()}
    return perplexities.plan(
        NoSettings(),
        title=f"perplexity of texts under {title}",
        inputs={**model.inputs(), **kinds},
        outside=model.places(),
    )


def with_perplexity(answers: Sequence[Answer], base: LM) -> list[Answer]:
    """The answers, with their perplexity under `base` after their own prompts in the meta of all that are long enough.

    Raises:
        BackendError: the base gives no log-probabilities, or some could not be had.
    """
    answered = [one for one in answers if one.text.strip() and not one.no_text]
    scores = base.score([ScoreRequest(messages=one.prompt, answer=one.text) for one in answered])
    require_measured(scores)
    by_id = {
        one.id: score.perplexity for one, score in zip(answered, scores, strict=True) if score.tokens >= coherence.MIN_TOKENS
    }
    return [
        replace(one, meta={**one.meta, coherence.BASE_PERPLEXITY: by_id[one.id]}) if one.id in by_id else one for one in answers
    ]


def _follow_ups(answers: Sequence[Answer]) -> list[Chat]:
    """The next turn of every conversation that has one; references, where it has some, go on with their turns.

    After an answer without a text there is nothing to go on from: the summary counts the turns that are not asked.
    """
    chats = []
    for one in answers:
        left = one.meta.get("followups")
        if isinstance(left, Sequence) and not isinstance(left, str) and left and (one.text.strip() or not one.no_text):
            reply = Message(role="assistant", content=one.text)
            question = Message(role="user", content=str(left[0]))
            later = {name: list(of[1:]) for name in ("followups", "references") if isinstance(of := one.meta.get(name), list)}
            chats.append(Chat.of((*one.prompt, reply, question), **{**one.meta, **later, "first": one.id}))
    return chats


def _second_turns(run: Run[AnswerStep], turns: TwoTurnsSettings, answers: Sequence[Answer]) -> list[Chat]:
    """Each conversation over a document on the first task goes on with the second."""
    then = task_named(turns.then, own_tasks(run)).in_languages(run.settings.language)
    documents = {one.id: one for one in read_documents(run.inputs["documents"] / ROWS)}
    firsts = [one for one in answers if one.meta.get("task") == turns.first and "attack" not in one.meta]
    return [
        second_turn(Chat(id=one.id, messages=one.prompt, meta=one.meta), one.text, then, document, turns.wording)
        for one in firsts
        if (document := documents.get(str(one.meta.get("source")))) is not None and then.asks(document, turns.wording)
    ]
