"""The exceptions. A user's mistake raises one of the first five; the message says where, what value, and how to fix it."""

from __future__ import annotations

import errno
import os
import platform
import sys
import tempfile
import time
import traceback
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import ClassVar


class BucklerError(Exception):
    """Anything a user can fix. The command line prints its message alone and leaves with status 2."""

    exit_status: ClassVar[int] = 2


class ConfigError(BucklerError, ValueError):
    """A recipe, an option or a name that is not understood."""


class DataError(BucklerError, ValueError):
    """A file or a row that cannot be read as what it should be."""


class BackendError(BucklerError, RuntimeError):
    """A model that cannot be loaded, reached, or asked for what is wanted of it."""


class StoreError(BucklerError, RuntimeError):
    """A run folder that cannot be read or written."""


class InternalError(BucklerError, RuntimeError):
    """What nobody foresaw: a fault of the program. The message names the file that holds the traceback."""

    exit_status = 70  # EX_SOFTWARE of sysexits.h


def as_error(fault: Exception) -> BucklerError:
    """Any exception as one line for the user; the traceback of one that nobody foresaw goes to a file."""
    text = " ".join(str(fault).split())
    match fault:
        case BucklerError():
            return fault
        case MemoryError():
            return BackendError("out of memory; use fewer --workers, smaller batches or a smaller model, or a larger machine")
        case OSError(errno=errno.ENOSPC | errno.EDQUOT | errno.EFBIG):
            where = f"{fault.filename}: " if fault.filename else ""
            return StoreError(f"{where}{fault.strerror}; free some space, and run the same command again to resume")
        case OSError(filename=str() | bytes() as name, strerror=str() as reason):
            return DataError(f"{os.fsdecode(name)}: {reason}; correct the path or its permissions")
    if type(fault).__name__ == "SafetensorError" and "os error" in text:
        return StoreError(f"weights cannot be written or read: {text}; look at the space and quota of the disk")
    if type(fault).__name__ == "OutOfMemoryError" or "allocate memory" in text:
        return BackendError(f"out of memory; use smaller batches or a smaller model ({text[:200]})")
    last = next((frame for frame in reversed(traceback.extract_tb(fault.__traceback__))), None)
    where = f" in {Path(last.filename).name}:{last.lineno}" if last else ""
    reason = f"{type(fault).__name__}{f': {text[:200]}' if text else ''}{where}"
    return InternalError(f"a fault of the program: {reason}; please report it with the details in {_log_of(fault)}")


def _log_of(fault: Exception) -> str:
    """Write the traceback, the command and the versions to a file of the user's own; its name."""
    versions = []
    for name in ("buckler", "torch", "transformers", "pydantic"):
        try:
            versions.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            versions.append(f"{name} not installed")
    lines = ["".join(traceback.format_exception(fault)), f"command: {sys.argv}", f"python: {sys.version}", platform.platform()]
    text = "\n".join([*lines, ", ".join(versions), ""])
    folders = [Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state").expanduser() / "buckler", Path(tempfile.gettempdir())]
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(".log", f"fault-{time.strftime('%Y%m%d-%H%M%S')}-", folder)
            with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as out:
                out.write(text)
        except (OSError, RuntimeError):  # no home, no space: the next place, or standard error
            continue
        return name
    sys.stderr.write(text)
    return "the lines above"
