"""CSV and TSV as rows, with a header or without."""

from __future__ import annotations

import csv
import io
import re
import sys
from pathlib import Path

from buckler.errors import DataError
from buckler.formats.common import Row, Table, column, listed, shorten

COLUMNS = frozenset(
    [
        "answer",
        "answerkey",
        "answer_key",
        "behavior",
        "category",
        "choices",
        "completion",
        "content",
        "context",
        "correct_statement",
        "document",
        "falsesent",
        "forbidden_prompt",
        "goal",
        "harmful",
        "id",
        "incorrect_statement",
        "index",
        "input",
        "instruction",
        "label",
        "messages",
        "output",
        "prompt",
        "question",
        "response",
        "score",
        "sent0",
        "sent1",
        "sentence",
        "source",
        "target",
        "text",
        "title",
        "turns",
        "type",
        "user_input",
    ]
)
"""Column names by which a first record is known to be a header."""

_DELIMITERS = (",", "\t", ";")
_QUOTED_CELL = re.compile(r'"(?:[^"]|"")*"')


def csv_table(path: Path, text: str, delimiter: str | None) -> Table:
    """Records under their header, or bare ones; without a `delimiter` the first record shows it.

    Raises:
        DataError: a record does not fit the header, a quote is not closed, a name stands twice, there are no rows.
    """
    first = text.split("\n", 1)[0]
    if delimiter is None:
        delimiter = next((mark for mark in _DELIMITERS if mark in first), ",")
    records = _records(path, text, delimiter)
    if not records:
        raise DataError(f"{path}: the file has no records")
    header = [column(name) for name in records[0][1]]
    if _is_mmlu(records[0][1]) or not (COLUMNS & set(header) or header[0] == "index"):
        return Table(rows=[(where, cells) for where, cells in records], kind="cells")
    if twice := sorted({name for name in header if header.count(name) > 1}):
        raise DataError(f"{records[0][0]}: the header names {listed(twice)} more than once; rename one")
    rows: list[Row] = []
    for where, cells in records[1:]:
        if len(cells) != len(header):
            raise DataError(
                f"{where}: {len(cells)} cells where the header has {len(header)}: {shorten(cells)}; "
                "quote cells that hold the delimiter"
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
    found: list[tuple[str, list[str]]] = []
    # The limit is the module's own state: put it back for whoever else reads CSV in this process.
    before = csv.field_size_limit(sys.maxsize)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    line = 1
    try:
        for record in reader:
            if any(cell.strip() for cell in record):
                found.append((f"{path}:{line}", record))
            line = reader.line_num + 1
    except csv.Error as fault:
        raise DataError(f"{path}:{line}: not CSV: {fault}; look for an unpaired quote in this record") from None
    finally:
        csv.field_size_limit(before)
    return found
