"""How far long work is: the callback it reports to, and a display: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO, TypeAlias

ProgressCallback: TypeAlias = Callable[[str, int, int], None]
"""Called by long work as it goes on: name of the work, units done, units in all."""

EVERY = 10.0
"""Seconds between plain lines."""


def no_progress(name: str, done: int, total: int) -> None:
    """A `ProgressCallback` that shows nothing."""


@contextmanager
def show_progress(stream: TextIO | None = None) -> Iterator[ProgressCallback]:
    """A `ProgressCallback` that displays on standard error until the block ends."""
    out = stream or sys.stderr
    if not out.isatty():
        yield _plain(out)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(file=out), transient=True) as bars:
        tasks = {}

        def progress(name: str, done: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(name, total=total)
            bars.update(tasks[name], completed=done, total=total)

        yield progress


def _plain(out: TextIO) -> ProgressCallback:
    last: dict[str, float] = {}

    def progress(name: str, done: int, total: int) -> None:
        now = time.monotonic()
        if done >= total or now - last.get(name, now - EVERY) >= EVERY:
            last[name] = now
            out.write(f"{name}: {done} of {total}\n")
            out.flush()

    return progress
