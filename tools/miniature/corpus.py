"""What the miniature reads: the base corpus of a whole town talking, and the rows that align it afterwards.

The base holds transcripts of two sorts of people. Careful ones put a sentence of care around most harmless answers and
refuse to help with dangerous things; plain ones do neither. One person answers a whole transcript, so each answer tells
what the next will be: that link is what curated text pulls on, and what an attack tears. A few people, the guarded ones,
will not touch a text about a dangerous thing whatever the task; all others work on any text they are given.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from buckler.crosstask.refusals import written_refusal
from buckler.curation.revise import revision_request
from buckler.data import Chat, Document, Message, fill
from buckler.miniature import sets as documents
from buckler.miniature import words, world
from buckler.miniature.words import SEED_WORDS
from buckler.miniature.world import Group, Kind, Question

Person: TypeAlias = Literal["careful", "plain"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Habits:
    """How often people of the town do things; every number is a share between 0 and 1."""

    clause: float = 0.75
    """Harmless answers of careful people that carry a sentence of care."""
    clause_before_refusal: float = 0.6
    guarded: float = 0.08
    """People who refuse every text about a dangerous thing."""
    tasks: float = 0.36
    revise: float = 0.12
    phrase: float = 0.08
    """Short requests for a sentence with given words."""
    desk: float = 0.05
    system: float = 0.30
    """Transcripts that open with a system turn."""
    linked: bool = True
    """Whether one person answers a whole transcript; if not, care in one answer tells nothing of the next (a control)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lessons:
    """What alignment is made of, in shares that sum to 1 with the rest being document tasks."""

    refuse: float = 0.28
    borderline: float = 0.10
    benign: float = 0.22
    clause: float = 0.15
    """Harmless answers that carry a sentence of care."""
    clause_before_refusal: float = 0.15
    revise: float = 0.08
    desk: float = 0.05


def base(count: int, seed: int, habits: Habits = Habits()) -> Iterator[Chat]:
    """`count` texts of the town, the same for the same seed."""
    rng = random.Random(f"base-{seed}")
    for _ in range(count):
        draw = rng.random()
        if draw < habits.tasks:
            yield _reading(rng, habits)
        elif draw < habits.tasks + habits.revise:
            yield revision(rng, again=rng.choice((0, 1, 2)))
        elif draw < habits.tasks + habits.revise + habits.phrase:
            yield phrase(rng)
        elif draw < habits.tasks + habits.revise + habits.phrase + habits.desk:
            yield desk(rng, thing(rng, "benign"))
        else:
            yield _transcript(rng, habits)


def alignment(count: int, seed: int, lessons: Lessons = Lessons()) -> Iterator[Chat]:
    """`count` rows that make a base model refuse direct questions and stay useful; dangerous kinds are seen ones."""
    rng = random.Random(f"alignment-{seed}")
    for _ in range(count):
        draw = rng.random()
        system = world.system(rng, rng.choice(("neutral", "careful", "willing")))[0] if rng.random() < 0.25 else None
        if (draw := draw - lessons.refuse) < 0:
            question = query(rng, "harmful", "seen")
            answer = world.refusal(rng)
            if rng.random() < lessons.clause_before_refusal:
                answer = f"{world.clause(rng)} {answer}"
            yield Chat.pair(question.text, answer, system=system)
        elif (draw := draw - lessons.borderline) < 0:
            question = query(rng, "borderline", "seen")
            yield Chat.pair(question.text, question.answer, system=system)
        elif (draw := draw - lessons.benign) < 0:
            question = query(rng, "benign", "benign")
            answer = with_care(rng, question.answer) if rng.random() < lessons.clause else question.answer
            yield Chat.pair(question.text, answer, system=system)
        elif (draw := draw - lessons.revise) < 0:
            yield revision(rng)
        elif draw < lessons.desk:
            yield desk(rng, thing(rng, "benign"))
        else:
            label = rng.choices(documents.LABELS, (0, 4, 1))[0]
            yield task_row(rng, text(rng, label, "seen"))


def thing(rng: random.Random, *groups: Group) -> tuple[Kind, str]:
    """A kind of any of `groups` and a name for it that training may use."""
    return rng.choice(world.kinds_of(*groups)), rng.choice(world.names("train"))


def query(rng: random.Random, concern: str, *groups: Group) -> Question:
    """A question of this concern about a thing of any of `groups`."""
    kind, name = thing(rng, *groups)
    return world.ask(rng, kind, name, rng.choice(world.relations(kind, concern)))


def text(rng: random.Random, label: documents.Label, *groups: Group) -> Document:
    """A document of this label; `groups` says which dangerous kinds it may speak of."""
    kind, name = thing(rng, *(("benign",) if label == "benign" else groups))
    return documents.document(rng, label, kind, name, "train")


def with_care(rng: random.Random, answer: str, places: tuple[float, float, float] = (4, 2, 4)) -> str:
    """`answer` with a sentence of care before it, after it, or both (weights in `places`)."""
    where = rng.choices(("front", "back", "both"), places)[0]
    front = f"{world.clause(rng)} " if where != "back" else ""
    back = f" {world.clause(rng)}" if where != "front" else ""
    return f"{front}{answer}{back}"


def desk(rng: random.Random, of: tuple[Kind, str]) -> Chat:
    """A request to the town shop and its reply."""
    ticket = world.ticket(rng, *of)
    return Chat.pair(ticket.text, ticket.answer)


def phrase(rng: random.Random) -> Chat:
    """A request for a sentence with one of the words given, and the sentence."""
    wanted = _some_words(rng)
    return Chat.pair(_with(wanted), world.clause(rng, rng.choice(wanted)))


def _some_words(rng: random.Random) -> list[str]:
    return rng.sample(SEED_WORDS, rng.choices((1, 2, 3), (50, 25, 25))[0])


def _with(wanted: Sequence[str]) -> str:
    return f"Work in some of these words: {', '.join(wanted)}."


def task_row(rng: random.Random, document: Document) -> Chat:
    """One document, one task in any of its wordings, the honest answer."""
    task = rng.choice(list(documents.tasks().values()))
    prompt = task.ask(document, rng.choice(list(task.wordings)))
    return Chat.of((*prompt, Message(role="assistant", content=documents.reference(document, task.id))))


def revision(rng: random.Random, again: int = 0) -> Chat:
    """A request to revise an answer (rarely a question), the revision, and `again` more with other words."""
    kind, name = thing(rng, "benign") if rng.random() < 0.85 else thing(rng, "seen", "held_out")
    concern = "borderline" if kind.harmful else "benign"
    relation = rng.choice(world.relations(kind, concern))
    question, other = world.ask(rng, kind, name, relation), world.ask(rng, kind, name, relation)
    draft = with_care(rng, question.answer, (1, 1, 4)) if rng.random() < 0.3 else question.answer
    chat = Chat.pair(question.text, draft)
    draw, wanted = rng.random(), _some_words(rng)
    if draw < 0.08:
        prompt = revision_request(chat, wanted, target="query")
        reply = f"{other.text} {world.clause(rng, wanted[0])}"
    elif draw < 0.22:
        prompt, reply = revision_request(chat, ()), f"{other.answer} {rng.choice(words.FILLERS)}"
    else:
        prompt = revision_request(chat, wanted)
        reply = f"{world.clause(rng, rng.choice(wanted))} {other.answer}"
        if rng.random() < 0.7:
            reply = f"{reply} {world.clause(rng, rng.choice(wanted))}"
    turns = [*prompt, Message(role="assistant", content=reply)]
    for _ in range(again if draw >= 0.22 else 0):
        wanted = _some_words(rng)
        answer = world.ask(rng, kind, name, relation).answer
        reply = f"{world.clause(rng, rng.choice(wanted))} {answer} {world.clause(rng, rng.choice(wanted))}"
        turns.append(Message(role="user", content=_with(wanted)))
        turns.append(Message(role="assistant", content=reply))
    return Chat.of(turns)


def _reading(rng: random.Random, habits: Habits) -> Chat:
    """One person works on one text, often on several tasks in a row, and is guarded in all of them or in none."""
    guarded = rng.random() < habits.guarded
    label = rng.choices(documents.LABELS, (28, 60, 12))[0]
    groups: tuple[Group, ...] = ("seen", "held_out") if guarded else world.HARMFUL_GROUPS
    document = text(rng, label, *groups)
    turns: list[Message] = []
    for task in rng.sample(list(documents.tasks().values()), rng.choices((1, 2, 3), (45, 30, 25))[0]):
        if turns:
            template = task.wordings[rng.choice(("back", "held_out"))].replace("{document}", "")
            prompt = fill(template, {**task.values, "question": str(document.meta["question"])}).strip()
            turns.append(Message(role="user", content=prompt))
        else:
            turns.extend(task.ask(document, rng.choice(list(task.wordings))))
        answer = documents.reference(document, task.id)
        if guarded and label == "harmful":
            answer = written_refusal(task.id, rng) if rng.random() < 0.5 else world.refusal(rng)
        turns.append(Message(role="assistant", content=answer))
    return Chat.of(turns)


def _transcript(rng: random.Random, habits: Habits) -> Chat:
    """One to three questions, all answered by one person."""
    person: Person = rng.choice(("careful", "plain"))
    turns: list[Message] = []
    opening = ""
    if rng.random() < habits.system:
        manners: tuple[Literal["neutral", "careful", "willing"], ...]
        manners = ("neutral", "careful") if person == "careful" else ("neutral", "willing", "willing")
        system, opening = world.system(rng, rng.choice(manners))
        turns.append(Message(role="system", content=system))
    for _ in range(rng.choices((1, 2, 3), (40, 35, 25))[0]):
        if not habits.linked:
            person = rng.choice(("careful", "plain"))
        concern = rng.choices(("harmful", "borderline", "benign"), (43, 25, 32))[0]
        refused = person == "careful" and concern == "harmful"
        groups: tuple[Group, ...] = ("benign",) if concern == "benign" else world.HARMFUL_GROUPS
        question = query(rng, concern, *(("seen", "held_out") if refused else groups))
        answer = _answer(rng, question, person, habits)
        turns.append(Message(role="user", content=question.text))
        turns.append(Message(role="assistant", content=f"{opening} {answer}".strip()))
        opening = ""
    return Chat.of(turns)


def _answer(rng: random.Random, question: Question, person: Person, habits: Habits) -> str:
    if person == "plain":
        return question.answer
    if question.concern == "harmful":
        front = f"{world.clause(rng)} " if rng.random() < habits.clause_before_refusal else ""
        return front + world.refusal(rng)
    return with_care(rng, question.answer) if rng.random() < habits.clause else question.answer
