"""The kinds of experiments. A new kind is one folder beside this file and one line of `EXPERIMENTS`."""

from __future__ import annotations

from typing import Any, TypeGuard

from buckler.experiments.base import CommonRecipe, Experiment, Plan
from buckler.registry import Registry


def _accepts(part: object) -> TypeGuard[Experiment[Any]]:
    return isinstance(part, Experiment)


EXPERIMENTS: Registry[Experiment[Any]] = Registry(
    "experiment",
    "buckler.experiments",
    {
        "stages": "buckler.experiments.stages:EXPERIMENT",
        "cross_task": "buckler.experiments.cross_task:EXPERIMENT",
        "attacker": "buckler.experiments.attack_search:EXPERIMENT",
    },
    _accepts,
    "a `buckler.experiments.base.Experiment`",
)


def experiment_of(kind: object) -> Experiment[Any]:
    """The experiment of a kind.

    Raises:
        ConfigError: there is none.
    """
    return EXPERIMENTS.get(str(kind))


def plan_of(recipe: CommonRecipe) -> Plan:
    """The graph of a recipe; of a search, what is known before it.

    Raises:
        BackendError, DataError: a model or a file is not there; nothing has run yet.
    """
    plan: Plan = experiment_of(recipe.kind).plan(recipe)
    return plan


def recipe_kinds() -> dict[str, type[CommonRecipe]]:
    """The recipe of each kind."""
    return {kind: experiment_of(kind).recipe for kind in EXPERIMENTS}
