"""How reliable the judge of an experiment is: what its card says of refusals, and rates corrected for its known errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import TypeAdapter

from buckler.evaluation.metrics import ALL_TASKS
from buckler.evaluation.statistics import Rate
from buckler.experiments.base import CommonRecipe
from buckler.experiments.results import CorrectedArm, CorrectedRate, GroupRow, JudgeCardResult, Labels, RateResult, RunResult
from buckler.experiments.results_view import BENIGN, BORDERLINE, HARMFUL, ArmView, Metric, arms_of
from buckler.judges.agreement import OF_REFUSAL, Agreement, corrected
from buckler.judges.card import REFUSAL_QUESTION, refusal_card
from buckler.judges.named import judge_spec
from buckler.report.tables import Cell, Column, Table, TableRow, no_width

NOT_MEASURED = "The agreement of this judge with people was not measured here (buckler judge-card)."
NAMES = {
    HARMFUL: "harmful refused",
    BORDERLINE: "borderline refused",
    BENIGN: "benign refused",
    **{Metric("refusal_rate", ALL_TASKS, label): f"{label} documents refused" for label in ("harmful", "benign", "useful")},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunJudge:
    """Who judged, and what its card says of refusals, if there is one."""

    name: str
    sentence: str | None = None
    agreement: Agreement | None = None


def judge_of(recipe: CommonRecipe) -> RunJudge:
    """Who judges by a recipe, with the card it names if there is one of this very judge."""
    judge = judge_spec(recipe.judge)
    card = None if recipe.judge_cards is None else refusal_card(Path(recipe.judge_cards), judge.label, judge.version)
    if card is None:
        return RunJudge(name=judge.label)
    return RunJudge(name=judge.label, sentence=card.sentence(REFUSAL_QUESTION), agreement=card.agreement[REFUSAL_QUESTION])


def judge_again(name: str, card: JudgeCardResult | None) -> RunJudge:
    """Who judged, by saved results."""
    if card is None:
        return RunJudge(name=name)
    return RunJudge(name=name, sentence=card.sentence, agreement=TypeAdapter(Agreement).validate_python(card.agreement))


def judge_card(judge: RunJudge, rows: Sequence[GroupRow]) -> JudgeCardResult | None:
    """What the judge's card says; by arm, its rates of refusal over all answers of all seeds, corrected."""
    if judge.agreement is None or judge.sentence is None:
        return None
    arms = []
    for row in rows:
        measured = {name: row.metrics[name].all_answers for name in OF_REFUSAL if name in row.metrics}
        rates = {
            name: CorrectedRate.model_validate(
                corrected(Rate(hits=of.hits, n=of.n, unscored=of.unscored), judge.agreement).to_json()
            )
            for name, of in measured.items()
            if of is not None
        }
        arms.append(CorrectedArm(labels=row.labels, rates=rates))
    return JudgeCardResult(sentence=judge.sentence, agreement=judge.agreement.to_json(), arms=arms)


def reliability_sentence(results: RunResult) -> str:
    """What the judge's card says, or that there is none."""
    return f"The judge: {results.judge_card.sentence}." if results.judge_card else NOT_MEASURED


def reliability_tables(results: RunResult) -> list[Table]:
    """Every arm's rates of refusal as the judge gave them, each beside the corrected one; none without a card."""
    card = results.judge_card
    rates_of = {_key(one.labels): one.rates for one in card.arms} if card else {}
    arms = [arm for arm in arms_of(results) if _key(arm.labels) in rates_of]
    metrics = [metric for metric in NAMES if any(metric.name in rates for rates in rates_of.values())]
    if not arms or not metrics:
        return []
    heads = tuple(arms[0].labels)
    rows = []
    for arm in arms:
        rates = rates_of[_key(arm.labels)]
        cells = [cell for metric in metrics for cell in (_raw(arm, metric), _corrected(rates.get(metric.name)))]
        rows.append(TableRow(labels=tuple(arm.label(head) for head in heads), cells=tuple(cells), part=arm.label("model")))
    return [
        Table(
            title="Corrected for the judge",
            caption=f"{reliability_sentence(results)} Corrected: as the rate would be if the judge made no mistakes (Rogan and "
            "Gladen 1978). "
            "The intervals take the answers of all seeds as independent: Wilson's for the raw rate, Lang and Reiczigel's for the "
            "corrected one, which holds the doubt about the judge too. It holds if the judge errs on these answers as often as "
            "on the labelled ones. Cut: the value lay outside of 0 to 1; without an interval, all of it did. Every other table "
            "and every finding is uncorrected.",
            heads=heads,
            columns=tuple(Column(name=f"{NAMES[metric]}: {kind}") for metric in metrics for kind in ("raw", "corrected")),
            rows=tuple(rows),
            folded=True,
        )
    ]


def _key(labels: Labels) -> tuple[tuple[str, str | int], ...]:
    return tuple(sorted(labels.items()))


def _raw(arm: ArmView, metric: Metric) -> Cell:
    measured = arm.measured(metric)
    every = measured.all_answers if measured else None
    return Cell(over="probes") if every is None else _cell(every, f"{every.unscored} unscored" if every.unscored else "")


def _corrected(rate: CorrectedRate | None) -> Cell:
    if rate is None:
        return Cell(over="probes")
    cell = _cell(rate, rate.flag.partition(":")[0])
    # an interval that was cut to a point would pass for certainty
    return replace(cell, low=None, high=None) if no_width(cell.low, cell.high) else cell


def _cell(rate: RateResult | CorrectedRate, note: str) -> Cell:
    return Cell(value=rate.value, low=rate.low, high=rate.high, over="probes", note=note)
