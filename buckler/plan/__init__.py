"""A recipe as a graph of steps: which arms there are, what they share, what they would cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from buckler.config.attacker import AttackerRecipe
from buckler.config.customization import StagesRecipe
from buckler.config.read import Recipe
from buckler.workflow.evaluation import Measured
from buckler.workflow.step import Step


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One row of the grid: what it is called, the phases that made its model, and how it was measured."""

    labels: Mapping[str, str | int]
    """model, attack, defence, stage (or trained task, budget, wording), seed."""
    phases: tuple[Step, ...]
    """Training steps in order; none for the model as it came."""
    measured: Measured


@dataclass(slots=True, kw_only=True)
class Plan:
    """All that a recipe asks for."""

    arms: list[Arm] = field(default_factory=list)
    checks: list[Step] = field(default_factory=list)
    """Done before anything is trained: rows drawn, training and probe sets apart."""
    figures: dict[str, Step] = field(default_factory=dict)
    """Steps whose results the report shows beside the arms: perplexities of text kinds, rows curated."""

    @property
    def targets(self) -> list[Step]:
        """Every step whose result is wanted."""
        return [*self.checks, *(arm.measured.metrics for arm in self.arms), *self.figures.values()]


def plan(recipe: Recipe) -> Plan:
    """The graph of a recipe; of a search, what is known before it.

    Raises:
        BackendError, DataError: a model or a file is not there; nothing has run yet.
    """
    from buckler.plan.attacker import plan_attacker
    from buckler.plan.crosstask import plan_crosstask
    from buckler.plan.stages import plan_stages

    if isinstance(recipe, AttackerRecipe):
        return plan_attacker(recipe)
    return plan_stages(recipe) if isinstance(recipe, StagesRecipe) else plan_crosstask(recipe)
