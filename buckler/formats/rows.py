"""What a row of a published file is, the pieces that readers of rows are made of, and values as error messages show them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeAlias

from buckler.data import Json, Message
from buckler.data.reading import json_value
from buckler.errors import DataError

Fields: TypeAlias = "dict[str, Json]"
"""One row: column names in lower case with `_` for spaces."""
Parsed: TypeAlias = "tuple[list[Message], dict[str, Json]]"
"""The turns of a row, and what goes into its meta."""


@dataclass(frozen=True, slots=True)
class Format:
    """One published shape of a row."""

    matches: Callable[[Fields], bool]
    read: Callable[[Fields, str], Parsed]


class Noted(dict[str, Json]):
    """Fields that remember which of them were read, so that what a format passes over can be reported."""

    def __init__(self, fields: Fields) -> None:
        super().__init__(fields)
        self.seen: set[str] = set()

    def __getitem__(self, name: str) -> Json:
        self.seen.add(name)
        return super().__getitem__(name)

    def get(self, name: str, default: Json = None) -> Json:  # type: ignore[override]
        """The field, noted."""
        self.seen.add(name)
        return super().get(name, default)


def fields_of(value: Json, where: str) -> Fields:
    """One row under lower-case names; a bare text, a list of turns and a headerless record each get a name.

    Raises:
        DataError: the value is no row at all.
    """
    if isinstance(value, str):
        return {"string": value}
    if isinstance(value, Mapping):
        named = {column(str(key)): inner for key, inner in value.items()}
        if len(named) < len(value):
            alike = [str(key) for key in value if [column(str(one)) for one in value].count(column(str(key))) > 1]
            raise DataError(f"{where}: the columns {listed(map(repr, alike))} are one name; rename or remove one")
        return named
    if isinstance(value, Sequence) and value:
        first = value[0]
        if isinstance(first, Mapping):
            return {"conversations" if "from" in first else "messages": value}
        if all(isinstance(cell, str) for cell in value):
            return {"cells": value}
    raise DataError(f"{where}: expected an object, a text or a list of turns, got {shorten(value)}; remove it")


def has(*names: str) -> Callable[[Fields], bool]:
    """Recognised by its columns. A column that holds a list is a table of parallel lists, not a row."""
    return lambda row: all(name in row and not isinstance(row[name], list | dict) for name in names)


def text(row: Fields, name: str, where: str) -> str:
    """A column that must be filled; a number is taken as it is written.

    Raises:
        DataError: it is missing, or neither a text nor a number.
    """
    value = row.get(name)
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    raise DataError(f"{where}: {name!r} must be a text, got {shorten(value)}; fill it in or remove the row")


def optional(row: Fields, name: str, where: str) -> str | None:
    """A column that may be missing or null."""
    return None if row.get(name) is None else text(row, name, where)


SYSTEMS = ("system", "system_prompt", "system_message", "system_instruction", "systeminstruction")
"""Columns of a system prompt."""


def system_in(row: Fields, where: str) -> str | None:
    """The system prompt that stands in a column of its own; None if there is none."""
    return next((optional(row, name, where) for name in SYSTEMS if row.get(name)), None)


def conversation(query: str, answer: str | None = None, *, system: str | None = None) -> list[Message]:
    """One question and, unless None, its answer; `system`, unless empty, goes before both."""
    turns = [Message(role="system", content=system)] if system else []
    turns.append(Message(role="user", content=query))
    return turns if answer is None else [*turns, Message(role="assistant", content=answer)]


def pair(query: str, answer: str | None = None) -> Callable[[Fields, str], Parsed]:
    """A question in one column, its answer (where there is one) in another."""

    def read(row: Fields, where: str) -> Parsed:
        reply = None if answer is None else optional(row, answer, where)
        return after_history(conversation(text(row, query, where), reply, system=system_in(row, where)), row, where), {}

    return read


def after_history(turns: list[Message], row: Fields, where: str) -> list[Message]:
    """Turns after what was said before: a column `history` with a list of [question, answer], or the same as a text.

    Raises:
        DataError: it is another list.
    """
    history: Json = row.get("history") or []
    if isinstance(history, str) and history.lstrip().startswith("["):
        with suppress(ValueError):
            history = json_value(history)[0]
    past: list[Message] = []
    for turn in history if isinstance(history, list) else [history]:
        if not isinstance(turn, list) or len(turn) != 2 or not all(isinstance(part, str) for part in turn):
            raise DataError(
                f"{where}: 'history' must be a list of [question, answer], got {shorten(turn)}; or --columns ignore=history"
            )
        past += conversation(str(turn[0]), str(turn[1]))
    at = 1 if turns[0]["role"] == "system" else 0
    return [*turns[:at], *past, *turns[at:]]


def shorten(value: Json) -> str:
    """A value as an error message shows it."""
    text = json.dumps(value, ensure_ascii=True, default=str)
    return text if len(text) <= 80 else text[:77] + "..."


def listed(names: Iterable[str]) -> str:
    """Column names or labels as an error message shows them: the first dozen, each of them short."""
    values = list(names)
    shown = [name if len(name) <= 40 and name.isprintable() else shorten(name[:40]) for name in values[:12]]
    return ", ".join(shown) + (f" and {len(values) - 12} more" if len(values) > 12 else "")


def column(name: str) -> str:
    """The one spelling of a column name; an unnamed column is an index that some tool wrote."""
    return re.sub(r"\s+", "_", name.strip().lower()) or "index"
