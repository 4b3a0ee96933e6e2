"""The gates of curation: what a revision must keep to be a candidate, and the reason given if it does not.

`gate` asks one gate after another about a revision, `gate_perplexity` compares its perplexity with the original's, and
`ProbeOverlap` keeps candidates away from the probes. The refusal gate calls the judge `keyword`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal, TypeAlias

from buckler.curation.revise import PROMPTS
from buckler.curation.settings import Gates
from buckler.data import Chat, Document, FinishReason
from buckler.data.language import kept_share, language, script_distance, scripts
from buckler.data.near_duplicates import NearIndex, normalise, text_of
from buckler.judges.coherence import coherence
from buckler.judges.refusal.keyword import read_refusal

Target: TypeAlias = Literal["response", "query"]

SLACK = 120
"""Columns a revision may add whatever the length of the original: a sentence of care before and after."""
SHORT = 20
"""An original with fewer letters ("pi = 3.14", a translated word) does not tell by itself in what scripts to speak of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GateResult:
    """What a reply was found to be: a candidate, or rejected with a reason."""

    chat: Chat | None
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    """A revision beside what it revises."""

    text: str
    finish_reason: FinishReason
    before: str
    """The answer, or the query, that is revised."""
    original: Chat
    target: Target


def gate(text: str, finish_reason: FinishReason, original: Chat, target: Target, gates: Gates, *, error: str = "") -> GateResult:
    """The row that `text` makes of `original`, or the first gate that it fails.

    Args:
        text: The revision, as `read_revision` gave it.
        finish_reason: How the completion ended.
        original: The row that is revised.
        target: What of it is revised.
        gates: The limits.
        error: Why no answer came, for finish `failed`.
    """
    if finish_reason == "failed":
        return GateResult(chat=None, reason=f"the model did not answer: {error}")
    before = (original.answer if target == "response" else original.query) or ""
    case = _Case(text=text, finish_reason=finish_reason, before=before, original=original, target=target)
    for fault_of in _GATES:
        fault = fault_of(case, gates)
        if fault:
            return GateResult(chat=None, reason=fault)
    return GateResult(chat=revised(original, text, target))


def gate_perplexity(perplexity: float, original: float, gates: Gates) -> str:
    """Why a candidate of this perplexity is out, beside an original of that one; "" if it is in."""
    limit = gates.perplexity_ratio
    if limit is None or perplexity <= limit * original:
        return ""
    return f"perplexity {perplexity:.4g} is over {limit:g} times the original's {original:.4g}"


def _cut_off(case: _Case, gates: Gates) -> str:
    return "cut off at the token limit" if gates.cut_off and case.finish_reason == "length" else ""


def _repetition(case: _Case, gates: Gates) -> str:
    if gates.repetition is None:
        return ""
    share = _repeated(case.text)
    if share <= max(gates.repetition, _repeated(case.before)):
        return ""
    return f"repeats itself: {share:.0%} of its runs of four words"


def _incoherent(case: _Case, gates: Gates) -> str:
    sound, why = coherence(case.text, case.finish_reason) if gates.incoherent else (True, "")
    return "" if sound else f"incoherent: {why}"


def _unchanged(case: _Case, gates: Gates) -> str:
    return "same as the original" if case.text.strip() == case.before.strip() else ""


def _copied_prompt(case: _Case, gates: Gates) -> str:
    if not gates.copied_prompt:
        return ""
    known = f" {normalise(case.original.query)} {normalise(case.original.answer or '')} "
    words = f" {normalise(case.text)} "
    copied = next((run for run in _prompt_runs() if f" {run} " in words and f" {run} " not in known), "")
    return f"copies the revision prompt: {copied}" if copied else ""


def _refusal(case: _Case, gates: Gates) -> str:
    if not gates.refusal or (case.target == "query" and "?" in case.text):  # "I cannot open the jar. What shall I do?"
        return ""
    prompt = [turn["content"] for turn in case.original.prompt]
    return "is a refusal" if read_refusal(case.text, prompt, case.original.query)[0] == "full" else ""


def _script(case: _Case, gates: Gates) -> str:
    if gates.script is None:
        return ""
    if sum(map(str.isalpha, case.before)) < SHORT:
        known = scripts(f"{case.original.query} {case.before}")
        distance = sum(share for name, share in scripts(case.text).items() if name not in known) if known else 0.0
    else:
        distance = script_distance(case.text, case.before)
    return "" if distance <= gates.script else f"in another script: {distance:.0%} apart from the original's letters"


def _language(case: _Case, gates: Gates) -> str:
    if not gates.language:
        return ""
    was, now = language(case.before), language(case.text)
    return "" if was is None or now is None or was == now else f"in another language: {now}, the original in {was}"


def _length(case: _Case, gates: Gates) -> str:
    if gates.length_ratio is None:
        return ""
    now, was = _columns(case.text), _columns(case.before)
    ratio, (least, most) = now / max(was, 1), gates.length_ratio
    inside = ratio >= least and (ratio <= most or now <= was + SLACK)
    return "" if inside else f"length is {ratio:.2f} times the original's"


def _information(case: _Case, gates: Gates) -> str:
    if gates.kept_information is None:
        return ""
    kept = kept_share(case.before, case.text, known=case.original.query if case.target == "response" else "")
    return "" if kept >= gates.kept_information else f"keeps {kept:.0%} of the original's information"


_GATES: tuple[Callable[[_Case, Gates], str], ...] = (
    *(_cut_off, _repetition, _incoherent, _unchanged, _copied_prompt),
    *(_refusal, _script, _language, _length, _information),
)
"""In the order they are asked: first whether it is an answer at all, then whether it is this answer."""


def _repeated(text: str) -> float:
    """Share of the runs of four words that stood in the text before; 0 for a text too short to tell."""
    words = normalise(text).split()
    runs = [tuple(words[at : at + 4]) for at in range(len(words) - 3)]
    return 1 - len(set(runs)) / len(runs) if len(runs) >= 8 else 0.0


def _columns(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)


@cache
def _prompt_runs() -> tuple[str, ...]:
    """What gives a copy of a revision prompt away: five words of a rule, or eight in a row across rules."""
    runs: dict[str, None] = {}
    for template in PROMPTS.values():
        for part in re.split(r"\{\w+\}", template):
            for text, size in (*((line, 5) for line in part.splitlines()), (part, 8)):
                words = normalise(text).split()
                if len(words) >= 4:
                    runs.update((" ".join(words[at : at + size]), None) for at in range(max(len(words) - size + 1, 1)))
    return tuple(runs)


def revised(original: Chat, text: str, target: Target) -> Chat:
    """The chat with `text` as its last answer, or as its last question."""
    if target == "response":
        return original.answered(text)
    at = max(number for number, turn in enumerate(original.messages) if turn["role"] == "user")
    turns = list(original.messages)
    turns[at] = {**turns[at], "content": text}
    return Chat.of(turns, **original.meta)


class ProbeOverlap:
    """Says whether a text is a probe, or nearly one: the measure is that of `buckler.data.near_duplicates.find_overlap`."""

    def __init__(self, probes: Sequence[Chat] | Sequence[Document], *, threshold: float = 0.7) -> None:
        """An index of `probes`.

        Raises:
            ConfigError: the threshold is not above 0 and at most 1.
        """
        self._ids: dict[str, str] = {}
        for probe in probes:
            self._ids.setdefault(normalise(text_of(probe)), probe.id)
        self._index = NearIndex(self._ids, threshold)

    def near(self, row: Chat) -> str | None:
        """The probe that the question or the answer of `row` is near, as `near_text` names it; None if there is none."""
        return self.near_text(row.query) or self.near_text(row.answer or "")

    def near_text(self, text: str) -> str | None:
        """The id of the probe nearest to `text`, with how alike they are; None if none reaches the threshold."""
        words = normalise(text)
        if words and words in self._ids:
            return f"{self._ids[words]} (the same text)"
        nearest = max(self._index.near(words), key=lambda pair: (pair[1], pair[0]), default=None)
        return None if nearest is None else f"{self._ids[nearest[0]]} ({nearest[1]:.2f} alike)"
