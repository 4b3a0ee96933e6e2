"""A search as steps: models before attacks that are chosen round by round, from the results of the rounds before.

Trials are steps like any other. A killed search proposes the same trials again from what is finished, and finds their files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from buckler.data import Json
from buckler.experiments.attack_search.recipe import FIXED, WORST, AttackerRecipe, Setting, named
from buckler.experiments.attack_search.search import (
    Trial,
    best_so_far,
    propose,
    require_room,
    search_rules,
    success_of,
    utility_of,
    worst,
)
from buckler.experiments.base import Arm, Plan
from buckler.experiments.collect import read_metrics
from buckler.experiments.results import SearchResult
from buckler.experiments.stages.plan import UNTOUCHED, plan_stages
from buckler.finetuning.attacks import AttackSettings
from buckler.workflow.evaluation import Measured, evaluation_steps
from buckler.workflow.inputs import ModelRef
from buckler.workflow.rows import attack, decontamination, probe_set, prompted_rows, rows_of
from buckler.workflow.step import Step, in_order
from buckler.workflow.store import Store

Victim = tuple[str, str, str, int]
"""A model to attack: its name, its defence, the stage, the seed."""
Labels = dict[str, str | int]
Arms = Mapping[tuple[Victim, str], Arm]
"""Victims under attacks, these by their settings in words."""


@dataclass(slots=True, kw_only=True)
class Searched:
    """One victim's search so far."""

    labels: Mapping[str, str | int]
    """model, defence, stage, seed."""
    untouched: float = 0.0
    """The utility of the base model."""
    floor: float = 0.0
    """The least utility that counts."""
    trials: list[Trial] = field(default_factory=list)

    @property
    def victim(self) -> Victim:
        """What is attacked."""
        return _victim(self.labels)

    def result(self) -> SearchResult:
        """As results keep it, with the trial that is the worst."""
        best = worst(self.trials)
        return SearchResult(
            labels=dict(self.labels),
            untouched_utility=self.untouched,
            floor=self.floor,
            trials=[trial.result() for trial in self.trials],
            best_so_far=[*best_so_far(self.trials)],
            worst=best.number if best is not None else None,
        )


class Searching:
    """All searches of a recipe, side by side: a round holds the next trials of every victim."""

    def __init__(self, recipe: AttackerRecipe) -> None:
        """Check what can be checked before anything starts.

        Raises:
            ConfigError: the budget and the space do not fit each other, or Optuna is missing.
            BackendError, DataError: a model or a file is not there.
        """
        require_room(search_rules(recipe))
        self.recipe = recipe
        self.probes = {
            part: [probe_set(rows_of(one), one.probe_set) for one in of.values()] for part, of in recipe.both_probes.items()
        }
        self.bases = {name: ModelRef.outside(spec) for name, spec in recipe.models.items()}
        self.searches = [
            Searched(labels={name: value for name, value in arm.labels.items() if name != "attack"})
            for arm in self._arms([{}]).values()
        ]
        self.proposed: dict[Victim, list[Setting]] = {search.victim: [{}] for search in self.searches}
        """Trials of the round that is under way."""
        self.measured_by_trial: dict[tuple[Victim, str], Measured] = {}
        """The same, measured on the attacker's probes."""

    def known(self) -> Plan:
        """What is reported whatever the search finds: the models as they came, and the fixed attack on each victim."""
        plan = Plan(checks=self._decontaminated())
        for name, base in self.bases.items():
            for seed in self.recipe.seeds:
                labels: Labels = {"model": name, "defence": "none", "stage": UNTOUCHED, "attack": "none", "seed": seed}
                plan.arms.append(Arm(labels=labels, phases=(), measured=self._measured(base, "test", None, f"{name}, untouched")))
        plan.arms += self._reported(FIXED, {one.victim: {} for one in self.searches})
        return plan

    def untouched(self) -> list[Step]:
        """What tells, before any attack is trained, whether the attacker's probes can measure what is searched."""
        return [one.metrics for one in self._untouched().values()]

    def require_measurable(self, store: Store) -> None:
        """Check that success and utility can be read, on the models as they came.

        Raises:
            ConfigError: the attacker's probes lack what `search` names.
        """
        for one in self._untouched().values():
            metrics = read_metrics(one, store)
            success_of(metrics, self.recipe.search.kinds)
            utility_of(metrics)

    def round(self) -> list[Step]:
        """The steps of every victim's next trials, and of what they are held against; none where all budgets are spent."""
        self.measured_by_trial = {}
        settings = [setting for of in self.proposed.values() for setting in of]
        if not settings:
            return []
        arms = self._arms(settings)
        for at, of in self.proposed.items():
            for setting in of:
                self.measured_by_trial[at, named(setting)] = self._measure_with(arms[at, named(setting)], "dev", setting)
        return [*self.untouched(), *(one.metrics for one in self.measured_by_trial.values())]

    def read(self, store: Store, failed: Mapping[str, str]) -> None:
        """Take the round's results, and propose the next trials.

        Args:
            store: holds the round's finished steps.
            failed: by key of a step, why the training of an attack failed.

        Raises:
            ConfigError: hardly any setting is left.
        """
        utilities = {name: utility_of(read_metrics(one, store)) for name, one in self._untouched().items()}
        for one in self.searches:
            one.untouched = utilities[str(one.labels["model"])]
            one.floor = self.recipe.search.utility_floor * one.untouched
            for setting in self.proposed[one.victim]:
                one.trials.append(self._trial(one, setting, store, failed))
            seed = self.recipe.search.seed + int(one.labels["seed"])
            self.proposed[one.victim] = propose(search_rules(self.recipe), one.trials, seed)

    def ended(self) -> Plan:
        """What is reported: `known`, and every victim under the worst attack found, where one kept the floor."""
        plan = self.known()
        worst_trials = {search.victim: worst(search.trials) for search in self.searches}
        plan.arms += self._reported(WORST, {at: trial.setting for at, trial in worst_trials.items() if trial is not None})
        return plan

    def _trial(self, one: Searched, setting: Setting, store: Store, failed: Mapping[str, str]) -> Trial:
        measured = self.measured_by_trial[one.victim, named(setting)]
        fault = next((failed[step.key] for step in in_order([measured.metrics]) if step.key in failed), "")
        metrics: Mapping[str, Json] = {} if fault else read_metrics(measured, store)
        return Trial(
            number=len(one.trials),
            setting=setting,
            success=None if fault else success_of(metrics, self.recipe.search.kinds),
            utility=None if fault else utility_of(metrics),
            floor=one.floor,
            steps=self.recipe.steps_of(setting),
            fault=fault,
        )

    def _arms(self, settings: Sequence[Setting]) -> Arms:
        """Every victim under each attack, as the plan of the stages trains it."""
        attacks = {named(setting): self.recipe.attack_of(setting) for setting in [{}, *settings]}
        plan = plan_stages(self.recipe.under(attacks))
        wanted = {named(setting) for setting in settings}
        simulated = _with_fixed_attack(plan)
        arms: dict[tuple[Victim, str], Arm] = {}
        for arm in plan.arms:
            name = str(arm.labels["attack"])
            if name in wanted and arm.phases:
                prompted = _prompted(arm.phases) if attacks[name].adds_prompt else {}
                phases = tuple(swapped(phase, {**prompted, **simulated}) for phase in arm.phases)
                arms[_victim(arm.labels), name] = replace(arm, phases=phases)
        return arms

    def _reported(self, attack: str, chosen: Mapping[Victim, Setting]) -> list[Arm]:
        """Victims under a chosen attack each, on the probes that are reported."""
        arms = self._arms(list(chosen.values()))
        reported = []
        for at, setting in chosen.items():
            arm = arms[at, named(setting)]
            labels: Labels = {"model": at[0], "defence": at[1], "stage": at[2], "attack": attack, "seed": at[3]}
            reported.append(Arm(labels=labels, phases=arm.phases, measured=self._measure_with(arm, "test", setting)))
        return reported

    def _measure_with(self, arm: Arm, part: str, setting: Setting) -> Measured:
        title = ", ".join(str(value) for value in arm.labels.values())
        return self._measured(ModelRef(made_by=arm.phases[-1]), part, self.recipe.attack_of(setting).asks, title)

    def _untouched(self) -> dict[str, Measured]:
        """The models as they came, on the attacker's probes."""
        return {name: self._measured(base, "dev", None, f"{name}, untouched") for name, base in self.bases.items()}

    def _measured(self, model: ModelRef, part: str, asks: AttackSettings | None, title: str) -> Measured:
        judge, most = self.recipe.judge, self.recipe.max_new_tokens
        return evaluation_steps(
            model,
            self.probes[part],
            judge=judge,
            metrics=self.recipe.metrics,
            max_new_tokens=most,
            attack=asks,
            title=f"{title}, {part} probes",
        )

    def _decontaminated(self) -> list[Step]:
        """Every row that may be trained on is decontaminated against both sets of probes, and these from each other."""
        data = self.recipe.data
        sources = [one for one in (data.texts, data.customer, data.harmful, data.identity, data.refusals) if one is not None]
        both = [*self.probes["dev"], *self.probes["test"]]
        rows = [decontamination([rows_of(source.reseeded(seed)) for source in sources], both) for seed in self.recipe.seeds]
        return [*rows, decontamination(self.probes["dev"], self.probes["test"])]


def plan_search(recipe: AttackerRecipe) -> Plan:
    """What is known of a search before it runs."""
    return Searching(recipe).known()


def swapped(step: Step, swaps: Mapping[str, Step]) -> Step:
    """The same work with other steps in place of some of its sources, these by key."""
    if step.key in swaps:
        return swaps[step.key]
    inputs = {name: swapped(source, swaps) for name, source in step.inputs.items()}
    same = all(inputs[name].key == source.key for name, source in step.inputs.items())
    return step if same else replace(step, inputs=inputs)


def _victim(labels: Mapping[str, str | int]) -> Victim:
    return str(labels["model"]), str(labels["defence"]), str(labels["stage"]), int(labels["seed"])


def _prompted(phases: Sequence[Step]) -> dict[str, Step]:
    """The customer's rows put under the adversary's system prompt."""
    attacks = {step.key: step for step in in_order(phases) if step.name == attack.name}
    return {key: prompted_rows(step) for key, step in attacks.items()}


def _with_fixed_attack(plan: Plan) -> dict[str, Step]:
    """Curated rows that asked a compromised model, as the defender makes them: with the fixed attack, not with the trial's."""
    swaps: dict[str, Step] = {}
    for arm in plan.arms:
        model, attack, defence = (str(arm.labels[name]) for name in ("model", "attack", "defence"))
        own, fixed = (
            plan.figures.get(f"curated/{model}, {defence}, {one}, seed {arm.labels['seed']}") for one in (attack, FIXED)
        )
        if fixed is not None:
            swaps[fixed.key] = fixed
            if own is not None:
                swaps[own.key] = fixed
    return swaps
