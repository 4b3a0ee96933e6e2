"""Recipes: run them, report them, tell what they would cost; and what a store holds."""

from __future__ import annotations

import statistics
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from buckler.data import Json, read_json, write_json
from buckler.errors import ConfigError, InternalError, StoreError
from buckler.experiments.base import CommonRecipe
from buckler.experiments.collect import collect, collect_again
from buckler.experiments.pages import print_results, write_report
from buckler.experiments.registry import experiment_of, plan_of, read_recipe, recipe_folder
from buckler.experiments.results import RunResult, read_results
from buckler.progress import LOG, show_progress
from buckler.registry import read_from
from buckler.workflow.curation import CurateStep, curate
from buckler.workflow.executor import Event, Outcome, execute
from buckler.workflow.jobs.base import Result, read_object
from buckler.workflow.jobs.loading import computed_otherwise
from buckler.workflow.pruning import Held, prunable
from buckler.workflow.rows import DrawStep, memory, storage
from buckler.workflow.step import Step, in_order
from buckler.workflow.store import Store

if TYPE_CHECKING:
    from rich.console import Console


def run_recipes(
    recipes: Sequence[CommonRecipe], store: Store, *, workers: int, cluster: str | None, name: str, show_unsafe: bool
) -> Path:
    """Check, run, collect and report; the path of the HTML report.

    Raises:
        ConfigError, DataError, BackendError: what the recipes ask for cannot be had; nothing has run yet.
        StoreError: steps failed; the finished ones are kept.
    """
    results = _run(recipes, store, workers=workers, cluster=cluster)
    folder = store.root / "reports" / name
    for result in results:
        write_json(folder / f"results-{result.name}.json", result.to_json())
    written = write_report(results, folder, title=f"Buckler: {name}", show_unsafe=show_unsafe)
    print_results(results, console())
    for path in written:
        say(f"wrote {path}")
    return written[0]


@dataclass(frozen=True, kw_only=True, repr=False)
class ExperimentReport(Result):
    """What experiments found, and the pages that report it."""

    results: tuple[RunResult, ...]

    def numbers(self) -> dict[str, Json]:
        """All results as they are saved."""
        return {"results": [result.to_json() for result in self.results]}

    def records(self) -> list[dict[str, Json]]:
        """One arm a row, all its seeds together: its labels, and the mean of each metric."""
        return [
            {**row.labels, **{name: metric.over_seeds.value for name, metric in row.metrics.items()}}
            for result in self.results
            for row in result.rows
        ]


def run_experiment(
    path: Path, store: Store, *, workers: int = 1, show_unsafe: bool = False, trust_code: bool = False
) -> ExperimentReport:
    """Run one recipe file and report it; code that it names as `module:name` is run only with `trust_code`.

    Raises:
        BucklerError: the recipe is not understood, or steps failed; the finished ones are kept.
    """
    with read_from(str(path), trusted=trust_code):
        recipe = read_recipe(path, trust_code=trust_code)
        page = run_recipes([recipe], store, workers=workers, cluster=None, name=recipe.name, show_unsafe=show_unsafe)
    file = page.with_name(f"results-{recipe.name}.json")
    return ExperimentReport(out=page.parent, written=(page, file), results=(read_results(read_object(file), str(file)),))


def _run(recipes: Sequence[CommonRecipe], store: Store, *, workers: int, cluster: str | None) -> list[RunResult]:
    """The results of every recipe; steps that several share are run once."""
    known = [recipe for recipe in recipes if experiment_of(recipe.kind).loop is None]
    plans = {recipe.name: plan_of(recipe) for recipe in known}
    for line in of_other_types(known, store):
        LOG.warning("%s", line)
    if plans:
        # Rows are drawn and compared with the probes before anything is trained: what is wrong with them shows in seconds.
        run_steps([step for one in plans.values() for step in one.checks], store, workers=1, cluster=None)
        run_steps([step for one in plans.values() for step in one.targets], store, workers=workers, cluster=cluster)
    results = []
    for recipe in recipes:
        loop = experiment_of(recipe.kind).loop
        if loop is None:
            results.append(collect(recipe, plans[recipe.name], store))
        else:
            plan, search = loop.run(recipe, store, workers, cluster)
            results.append(collect(recipe, plan, store, search))
    return results


def dry_run(recipes: Sequence[CommonRecipe], store: Store) -> dict[str, Json]:
    """Print what a run would do: phases, what is shared, what is done, and the cost where earlier steps tell it.

    Returns:
        Steps and finished ones by name, for each recipe that is planned as a whole.
    """
    known = []
    counted: dict[str, dict[str, Json]] = {}
    for recipe in recipes:
        loop = experiment_of(recipe.kind).loop
        if loop is None:
            known.append(recipe)
        else:
            loop.dry_run(recipe, store)
    plans = [plan_of(recipe) for recipe in known]
    for recipe, plan in zip(known, plans, strict=True):
        steps = in_order(plan.targets)
        uses = Counter(step.key for arm in plan.arms for step in arm.phases)
        seeds = f"{len(recipe.seeds)} seed{'s' * (len(recipe.seeds) > 1)}"
        say(f"{recipe.name}: {len(plan.arms)} arms, {seeds}, models {', '.join(recipe.models)}")
        say(f"  training phases: {sum(uses.values())} asked for, {len(uses)} different ones after sharing")
        for name in dict.fromkeys(step.name for step in steps):
            of_name = [step for step in steps if step.name == name]
            done = sum(store.is_done(step) for step in of_name)
            say(f"  {name:21} {len(of_name):5} steps, {done} done, {_cost(of_name, store)}")
            counted.setdefault(recipe.name, {})[name] = {"steps": len(of_name), "done": done}
        for line in memory(steps, store):
            say(f"  {line}")
        if line := storage(steps, store):
            say(f"  {line}")
    if plans:
        steps = in_order([step for plan in plans for step in plan.targets])
        shared = sum(len(in_order(plan.targets)) for plan in plans) - len(steps)
        done = sum(store.is_done(step) for step in steps)
        say(f"{len(steps)} steps in all, {done} done, {shared} shared between recipes")
    for line in of_other_types(known, store):
        say(line)
    return dict(counted)


def of_other_types(recipes: Sequence[CommonRecipe], store: Store) -> list[str]:
    """Notes on finished steps of these recipes that are done again in another type."""
    specs = [spec for recipe in recipes for spec in recipe.models.values()]
    return computed_otherwise(specs, lambda: [step for recipe in recipes for step in plan_of(recipe).targets], store)


def _cost(steps: Sequence[Step], store: Store) -> str:
    """What is left of one kind of step: revisions it may ask for, and seconds by the median of what this store has run."""
    left = [step for step in steps if not store.is_done(step)]
    if not left:
        return "nothing left"
    revisions = sum(_revisions(step) for step in left)
    at_most = f"at most {revisions} revisions, " if revisions else ""
    known = store.seconds_of(left[0].name)
    if not known:
        return f"{at_most}seconds not known until one has run in this store"
    return f"{at_most}about {len(left) * statistics.median(known):.0f} s of one worker left"


def _revisions(step: Step) -> int:
    """The most revisions a curation can ask for; 0 for other steps, and where the number of texts is not given."""
    if step.name != curate.name:
        return 0
    texts = DrawStep.model_validate(step.inputs["texts"].params).source
    return CurateStep.model_validate(step.params).curation.candidates_per_text * (texts.count or 0)


def demo_recipes() -> list[CommonRecipe]:
    """The two recipes of the demo."""
    return [read_recipe(recipe_folder() / name) for name in ("demo_stages.yaml", "demo_cross_task.yaml")]


def existing(root: Path) -> Path:
    """A store that is read.

    Raises:
        ConfigError: it is not there.
    """
    if not root.is_dir():
        raise ConfigError(f"--store {root}: no such folder; name the store of a run (`buckler demo` makes one in runs/)")
    return root


def list_runs(root: Path) -> dict[str, Json]:
    """Print what a store holds: steps and bytes by kind and by run, unfinished steps, reports; the same as values."""
    held = Held(root)
    if not held.folders:
        say(f"{root}: no runs here yet; start one with `buckler demo` or `buckler run stages`")
        return {"store": str(root), "finished": {}, "unfinished": [], "bytes": 0, "reports": []}
    kinds, by_run, begun, free = held.by_kind(), held.by_run(), held.begun, prunable(held).size
    for kind, (number, size) in kinds.items():
        say(f"{number:6} {kind}, {megabytes(size)}")
    total = sum(held.sizes.values())
    say(f"{len(held.finished)} finished steps, {len(begun)} begun and not finished, {megabytes(total)}")
    for name in begun[:10]:
        say(f"  not finished: {name}")
    for name, (number, size) in by_run.items():
        say(f"run {name}: {number} steps, {megabytes(size)}")
    if len(by_run) > 1:
        say("steps that runs share count in each of them")
    reports = sorted((root / "reports").glob("*/report.html"))
    for path in reports:
        say(f"report: {path}")
    if free:
        say(f"`buckler runs prune --store {root}` can free {megabytes(free)}")
    pages: list[Json] = [str(path) for path in reports]
    finished: dict[str, Json] = {kind: number for kind, (number, _) in kinds.items() if number}
    sizes: dict[str, Json] = {kind: size for kind, (_, size) in kinds.items()}
    runs: dict[str, Json] = {name: {"steps": number, "bytes": size} for name, (number, size) in by_run.items()}
    more: dict[str, Json] = {"bytes_by_kind": sizes, "runs": runs, "prunable_bytes": free}
    return {"store": str(root), "finished": finished, "unfinished": [*begun], "bytes": total, "reports": pages, **more}


def prune_runs(root: Path, *, yes: bool) -> dict[str, Json]:
    """Show what of a store can go, and remove it where `yes` says so, or the user at the terminal does; the same as values.

    Raises:
        StoreError: a run is at work in the store, or a file cannot be removed.
    """
    found = prunable(Held(root))
    if found.weights:
        size = megabytes(sum(found.weights.values()))
        say(f"{len(found.weights)} trained models, {size}: all steps that were begun with them are finished")
    if found.copies:
        about = "merged models beside their adapters, and answers kept for steps that are finished"
        say(f"{len(found.copies)} files and folders that nothing needs, {megabytes(sum(found.copies.values()))}: {about}")
    if found.kept:
        say(f"{found.kept} trained models are kept: they were not used yet, a step is not finished, or an adapter is on them")
    removed = bool(found.size) and (yes or _agrees(f"Remove {megabytes(found.size)}?"))
    if removed:
        found.remove()
        say(f"freed {megabytes(found.size)}; all results and pages are kept, and weights that are needed again are made again")
    elif found.size:
        say(f"nothing was removed; `buckler runs prune --store {root} --yes` frees {megabytes(found.size)}")
    else:
        say(f"{root}: nothing to remove")
    return {"store": str(root), "models": len(found.weights), "kept": found.kept, "bytes": found.size, "removed": removed}


def megabytes(size: int) -> str:
    """A number of bytes for people."""
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def _agrees(question: str) -> bool:
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return False
    sys.stdout.write(f"{question} [y/N] ")
    sys.stdout.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def recompute(results: RunResult, store: Path, out: Path) -> RunResult:
    """Saved results, every number computed again from the answers and verdicts in the store -> `results-NAME.json`."""
    computed = collect_again(results, Store(existing(store)))
    path = out / f"results-{results.name}.json"
    write_json(path, computed.to_json())
    saved, again = results.to_json(), read_json(path)
    assert isinstance(again, dict)
    other = [name for name in again if again[name] != saved.get(name)]
    compared = f"different from the saved ones: {', '.join(other)}" if other else "identical to the saved ones"
    say(f"{results.name}: numbers recomputed from answers and verdicts are {compared}")
    judged = any(arm.steps is not None and arm.steps.second_verdicts for arm in results.arms)
    if experiment_of(results.kind).phrase_rule is not None and not judged and results.record.judge.get("name") != "paper":
        counts = "counts are kept as saved" if results.paper_rule.cells else "counts are missing"
        say(
            f"{results.name}: the results name no verdicts of the authors' phrases, whose {counts}; `buckler run` of the recipe "
            f"on {store} judges the saved answers by them"
        )
    return read_results(again, str(path))


def say(text: str = "") -> None:
    """A line for the reader, on standard output."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def console() -> Console:
    """The terminal, or lines wide enough for every column where there is none."""
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=130)


def executed(targets: Sequence[Step], store: Store, *, workers: int, cluster: str | None) -> Outcome:
    """Run steps with progress, counted as they end; what became of them."""
    total = len(in_order(targets))
    seen = 0
    with show_progress() as progress:

        def on_event(event: Event) -> None:
            nonlocal seen
            seen += 1
            progress("steps", seen, total, event.step.title or event.step.name)

        return execute(targets, store, workers=workers, cluster=cluster, on_event=on_event, progress=progress)


def run_steps(targets: Sequence[Step], store: Store, *, workers: int, cluster: str | None) -> None:
    """Run steps with progress; the first errors become the command's error."""
    outcome = executed(targets, store, workers=workers, cluster=cluster)
    if outcome.failed:
        shown = "\n".join(f"  {event.step.title}: {event.error}" for event in outcome.failed[:3])
        more = f"\n  and {len(outcome.failed) - 3} more" if len(outcome.failed) > 3 else ""
        kept = f"{outcome.done + outcome.reused} finished steps are kept, {outcome.skipped} are waiting for failed ones"
        kind = InternalError if any(event.unforeseen for event in outcome.failed) else StoreError
        raise kind(f"{len(outcome.failed)} steps failed ({kept}):\n{shown}{more}")
