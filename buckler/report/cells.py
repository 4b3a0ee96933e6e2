"""What a table of the report is made of: cells that carry their interval, their seeds and what is wrong with them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from buckler.data import Json
from buckler.evaluation.power import CAUTION, FEW, unseen
from buckler.evaluation.statistics import Mean

Over: TypeAlias = Literal["seeds", "probes"]
NOTHING = "-"
"""Shown where there is nothing to show."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One number with what it rests on, or one text."""

    text: str | None = None
    """Shown instead of the number."""
    value: float | None = None
    low: float | None = None
    high: float | None = None
    over: Over = "seeds"
    """What the interval is over. Seeds: t interval, square brackets. Probes: Wilson (paired: Newcombe), round brackets."""
    n: int = 0
    """Seeds."""
    probes: int | None = None
    """Scored probes, over all seeds."""
    unscored: int = 0
    """Probes without a verdict: never in the value."""
    note: str = ""
    bad: bool = False
    signed: bool = False
    """Whether it is a difference, shown with its sign."""

    @property
    def number(self) -> str:
        """The value, or the text."""
        if self.text is not None:
            return self.text
        return NOTHING if self.value is None else format_number(self.value, signed=self.signed)

    @property
    def interval(self) -> str:
        """Both ends in the brackets of their kind; "" if there is no interval."""
        if self.low is None or self.high is None:
            return ""
        inside = f"{format_number(self.low, signed=self.signed)}, {format_number(self.high, signed=self.signed)}"
        return f"[{inside}]" if self.over == "seeds" else f"({inside})"

    @property
    def plain(self) -> str:
        """All of it in one line: `0.83 [0.71, 0.95]`."""
        parts = (self.number, self.interval, f"({self.note})" if self.note else "", "(!)" if self.bad else "")
        return " ".join(part for part in parts if part)

    def to_json(self) -> dict[str, Json]:
        """All fields that say something."""
        if self.text is not None:
            return {"text": self.text, "note": self.note, "bad": self.bad}
        numbers: dict[str, Json] = {name: getattr(self, name) for name in ("text", "value", "low", "high", "over", "n", "probes")}
        return {**numbers, "unread": self.unscored, "note": self.note, "bad": self.bad}


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """The head of a column of numbers."""

    name: str
    note: str = ""
    """How many probes a seed, and which way is good."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TableRow:
    """One row: what it is, its numbers, and a flag in words if no one should be pleased with it."""

    labels: tuple[str, ...]
    cells: tuple[Cell, ...]
    flag: str = ""
    part: str = ""
    """Rows of one part stand together; the first of the next is set off by a line."""

    def to_json(self) -> dict[str, Json]:
        """All fields."""
        cells: list[Json] = [cell.to_json() for cell in self.cells]
        return {"labels": list(self.labels), "cells": cells, "flag": self.flag, "part": self.part}


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A titled table."""

    title: str
    caption: str
    heads: tuple[str, ...]
    """Names of the label columns."""
    columns: tuple[Column, ...]
    rows: tuple[TableRow, ...]
    folded: bool = False
    """Whether a page shows it only when asked to."""

    @property
    def flagged(self) -> bool:
        """Whether any row has a flag: only then is there a column for it."""
        return any(row.flag for row in self.rows)

    def to_json(self) -> dict[str, Json]:
        """All fields."""
        return {
            "title": self.title,
            "caption": self.caption,
            "heads": list(self.heads),
            "columns": [{"name": column.name, "note": column.note} for column in self.columns],
            "rows": [row.to_json() for row in self.rows],
        }


def format_number(value: float, *, signed: bool = False) -> str:
    """Two decimals, and a sign for differences; a rounded zero has no minus."""
    text = f"{value:+.2f}" if signed else f"{value:.2f}"
    return text.replace("-0.00", "0.00").replace("+0.00", "0.00")


def format_p(value: float | None) -> str:
    """A p-value as people write it."""
    return NOTHING if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


def no_width(low: float | None, high: float | None) -> bool:
    """Whether an interval is absent or a point: seeds that agree say nothing of the noise."""
    return low is None or high is None or high - low < 1e-9


def unscored_note(unscored: int, bounds: Sequence[float] | None) -> str:
    """What the unscored probes could make of the rate; "" where there are none."""
    if not unscored:
        return ""
    return f"{unscored} unread: {format_number(bounds[0])} to {format_number(bounds[1])}" if bounds else f"{unscored} unread"


def signed(difference: Mean) -> Cell:
    """A difference over seeds as a cell."""
    return Cell(value=difference.value, low=difference.low, high=difference.high, n=difference.n, signed=True)


def column_of(name: str, cells: Sequence[Cell], note: str = "") -> Column:
    """A column whose head says how many probes a seed its numbers rest on."""
    counts = {(cell.probes + cell.unscored) // max(cell.n, 1) for cell in cells if cell.probes is not None and cell.n}
    probes = f"{min(counts)} probes" if len(counts) == 1 else f"{min(counts)}-{max(counts)} probes" if counts else ""
    return Column(name=name, note=", ".join(part for part in (note, probes) if part))


def caution(cells: Iterable[Cell]) -> str:
    """What the smallest and the largest of the small probe sets behind these rates do not show; "" if none is small."""
    few = sorted(n for n in {cell.probes // cell.n for cell in cells if cell.probes and cell.n} if n < FEW)
    parts = ", ".join(f"with {n} probes {unseen(n)}" for n in dict.fromkeys([*few[:1], *few[-1:]]))
    return f"In one seed, {parts} ({CAUTION})." if parts else ""
