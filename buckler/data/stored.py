"""Rows in files that Buckler wrote: checked when they are read."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from buckler.data.content import Json
from buckler.data.files import read_jsonl, write_jsonl
from buckler.data.rows import ROLES, Chat, Document, Message
from buckler.errors import DataError

ROWS = "rows.jsonl"
"""What a file of rows is called in the folder of a step."""


def read_chats(path: Path) -> list[Chat]:
    """The chats of a file that Buckler wrote. Other formats: `buckler.formats`."""
    return list(each_chat(path))


def each_chat(path: Path) -> Iterator[Chat]:
    """The chats of a file that Buckler wrote, one at a time."""
    return (chat_from_json(row, where) for where, row in read_jsonl(path))


def read_documents(path: Path) -> list[Document]:
    """The documents of a file that Buckler wrote. Other formats: `buckler.formats`."""
    return [document_from_json(row, where) for where, row in read_jsonl(path)]


def write_rows(path: Path, rows: Iterable[Chat] | Iterable[Document]) -> int:
    """Write chats or documents; the number of rows."""
    return write_jsonl(path, (row.to_json() for row in rows))


def chat_from_json(row: Json, where: str) -> Chat:
    """Read one `{"messages": [...]}` object; `where` names file and line in errors.

    Raises:
        DataError: no messages, an unknown role, a text that is not a string, no user turn, an empty last answer.
    """
    if not isinstance(row, Mapping) or not isinstance(row.get("messages"), list) or not row["messages"]:
        raise DataError(f'{where}: expected an object with a list "messages", got {_short(row)}')
    turns: list[Message] = []
    for turn in row["messages"]:  # type: ignore[union-attr]
        if not isinstance(turn, Mapping) or turn.get("role") not in ROLES or not isinstance(turn.get("content"), str):
            raise DataError(f'{where}: a message needs "role" ({", ".join(ROLES)}) and a text "content", got {_short(turn)}')
        turns.append(Message(role=turn["role"], content=turn["content"]))  # type: ignore[typeddict-item]
    if not any(turn["role"] == "user" for turn in turns):
        raise DataError(f"{where}: the conversation has no user turn")
    if turns[-1]["role"] == "assistant" and not turns[-1]["content"].strip():
        raise DataError(f"{where}: the last answer is empty; drop the row or give it an answer")
    meta = row.get("meta") or {}
    if not isinstance(meta, Mapping):
        raise DataError(f'{where}: "meta" must be an object, got {_short(meta)}')
    return Chat.of(turns, **meta)


def document_from_json(row: Json, where: str) -> Document:
    """Read one `{"text": ...}` object; `where` names file and line in errors.

    Raises:
        DataError: no text, or an empty one.
    """
    if not isinstance(row, Mapping) or not isinstance(row.get("text"), str) or not str(row["text"]).strip():
        raise DataError(f'{where}: expected an object with a non-empty "text", got {_short(row)}')
    meta = row.get("meta") or {}
    if not isinstance(meta, Mapping):
        raise DataError(f'{where}: "meta" must be an object, got {_short(meta)}')
    return Document.of(str(row["text"]), **meta)


def _short(value: Json) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else text[:77] + "..."
