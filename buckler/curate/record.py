"""What a curation leaves: rows with their ancestry, rejections with their reasons, counts; and how parts of it are joined."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from buckler.data import ROWS, Chat, Json, read_json, read_jsonl, write_json, write_jsonl, write_rows

REJECTED, COUNTS = "rejected.jsonl", "counts.json"


@dataclass(slots=True, kw_only=True)
class Curated:
    """What came of a set of texts, in their order."""

    rows: list[Chat] = field(default_factory=list)
    """One row a text, with its ancestry in `meta["curation"]`."""
    rejected: list[dict[str, Json]] = field(default_factory=list)
    """Texts and candidates that failed a gate or the helpfulness floor, each with its reason."""
    counts: Counter[str] = field(default_factory=Counter)

    def write(self, folder: Path) -> None:
        """Three files; the counts last, so that where they are, the others are whole."""
        write_rows(folder / ROWS, self.rows)
        write_jsonl(folder / REJECTED, self.rejected)
        write_json(folder / COUNTS, dict(sorted(self.counts.items())))


def join(parts: Sequence[Path], folder: Path) -> Counter[str]:
    """Consecutive parts of one curation as one: rows and rejections in their order, counts added up.

    Nothing but a line is held in memory, so the number of texts does not matter.
    """
    for name in (ROWS, REJECTED):
        write_jsonl(folder / name, (cast("Mapping[str, Json]", row) for part in parts for _, row in read_jsonl(part / name)))
    counts: Counter[str] = Counter()
    for part in parts:
        counts.update(cast("dict[str, int]", read_json(part / COUNTS)))
    write_json(folder / COUNTS, dict(sorted(counts.items())))
    return counts


def kind_of(reason: str) -> str:
    """A reason for counting: its numbers are N, what follows a colon is left out."""
    return re.sub(r"-?\d[\d.,]*(?:e[+-]?\d+)?%?", "N", reason.split(": ")[0])
