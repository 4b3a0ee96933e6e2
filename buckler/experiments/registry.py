"""The kinds of experiments. A new kind is one folder beside this file and one line of `EXPERIMENTS`."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from buckler.errors import ConfigError
from buckler.experiments.base import CommonRecipe, Experiment

EXPERIMENTS: dict[str, str] = {
    "stages": "buckler.experiments.stages:EXPERIMENT",
    "cross_task": "buckler.experiments.cross_task:EXPERIMENT",
    "attacker": "buckler.experiments.attack_search:EXPERIMENT",
}
"""Where each kind stands, as `module:name`, so that naming one imports only that one."""


def experiment_of(kind: object) -> Experiment[Any]:
    """The experiment of a kind.

    Raises:
        ConfigError: there is none.
    """
    place = EXPERIMENTS.get(str(kind))
    if place is None:
        raise ConfigError(f"`kind` must be one of {', '.join((*EXPERIMENTS, 'pipeline'))}, got {kind!r}")
    module, _, name = place.partition(":")
    found = getattr(import_module(module), name)
    assert isinstance(found, Experiment), place
    return found


def recipe_kinds() -> dict[str, type[CommonRecipe]]:
    """The recipe of each kind."""
    return {kind: experiment_of(kind).recipe for kind in EXPERIMENTS}
