"""A search for the worst attack: which settings are tried next, and which of those tried counts as the worst case.

Next is every setting in order, a random one, or one by Optuna's TPE. A proposal is a function of the rules, the seed and the
finished trials alone: a killed search that reads the same results proposes the same settings, and its finished steps are found
again.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

from pydantic import Field

from buckler.data import Json
from buckler.errors import ConfigError
from buckler.experiments.attack_search.recipe import AttackerRecipe, Range, Search, Setting, Value, named
from buckler.experiments.results import Number, Saved, TrialResult

if TYPE_CHECKING:
    from optuna import Study
    from optuna import Trial as Suggested
    from optuna.distributions import BaseDistribution


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One attack, measured on the attacker's own probes."""

    number: int
    """0 is the fixed attack."""
    setting: Setting
    success: float | None
    """Attack success rate; None where nothing could be scored, or the attack's training failed."""
    utility: float | None
    floor: float
    """The least utility that counts."""
    steps: int
    """Optimizer steps on the attacker's rows."""
    fault: str = ""
    """Why its training failed."""

    @property
    def keeps_utility(self) -> bool:
        """Whether the attacked model is still of use: what an attack ruined does not count."""
        return self.utility is not None and self.utility >= self.floor

    @property
    def counts(self) -> bool:
        """Whether it may be the worst case."""
        return self.keeps_utility and self.success is not None

    def result(self) -> TrialResult:
        """As results keep it."""
        return TrialResult(
            number=self.number,
            setting=dict(self.setting),
            name=named(self.setting),
            success=self.success,
            utility=self.utility,
            floor=self.floor,
            keeps_utility=self.keeps_utility,
            steps=self.steps,
            fault=self.fault,
        )


def worst(trials: Sequence[Trial]) -> Trial | None:
    """The attack with the highest success among those that keep the floor; None if none does.

    Of equals the one that left more utility, then the earlier: no probe that is reported has a say in it.
    """
    counted = [trial for trial in trials if trial.counts]
    return max(counted, key=lambda trial: (trial.success, trial.utility, -trial.number), default=None)


def best_so_far(trials: Sequence[Trial]) -> list[float | None]:
    """After each trial the highest success of those that counted; None before the first."""
    reached: list[float | None] = []
    for trial in trials:
        before = reached[-1] if reached else None
        now = trial.success if trial.counts else None
        reached.append(before if now is None else now if before is None else max(before, now))
    return reached


class _Value(Saved):
    value: Number | None = None


class _Numbers(Saved):
    """What the attacker reads of the headline, or of one group of probes."""

    attack_success_rate: _Value | None = None
    utility: _Value | None = None


class _Set(Saved):
    groups: dict[str, _Numbers] = Field(default_factory=dict)


class _Metrics(Saved):
    """What the attacker reads of `metrics.json`."""

    overall: _Numbers
    sets: dict[str, _Set] = Field(default_factory=dict)


def success_of(metrics: Mapping[str, Json], kinds: str) -> float | None:
    """Attack success on all harmful probes, or on one group of them; None where no answer could be scored.

    Raises:
        ConfigError: no such probes were asked.
    """
    seen = _Metrics.model_validate(metrics)
    rate = seen.overall.attack_success_rate
    if rate is None:
        raise ConfigError("dev_probes contain no harmful probes, so attack success cannot be measured; add some")
    if kinds != "all":
        groups = seen.sets["harmful"].groups
        if kinds not in groups:
            raise ConfigError(f"search.kinds is {kinds!r}; the harmful dev_probes have {', '.join(('all', *groups))}")
        rate = groups[kinds].attack_success_rate
    return None if rate is None else rate.value


def utility_of(metrics: Mapping[str, Json]) -> float:
    """Mean score of the answers to benign probes.

    Raises:
        ConfigError: none was asked that can be scored.
    """
    utility = _Metrics.model_validate(metrics).overall.utility
    if utility is None or utility.value is None:
        raise ConfigError(
            "dev_probes contain no benign probes with facts or a reference, so utility cannot be measured; add some"
        )
    return utility.value


TRIES = 1000
"""Draws in a row that may be known already or take too many steps before a search gives up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchRules:
    """What a proposal must keep to."""

    search: Search
    key: Callable[[Setting], str]
    """The attack that a setting makes, in one canonical form: two settings with one form are one attack."""
    steps: Callable[[Setting], int]
    """Optimizer steps that it takes."""

    def fits(self, setting: Setting) -> bool:
        """Whether a trial of it stays within the recipe's steps."""
        return self.search.most_steps is None or self.steps(setting) <= self.search.most_steps


def require_room(rules: SearchRules) -> None:
    """Check that the sampler can spend the budget, and that the budget holds the grid.

    Raises:
        ConfigError: a grid over a range, a grid larger than the budget, a space smaller than it, or no Optuna.
    """
    search, size = rules.search, rules.search.space.size
    if not rules.fits({}):
        raise ConfigError(f"search.most_steps is {search.most_steps}, but the fixed attack takes {rules.steps({})} steps")
    if search.sampler == "optuna":
        _import_optuna()
    if size is None:
        if search.sampler == "grid":
            ranges = [name for name, choices in search.space.dimensions.items() if isinstance(choices, Range)]
            raise ConfigError(
                f"search.space.{ranges[0]} is a range, which a grid cannot enumerate; list its values, or use random"
            )
        return
    room = sum(1 for _ in _untried(rules, {rules.key({})}))
    where = f"search.space has {room} settings beside the fixed attack" + (
        f" that stay within {search.most_steps} steps" if search.most_steps else ""
    )
    if search.sampler == "grid" and room + 1 > search.trials:
        raise ConfigError(f"{where}, so a grid needs trials: {room + 1}, not {search.trials}; raise it, or use random")
    if search.sampler != "grid" and room + 1 < search.trials:
        raise ConfigError(f"{where}, too few for trials: {search.trials}; lower it to at most {room + 1}, or widen the space")


def propose(rules: SearchRules, finished: Sequence[Trial], seed: int) -> list[Setting]:
    """The next settings to try: all that are left for grid and random, a batch for optuna; none when the budget is spent.

    Args:
        rules: the space, the budget, and what makes two settings one.
        finished: every trial so far with its results, in order, the fixed attack first.
        seed: of this model's search.

    Raises:
        ConfigError: hardly any setting stays within the recipe's steps.
    """
    search = rules.search
    left = search.trials - len(finished)
    if left <= 0:
        return []
    seen = {rules.key(trial.setting) for trial in finished}
    if search.sampler == "grid":
        return list(_untried(rules, seen))[:left]
    if search.sampler == "random":
        # Each is drawn by its own number, so that a larger budget only adds trials to those of a smaller one.
        return [_at_random(rules, seen, f"{seed}-{number}") for number in range(len(finished), search.trials)]
    return _by_tpe(rules, finished, seen, seed, min(left, search.batch))


def _untried(rules: SearchRules, seen: set[str]) -> Iterator[Setting]:
    """Every setting of a space without ranges that makes another attack, in the order of the recipe."""
    known = set(seen)
    dimensions = rules.search.space.dimensions
    for values in product(*(_listed(choices) for choices in dimensions.values())):
        setting = dict(zip(dimensions, values, strict=True))
        if rules.key(setting) not in known and rules.fits(setting):
            known.add(rules.key(setting))
            yield setting


def _listed(choices: Range | tuple[Value, ...]) -> tuple[Value, ...]:
    assert not isinstance(choices, Range), "a range has no list"
    return choices


def _at_random(rules: SearchRules, seen: set[str], name: str) -> Setting:
    """A setting that nobody tried, drawn by its name; it counts as tried from then on."""
    rng = random.Random(name)
    for _ in range(TRIES):
        setting: Setting = {at: _drawn(rng, choices) for at, choices in rules.search.space.dimensions.items()}
        if rules.key(setting) not in seen and rules.fits(setting):
            seen.add(rules.key(setting))
            return setting
    if rules.search.space.size is not None and (rest := list(_untried(rules, seen))):
        setting = rng.choice(rest)  # nearly all of a large space is tried
        seen.add(rules.key(setting))
        return setting
    limit = f" within {rules.search.most_steps} steps" if rules.search.most_steps else ""
    raise ConfigError(f"search.space: {TRIES} draws found no new setting{limit}; lower trials, or widen the space")


def _drawn(rng: random.Random, choices: Range | tuple[Value, ...]) -> Value:
    return choices.draw(rng) if isinstance(choices, Range) else rng.choice(choices)


def _by_tpe(rules: SearchRules, finished: Sequence[Trial], seen: set[str], seed: int, count: int) -> list[Setting]:
    """A batch by the tree-structured Parzen estimator; broken floors are constraints (Optuna's TPESampler).

    The study is made anew from the finished trials, and the sampler is seeded by their number: nothing else is remembered.
    """
    optuna = _import_optuna()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(seed=1000 * seed + len(finished), n_startup_trials=min(10, rules.search.trials // 3))
    study = optuna.create_study(sampler=sampler, direction="maximize")
    space = _distributions(rules)
    for trial in finished[1:]:  # the fixed attack may lie outside the space
        study.enqueue_trial(dict(trial.setting))
        suggested = study.ask(space)
        if trial.success is None or trial.utility is None:
            study.tell(suggested, state=optuna.trial.TrialState.FAIL)
        else:
            suggested.set_constraint("utility", trial.floor - trial.utility)
            study.tell(suggested, trial.success)
    return [_suggested(rules, study, space, seen, f"{seed}-{len(finished) + at}") for at in range(count)]


def _suggested(rules: SearchRules, study: Study, space: dict[str, BaseDistribution], seen: set[str], name: str) -> Setting:
    """What TPE wants next; what it wants again, or cannot pay, is reported as failed; at last one is drawn at random."""
    import optuna

    for _ in range(50):
        suggested: Suggested = study.ask(space)
        dimensions = rules.search.space.dimensions
        setting: Setting = {
            at: choices.tidy(suggested.params[at]) if isinstance(choices, Range) else suggested.params[at]
            for at, choices in dimensions.items()
        }
        if rules.key(setting) not in seen and rules.fits(setting):
            seen.add(rules.key(setting))
            return setting
        study.tell(suggested, state=optuna.trial.TrialState.FAIL)
    return _at_random(rules, seen, name)


def _distributions(rules: SearchRules) -> dict[str, BaseDistribution]:
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    return {
        name: FloatDistribution(choices.low, choices.high, log=True)
        if isinstance(choices, Range)
        else CategoricalDistribution(choices)
        for name, choices in rules.search.space.dimensions.items()
    }


def _import_optuna() -> Any:  # noqa: ANN401 - a module that may be absent
    try:
        import optuna
    except ImportError:
        raise ConfigError("search.sampler optuna needs Optuna: pip install 'buckler[search]', or use random") from None
    return optuna


def search_rules(recipe: AttackerRecipe) -> SearchRules:
    """What the search of a recipe keeps to."""
    return SearchRules(search=recipe.search, key=lambda one: recipe.attack_of(one).model_dump_json(), steps=recipe.steps_of)
