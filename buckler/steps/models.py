"""Steps with a model: train -> answer -> judge -> summarise, and perplexities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import cast

from buckler.crosstask.document_attacks import second_turn
from buckler.crosstask.tasks import task_named
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
from buckler.evaluation.generate import answer_probes
from buckler.evaluation.metrics import summarise
from buckler.evaluation.scores import score_answers
from buckler.evaluation.utility import Choice, choose, scorers
from buckler.evaluation.utility import summarise as summarise_choices
from buckler.finetuning.attacks import AttackSettings
from buckler.finetuning.train import TrainSettings
from buckler.finetuning.train import train as train_model
from buckler.judges.coherence import BASE_PERPLEXITY, MIN_TOKENS
from buckler.judges.named import JudgeSpec, judge_from
from buckler.models.protocol import LM, Sampling, ScoreRequest
from buckler.models.registry import load
from buckler.steps import common
from buckler.steps.documents import own_tasks
from buckler.workflow.store import Context


def train(context: Context) -> None:
    """Rows and a model -> a model folder."""
    rows = common.all_rows(context, "rows")
    settings = TrainSettings.model_validate(context.params["train"])
    train_model(common.spec(context, "model"), rows, settings, context.out, seed=common.seed(context), progress=context.progress)


def answer(context: Context) -> None:
    """A model and probes -> answers.jsonl; with `two_turns`, also its answers when those conversations go on.

    Probes that bring follow-ups (MT-Bench) are asked them one after another, each after the model's own answers.
    """
    attack_settings = context.params.get("attack")
    model = common.model(context, "model")
    sampling = Sampling(**cast(dict[str, int], context.params["sampling"]))
    answers = answer_probes(
        model,
        common.all_rows(context, "probes"),
        sampling,
        attack=AttackSettings.model_validate(attack_settings) if attack_settings else None,
        progress=context.progress,
    )
    if context.params.get("two_turns"):
        answers += answer_probes(model, _second_turns(context, answers), sampling, progress=context.progress)
    turn = answers
    while turn := answer_probes(model, _follow_ups(turn), sampling, progress=context.progress):
        answers += turn
    common.require_answered(answers)
    write_answers(context.out / ANSWERS, answers)


def _follow_ups(answers: Sequence[Answer]) -> list[Chat]:
    """The next turn of every conversation that has one; references, where it has some, go on with their turns."""
    found = []
    for one in answers:
        left = one.meta.get("followups")
        if isinstance(left, Sequence) and not isinstance(left, str) and left and one.finish != "failed":
            said = Message(role="assistant", content=one.text)
            asked = Message(role="user", content=str(left[0]))
            later = {name: list(of[1:]) for name in ("followups", "references") if isinstance(of := one.meta.get(name), list)}
            found.append(Chat.of((*one.prompt, said, asked), **{**one.meta, **later, "first": one.id}))
    return found


def _second_turns(context: Context, answers: Sequence[Answer]) -> list[Chat]:
    """Each conversation over a document on the first task goes on with the second."""
    turns = cast("Mapping[str, str]", context.params["two_turns"])
    then = task_named(turns["then"], own_tasks(context)).in_languages(cast("str | None", context.params.get("language")))
    documents = {one.id: one for one in read_documents(context.inputs["documents"] / ROWS)}
    firsts = [one for one in answers if one.meta.get("task") == turns["first"] and "attack" not in one.meta]
    return [
        second_turn(Chat(id=one.id, messages=one.prompt, meta=one.meta), one.text, then, document, turns["wording"])
        for one in firsts
        if (document := documents.get(str(one.meta.get("source")))) is not None and then.asks(document, turns["wording"])
    ]


def under_base(context: Context) -> None:
    """Answers and an untouched model -> the same answers.jsonl, with what each costs that model in its meta."""
    answers = read_answers(context.inputs["answers"] / ANSWERS)
    write_answers(context.out / ANSWERS, with_perplexity(answers, common.model(context, "base")))


def with_perplexity(answers: Sequence[Answer], base: LM) -> list[Answer]:
    """The answers, with their perplexity under `base` after their own prompts in the meta of all that are long enough.

    Raises:
        BackendError: the base gives no log-probabilities, or some could not be had.
    """
    asked = [one for one in answers if one.finish != "failed" and one.text.strip()]
    scores = base.score([ScoreRequest(messages=one.prompt, answer=one.text) for one in asked])
    common.require_measured(scores)
    found = {one.id: score.perplexity for one, score in zip(asked, scores, strict=True) if score.tokens >= MIN_TOKENS}
    return [replace(one, meta={**one.meta, BASE_PERPLEXITY: found[one.id]}) if one.id in found else one for one in answers]


def judge(context: Context) -> None:
    """Answers -> verdicts.jsonl"""
    answers = read_answers(context.inputs["answers"] / ANSWERS)
    spec = JudgeSpec.model_validate_json(context.paths["judge"])
    judge = judge_from(spec, lambda model: load(model, cache=context.out / "cache.sqlite"))
    write_verdicts(context.out / VERDICTS, judge.judge(answers))


def summarise_run(context: Context) -> None:
    """Answers and verdicts -> metrics.json"""
    answers = read_answers(context.inputs["answers"] / ANSWERS)
    verdicts = read_verdicts(context.inputs["verdicts"] / VERDICTS)
    scores = score_answers(answers, scorers(own_tasks(context)))
    write_json(context.out / "metrics.json", summarise(answers, verdicts, scores))


def utility(context: Context) -> None:
    """Multiple-choice rows -> utility.jsonl, a line a row, and utility.json: accuracies with intervals, whole and by category."""
    rows = read_chats(context.inputs["rows"] / ROWS)
    found = choose(common.model(context, "model"), rows)
    by_category: dict[str, list[Choice]] = {}
    for row, one in zip(rows, found, strict=True):
        if category := row.meta.get("category"):
            by_category.setdefault(str(category), []).append(one)
    write_jsonl(context.out / "utility.jsonl", (one.to_json() for one in found))
    scores: dict[str, Json] = {name: summarise_choices(of).to_json() for name, of in by_category.items()}
    write_json(context.out / "utility.json", {**summarise_choices(found).to_json(), "categories": scores})


def perplexities(context: Context) -> None:
    """Perplexity of each kind of text under a model -> perplexity.json: medians and quartiles (the motivation figure)."""
    import numpy as np

    model = common.model(context, "model")
    found: dict[str, Json] = {}
    for name in sorted(context.inputs):
        if name.startswith("text/"):
            rows = read_chats(context.inputs[name] / ROWS)
            scores = model.score([ScoreRequest(messages=row.prompt, answer=row.answer or "") for row in rows])
            common.require_measured(scores)
            low, middle, high = np.percentile([one.perplexity for one in scores], [25, 50, 75]).tolist()
            found[name.removeprefix("text/")] = {"n": len(rows), "q1": low, "median": middle, "q3": high}
    write_json(context.out / "perplexity.json", found)
