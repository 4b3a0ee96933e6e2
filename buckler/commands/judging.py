"""Judges: measure one against people, judge saved answers again, recompute saved results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

from buckler.commands import common
from buckler.commands.models import say_metrics
from buckler.crosstask.own_tasks import read_tasks
from buckler.data import VERDICTS, Json, Verdict, read_answers, read_json, write_json, write_verdicts
from buckler.errors import DataError
from buckler.evaluation.metrics import summarise
from buckler.evaluation.scores import score_answers
from buckler.evaluation.utility import scorers
from buckler.judges.card import card_path, make_card, write_card
from buckler.judges.labels import file_names, read_labels
from buckler.judges.named import JudgeSpec, judge_from
from buckler.models.protocol import LM, ModelSpec
from buckler.models.registry import load
from buckler.results.assemble import collect_again
from buckler.workflow.store import Store


def judge_card(spec: JudgeSpec, labels: Sequence[Path], out: Path) -> None:
    """Labelled answers, judged and compared -> one card a judge's version, as JSON and Markdown."""
    rows, without = read_labels(labels)
    models = [model.name for model in spec.models]

    def cached(model: ModelSpec) -> LM:
        return load(model, cache=out / common.WORK / "judge-cache.sqlite")

    judge = judge_from(spec, cached)
    verdicts = judge.judge([row.answer for row in rows])
    names = file_names(labels)
    card = make_card(judge.name, judge.version, rows, verdicts, labels=names, models=models, without_label=without)
    for line in card.lines():
        common.say(line)
    replaced = card_path(out, card.judge, card.version).exists()
    for path in write_card(card, out):
        common.say(f"{'replaced' if replaced else 'wrote'} {path}")


def recompute(results: Mapping[str, Json], store: Path, out: Path) -> dict[str, Json]:
    """Saved results, every number computed anew from the answers and verdicts in the store -> `results-NAME.json`."""
    found = collect_again(results, Store(store))
    path = out / f"results-{results['name']}.json"
    write_json(path, found)
    again = cast("dict[str, Json]", read_json(path))
    other = [name for name in again if again[name] != results.get(name)]
    told = f"not as saved: {', '.join(other)}" if other else "as saved"
    common.say(f"{results['name']}: all that comes from answers and verdicts computed anew, {told}")
    return again


def judge_again(spec: JudgeSpec, answers: Sequence[Path], out: Path, *, cards: Path, own_tasks: Path | None) -> None:
    """Saved answers, without the model that gave them -> `verdicts.jsonl`, `metrics.json` and a table.

    Raises:
        DataError: there is no answer, or they cannot be summed up; nothing has been judged yet.
    """
    given = [one for path in answers for one in read_answers(path)]
    if not given:
        raise DataError(f"{', '.join(map(str, answers))}: no answers")
    scores = score_answers(given, scorers(read_tasks(own_tasks) if own_tasks else None))
    summarise(given, [Verdict(id=one.id) for one in given], scores)
    judge = judge_from(spec, lambda model: load(model, cache=out / common.WORK / "judge-cache.sqlite"))
    verdicts = judge.judge(given)
    write_verdicts(out / VERDICTS, verdicts)
    write_json(out / "metrics.json", summarise(given, verdicts, scores))
    common.say(f"{len(given)} answers judged; wrote {out / VERDICTS} and {out / 'metrics.json'}")
    say_metrics(out, spec, cards)
