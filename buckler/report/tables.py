"""How a table looks in Markdown and in a terminal."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from buckler.report.cells import NOTHING, Cell, Table

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table as Drawn
    from rich.text import Text

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
