"""How results were made: recipe, models by content, judge, versions."""

from __future__ import annotations

import platform
from importlib import metadata
from typing import cast

from buckler import __version__
from buckler.config.customization import StagesRecipe
from buckler.config.read import Recipe
from buckler.data import Json, content_id
from buckler.judges.named import JudgeSpec, judge_spec
from buckler.models.identity import identity


def record(recipe: Recipe) -> dict[str, Json]:
    """How it was made: the recipe with its controls spelled out, what each model is by content, judge and versions."""
    spelled = recipe.model_dump(mode="json")
    if isinstance(recipe, StagesRecipe):
        spelled["defences"] = {name: one.model_dump(mode="json") for name, one in recipe.all_defences.items()}
    packages = ("torch", "transformers", "tokenizers", "peft", "accelerate", "numpy", "scipy")
    return {
        "buckler": __version__,
        "python": platform.python_version(),
        "libraries": {name: metadata.version(name) for name in packages},
        "judge": _judge(judge_spec(recipe.judge)),
        "models": {name: identity(spec) for name, spec in recipe.models.items()},
        "recipe": cast(Json, spelled),
        "recipe_id": content_id(cast(Json, spelled)),
    }


def _judge(judge: JudgeSpec) -> dict[str, Json]:
    """Name, version, and where it is made of models, what these are by content."""
    models: dict[str, Json] = {spec.name: identity(spec) for spec in judge.models}
    return {"name": judge.label, "version": judge.version, **({"models": models} if models else {})}
