"""What every recipe can say."""

from __future__ import annotations

from pydantic import Field, field_validator

from buckler.evaluation.metrics import known_metrics
from buckler.judges.named import judge_spec
from buckler.models.protocol import ModelSpec
from buckler.settings import Settings


class CommonRecipe(Settings):
    unwritten_if_empty = ("metrics",)
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    about: str = ""
    models: dict[str, ModelSpec] = Field(min_length=1)
    """Aligned models by the name the report calls them."""
    seeds: tuple[int, ...] = Field(default=(0, 1, 2), min_length=1)
    max_new_tokens: int = Field(default=128, ge=1)
    judge: str = "keyword"
    """`keyword`, `rubric=MODEL`, `guard=MODEL`, your own as `module:Class`, or several with commas for their majority."""
    metrics: tuple[str, ...] = ()
    """Further numbers of every run: those of an installed package, or your own as `module:name`."""
    judge_cards: str | None = None
    """The folder of judge cards (`buckler judge-card`): where this version of the judge has one, the report quotes it and
    corrects rates by it."""

    @field_validator("judge")
    @classmethod
    def _is_judge(cls, value: str) -> str:
        judge_spec(value)
        return value

    @field_validator("metrics")
    @classmethod
    def _are_metrics(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return known_metrics(value)
