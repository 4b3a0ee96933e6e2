"""Beam search over revisions of one text, pure: no model, no file (arXiv 2410.02220, steps 5 and 6).

`Text` holds a text's candidates, its rejections and, at the end, its row.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from buckler.data import Chat, Json

Direction: TypeAlias = Literal["raise", "lower", "contrast", "random"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A text and all that is known of it."""

    chat: Chat
    perplexity: float | None = None
    """Of the response, under the measuring model; None until it is measured."""
    helpfulness: float | None = None
    """1 to 5; None until it is rated."""
    contrast: float | None = None
    """Log-perplexity under the compromised proxy minus that under the measuring model, nats a token."""
    round: int = 0
    """0 is the original."""
    parent: str = ""
    words: tuple[str, ...] = ()
    temperature: float = 0.0
    top_p: float = 1.0


def rank_score(candidate: Candidate, direction: Direction, seed: int) -> float:
    """What the search maximises.

    raise: the perplexity (D2D); lower: its negative (CTRL, arXiv 2405.19358); contrast: the surprise of the compromised
    model beyond that of the aligned one; random: a draw that depends on the text and the seed alone.
    """
    assert candidate.perplexity is not None, "only measured candidates are ranked"
    if direction == "raise":
        return candidate.perplexity
    if direction == "lower":
        return -candidate.perplexity
    if direction == "contrast":
        assert candidate.contrast is not None, "contrast needs the proxy's score"
        return candidate.contrast
    # The original is never drawn: a random choice is one among the revisions.
    return random.Random(f"{seed}:{candidate.chat.id}").random() if candidate.round else -1.0


def select(
    pool: Sequence[Candidate], original: Candidate, *, direction: Direction, floor: float, width: int, seed: int
) -> list[Candidate]:
    """The best `width` of `pool` and the original, of those whose helpfulness is at least `floor` times the original's.

    The original always competes and always reaches its own floor, so the result is never empty. Texts that came up twice
    count once; ties go to the smaller id.
    """
    unique = {candidate.chat.id: candidate for candidate in reversed([original, *pool])}
    helpful = [one for one in unique.values() if is_helpful(one, original, floor)]
    return sorted(helpful, key=lambda one: rank(one, direction, seed))[:width]


def is_helpful(candidate: Candidate, original: Candidate, floor: float) -> bool:
    """Whether a rated candidate reaches `floor` times the original's helpfulness."""
    assert candidate.helpfulness is not None and original.helpfulness is not None, "only rated candidates compete"
    return candidate.helpfulness >= floor * original.helpfulness


def rank(candidate: Candidate, direction: Direction, seed: int) -> tuple[float, str]:
    """What candidates are sorted by, best first; ties go to the smaller id."""
    return -rank_score(candidate, direction, seed), candidate.chat.id


def contenders(
    waiting: Sequence[Candidate], beam: Sequence[Candidate], *, direction: Direction, width: int, seed: int
) -> list[Candidate]:
    """The next of `waiting` (measured, best first, not yet rated) that would enter the beam if they were helpful enough.

    Ranking needs no judge, so only these need a rating: a candidate behind a full beam cannot enter it, in this round or in
    any later one. What is selected is what rating every candidate would select.
    """
    if len(beam) < width:
        return list(waiting[:width])
    last = rank(beam[-1], direction, seed)
    return [one for one in waiting[:width] if rank(one, direction, seed) < last]


def best_cells(
    pool: Sequence[Candidate], grid: Sequence[tuple[float, float]], kept: int, *, direction: Direction, seed: int
) -> list[tuple[float, float]]:
    """The `kept` cells of the grid whose best candidate of `pool` ranks highest, in the grid's order.

    A cell whose candidates were all rejected, or repeated another's, ranks last. arXiv 2410.02220 asks every cell in every
    round; low temperatures then say the same again and again.
    """
    best: dict[tuple[float, float], float] = {}
    for one in pool:
        cell, score = (one.temperature, one.top_p), rank_score(one, direction, seed)
        best[cell] = max(score, best.get(cell, score))
    ranked = sorted(grid, key=lambda cell: (-best.get(cell, -math.inf), grid.index(cell)))
    return [cell for cell in grid if cell in ranked[:kept]]


def unchanged(before: Sequence[Candidate], after: Sequence[Candidate]) -> bool:
    """Whether a round left the beam as it was: the search then stops early."""
    return {one.chat.id for one in before} == {one.chat.id for one in after}


@dataclass(slots=True, kw_only=True)
class Text:
    """One text on its way."""

    source: str
    """Id of the text as it was given."""
    chat: Chat
    beam: list[Candidate] = field(default_factory=list)
    """Empty for a text that cannot be curated."""
    measured: list[Candidate] = field(default_factory=list)
    """The original, then the candidates of all rounds that passed the gates and were not found unhelpful."""
    waiting: list[Candidate] = field(default_factory=list)
    """Of this round, best first: measured and not yet rated."""
    rejected: list[dict[str, Json]] = field(default_factory=list)
    candidates_made: int = 0
    settled: bool = False
    """Whether the last round left the beam as it was."""

    @property
    def original(self) -> Candidate:
        """The text itself, measured and rated."""
        return self.measured[0]

    def reject(self, reason: str, shown: str | None, candidate: Candidate | None = None) -> None:
        """Write down that the text, or a candidate for it, is out, and why."""
        row: dict[str, Json] = {"source": self.source, "round": 0, "text": shown, "reason": reason}
        if candidate is not None:
            row |= {"round": candidate.round, "parent": candidate.parent, "words": list(candidate.words)}
            row |= {"temperature": candidate.temperature, "top_p": candidate.top_p}
        self.rejected.append(row)

    def end_round(self, beam: list[Candidate]) -> None:
        """Take the new beam; what waits behind it unrated still tells which cells of the grid do well."""
        self.measured += self.waiting
        self.waiting = []
        self.settled = unchanged(self.beam, beam)
        self.beam = beam

    def row(self, common: Mapping[str, Json]) -> Chat:
        """The chosen row with its ancestry; `common` is what holds for every row, its `direction` among it."""
        chosen, original = self.beam[0], self.original
        ancestry: dict[str, Json] = {
            "source": self.source,
            "revised": chosen.round > 0,
            "round": chosen.round,
            "parent": chosen.parent,
            "words": list(chosen.words),
            "temperature": chosen.temperature,
            "top_p": chosen.top_p,
            "candidates": self.candidates_made,
            "passed": len(self.measured) - 1,
            "perplexity": {"original": rounded(original.perplexity), "chosen": rounded(chosen.perplexity)},
            "helpfulness": {"original": rounded(original.helpfulness), "chosen": rounded(chosen.helpfulness)},
            "contrast": rounded(chosen.contrast),
            "why": _why(chosen, str(common["direction"])),
            **common,
        }
        return chosen.chat.tagged(part="defence", curation=ancestry)


def rounded(value: float | None) -> float | None:
    """To four significant digits: what is behind them depends on what shared the batch."""
    return float(f"{value:.4g}") if value is not None and math.isfinite(value) else None


def _why(chosen: Candidate, direction: str) -> str:
    if chosen.round == 0:
        return "the original: no revision passed the gates and ranked above it"
    if direction == "random":
        return "chosen at random among the revisions that passed"
    return f"best of the beam by {direction}"
