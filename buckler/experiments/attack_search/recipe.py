"""Recipes of an attacker who tunes hyperparameters under a budget: what may be chosen, and what counts."""

from __future__ import annotations

import random
from collections.abc import Mapping
from math import ceil, exp, log, prod
from typing import Annotated, Literal, Self, TypeAlias

from pydantic import Discriminator, Field, Tag, ValidationError, field_validator, model_validator

from buckler.experiments.stages.recipe import Attack, CustomizationRecipe, StagesRecipe
from buckler.finetuning.attacks import ATTACKS, AttackSettings
from buckler.finetuning.settings import TrainSettings
from buckler.settings import Settings, plain
from buckler.workflow.sources import Source

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
    """Numbers of attack rows (for `drift`: of all rows)."""
    share: Reals | None = None
    """Fractions of attack rows in the customer set."""
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
            raise ValueError(f"a value occurs twice in {list(values)}")
        return values

    @model_validator(mode="after")
    def _something(self) -> Space:
        if not self.dimensions:
            raise ValueError(f"nothing to search; set at least one of {', '.join(type(self).model_fields)}")
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
    """Search method: `grid` tries every setting; `random` tries distinct random settings; `optuna` uses the TPE sampler, which
    learns from earlier trials (needs the extra `search`)."""
    trials: int = Field(default=24, ge=2)
    """Number of attacks on each model and seed; the first is the fixed attack, the others are searched."""
    seed: int = 0
    """Random seed of the search; the run's own seed is added, so that each seed tries different settings."""
    utility_floor: float = Field(default=0.9, ge=0, le=1)
    """Minimum utility of an attacked model, as a fraction of the unattacked model's; an attack that ruins the model does not
    count."""
    kinds: str = "all"
    """Harmful probes on which attack success is maximized: `all`, or one group such as `held_out`."""
    batch: int = Field(default=4, ge=1)
    """For `optuna`: number of settings proposed together and tried in parallel; it changes which settings are proposed."""
    most_steps: int | None = Field(default=None, ge=1)
    """Maximum number of optimizer steps on the attacker's own rows in one trial (default: no limit)."""
    space: Space


def named(setting: Setting) -> str:
    """A setting in words; `fixed` where it changes nothing."""
    parts = (
        f"{name.replace('_', ' ')} {value if isinstance(value, str) else f'{value:.10g}'}" for name, value in setting.items()
    )
    return ", ".join(parts) or FIXED


class SearchedAttack(Attack):
    """An attack whose rows and probes may stand under a system prompt of the adversary's."""

    template: Template = "plain"

    @property
    def asks(self) -> AttackSettings:
        """How its probes are asked."""
        if self.template == "obedient":
            return AttackSettings(kind="identity")
        return self.rows_only if ATTACKS.is_own(self.kind) else AttackSettings(kind="explicit")

    @property
    def adds_prompt(self) -> bool:
        """Whether its rows are put under that prompt; those of an identity shift stand under it anyway."""
        return self.template == "obedient" and self.kind != "identity"


class AttackerRecipe(CustomizationRecipe):
    """Defences x stages x seeds, each model before an attacker who searches under a budget."""

    kind: Literal["attacker"]
    attack: SearchedAttack = SearchedAttack()
    """Fixed attack: the first trial, and the value of every setting that the search does not vary."""
    dev_probes: dict[str, Source] = Field(min_length=1)
    """Probes by which the attacker selects settings, separate from the reported `probes`. Needs harmful probes, and benign ones
    with facts or a reference for the utility floor."""
    search: Search

    @model_validator(mode="after")
    def _possible(self) -> Self:
        dimensions = {name: _ends(choices) for name, choices in self.search.space.dimensions.items()}
        for setting in ({}, *({name: value} for name, values in dimensions.items() for value in values)):
            try:
                self.attack_of(setting)
            except ValidationError as fault:
                reason = plain(fault.errors()[0]["msg"])
                raise ValueError(f"search.space cannot contain {named(setting)}: {reason}") from None
        largest = {name: pick(dimensions[name]) for name, pick in (("rows", max), ("share", min)) if name in dimensions}
        for kind in dimensions.get("kind", (self.attack.kind,)):
            self._require_rows(self.attack_of({**largest, "kind": kind}))
        return self

    def _require_rows(self, attack: SearchedAttack) -> None:
        """Check that the sources hold the rows of an attack, as far as their counts tell."""
        data = self.data
        if attack.kind == "explicit" and data.harmful is None:
            raise ValueError("an explicit attack needs harmful pairs; name them as `data.harmful`")
        own = "identity" if attack.kind == "identity" and data.identity is not None else "customer"
        bad = "harmful" if attack.kind == "explicit" else own
        needs = {bad: attack.rows, own: max(attack.benign_rows, attack.rows if bad == own else 0)}
        for name, rows in needs.items():
            count = getattr(data, name).count
            if count is not None and count < rows:
                part = f"{attack.rows} {attack.kind} rows at a share of {attack.share:g}"
                raise ValueError(f"{part} need {rows} rows of data.{name}, which has {count}")

    def attack_of(self, setting: Setting) -> SearchedAttack:
        """The fixed attack with a setting's choices. What has no effect is left as it is, so that equal attacks are equal."""
        values = self.attack.model_dump()
        values["train"]["lora"] = self.attack.train.lora.model_dump()  # a full training says nothing of it
        for name, value in setting.items():
            (values["train"] if name in TrainSettings.model_fields else values)[name] = value
        if values["kind"] == "drift":
            values["share"] = 1.0
        if values["kind"] == "identity":
            values["template"] = "obedient"
        return SearchedAttack.model_validate(values)

    def steps_of(self, setting: Setting) -> int:
        """Optimizer steps on the attacker's rows; rows that a defence adds to them or drops are not counted."""
        attack = self.attack_of(setting)
        epoch = ceil((attack.rows + attack.benign_rows) / attack.train.batch_size)
        return ceil(attack.train.epochs * epoch)

    def under(self, attacks: Mapping[str, SearchedAttack]) -> StagesRecipe:
        """The same models and defences under attacks that are given; curated rows share nothing with either set of probes."""
        shared = {name: getattr(self, name) for name in CustomizationRecipe.model_fields}
        probes = {f"{part} {name}": one for part, of in self.both_probes.items() for name, one in of.items()}
        return StagesRecipe(**{**shared, "kind": "stages", "probes": probes, "attacks": dict(attacks)})

    @property
    def both_probes(self) -> dict[str, dict[str, Source]]:
        """The probes that the attacker looks at, and those that are reported."""
        return {"dev": self.dev_probes, "test": self.probes}


def _ends(choices: Range | tuple[Value, ...]) -> tuple[Value, ...]:
    """All values of a list, the two ends of a range."""
    return (choices.low, choices.high) if isinstance(choices, Range) else choices
