"""Hashes of files: by their content, or for plans by what an earlier command found of a file that has not changed since."""

from __future__ import annotations

import hashlib
import os
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from buckler.data.jsonl import Json, write_json
from buckler.data.reading import opened, read_json
from buckler.errors import BucklerError, DataError

LARGE = 64 << 20
"""Bytes from which the digest of a file is kept between commands; smaller files are hashed in no time."""
SETTLED = 2.0
"""Seconds since the last change of a file before its digest is kept: a change right after another may leave the same time."""
MOST = 2000
"""Digests that are kept."""


def file_digest(path: Path) -> str:
    """SHA-256 of a file. A plan names the same weights for every arm: a file that did not change is read once a process.

    Raises:
        DataError: it cannot be read.
    """
    return _file_digest(path, _state(path))


def planned_digest(path: Path) -> str:
    """As `file_digest`, but of a large file that is as an earlier command left it (place, size, times), the digest of then.

    For keys of steps that are planned, and nothing else: what reads a model's weights, or what a step left, hashes them.

    Raises:
        DataError: it cannot be read.
    """
    state = _state(path)
    if state[2] < LARGE:
        return file_digest(path)
    name, known = str(path.resolve()), _known()
    entry = known.get(name)
    if isinstance(entry, list) and entry[:-1] == [*state]:
        return str(entry[-1])
    digest = file_digest(path)
    if _state(path) == state and time.time() - max(state[3:]) / 1e9 > SETTLED:
        latest: dict[str, Json] = {**_known(), name: [*state, digest]}
        with suppress(BucklerError, OSError):  # a folder that cannot be written: hashed again next time
            write_json(cache_file(), dict(list(latest.items())[-MOST:]))
    return digest


def cache_file() -> Path:
    """Where the digests of large files are kept between commands."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "buckler" / "digests.json"


def _known() -> dict[str, Json]:
    try:
        values = read_json(cache_file())
    except DataError:
        return {}
    return dict(values) if isinstance(values, Mapping) else {}


def _state(path: Path) -> tuple[int, ...]:
    try:
        found = path.stat()
    except OSError as fault:
        raise DataError(f"{path}: cannot be read: {fault.strerror or fault}") from None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


@lru_cache(maxsize=4096)
def _file_digest(path: Path, state: tuple[int, ...]) -> str:
    with opened(path, sys.maxsize) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
