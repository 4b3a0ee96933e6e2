"""The one way in for bytes that others wrote: files, packed files, JSON and YAML, each within limits.

Regular files only, so that nothing waits for a pipe; of bounded size, packed or not; text as UTF-8, or as a byte order mark says;
JSON (and YAML, in `yaml_text`) of bounded depth and length of numbers. No other file of this package opens what it reads.
"""

from __future__ import annotations

import bz2
import io
import json
import lzma
import math
import os
import re
import stat
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from io import BufferedReader
from pathlib import Path
from typing import IO, Any, Literal

from buckler.data.jsonl import HALF, Json, halves_in, whole_characters
from buckler.errors import DataError

LARGEST = 8 << 30
"""Bytes of a file of rows, unpacked."""
LARGEST_JSON = 1 << 30
"""Bytes of a file that is one JSON value, such as saved results or a model's settings."""
LONGEST = 256 << 20
"""Characters of a row."""
FREE, RATIO, LAYERS, CHUNK = 64 << 20, 200, 3, 4 << 20
"""Packed data may unpack to `FREE` bytes, or `RATIO` times its size, and be packed `LAYERS` times over; it is
unpacked in chunks."""
DEEPEST = 100
"""Levels that JSON and YAML from outside may be nested, so that whatever walks through them comes to an end."""
MOST_DIGITS = 300
"""Digits of a number; a float has room for 308."""
_MARKS = {b"\xff\xfe\0\0": "utf-32", b"\0\0\xfe\xff": "utf-32", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
_ARCHIVES = {b"PK\x03\x04": "a zip archive or spreadsheet", b"PK\x05\x06": "an empty zip archive", b"7z\xbc\xaf": "a 7z archive"}


def path_kind(path: Path) -> Literal["file", "folder", ""]:
    """What lies there; "" for nothing.

    Raises:
        DataError: it is a pipe, a device or a socket, a link that leads back to itself, or cannot be looked at.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except (OSError, ValueError) as fault:
        raise DataError(f"{_shown(path)}: cannot be read: {_reason(fault)}") from None
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
        return "file" if stat.S_ISREG(mode) else "folder"
    kinds = {stat.S_ISFIFO: "a pipe", stat.S_ISSOCK: "a socket"}
    kind = next((name for holds, name in kinds.items() if holds(mode)), "a device")
    raise DataError(f"{path}: is {kind}, not a regular file; write what it gives to a file first")


def kind_at(name: Path | str) -> Literal["file", "folder", "other", ""]:
    """What lies at a name that may be a path; "" where nothing does, or nothing can."""
    try:
        mode = Path(name).stat().st_mode
    except (OSError, ValueError):  # longer than names are, or with a NUL
        return ""
    return "file" if stat.S_ISREG(mode) else "folder" if stat.S_ISDIR(mode) else "other"


@contextmanager
def opened(path: Path, most: int = LARGEST) -> Iterator[BufferedReader]:
    """A regular file of at most so many bytes, open for reading; what the system says against reading it is a DataError."""
    if (kind := path_kind(path)) != "file":
        raise DataError(f"{path}: {'is a folder; name a file in it' if kind else 'no such file'}")
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise DataError(f"{path}: is not a regular file")
            _require_size(path, found.st_size, most)
            yield file
    except OSError as fault:
        raise DataError(f"{path}: cannot be read: {_reason(fault)}") from None


def read_bytes(path: Path, *, most: int = LARGEST, packed: bool = False) -> bytes:
    """The content of a file; with `packed`, unpacked where it is gzip, bzip2, xz or zstd, whatever the file's name.

    Raises:
        DataError: it cannot be read, is too large, or damaged.
    """
    with opened(path, most) as file:
        size = os.fstat(file.fileno()).st_size
        raw = file.read(size + 1)
        while size < len(raw) <= most and (more := file.read(CHUNK)):  # files that the system makes up tell no size
            raw += more
    _require_size(path, len(raw), most)
    return _unpacked(path, raw, most) if packed else raw


def require_length(text: str, rows: Iterable[tuple[str, str]]) -> None:
    """Refuse a row of the text, given with its place, that is longer than any that can be meant (DataError)."""
    if len(text) > LONGEST and (long := next((one for one in rows if len(one[1]) > LONGEST), None)):
        raise DataError(f"{long[0]}: a row of {len(long[1]):,} characters, and the limit is {LONGEST:,}; split or remove it")


def _require_size(path: Path, size: int, most: int) -> None:
    if size > most:
        raise DataError(f"{path}: {size / 2**20:,.0f} MiB, and the limit is {most / 2**20:,.0f}; split it or leave it out")


def _gzip(raw: bytes) -> Iterator[bytes]:
    """As `gzip.open`, in a third of the time."""
    while raw:
        member, left = zlib.decompressobj(31), raw
        while not member.eof:
            piece = member.decompress(left, CHUNK)
            left = member.unconsumed_tail
            if not piece and not left and not member.eof:
                raise EOFError
            yield piece
        raw = member.unused_data.lstrip(b"\0")


def _zstd(raw: IO[bytes]) -> Any:  # noqa: ANN401 - pyarrow has no types
    import pyarrow

    return pyarrow.CompressedInputStream(raw, "zstd")


def _pieces(raw: bytes, unpack: Callable[[IO[bytes]], Any]) -> Iterator[bytes]:
    with unpack(io.BytesIO(raw)) as stream:
        yield from iter(lambda: stream.read(CHUNK), b"")


_PACKERS: dict[bytes, tuple[str, Callable[[bytes], Iterator[bytes]]]] = {
    # By the magic number: files named .gz are not always packed, and the other way round.
    b"\x1f\x8b": ("gzip", _gzip),
    b"BZh": ("bzip2", partial(_pieces, unpack=bz2.open)),
    b"\xfd7zXZ\0": ("xz", partial(_pieces, unpack=lzma.open)),
    b"\x28\xb5\x2f\xfd": ("zstd", partial(_pieces, unpack=_zstd)),
}


def _unpacked(path: Path, raw: bytes, most: int) -> bytes:
    for _ in range(LAYERS):
        name, unpack = next((one for magic, one in _PACKERS.items() if raw.startswith(magic)), ("", None))
        if unpack is None:
            break
        room, pieces, size = min(most, max(FREE, RATIO * len(raw))), [], 0
        try:
            for piece in unpack(raw):
                pieces.append(piece)
                size += len(piece)
                if size > room:
                    break
        except (EOFError, OSError, zlib.error, lzma.LZMAError):
            raise DataError(f"{path}: the {name} data is damaged or truncated; download the file again") from None
        if size > room:
            raise DataError(
                f"{path}: {len(raw):,} bytes unpack to more than {room:,}; unpack the file, and split it if it is meant"
            )
        raw = b"".join(pieces)
    if any(raw.startswith(magic) for magic in _PACKERS):
        raise DataError(f"{path}: packed more than {LAYERS} times over; unpack it")
    if found := next((name for magic, name in _ARCHIVES.items() if raw.startswith(magic)), None):
        raise DataError(f"{path}: is {found}; unpack or export it, and name a file of rows")
    return raw


def decoded(raw: bytes, where: Path | str, *, halves: bool = False) -> str:
    """Bytes as text: UTF-8, or what their byte order mark says. With `halves` halves of characters stay.

    Raises:
        DataError: they are not; the byte and its line are named.
    """
    marked = next((name for mark, name in _MARKS.items() if raw.startswith(mark)), "")
    try:
        text = raw.decode(marked or "utf-8-sig", "surrogatepass" if halves else "strict")
    except UnicodeDecodeError as fault:
        line = f", line {raw.count(10, 0, fault.start) + 1}" if not marked else ""
        name = marked.upper() or "UTF-8"
        raise DataError(f"{where}: not {name} at byte {fault.start}{line}; convert it first, for example with iconv") from None
    return text if halves or not HALF.search(text) else str(whole_characters(text))


def read_text(path: Path, *, most: int = LARGEST_JSON) -> str:
    """The text of a file, without a byte order mark.

    Raises:
        DataError: it cannot be read, is too large, or is no text.
    """
    return decoded(read_bytes(path, most=most), path)


class Bounded(ValueError):
    """JSON that is well-formed and past a limit; the message says which."""


def _whole(digits: str) -> int:
    if len(digits) > MOST_DIGITS:
        raise Bounded(f"a number of {len(digits)} digits; at most {MOST_DIGITS} are read")
    return int(digits)


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value) or len(text) > MOST_DIGITS:
        raise Bounded(f"the number {text[:20]} is too large or too long")
    return value


def _no_constant(name: str) -> None:
    raise Bounded(f"{name} is no JSON number")


def _missing(_: str) -> None:
    """NaN and infinities are how pandas writes a missing value."""


def _once(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    """An object whose names each stand once; half a percent of the time that reading a row takes."""
    value = dict(pairs)
    if len(value) < len(pairs):
        name = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise Bounded(f"the key {json.dumps(name[:40])} stands twice in one object")
    return value


_STRICT = json.JSONDecoder(parse_int=_whole, parse_float=_float, parse_constant=_no_constant, object_pairs_hook=_once)
_MISSING = json.JSONDecoder(parse_int=_whole, parse_float=_float, parse_constant=_missing, object_pairs_hook=_once)
_ANY = json.JSONDecoder(parse_int=_whole, object_pairs_hook=_once)
_REPLY = json.JSONDecoder(parse_int=_whole, parse_float=_float, parse_constant=_no_constant)
_ANY_REPLY = json.JSONDecoder(parse_int=_whole)


def json_value(text: str, at: int = 0, *, alone: bool = True, constants: bool = False, once: bool = True) -> tuple[Json, int]:
    """The JSON value of a text from `at`, and where it ends; `alone` if nothing may follow, else NaN is a missing value; with
    `once` a key that stands twice in an object is an error, else the last one counts.

    Raises:
        ValueError: it is no JSON, or past a limit.
    """
    try:
        if alone:
            decoders = (_STRICT, _ANY) if once else (_REPLY, _ANY_REPLY)
            value: Json = decoders[constants].decode(text)
            end = len(text)
        else:
            value, end = _MISSING.raw_decode(text, at)
    except RecursionError:
        raise Bounded(f"nested more than {DEEPEST} levels deep") from None
    if end - at > LONGEST and not isinstance(value, list):
        raise Bounded(f"a row of {end - at:,} characters; at most {LONGEST:,} are read")
    if text.count("[", at, end) + text.count("{", at, end) > DEEPEST:
        _require_shallow(value)
    return value, end


def line_in_list(text: str) -> int:
    """Where the element of a list begins that cannot be read; 0 if the text is no list."""
    at, begin = 0, re.compile(r"\s*\[\s*(?!\])")
    try:
        while (start := begin.match(text, at)) is not None:
            at, begin = start.end(), re.compile(r"\s*,\s*")
            _, at = json_value(text, at, alone=False)
    except ValueError:
        return text.count("\n", 0, at) + 1
    return 0


def _require_shallow(value: Json) -> None:
    level = [value]
    for _ in range(DEEPEST + 1):
        inner = (one.values() if isinstance(one, dict) else one for one in level if isinstance(one, dict | list))
        if not (level := [one for values in inner for one in values if type(one) is dict or type(one) is list]):
            return
    raise Bounded(f"nested more than {DEEPEST} levels deep")


def bounded_json(text: str | bytes, *, constants: bool = False) -> Any:  # noqa: ANN401 - any JSON
    """The value of JSON that a server, a model or a process of ours wrote; NaN and infinities only with `constants`. Of a key
    that stands twice the last counts, as for every client of a server.

    Raises:
        ValueError: it is no JSON, or past a limit.
    """
    whole = text if isinstance(text, str) else text.decode(json.detect_encoding(text), "surrogatepass")
    return json_value(whole, constants=constants, once=False)[0]


def read_json(path: Path, *, constants: bool = False) -> Json:
    """One JSON value, with whole characters; NaN and infinities only with `constants`.

    Raises:
        DataError: the file is missing, is not JSON, or is past a limit.
    """
    text = read_text(path)
    try:
        value, _ = json_value(text, constants=constants)
    except ValueError as fault:
        raise DataError(
            f"{path}: not JSON{'' if isinstance(fault, json.JSONDecodeError) else ' that can be read'}: {fault}"
        ) from None
    return whole_characters(value) if halves_in(text) else value


def read_jsonl(path: Path) -> Iterator[tuple[str, Json]]:
    """Each line's place (`file:line`) and value, with whole characters; blank lines are passed over.

    Raises:
        DataError: the file is missing, not UTF-8, or a line is not JSON or past a limit.
    """
    with opened(path) as file:
        lines = io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogatepass")
        try:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    value, _ = json_value(line)
                    yield f"{path}:{number}", whole_characters(value) if halves_in(line) else value
        except json.JSONDecodeError as fault:
            reason = f"{fault.msg} at column {fault.colno}"
            raise DataError(f"{path}:{number}: not JSON: {reason}; fix or remove this line") from None
        except UnicodeDecodeError as fault:
            raise DataError(f"{path}: not UTF-8 at byte {fault.start}; convert it first") from None
        except ValueError as fault:
            raise DataError(f"{path}:{number}: not JSON that can be read: {fault}; fix or remove this line") from None


def _shown(path: Path) -> str:
    """The path on one line, without what no terminal can show."""
    return str(path).encode("unicode_escape", "backslashreplace").decode() if not str(path).isprintable() else str(path)


def _reason(fault: Exception) -> str:
    return (fault.strerror if isinstance(fault, OSError) else None) or str(fault) or type(fault).__name__
