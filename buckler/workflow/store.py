"""Content-named steps on disk: a step's folder is named by the hash of what it does, with what, to what.

Work that two arms of an experiment share is one step, done once; a killed run goes on where it stopped. The same mechanism
serves both. The store knows nothing of safety: it hashes, locks, runs a function and writes the marker last.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from buckler.errors import StoreError
from buckler.progress import ProgressCallback, no_progress

Json: TypeAlias = "None | bool | int | float | str | Sequence[Json] | Mapping[str, Json]"

MARKER = "step.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A named function, its parameters and its input steps. Only these decide its key: where the function lives does not."""

    name: str
    function: str
    """`module:function`, called with one `Context`. Not hashed."""
    params: Mapping[str, Json] = field(default_factory=dict)
    inputs: Mapping[str, Step] = field(default_factory=dict)
    version: int = 1
    """Raised when the function's meaning changes, so that old folders are not taken for new ones."""
    paths: Mapping[str, str] = field(default_factory=dict)
    """Where outside files lie just now. Not hashed: their content hashes belong in `params`."""
    processes: int = 1
    """How many it runs on at once, for who gives out machines. Not hashed: they change nothing in its files."""
    title: str = ""
    """What to call it on the screen. Not hashed."""
    key: str = field(init=False)
    """`name-hash`, the name of its folder."""
    former_key: str = field(init=False)
    """The key that version 0.1.0 gave to the same work: it held the module of the function."""

    def __post_init__(self) -> None:
        inputs = {name: step.key for name, step in self.inputs.items()}
        self._set_key("key", {"name": self.name, "inputs": inputs})
        former = {name: step.former_key for name, step in self.inputs.items()}
        self._set_key("former_key", {"function": self.function, "inputs": former})

    def _set_key(self, attribute: str, parts: Mapping[str, Json]) -> None:
        try:
            text = json.dumps(
                {**parts, "version": self.version, "params": self.params}, sort_keys=True, separators=(",", ":"), allow_nan=False
            )
        except (TypeError, ValueError) as fault:
            raise StoreError(f"step {self.name}: a parameter is no JSON value: {fault}") from None
        object.__setattr__(self, attribute, f"{self.name}-{hashlib.sha256(text.encode()).hexdigest()[:12]}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What a step's function is given."""

    params: Mapping[str, Json]
    inputs: Mapping[str, Path]
    """The folder of each input step."""
    paths: Mapping[str, str]
    out: Path
    """The step's own folder. After a kill it may hold what an earlier try left; every file must be written whole."""
    shared: Path
    """A folder for what steps may find again (caches by content). Nothing in it decides a result."""
    progress: ProgressCallback


def in_order(targets: Sequence[Step]) -> list[Step]:
    """Every step the targets need, inputs before users, each once; the order depends on the targets alone."""
    ordered: dict[str, Step] = {}

    def visit(step: Step) -> None:
        if step.key not in ordered:
            for name in sorted(step.inputs):
                visit(step.inputs[name])
            ordered.setdefault(step.key, step)

    for target in targets:
        visit(target)
    return list(ordered.values())


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

    def run(self, step: Step, progress: ProgressCallback = no_progress) -> Path:
        """Run one step whose inputs are done, unless it is done; its folder.

        Raises:
            StoreError: an input is missing, the folder cannot be written.
        """
        folder = self.folder(step)
        missing = [name for name, source in step.inputs.items() if not self.is_done(source)]
        if missing:
            raise StoreError(f"step {step.key}: inputs not done: {', '.join(missing)}")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as fault:
            raise StoreError(f"{folder}: cannot be made: {fault.strerror}") from None
        with _locked(folder):
            if self.is_done(step):
                return folder
            started = time.time()
            function = resolve(step.function)
            context = Context(
                params=step.params,
                inputs={name: self.folder(source) for name, source in step.inputs.items()},
                paths=step.paths,
                out=folder,
                shared=self.root / "shared",
                progress=progress,
            )
            try:
                function(context)
                self._mark(step, folder, time.time() - started)
            except OSError as fault:
                where = fault.filename or folder
                raise StoreError(f"{where}: {fault.strerror or fault}; run the same command again to go on") from None
        return folder

    def seconds_of(self, name: str) -> list[float]:
        """How long each finished step of this name took, whatever asked for it."""
        found: list[float] = []
        for marker in sorted(self.root.glob(f"steps/{name}-*/{MARKER}")):
            record: Mapping[str, Json] = json.loads(marker.read_text(encoding="utf-8"))
            if record["name"] == name and isinstance(record["seconds"], int | float):
                found.append(float(record["seconds"]))
        return found

    def _mark(self, step: Step, folder: Path, seconds: float) -> None:
        record = {
            "name": step.name,
            "title": step.title,
            "function": step.function,
            "version": step.version,
            "params": step.params,
            "inputs": {name: source.key for name, source in step.inputs.items()},
            "seconds": round(seconds, 2),
        }
        temporary = folder / f".{MARKER}.tmp"
        with temporary.open("w", encoding="utf-8") as out:
            json.dump(record, out, indent=1, ensure_ascii=False)
            out.flush()
            os.fsync(out.fileno())
        temporary.replace(folder / MARKER)


def resolve(name: str) -> Callable[..., object]:
    """The function `module:function` names.

    Raises:
        StoreError: it cannot be imported.
    """
    module, _, attribute = name.partition(":")
    try:
        function: Callable[..., object] = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as fault:
        raise StoreError(f"{name}: cannot be imported: {fault}") from None
    return function


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold a folder alone: a second run of the same step waits, then finds it done. A killed holder lets go."""
    with (folder / ".lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
