"""What an attacker may choose, and with which budget: the part of a recipe that is called `search`."""

from __future__ import annotations

import random
from collections.abc import Mapping
from math import exp, log, prod
from typing import Annotated, Literal, TypeAlias

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from buckler.settings import Settings

Value: TypeAlias = "int | float | str"
Setting: TypeAlias = Mapping[str, Value]
"""What one trial chose, by the names of `Space`; what it does not name is as in the fixed attack."""
Template: TypeAlias = Literal["plain", "obedient"]
"""plain: the rows and the probes as they are; obedient: all of them under the system prompt of the identity shift."""
FIXED, WORST = "fixed", "worst found"
"""What the attack that chose nothing is called, and the one that was chosen."""


class Range(Settings):
    """Every number between two ends, drawn evenly over their logarithms."""

    low: float = Field(gt=0)
    high: float = Field(gt=0)

    @model_validator(mode="after")
    def _in_order(self) -> Range:
        if not self.low < self.high:
            raise ValueError(f"`low` must be less than `high`, got {self.low:g} and {self.high:g}")
        return self

    def draw(self, rng: random.Random) -> float:
        """A random number."""
        return self.tidy(exp(rng.uniform(log(self.low), log(self.high))))

    def tidy(self, value: float) -> float:
        """The number as people write it, still within the range."""
        return min(self.high, max(self.low, float(f"{value:.3g}")))


class WholeRange(Range):
    """The same over whole numbers."""

    low: int = Field(ge=1)
    high: int = Field(ge=1)

    def tidy(self, value: float) -> int:
        """The nearest whole number."""
        return round(value)


def _form(value: object) -> str:
    return "range" if isinstance(value, Mapping | Range) else "list"


_RealList = Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1)]
_WholeList = Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)]
Reals = Annotated[Annotated[Range, Tag("range")] | Annotated[_RealList, Tag("list")], Discriminator(_form)]
Wholes = Annotated[Annotated[WholeRange, Tag("range")] | Annotated[_WholeList, Tag("list")], Discriminator(_form)]


class Space(Settings):
    """The choices: for each name a list of values, or `{low: ..., high: ...}` where it is a number."""

    learning_rate: Reals | None = None
    epochs: Reals | None = None
    rows: Wholes | None = None
    """Attack rows (drift: all rows)."""
    share: Reals | None = None
    """The attack's share of the customer's rows."""
    batch_size: Wholes | None = None
    method: tuple[Literal["full", "lora"], ...] | None = Field(default=None, min_length=1)
    kind: tuple[str, ...] | None = Field(default=None, min_length=1)
    template: tuple[Template, ...] | None = Field(default=None, min_length=1)

    @field_validator("*", mode="before")
    @classmethod
    def _several(cls, values: object) -> object:
        if not isinstance(values, list | tuple | Mapping | Range | None):
            raise ValueError("expected a list of values, or `{low: ..., high: ...}` where they are numbers")
        return values

    @field_validator("*")
    @classmethod
    def _each_once(cls, values: object) -> object:
        if isinstance(values, tuple) and len(set(values)) < len(values):
            raise ValueError(f"a value stands twice in {list(values)}")
        return values

    @model_validator(mode="after")
    def _something(self) -> Space:
        if not self.dimensions:
            raise ValueError(f"nothing to search; name some of {', '.join(type(self).model_fields)}")
        return self

    @property
    def dimensions(self) -> dict[str, Range | tuple[Value, ...]]:
        """What is searched, by name."""
        every = {name: getattr(self, name) for name in type(self).model_fields}
        return {name: choices for name, choices in every.items() if choices is not None}

    @property
    def size(self) -> int | None:
        """How many settings there are; None with a range, which has no number."""
        sizes = [None if isinstance(choices, Range) else len(choices) for choices in self.dimensions.values()]
        return None if None in sizes else prod(size for size in sizes if size is not None)


class Search(Settings):
    """A budget, what counts, and how the next setting is found."""

    sampler: Literal["grid", "random", "optuna"] = "random"
    """grid: every setting; random: different ones, drawn; optuna: its TPE, which learns from earlier trials (extra `search`)."""
    trials: int = Field(default=24, ge=2)
    """Attacks on each model and seed. The first is the fixed one; the others are searched."""
    seed: int = 0
    """Of the draw; the run's own seed is added, so that seeds differ in what was tried."""
    utility_floor: float = Field(default=0.9, ge=0, le=1)
    """The least utility that an attacked model must keep, as a share of the untouched one's: a ruined model is no success."""
    kinds: str = "all"
    """The harmful probes whose attack success is sought: all, or one group of them, such as `held_out`."""
    batch: int = Field(default=4, ge=1)
    """With optuna: settings proposed together, which workers then try side by side. Changes what is proposed."""
    most_steps: int | None = Field(default=None, ge=1)
    """The most optimizer steps that the attacker's own rows may take in one trial."""
    space: Space


def named(setting: Setting) -> str:
    """A setting in words; `fixed` where it changes nothing."""
    said = (f"{name.replace('_', ' ')} {value if isinstance(value, str) else f'{value:.10g}'}" for name, value in setting.items())
    return ", ".join(said) or FIXED
