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
    """Reject a reply that was truncated by the token limit."""
    repetition: float | None = Field(default=0.3, ge=0, le=1)
    """Maximum fraction of four-word runs (characters in Chinese) that occur earlier in the text; a text no more repetitive than
    its original passes. Complete loops also fail the coherence gate."""
    incoherent: bool | None = True
    """Reject noise, fragments and loops."""
    copied_prompt: bool | None = True
    """Reject a reply that repeats instructions of the revision prompt which the original does not contain."""
    refusal: bool | None = True
    """Reject a refusal; harmless rows should be answered."""
    script: float | None = Field(default=0.2, ge=0, le=1)
    """Maximum difference between the mixes of writing systems in the revision and in the original (0 to 1)."""
    language: bool | None = True
    """Reject a revision in another language than its original, if both languages are identified with confidence."""
    length_ratio: tuple[float, float] | None = (0.5, 6.0)
    """Accepted range of the length relative to the original's, in columns (a Chinese character takes two); a short original may
    always grow by `SLACK`."""
    kept_information: float | None = Field(default=0.6, ge=0, le=1)
    """Minimum fraction of the original's content words that are kept; words that occur in the question are not counted."""
    perplexity_ratio: float | None = Field(default=50.0, gt=1)
    """Maximum perplexity relative to the original's, so that direction `raise` does not reward noise; see `gate_perplexity`."""


class CurateSettings(Settings):
    """The knobs of the algorithm; the defaults are the published ones where there are some."""

    direction: Direction = "raise"
    """Direction in which candidates are selected by perplexity: `raise` prefers high, `lower` low, `contrast` high under a
    compromised proxy relative to the scoring model; `random` selects at random."""
    target: Literal["response", "query", "both"] = "response"
    """Part that is revised: `response`; `query`, whose response stays unchanged; or `both` in turn, the response first."""
    rounds: int = Field(default=5, ge=1)
    """Number of revision rounds."""
    beam: int = Field(default=3, ge=1)
    """Number of candidates kept per text after each round (beam width)."""
    temperatures: tuple[float, ...] = Field(default=(0.2, 0.4, 0.6, 0.8, 1.0), min_length=1)
    """Sampling temperatures of the grid (0 to 5)."""
    top_ps: tuple[float, ...] = Field(default=(0.2, 0.4, 0.6, 0.8, 1.0), min_length=1)
    """Nucleus sampling (top-p) values of the grid (above 0, at most 1)."""
    grid_fraction: float = Field(default=0.4, gt=0, le=1)
    """Fraction of the grid's cells used after the first round: per text, the cells whose candidates ranked best so far. 1 is
    the published algorithm; 0.4 makes about half the generations, and the texts that it chooses have a little less of the
    perplexity asked for (docs/performance.md)."""
    paths = ("seed_words", "decontaminate")
    words_per_prompt: int = Field(default=3, ge=0)
    """Number of seed words in a revision prompt; 0 requests a plain rewrite (the control without seed words)."""
    seed_words: str = "default"
    """Seed words: `default`, `miniature` for those of the miniature's world, or a YAML file of categories."""
    perplexity: Literal["conditional", "unconditional"] = "conditional"
    """Perplexity of the response: `conditional` on the query, or `unconditional`."""
    scorer: Literal["model", "reference", "proxy"] = "model"
    """Scoring model for perplexity: the model to be protected, an aligned reference, or a compromised proxy."""
    helpfulness: Literal["local", "rubric"] = "rubric"
    """Measure of helpfulness: `rubric` asks a language model, `local` needs no model."""
    per_aspect: bool = False
    """Rate the rubric's four aspects in separate calls instead of one."""
    helpfulness_floor: float = Field(default=0.9, ge=0, le=1)
    """Minimum helpfulness relative to the original's; 0.9 accepts a loss of 10 %."""
    gates: Gates = Gates()
    decontaminate: tuple[str, ...] = ()
    """Probe files (or `miniature:SET`) to decontaminate against; candidates that equal or nearly equal one of their probes are
    rejected."""
    max_new_tokens: int = Field(default=512, ge=1)
    """Maximum length of a revision, in tokens."""

    @model_validator(mode="after")
    def _sound(self) -> CurateSettings:
        if self.direction == "contrast" and self.scorer == "proxy":
            raise ValueError("direction contrast already compares the proxy with the model; scorer must be model or reference")
        if any(not 0 <= value <= 5 for value in self.temperatures) or any(not 0 < value <= 1 for value in self.top_ps):
            raise ValueError("temperatures must be from 0 to 5, top_ps above 0 and at most 1")
        return self

    @property
    def grid(self) -> list[tuple[float, float]]:
        """Every (temperature, top-p) of the first round."""
        return [(temperature, top_p) for temperature in self.temperatures for top_p in self.top_ps]

    @property
    def grid_size(self) -> int:
        """How many cells of the grid later rounds use."""
        return math.ceil(self.grid_fraction * len(self.grid))

    @property
    def candidates_per_text(self) -> int:
        """The most revisions a text can cost: one grid for the original, then the kept cells for each text in the beam."""
        return len(self.grid) + self.grid_size * self.beam * (self.rounds - 1)

    @property
    def needs_proxy(self) -> bool:
        """Whether a compromised model has a say in what is chosen."""
        return self.direction == "contrast" or self.scorer == "proxy"

    def turn_target(self, turn: int) -> Literal["response", "query"]:
        """What round `turn` (from 1) revises."""
        if self.target == "both":
            return "response" if turn % 2 else "query"
        return self.target


PRESETS: dict[str, CurateSettings] = {
    "d2d": CurateSettings(),
    "ctrl": CurateSettings(direction="lower", words_per_prompt=0),
    "contrast": CurateSettings(direction="contrast"),
    "quick": CurateSettings(rounds=2, beam=2, temperatures=(0.4, 0.8), top_ps=(0.8, 1.0), grid_fraction=1.0, helpfulness="local"),
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
"""What each control changes in the settings: direction random draws one revision at random, so that perplexity has no effect."""


def control(settings: CurateSettings, name: str) -> CurateSettings:
    """The settings of a control of `settings`; one that needs no proxy measures with the model itself."""
    changed = CurateSettings.model_validate({**settings.model_dump(), "scorer": "model", **CONTROLS[name]})
    return changed if changed.direction == "contrast" else changed.model_copy(update={"scorer": settings.scorer})
