"""Read published files as documents: texts alone, with a label where something tells one."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from buckler.data import Document, Json, content_id
from buckler.data.reading import kind_at, path_kind
from buckler.errors import ConfigError, DataError
from buckler.formats.account import SHOWN, Account, Reading, bad_row, named_in, renamed
from buckler.formats.columns import META_COLUMNS, meta_of
from buckler.formats.files import DATA_ENDINGS, TEXT_ENDINGS, Table, load_table, unfold
from buckler.formats.rows import Fields, fields_of, listed, shorten
from buckler.formats.splits import is_saved, splits_in

TEXT_COLUMNS = ("text", "document", "content", "article", "body", "passage", "sentence")
FOLDER_LABELS = frozenset({"harmful", "benign", "useful"})

_TRUE, _FALSE = frozenset({"1", "true", "yes", "harmful", "unsafe"}), frozenset({"0", "false", "no", "benign", "safe"})


def read_documents(path: Path | str, *, limit: int | None = None, reading: Reading | None = None) -> list[Document]:
    """The texts of a file or of a folder.

    A plain text is one document a line if it has two lines or more and every line stands alone: lines of 200
    characters (the median), or all of them ending like a sentence. Otherwise, as with wrapped prose, the whole file is
    one document. In a folder every `.txt` and `.md` is one document, data files give their rows, and the order is that
    of the names. Tables need a column named like a text. meta has `source`, `format` and `label`: from a `label`
    column, from a `harmful` column as harmful or benign, else from a folder named harmful, benign or useful.

    Raises:
        DataError: the file or a row cannot be read; the message names its place.
        BackendError: the hub cannot be reached.
        ConfigError: the limit is below 1.
    """
    return read_accounted_documents(path, reading or Reading(), limit=limit)[0]


def read_accounted_documents(path: Path | str, reading: Reading, *, limit: int | None = None) -> tuple[list[Document], Account]:
    """The same, with what became of every row and column."""
    account = Account(source=str(path))
    documents = _read(path, limit, reading, account)
    account.read, account.kept = len(documents) + len(account.bad), len(documents)
    account.layout = ", ".join(sorted({str(one.meta["format"]) for one in documents}))
    ignored = {str(name) for one in documents if isinstance(names := one.meta.get("ignored_columns"), list) for name in names}
    account.ignored = dict.fromkeys(sorted(ignored), "")
    sizes = sorted(((len(one.text), f"{one.meta['source']} {one.id}") for one in documents), reverse=True)
    account.longest = [(place, size) for size, place in sizes[:SHOWN]]
    return documents, account


def _read(path: Path | str, limit: int | None, reading: Reading, account: Account) -> list[Document]:
    if limit is not None and limit < 1:
        raise ConfigError(f"limit is {limit}; give a number of at least 1, or none for all rows")
    place = Path(path)
    if kind_at(place) != "folder" or is_saved(place) or len(splits_in(place)) > 1:
        return _documents_of(path, place.parent.name, limit, reading, account)[:limit]
    documents: list[Document] = []
    for file in sorted(place.rglob("*")):
        inside = file.relative_to(place)
        if path_kind(file) != "file" or any(part.startswith(".") for part in inside.parts):
            continue
        folders = [place.name, *inside.parent.parts]
        folder = next((name for name in reversed(folders) if name.lower() in FOLDER_LABELS), "")
        if file.suffix.lower() in TEXT_ENDINGS:
            documents.append(_whole(file, load_table(file), folder))
        elif file.suffix.lower() in DATA_ENDINGS:
            documents += _documents_of(file, folder, limit, reading, account)
        else:
            raise DataError(f"{file}: not a text or data file; remove it from the folder, or rename it to .txt if it is text")
        if limit is not None and len(documents) >= limit:
            break
    if not documents:
        raise DataError(f"{path}: the folder contains no texts")
    return documents[:limit]


def _documents_of(path: Path | str, folder: str, limit: int | None, reading: Reading, account: Account) -> list[Document]:
    most, named = None if limit is None else max(limit, 2), named_in(reading.columns)
    table = load_table(path, limit=most, split=reading.split, columns=named)
    if table.splits:
        account.splits, account.split = dict(table.splits), table.split
    if table.kind == "text" and not _lines_stand_alone(table):
        return [_whole(Path(path), table, folder)]
    source = Path(path).name if Path(path).exists() else str(path)
    rows = table.rows
    if table.kind == "json" and not isinstance(fields_of(rows[0][1], rows[0][0]).get("text"), str):
        rows = unfold(rows)
    documents: list[Document] = []
    for where, value in rows:
        with bad_row(account, reading, where, value):
            row = fields_of(value, where)
            row = renamed(row, reading.columns, where) if reading.columns else row
            documents.append(_document(row, where, source, folder))
            account.used = list(dict.fromkeys((*account.used, str(documents[-1].meta["format"]))))
    return documents


def _lines_stand_alone(table: Table) -> bool:
    lines = [line.strip() for line in table.whole.split("\n") if line.strip()]
    if len(lines) < 2:
        return False
    long = sorted(map(len, lines))[len(lines) // 2] >= 200
    return long or all(re.search(r"[.!?:\u3002\uff01\uff1f][\"')\]\u201d\u2019]*$", line) for line in lines)


def _whole(path: Path, table: Table, folder: str) -> Document:
    text = table.whole.replace("\r\n", "\n").strip("\n")
    if table.kind != "text":
        raise DataError(f"{path}: contains {table.kind} rows; give it the matching suffix .jsonl, .json or .csv")
    return replace(Document.of(text), meta={"source": path.name, "format": "text", **_folder_label(folder)})


def _folder_label(folder: str) -> dict[str, Json]:
    return {"label": folder.lower()} if folder.lower() in FOLDER_LABELS else {}


def _document(row: Fields, where: str, source: str, folder: str) -> Document:
    cells = row.get("cells")
    if "string" in row or (isinstance(cells, list) and len(cells) == 1):
        text, name = (row["string"], "lines") if "string" in row else (cells[0], "cells")  # type: ignore[index]
    else:
        column = next((key for key in TEXT_COLUMNS if key in row), None)
        if column is None:
            raise DataError(
                f"{where}: no text column ({', '.join(TEXT_COLUMNS)}) among {listed(row)}; name one 'text'. "
                "A file of questions and answers contains no documents"
            )
        text, name = row[column], column
    if not isinstance(text, str) or not text.strip():
        raise DataError(f"{where}: the text must not be empty, got {shorten(text)}; fill it in or remove the row")
    meta = meta_of(row, where, content_id(text))
    if ignored := sorted(row.keys() - META_COLUMNS - {name, "meta", "string", "cells"}):
        meta["ignored_columns"] = ignored
    label = {"label": _harm_label(meta["harmful"], where)} if "harmful" in meta and "label" not in meta else {}
    return replace(Document.of(text), meta={"source": source, "format": name, **_folder_label(folder), **label, **meta})


def _harm_label(value: Json, where: str) -> str:
    label = str(value).strip().lower()
    if label in _TRUE | _FALSE:
        return "harmful" if label in _TRUE else "benign"
    raise DataError(f"{where}: 'harmful' must be true or false, got {shorten(value)}; correct it")
