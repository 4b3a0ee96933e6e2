"""The settings of a curation, its presets with their cost, and the controls that tell what made a difference."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field, model_validator

from buckler.curation.search import Direction
from buckler.settings import Settings


class Gates(Settings):
    """Limits a candidate must keep; each can be switched off by null."""

    cut_off: bool | None = True
    """Reject a reply that the token limit ended."""
    repetition: float | None = Field(default=0.3, ge=0, le=1)
    """Greatest share of runs of four words (characters, in Chinese) that stood in the text before; what repeats itself no more
    than its original may. Whole loops are incoherent besides."""
    incoherent: bool | None = True
    """Reject noise, debris and loops."""
    copied_prompt: bool | None = True
    """Reject a reply that repeats rules of the revision prompt which the original does not have."""
    refusal: bool | None = True
    """Reject a refusal that leaked into a harmless row."""
    script: float | None = Field(default=0.2, ge=0, le=1)
    """Greatest difference between the mix of scripts of the revision and the original's."""
    language: bool | None = True
    """Reject a revision in another language, where both languages are clear."""
    length_ratio: tuple[float, float] | None = (0.5, 6.0)
    """Columns, relative to the original (a Chinese character takes two); a short original may always gain `gates.SLACK`."""
    kept_information: float | None = Field(default=0.6, ge=0, le=1)
    """Least share of the original's content words; those the question has are no news and do not count."""
    perplexity_ratio: float | None = Field(default=50.0, gt=1)
    """Highest perplexity relative to the original's (direction raise would else reward noise); see `gates.gate_perplexity`."""


class CurateSettings(Settings):
    """The knobs of the algorithm; the defaults are the published ones where there are some."""

    direction: Direction = "raise"
    """Direction of perplexity in which candidates are chosen; `random` chooses without it."""
    target: Literal["response", "query", "both"] = "response"
    """What is revised: the response, the query (its response then stays), or both in turn, the response first."""
    rounds: int = Field(default=5, ge=1)
    """Rounds of revision."""
    beam: int = Field(default=3, ge=1)
    """Texts kept after each round."""
    temperatures: tuple[float, ...] = Field(default=(0.2, 0.4, 0.6, 0.8, 1.0), min_length=1)
    """Sampling temperatures of the grid."""
    top_ps: tuple[float, ...] = Field(default=(0.2, 0.4, 0.6, 0.8, 1.0), min_length=1)
    """Nucleus sampling probabilities of the grid."""
    grid_kept: float = Field(default=0.4, gt=0, le=1)
    """Share of the grid's cells that later rounds use: those whose candidates ranked best so far, text by text. 1 is the
    published algorithm; two fifths reach as high a perplexity for less than half the generations (`benchmarks/curate.py`)."""
    words_per_prompt: int = Field(default=3, ge=0)
    """Seed words a revision is given; 0 asks for a plain rewrite (the control without seed words)."""
    words: str = "default"
    """`default`, a YAML file of categories, or `miniature` for the words of its world."""
    perplexity: Literal["conditional", "unconditional"] = "conditional"
    """Of the response given the query, or of the response alone."""
    measured_by: Literal["model", "reference", "proxy"] = "model"
    """Whose perplexity: the model to be protected, an aligned reference, or a compromised proxy."""
    helpfulness: Literal["local", "rubric"] = "rubric"
    """Who rates: a language model by rubric, or a measure that needs no model."""
    per_aspect: bool = False
    """Whether the rubric asks one call for each of the four aspects instead of one for all."""
    helpfulness_floor: float = Field(default=0.9, ge=0, le=1)
    """Least helpfulness relative to the original's (within 10 %)."""
    gates: Gates = Gates()
    apart_from: tuple[str, ...] = ()
    """Probe files (or `miniature:SET`): a candidate that is one of their probes, or nearly one, is rejected."""
    max_new_tokens: int = Field(default=512, ge=1)
    """Longest revision, in tokens."""

    @model_validator(mode="after")
    def _sound(self) -> CurateSettings:
        if self.direction == "contrast" and self.measured_by == "proxy":
            raise ValueError("a contrast already compares the proxy with the model: measured_by must be model or reference")
        if any(not 0 <= value <= 5 for value in self.temperatures) or any(not 0 < value <= 1 for value in self.top_ps):
            raise ValueError("temperatures must be from 0 to 5, top_ps above 0 and up to 1")
        return self

    @property
    def grid(self) -> list[tuple[float, float]]:
        """Every (temperature, top-p) of the first round."""
        return [(temperature, top_p) for temperature in self.temperatures for top_p in self.top_ps]

    @property
    def grid_size(self) -> int:
        """How many cells of the grid later rounds use."""
        return math.ceil(self.grid_kept * len(self.grid))

    @property
    def candidates_per_text(self) -> int:
        """The most revisions a text can cost: one grid for the original, then the kept cells for each text in the beam."""
        return len(self.grid) + self.grid_size * self.beam * (self.rounds - 1)

    @property
    def needs_proxy(self) -> bool:
        """Whether a compromised model has a say in what is chosen."""
        return self.direction == "contrast" or self.measured_by == "proxy"

    def turn_target(self, turn: int) -> Literal["response", "query"]:
        """What round `turn` (from 1) revises."""
        if self.target == "both":
            return "response" if turn % 2 else "query"
        return self.target


PRESETS: dict[str, CurateSettings] = {
    "d2d": CurateSettings(),
    "ctrl": CurateSettings(direction="lower", words_per_prompt=0),
    "contrast": CurateSettings(direction="contrast"),
    "quick": CurateSettings(rounds=2, beam=2, temperatures=(0.4, 0.8), top_ps=(0.8, 1.0), grid_kept=1.0, helpfulness="local"),
}
"""d2d (arXiv 2410.02220), ctrl (arXiv 2405.19358) and contrast cost 145 revisions a text at most; quick 12."""

UNCURATED = "uncurated"
CONTROLS: dict[str, dict[str, object]] = {
    UNCURATED: {},
    "raise": {"direction": "raise"},
    "lower": {"direction": "lower"},
    "contrast": {"direction": "contrast"},
    "seed words only": {"direction": "random"},
    "perplexity only": {"words_per_prompt": 0},
    "plain rewrite": {"words_per_prompt": 0, "direction": "random"},
}
"""What each control changes in the settings: direction random draws one revision at random, so that perplexity has no say."""


def control(settings: CurateSettings, name: str) -> CurateSettings:
    """The settings of a control of `settings`; one that needs no proxy measures with the model itself."""
    changed = CurateSettings.model_validate({**settings.model_dump(), "measured_by": "model", **CONTROLS[name]})
    return changed if changed.direction == "contrast" else changed.model_copy(update={"measured_by": settings.measured_by})
