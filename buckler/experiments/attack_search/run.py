"""A search of attacks: rounds of trials until every budget is spent, then the worst of them on the probes that are reported."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from buckler.errors import StoreError
from buckler.experiments.attack_search.plan import Searching
from buckler.experiments.attack_search.recipe import AttackerRecipe
from buckler.experiments.base import Plan
from buckler.experiments.results import SearchResult
from buckler.experiments.run import executed, run_steps, say
from buckler.workflow.evaluation import answer, judge_answers, summarise_run
from buckler.workflow.rows import train
from buckler.workflow.step import Step, in_order
from buckler.workflow.store import Store

DIVERGED = "training diverged"
"""What the trainer says of an attack that ruined its model before it ended: a lost trial, not a failed run."""


def run_search(recipe: AttackerRecipe, store: Store, workers: int, cluster: str | None) -> tuple[Plan, list[SearchResult]]:
    """Check and search; the plan of what is reported, every step finished, and the course of each search.

    Raises:
        ConfigError: the space does not fit the budget, or the attacker's probes cannot measure what is searched.
        StoreError: steps failed; the finished ones are kept.
    """
    searching = Searching(recipe)
    run_steps(searching.known().checks, store, workers=1, cluster=None)
    run_steps(searching.untouched(), store, workers=workers, cluster=cluster)
    searching.require_measurable(store)
    done = 0
    while steps := searching.round():
        searching.read(store, _run_trials(steps, store, workers=workers, cluster=cluster))
        done += 1
        say(f"round {done}: {_progress(searching)}")
    plan = searching.ended()
    run_steps(plan.targets, store, workers=workers, cluster=cluster)
    return plan, [one.result() for one in searching.searches]


def _run_trials(steps: Sequence[Step], store: Store, *, workers: int, cluster: str | None) -> dict[str, str]:
    """Run a round; by key, the trainings that diverged.

    Raises:
        StoreError: something else failed.
    """
    outcome = executed(steps, store, workers=workers, cluster=cluster)
    others = [event for event in outcome.failed if event.step.name != train.name or DIVERGED not in event.error]
    if others:
        raise StoreError(
            f"{len(others)} steps failed, the first: {others[0].step.title}: {others[0].error}; finished steps are kept"
        )
    return {event.step.key: event.error for event in outcome.failed}


def _progress(searching: Searching) -> str:
    """How far the searches are, in a line."""
    trials = [trial for search in searching.searches for trial in search.trials]
    ruined = sum(not trial.keeps_utility for trial in trials)
    return f"{len(trials)} attacks tried on {len(searching.searches)} models, {ruined} below the minimum utility"


def dry_run(recipe: AttackerRecipe, store: Store) -> None:
    """Print what a run would do: who is attacked, how often, and how much of it is done."""
    searching, search = Searching(recipe), recipe.search
    size = search.space.size
    say(f"{recipe.name}: {len(searching.searches)} models to attack, each defence and stage with {len(recipe.seeds)} seeds")
    for one in searching.searches:
        if one.labels["seed"] == recipe.seeds[0]:
            say(f"  {one.labels['model']}, defence {one.labels['defence']}, stage {one.labels['stage']}")
    where = "a space with ranges" if size is None else f"{size} settings"
    every = search.trials * len(searching.searches)
    say(f"  {search.trials} attacks on each by {search.sampler} over {where}: {every} in all")
    dims = ", ".join(search.space.dimensions)
    most = f", at most {search.most_steps} optimizer steps each" if search.most_steps else ""
    say(f"  chosen: {dims}{most}; utility floor {search.utility_floor:g} of the untouched model's")
    known = in_order(searching.known().targets)
    say(f"  the fixed attack on the reported probes: {len(known)} steps, {sum(store.is_done(step) for step in known)} done")
    steps = _replayed(searching, store)
    tried = sum(len(one.trials) for one in searching.searches)
    if not steps:
        say(f"  the search itself: all {tried} attacks tried, nothing left")
        return
    seconds, left = _seconds(store), every - tried
    cost = f"about {left * seconds:.0f} s of one worker" if seconds else "seconds not known until one has run in this store"
    say(f"  the search itself: {tried} attacks tried, {left} left, each at least a training phase and its measure; {cost}")


def _replayed(searching: Searching, store: Store) -> list[Step]:
    """Take in every round that is finished in the store; the steps of the first that is not, none if all are."""
    while steps := searching.round():
        if not all(store.is_done(step) for step in in_order(steps)):
            return in_order(steps)
        searching.read(store, {})
    return []


def _seconds(store: Store) -> float:
    """What one phase and one measure took in this store, by their medians; 0 where none is known."""
    known = [store.seconds_of(step.name) for step in (train, answer, judge_answers, summarise_run)]
    return sum(statistics.median(one) for one in known) if all(known) else 0.0
