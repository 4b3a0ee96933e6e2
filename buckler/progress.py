"""How far long work is: the callback it reports to, and a display: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Protocol, TextIO, TypeAlias

from buckler.errors import ConfigError

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

ProgressCallback: TypeAlias = Callable[[str, int, int], None]
"""Called by long work as it goes on: name of the work, units done, units in all."""

LOG = logging.getLogger("buckler")
"""Notes for the user: `info` for what takes a while, `debug` for each step. The command line shows them on standard error."""
EVERY = 10.0
"""Seconds between plain lines."""
SETTLED = 0.1
"""Seconds from the first report in which units count as done before: they say nothing about the time that is left."""


class Display(Protocol):
    """A `ProgressCallback` that also names what the last unit was."""

    def __call__(self, name: str, done: int, total: int, detail: str = "") -> None:
        """Show that `done` of `total` units of the work `name` are done."""


@cache
def note_loading(model: str) -> None:
    """Say once that a model is being loaded: it takes seconds, or minutes, before anything else is to be seen."""
    LOG.log(logging.DEBUG if "/steps/" in model else logging.INFO, "loading %s ...", model)  # a step's own model is a detail


def no_progress(name: str, done: int, total: int) -> None:
    """A `ProgressCallback` that shows nothing."""


@contextmanager
def show_progress(stream: TextIO | None = None) -> Iterator[Display]:
    """A display on standard error until the block ends; none where notes are switched off (`--quiet`)."""
    out = stream or sys.stderr
    if LOG.getEffectiveLevel() > logging.INFO and LOG.handlers:
        yield _nothing
    elif not out.isatty():
        yield Lines(out)
    else:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        bars = Progress(*columns, TextColumn("{task.fields[detail]}"), console=Console(file=out), transient=True)
        try:
            yield Bars(bars)
        finally:
            bars.stop()


def _nothing(name: str, done: int, total: int, detail: str = "") -> None:
    """A display of `--quiet`."""


class Bars:
    """A bar for each work, on a terminal."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, name: str, done: int, total: int, detail: str = "") -> None:
        """Move the bar of `name`."""
        self._bars.start()  # nothing is drawn before the first report; started twice is started once
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(name, total=total, detail="")
        self._bars.update(self._tasks[name], completed=done, total=total, detail=detail)


class Lines:
    """Plain lines such as `steps: 115 of 279, about 3 min left (train curated, post)`, at most one in ten seconds."""

    def __init__(self, out: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._out, self._clock = out, clock
        self._shown: dict[str, float] = {}
        self._started: dict[str, tuple[float, int]] = {}
        """By name: when the first report came, and how many units were done by then."""

    def __call__(self, name: str, done: int, total: int, detail: str = "") -> None:
        """Write a line if the last one of `name` is old enough, or if the work is done."""
        now = self._clock()
        started, before = self._started.setdefault(name, (now, done))
        if now - started < SETTLED:
            self._started[name] = (started, done)
        if done >= total or now - self._shown.get(name, now - EVERY) >= EVERY:
            self._shown[name] = now
            left = (now - started) / (done - before) * (total - done) if done > before else 0.0
            time_left = f", about {duration(left)} left" if left else ""
            self._out.write(f"{name}: {done} of {total}{time_left}{f' ({detail})' if detail else ''}\n")
            self._out.flush()


def duration(seconds: float) -> str:
    """A time in words: `40 s`, `3 min`, `2 h 05 min`."""
    if seconds < 59.5:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


def set_verbosity(*, quiet: bool, verbose: bool) -> None:
    """How much is said on standard error.

    Raises:
        ConfigError: both are asked for.
    """
    if quiet and verbose:
        raise ConfigError("--quiet and --verbose exclude each other; give one of them")
    if quiet or verbose:
        LOG.setLevel(logging.WARNING if quiet else logging.DEBUG)
