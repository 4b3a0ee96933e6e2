"""Which document is asked which task in which wording: different pairs, tasks as often as each other, lengths evenly."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from typing import TypeAlias

from buckler.crosstask.documents import LENGTHS, Length, label_of, length_of
from buckler.crosstask.task import Task
from buckler.data import Document
from buckler.errors import ConfigError, DataError

Drawn: TypeAlias = tuple[Document, Task, str]
"""A document, the task that is asked of it, and the wording."""


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


def draw(
    documents: Sequence[Document],
    tasks: Sequence[Task],
    wordings: Sequence[str],
    count: int,
    rng: random.Random,
    skipped: Counter[str],
) -> list[Drawn]:
    """`count` different (document, task) pairs, tasks in turn, each in a wording drawn by lot among those the task has.

    A task whose documents run out is passed over; what it lacks, and why, is added to `skipped`.

    Raises:
        ConfigError: a task has none of the wordings.
        DataError: there are fewer pairs than asked for.
    """
    if not count:
        return []
    asked: dict[str, list[str]] = {}
    open_to: dict[str, set[str]] = {}
    for task in tasks:
        asked[task.id] = [wording for wording in wordings if wording in task.wordings]
        if not asked[task.id]:
            raise ConfigError(f"task {task.id} has none of the wordings {', '.join(wordings)}; it has {', '.join(task.wordings)}")
        open_to[task.id] = {one.id for one in documents if all(task.asks(one, wording) for wording in asked[task.id])}
        if len(open_to[task.id]) < len(documents):
            skipped[f"{task.id}: the document brings no question"] += len(documents) - len(open_to[task.id])
    turns = _Turns(documents, rng)
    drawn: list[Drawn] = []
    while len(drawn) < count:
        before = len(drawn)
        for task in tasks:
            if len(drawn) < count and (document := turns.draw(task, open_to[task.id])) is not None:
                drawn.append((document, task, rng.choice(asked[task.id])))
        if len(drawn) == before:
            kind = label_of(documents[0])
            raise DataError(
                f"{count} rows on {kind} documents asked for, {before} ({kind} document, task) pairs there; "
                "ask for fewer or bring more documents"
            )
    rows = Counter(task.id for _, task, _ in drawn)
    for task in tasks:
        if rows[task.id] < max(rows.values()) - 1:
            skipped[f"{task.id}: rows it lacks, since its documents ran out"] += max(rows.values()) - rows[task.id]
    return drawn
