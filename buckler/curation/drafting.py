"""One text on its way through the rounds, and the drafts of its revisions.

`Text` holds a text's candidates, its rejections and, at the end, its row. `Drafting` makes a request for each cell of the
grid and reads the candidates in the replies.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from buckler.curation.gates import gate, revised
from buckler.curation.revise import read_revision, revision_request
from buckler.curation.search import Candidate, best_cells, unchanged
from buckler.curation.seed_words.lexicon import draw
from buckler.curation.settings import CurateSettings
from buckler.data import Chat, Json
from buckler.models.protocol import LM, Completion, Request, Sampling


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


@dataclass(frozen=True, slots=True, kw_only=True)
class RevisionRequest:
    """A revision that is asked for."""

    text: Text
    candidate: Candidate
    """Its parent's chat, and how it is asked for."""
    request: Request


@dataclass(frozen=True, slots=True, kw_only=True)
class Drafting:
    """Who rewrites, with which words, and what a candidate must not be."""

    settings: CurateSettings
    words: Sequence[str]
    writer: LM
    near_probe: Callable[[Chat], str | None] | None
    seed: int

    def overflow_tokens(self, chat: Chat, target: str) -> int:
        """Tokens by which the request to revise a chat is too long for who rewrites; 0 or less if it fits."""
        messages = revision_request(chat, self.words[: self.settings.words_per_prompt], target=target)
        return self.writer.overflow_tokens(messages, self.settings.max_new_tokens)

    def revision_requests(self, text: Text, parent: Candidate, turn: int) -> list[RevisionRequest]:
        """A request for each cell of the grid, all with the same words; none for a parent that grew too long to revise."""
        target = self.settings.turn_target(turn)
        if parent.round and self.overflow_tokens(parent.chat, target) > 0:
            return []
        row = f"{text.source}:{parent.chat.id}"
        words = draw(self.words, self.settings.words_per_prompt, seed=self.seed, row=row, turn=turn)
        messages = revision_request(parent.chat, words, target=target)
        grid = self.settings.grid
        if turn > 1:
            kept, direction = self.settings.grid_size, self.settings.direction
            grid = best_cells(text.measured[1:], grid, kept, direction=direction, seed=self.seed)
        revision_requests = []
        for temperature, top_p in grid:
            request = replace(
                Candidate(chat=parent.chat),
                round=turn,
                parent=parent.chat.id,
                words=tuple(words),
                temperature=temperature,
                top_p=top_p,
            )
            sampling = Sampling(
                temperature=temperature, top_p=top_p, max_new_tokens=self.settings.max_new_tokens, seed=self.seed + turn
            )
            revision_requests.append(
                RevisionRequest(text=text, candidate=request, request=Request(messages=messages, sampling=sampling))
            )
        return revision_requests

    def read(self, draft: RevisionRequest, reply: Completion, turn: int, counts: Counter[str]) -> Candidate | None:
        """The candidate in a reply; None, and rejected with the reason, if there is none."""
        text, target = draft.text, self.settings.turn_target(turn)
        revision = read_revision(reply.text, target=target)
        counts["meta-talk stripped"] += revision.stripped
        reply_text = revision.text or ""
        if not reply_text and reply.finish_reason != "failed":
            text.reject(revision.reason, None, draft.candidate)
            return None
        reading = gate(reply_text, reply.finish_reason, text.original.chat, target, self.settings.gates, error=reply.error)
        if reading.chat is None:
            text.reject(reading.reason, reply_text or None, draft.candidate)
            return None
        chat = revised(draft.candidate.chat, reply_text, target)
        probe = self.near_probe(chat) if self.near_probe is not None else None
        if probe is not None:
            text.reject(f"overlaps a probe: {probe}", reply_text, draft.candidate)
            return None
        return replace(draft.candidate, chat=chat)


def rounded(value: float | None) -> float | None:
    """To four significant digits: what is behind them depends on what shared the batch."""
    return float(f"{value:.4g}") if value is not None and math.isfinite(value) else None


def _why(chosen: Candidate, direction: str) -> str:
    if chosen.round == 0:
        return "the original: no revision passed the gates and ranked above it"
    if direction == "random":
        return "drawn by lot among the revisions that passed"
    return f"best of the beam by {direction}"
