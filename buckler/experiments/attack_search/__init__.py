"""An attacker who searches: settings of an attack under a budget, the worst of them under a floor of utility.

A defence that holds against one fixed attack may fade before one whose learning rate, epochs, rows or method were chosen.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

from buckler.experiments.attack_search.plan import plan_search
from buckler.experiments.attack_search.presentation import search_claims, search_figures, search_tables
from buckler.experiments.attack_search.recipe import AttackerRecipe
from buckler.experiments.attack_search.run import dry_run, run_search
from buckler.experiments.base import Experiment, Key, Loop, MeasuredArm, Pair
from buckler.experiments.stages.tables import FLAGS

VICTIM = ("model", "defence", "stage")


def search_pairs(groups: Mapping[Key, Sequence[MeasuredArm]]) -> Iterator[Pair]:
    """The worst attack found against the fixed one."""
    for (first_key, first), (second_key, second) in combinations(groups.items(), 2):
        a, b = dict(first_key), dict(second_key)
        if all(a[name] == b[name] for name in VICTIM) and a["attack"] != b["attack"]:
            yield Pair(differ="attack", at={name: b[name] for name in VICTIM}, first=first, second=second)


EXPERIMENT = Experiment(
    kind="attacker",
    recipe=AttackerRecipe,
    plan=plan_search,
    pairs=search_pairs,
    claims=search_claims,
    tables=search_tables,
    figures=search_figures,
    question="What does an attacker find who may try many settings, and how much of it did one fixed attack show?",
    flags=FLAGS,
    loop=Loop(run=run_search, dry_run=dry_run),
)
