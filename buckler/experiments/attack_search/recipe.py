"""Recipes of an attacker who searches for his settings under a budget."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from typing import Literal, Self

from pydantic import Field, ValidationError, model_validator

from buckler.experiments.attack_search.sampler import SearchRules
from buckler.experiments.attack_search.space import Range, Search, Setting, Template, Value, named
from buckler.experiments.stages.recipe import Attack, CustomizationRecipe, StagesRecipe
from buckler.finetuning.attacks import ATTACKS, AttackSettings
from buckler.finetuning.train import TrainSettings
from buckler.workflow.sources import Source


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
    """The fixed attack: the first trial, and what a setting that the search does not name is."""
    dev_probes: dict[str, Source] = Field(min_length=1)
    """What the attacker chooses by: never the `probes` that are reported. Needs harmful ones, and benign ones with facts or a
    reference for the floor of utility."""
    search: Search

    @model_validator(mode="after")
    def _possible(self) -> Self:
        dimensions = {name: _ends(choices) for name, choices in self.search.space.dimensions.items()}
        for setting in ({}, *({name: value} for name, values in dimensions.items() for value in values)):
            try:
                self.attack_of(setting)
            except ValidationError as fault:
                reason = fault.errors()[0]["msg"].removeprefix("Value error, ")
                raise ValueError(f"search.space cannot hold {named(setting)}: {reason}") from None
        largest = {name: pick(dimensions[name]) for name, pick in (("rows", max), ("share", min)) if name in dimensions}
        for kind in dimensions.get("kind", (self.attack.kind,)):
            self._require_rows(self.attack_of({**largest, "kind": kind}))
        return self

    def _require_rows(self, attack: SearchedAttack) -> None:
        """Check that the sources hold the rows of an attack, as far as their counts tell."""
        data = self.data
        if attack.kind == "explicit" and data.harmful is None:
            raise ValueError("an explicit attack needs `data.harmful`, its harmful pairs")
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

    @property
    def rules(self) -> SearchRules:
        """What the search keeps to."""
        return SearchRules(search=self.search, key=lambda one: self.attack_of(one).model_dump_json(), steps=self.steps_of)

    def under(self, attacks: Mapping[str, SearchedAttack]) -> StagesRecipe:
        """The same models and defences under attacks that are given; curated rows stay apart from both sets of probes."""
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
