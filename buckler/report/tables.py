"""Tables of a report: cells that carry their interval, their seeds and what is wrong with them; as Markdown and in a terminal."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from buckler.data import Json
from buckler.evaluation.power import CAUTION, FEW, unseen
from buckler.evaluation.statistics import Mean

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table as Drawn
    from rich.text import Text


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
    return f"{unscored} unscored: {format_number(bounds[0])} to {format_number(bounds[1])}" if bounds else f"{unscored} unscored"


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


ROOM = 9
"""Characters that an interval takes in a terminal."""
NAMES = 16
"""Characters for the name of a row."""
UNSHOWN_LABELS = ("not customized", "customized", NOTHING)
"""Labels that a terminal can do without."""


def to_markdown(table: Table) -> str:
    """A table as GitHub reads it: title, caption, rows; the flag column only where something is flagged."""
    heads = [*table.heads, *(f"{c.name} ({c.note})" if c.note else c.name for c in table.columns)]
    rows = [[*row.labels, *(cell.plain for cell in row.cells)] for row in table.rows]
    if table.flagged:
        heads.append("flag")
        rows = [[*cells, row.flag] for cells, row in zip(rows, table.rows, strict=True)]
    aligned = ["---"] * len(table.heads) + ["---:"] * len(table.columns) + ["---"] * table.flagged
    lines = [_line([escape(head) for head in heads]), _line(aligned)]
    lines += [_line([escape(cell) for cell in cells]) for cells in rows]
    return "\n".join([f"#### {escape(table.title)}", "", escape(table.caption), "", *lines, ""])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def escape(text: str) -> str:
    """Text that Markdown shows as it is: no HTML, no links, no cells of its own, one line."""
    safe = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    safe = re.sub(r"([\\`*_|~]|\](?=[(\[:]))", r"\\\1", safe)
    return re.sub(r"\s*[\r\n]+\s*", " / ", safe).strip()


def print_tables(sections: Sequence[tuple[Sequence[Table], str]], closing: str, console: Console | None = None) -> None:
    """Tables in a terminal, compactly: no folded tables, no captions, intervals where there is room for them.

    Args:
        sections: the tables of each, and a line to say below them.
        closing: the last line.
        console: where to print, the terminal if none is given.
    """
    from rich.console import Console

    target_console = console or Console()
    for tables, below in sections:
        for table in tables:
            if not table.folded:
                target_console.print(_drawn(table, target_console.width))
        target_console.print(below, style="dim", highlight=False, markup=False)
    target_console.print(closing, style="dim", highlight=False, markup=False)


def _drawn(table: Table, width: int) -> Drawn:
    from rich import box
    from rich.table import Table as Drawn
    from rich.text import Text

    # a fixed share for each column: left alone, rich shrinks the widest first, which would be the names
    share = max(6, (width - NAMES) // (len(table.columns) + 2 * table.flagged) - 1)
    drawn = Drawn(box=box.SIMPLE_HEAD, padding=0, pad_edge=False, show_edge=False)
    drawn.title, drawn.title_justify, drawn.title_style = Text(f"\n{table.title}"), "left", "bold"
    drawn.add_column(Text(table.heads[0]), overflow="fold", min_width=NAMES)
    for column in table.columns:
        head = Text(column.name.replace(": ", "\n"))
        if share >= ROOM and column.note:
            head.append(f"\n{column.note}", style="dim")
        drawn.add_column(head, justify="right", overflow="fold", max_width=share)
    if table.flagged:
        drawn.add_column("flag", overflow="fold", max_width=2 * share)
    for at, row in enumerate(table.rows):
        last = at + 1 == len(table.rows) or table.rows[at + 1].part != row.part
        flags = [Text(row.flag, style="bold red")] if table.flagged else []
        name = Text(", ".join(label for label in row.labels if label not in UNSHOWN_LABELS))
        drawn.add_row(name, *(_text(cell, share >= ROOM) for cell in row.cells), *flags, end_section=last)
    return drawn


def _text(cell: Cell, wide: bool) -> Text:
    from rich.text import Text

    shown = Text(cell.number + ("!" if cell.bad else ""), style="bold red" if cell.bad else "")
    if wide and cell.interval:
        shown.append(f"\n{_short(cell.interval)}", style="dim")
    if cell.note:
        shown.append(f"\n{cell.note}", style="dim")
    return shown


def _short(interval: str) -> str:
    """`[0.71, 1.00]` as `[.71 1.0]`: what many columns have room for."""
    return interval.replace("1.00", "1.0").replace("0.", ".").replace(",", "")
