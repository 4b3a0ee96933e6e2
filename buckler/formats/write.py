"""Write chats as other trainers read them: the layouts, what each of them cannot hold, and LLaMA-Factory's list of data sets."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias, TypeGuard

from buckler.data import LOSS_WEIGHT, MASKED_TURNS, Chat, Json, loss_weight, one_schema, read_json, write_json, write_text
from buckler.data.tool_calls import with_text_arguments
from buckler.errors import ConfigError, DataError
from buckler.registry import Registry

Writer: TypeAlias = Callable[[Sequence[Chat]], str]
"""Rows -> the text of a file."""

HELD: Mapping[str, frozenset[str]] = {
    "chat": frozenset(("weights", "reasoning", "tools", "turns", "masks")),
    "trl": frozenset(("weights", "reasoning", "tools", "turns", "masks")),
    "axolotl": frozenset(("reasoning", "tools", "turns", "masks")),
    "openai": frozenset(("tools", "turns", "masks")),
    "llamafactory": frozenset(("masks",)),
    "alpaca": frozenset(),
    "sharegpt": frozenset(),
}
"""What a layout holds beside questions, answers and a system prompt: weights of rows, reasoning, tools, turns in any order, and
answers that are not learnt. A layout of the user's own is given whole rows and is expected to hold all of it."""
BY_ANSWER = ("trl", "llamafactory")
"""Layouts in which only the last answer of a row is learnt where the trainer is set so: one row for each learnt answer."""


def write_chats(path: Path, rows: Sequence[Chat], format: str) -> int:
    """Write rows in one of `WRITERS`, whole or not at all; the number of rows.

    LLaMA-Factory's layouts also get their entry in `dataset_info.json`, beside those that it has. `lost_in` says what a layout
    leaves out of the rows.

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
    entry = dataset_entry(path.name, rows, format)
    known = _known_entries(path) if entry else {}
    write_text(path, text)
    if entry:  # after the data: an entry must never name a file that is not there
        write_json(path.with_name("dataset_info.json"), {**known, path.stem: entry})
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


def unwritable(row: Chat, format: str) -> str | None:
    """Why a layout cannot hold a row at all; None where it can."""
    held = HELD.get(format)
    if held is None:
        return None
    if row.answer is None and format != "chat":
        return "has no answer, but this is a training format; add an answer or leave the row out"
    roles = [str(turn["role"]) for turn in row.messages]
    plain = roles[1:] if roles[0] == "system" else roles
    of_tools = any(turn["role"] == "tool" or "tools" in turn or "tool_calls" in turn for turn in row.messages)
    if of_tools and "tools" not in held:
        return "is a conversation with tools; use the format `chat`"
    if plain != ["user", "assistant"] * (len(plain) // 2) and "turns" not in held:
        return f"needs alternating user and assistant turns, got {', '.join(roles)}; use the format `chat`"
    if row.meta.get(MASKED_TURNS) and "masks" not in held:
        return "has answers that are not to be learnt, which this format would teach; use the format `trl`"
    return None


def lost_in(rows: Sequence[Chat], format: str) -> dict[str, int]:
    """How many rows of those written lose something in a layout: their reasoning or their weight."""
    held = HELD.get(format, HELD["chat"])
    lost: Counter[str] = Counter()
    for row in rows:
        lost["reasoning"] += "reasoning" not in held and any(turn.get("reasoning_content") for turn in row.messages)
        lost["loss_weight"] += "weights" not in held and abs(loss_weight(row) - 1) > 1e-9
    return {name: number for name, number in lost.items() if number}


def _lines(rows: Sequence[Mapping[str, Json]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)


def _indented(rows: Sequence[Json]) -> str:
    return json.dumps(rows, indent=2, ensure_ascii=False) + "\n"


def _chat(rows: Sequence[Chat]) -> str:
    """Buckler's own layout, with the weight of the loss where any row has one."""
    weighted = any(LOSS_WEIGHT in row.meta for row in rows)
    written = []
    for row in rows:
        meta = {name: value for name, value in row.meta.items() if name != LOSS_WEIGHT}
        written.append({**row.to_json(), **({LOSS_WEIGHT: loss_weight(row)} if weighted else {}), "meta": meta})
    return _lines(one_schema(written))


def _trl(rows: Sequence[Chat]) -> str:
    """TRL's conversational prompt and completion: only the completion, the last answer, enters the loss."""
    written = []
    for row in rows:
        messages, tools = _messages(row, "trl")
        written.append({"prompt": messages[:-1], "completion": messages[-1:], LOSS_WEIGHT: loss_weight(row), **tools})
    return _lines(written)


def _openai(rows: Sequence[Chat]) -> str:
    """The fine-tuning file of OpenAI: messages without reasoning, a weight of 0 on answers that are not learnt."""
    written = []
    for row in rows:
        messages, tools = _messages(row, "openai", mask={"weight": 0})
        bare: list[Json] = []
        for turn in messages:
            calls = turn.get("tool_calls")
            texts: dict[str, Json] = {"tool_calls": with_text_arguments(calls)} if isinstance(calls, list) else {}
            bare.append({**{key: value for key, value in turn.items() if key != "reasoning_content"}, **texts})
        written.append({"messages": bare, **tools})
    return _lines(written)


def _axolotl(rows: Sequence[Chat]) -> str:
    """Messages for axolotl's `type: chat_template`, with `train: false` on answers that are not learnt."""
    written = []
    for row in rows:
        messages, tools = _messages(row, "axolotl", mask={"train": False})
        written.append({"messages": messages, **tools})
    return _lines(written)


def _llamafactory(rows: Sequence[Chat]) -> str:
    """Messages with roles, read by LLaMA-Factory as ShareGPT with other names."""
    written = []
    for row in rows:
        messages, _ = _messages(row, "llamafactory")
        bare: list[Json] = [{"role": turn["role"], "content": turn["content"]} for turn in messages]
        written.append({"messages": bare})
    return _lines(written)


def _alpaca(rows: Sequence[Chat]) -> str:
    """One JSON list, indented. `system` and `history` stand only in rows that have them."""
    return _indented([_alpaca_row(row) for row in rows])


def _alpaca_row(row: Chat) -> dict[str, Json]:
    system, turns = _alternating(row, "alpaca")
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
        system, turns = _alternating(row, "sharegpt")
        turns_: list[Json] = [{"from": ("human", "gpt")[at % 2], "value": text} for at, text in enumerate(turns)]
        listed.append({"conversations": turns_, **({"system": system or ""} if with_system else {})})
    return _indented(listed)


def _has_system(rows: Sequence[Chat]) -> bool:
    return any(row.messages[0]["role"] == "system" for row in rows)


def _require(row: Chat, format: str) -> None:
    if (reason := unwritable(row, format)) is not None:
        raise DataError(f"row {row.id}, {format}: {reason}")


def _messages(row: Chat, format: str, mask: Mapping[str, Json] = {}) -> tuple[list[dict[str, Json]], dict[str, Json]]:
    """The turns, with `mask` on those that are not learnt, and the row's column of tools where it has one."""
    _require(row, format)
    whole, masked = row.to_json(), row.meta.get(MASKED_TURNS)
    listed = whole["messages"] if isinstance(whole["messages"], list) else []
    numbers = masked if isinstance(masked, list) else []
    messages = [{**dict(turn), **(mask if at in numbers else {})} for at, turn in enumerate(listed) if isinstance(turn, Mapping)]
    return messages, {"tools": whole["tools"]} if "tools" in whole else {}


def _alternating(row: Chat, format: str) -> tuple[str | None, list[str]]:
    """The system text and the turns, question and answer by turns."""
    _require(row, format)
    system = row.messages[0]["content"] if row.messages[0]["role"] == "system" else None
    return system, [turn["content"] for turn in row.messages[0 if system is None else 1 :]]


def dataset_entry(file: str, rows: Sequence[Chat], format: str) -> dict[str, Json]:
    """What LLaMA-Factory's `dataset_info.json` says of a file in one of its layouts; empty for other layouts.

    As its `data/README.md` describes it. A column stands only where a row has it.
    """
    system: dict[str, Json] = {"system": "system"} if _has_system(rows) else {}
    if format == "alpaca":
        history: dict[str, Json] = {"history": "history"} if any(len(row.messages) > 3 for row in rows) else {}
        named: dict[str, Json] = {"prompt": "instruction", "query": "input", "response": "output", **system, **history}
        return {"file_name": file, "formatting": "alpaca", "columns": named}
    if format == "sharegpt":
        tags: Json = {"role_tag": "from", "content_tag": "value", "user_tag": "human", "assistant_tag": "gpt"}
        return {"file_name": file, "formatting": "sharegpt", "columns": {"messages": "conversations", **system}, "tags": tags}
    if format == "llamafactory":
        names = {"role": "role", "content": "content", "user": "user", "assistant": "assistant", "system": "system"}
        tagged: Json = {f"{name}_tag": value for name, value in names.items()}
        return {"file_name": file, "formatting": "sharegpt", "columns": {"messages": "messages"}, "tags": tagged}
    return {}


def _known_entries(path: Path) -> Mapping[str, Json]:
    info = path.with_name("dataset_info.json")
    known = read_json(info) if info.exists() else {}
    if not isinstance(known, Mapping):
        raise DataError(f"{info}: expected an object of datasets; correct the file or move it away")
    return known


def _accepts(part: object) -> TypeGuard[Writer]:
    return callable(part) and not isinstance(part, type)


WRITERS: Registry[Writer] = Registry(
    "export format",
    "buckler.exports",
    {
        "chat": _chat,
        "alpaca": _alpaca,
        "sharegpt": _sharegpt,
        "openai": _openai,
        "trl": _trl,
        "llamafactory": _llamafactory,
        "axolotl": _axolotl,
    },
    _accepts,
    "a function (rows) -> the text of the file",
)
