"""Reading a recipe file: its kind, its paths, what the command line changes in it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from buckler.errors import ConfigError
from buckler.experiments.base import CommonRecipe
from buckler.experiments.registry import EXPERIMENTS, experiment_of
from buckler.registry import is_place, read_from
from buckler.settings import parse, read_yaml, with_changes


def read_recipe(
    path: Path,
    *,
    model: str | None = None,
    judge: str | None = None,
    judge_cards: Path | None = None,
    changes: Sequence[str] = (),
    trust_code: bool = False,
) -> CommonRecipe:
    """A recipe file, checked; `model` replaces its models by one, `judge` its judge, `judge_cards` the folder of cards.

    Each of `changes` is a text such as `curation.rounds=3`, the value in YAML: it replaces what the file says.

    Paths in it are relative to the recipe's own folder; `judge_cards` as an argument is not. A `module:name` in it is refused
    without `trust_code`; those in the arguments are the user's own.

    Raises:
        ConfigError: the file or something in it is not understood.
    """
    values = read_yaml(path)
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected keys and values")
    kind = values.get("kind")
    if kind not in EXPERIMENTS and not is_place(str(kind)):
        raise ConfigError(f"{path}: `kind` must be one of {', '.join(EXPERIMENTS)}, got {kind!r}")
    if judge is not None:
        values = {**values, "judge": judge}
    if judge_cards is not None:
        values = {**values, "judge_cards": str(judge_cards.absolute())}
    if model is not None:
        values = {**values, "models": {Path(model).name: {"name": model}}}
    named = {model or "", *(part for one in (judge or "").split(",") for part in one.strip().split("=", 1))}
    named |= {change.partition("=")[2].strip() for change in changes}
    with read_from(str(path), trusted=trust_code, allowed=named):
        schema = experiment_of(kind).recipe
        recipe: CommonRecipe = parse(schema, with_changes(schema, values, changes, "--set"), str(path))
        return recipe.anchored(path)
