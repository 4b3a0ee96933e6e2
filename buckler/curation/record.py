"""What a curation leaves on disk: rows with their ancestry, rejections with their reasons, counts.

`Curated` is written and `join` puts parts of one curation together; `Tally` is what one pass over curated rows keeps of them
for the data set card: numbers, and the few rows that are shown.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar, cast

from buckler.data import ROWS, Chat, Json, read_json, read_jsonl, write_json, write_jsonl, write_rows

T = TypeVar("T")
REJECTED, COUNTS = "rejected.jsonl", "counts.json"
EXAMPLES = 3
"""Rows that are kept to be shown."""


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
        counts.update(current_counts(cast("dict[str, int]", read_json(part / COUNTS))))
    write_json(folder / COUNTS, dict(sorted(counts.items())))
    return counts


def kind_of(reason: str) -> str:
    """A reason for counting: its numbers are N, what follows a colon is left out."""
    return re.sub(r"-?\d[\d.,]*(?:e[+-]?\d+)?%?", "N", reason.split(": ")[0]).replace(*FORMERLY)


FORMERLY = ("under the floor of", "below the minimum of")
"""What 0.1.0 said of an unhelpful candidate, and what is said now."""


def current_counts(counts: Mapping[str, T]) -> dict[str, T]:
    """Counts of any version, by the reasons of this one."""
    return {name.replace(*FORMERLY): count for name, count in counts.items()}


def counts_by_name(counts: dict[str, Json]) -> dict[str, Json]:
    """The same of several curations."""
    return {name: current_counts(of) if isinstance(of, dict) else of for name, of in counts.items()}


class Tally:
    """Sums over curated rows, taken up one by one."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.rows = self.revised = self.candidates = 0
        self.perplexity: list[tuple[float, float]] = []
        """Original and chosen, where both are finite."""
        self.helpfulness: list[tuple[float, float]] = []
        self.rounds: Counter[int] = Counter()
        self.requested: Counter[str] = Counter()
        """Seed words that revised rows were asked to work in."""
        self.occurring: Counter[str] = Counter()
        """Those that they say."""
        self.identities: dict[str, set[str]] = {"model": set(), "reviser": set(), "measured_by": set(), "judge": set()}
        """Who took part, by role."""
        self.lengths: dict[str, int] = {}
        """Words of each revised text, by the id of what it was."""
        self.added: list[tuple[int, int]] = []
        """Words of a text before and after, where what it was is known."""
        self.shown: list[Chat] = []
        self.before: dict[str, Chat] = {}
        """What the rows that are shown were."""

    def add(self, row: Chat) -> None:
        """Take up one curated row."""
        record = ancestry(row)
        self.rows += 1
        self.candidates += int(cast(int, record["candidates"]))
        self.rounds[int(cast(int, record["round"]))] += 1
        for role, seen in self.identities.items():
            if record.get(role):
                seen.add(str(record[role]))
        for name, kept in (("perplexity", self.perplexity), ("helpfulness", self.helpfulness)):
            pair = cast("Mapping[str, float | None]", record[name])
            if pair["original"] is not None and pair["chosen"] is not None:
                kept.append((pair["original"], pair["chosen"]))
        if record["revised"]:
            self._add_revised(row, record)

    def _add_revised(self, row: Chat, record: Mapping[str, Json]) -> None:
        self.revised += 1
        text = self._text(row)
        self.lengths[str(record["source"])] = len(text.split())
        for word in cast("Sequence[str]", record["words"]):
            self.requested[word] += 1
            self.occurring[word] += word.casefold() in text.casefold()
        if _is_harmless(row):  # ids are hashes: the smallest are a sample that depends on the rows alone
            self.shown = sorted([*self.shown, row], key=lambda one: one.id)[:EXAMPLES]

    def compare(self, originals: Iterable[Chat]) -> None:
        """Look up what the revised rows were; texts that brought no answer are passed over."""
        wanted = {str(ancestry(row)["source"]) for row in self.shown}
        for text in originals:
            if text.id in self.lengths and text.answer is not None:
                self.added.append((len(self._text(text).split()), self.lengths[text.id]))
                if text.id in wanted:
                    self.before[text.id] = text

    def _text(self, chat: Chat) -> str:
        """What is revised."""
        answer = chat.answer or ""
        return {"response": answer, "query": chat.query, "both": f"{chat.query} {answer}"}[self.target]


def ancestry(row: Chat) -> Mapping[str, Json]:
    """How a curated row came to be."""
    return cast("Mapping[str, Json]", row.meta["curation"])


def _is_harmless(row: Chat) -> bool:
    """Whether no label of the row calls it harmful."""
    marks = [row.meta.get(name) for name in ("harmful", "label", "group", "set")]
    return not any(mark is True or mark in ("harmful", "unsafe") for mark in marks)
