"""The kinds of experiments, and recipe files: found by name, read with their kind and paths, changed from the command line.

A new kind is one folder beside this file and one line of `EXPERIMENTS`.
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeGuard

import buckler
from buckler.errors import ConfigError
from buckler.experiments.base import CommonRecipe, Experiment, Plan
from buckler.models.dtype import Dtype
from buckler.progress import LOG
from buckler.registry import Registry, is_place, read_from
from buckler.settings import parse, read_yaml, with_changes


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
    if kind not in EXPERIMENTS and not is_place(str(kind)):
        raise ConfigError(f"{path}: `kind` must be one of {', '.join((*EXPERIMENTS, 'pipeline'))}, got {kind!r}")
    if judge is not None:
        named_here = [part.partition("=") for part in judge.split(",")]
        judge = ",".join(f"{name}{equals}{_given(one.strip(), path.parent)}" for name, equals, one in named_here)
        values = {**values, "judge": judge}
    if judge_cards is not None:
        values = {**values, "judge_cards": str(judge_cards.absolute())}
    if model is not None:
        values = {**values, "models": {Path(model).name: {"name": _given(model, path.parent)}}}
    named = {model or "", *(part for one in (judge or "").split(",") for part in one.strip().split("=", 1))}
    named |= {change.partition("=")[2].strip() for change in changes}
    with read_from(str(path), trusted=trust_code, allowed=named):
        schema = experiment_of(kind).recipe
        recipe: CommonRecipe = parse(schema, with_changes(schema, values, changes, "--set"), str(path))
        return recipe.anchored(path).loaded_so(dtype, threads)


def _given(name: str, folder: Path) -> str:
    """A model that an argument names, which is not looked for in the recipe's folder."""
    here, there = Path(name), folder / name
    other = bool(name) and here.exists() and there.exists() and not here.samefile(there)
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
    here = next((path for path in (Path(name), Path(f"{name}.yaml")) if path.is_file()), None)
    if here is not None:
        if here.stem in known:
            LOG.info("using the file %s, not the packaged recipe of that name", here)
        return here
    stem = name.removesuffix(".yaml")
    if stem in known:
        return known[stem]
    near = get_close_matches(Path(stem).name, known, n=1)
    hint = f"did you mean the packaged recipe `{near[0]}`?" if near else f"the packaged recipes are {', '.join(known)}"
    raise ConfigError(f"{name}: {'is a folder' if Path(name).is_dir() else 'no such file'}; {hint}")
