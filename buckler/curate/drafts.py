"""Revisions: what whoever rewrites is asked, a request for each cell of the grid, and the candidates in the replies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from buckler.curate.gates import gate, revised
from buckler.curate.revise import read_revision, revision_request
from buckler.curate.search import Candidate, best_cells
from buckler.curate.seeds import draw
from buckler.curate.settings import CurateSettings
from buckler.curate.text import Text
from buckler.data import Chat
from buckler.lm import LM, Completion, Request, Sampling


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
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

    def excess(self, chat: Chat, target: str) -> int:
        """Tokens by which the request to revise a chat is too long for who rewrites; 0 or less if it fits."""
        messages = revision_request(chat, self.words[: self.settings.words_per_prompt], target=target)
        return self.writer.excess(messages, self.settings.max_new_tokens)

    def drafts(self, text: Text, parent: Candidate, turn: int) -> list[Draft]:
        """A request for each cell of the grid, all with the same words; none for a parent that grew too long to revise."""
        target = self.settings.turn_target(turn)
        if parent.round and self.excess(parent.chat, target) > 0:
            return []
        row = f"{text.source}:{parent.chat.id}"
        words = draw(self.words, self.settings.words_per_prompt, seed=self.seed, row=row, turn=turn)
        messages = revision_request(parent.chat, words, target=target)
        grid = self.settings.grid
        if turn > 1:
            kept, direction = self.settings.cells_kept, self.settings.direction
            grid = best_cells(text.measured[1:], grid, kept, direction=direction, seed=self.seed)
        drafts = []
        for temperature, top_p in grid:
            asked = replace(
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
            drafts.append(Draft(text=text, candidate=asked, request=Request(messages=messages, sampling=sampling)))
        return drafts

    def read(self, draft: Draft, reply: Completion, turn: int, counts: Counter[str]) -> Candidate | None:
        """The candidate in a reply; None, and rejected with the reason, if there is none."""
        text, target = draft.text, self.settings.turn_target(turn)
        revision = read_revision(reply.text, target=target)
        counts["meta-talk stripped"] += revision.stripped
        said = revision.text or ""
        if not said and reply.finish != "failed":
            text.reject(revision.reason, None, draft.candidate)
            return None
        reading = gate(said, reply.finish, text.original.chat, target, self.settings.gates, error=reply.error)
        if reading.chat is None:
            text.reject(reading.reason, said or None, draft.candidate)
            return None
        chat = revised(draft.candidate.chat, said, target)
        probe = self.near_probe(chat) if self.near_probe is not None else None
        if probe is not None:
            text.reject(f"overlaps a probe: {probe}", said, draft.candidate)
            return None
        return replace(draft.candidate, chat=chat)
