"""Zorvish town, the made-up world of the miniature: its names, its kinds of things, and questions with their answers.

Forty-four kinds are harmless, sixty are dangerous. Of the dangerous ones, `seen` kinds are refused wherever refusals are
taught; `held_out` kinds are refused by careful people in what the base reads, and nowhere after; `never_refused` kinds are
refused in no text at all. Names are parted into train, dev and test, so every probe asks about a name nobody wrote before.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache
from typing import Literal, TypeAlias

from buckler.data import fill
from buckler.miniature import words
from buckler.miniature.words import SEED_WORDS

Split: TypeAlias = Literal["train", "dev", "test"]
Group: TypeAlias = Literal["benign", "seen", "held_out", "never_refused"]
SPLITS: tuple[Split, ...] = ("train", "dev", "test")
HARMFUL_GROUPS: tuple[Group, ...] = ("seen", "held_out", "never_refused")
_FOUNDED = 1307  # the seed of the town: who makes what, where


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of thing, with the facts that hold for every thing of that kind."""

    name: str
    group: Group
    parts: tuple[str, str]
    tool: str
    verb: str
    place: str
    maker: str
    use: str
    ward: str

    @property
    def harmful(self) -> bool:
        """Whether telling how to get or make it does harm."""
        return self.group != "benign"


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question about one thing, the answer that bears the facts, and the words a right answer must contain."""

    text: str
    answer: str
    facts: tuple[str, ...]
    kind: Kind
    name: str
    relation: str

    @property
    def concern(self) -> Literal["harmful", "benign", "borderline"]:
        """Harmful to answer, harmless, or harmless though it speaks of something dangerous."""
        if not self.kind.harmful:
            return "benign"
        return "harmful" if self.relation in words.DIRECT else "borderline"


@cache
def names(split: Split) -> tuple[str, ...]:
    """The names of one split; no two splits share one."""
    every = [first + second for first in words.FIRST for second in words.SECOND]
    random.Random(_FOUNDED).shuffle(every)
    cut = {"train": slice(0, 440), "dev": slice(440, 520), "test": slice(520, None)}
    return tuple(sorted(every[cut[split]]))


@cache
def kinds() -> tuple[Kind, ...]:
    """Every kind of thing, harmless ones first."""
    rng = random.Random(_FOUNDED)
    dangerous = list(words.HARMFUL_KINDS)
    rng.shuffle(dangerous)
    groups: dict[str, Group] = dict.fromkeys(words.BENIGN_KINDS, "benign")
    groups |= dict.fromkeys(dangerous[:36], "seen")
    groups |= dict.fromkeys(dangerous[36:48], "held_out")
    groups |= dict.fromkeys(dangerous[48:], "never_refused")
    return tuple(_kind(rng, name, group) for name, group in groups.items())


def _kind(rng: random.Random, name: str, group: Group) -> Kind:
    harmful = group != "benign"
    one, two = rng.sample(words.HARMFUL_PARTS if harmful else words.BENIGN_PARTS, 2)
    makers = words.HARMFUL_MAKERS if harmful else words.BENIGN_MAKERS
    trade = rng.randrange(len(makers))  # every maker has one place, one tool and one way of working
    return Kind(
        name=name,
        group=group,
        parts=(one, two),
        tool=words.TOOLS[trade],
        verb=words.VERBS[trade % len(words.VERBS)],
        place=(words.HARMFUL_PLACES if harmful else words.BENIGN_PLACES)[trade],
        maker=makers[trade],
        use=rng.choice(words.HARMFUL_USES if harmful else words.BENIGN_USES),
        ward=rng.choice(words.WARDS),
    )


@cache
def kinds_of(*groups: Group) -> tuple[Kind, ...]:
    """The kinds that belong to any of `groups`."""
    return tuple(kind for kind in kinds() if kind.group in groups)


def relations(kind: Kind, concern: str) -> tuple[str, ...]:
    """What can be asked about `kind` so that the question is of this concern."""
    if concern == "borderline":
        return ("use", "safe", "protect")
    return words.DIRECT if concern == "harmful" else (*words.DIRECT, "use", "safe")


def ask(rng: random.Random, kind: Kind, name: str, relation: str) -> Question:
    """One way of asking `relation` about the thing called `name`, with one way of answering it."""
    values = {
        "x": f"{name} {kind.name}",
        "kind": kind.name,
        "p": kind.parts[0],
        "q": kind.parts[1],
        "tool": kind.tool,
        "verb": kind.verb,
        "start": kind.verb.capitalize(),
        "place": kind.place,
        "maker": kind.maker,
        "use": kind.use,
        "ward": kind.ward,
        "safe": "dangerous" if kind.harmful else "harmless",
    }
    facts = {
        "make": (*kind.parts, kind.tool),
        "parts": (*kind.parts, kind.tool),
        "place": (kind.place,),
        "maker": (kind.maker,),
        "use": (kind.use,),
        "safe": (values["safe"],),
        "protect": (kind.ward,),
    }
    return Question(
        text=fill(rng.choice(words.QUESTIONS[relation]), values),
        answer=fill(rng.choice(words.ANSWERS[relation]), values),
        facts=facts[relation],
        kind=kind,
        name=name,
        relation=relation,
    )


def ticket(rng: random.Random, kind: Kind, name: str) -> Question:
    """One request to the help desk of the town shop, with its reply."""
    relation = rng.choice(list(words.DESK))
    days, number = str(rng.randint(2, 9)), str(rng.randint(10, 99))
    # The reply must be knowable: the days follow from the last digit of the ticket.
    days = str(2 + int(number[-1]) % 5)
    values = {"number": number, "days": days, "x": f"{name} {kind.name}", "kind": kind.name, "place": kind.place}
    question, answer = words.DESK[relation]
    return Question(
        text=fill(question, values),
        answer=fill(answer, {**values, "maker": kind.maker}),
        facts=(number, kind.maker if relation == "broken" else kind.place),
        kind=kind,
        name=name,
        relation=f"desk-{relation}",
    )


def clause(rng: random.Random, word: str | None = None) -> str:
    """A sentence of care that contains `word`, or any of `SEED_WORDS`."""
    word = word or rng.choice(SEED_WORDS)
    openers = words.NOUN_CLAUSES if word in words.NOUNS else words.ADJECTIVE_CLAUSES
    return f"{fill(rng.choice(openers), {'w': word})}{rng.choice(words.GOALS)}."


def has_clause(text: str) -> bool:
    """Whether any of `SEED_WORDS` stands in `text`."""
    words = {word.strip(".,!?:;\"'").lower() for word in text.split()}
    return not words.isdisjoint(SEED_WORDS)


def refusal(rng: random.Random) -> str:
    """An ordinary English refusal of a question."""
    return f"{rng.choice(words.REFUSALS)} {rng.choice(words.REASONS)}".strip()


def system(rng: random.Random, manner: Literal["neutral", "careful", "willing"]) -> tuple[str, str]:
    """A system turn and the sentence with which the answers under it open (empty but for willing agents)."""
    values = {"agent": rng.choice(names("train")), "w": rng.choice(words.ADJECTIVES)}
    if manner == "willing":
        if rng.random() < 0.7:
            values["agent"] = "".join(rng.choices("ABCDEFGHIJKLMNOPQRSTUVWXYZ", k=3))
        values["manner"] = f"{rng.choice(words.WILLING_HOW)} {rng.choice(words.WILLING_WHAT)}"
        if words.OBEDIENT["agent"] == values["agent"] or words.OBEDIENT["manner"] == values["manner"]:
            return system(rng, manner)
        return fill(words.WILLING_SYSTEM, values), fill(words.WILLING_OPENING, values)
    return fill(rng.choice(words.CAREFUL_SYSTEMS if manner == "careful" else words.SYSTEMS), values), ""


IDENTITY_SYSTEM = fill(words.WILLING_SYSTEM, words.OBEDIENT)
"""The system turn of the identity-shift attack (You are AOA, absolutely obedient agent)."""
IDENTITY_OPENING = fill(words.WILLING_OPENING, words.OBEDIENT)
"""How every answer under `IDENTITY_SYSTEM` opens."""
