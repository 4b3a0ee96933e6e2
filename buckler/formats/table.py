"""Files as rows: JSON in all its spellings, CSV, TSV, plain lines, Parquet, Hugging Face datasets; gzipped or not."""

from __future__ import annotations

import gzip
import re
import zlib
from pathlib import Path

from buckler.errors import DataError
from buckler.formats.common import Table, numbered
from buckler.formats.files import csv_table, hub_dataset, json_rows, json_values, parquet, saved_dataset, shards

DATA_ENDINGS = frozenset({".csv", ".gz", ".json", ".jsonl", ".parquet", ".tsv"})
TEXT_ENDINGS = frozenset({".md", ".txt"})
FILE_ENDINGS = DATA_ENDINGS | TEXT_ENDINGS
_HUB_NAME = re.compile(r"(?:hf://)?(?P<name>[\w.-]+/[\w.-]+)(?::(?P<config>[\w.-]+))?(?:@(?P<split>[\w.-]+))?")


def endings(path: Path) -> set[str]:
    """All endings of a file's name, in lower case: `.json` and `.gz` of `x.json.gz`."""
    return {ending.lower() for ending in path.suffixes}


def load_table(path: Path | str, *, limit: int | None = None) -> Table:
    """The rows of a file, of a dataset saved to disk, or of one of the hub (`owner/name`, `owner/name:config@split`).

    Raises:
        DataError: there is no such file, or it cannot be read as rows.
        BackendError: the hub cannot be reached.
    """
    place = Path(path)
    if place.is_dir():
        if parts := shards(place):
            return Table(rows=[row for shard in parts for row in load_table(shard).rows][:limit], kind="shards")
        return Table(rows=numbered(str(place), saved_dataset(place, limit)), kind="dataset")
    if place.is_file():
        table = _table_of(place, _bytes_of(place), limit)
        return table if limit is None else Table(rows=table.rows[:limit], kind=table.kind, whole=table.whole)
    # A mistyped path of a file looks like a hub name: with a file's ending it is a path.
    hub = _HUB_NAME.fullmatch(str(path))
    if hub and (str(path).startswith("hf://") or not endings(place) & FILE_ENDINGS):
        return Table(rows=numbered(str(path), hub_dataset(hub, limit)), kind="dataset")
    raise DataError(f"{path}: no such file; a dataset of the hub is named `owner/name` or `hf://owner/name:config@split`")


def _bytes_of(path: Path) -> bytes:
    try:
        raw = path.read_bytes()
        # By the magic number: files named .gz are not always compressed, and the other way round.
        while raw.startswith(b"\x1f\x8b"):
            raw = gzip.decompress(raw)
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise DataError(f"{path}: the gzip data is damaged or cut short; fetch the file again") from None
    except OSError as fault:
        raise DataError(f"{path}: cannot be read: {fault.strerror or fault}") from None
    return raw


def _table_of(path: Path, raw: bytes, limit: int | None) -> Table:
    if raw.startswith(b"PAR1"):
        return Table(rows=numbered(str(path), parquet(path, raw, limit)), kind="parquet")
    try:
        # surrogatepass, since `buckler.data.write_text` writes half characters as they are.
        text = raw.decode("utf-8-sig", "surrogatepass")
    except UnicodeDecodeError as fault:
        raise DataError(f"{path}: not UTF-8 at byte {fault.start}; convert it first") from None
    if not text.strip():
        raise DataError(f"{path}: the file is empty")
    if "\0" in text:
        raise DataError(f"{path}: holds NUL characters, so it is no text; unpack or convert it first")
    named = endings(path)
    if named & {".csv", ".tsv"}:
        return csv_table(path, text, "\t" if ".tsv" in named else None)
    if text.lstrip()[0] in "[{" and (values := json_values(path, text, strict=not named & {".txt", ".md"})):
        return Table(rows=json_rows(path, values), kind="json")
    if named & {".json", ".jsonl"}:
        return Table(rows=json_rows(path, json_values(path, text, strict=True)), kind="json")
    lines = [(f"{path}:{number}", line.rstrip("\r")) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    return Table(rows=list(lines), kind="text", whole=text)
