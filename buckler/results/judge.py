"""Who judged a run, what its card says of refusals, and the rates of refusal corrected by it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from pydantic import TypeAdapter

from buckler.config.read import Recipe
from buckler.data import Json
from buckler.evaluation.statistics import Rate
from buckler.judges.agreement import OF_REFUSAL, Agreement, corrected
from buckler.judges.card import REFUSAL_QUESTION, refusal_card
from buckler.judges.named import judge_spec


@dataclass(frozen=True, slots=True, kw_only=True)
class RunJudge:
    """Who judged, and what its card says of refusals, if there is one."""

    name: str
    sentence: str | None = None
    agreement: Agreement | None = None


def judge_of(recipe: Recipe) -> RunJudge:
    """Who judges by a recipe, with the card it names if there is one of this very judge."""
    judge = judge_spec(recipe.judge)
    card = None if recipe.judge_cards is None else refusal_card(Path(recipe.judge_cards), judge.label, judge.version)
    if card is None:
        return RunJudge(name=judge.label)
    return RunJudge(name=judge.label, sentence=card.sentence(REFUSAL_QUESTION), agreement=card.agreement[REFUSAL_QUESTION])


def judge_again(name: str, card: Mapping[str, Json] | None) -> RunJudge:
    """Who judged, as saved results tell it."""
    if card is None:
        return RunJudge(name=name)
    agreement = TypeAdapter(Agreement).validate_python(card["agreement"])
    return RunJudge(name=name, sentence=str(card["sentence"]), agreement=agreement)


def judge_card(judge: RunJudge, rows: Sequence[Mapping[str, Json]]) -> Json:
    """What the judge's card says; by arm, its rates of refusal over all answers of all seeds, corrected."""
    if judge.agreement is None:
        return None
    arms: list[Json] = []
    for row in rows:
        metrics = cast("Mapping[str, Mapping[str, Mapping[str, Json]]]", row["metrics"])
        given = {name: metrics[name]["all_answers"] for name in OF_REFUSAL if "all_answers" in metrics.get(name, {})}
        mended: dict[str, Json] = {name: corrected(Rate.from_json(of), judge.agreement).to_json() for name, of in given.items()}
        arms.append({"labels": row["labels"], "rates": mended})
    return {"sentence": judge.sentence, "agreement": judge.agreement.to_json(), "arms": arms}
