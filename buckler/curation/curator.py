"""The search over revisions of many texts at once.

texts -> revision requests -> candidates -> gates -> perplexity, helpfulness -> beam -> ... -> curated rows
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from buckler.curation.gates import gate, gate_perplexity, revised
from buckler.curation.helpfulness import Helpfulness
from buckler.curation.record import Curated, kind_of
from buckler.curation.revise import Revising, RevisionRequest, read_revision
from buckler.curation.search import Candidate, Text, contenders, rank, select
from buckler.curation.settings import CurateSettings
from buckler.data import Chat, Json
from buckler.errors import ConfigError
from buckler.models.calls import generate
from buckler.models.protocol import LM, Completion, Likelihood, Request, Sampling, ScoreRequest
from buckler.models.reply import read_again
from buckler.models.template_check import ConversationRefused
from buckler.progress import ProgressCallback, no_progress

UNREADABLE = "the judge's rating could not be read"
NO_ANSWER = "brings no answer, and the model has none"
CUT_OFF = "brings no answer, and the model's is cut off at the token limit"


@dataclass(frozen=True, slots=True, kw_only=True)
class Curator:
    """The models, words and settings of a curation."""

    settings: CurateSettings
    words: Sequence[str]
    model: LM
    """The model to be protected."""
    judge: Helpfulness
    reviser: LM | None = None
    """The model that rewrites the texts; None: the model itself."""
    reference: LM | None = None
    """The aligned model that measures perplexity where the settings say so."""
    proxy: LM | None = None
    """The compromised model, for direction contrast or to measure by."""
    near_probe: Callable[[Chat], str | None] | None = None
    """Returns the probe that a candidate equals or nearly equals, if there is one; such candidates are rejected."""
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what could only fail later.

        Raises:
            ConfigError: a model that the settings need is missing or gives no log-probabilities, or there are no seed words.
        """
        if self.settings.needs_proxy and self.proxy is None:
            raise ConfigError(
                f"direction {self.settings.direction}, scorer {self.settings.scorer}: this needs a compromised proxy; "
                "name one with --proxy, or give --attack-rows for a simulated attack"
            )
        if self.settings.scorer == "reference" and self.reference is None:
            raise ConfigError("scorer reference needs an aligned reference model: name one with --reference")
        if self.settings.words_per_prompt and not self.words:
            raise ConfigError("no seed words: give a lexicon, or set words_per_prompt to 0 for a plain rewrite")
        for role, model in (("measuring model", self.measuring), ("proxy", self.proxy if self.settings.needs_proxy else None)):
            if model is not None and not model.can_score:
                raise ConfigError(
                    f"the {role} cannot return log-probabilities of given text, so it cannot measure perplexity; "
                    "use a transformers model or a vLLM server for it, and this one as --reviser or --judge-model"
                )

    @property
    def measuring(self) -> LM:
        """Whose perplexity counts."""
        model = {"model": self.model, "reference": self.reference, "proxy": self.proxy}[self.settings.scorer]
        assert model is not None
        return model

    @property
    def writer(self) -> LM:
        """Who rewrites."""
        return self.reviser or self.model

    @property
    def _revising(self) -> Revising:
        return Revising(settings=self.settings, words=self.words, writer=self.writer, seed=self.seed)

    def curate(self, texts: Sequence[Chat], progress: ProgressCallback = no_progress) -> Curated:
        """Revise every text; all texts of a round go through the models together, and none has a say in another's row.

        A text without an answer is first answered by the model itself: that answer is then the original. Texts that cannot
        be curated (too long, unrated, no answer) are rejected with the reason.
        """
        result = Curated()
        begun = [Text(source=text.id, chat=text) for text in texts]
        self._begin(begun, result)
        for turn in range(1, self.settings.rounds + 1):
            active = [text for text in begun if text.beam and not text.settled]
            if not active:
                break
            self._expand(active, turn, result, progress)
        for text in begun:
            result.rejected += text.rejected
            if text.beam:
                result.rows.append(text.row(self._ancestry()))
                result.counts["revised" if text.beam[0].round else "kept original"] += 1
            result.counts.update(f"rejected: {kind_of(str(one['reason']))}" for one in text.rejected)
        result.counts["texts"] += len(begun)
        return result

    def _begin(self, texts: Sequence[Text], result: Curated) -> None:
        """Originals, answered, fitting, measured and rated; those that are not have no beam."""
        self._answer(texts, result)
        fitting = [text for text in texts if text.chat.answer is not None and self._fits(text)]
        measured = self._measured([Candidate(chat=text.chat) for text in fitting], result)
        ratings = self._rated([text.chat for text in fitting], fitting, result)
        for text, original, rating in zip(fitting, measured, ratings, strict=True):
            if isinstance(original, str) or rating is None:
                text.reject(original if isinstance(original, str) else UNREADABLE, text.chat.answer)
            else:
                rated = replace(original, helpfulness=rating)
                text.measured, text.beam = [rated], [rated]

    def _answer(self, texts: Sequence[Text], result: Curated) -> None:
        """Have the model answer the texts that bring no answer."""
        room = self.settings.max_new_tokens
        sampling = Sampling(max_new_tokens=room, seed=self.seed)
        open_ones = []
        for text in texts:
            if text.chat.answer is None and _has_room(text, lambda chat: self.model.overflow_tokens(chat.messages, room)):
                open_ones.append(text)
        completions = self.model.generate([Request(messages=text.chat.messages, sampling=sampling) for text in open_ones])
        for text, one in zip(open_ones, map(read_again, completions), strict=True):
            cut_off = bool(self.settings.gates.cut_off) and one.finish_reason == "length"
            if one.text.strip() and not one.no_text and not cut_off:
                text.chat = text.chat.answered(one.text)
                result.counts["answered by the model"] += 1
                continue
            reason = f"the model did not answer: {one.error or one.no_text}" if one.no_text else NO_ANSWER
            text.reject(CUT_OFF if cut_off and one.text.strip() else reason, text.chat.query)

    def _fits(self, text: Text) -> bool:
        """Whether the text's revision prompt and the text itself fit their models; rejected if not."""
        if text.chat.messages[-1].get("tool_calls"):
            text.reject("the answer calls a tool: there is no text to revise", text.chat.answer)
            return False
        targets = {self.settings.turn_target(1), self.settings.turn_target(2)}
        models = (self.measuring, self.model)

        def overflow_tokens(chat: Chat) -> int:
            sizes = [self._revising.overflow_tokens(chat, target) for target in targets]
            return max(*sizes, *(model.overflow_tokens(chat.messages, 0) for model in models))

        return _has_room(text, overflow_tokens)

    def _expand(self, texts: Sequence[Text], turn: int, result: Curated, progress: ProgressCallback) -> None:
        """One grid of revisions for every candidate in every beam: read, gated, measured."""
        revising = self._revising
        revision_requests = [
            draft for text in texts for parent in text.beam for draft in revising.revision_requests(text, parent, turn)
        ]
        what = f"round {turn} of {self.settings.rounds}: revisions"
        replies = generate(self.writer, [draft.request for draft in revision_requests], progress, what)
        kept: dict[tuple[str, str], tuple[Text, Candidate]] = {}
        for draft, reply in zip(revision_requests, replies, strict=True):
            draft.text.candidates_made += 1
            result.counts["generations"] += 1
            result.counts["generated tokens"] += reply.tokens
            result.counts["prompt tokens"] += reply.prompt_tokens
            candidate = self._read(draft, reply, turn, result.counts)
            if candidate is not None:
                kept.setdefault((draft.text.source, candidate.chat.id), (draft.text, candidate))
        candidates = list(kept.values())
        for (text, before), after in zip(candidates, self._measured([one for _, one in candidates], result), strict=True):
            reason = after if isinstance(after, str) else self._high_perplexity(after, text.original)
            if reason or isinstance(after, str):
                text.reject(reason, _part(before.chat, self.settings.turn_target(turn)), before)
            else:
                text.waiting.append(after)
        self._compete(texts, turn, result)

    def _read(self, draft: RevisionRequest, reply: Completion, turn: int, counts: Counter[str]) -> Candidate | None:
        """The candidate in a reply; None, and rejected with the reason, if there is none."""
        text, target, reply = draft.text, self.settings.turn_target(turn), read_again(reply)
        if reply.no_text:
            text.reject(f"the model did not answer: {reply.error or reply.no_text}", None, draft.candidate)
            return None
        revision = read_revision(reply.text, target=target)
        counts["meta-talk stripped"] += revision.stripped or bool(reply.thinking)
        reply_text = revision.text or ""
        if not reply_text:
            text.reject(revision.reason, None, draft.candidate)
            return None
        reading = gate(reply_text, reply.finish_reason, text.original.chat, target, self.settings.gates)
        if reading.chat is None:
            text.reject(reading.reason, reply_text or None, draft.candidate)
            return None
        chat = revised(draft.candidate.chat, reply_text, target)
        probe = self.near_probe(chat) if self.near_probe is not None else None
        if probe is not None:
            text.reject(f"overlaps a probe: {probe}", reply_text, draft.candidate)
            return None
        return replace(draft.candidate, chat=chat)

    def _compete(self, texts: Sequence[Text], turn: int, result: Curated) -> None:
        """Rate the candidates that would enter a beam, best first, until none is left that would."""
        settings = self.settings
        new: dict[str, list[Candidate]] = {text.source: list(text.beam) for text in texts}
        for text in texts:
            text.waiting.sort(key=lambda one: rank(one, settings.direction, self.seed))
        while True:
            pairs: list[tuple[Text, Candidate]] = []
            for text in texts:
                beam = new[text.source]
                best = contenders(text.waiting, beam, direction=settings.direction, width=settings.beam, seed=self.seed)
                text.waiting = text.waiting[len(best) :]
                pairs += [(text, one) for one in best]
            if not pairs:
                break
            ratings = self._rated([one.chat for _, one in pairs], [text for text, _ in pairs], result)
            for (text, one), rating in zip(pairs, ratings, strict=True):
                reason = UNREADABLE if rating is None else self._unhelpful(rating, text.original)
                if reason:
                    text.reject(reason, _part(one.chat, settings.turn_target(turn)), one)
                else:
                    text.measured.append(rated := replace(one, helpfulness=rating))
                    new[text.source] = self._select([*new[text.source], rated], text.original)
        for text in texts:
            text.end_round(new[text.source])

    def _high_perplexity(self, candidate: Candidate, original: Candidate) -> str:
        """Why a measured candidate is out, "" if it is in."""
        assert candidate.perplexity is not None and original.perplexity is not None
        if not math.isfinite(candidate.perplexity):
            return "its perplexity is not finite"
        return gate_perplexity(candidate.perplexity, original.perplexity, self.settings.gates)

    def _unhelpful(self, rating: float, original: Candidate) -> str:
        """Why a rated candidate is out, "" if it is in."""
        assert original.helpfulness is not None
        floor = self.settings.helpfulness_floor * original.helpfulness
        return "" if rating >= floor else f"helpfulness {rating:.2f} is below the minimum of {floor:.2f}"

    def _ancestry(self) -> dict[str, Json]:
        """What holds for every row."""
        return {
            "direction": self.settings.direction,
            "model": self.model.identity,
            "reviser": self.writer.identity,
            "measured_by": self.measuring.identity,
            "judge": self.judge.name,
        }

    def _measured(self, candidates: Sequence[Candidate], result: Curated) -> list[Candidate | str]:
        """Perplexity and, for a contrast, the proxy's surprise; the reason where one cannot be had."""
        conditional = self.settings.perplexity == "conditional"
        pairs = [
            ScoreRequest(messages=candidate.chat.prompt if conditional else (), answer=candidate.chat.answer or "")
            for candidate in candidates
        ]
        own = self.measuring.score(pairs)
        other: Sequence[Likelihood | None] = [None] * len(pairs)
        if self.settings.direction == "contrast" and self.proxy is not None:
            other = self.proxy.score(pairs)
        result.counts["measured"] += len(pairs)
        return [_measure(one, here, there) for one, here, there in zip(candidates, own, other, strict=True)]

    def _rated(self, chats: Sequence[Chat], texts: Sequence[Text], result: Curated) -> list[float | None]:
        """The judge's ratings of `chats`, revisions of `texts`."""
        result.counts["rated"] += len(chats)
        return self.judge.rate(chats, [text.chat for text in texts])

    def _select(self, pool: Sequence[Candidate], original: Candidate) -> list[Candidate]:
        settings = self.settings
        return select(
            pool,
            original,
            direction=settings.direction,
            floor=settings.helpfulness_floor,
            width=settings.beam,
            seed=self.seed,
        )


def _measure(candidate: Candidate, own: Likelihood, proxy: Likelihood | None) -> Candidate | str:
    for likelihood in (own, proxy):
        if likelihood is not None and likelihood.error:
            return f"not measured: {likelihood.error}"
    contrast = None if proxy is None else (proxy.nll - own.nll) / max(own.tokens, 1)
    return replace(candidate, perplexity=own.perplexity, contrast=contrast)


def _part(chat: Chat, target: str) -> str | None:
    """What of the chat a round revised."""
    return chat.answer if target == "response" else chat.query


def _has_room(text: Text, overflow_tokens: Callable[[Chat], int]) -> bool:
    """Whether the models can be given the text; rejected if it is too long for one, or its chat template refuses it."""
    shown = text.chat.query if text.chat.answer is None else text.chat.answer
    try:
        over = overflow_tokens(text.chat)
    except ConversationRefused as fault:
        text.reject(f"the chat template refuses it: {fault}", shown)
        return False
    if over > 0:
        text.reject(f"too long for the model by {over} tokens", shown)
    return over <= 0
