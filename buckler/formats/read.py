"""Read published files as chats: questions with their answers, or prompts alone.

The format is recognised from the first rows. What a file says of its rows outside them is put into them: answers in a second
file (ComVE, PIQA), languages and subjects in the file's name.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from buckler.data import LOSS_WEIGHT, NOT_LEARNT, Chat, Json, chat_from_json
from buckler.data.reading import kind_at, opened
from buckler.errors import ConfigError, DataError
from buckler.formats.account import Account, Reading, bad_row, fill, named_in, renamed, values_of
from buckler.formats.chats import FORMATS, matches, parsed
from buckler.formats.columns import CATEGORY_COLUMNS, LABEL_COLUMNS, META_COLUMNS, meta_of
from buckler.formats.context import languages_in, with_context
from buckler.formats.files import PLURALS, load_table, numbered, unfold
from buckler.formats.fingerprints import benchmark_of
from buckler.formats.marks import marks_of, require_text_only
from buckler.formats.preferences import is_preference, plain
from buckler.formats.rows import Fields, Noted, column, fields_of, listed, shorten
from buckler.formats.splits import is_saved, of_split, splits_in
from buckler.formats.turns import LISTS, from_text, grow, is_flat_tree
from buckler.progress import LOG

_HEAD = 1 << 16
"""Bytes at the beginning of a file that show whether it may have several splits."""
MAY_BE_TEXT = frozenset((*LISTS, "prompt", "completion", "chosen", "rejected"))
"""Columns whose turns a table may hold as a text."""
_LOOKED_AT = 20
"""Rows that vote on the format."""


class DocumentsError(DataError):
    """A file of documents, where questions are expected."""


def recognise(path: Path | str) -> str:
    """The name of the format of a file of chats, a key of `FORMATS`, recognised from its first rows.

    Raises:
        DataError: the file cannot be read, or its rows have no known shape.
    """
    return _recognised(path, None, Reading(use="prompt", skip_bad=True))[0]


def own_format(path: Path | str) -> str | None:
    """The format of a file of chats where another package or the user brings it; None for Buckler's, and if none is there.

    Raises:
        DataError: the file cannot be read, or its rows have no known shape.
    """
    if not any(FORMATS.is_own(name) for name in FORMATS):
        return None
    name = recognise(path)
    return name if FORMATS.is_own(name) else None


def read_chats(
    path: Path | str, *, limit: int | None = None, format: str | None = None, reading: Reading | None = None
) -> list[Chat]:
    """The questions and answers, or the prompts alone, of a published file, in the file's order, duplicates kept.

    `path` is a file (gzipped or not), a dataset saved to disk, or the name of a dataset of the hub: `owner/name`,
    `owner/name:config@split`. Each row's meta has `source` (the file's name), `format`, and the columns of the file
    that say what the row is; columns that are passed over are named in `ignored_columns`. Where the content is that of a
    published set (`fingerprints`), its name stands in `benchmark`. A file in which every answer
    is empty is a set of prompts; one empty answer among filled ones is an error. Only the first `limit` rows are read.
    `format` names the format where it cannot be recognised from the rows; `reading` says that and more.

    Raises:
        DataError: the file or a row cannot be read; the message names its place.
        BackendError: the hub cannot be reached.
        ConfigError: the limit is below 1.
    """
    return read_accounted(path, reading or Reading(format=format), limit=limit)[0]


def splits_of(path: Path | str, wanted: str | None) -> dict[str, int]:
    """The splits of a file, a folder or a saved data set with several, by their rows; of the hub, the one that is wanted.

    Raises:
        DataError: there are several, and not the one that is wanted.
    """
    place = Path(path)
    if not (kind := kind_at(place)):
        return {} if wanted is None else {wanted: 0}
    if kind == "folder" and not is_saved(place) and not splits_in(place):
        return {}  # texts
    if kind == "file" and place.suffix.lower() in (".jsonl", ".csv", ".tsv", ".json", ".txt", ".md"):
        with opened(place) as file:
            head = file.read(_HEAD).lower()
        # One object with a list a split is known by its first key, a column by its name.
        if b"split" not in head and not re.match(rb'\s*\{\s*"(?:train|test|valid|val|dev|eval)', head):
            return {}
    table = load_table(path, split=wanted)
    if table.splits:
        return dict(table.splits)
    rows = [(where, fields_of(value, where)) for where, value in unfold(table.rows) if isinstance(value, Mapping)]
    return of_split(rows, wanted, {}, "", path)[1]


def columns_of(path: Path | str, split: str | None = None, named: Collection[str] = (), *, whole: bool = False) -> set[str]:
    """The columns of the first rows of a file, or of the whole; a CSV file with one of the `named` has a header."""
    most = None if whole else _LOOKED_AT
    table = load_table(path, limit=most, split=split, columns=named)
    if table.kind == "cells" and isinstance(first := table.rows[0][1], list):
        return {column(str(cell)) for cell in first}
    rows = unfold(table.rows)[:most]
    return {name for where, value in rows if isinstance(value, Mapping) for name in fields_of(value, where)}


def read_accounted(path: Path | str, reading: Reading, *, limit: int | None = None) -> tuple[list[Chat], Account]:
    """The same, with what became of every row and column."""
    account = Account(source=str(path))
    name, rows = _recognised(path, limit, reading, account)
    source = Path(path).name if Path(path).exists() else str(path)
    chats: list[Chat] = []
    places: list[str] = []
    blank: list[str] = []
    with_gold: list[str] = []
    used: dict[str, None] = {}
    ignored: dict[str, None] = {}
    for where, row in rows:
        noted = Noted(row)
        with bad_row(account, reading, where, row):
            turns, extra = parsed(name, noted, where)
            if not turns or any(not turn["content"].strip() for turn in turns if turn["role"] == "user"):
                raise DataError(f"{where}: the question is empty: {shorten(row)}; fill it in or remove the row")
            if not FORMATS.is_own(name):
                require_text_only(row, turns, where)
                marks, of_marks = marks_of(row, turns, frozenset(noted.seen), where)
                extra, noted.seen = {**marks, **extra}, noted.seen | of_marks
            named = next((one for one in CATEGORY_COLUMNS if not row.get("category") and row.get(one)), "")
            blank_ones = {one for one in CATEGORY_COLUMNS if not row.get(one)}
            known = META_COLUMNS | {"meta", "number_from", named, *LABEL_COLUMNS, *blank_ones}
            if passed_over := sorted(row.keys() - noted.seen - known):
                extra = {**extra, "ignored_columns": passed_over}
            if turns[-1]["role"] == "assistant" and not turns[-1]["content"].strip() and not turns[-1].get("tool_calls"):
                (with_gold if extra.get("gold") else blank).append(where)
                turns = turns[:-1]
            with FORMATS.boundary(name):
                chat = chat_from_json({"messages": turns}, where)  # type: ignore[dict-item]
            meta = {"source": source, "format": name, **meta_of(row, where, chat.id), **extra}
            if meta.get(LOSS_WEIGHT) == 0 and turns[-1]["role"] == "assistant":
                meta.setdefault(NOT_LEARNT, "weight: 0")
            used.update(dict.fromkeys(one for one in row if one not in passed_over and one != "number_from"))
            ignored.update(dict.fromkeys(passed_over))
            chats.append(replace(chat, meta=meta if meta["source"] == source else {**meta, "file": source}))
            places.append(where)
    if blank and len(blank) < len(chats):
        if not reading.skip_bad:
            raise DataError(
                f"{blank[0]}: the answer is empty (in {len(blank)} of {len(chats)} rows); fill it in or remove the row"
            )
        of_place = dict(rows)
        account.bad += [{"place": where, "reason": "the answer is empty", "row": of_place[where]} for where in blank]
        kept = [(chat, where) for chat, where in zip(chats, places, strict=True) if where not in set(blank)]
        chats, places = [chat for chat, _ in kept], [where for _, where in kept]
    if not chats:
        raise DataError(f"{path}: none of the {account.read} rows can be read; the first: {account.bad[0]['reason']}")
    if with_gold:
        LOG.warning(
            "%s: the answer is empty (in %d of %d rows); their gold answers are there, so they are prompts",
            with_gold[0],
            len(with_gold),
            len(chats),
        )
    benchmark = benchmark_of(chats)
    account.layout, account.benchmark, account.kept = name, benchmark or "", len(chats)
    account.used, fields = list(used), [row for _, row in rows]
    account.ignored = {one: values_of(fields, one) for one in ignored if one not in used}
    account.places = {chat.id: where for chat, where in reversed(list(zip(chats, places, strict=True)))}
    fill(account, chats)
    return chats if benchmark is None else [replace(chat, meta={"benchmark": benchmark, **chat.meta}) for chat in chats], account


def _recognised(
    path: Path | str, limit: int | None, reading: Reading, account: Account | None = None
) -> tuple[str, list[tuple[str, Fields]]]:
    """The format that fits most of the first rows: one broken row does not change what the others are."""
    if limit is not None and limit < 1:
        raise ConfigError(f"limit is {limit}; give a number of at least 1, or none for all rows")
    account, format = account or Account(source=str(path)), reading.format
    most = None if limit is None else max(limit, _LOOKED_AT)
    table = load_table(path, limit=most, split=reading.split, skip_bad=reading.skip_bad, columns=named_in(reading.columns))
    account.bad += [{"place": where, "reason": reason, "row": line} for where, reason, line in table.bad]
    account.splits, account.split = dict(table.splits), table.split
    names = FORMATS.names() if format is None else [format]
    as_row = len(table.rows) != 1  # one object alone is a row, or a table of parallel lists: a row if it has a row's shape
    for where, value in table.rows[:1] if not as_row else ():
        with bad_row(Account(source=""), reading, where, value):
            as_row = bool(_format_of(_prepared(fields_of(value, where), reading, where, account), names))
    listed = table.rows if as_row else unfold(_nested(table.rows))
    rows: list[tuple[str, Fields]] = []
    for where, value in listed[:limit]:
        with bad_row(account, reading, where, value):
            rows.append((where, fields_of(value, where)))
    if rows and all(is_flat_tree(row) for _, row in rows):
        rows = grow(rows)
    rows, account.splits, account.split = of_split(rows, reading.split, account.splits, account.split, path)
    account.read, account.preferences = len(rows) + len(account.bad), 0
    prepared: list[tuple[str, Fields]] = []
    for where, row in rows:
        with bad_row(account, reading, where, row):
            prepared.append((where, _prepared(row, reading, where, account)))
    rows = prepared
    if not any(_format_of(row, names) for _, row in rows[:_LOOKED_AT]):  # a column in the plural: `instructions`
        rows = [(where, {PLURALS.get(key, key): value for key, value in row.items()}) for where, row in rows]
    votes = Counter(name for _, row in rows[:_LOOKED_AT] if (name := _format_of(row, names)))
    if not votes:
        other = f"{path}: no row matches format {format}; leave the format out to have it detected"
        kind = DocumentsError if format is None and prepared and "text" in prepared[0][1] else DataError
        raise kind(_unknown(path, prepared) if format is None else other)
    ranked = sorted(votes, key=lambda name: (-votes[name], names.index(name)))
    name = ranked[0]
    if name == "or-bench" and not all(matches(name, row) for _, row in rows):
        name = "prompts"  # recognised by its values, and other sets of prompts have one or two of its categories
    alike: list[tuple[str, Fields]] = []
    for where, row in rows:
        with bad_row(account, reading, where, row):
            if not matches(name, row):
                raise DataError(f"{where}: not a row like the others (format {name}): {shorten(row)}; correct or remove it")
            alike.append((where, row))
    if name == "headless":
        _refuse_guessed_header(alike)
    if format is None:
        require_told(name, path, alike)
    return name, with_context(path, name, alike)


def _prepared(row: Fields, reading: Reading, where: str, account: Account) -> Fields:
    """A row with its columns as its user named them, and with the answer that is meant where it has two."""
    row = renamed(row, reading.columns, where) if reading.columns else row
    row = {name: from_text(value, where) if name in MAY_BE_TEXT else value for name, value in row.items()}
    if not is_preference(row):
        return row
    account.preferences += 1
    return plain(row, reading.use, where)


def require_told(name: str, path: Path | str, rows: Sequence[tuple[str, Fields]]) -> None:
    """Refuse to guess a task that neither the columns nor the file's name say.

    Raises:
        DataError: a column `sentence`, or `source` and `target`, may be of any task.
    """
    where, row = rows[0]
    if name == "sst2" and not re.search(r"sst", str(path), re.IGNORECASE):
        labels = {str(row.get("label")).strip().lower() for _, row in rows}
        if not labels <= {"positive", "negative"}:
            raise DataError(
                f"{where}: a column 'sentence' does not say what is asked of it; name the format for its sentiment: sst2@FILE, "
                "or the columns: --columns prompt=sentence"
            )
    if name == "translation" and "source_language" not in row and not languages_in(path):
        raise DataError(
            f"{where}: columns 'source' and 'target' do not say what is asked; name the format for a translation: "
            "translation@FILE, or the columns: --columns prompt=source,answer=target"
        )


def _nested(rows: list[tuple[str, Json]]) -> list[tuple[str, Json]]:
    """Questions under their categories (CatQA), or rows under the names of what they are about (HarmBench's completions)."""
    if len(rows) != 1 or not isinstance(table := rows[0][1], Mapping):
        return rows
    values: list[Json] = []
    for name, part in table.items():
        if isinstance(part, dict) and part and all(isinstance(some, list) for some in part.values()):
            for inner, some in part.items():
                values += [{"question": one, "category": name, "subcategory": inner} for one in some if isinstance(one, str)]
        elif isinstance(part, list) and part and all(isinstance(one, dict) and "test_case" in one for one in part):
            values += [{"behavior_id": name, **one} for one in part]
        else:
            return rows
    return numbered(rows[0][0].rsplit(":", 1)[0], values)


def _format_of(row: Fields, names: Sequence[str]) -> str | None:
    return next((name for name in names if matches(name, row)), None)


def _unknown(path: Path | str, rows: list[tuple[str, Fields]]) -> str:
    if not rows:
        return f"{path}: no rows"
    where, row = rows[0]
    if "text" in row:
        return f"{where}: a document, not a question: pass it as a document, or say --columns prompt=text"
    if "cells" in row:
        return (
            f"{where}: unknown header: {shorten(row['cells'])}; name the columns prompt,completion, or add that "
            "header line. If these are the gold answers of another file, read that file"
        )
    return f"{where}: no known format has the columns {listed(row)}; say what they are: --columns prompt=NAME,answer=NAME"


def _refuse_guessed_header(rows: list[tuple[str, Fields]]) -> None:
    """A record of a word or two may be a header of unknown names: read as a row it would be a probe nobody asked."""
    where, row = rows[0]
    cells = [str(cell) for cell in row["cells"]] if isinstance(row.get("cells"), list) else []  # type: ignore[union-attr]
    if len(rows) > 1 and where.endswith(":1") and all(len(c.split()) <= 3 and c.strip()[-1:] not in ".?!" for c in cells):
        raise DataError(
            f"{where}: {shorten(cells)} may be a header or a row; name the columns prompt,completion, or add that header line"
        )
