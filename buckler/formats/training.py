"""Rows to train on: chats, instructions with their answers, pairs."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from buckler.data import Message, Role
from buckler.errors import DataError
from buckler.formats.rows import Fields, Parsed, conversation, optional, shorten, text

SPEAKERS: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
}


def chat(key: str, speaker: str, content: str) -> Callable[[Fields, str], Parsed]:
    """A list of turns. Keys of a turn beyond its role and text are named in meta, never lost unseen."""

    def read(row: Fields, where: str) -> Parsed:
        listed = row[key]
        if not isinstance(listed, list) or not listed:
            raise DataError(f"{where}: {key!r} must be a list with turns, got {shorten(listed)}; remove the row")
        system = optional(row, "system", where) if key == "conversations" else None
        turns = [Message(role="system", content=system)] if system else []
        extra: set[str] = set()
        for turn in listed:
            if not isinstance(turn, Mapping) or str(turn.get(speaker)) not in SPEAKERS:
                known = ", ".join(SPEAKERS)
                raise DataError(f"{where}: a turn needs {speaker!r}, one of {known}; got {shorten(turn)}")
            text = turn.get(content)
            if isinstance(text, list) and all(isinstance(part, Mapping) and part.get("type") == "text" for part in text):
                text = "".join(str(part.get("text", "")) for part in text)
            if not isinstance(text, str):
                raise DataError(f"{where}: a turn needs a text {content!r}, got {shorten(turn)}; write it out as text")
            turns.append(Message(role=SPEAKERS[str(turn[speaker])], content=text))
            extra |= turn.keys() - {speaker, content}
        return turns, {"dropped_turn_keys": sorted(extra)} if extra else {}

    return read


def alpaca(row: Fields, where: str) -> Parsed:
    """Also the rows of LLM-Adapters, whose `answer` is the short gold answer beside the full `output`."""
    context = optional(row, "input", where) or ""
    query = text(row, "instruction", where) + (f"\n\n{context}" if context.strip() else "")
    turns = conversation(query, optional(row, "output", where), system=optional(row, "system", where))
    past: list[Message] = []
    history = row.get("history") or []
    for pair in history if isinstance(history, list) else [history]:
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(part, str) for part in pair):
            raise DataError(f"{where}: 'history' must be a list of [question, answer], got {shorten(pair)}")
        past += conversation(str(pair[0]), str(pair[1]))
    at = 1 if turns[0]["role"] == "system" else 0
    gold = optional(row, "answer", where)
    return [*turns[:at], *past, *turns[at:]], {} if gold is None else {"gold": gold}


def dolly(row: Fields, where: str) -> Parsed:
    """The context, where there is one, follows the instruction."""
    context = optional(row, "context", where) or ""
    query = text(row, "instruction", where) + (f"\n\n{context}" if context.strip() else "")
    return conversation(query, text(row, "response", where)), {}


def cell_pair(row: Fields, where: str) -> Parsed:
    """A record without a header: a prompt, or a prompt and its answer."""
    cells = row["cells"]
    if not isinstance(cells, list) or len(cells) not in (1, 2):
        raise DataError(f"{where}: expected a prompt and an answer, got {shorten(cells)}; give the columns a header")
    return conversation(str(cells[0]), str(cells[1]) if len(cells) == 2 else None), {}


def two_turns(row: Fields, where: str) -> Parsed:
    """TRL's conversational rows: lists of messages on both sides."""
    sides = [side for name in ("prompt", "completion") if isinstance(side := row.get(name), list)]
    return chat("messages", "role", "content")({"messages": [turn for side in sides for turn in side]}, where)


def is_plain_pair(row: Fields) -> bool:
    """Not the gold answers of ComVE: an id before the answers is no prompt."""
    cells = row.get("cells")
    return isinstance(cells, list) and len(cells) in (1, 2) and not re.fullmatch(r"[\d\s]*", str(cells[0]))


def is_two_turns(row: Fields) -> bool:
    """A prompt that is a list of messages."""
    side = row.get("prompt")
    return isinstance(side, list) and bool(side) and isinstance(side[0], dict) and "role" in side[0]
