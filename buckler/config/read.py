"""Reading a recipe file: its kind, its paths, what the command line changes in it."""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias

from buckler.config.attacker import AttackerRecipe
from buckler.config.crosstask import CrossTaskData, CrossTaskRecipe
from buckler.config.customization import CustomizationData, StagesRecipe
from buckler.crosstask.own_tasks import read_tasks
from buckler.crosstask.tasks import task_named
from buckler.errors import ConfigError
from buckler.registry import is_place, read_from
from buckler.settings import parse, read_yaml
from buckler.workflow.sources import WORLD, Source

Recipe: TypeAlias = StagesRecipe | CrossTaskRecipe | AttackerRecipe
KINDS: dict[str, type[StagesRecipe] | type[CrossTaskRecipe] | type[AttackerRecipe]] = {
    "stages": StagesRecipe,
    "cross_task": CrossTaskRecipe,
    "attacker": AttackerRecipe,
}


def read_recipe(
    path: Path,
    *,
    model: str | None = None,
    judge: str | None = None,
    judge_cards: Path | None = None,
    trust_code: bool = False,
) -> Recipe:
    """A recipe file, checked; `model` replaces its models by one, `judge` its judge, `judge_cards` the folder of cards.

    Paths in it are relative to the recipe's own folder; `judge_cards` as an argument is not. A `module:name` in it is refused
    without `trust_code`; those in the arguments are the user's own.

    Raises:
        ConfigError: the file or something in it is not understood.
    """
    values = read_yaml(path)
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected keys and values")
    kind = values.get("kind")
    if kind not in KINDS:
        raise ConfigError(f"{path}: `kind` must be one of {', '.join(KINDS)}, got {kind!r}")
    if judge is not None:
        values = {**values, "judge": judge}
    if judge_cards is not None:
        values = {**values, "judge_cards": str(judge_cards.absolute())}
    if model is not None:
        values = {**values, "models": {Path(model).name: {"name": model}}}
    named = {model or "", *(part for one in (judge or "").split(",") for part in one.strip().split("=", 1))}
    with read_from(str(path), trusted=trust_code, allowed=named):
        recipe = parse(KINDS[str(kind)], values, str(path))
        if isinstance(recipe, CrossTaskRecipe):
            recipe = _with_own_tasks(recipe, path)
    anchored = {"data": _anchored(recipe.data, path.parent), "judge_cards": _anchored_cards(recipe, path)}
    return recipe.model_copy(update={**anchored, **_anchored_probes(recipe, path.parent)})


def _with_own_tasks(recipe: CrossTaskRecipe, path: Path) -> CrossTaskRecipe:
    """The recipe with the place of its own tasks, all its tasks checked against them.

    Raises:
        ConfigError: a task is unknown, or has none of the wordings it is to be asked in.
    """
    place = None if recipe.own_tasks is None else own_tasks_place(recipe.own_tasks, path.parent)
    own = None if place is None else read_tasks(place)
    turns = recipe.two_turns
    for name in (*recipe.crosstask.tasks, *((turns.first, turns.then) if turns else ())):
        task_named(name, own)
    return recipe.model_copy(update={"own_tasks": None if place is None else str(place)})


def own_tasks_place(own: str, folder: Path) -> Path:
    """A file of tasks relative to the recipe's folder, or tasks at a `module:name` as they are."""
    return Path(own) if all(is_place(one.strip()) for one in own.split(",")) else folder / own


def _anchored_cards(recipe: Recipe, path: Path) -> str | None:
    """The place of the judge cards.

    Raises:
        ConfigError: there is no such folder.
    """
    if recipe.judge_cards is None:
        return None
    folder = path.parent / recipe.judge_cards
    if not folder.is_dir():
        raise ConfigError(f"{path}: judge_cards: {folder} is no folder; `buckler judge-card --out {folder}` makes it")
    return str(folder)


def _anchored_probes(recipe: Recipe, folder: Path) -> dict[str, object]:
    sets = {name: getattr(recipe, name, None) for name in ("probes", "dev_probes")}
    return {name: {key: _at(one, folder) for key, one in of.items()} for name, of in sets.items() if of is not None}


def _anchored(data: CustomizationData | CrossTaskData, folder: Path) -> CustomizationData | CrossTaskData:
    changed: dict[str, object] = {}
    for name in type(data).model_fields:
        value = getattr(data, name)
        if isinstance(value, Source):
            changed[name] = _at(value, folder)
        elif isinstance(value, dict):
            changed[name] = {key: _at(source, folder) for key, source in value.items()}
    return data.model_copy(update=changed)


def _at(source: Source, folder: Path) -> Source:
    """The source with a relative path taken from the recipe's folder, if something lies there."""
    place = folder / source.source
    if source.source.startswith(WORLD) or not place.exists():
        return source
    return source.model_copy(update={"source": str(place)})
