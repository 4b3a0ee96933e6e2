"""What every recipe can say."""

from __future__ import annotations

from pydantic import Field

from buckler.models.protocol import ModelSpec
from buckler.settings import Settings


class CommonRecipe(Settings):
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    about: str = ""
    models: dict[str, ModelSpec] = Field(min_length=1)
    """Aligned models by the name the report calls them."""
    seeds: tuple[int, ...] = Field(default=(0, 1, 2), min_length=1)
    max_new_tokens: int = Field(default=128, ge=1)
    judge: str = "keyword"
    """`keyword`, `rubric=MODEL`, `guard=MODEL`, or several with commas for their majority."""
    judge_cards: str | None = None
    """The folder of judge cards (`buckler judge-card`): where this version of the judge has one, the report quotes it and
    corrects rates by it."""
