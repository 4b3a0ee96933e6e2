"""What a store holds, by kind of step and by run, and what of it can go because every result has been made of it.

Weights are needed by the steps that use a model, and by no result or page: those of a finished training can go when all that was
made of them is finished. A later step that needs them again makes them again, by the same rows and seed. Adapters stay: they are
small, and what goes on from them needs them.
"""

from __future__ import annotations

import fcntl
import shutil
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from buckler.data import Json, file_digest, read_json, write_json
from buckler.errors import StoreError
from buckler.workflow.store import LOCK, MARKER, PRUNED, inputs_of, read_marker

WEIGHTS, MERGED, ADAPTER, CACHE = "model", "base", "adapter", "cache.sqlite"
"""Names in a step's folder: a whole model; the base of an adapter, as earlier versions kept it; an adapter; answers of a model,
with which a killed step goes on."""


@dataclass(frozen=True)
class Held:
    """The steps of a store, as their markers tell."""

    root: Path

    @cached_property
    def folders(self) -> dict[str, Path]:
        """The folder of each step, begun ones too, by its name."""
        steps = self.root / "steps"
        return {path.name: path for path in sorted(steps.iterdir()) if path.is_dir()} if steps.is_dir() else {}

    @cached_property
    def finished(self) -> dict[str, list[str]]:
        """The inputs of each finished step."""
        markers = {name: path / MARKER for name, path in self.folders.items() if (path / MARKER).exists()}
        return {name: list(read_marker(marker).inputs.values()) for name, marker in markers.items()}

    @cached_property
    def sizes(self) -> dict[str, int]:
        """Bytes of each folder."""
        return {name: size_of(path) for name, path in self.folders.items()}

    @property
    def begun(self) -> list[str]:
        """Steps that are not finished."""
        return [name for name in self.folders if name not in self.finished]

    @cached_property
    def users(self) -> dict[str, list[str]]:
        """The steps that use each, those included that are begun."""
        found: dict[str, list[str]] = defaultdict(list)
        for name, inputs in [*self.finished.items(), *((name, inputs_of(self.folders[name] / LOCK)) for name in self.begun)]:
            for source in inputs:
                found[source].append(name)
        return found

    def by_kind(self) -> dict[str, tuple[int, int]]:
        """Finished steps and bytes of each kind, the most frequent first."""
        counted: dict[str, tuple[int, int]] = defaultdict(lambda: (0, 0))
        for name in self.folders:
            kind = name.rsplit("-", 1)[0]
            steps, size = counted[kind]
            counted[kind] = steps + (name in self.finished), size + self.sizes[name]
        return dict(sorted(counted.items(), key=lambda item: -item[1][0]))

    def by_run(self) -> dict[str, tuple[int, int]]:
        """Steps and bytes behind each file of results; steps that runs share count in each."""
        found = {}
        for path in sorted((self.root / "reports").glob("*/results-*.json")):
            steps = self._below(_named(read_json(path)))
            found[f"{path.parent.name}/{path.name}"] = len(steps), sum(self.sizes[name] for name in steps)
        return found

    def _below(self, names: Iterable[str]) -> set[str]:
        found, left = set(), [name for name in names if name in self.folders]
        while left:
            name = left.pop()
            if name not in found:
                found.add(name)
                left += [source for source in self.finished.get(name, ()) if source in self.folders]
        return found


@dataclass(frozen=True, kw_only=True)
class Prunable:
    """What can go."""

    root: Path
    weights: Mapping[str, int]
    """Whole models whose training would have to be run again, by step, with their bytes."""
    copies: Mapping[Path, int] = field(default_factory=dict)
    """What no step needs again: merged copies beside an adapter, and answers kept for steps that are finished."""
    kept: int = 0
    """Trainings whose weights stay: no step has used them yet, one that does is not finished, or an adapter is on them."""

    @property
    def size(self) -> int:
        """Bytes in all."""
        return sum(self.weights.values()) + sum(self.copies.values())

    def remove(self) -> None:
        """Remove it.

        Raises:
            StoreError: a run is at work in the store, or a file cannot be removed.
        """
        _require_idle(self.root)
        try:
            for path in self.copies:
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
            for name, size in self.weights.items():
                folder = self.root / "steps" / name
                write_json(folder / PRUNED, {"bytes": size})  # first: half a model is never taken for one
                shutil.rmtree(folder / WEIGHTS)
        except OSError as fault:
            raise StoreError(f"{fault.filename}: cannot be removed: {fault.strerror}") from None


def prunable(held: Held) -> Prunable:
    """What of a store can go."""
    weights: dict[str, int] = {}
    copies: dict[Path, int] = {}
    kept = 0
    for name in held.finished:
        folder, users = held.folders[name], held.users.get(name, [])
        copies |= {path: size_of(path) for path in folder.glob(f"{CACHE}*")}
        if not (folder / WEIGHTS).is_dir():
            continue
        if (folder / ADAPTER).is_dir():  # of a version that also kept the merged model
            copies |= {path: size_of(path) for part in (WEIGHTS, MERGED) if (path := folder / part).is_dir()}
        elif users and all(user in held.finished and not (held.folders[user] / ADAPTER).is_dir() for user in users):
            weights[name] = size_of(folder / WEIGHTS)
        else:
            kept += 1
    return Prunable(root=held.root, weights=weights, copies=copies, kept=kept)


def move_weights(folder: Path, to: Path) -> None:
    """Move a step's model out of its folder, which is pruned by that, and note what it was."""
    model = folder / WEIGHTS
    write_json(folder / PRUNED, {"moved": {str(one.relative_to(model)): file_digest(one) for one in _files(model)}})
    model.rename(to)


def lies_at(folder: Path, at: Path) -> bool:
    """Whether the model that was moved out of a step's folder lies there unchanged: its files are hashed."""
    value = read_json(folder / PRUNED) if (folder / PRUNED).exists() else None
    moved = value.get("moved") if isinstance(value, Mapping) else None
    if not isinstance(moved, Mapping) or {str(one.relative_to(at)) for one in _files(at)} != moved.keys():
        return False
    return all(file_digest(at / name) == digest for name, digest in moved.items())


def _files(path: Path) -> list[Path]:
    return [path] if path.is_file() else sorted(one for one in path.rglob("*") if one.is_file())


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files below a folder."""
    return sum(one.stat().st_size for one in _files(path))


def _require_idle(root: Path) -> None:
    for name in Held(root).begun:
        with (root / "steps" / name / LOCK).open("a") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise StoreError(f"{root}: a run is at work here (step {name}); prune when it has ended") from None


def _named(results: Json) -> list[str]:
    """The steps that a file of results names."""
    arms = results.get("arms") if isinstance(results, Mapping) else None
    steps = [arm.get("steps") for arm in arms if isinstance(arm, Mapping)] if isinstance(arms, list) else []
    return [str(name) for one in steps if isinstance(one, Mapping) for name in one.values()]
