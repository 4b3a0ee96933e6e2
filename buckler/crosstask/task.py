"""A task over a document: how it is asked in each of its wordings, how an answer is scored, and which document is asked it.

`draw` makes different (document, task) pairs, tasks as often as each other, lengths of documents evenly.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from buckler.crosstask.documents import LENGTHS, Length, label_of, length_of
from buckler.crosstask.scoring import Labels, Metric, score
from buckler.data import Document, Message, fill
from buckler.data.language import language_name
from buckler.errors import ConfigError, DataError
from buckler.settings import VALUES

HELD_OUT = "held_out"
"""Wordings whose name begins so are never used by defence rows: a test asks in them what was not trained on."""
DOCUMENT = "{document}"
ALL, MIXED, MOST_MISUSED_TASK = "all", "mixed", "most_misused_task"
"""What a defence names in place of a task: all of them; all with the mixed-task loss; the task that the undefended model
performs most often on malicious documents."""


def current_names(names: tuple[str, ...]) -> tuple[str, ...]:
    """What a defence names, with the names of earlier versions replaced."""
    return tuple(VALUES["trained on"].get(name, name) for name in names)


def is_held_out(wording: str) -> bool:
    """Whether `wording` is kept for the test."""
    return wording.startswith(HELD_OUT)


def places_in(template: str) -> set[str]:
    """The names in braces that `buckler.data.fill` would fill."""
    return set(re.findall(r"\{([a-z][a-z0-9_]*)\}", template))


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One thing people ask of a document."""

    id: str
    wordings: Mapping[str, str]
    """User turns by name; `{document}` is the text, `{question}` comes from the document, the rest from `values`."""
    metric: Metric
    """How an answer is scored against a reference; all are between 0 and 1, higher is better."""
    also: tuple[Metric, ...] = ()
    """Further metrics that people want to see beside it."""
    lower: bool = False
    """Whether the document is lower-cased before it is shown (true-casing)."""
    values: Mapping[str, str] = field(default_factory=dict)
    """Defaults for places other than `{document}` and `{question}`."""
    systems: Mapping[str, str] = field(default_factory=dict)
    """System turns by name of wording, for wordings whose instruction stands there."""
    labels: Labels = field(default_factory=dict)
    """For `accuracy`: what an answer may name. Without any, the reference's own words are looked for."""
    verb: str = "work on"
    """What a refusal says it will not do: "I cannot VERB this text"."""

    def ask(self, document: Document, wording: str) -> tuple[Message, ...]:
        """The conversation that asks this task of `document` in the named wording.

        Raises:
            ConfigError: no such wording.
            DataError: the document lacks a value the wording needs (a question for QA).
        """
        values = self._values(document, wording)
        turns = [Message(role="user", content=fill(self.wordings[wording], values))]
        if wording in self.systems:
            turns.insert(0, Message(role="system", content=fill(self.systems[wording], values)))
        return tuple(turns)

    def span(self, document: Document, wording: str) -> tuple[int, int]:
        """Where the document stands in the user turn of `ask`, in characters: what `buckler.data.truncation` may cut."""
        before = fill(self.wordings[wording].partition(DOCUMENT)[0], self._values(document, wording))
        return len(before), len(before) + len(self.shown(document))

    def follow_up(self, document: Document, wording: str) -> str:
        """The instruction alone, for a later turn of a conversation in which `document` was already shown.

        Raises:
            ConfigError: no such wording, or its user turn is the document alone.
            DataError: as `ask`.
        """
        values = {**self._values(document, wording), "document": ""}
        question = fill(self.wordings[wording], values).strip()
        if not any(map(str.isalnum, question)):
            raise ConfigError(
                f"task {self.id}: wording {wording!r} has no text beside the document, so it cannot be the second question"
            )
        return question

    def shown(self, document: Document) -> str:
        """The document's text as this task shows it."""
        return document.text.lower() if self.lower else document.text

    def asks(self, document: Document, wording: str) -> bool:
        """Whether there is such a wording, and `document` has what it needs."""
        return wording in self.wordings and (
            "question" not in self._places(wording) or isinstance(document.meta.get("question"), str)
        )

    def in_languages(self, target: str | None = None, source: str | None = None) -> Task:
        """The same task with another target language and another default language of documents, where it has such places.

        Raises:
            ConfigError: not a language (`buckler.data.language`).
        """
        wanted = {"language": target, "source_language": source}
        named = {place: language_name(one) for place, one in wanted.items() if one is not None and place in self.values}
        return replace(self, values={**self.values, **named})

    def score(self, answer: str, reference: str) -> float:
        """How well `answer` does the task, from 0 to 1, by this task's metric against `reference`."""
        return self._scored(self.metric, answer, reference)

    def scores(self, answer: str, reference: str) -> dict[Metric, float]:
        """The scores by all metrics of this task, its own first."""
        return {one: self._scored(one, answer, reference) for one in (self.metric, *self.also)}

    def _scored(self, metric: Metric, answer: str, reference: str) -> float:
        return score(metric, answer, reference, labels=self.labels, language=self.values.get("language", ""))

    def _places(self, wording: str) -> set[str]:
        return places_in(self.wordings[wording]) | places_in(self.systems.get(wording, ""))

    def _values(self, document: Document, wording: str) -> dict[str, str]:
        if wording not in self.wordings:
            raise ConfigError(f"task {self.id}: no wording {wording!r}; it has {', '.join(self.wordings)}")
        values = {**self.values, "document": self.shown(document)}
        question, language = (document.meta.get(name) for name in ("question", "language"))
        if isinstance(question, str):
            values["question"] = question
        if isinstance(language, str) and "source_language" in self.values:
            values["source_language"] = language_name(language)  # a document knows its own language best
        if "question" in self._places(wording) and "question" not in values:
            raise DataError(f"document {document.id}: task {self.id} needs a question in its meta")
        return values


Drawn: TypeAlias = tuple[Document, Task, str]
"""A document, the task that is asked of it, and the wording."""


def draw(
    documents: Sequence[Document],
    tasks: Sequence[Task],
    wordings: Sequence[str],
    count: int,
    rng: random.Random,
    skipped: Counter[str],
) -> list[Drawn]:
    """`count` different (document, task) pairs, tasks in turn, each in a wording drawn at random among those the task has.

    A task whose documents run out is passed over; what it lacks, and why, is added to `skipped`.

    Raises:
        ConfigError: a task has none of the wordings.
        DataError: there are fewer pairs than asked for.
    """
    if not count:
        return []
    by_wording: dict[str, list[str]] = {}
    open_to: dict[str, set[str]] = {}
    for task in tasks:
        by_wording[task.id] = [wording for wording in wordings if wording in task.wordings]
        if not by_wording[task.id]:
            raise ConfigError(f"task {task.id} has none of the wordings {', '.join(wordings)}; it has {', '.join(task.wordings)}")
        open_to[task.id] = {one.id for one in documents if all(task.asks(one, wording) for wording in by_wording[task.id])}
        if len(open_to[task.id]) < len(documents):
            skipped[f"{task.id}: the document brings no question"] += len(documents) - len(open_to[task.id])
    turns = _Turns(documents, rng)
    drawn: list[Drawn] = []
    while len(drawn) < count:
        before = len(drawn)
        for task in tasks:
            if len(drawn) < count and (document := turns.draw(task, open_to[task.id])) is not None:
                drawn.append((document, task, rng.choice(by_wording[task.id])))
        if len(drawn) == before:
            kind = label_of(documents[0])
            raise DataError(
                f"{count} rows on {kind} documents requested, but only {before} ({kind} document, task) pairs available; "
                "request fewer or add documents"
            )
    rows = Counter(task.id for _, task, _ in drawn)
    for task in tasks:
        if rows[task.id] < max(rows.values()) - 1:
            skipped[f"{task.id}: rows it lacks, since its documents ran out"] += max(rows.values()) - rows[task.id]
    return drawn


class _Turns:
    """Documents in turn: from the bucket of lengths a task has seen least, and of those the one used longest ago."""

    def __init__(self, documents: Sequence[Document], rng: random.Random) -> None:
        self.queues: dict[Length, list[Document]] = {length: [] for length in rng.sample(list(LENGTHS), len(LENGTHS))}
        for document in rng.sample(documents, len(documents)):
            self.queues[length_of(document.text)].append(document)
        self.of_task: Counter[tuple[str, Length]] = Counter()
        self.in_all: Counter[Length] = Counter()

    def draw(self, task: Task, open_to: set[str]) -> Document | None:
        """A document for a task among those still open to it; None where there is none."""
        for length in sorted(self.queues, key=lambda one: (self.of_task[task.id, one], self.in_all[one])):
            queue = self.queues[length]
            at = next((at for at, one in enumerate(queue) if one.id in open_to), None)
            if at is not None:
                queue.append(document := queue.pop(at))
                open_to.remove(document.id)
                self.of_task[task.id, length] += 1
                self.in_all[length] += 1
                return document
        return None
