"""How experiments run their steps and report: lines for the reader, progress by step, the first errors shown."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from buckler.errors import StoreError
from buckler.progress import show_progress
from buckler.workflow.executor import Event, Outcome, execute
from buckler.workflow.step import Step, in_order
from buckler.workflow.store import Store

if TYPE_CHECKING:
    from rich.console import Console


def say(text: str = "") -> None:
    """A line for the reader, on standard output."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def console() -> Console:
    """The terminal, or lines wide enough for every column where there is none."""
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=130)


def executed(targets: Sequence[Step], store: Store, *, workers: int, cluster: str | None) -> Outcome:
    """Run steps with progress, counted as they end; what became of them."""
    total = len(in_order(targets))
    seen = 0
    with show_progress() as progress:

        def on_event(event: Event) -> None:
            nonlocal seen
            seen += 1
            progress("steps", seen, total, event.step.title or event.step.name)

        return execute(targets, store, workers=workers, cluster=cluster, on_event=on_event, progress=progress)


def run_steps(targets: Sequence[Step], store: Store, *, workers: int, cluster: str | None) -> None:
    """Run steps with progress; the first errors become the command's error."""
    outcome = executed(targets, store, workers=workers, cluster=cluster)
    if outcome.failed:
        shown = "\n".join(f"  {event.step.title}: {event.error}" for event in outcome.failed[:3])
        more = f"\n  and {len(outcome.failed) - 3} more" if len(outcome.failed) > 3 else ""
        kept = f"{outcome.done + outcome.reused} finished steps are kept, {outcome.skipped} wait for the failed ones"
        raise StoreError(f"{len(outcome.failed)} steps failed ({kept}):\n{shown}{more}")
