"""The model that a process read last, kept for the next step that asks for the same files.

Kept are plain weights as they lie in the files, one model at most, on the CPU, and only in a process that runs steps. Whoever
asks is given a copy: an adapter merged in place, a training or a change of type does not reach the next step. A file that was
written meanwhile is read again.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from buckler.data.reading import read_text
from buckler.errors import DataError

Stamp: TypeAlias = tuple[str, int, int, int, int]
"""Path, size, inode, and when the content and the entry were last written, in nanoseconds."""
ROOM = 3
"""A model is kept where the free memory is so many times its size: for the copy kept, the copy in use, and what merging takes."""


@dataclass
class _Kept:
    key: object
    files: Sequence[Stamp]
    model: Any


_kept: _Kept | None = None
_users = 0


@contextmanager
def keeping() -> Iterator[None]:
    """Keep the model that is read last from step to step, and let go of it in the end."""
    global _kept, _users
    _users += 1
    try:
        yield
    finally:
        _users -= 1
        if not _users:
            _kept = None


def keep_always() -> None:
    """Keep the model that is read last as long as this process lives: it does nothing but run steps."""
    global _users
    _users = max(_users, 1)


def stamps(folder: Path) -> list[Stamp]:
    """What tells whether a file of a model was written since: all files of a folder, or a GGUF file."""
    files = [folder] if folder.is_file() else sorted(path for path in folder.iterdir() if path.is_file())
    return [(str(path), *(at.st_size, at.st_ino, at.st_mtime_ns, at.st_ctime_ns)) for path in files for at in [path.stat()]]


def copy_of(key: object, folder: Path) -> Any:  # noqa: ANN401 - torch is not imported here
    """A copy of the model that was kept under `key`, if it was read from these files; else None."""
    if _kept is None or _kept.key != key or _kept.files != stamps(folder):
        return None
    return copy.deepcopy(_kept.model)


def keep(key: object, folder: Path, files: Sequence[Stamp], model: Any) -> None:  # noqa: ANN401
    """Keep a copy of a model that was read from `files`, in place of the one kept so far, if there is room for it."""
    global _kept
    if not _users:
        return
    _kept = None
    size = sum(value.numel() * value.element_size() for value in model.state_dict().values())
    if files == stamps(folder) and free_memory() >= ROOM * size:
        _kept = _Kept(key, files, copy.deepcopy(model))


def free_memory() -> int:
    """Bytes of memory that this process may still take; 0 where it is not known."""
    try:
        lines = read_text(Path("/proc/meminfo")).splitlines()
        free = next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable"))
    except (DataError, StopIteration):
        return 0
    try:
        limit, used = (read_text(Path("/sys/fs/cgroup", name)).strip() for name in ("memory.max", "memory.current"))
    except DataError:
        return free
    return free if limit == "max" else min(free, int(limit) - int(used))
