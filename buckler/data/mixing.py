"""Seeded mixing of sets of rows, by count, by share or by weight."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import TypeVar

from buckler.data.rows import Chat, Document
from buckler.errors import ConfigError, DataError

RowT = TypeVar("RowT", Chat, Document)


def mix(parts: Mapping[str, Sequence[RowT]], counts: Mapping[str, int], *, seed: int, repeat: bool = False) -> list[RowT]:
    """`counts[name]` rows of each part, in one shuffled order; the same seed gives the same rows.

    A row stands once, whatever the number of its copies; of a row in two parts the one named first has it. `repeat`
    says that a part may be asked for more rows than it has: each row is then taken as often as any other, give or take
    one.
    Each part draws from a generator of its own name, so another part beside it does not change what it gives.

    Raises:
        ConfigError: a part has no count, or a count has no part or is below nought.
        DataError: a part has fewer rows than asked of it.
    """
    if parts.keys() != counts.keys():
        odd = ", ".join(sorted(parts.keys() ^ counts.keys()))
        raise ConfigError(f"every part needs a count and every count a part; unmatched: {odd}")
    taken: set[str] = set()
    drawn: list[RowT] = []
    for name, rows in parts.items():
        distinct: list[RowT] = []
        for row in rows:
            if row.id not in taken:
                taken.add(row.id)
                distinct.append(row)
        drawn += [distinct[at] for at in _index_map(name, len(distinct), counts[name], seed, repeat)]
    random.Random(f"{seed}:order").shuffle(drawn)
    return drawn


def _index_map(name: str, size: int, count: int, seed: int, repeat: bool) -> list[int]:
    """Which rows of a part are taken: whole passes over it, and a seeded sample for the rest."""
    if count < 0:
        raise ConfigError(f"part {name!r}: {count} rows requested; give a number of at least 0")
    if count > size and not (repeat and size):
        raise DataError(
            f"part {name!r}: {count} rows requested, but only {size} distinct rows available; request fewer, or allow repeats"
        )
    passes, rest = divmod(count, size) if size else (0, 0)
    return [*range(size)] * passes + random.Random(f"{seed}:{name}").sample(range(size), rest)
