"""How far long work is: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from buckler.workflow.store import Tell

EVERY = 10.0
"""Seconds between plain lines."""


@contextmanager
def progress(stream: TextIO | None = None) -> Iterator[Tell]:
    """A `Tell` that shows itself on standard error until the block ends."""
    out = stream or sys.stderr
    if not out.isatty():
        yield _plain(out)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(file=out), transient=True) as bars:
        tasks = {}

        def tell(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done, total=total)

        yield tell


def _plain(out: TextIO) -> Tell:
    last: dict[str, float] = {}

    def tell(what: str, done: int, total: int) -> None:
        now = time.monotonic()
        if done >= total or now - last.get(what, now - EVERY) >= EVERY:
            last[what] = now
            out.write(f"{what}: {done} of {total}\n")
            out.flush()

    return tell
