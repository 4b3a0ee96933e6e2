"""What every command does: speak, run steps with progress, hand over files."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from buckler.data import Json
from buckler.errors import BucklerError, StoreError
from buckler.progress import show_progress
from buckler.workflow.executor import Event, Outcome, execute
from buckler.workflow.step import Step, in_order
from buckler.workflow.store import Store

if TYPE_CHECKING:
    from rich.console import Console


WORK = ".work"
"""Where a single command keeps its steps, inside its output folder."""


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


def run_one(target: Step, out: Path, *, workers: int = 1) -> Path:
    """Run one command's step with all it needs, in the work folder beside its output; the step's folder.

    An error is the step's own, without the store's words around it.
    """
    store = Store(out / WORK)
    with show_progress() as progress:
        outcome = execute([target], store, workers=workers, progress=progress)
    if outcome.failed:
        raise BucklerError(outcome.failed[0].error)
    return store.folder(target)


def deliver(folder: Path, names: dict[str, str], out: Path) -> None:
    """Copy a step's files to where the user asked for them; a file that is there is replaced as a whole."""
    for name, wanted in names.items():
        if (folder / name).exists():
            temporary = (out / wanted).with_name(f".{Path(wanted).name}.tmp")
            try:
                shutil.copyfile(folder / name, temporary)
            except OSError as fault:
                temporary.unlink(missing_ok=True)
                raise StoreError(f"{out / wanted}: cannot be written: {fault.strerror}") from None
            temporary.replace(out / wanted)
            say(f"wrote {out / wanted}")


def say_counts(counts: Json) -> None:
    for name, value in cast("dict[str, Json]", counts).items():
        if isinstance(value, dict):
            for reason, number in value.items():
                say(f"  {name}: {reason}: {number}")
        else:
            say(f"  {name}: {value}")
