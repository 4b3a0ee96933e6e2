"""The two sides of a comparison, put together probe by probe. What does not belong together is refused, with counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from buckler.data import Answer, Json, Verdict
from buckler.errors import DataError
from buckler.metrics import SETS, about_document


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """What one model said to the probes, and how it was read."""

    name: str
    answers: Sequence[Answer]
    verdicts: Sequence[Verdict]
    scores: Mapping[str, float | None]
    """By probe, from `buckler.metrics.score_answers`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One model on one probe."""

    answer: Answer
    verdict: Verdict
    score: float | None
    """None: the probe has nothing to score against, or no answer came."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """One probe, answered twice."""

    base: Reading
    tuned: Reading

    @property
    def id(self) -> str:
        """Of the probe."""
        return self.base.answer.id

    @property
    def meta(self) -> Mapping[str, Json]:
        """The probe's own: set, category, task and label."""
        return self.base.answer.meta

    @property
    def about_document(self) -> bool:
        """Whether a task over a document is asked, rather than a question."""
        return about_document(self.meta)


def pair(base: Side, tuned: Side) -> list[Probe]:
    """Every probe with both answers, in the order of the base.

    Raises:
        DataError: a side has a probe or a verdict twice, an answer without a verdict, or a set that is not known; or the
            sides were not asked the same probes in the same words.
    """
    first, second = _by_id(base), _by_id(tuned)
    if first.keys() != second.keys():
        alone = sorted(first.keys() ^ second.keys())
        raise DataError(
            f"{base.name} answered {len(first)} probes and {tuned.name} {len(second)}; {len(alone)} stand on one side only, "
            f"the first is {alone[0]}; the gate compares answers to the same probes"
        )
    probes = [Probe(base=one, tuned=second[at]) for at, one in first.items()]
    other = [probe.id for probe in probes if not _asked_alike(probe)]
    if other:
        raise DataError(f"{len(other)} probes were asked in other words or as another set on one side, the first is {other[0]}")
    return probes


def _by_id(side: Side) -> dict[str, Reading]:
    verdicts = {verdict.id: verdict for verdict in side.verdicts}
    if len(verdicts) < len(side.verdicts):
        raise DataError(f"{side.name}: a probe stands twice among the verdicts; judge the answers again")
    found: dict[str, Reading] = {}
    for answer in side.answers:
        if answer.id in found:
            raise DataError(f"{side.name}: probe {answer.id} stands twice among the answers; the gate takes one run at a time")
        if answer.id not in verdicts:
            raise DataError(f"{side.name}: answer {answer.id} has no verdict; judge the answers again")
        if answer.meta.get("set") not in SETS:
            known = ", ".join(SETS)
            raise DataError(
                f'{side.name}: answer {answer.id}: meta "set" is {answer.meta.get("set")!r}; it must be one of {known}'
            )
        found[answer.id] = Reading(answer=answer, verdict=verdicts[answer.id], score=side.scores.get(answer.id))
    return found


def _asked_alike(probe: Probe) -> bool:
    base, tuned = probe.base.answer, probe.tuned.answer
    # a document is cut to what a model can read, and two models may differ in that
    cut = "cut" in base.meta or "cut" in tuned.meta
    return base.meta.get("set") == tuned.meta.get("set") and (cut or base.prompt == tuned.prompt)
