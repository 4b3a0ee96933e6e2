"""The kinds of experiments, and recipe files: found by name, read with their kind and paths, changed from the command line.

A new kind is one folder beside this file and one line of `EXPERIMENTS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeGuard, TypeVar

import buckler
from buckler.data.reading import kind_at
from buckler.data.yaml_text import read_yaml
from buckler.errors import ConfigError
from buckler.experiments.base import Arm, CommonRecipe, Experiment, Key, Loop, MeasuredArm, Pair, Plan
from buckler.experiments.results import PhraseRule, RunResult, SampleResult, SearchResult
from buckler.models.dtype import Dtype
from buckler.progress import LOG
from buckler.registry import Registry, is_place, places_in, read_from, refuse_code
from buckler.report.claims import Finding
from buckler.report.figures import Sketch
from buckler.report.tables import Table
from buckler.settings import parse, with_changes
from buckler.workflow.step import Step
from buckler.workflow.store import Store

Item = TypeVar("Item")


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
        ConfigError: there is none, or one of the user's own is for another kind or no experiment.
    """
    name = str(kind)
    experiment = EXPERIMENTS.get(name)
    return _checked(name, experiment) if EXPERIMENTS.is_own(name) else experiment


def _checked(name: str, experiment: Experiment[Any]) -> Experiment[Any]:
    """A user's experiment, each of whose functions is checked when it is called."""
    if not (isinstance(experiment.recipe, type) and issubclass(experiment.recipe, CommonRecipe)):
        raise EXPERIMENTS.returned(name, experiment.recipe, "a class derived from CommonRecipe as its `recipe`")
    if experiment.kind != name:
        raise ConfigError(f"experiment {name!r}: its `kind` is {experiment.kind!r}; make it the name that recipes give it")

    def called(by: str, *given: object) -> object:
        with EXPERIMENTS.boundary(name):
            value = getattr(experiment, by)(*given)
            return list(value) if isinstance(value, Iterator | tuple) else value

    def list_by(by: str, item: type[Item]) -> Callable[..., list[Item]]:
        return lambda *given: EXPERIMENTS.list_of(name, called(by, *given), item, by=by)

    def plan(recipe: CommonRecipe) -> Plan:
        return _planned(name, called("plan", recipe), "`plan`")

    def pairs(arms: Mapping[Key, Sequence[MeasuredArm]]) -> Iterator[Pair]:
        return iter(list_by("pairs", Pair)(arms))

    def phrase_rule(*given: object) -> PhraseRule:
        rule = called("phrase_rule", *given)
        if not isinstance(rule, PhraseRule):
            raise EXPERIMENTS.returned(name, rule, "a PhraseRule from `phrase_rule`")
        return rule

    def examples(results: RunResult) -> Mapping[str, Sequence[SampleResult]]:
        found = called("examples", results)
        if not isinstance(found, Mapping):
            raise EXPERIMENTS.returned(name, found, "samples by heading from `examples`")
        return {str(key): EXPERIMENTS.list_of(name, one, SampleResult, by="examples") for key, one in found.items()}

    return replace(
        experiment,
        plan=plan,
        pairs=pairs,
        claims=list_by("claims", Finding),
        tables=list_by("tables", Table),
        figures=list_by("figures", Sketch),
        question=str(experiment.question),
        flags=str(experiment.flags),
        loop=experiment.loop and _checked_loop(name, experiment.loop),
        phrase_rule=experiment.phrase_rule and phrase_rule,
        examples=experiment.examples and examples,
    )


def _checked_loop(name: str, loop: Loop[Any]) -> Loop[Any]:
    def run(recipe: CommonRecipe, store: Store, workers: int, cluster: str | None) -> tuple[Plan, list[SearchResult]]:
        with EXPERIMENTS.boundary(name):
            found: object = loop.run(recipe, store, workers, cluster)
        match found:
            case (plan, searches):
                searched = EXPERIMENTS.list_of(name, searches, SearchResult, by="loop.run")
                return _planned(name, plan, "`loop.run`"), searched
        raise EXPERIMENTS.returned(name, found, "(Plan, list of SearchResult) from `loop.run`")

    def dry_run(recipe: CommonRecipe, store: Store) -> None:
        with EXPERIMENTS.boundary(name):
            loop.dry_run(recipe, store)

    return Loop(run=run, dry_run=dry_run)


def _planned(name: str, plan: object, by: str) -> Plan:
    if not isinstance(plan, Plan):
        raise EXPERIMENTS.returned(name, plan, f"a Plan from {by}")
    EXPERIMENTS.list_of(name, plan.arms, Arm, by="plan.arms")
    EXPERIMENTS.list_of(name, plan.checks, Step, by="plan.checks")
    figures: object = plan.figures
    if not isinstance(figures, Mapping):
        raise EXPERIMENTS.returned(name, figures, f"steps by name as the `figures` of {by}")
    EXPERIMENTS.list_of(name, list(figures.values()), Step, by="plan.figures")
    return plan


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


def read_recipe(
    path: Path,
    *,
    model: str | None = None,
    judge: str | None = None,
    judge_cards: Path | None = None,
    dtype: Dtype | None = None,
    threads: int | None = None,
    changes: Sequence[str] = (),
    trust_code: bool = False,
) -> CommonRecipe:
    """A recipe file, checked; `model` replaces its models by one, `judge` its judge, `judge_cards` the folder of cards.

    `dtype` and `threads` hold for its local models that do not say it themselves.

    Each of `changes` is a text such as `curation.rounds=3`, the value in YAML: it replaces what the file says.

    Paths in it are relative to the recipe's own folder; those of the arguments are not. A `module:name` in it is refused
    without `trust_code`; those in the arguments are the user's own.

    Raises:
        ConfigError: the file or something in it is not understood.
    """
    values = read_yaml(path)
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected keys and values")
    kind = values.get("kind")
    if not isinstance(kind, str) or (kind not in EXPERIMENTS and not is_place(kind)):
        raise ConfigError(f"{path}: `kind` must be one of {', '.join((*EXPERIMENTS, 'pipeline'))}, got {kind!r}")
    if judge is not None:
        named_here = [part.partition("=") for part in judge.split(",")]
        judge = ",".join(f"{name}{equals}{_given(one.strip(), path.parent)}" for name, equals, one in named_here)
        values = {**values, "judge": judge}
    if judge_cards is not None:
        values = {**values, "judge_cards": str(judge_cards.absolute())}
    if model is not None:
        values = {**values, "models": {Path(model).name: {"name": _given(model, path.parent)}}}
    with read_from(str(path), trusted=trust_code, allowed=places_in(" ".join((model or "", judge or "", *changes)))):
        schema = experiment_of(kind).recipe
        with EXPERIMENTS.boundary(str(kind)):
            recipe: CommonRecipe = parse(schema, with_changes(schema, values, changes, "--set"), str(path))
            refuse_code(recipe)
            return recipe.anchored(path).loaded_so(dtype, threads)


def _given(name: str, folder: Path) -> str:
    """A model that an argument names, which is not looked for in the recipe's folder."""
    here, there = Path(name), folder / name
    other = bool(name) and kind_at(here) and kind_at(there) and not here.samefile(there)
    return str(here.absolute()) if other else name


def recipe_folder() -> Path:
    """Where the project's recipes lie: in the installed package, or beside it in a checkout."""
    package = Path(buckler.__file__).parent
    inside = package / "recipes"
    return inside if inside.is_dir() else package.parent / "recipes"


def packaged() -> dict[str, Path]:
    """The recipes that come with Buckler, by name."""
    return {path.stem: path for path in sorted(recipe_folder().glob("*.yaml"))}


def find_recipe(name: str) -> Path:
    """The file of that name, or the packaged recipe.

    Raises:
        ConfigError: there is neither.
    """
    known = packaged()
    here = next((path for path in (Path(name), Path(f"{name}.yaml")) if kind_at(path) in ("file", "other")), None)
    if here is not None:
        if here.stem in known:
            LOG.info("using the file %s, not the packaged recipe of that name", here)
        return here
    stem = name.removesuffix(".yaml")
    if stem in known:
        return known[stem]
    near = get_close_matches(Path(stem).name, known, n=1)
    hint = f"did you mean the packaged recipe `{near[0]}`?" if near else f"the packaged recipes are {', '.join(known)}"
    raise ConfigError(f"{name}: {'is a folder' if kind_at(name) == 'folder' else 'no such file'}; {hint}")
