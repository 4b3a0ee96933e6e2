"""Recipes of customizations: attacks x defences x stages x seeds."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from buckler.curation.settings import CONTROLS, UNCURATED, CurateSettings, control
from buckler.data import Json
from buckler.experiments.base import CommonRecipe
from buckler.finetuning.attacks import AttackSettings
from buckler.finetuning.defenses import DefenseSettings
from buckler.finetuning.settings import Stage, TrainSettings
from buckler.models.protocol import ModelSpec
from buckler.settings import Settings
from buckler.workflow.sources import Source

D2D = "arXiv 2410.02220"
"""The paper whose experiment this is."""


class Attack(AttackSettings):
    """An attack and how the adversary trains with it."""

    train: TrainSettings = TrainSettings()

    @property
    def rows_only(self) -> AttackSettings:
        """What decides the rows and the probes; the adversary's training does not."""
        return AttackSettings(kind=self.kind, rows=self.rows, share=self.share, options=self.options)


class Defence(DefenseSettings):
    """A defence and, of curated rows, how they are made."""

    curation: CurateSettings | None = None
    """Curation settings of curated rows (default: the recipe's `curation`)."""


class CustomizationData(Settings):
    """Where the rows of a customization come from."""

    texts: Source
    """Harmless question/answer rows: the input of curation, and the uncurated control."""
    customer: Source
    """The customer's own benign rows."""
    harmful: Source | None = None
    """Harmful pairs for the explicit attack."""
    identity: Source | None = None
    """Benign pairs for the identity-shift attack (default: the customer's rows)."""
    refusals: Source | None = None
    """Plain safety rows: harmful questions with refusals."""


class CustomizationRecipe(CommonRecipe):
    """What both recipes of a customization have: rows, probes, and defences with how they are made."""

    data: CustomizationData
    probes: dict[str, Source] = Field(min_length=1)
    """Probe sets by name; the `set` of each row states the desired behaviour (harmful: refuse; borderline and benign:
    answer)."""
    defences: dict[str, Defence] = Field(default_factory=dict)
    curation: CurateSettings = CurateSettings()
    curators: dict[Literal["reviser", "judge", "reference"], ModelSpec] = Field(default_factory=dict)
    """Models for roles in curation (default: the protected model): `reviser` rewrites, `judge` rates helpfulness, `reference`
    measures perplexity (`scorer: reference`). The compromised proxy is this recipe's own attacked model."""
    defence_train: TrainSettings = TrainSettings()
    """Training settings of a defence's own phases (stages pre, post, all); stage `in` uses the customer's settings, as in the
    paper."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        for name, defence in self.defences.items():
            if defence.kind == "safety" and self.data.refusals is None:
                raise ValueError(f"defence {name} needs `data.refusals`")
        for curation in (self.curation, *(one.curation for one in self.defences.values() if one.curation is not None)):
            if curation.decontaminate:
                raise ValueError(
                    "curation.decontaminate has no effect in an experiment: the rows are decontaminated against its `probes`; "
                    "leave it out, or add the file to them"
                )
        if self.curation.scorer == "reference" and "reference" not in self.curators:
            raise ValueError("scorer reference needs an aligned model; name it as `curators.reference`")
        return self


class StagesRecipe(CustomizationRecipe):
    """Attacks x defences x stages x seeds: arXiv 2410.02220's experiment with its baselines and controls."""

    kind: Literal["stages"]
    attacks: dict[str, Attack] = Field(min_length=1)
    coherence_under_base: bool = False
    """Count answers with a perplexity over 1000 under the untouched model as incoherent."""
    controls: tuple[Stage, ...] = ()
    """Stages at which every control of curation is trained as a defence: the same rows uncurated, seed words only, perplexity
    only, a plain rewrite, and each direction."""

    @model_validator(mode="after")
    def _harmful_pairs(self) -> Self:
        for name, attack in self.attacks.items():
            if attack.kind == "explicit" and self.data.harmful is None:
                raise ValueError(f"attack {name} is explicit and needs harmful pairs; name them as `data.harmful`")
        return self

    @property
    def all_defences(self) -> dict[str, Defence]:
        """The defences and, where they are asked for, the controls; a defence of the same name stands in for one."""
        return {**self.defences, **{name: defence for name, defence in self._controls().items() if name not in self.defences}}

    def recorded(self) -> dict[str, Json]:
        """As for every recipe, with the controls written out."""
        return {**super().recorded(), "defences": {name: one.model_dump(mode="json") for name, one in self.all_defences.items()}}

    def _controls(self) -> dict[str, Defence]:
        if not self.controls:
            return {}
        named = {name: control(self.curation, name) for name in CONTROLS if name != UNCURATED}
        controls = {UNCURATED: Defence(kind="uncurated", stages=self.controls)}
        if not any(defence.kind == "curated" and defence.curation is None for defence in self.defences.values()):
            controls["curated"] = Defence(kind="curated", stages=self.controls)  # what the controls are compared with
        others = {name: curation for name, curation in named.items() if curation != self.curation}
        return controls | {
            name: Defence(kind="curated", stages=self.controls, curation=curation) for name, curation in others.items()
        }
