"""JSON values, their content ids, and files of them, written whole or not at all."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TypeAlias

from buckler.errors import StoreError

HALF = re.compile("[\ud800-\udfff]")
"""Half of a character: a lone surrogate."""
_HALF_IN_JSON = re.compile(r"\\u[dD][89a-fA-F]|[\ud800-\udfff]")
Json: TypeAlias = "None | bool | int | float | str | Sequence[Json] | Mapping[str, Json]"


def is_json(value: object) -> bool:
    """Whether a value can be written as JSON and read again as it is: text keys, no NaN, no half of a character."""
    match value:
        case None | bool() | int():
            return True
        case float():
            return math.isfinite(value)
        case str():
            return not any("\ud800" <= character <= "\udfff" for character in value)
        case dict():
            return all(isinstance(key, str) and is_json(key) and is_json(one) for key, one in value.items())
        case list() | tuple():
            return all(map(is_json, value))
    return False


def canonical(value: Json) -> str:
    """The one spelling of a JSON value that is hashed: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def whole_characters(value: Json) -> Json:
    """The value with U+FFFD for every half of a character (lone surrogate), which JSON can hold and UTF-8 cannot."""
    if isinstance(value, str):
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace") if HALF.search(value) else value
    if isinstance(value, Mapping):
        return {str(whole_characters(name)): whole_characters(inner) for name, inner in value.items()}
    return [whole_characters(inner) for inner in value] if isinstance(value, list | tuple) else value


def halves_in(text: str) -> bool:
    """Whether the value of a JSON text may hold halves of characters."""
    return _HALF_IN_JSON.search(text) is not None


def content_id(value: Json) -> str:
    """First 16 hex digits of the SHA-256 of `canonical(value)`: the id of a row is what it says."""
    return hashlib.sha256(canonical(value).encode("utf-8", "surrogatepass")).hexdigest()[:16]


@contextmanager
def whole_file(path: Path) -> Iterator[IO[str]]:
    """A text file that appears whole or not at all: written to a neighbour first, then renamed.

    Raises:
        StoreError: the disk is full, the folder cannot be written, or the path is a folder.
    """
    if not path.name:  # "." and "/"
        raise StoreError(f"{path}: cannot be written: it is a folder; name a file")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("w", encoding="utf-8", errors="surrogatepass", newline="\n") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        temporary.replace(path)
    except OSError as fault:
        raise StoreError(f"{path}: cannot be written: {fault.strerror or fault}") from None
    finally:
        with suppress(OSError):  # what went wrong above is reported
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text, whole or not at all."""
    with whole_file(path) as out:
        out.write(text)


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Json]]) -> int:
    """Write one object a line as they come, whole or not at all; the number of rows."""
    written = 0
    with whole_file(path) as out:
        for row in rows:
            out.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
            written += 1
    return written


def write_json(path: Path, value: Json) -> None:
    """Write one indented JSON value, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
