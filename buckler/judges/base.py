"""What a judge is, and the judges by name. What could not be read is `None`, with its reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Protocol, runtime_checkable

from buckler.data import Answer, Verdict
from buckler.errors import ConfigError, DataError


@runtime_checkable
class Judge(Protocol):
    """Reads answers, one verdict each, in the order given."""

    @property
    def name(self) -> str:
        """What recipes and records call it."""
        ...

    @property
    def version(self) -> str:
        """Changes whenever the same answer may get another verdict."""
        ...

    def judge(self, answers: Sequence[Answer]) -> list[Verdict]:
        """One verdict an answer; an answer that cannot be read gets None and a reason, never an exception."""
        ...


JUDGES: dict[str, str] = {
    "keyword": "buckler.judges.refusal.keyword:KeywordJudge",
    "paper": "buckler.judges.phrases:PaperJudge",
}
"""Judges that need nothing but the answers, as `module:class`, so that naming one imports only that one."""


@dataclass(frozen=True, slots=True)
class _OfAnswers:
    """A judge that is shown only what was answered: a probe whose call failed is unread, whoever judges.

    Coherence is told for every answer: by rule (`buckler.judges.coherence`) where the judge does not look. An answer that an
    untouched model was found to take for noise, or that is in a language nobody asked for, is incoherent whoever judges.
    """

    judge_: Judge

    @property
    def name(self) -> str:
        return self.judge_.name

    @property
    def version(self) -> str:
        return self.judge_.version

    def judge(self, answers: Sequence[Answer]) -> list[Verdict]:
        came = [one for one in answers if one.finish != "failed"]
        given = self.judge_.judge(came)
        if [one.id for one in given] != [one.id for one in came]:
            raise DataError(f"judge {self.name}: {len(given)} verdicts on {len(came)} answers, not one each in the order given")
        verdicts = iter(given)
        return [
            Verdict(id=one.id, reason=f"unread: no answer came: {one.error}")
            if one.finish == "failed"
            else _with_coherence(next(verdicts), one)
            for one in answers
        ]


def _with_coherence(verdict: Verdict, answer: Answer) -> Verdict:
    from buckler.judges.coherence import coherence, high_perplexity, unrequested_language

    sound, fault = verdict.coherent, ""
    if sound is None:
        sound, fault = coherence(answer.text, answer.finish) if answer.text.strip() else (False, "empty")
    if sound and (late := high_perplexity(answer.meta) or unrequested_language(answer.text, answer.query, answer.meta)):
        sound, fault = False, late
    return replace(verdict, coherent=sound, reason=f"{verdict.reason}; {fault}".strip("; ") if fault else verdict.reason)


def judge_named(name: str) -> Judge:
    """The judge called `name`, or the one at `module:class`. It is not shown failed answers: those are unread.

    Raises:
        ConfigError: there is none, or it cannot be imported or made, or it is no judge.
    """
    place = JUDGES.get(name, name)
    module, colon, attribute = place.partition(":")
    if not colon:
        raise ConfigError(f"unknown judge {name!r}; the judges are {', '.join(JUDGES)}, or name one as `module:class`")
    try:
        made = getattr(import_module(module), attribute)()
    except (ImportError, AttributeError) as fault:
        raise ConfigError(f"judge {name!r} cannot be imported: {fault}") from None
    except TypeError as fault:
        raise ConfigError(f"judge {name!r} cannot be made without arguments: {fault}") from None
    if not isinstance(made, Judge):
        raise ConfigError(f"{name!r} is no judge: it needs a `name`, a `version` and `judge(answers)`")
    return of_answers(made)


def of_answers(judge: Judge) -> Judge:
    """The judge, shown only what was answered: a probe whose call failed is unread."""
    return judge if isinstance(judge, _OfAnswers) else _OfAnswers(judge)
