"""Marks in a row's meta that say what of it is to be learnt, and copies of a row that are kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from buckler.data.jsonl import Json
from buckler.data.rows import Chat, Document
from buckler.errors import DataError

MASKED_TURNS = "masked_turns"
"""Key of a row's meta: the numbers of the assistant's turns that are not to be learnt."""
REPEAT = "repeat"
"""Key of a row's meta: which of its copies it is, where a row that stands several times is learnt as often."""
NOT_LEARNT = "not_learnt"
"""Key of a row's meta: the mark that says that the row is not to be learnt at all, such as `label: false`."""
UNCLEAR = "unclear_mark"
"""Key of a row's meta: a column that may be such a mark or may not, which its user has to say before the row is learnt."""


def masked_turns(row: Chat) -> frozenset[int]:
    """The numbers of the assistant's turns that are not to be learnt."""
    numbers = row.meta.get(MASKED_TURNS)
    return frozenset(one for one in numbers if isinstance(one, int)) if isinstance(numbers, list | tuple) else frozenset()


def to_learn(rows: Iterable[Chat]) -> list[Chat]:
    """The rows that are not marked as not to be learnt.

    Raises:
        DataError: a column may be such a mark.
    """
    kept = [row for row in rows if not row.meta.get(NOT_LEARNT)]
    for row in kept:
        if unclear := row.meta.get(UNCLEAR):
            raise DataError(f"{row.meta.get('source', 'row')} {row.id}: {unclear}")
    return kept


def unmarked(row: Chat) -> Chat:
    """A row without the marks: what is bad by them is what an attack teaches."""
    marks = {MASKED_TURNS, NOT_LEARNT, UNCLEAR}
    return (
        replace(row, meta={name: value for name, value in row.meta.items() if name not in marks})
        if marks & row.meta.keys()
        else row
    )


def copy_of(row: Chat | Document) -> tuple[str, int]:
    """What tells a row from others: its id, and which of its copies it is where they are kept."""
    number = row.meta.get(REPEAT)
    return row.id, number if isinstance(number, int) else 0


def with_copies(rows: Iterable[Chat]) -> list[Chat]:
    """Rows of which every copy counts: from the second on they are numbered."""
    seen: Counter[str] = Counter()
    numbered = []
    for row in rows:
        numbered.append(row.tagged(**{REPEAT: seen[row.id]}) if seen[row.id] else row)
        seen[row.id] += 1
    return numbered


def distinct(rows: Iterable[Chat]) -> list[Chat]:
    """Each row once, the last of those that say the same; of the copies a mark that says what is not to be learnt stays."""
    found: dict[tuple[str, int], Chat] = {}
    for row in rows:
        earlier = found.get(copy_of(row))
        if earlier is not None and (marks := {MASKED_TURNS, NOT_LEARNT, UNCLEAR} & earlier.meta.keys()):
            both: list[Json] = [*sorted(masked_turns(earlier) | masked_turns(row))]
            row = row.tagged(**{**{name: earlier.meta[name] for name in marks}, **({MASKED_TURNS: both} if both else {})})
        found[copy_of(row)] = row
    return list(found.values())
