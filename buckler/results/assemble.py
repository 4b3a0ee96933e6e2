"""Everything the report shows of an experiment, from the files of finished steps, or again from saved results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

from buckler.config.read import Recipe
from buckler.crosstask.own_tasks import read_tasks
from buckler.data import Json, read_answers, read_verdicts
from buckler.errors import DataError
from buckler.evaluation.metrics import summarise
from buckler.evaluation.scores import score_answers
from buckler.evaluation.utility import scorers
from buckler.plan import Plan
from buckler.results.arm import MeasuredArm, files_of
from buckler.results.differences import differences
from buckler.results.judge import RunJudge, judge_again, judge_card, judge_of
from buckler.results.over_seeds import over_seeds
from buckler.results.paper_rule import paper_rule
from buckler.results.planned import figures, measured, told, weakest
from buckler.results.provenance import record
from buckler.results.samples import samples_of
from buckler.workflow.store import Store


def collect(recipe: Recipe, plan: Plan, store: Store) -> dict[str, Json]:
    """Everything the report shows, recomputed from the files of finished steps.

    Returns:
        `arms` (one entry an arm: labels, metrics, training), `rows` (one entry for all seeds of an arm: each metric's
        mean over seeds with its t interval, and all answers taken together with their Wilson interval), `differences`
        (paired: curated against the controls, stage by stage), `perplexity`, `curation`, `weakest` (the task it stood for,
        by model and seed), `paper_rule` (the 13 phrases of arXiv 2312.06924 beside the recipe's judge), `judge_card`
        (what the judge's card says, and by arm the rates of refusal corrected by it; None without one), `samples`, `record`.
    """
    arms = [measured(arm, store) for arm in plan.arms]
    return {
        "name": recipe.name,
        "kind": recipe.kind,
        "about": recipe.about,
        "seeds": list(recipe.seeds),
        "arms": [told(arm, one.metrics, store) for arm, one in zip(plan.arms, arms, strict=True)],
        "perplexity": figures(plan, store, "perplexity/", "perplexity.json"),
        "curation": figures(plan, store, "curated/", "counts.json"),
        "weakest": weakest(plan.arms, store),
        **_derived(recipe.kind, recipe.seeds, arms, judge_of(recipe)),
        "record": record(recipe),
    }


def collect_again(results: Mapping[str, Json], store: Store) -> dict[str, Json]:
    """Saved results with every number that comes from answers computed anew: from the stored answers and verdicts, no model.

    What training and curation told, perplexities and the course of a search are kept as they were saved.

    Raises:
        DataError: answers or verdicts are not there, or no longer belong together; the results were saved by a version that did
            not keep what is needed.
    """
    try:
        saved = cast("Sequence[dict[str, Json]]", results["arms"])
        made = cast("Mapping[str, Mapping[str, Json]]", results["record"])
        places = [(cast("Mapping[str, str | int]", one["labels"]), cast("Mapping[str, str]", one["steps"])) for one in saved]
        own = cast("str | None", made["recipe"].get("own_tasks"))
        further = cast("Sequence[str]", made["recipe"].get("metrics", ()))
        judge = judge_again(str(made["judge"]["name"]), cast("Mapping[str, Json] | None", results["judge_card"]))
    except KeyError as fault:
        raise DataError(f"results of {results.get('name')}: saved without {fault}; run the recipe again") from None
    by_task = scorers(read_tasks(Path(own)) if own else None)
    arms: list[MeasuredArm] = []
    for labels, steps in places:
        answers, verdicts = files_of(store, steps["answers"], steps["verdicts"])
        given = read_answers(answers)
        metrics = summarise(given, read_verdicts(verdicts), score_answers(given, by_task), further)
        arms.append(MeasuredArm(labels=labels, answers=answers, verdicts=verdicts, metrics=metrics))
    again = [{**one, "metrics": arm.metrics} for one, arm in zip(saved, arms, strict=True)]
    return {**results, "arms": again, **_derived(str(results["kind"]), cast("Sequence[int]", results["seeds"]), arms, judge)}


def _derived(kind: str, seeds: Sequence[int], arms: Sequence[MeasuredArm], judge: RunJudge) -> dict[str, Json]:
    """What follows from the arms' answers, verdicts and metrics."""
    rows = over_seeds(arms)
    return {
        "rows": rows,
        "differences": differences(kind, arms),
        "paper_rule": paper_rule(kind, seeds, arms, judge),
        "judge_card": judge_card(judge, rows),
        "samples": [sample for arm in arms if arm.seed == seeds[0] for sample in samples_of(arm)],
    }
