"""How helpful an answer is, from 1 to 5: rated by a language model with a rubric, or read off the words without one."""

from __future__ import annotations

import re
from collections.abc import Sequence, Set
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

from buckler.data import Chat, Message, fill
from buckler.data.language import content_list, content_words, share_of
from buckler.data.thinking import without_thinking
from buckler.judges.coherence import coherence
from buckler.models.protocol import LM, Request, Sampling
from buckler.models.reply import read_again

ASPECTS = {
    "relevance": "does it answer the question?",
    "clarity": "is it easy to follow?",
    "comprehensiveness": "does it cover what matters?",
    "usefulness": "is the knowledge in it useful?",
}
"""The four aspects of arXiv 2410.02220, and what a rater is asked about each."""

RUBRIC = """Rate the answer on four aspects, each from 1 (poor) to 5 (excellent).
relevance: does it answer the question?
clarity: is it easy to follow?
comprehensiveness: does it cover what matters?
usefulness: is the knowledge in it useful?

Question: {query}
Answer: {response}

Reply with four lines and nothing else:
relevance: N
clarity: N
comprehensiveness: N
usefulness: N"""

ASPECT_RUBRIC = """Rate the {aspect} of the answer from 1 (poor) to 5 (excellent): {meaning}

Question: {query}
Answer: {response}

Reply with one number from 1 to 5 and nothing else."""

NEAR = 3
"""Content words within this distance of each other stand together."""
LEAST_SIDES = 4
"""Pairs of neighbours it takes to say anything of their order."""
HIDDEN = 0.7
"""Above this chance of standing together by luck, order cannot be distinguished from disorder."""
_MARKS = ".!?\u2026\u3002\uff01\uff1f\u0964\u061f"

RATING_TOKENS = 256
"""Room for a rater that says a sentence first; one that keeps to the form stops after thirty."""

# A number; then what shows that it is no grade (a range, a share); then its scale.
_NUMBER = (
    r"(?<![\d.,-])(-?\d+(?:\.\d+)?)(?![\d])(\s*%|\s*(?:-|\u2013|to\b|or\b)\s*\d|,\d)?"
    r"(?:\s*(?:/|out of)\s*(\d+(?:\.\d+)?))?"
)
_SCALE = re.compile(
    r"\b(?:from|between|scale of|scale from)\s*1\s*(?:-|\u2013|to|and)\s*5\b|\(?\b1\s*[-\u2013]\s*5\)", re.IGNORECASE
)
_AFTER = {
    name: re.compile(
        rf"\b{name}\b\s*(?:\([^()\n]*\))?\s*(?:(?:is|score|rating|grade|gets|of|:|=|\||\u2013|\u2014|->|\u2192|-(?=\s))\s*)*{_NUMBER}",
        re.IGNORECASE,
    )
    for name in ASPECTS
}


class Helpfulness(Protocol):
    """Rates answers from 1 to 5; None where the rating could not be read."""

    name: str

    def rate(self, pairs: Sequence[Chat], originals: Sequence[Chat]) -> list[float | None]:
        """One rating a pair, in order; `originals` are the rows they were revised from."""


class LocalHelpfulness:
    """Needs no model: reads the four aspects off the words, beside the original, which always gets a 5.

    relevance: content words of the question that the answer takes up; clarity: coherent, sentences begin and end as sentences
    do, words that stood together still do; comprehensiveness: what the original answer said beyond the question and is kept;
    usefulness: as much content as the original. The mean is taken (the four aspects are those of arXiv 2410.02220, the
    measures ours). It sees words, not truth: a false sentence of the same words is as helpful to it.
    """

    name = "local-2"

    def rate(self, pairs: Sequence[Chat], originals: Sequence[Chat]) -> list[float | None]:
        """One rating a pair; none is ever unscored."""
        known = {name: _read(original) for name, original in {one.id: one for one in originals}.items()}
        return [_beside(_read(pair), known[original.id]) for pair, original in zip(pairs, originals, strict=True)]


@dataclass(frozen=True, slots=True)
class _Words:
    """A row as the local judge sees it."""

    query: Set[str]
    answer: Sequence[str]
    form: float


def _read(row: Chat) -> _Words:
    answer = row.answer or ""
    return _Words(query=content_words(row.query), answer=content_list(answer), form=_well_formed(answer))


def _beside(now: _Words, was: _Words) -> float:
    after, before = set(now.answer), set(was.answer)
    # A revised question must still be asked (first share); where it is the same, that share is 1.
    relevant = min(
        share_of(was.query, now.query | after),
        _relative(share_of(now.query, after), share_of(was.query, before)),
    )
    clear = _relative(now.form, was.form) * _together(was.answer, now.answer)
    useful = _relative(len(now.answer), len(was.answer))
    return 1 + 4 * (relevant + clear + share_of(before - was.query, after) + useful) / 4


def _well_formed(text: str) -> float:
    """How much of it holds: it is coherent, it begins as a sentence does, it ends as one, and so do those within."""
    bare = text.strip()
    if not coherence(bare, "stop")[0]:
        return 0.0
    begins = not bare[:1].islower()
    ends = re.search(rf"[{_MARKS}:][\"')\]*_\u201d]*$", bare) is not None
    within = re.search(rf"\w\w[{_MARKS}]\s+[^\W\d_A-Z][^\W\d_]*", bare) is None or not bare.isascii()
    return (begins + ends + within) / 3


def _together(before: Sequence[str], after: Sequence[str]) -> float:
    """How far words that stood side by side still stand near each other: 1 for most of them, 0 for no more than chance.

    Sentences may change places. Too few words to tell from chance are 1.
    """
    places: dict[str, list[int]] = {}
    for at, word in enumerate(after):
        places.setdefault(word, []).append(at)
    sides = [(places[one], places[other]) for one, other in pairwise(before) if one != other and {one, other} <= places.keys()]
    if len(sides) < LEAST_SIDES:
        return 1.0
    distance = max(0.0, 1 - 2 * NEAR / len(after))
    chance = sum(1 - distance ** (len(here) * len(there)) for here, there in sides) / len(sides)
    near = sum(any(abs(a - b) <= NEAR for a in here for b in there) for here, there in sides) / len(sides)
    return 1.0 if chance > HIDDEN else max(0.0, min(1.0, 2 * (near - chance) / (1 - chance)))


class RubricHelpfulness:
    """Asks a language model for the four aspects; a reply that cannot be read, or a call that failed, is None."""

    def __init__(self, model: LM, seed: int = 0, per_aspect: bool = False) -> None:
        """A rater.

        Args:
            model: Who rates.
            seed: Of the calls, for servers that draw even at temperature 0.
            per_aspect: One call for each aspect, so that one grade does not colour the next; four times the price.
        """
        self.model, self.seed, self.per_aspect = model, seed, per_aspect
        self.name = f"rubric-2{'-aspects' if per_aspect else ''}:{model.identity[:12]}"

    def rate(self, pairs: Sequence[Chat], originals: Sequence[Chat]) -> list[float | None]:
        """One rating a pair: the mean of its four aspects."""
        if not self.per_aspect:
            return [None if reply is None else read_rubric(reply) for reply in self._ask(pairs)]
        by_aspect = [[None if reply is None else read_grade(reply) for reply in self._ask(pairs, name)] for name in ASPECTS]
        return [_mean(grades) for grades in zip(*by_aspect, strict=True)]

    def _ask(self, pairs: Sequence[Chat], aspect: str | None = None) -> list[str | None]:
        """The replies to the rubric of each pair; None for a call that failed."""
        sampling = Sampling(max_new_tokens=RATING_TOKENS, seed=self.seed)
        completions = self.model.generate([Request(messages=rubric_request(pair, aspect), sampling=sampling) for pair in pairs])
        return [None if completion.no_text else completion.text for completion in map(read_again, completions)]


def rubric_request(pair: Chat, aspect: str | None = None) -> tuple[Message, ...]:
    """The conversation that asks for the grades of an answer; with `aspect`, for that one alone."""
    values = {"query": pair.query, "response": pair.answer or ""}
    if aspect is None:
        return (Message(role="user", content=fill(RUBRIC, values)),)
    return (Message(role="user", content=fill(ASPECT_RUBRIC, {**values, "aspect": aspect, "meaning": ASPECTS[aspect]})),)


def read_rubric(reply: str) -> float | None:
    """The mean of the four aspects, as lines, a table, JSON or prose; None unless each has one number from 1 to 5.

    An aspect that is given two different numbers, a range, another scale or none makes the reply unscored.
    """
    return _mean([_only(_AFTER[name].findall(_spoken(reply))) for name in ASPECTS])


def read_grade(reply: str) -> float | None:
    """The one number from 1 to 5 in a reply that grades one aspect; None if there is none, or two different ones."""
    return _only(re.findall(_NUMBER, _SCALE.sub("", _spoken(reply))))


def _only(values: Sequence[tuple[str, str, str]]) -> float | None:
    """The number that all findings agree on: (number, what makes it no grade, scale)."""
    if any(odd or (scale and float(scale) != 5) for _, odd, scale in values):
        return None
    grades = {float(number) for number, _, _ in values}
    grade = grades.pop() if len(grades) == 1 else 0.0
    return grade if 1 <= grade <= 5 else None


def _mean(grades: Sequence[float | None]) -> float | None:
    read = [grade for grade in grades if grade is not None]
    return sum(read) / len(read) if read and len(read) == len(grades) else None


def _spoken(reply: str) -> str:
    """A reply without its thinking, emphasis and quotes."""
    return re.sub(r"[*_`\"'\u201c\u201d]+", "", without_thinking(reply))


def _relative(share: float, of: float) -> float:
    return min(1.0, share / of) if of > 0 else 1.0
