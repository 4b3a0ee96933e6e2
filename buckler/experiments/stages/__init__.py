"""Customization: what a harmful one does to the model, and which defence, trained on at which stage, undoes it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

from buckler.experiments.base import Experiment, Key, MeasuredArm, Pair
from buckler.experiments.stages.claims import stage_claims
from buckler.experiments.stages.figures import stage_figures
from buckler.experiments.stages.plan import plan_stages
from buckler.experiments.stages.recipe import StagesRecipe
from buckler.experiments.stages.tables import FLAGS, stage_tables


def stage_pairs(groups: Mapping[Key, Sequence[MeasuredArm]]) -> Iterator[Pair]:
    """Every two defences at the same stage, and every arm against no defence."""
    for (first_key, first), (second_key, second) in combinations(groups.items(), 2):
        a, b = dict(first_key), dict(second_key)
        same = a["model"] == b["model"] and a["attack"] == b["attack"]
        wanted = a["stage"] == b["stage"] or (a["defence"] == "none" and a["stage"] == "none")
        if same and wanted and a["defence"] != b["defence"]:
            at = {"model": a["model"], "attack": a["attack"], "stage": b["stage"]}
            yield Pair(differ="defence", at=at, first=first, second=second)


EXPERIMENT = Experiment(
    kind="stages",
    recipe=StagesRecipe,
    plan=plan_stages,
    pairs=stage_pairs,
    claims=stage_claims,
    tables=stage_tables,
    figures=stage_figures,
    question="What does a harmful customization do to the model, and which defence, trained on at which stage, undoes it?",
    flags=FLAGS,
)
