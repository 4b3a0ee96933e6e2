"""Recipes: run them, tell what they would cost."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import buckler
from buckler.commands import common
from buckler.config.read import Recipe, read_recipe
from buckler.curation.settings import CurateSettings
from buckler.data import Json, write_json
from buckler.plan import Plan, plan
from buckler.results.assemble import collect
from buckler.workflow.step import Step, in_order
from buckler.workflow.store import Store


def run_recipes(
    recipes: Sequence[Recipe], store: Store, *, workers: int, cluster: str | None, name: str, show_unsafe: bool
) -> Path:
    """Check, run, sum up and report; the path of the HTML report.

    Raises:
        StoreError: steps failed; the finished ones are kept.
    """
    from buckler.report import write_report
    from buckler.report.tables import print_tables

    plans = [plan(recipe) for recipe in recipes]
    # Rows are drawn and compared with the probes before anything is trained: what is wrong with them shows in seconds.
    common.run_steps([step for one in plans for step in one.checks], store, workers=1, cluster=None)
    common.run_steps([step for one in plans for step in one.targets], store, workers=workers, cluster=cluster)
    results = [collect(recipe, one, store) for recipe, one in zip(recipes, plans, strict=True)]
    folder = store.root / "reports" / name
    for result in results:
        write_json(folder / f"results-{result['name']}.json", result)
    written = write_report(results, folder, title=f"Buckler: {name}", show_unsafe=show_unsafe)
    print_tables(results, common.console())
    for path in written:
        common.say(f"wrote {path}")
    return written[0]


def dry_run(recipes: Sequence[Recipe], store: Store) -> None:
    """Print what a run would do: phases, what is shared, what is done, and the cost where earlier steps tell it."""
    plans: list[Plan] = [plan(recipe) for recipe in recipes]
    for recipe, one in zip(recipes, plans, strict=True):
        steps = in_order(one.targets)
        asked = Counter(step.key for arm in one.arms for step in arm.phases)
        common.say(f"{recipe.name}: {len(one.arms)} arms, {len(recipe.seeds)} seeds, models {', '.join(recipe.models)}")
        common.say(f"  training phases: {sum(asked.values())} asked for, {len(asked)} different ones after sharing")
        for function in dict.fromkeys(step.name for step in steps):
            of_kind = [step for step in steps if step.name == function]
            done = sum(store.is_done(step) for step in of_kind)
            common.say(f"  {function:21} {len(of_kind):5} steps, {done} done, {_cost(of_kind, store)}")
    steps = in_order([step for one in plans for step in one.targets])
    shared = sum(len(in_order(one.targets)) for one in plans) - len(steps)
    common.say(f"{len(steps)} steps in all, {sum(store.is_done(step) for step in steps)} done, {shared} shared between recipes")


def _cost(steps: Sequence[Step], store: Store) -> str:
    """What is left of one kind of step: revisions it may ask for, and seconds by the median of what this store has run."""
    left = [step for step in steps if not store.is_done(step)]
    if not left:
        return "nothing left"
    revisions = sum(_revisions(step) for step in left)
    asked = f"at most {revisions} revisions, " if revisions else ""
    known = store.seconds_of(left[0].name)
    if not known:
        return f"{asked}seconds not known until one has run in this store"
    return f"{asked}about {len(left) * statistics.median(known):.0f} s of one worker left"


def _revisions(step: Step) -> int:
    """The most revisions a curation can ask for; 0 for other steps, and where the number of texts is not given."""
    if step.name != "curate":
        return 0
    source = cast("dict[str, Json]", step.inputs["texts"].params["source"])
    settings = CurateSettings.model_validate(step.params["curation"])
    return settings.candidates_per_text * int(cast("int | None", source["count"]) or 0)


def recipe_folder() -> Path:
    """Where the project's recipes lie: in the installed package, or beside it in a checkout."""
    package = Path(buckler.__file__).parent
    inside = package / "recipes"
    return inside if inside.is_dir() else package.parent / "recipes"


def demo_recipes() -> list[Recipe]:
    """The two recipes of the demo."""
    return [read_recipe(recipe_folder() / name) for name in ("demo_stages.yaml", "demo_cross_task.yaml")]
