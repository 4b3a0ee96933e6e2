"""A folder of step folders, each named by what the step does, with what, to what.

Work that two arms of an experiment share is one step, done once; a killed run resumes where it stopped. The same mechanism
serves both. The store knows nothing of safety: it names folders, locks them, and writes a folder's marker last.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel, FiniteFloat

from buckler.data import Json, read_json
from buckler.errors import DataError, StoreError
from buckler.settings import read_as
from buckler.workflow.step import FORMER, Step

MARKER = "step.json"
LOCK = ".lock"
"""Held by who runs the step; it names the folders of its inputs."""
PRUNED = "pruned.json"
"""Beside the marker of a training whose weights were removed; what needs them again has it run again."""


class Store:
    """A folder of step folders."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def folder(self, step: Step | str) -> Path:
        """Where a step, or the step of a key, has or will have its files; work that version 0.1.0 finished is found."""
        if isinstance(step, str):
            return self.root / "steps" / step
        folder, former = self.folder(step.key), self.folder(step.former_key)
        return former if (former / MARKER).exists() and not (folder / MARKER).exists() else folder

    def is_done(self, step: Step) -> bool:
        """Whether `step` ran to its end: its marker is written last."""
        return (self.folder(step) / MARKER).exists()

    def is_pruned(self, step: Step) -> bool:
        """Whether what a finished step made was removed since."""
        return (self.folder(step) / PRUNED).exists()

    @contextmanager
    def locked(self, step: Step) -> Iterator[Path]:
        """Hold the step's folder alone: a second run of the same step waits, then finds it done. A killed holder lets go.

        Raises:
            StoreError: an input is missing, or the folder cannot be written.
        """
        missing = [name for name, source in step.inputs.items() if not self.is_done(source)]
        if missing:
            raise StoreError(f"step {step.key}: inputs not finished: {', '.join(missing)}")
        folder = self.folder(step)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            handle = (folder / LOCK).open("a")
        except OSError as fault:
            raise StoreError(f"{folder}: cannot be written: {fault.strerror}") from None
        with handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            handle.truncate(0)
            json.dump([self.folder(source).name for source in step.inputs.values()], handle)
            handle.flush()
            yield folder

    def mark(self, step: Step, seconds: float) -> None:
        """Record that `step` is done."""
        record: dict[str, Json] = {
            "name": step.name,
            "title": step.title,
            "function": step.function,
            "version": step.version,
            "params": step.params,
            "outside": {name: one.digest for name, one in step.outside.items()},
            "inputs": {name: self.folder(source).name for name, source in step.inputs.items()},
            "seconds": round(seconds, 2),
        }
        folder = self.folder(step)
        temporary = folder / f".{MARKER}.tmp"
        with temporary.open("w", encoding="utf-8") as out:
            json.dump(record, out, indent=1, ensure_ascii=False)
            out.flush()
            os.fsync(out.fileno())
        temporary.replace(folder / MARKER)
        (folder / PRUNED).unlink(missing_ok=True)

    def seconds_of(self, name: str) -> list[float]:
        """How long each finished step of this name took, whatever asked for it."""
        seconds: list[float] = []
        former = FORMER.get(name)
        for each in dict.fromkeys([name, former.name if former else name]):
            for marker in sorted(self.root.glob(f"steps/{each}-*/{MARKER}")):
                record = read_marker(marker)
                if record.name == each:
                    seconds.append(record.seconds)
        return seconds


class Marker(BaseModel):
    """What is read of the marker of a finished step."""

    name: str
    inputs: dict[str, str]
    """The folders of its inputs, by what it calls them."""
    seconds: FiniteFloat


def read_marker(marker: Path) -> Marker:
    """The marker of a finished step.

    Raises:
        StoreError: it is damaged.
    """
    try:
        return read_as(Marker, marker)
    except DataError as fault:
        raise StoreError(f"{fault}; delete the folder {marker.parent}, and its step is done again") from None


def inputs_of(lock: Path) -> list[str]:
    """The folders of the inputs of a step that is begun, as its lock names them; none where an earlier version began it."""
    try:
        names = read_json(lock)
    except DataError:
        return []
    return [str(name) for name in names] if isinstance(names, list) else []
