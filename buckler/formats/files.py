"""Files as rows: JSON however it is laid out, CSV, TSV, plain lines, Parquet, Hugging Face datasets; gzipped or not.

`load_table` looks at the content first and at the name of the file only where the content does not decide.
"""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeAlias

from buckler.data import Json
from buckler.data.jsonl import HALF, halves_in, whole_characters
from buckler.data.reading import decoded, json_value, line_in_list, path_kind, read_bytes, require_length
from buckler.errors import DataError
from buckler.formats.columnar import hub_dataset, parquet, saved_dataset
from buckler.formats.rows import column, listed, shorten
from buckler.formats.splits import chosen, is_saved, is_split, splits_in
from buckler.progress import LOG

DATA_ENDINGS = frozenset({".bz2", ".csv", ".gz", ".json", ".jsonl", ".parquet", ".tsv", ".xz", ".zst"})
TEXT_ENDINGS = frozenset({".md", ".txt"})
FILE_ENDINGS = DATA_ENDINGS | TEXT_ENDINGS
_HUB_NAME = re.compile(r"(?:hf://)?(?P<name>[\w.-]+/[\w.-]+)(?::(?P<config>[\w.-]+))?(?:@(?P<split>[\w.-]+))?")
COLUMNS = frozenset(
    (
        "answer answerkey answer_key behavior category choices completion content context correct_statement document falsesent "
        "forbidden_prompt goal harmful id incorrect_statement index input instruction label messages output prompt question "
        "prompts_final response score sent0 sent1 sentence source target text title turns type user_input"
    ).split()
)
"""Column names by which a first record is known to be a header."""
_DELIMITERS = (",", "\t", ";", "|")
_QUOTED_CELL = re.compile(r'"(?:[^"]|"")*"')
PLURALS = {f"{name}s": name for name in "instruction input output prompt question answer response completion text label".split()}
"""What a row of a table of parallel lists calls its columns."""

Row: TypeAlias = "tuple[str, Json]"
"""Where a value stands (`file:line` or `file: row N`), and the value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """The rows of a file, and what the file itself says about them."""

    rows: list[Row]
    kind: str
    """json, csv, cells (CSV without a header), text, parquet, shards or dataset."""
    whole: str = ""
    """The whole text, for plain text only: it may be one document."""
    splits: Mapping[str, int] = field(default_factory=dict)
    """Rows of each split, where there are several."""
    split: str = ""
    """Which of them the rows are of."""
    bad: Sequence[tuple[str, str, str]] = ()
    """Lines that are no JSON, where these are passed over: place, reason, line."""


def endings(path: Path) -> set[str]:
    """All endings of a file's name, in lower case: `.json` and `.gz` of `x.json.gz`."""
    return {ending.lower() for ending in path.suffixes}


def load_table(
    path: Path | str,
    *,
    limit: int | None = None,
    split: str | None = None,
    skip_bad: bool = False,
    columns: Collection[str] = (),
) -> Table:
    """The rows of a file, of a dataset saved to disk, or of one of the hub (`owner/name`, `owner/name:config@split`).

    `split` says which, where there are several; with `skip_bad` lines that are no JSON are passed over where others are;
    a first record with one of `columns` is a header.

    Raises:
        DataError: there is no such file, or it cannot be read as rows.
        BackendError: the hub cannot be reached.
    """
    place = Path(path)
    if (kind := path_kind(place)) == "folder":
        if is_saved(place):
            return _saved(place, limit, split)
        parts = splits_in(place)
        one = chosen(parts, split, place) if parts else ""
        if parts:
            tables = [_in_file(shard, None, skip_bad, columns) for shard in parts[one]]
            rows, bad = [row for table in tables for row in table.rows][:limit], [line for table in tables for line in table.bad]
            others = (
                {name: len(rows) if name == one else _count(files) for name, files in parts.items()} if len(parts) > 1 else {}
            )
            return Table(rows=rows, kind="shards", splits=others, split=one if others else "", bad=bad)
        raise DataError(f"{path}: is a folder, but not a saved dataset; name a file in it")
    if kind:
        return _of_wrapper(_in_file(place, limit, skip_bad, columns), split, place)
    # A mistyped path of a file looks like a hub name: with a file's ending it is a path.
    hub = _HUB_NAME.fullmatch(str(path))
    if hub and (str(path).startswith("hf://") or not endings(place) & FILE_ENDINGS):
        return Table(rows=numbered(str(path), hub_dataset(hub, limit, split)), kind="dataset")
    raise DataError(f"{path}: no such file; a hub dataset is named `owner/name` or `hf://owner/name:config@split`")


def _in_file(place: Path, limit: int | None, skip_bad: bool = False, columns: Collection[str] = ()) -> Table:
    raw = read_bytes(place, packed=True)
    try:
        table = _table_of(place, raw, limit, columns)
    except DataError:
        if not skip_bad or not endings(place) & {".jsonl", ".json"} or not (table := _good_lines(place, raw)).rows:
            raise
    return table if limit is None else replace(table, rows=table.rows[:limit])


def _good_lines(path: Path, raw: bytes) -> Table:
    """The lines of a file that are JSON each by itself, and those that are not."""
    rows: list[Row] = []
    bad: list[tuple[str, str, str]] = []
    for number, line in enumerate(str(whole_characters(decoded(raw, path, halves=True))).split("\n"), 1):
        if line.strip():
            try:
                rows.append((f"{path}:{number}", whole_characters(json_value(line)[0])))
            except ValueError as fault:
                bad.append((f"{path}:{number}", f"not JSON: {fault}", line))
    return Table(rows=rows, kind="json", bad=bad)


def _count(files: Sequence[Path]) -> int:
    """Rows of files that are not read."""
    return sum(len(_in_file(file, None).rows) for file in files)


def _of_wrapper(table: Table, split: str | None, place: Path) -> Table:
    """The rows of one split, where a file is one object with a list under the name of each."""
    wrapper = table.rows[0][1] if len(table.rows) == 1 else None
    if not isinstance(wrapper, dict) or len(wrapper) < 2 or not all(is_split(str(name)) for name in wrapper):
        return table
    lists = {str(name): value for name, value in wrapper.items() if isinstance(value, list)}
    if len(lists) < len(wrapper):
        return table
    one = chosen(lists, split, place)
    counts = {name: len(value) for name, value in lists.items()}
    return Table(rows=numbered(f"{place}: {one}", lists[one]), kind=table.kind, splits=counts, split=one)


def _table_of(path: Path, raw: bytes, limit: int | None, columns: Collection[str]) -> Table:
    if raw.startswith(b"PAR1"):
        return Table(rows=numbered(str(path), parquet(path, raw, limit)), kind="parquet")
    text = decoded(raw, path, halves=True)  # an older version wrote half characters
    if halves := len(HALF.findall(text)):
        LOG.warning("%s: %d halves of characters (lone surrogates), read as U+FFFD", path, halves)
        text = str(whole_characters(text))
    if not text.strip():
        raise DataError(f"{path}: the file is empty")
    if "\0" in text:
        raise DataError(f"{path}: contains NUL characters, so it is not text; unpack or convert it first")
    named = endings(path)
    tabbed = len(COLUMNS.union(columns) & set(map(column, text.split("\n", 1)[0].split("\t")))) > 1  # of Excel, named .txt
    if tabbed or named & {".csv", ".tsv"}:
        return csv_table(path, text, "\t" if tabbed or ".tsv" in named else None, columns)
    if text.lstrip()[0] in "[{" and (values := json_values(path, text, strict=not named & {".txt", ".md"})):
        return Table(rows=json_rows(path, values), kind="json")
    if named & {".json", ".jsonl"}:
        return Table(rows=json_rows(path, json_values(path, text, strict=True)), kind="json")
    lines = [(f"{path}:{number}", line.rstrip("\r")) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    require_length(text, lines)
    return Table(rows=list(lines), kind="text", whole=text)


def numbered(name: str, values: Iterable[Json]) -> list[Row]:
    """Values under their numbers."""
    return [(f"{name}: row {number}", value) for number, value in enumerate(values, 1)]


def csv_table(path: Path, text: str, delimiter: str | None, columns: Collection[str] = ()) -> Table:
    """Records under their header, which has a known name or one of `columns`, or bare ones; without a `delimiter` the first
    record shows it.

    Raises:
        DataError: a record does not fit the header, a quote is not closed, a name stands twice, there are no rows.
    """
    if named := re.match(r"sep=(.)\r?\n", text, re.IGNORECASE):  # of Excel
        text, delimiter = text[named.end() :], named[1]
    first = text.split("\n", 1)[0]
    if delimiter is None:
        delimiter = next((mark for mark in _DELIMITERS if mark in first), ",")
    records = _records(path, text, delimiter)
    if not records:
        raise DataError(f"{path}: the file has no records")
    header = [column(name) for name in records[0][1]]
    is_header = bool(COLUMNS & set(header)) or header[0] == "index"
    if (_is_mmlu(records[0][1]) or not is_header) and not set(header) & set(columns):
        return Table(rows=[(where, cells) for where, cells in records], kind="cells")
    if twice := sorted({name for name in header if header.count(name) > 1}):
        raise DataError(f"{records[0][0]}: the header names {listed(twice)} more than once; rename one")
    rows: list[Row] = []
    for where, cells in records[1:]:
        if len(cells) != len(header):
            raise DataError(
                f"{where}: {len(cells)} cells where the header has {len(header)}: {shorten(cells)}; "
                "quote cells that contain the delimiter"
            )
        rows.append((where, dict(zip(header, cells, strict=True))))
    if not rows:
        raise DataError(f"{path}: the file has a header and no rows")
    return Table(rows=rows, kind="csv")


def _is_mmlu(cells: list[str]) -> bool:
    """A question of MMLU may have "Input" or "Text" among its choices, and is no header; `...,A,B,C,D` is one."""
    return len(cells) == 6 and cells[5].strip() in {"A", "B", "C", "D"} and cells[4].strip() != "C"


def _records(path: Path, text: str, delimiter: str) -> list[tuple[str, list[str]]]:
    """Every record with its first line. In a TSV file quotes may be plain characters: GLUE writes them raw."""
    if delimiter == "\t" and '"' in text:
        plain = [line.rstrip("\r").split("\t") for line in text.split("\n")]
        cells = [cell for record in plain for cell in record]
        stray = any('"' in cell and not _QUOTED_CELL.fullmatch(cell) for cell in cells)
        if stray and len({len(record) for record in plain if record != [""]}) == 1:
            return [(f"{path}:{number}", record) for number, record in enumerate(plain, 1) if record != [""]]
    records: list[tuple[str, list[str]]] = []
    # The limit is the module's own state: put it back for whoever else reads CSV in this process.
    before = csv.field_size_limit(sys.maxsize)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    line = 1
    try:
        for record in reader:
            if any(cell.strip() for cell in record):
                records.append((f"{path}:{line}", record))
            line = reader.line_num + 1
    except csv.Error as fault:
        raise DataError(f"{path}:{line}: not CSV: {fault}; look for an unpaired quote in this record") from None
    finally:
        csv.field_size_limit(before)
    require_length(text, ((where, "".join(cells)) for where, cells in records))
    return records


def json_values(path: Path, text: str, *, strict: bool) -> list[tuple[int, Json]]:
    """Line and value of each JSON value of the text, however they are laid out.

    With `strict` off, a text that is no JSON has no values.
    """
    values: list[tuple[int, Json]] = []
    at, line, halved = 0, 1, 0
    blank, has_halves = re.compile(r"[ \t\r\n]*"), halves_in(text)
    try:
        while True:
            start = blank.match(text, at).end()  # type: ignore[union-attr]
            line += text.count("\n", at, start)
            if start == len(text):
                if halved:
                    LOG.warning("%s: %d values hold half a character (a lone surrogate), read as U+FFFD", path, halved)
                return values
            value, at = json_value(text, start, alone=False)
            whole = whole_characters(value) if has_halves else value
            values.append((line, whole))
            halved += has_halves and whole != value
            line += text.count("\n", start, at)
    except ValueError as fault:
        if strict:
            raise _json_fault(path, text, fault, line) from None
        return []


def _json_fault(path: Path, text: str, fault: ValueError, line_of: int) -> DataError:
    """The first bad line where the file has an object a line; else the place where the decoder gave up."""
    lines = text.split("\n")
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                json_value(line)
            except json.JSONDecodeError as broken:
                # In a file of one spread-out value the first line alone is no JSON, and says nothing.
                if number > 1:
                    return DataError(
                        f"{path}:{number}: not JSON: {broken.msg} at column {broken.colno} of {shorten(line)}; "
                        "fix or remove this line"
                    )
                break
            except ValueError:
                break
    if isinstance(fault, json.JSONDecodeError):
        shown = shorten(lines[fault.lineno - 1] if fault.lineno <= len(lines) else "")
        return DataError(
            f"{path}:{fault.lineno}: not JSON: {fault.msg} at column {fault.colno} of {shown}; fix or remove this line"
        )
    return DataError(f"{path}:{line_in_list(text) or line_of}: not JSON that can be read: {fault}; correct or remove this row")


def json_rows(path: Path, values: list[tuple[int, Json]]) -> list[Row]:
    """The rows among the values of a file: each of several, or the elements of a single list."""
    if len(values) > 1:
        return [(f"{path}:{line}", value) for line, value in values]
    value = values[0][1]
    # A conversation alone in a file is a list too, but its elements are turns, not rows.
    if isinstance(value, list) and not (value and isinstance(value[0], dict) and {"role", "from"} & value[0].keys()):
        if not value:
            raise DataError(f"{path}: the list is empty")
        return numbered(str(path), iter(value))
    return [(f"{path}:{values[0][0]}", value)]


def unfold(rows: list[Row]) -> list[Row]:
    """A file that is one object of parallel lists, or of one list of objects, as rows; any other rows unchanged.

    An empty list is a column nobody filled. Texts and numbers beside the lists belong to every row.

    Raises:
        DataError: the lists differ in length.
    """
    if len(rows) != 1 or not isinstance(rows[0][1], dict):
        return rows
    where, table = rows[0][0], dict(rows[0][1])
    lists: dict[str, list[Json]] = {key: list(value) for key, value in table.items() if value and isinstance(value, list)}
    if not lists:
        return rows
    name = where.rsplit(":", 1)[0]
    if len(lists) == 1 and isinstance(next(iter(lists.values()))[0], dict):
        return numbered(name, iter(next(iter(lists.values()))))
    sizes = {key: len(value) for key, value in lists.items()}
    if len(set(sizes.values())) > 1:
        sizes_in_words = listed(f"{key} {size}" for key, size in sizes.items())
        raise DataError(f"{name}: parallel lists differ in length ({sizes_in_words}); make them equally long or remove a list")
    shared = {key: value for key, value in table.items() if not isinstance(value, list | dict)}
    columns = {PLURALS.get(key.lower(), key): value for key, value in lists.items()}
    cells = zip(*columns.values(), strict=True)
    return numbered(name, ({**shared, **dict(zip(columns, row, strict=True))} for row in cells))


def _saved(path: Path, limit: int | None, split: str | None) -> Table:
    """A data set that `datasets` saved to disk: one split, or several in folders of their names."""
    if not (path / "dataset_dict.json").is_file():
        return Table(rows=numbered(str(path), saved_dataset(path, limit)), kind="dataset")
    parts = {part.name: part for part in sorted(path.iterdir()) if (part / "state.json").is_file()}
    if not parts:
        raise DataError(f"{path}: contains no splits, though its dataset_dict.json says so; save it again")
    one = chosen(parts, split, path)
    rows = numbered(str(path), saved_dataset(parts[one], limit))
    return Table(
        rows=rows, kind="dataset", splits=dict.fromkeys(parts, 0) | {one: len(rows)} if len(parts) > 1 else {}, split=one
    )
