"""What a judge is, and the judges by name. What could not be read is `None`, with its reason."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from inspect import signature
from typing import Any, Protocol, TypeGuard, runtime_checkable

from buckler.data import Answer, Verdict
from buckler.errors import ConfigError, DataError
from buckler.judges.rubric import versioned
from buckler.models.protocol import LM
from buckler.registry import Registry, is_foreign


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


@dataclass(frozen=True, slots=True)
class _OfAnswers:
    """A judge that is shown only what was answered: a probe whose call failed is unscored, whoever judges.

    Coherence is in every verdict: by rule (`buckler.judges.coherence`) where the judge does not look. An answer that an
    untouched model was found to take for noise, or that is in a language nobody asked for, is incoherent whoever judges.
    """

    judge_: Judge
    called: str
    version: str

    @property
    def name(self) -> str:
        return self.judge_.name

    def judge(self, answers: Sequence[Answer]) -> list[Verdict]:
        came = [one for one in answers if one.finish_reason != "failed"]
        with JUDGES.boundary(self.called) if is_foreign(self.judge_) else nullcontext():
            result: object = self.judge_.judge(came)
        answered = JUDGES.list_of(self.called, result, Verdict)
        if [one.id for one in answered] != [one.id for one in came]:
            raise DataError(
                f"judge {self.called!r}: {len(answered)} verdicts on {len(came)} answers, it must give one for each "
                "answer, in the same order"
            )
        verdicts = iter(answered)
        return [
            Verdict(id=one.id, reason=f"unread: no answer came: {one.error}")
            if one.finish_reason == "failed"
            else _with_coherence(next(verdicts), one)
            for one in answers
        ]


def _with_coherence(verdict: Verdict, answer: Answer) -> Verdict:
    from buckler.judges.coherence import coherence, high_perplexity, unrequested_language

    sound, fault = verdict.coherent, ""
    if sound is None:
        sound, fault = coherence(answer.text, answer.finish_reason) if answer.text.strip() else (False, "empty")
    if sound and (late := high_perplexity(answer.meta) or unrequested_language(answer.text, answer.query, answer.meta)):
        sound, fault = False, late
    return replace(verdict, coherent=sound, reason=f"{verdict.reason}; {fault}".strip("; ") if fault else verdict.reason)


def judge_named(name: str, model: LM | None = None) -> Judge:
    """The judge called `name`, or the one at `module:class`. It is not shown failed answers: those are unscored.

    Args:
        name: Of the judge.
        model: For a judge of the user's own that takes a language model.

    Raises:
        ConfigError: there is none, or it cannot be imported or made, or it is no judge.
    """
    part = JUDGES.get(name)
    judge = part
    if isinstance(part, type) or not isinstance(part, Judge):
        try:
            with JUDGES.boundary(name):
                judge = part() if model is None else part(model)
        except TypeError as fault:
            raise ConfigError(f"judge {name!r} cannot be created without arguments: {fault}") from None
    if not isinstance(judge, Judge):
        raise ConfigError(
            f"{name!r} is not a judge: it needs a `name`, a `version` and `judge(answers)`; it is {type(judge).__name__}"
        )
    return of_answers(judge, called=name, version=None if model is None else versioned(own_version(name), model.identity))


def takes_model(name: str) -> tuple[bool, bool]:
    """Whether a judge of the user's own can, and whether it must, be given a language model.

    Raises:
        ConfigError: there is no such judge, or it needs more than a model.
    """
    part = JUDGES.get(name)
    if not JUDGES.is_own(name) or not callable(part):
        return False, False
    try:
        positional = [
            parameter
            for parameter in signature(part).parameters.values()
            if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
        ]
    except (TypeError, ValueError):
        return False, False
    needed = [one for one in positional if one.default is one.empty]
    if len(needed) > 1:
        raise ConfigError(
            f"judge {name!r} cannot be created from a model alone: it also needs {', '.join(one.name for one in needed)}"
        )
    return bool(positional), bool(needed)


def own_version(name: str) -> str:
    """The version of a judge of the user's own, before it has its model.

    Raises:
        ConfigError: its class does not tell.
    """
    version = getattr(JUDGES.get(name), "version", None)
    if not isinstance(version, str):
        raise ConfigError(
            f'judge {name!r} takes a model, so its class needs an attribute `version = "..."`, read before the model loads'
        )
    return version


def of_answers(judge: Judge, *, called: str | None = None, version: str | None = None) -> Judge:
    """The judge, shown only what was answered: a probe whose call failed is unscored.

    Args:
        judge: Any.
        called: The name it was found by, for messages.
        version: Of the judge and its model, where the judge knows its own alone.
    """
    if isinstance(judge, _OfAnswers):
        return judge
    return _OfAnswers(judge, called or judge.name, version or judge.version)


def _accepts(part: object) -> TypeGuard[Any]:
    return callable(part) or isinstance(part, Judge)


JUDGES: Registry[Any] = Registry(
    "judge",
    "buckler.judges",
    {
        "keyword": "buckler.judges.refusal.keyword:KeywordJudge",
        "paper": "buckler.judges.phrases:PaperJudge",
    },
    _accepts,
    "a class with a `name`, a `version` and `judge(answers)`, made of nothing or of a language model",
)
"""Judges that need no model, and all of the user's own."""
