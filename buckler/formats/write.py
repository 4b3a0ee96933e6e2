"""Write chats as the common trainers read them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias, TypeGuard

from buckler.data import Chat, Json, read_json, write_json, write_text
from buckler.data.tool_calls import with_text_arguments
from buckler.errors import ConfigError, DataError
from buckler.registry import Registry


def write_chats(path: Path, rows: Sequence[Chat], format: str) -> int:
    """Write rows in one of `WRITERS`, whole or not at all; the number of rows.

    `chat` keeps everything; the trainers' formats keep the turns alone and drop meta.

    Raises:
        ConfigError: there is no such format.
        DataError: a row cannot be said in that format.
        StoreError: the file cannot be written.
    """
    writer = WRITERS.get(format)
    with WRITERS.boundary(format):
        text: object = writer(rows)
    if not isinstance(text, str):
        raise WRITERS.returned(format, text, "the text of the file")
    entry = None if format != "sharegpt" else _dataset_entry(path, rows)
    write_text(path, text)
    if entry is not None:
        # After the data: an entry must never name a file that is not there.
        write_json(path.with_name("dataset_info.json"), entry)
    return len(rows)


def suffix_of(format: str) -> str:
    """How the name of a file in a format ends: the writer's `suffix`, where it has one.

    Raises:
        ConfigError: there is no such format, or its suffix is none.
    """
    if format in ("alpaca", "sharegpt"):
        return ".json"
    suffix: object = getattr(WRITERS.get(format), "suffix", ".jsonl")
    if not isinstance(suffix, str) or not re.fullmatch(r"\.\w[\w.]*", suffix):
        raise ConfigError(f"export format {format!r}: its `suffix` must end a file's name, such as '.md', got {suffix!r}")
    return suffix


def _lines(rows: Sequence[Mapping[str, Json]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)


def _chat(rows: Sequence[Chat]) -> str:
    return _lines([row.to_json() for row in rows])


def _openai(rows: Sequence[Chat]) -> str:
    """The fine-tuning file of OpenAI: the messages and nothing else, each row ending with an answer."""
    return _lines([_openai_row(_answered(row, "openai").to_json()) for row in rows])


def _openai_row(row: Mapping[str, Json]) -> dict[str, Json]:
    turns = [turn for turn in listed if isinstance(turn, Mapping)] if isinstance(listed := row["messages"], list) else []
    messages: list[Json] = [
        {**turn, "tool_calls": with_text_arguments(calls)} if isinstance(calls := turn.get("tool_calls"), list) else turn
        for turn in turns
    ]
    return {"messages": messages, **({"tools": row["tools"]} if "tools" in row else {})}


def _alpaca(rows: Sequence[Chat]) -> str:
    """One JSON list, indented. `system` and `history` stand only in rows that have them."""
    return json.dumps([_alpaca_row(row) for row in rows], indent=2, ensure_ascii=False) + "\n"


def _alpaca_row(row: Chat) -> dict[str, Json]:
    system, turns = _alternating(_answered(row, "alpaca"), "alpaca")
    fields: dict[str, Json] = {"instruction": turns[-2], "input": "", "output": turns[-1]}
    if system is not None:
        fields["system"] = system
    if len(turns) > 2:
        fields["history"] = [[turns[at], turns[at + 1]] for at in range(0, len(turns) - 2, 2)]
    return fields


def _sharegpt(rows: Sequence[Chat]) -> str:
    """`system` is a column of every row or of none: LLaMA-Factory fails on a promised column it does not find."""
    with_system = _has_system(rows)
    listed: list[Json] = []
    for row in rows:
        system, turns = _alternating(_answered(row, "sharegpt"), "sharegpt")
        turns_: list[Json] = [{"from": ("human", "gpt")[at % 2], "value": text} for at, text in enumerate(turns)]
        listed.append({"conversations": turns_, **({"system": system or ""} if with_system else {})})
    return json.dumps(listed, indent=2, ensure_ascii=False) + "\n"


def _has_system(rows: Sequence[Chat]) -> bool:
    return any(row.messages[0]["role"] == "system" for row in rows)


def _answered(row: Chat, format: str) -> Chat:
    if row.answer is None:
        raise DataError(f"row {row.id} has no answer, but {format} is a training format; add an answer or leave the row out")
    return row


def _alternating(row: Chat, format: str) -> tuple[str | None, list[str]]:
    """The system text and the turns; these formats have no word for anything but question and answer in turn."""
    system = row.messages[0]["content"] if row.messages[0]["role"] == "system" else None
    turns = row.messages[0 if system is None else 1 :]
    calls = any("tool_calls" in turn or "tools" in turn for turn in row.messages)
    if calls or [turn["role"] for turn in turns] != ["user", "assistant"] * (len(turns) // 2):
        roles = ", ".join(turn["role"] for turn in row.messages) + ", with tools" * calls
        raise DataError(f"row {row.id}: {format} needs alternating user and assistant turns, got {roles}; use the format `chat`")
    return system, [turn["content"] for turn in turns]


def _dataset_entry(path: Path, rows: Sequence[Chat]) -> dict[str, Json]:
    """LLaMA-Factory's `dataset_info.json` beside the data, with what it already names."""
    info = path.with_name("dataset_info.json")
    known = read_json(info) if info.exists() else {}
    if not isinstance(known, Mapping):
        raise DataError(f"{info}: expected an object of datasets; correct the file or move it away")
    columns = {"messages": "conversations", **({"system": "system"} if _has_system(rows) else {})}
    entry: Json = {
        "file_name": path.name,
        "formatting": "sharegpt",
        "columns": columns,
        "tags": {"role_tag": "from", "content_tag": "value", "user_tag": "human", "assistant_tag": "gpt"},
    }
    return {**known, path.stem: entry}


Writer: TypeAlias = Callable[[Sequence[Chat]], str]
"""Rows -> the text of a file."""


def _accepts(part: object) -> TypeGuard[Writer]:
    return callable(part) and not isinstance(part, type)


WRITERS: Registry[Writer] = Registry(
    "export format",
    "buckler.exports",
    {"chat": _chat, "alpaca": _alpaca, "sharegpt": _sharegpt, "openai": _openai},
    _accepts,
    "a function (rows) -> the text of the file",
)
