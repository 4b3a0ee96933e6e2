"""The two rows everything is made of, `Document` and `Chat`: ids, files as Buckler writes them, templates, seeded mixing.

Rows are checked when they are read, and a fault names its file and line. Published formats are read by `buckler.formats`.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, NotRequired, TypeAlias, TypeVar

from buckler.data.jsonl import Json, content_id, write_jsonl
from buckler.data.reading import read_jsonl
from buckler.data.tool_calls import ToolParts, shorten, tool_parts, tools_of
from buckler.errors import ConfigError, DataError

Role: TypeAlias = Literal["system", "user", "assistant", "tool"]
ROLES: tuple[Role, ...] = ("system", "user", "assistant", "tool")
ROWS = "rows.jsonl"
"""The name of a file of rows in the folder of a step."""
FIRST = "first_of_file"
"""Key of the meta of the first row of some files; it says nothing of the row (`one_schema`)."""
LOSS_WEIGHT = "loss_weight"
"""Column of a file of rows, and key of a row's meta: the weight of the row's loss, 1 where it is absent."""
_PLACEHOLDER = re.compile(r"\{([a-z][a-z0-9_]*)\}")


class Message(ToolParts):
    """One turn of a conversation."""

    role: Role
    content: str
    reasoning_content: NotRequired[str]
    """What the assistant thought before its answer; absent where there is none."""


def turns_to_json(messages: Iterable[Message]) -> list[Json]:
    """Turns as they stand on disk and as they are hashed."""
    return [dict(copy_turn(turn)) for turn in messages]  # type: ignore[arg-type]


def copy_turn(turn: Message) -> Message:
    """The turn alone, without empty reasoning."""
    copy = Message(role=turn["role"], content=turn["content"])
    if reasoning := turn.get("reasoning_content"):
        copy["reasoning_content"] = reasoning
    of_tools: ToolParts = {key: turn[key] for key in ToolParts.__annotations__ if turn.get(key)}  # type: ignore[literal-required, assignment]
    return {**copy, **of_tools}


def tools_in(turns: Iterable[Mapping[str, object]]) -> list[Json]:
    """The JSON schemas of the tools that a conversation may call."""
    return next((list(tools) for turn in turns if isinstance(tools := turn.get("tools"), list) and tools), [])


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A raw text."""

    id: str
    text: str
    meta: Mapping[str, Json] = field(default_factory=dict)

    @classmethod
    def of(cls, text: str, /, **meta: Json) -> Document:
        """A document whose id is the hash of its text."""
        return cls(id=content_id(text), text=text, meta=meta)

    def to_json(self) -> dict[str, Json]:
        """The row as it stands on disk."""
        return {"id": self.id, "text": self.text, "meta": dict(self.meta)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Chat:
    """One training row (ends with the assistant) or one probe (ends with the user)."""

    id: str
    messages: tuple[Message, ...]
    meta: Mapping[str, Json] = field(default_factory=dict)

    @classmethod
    def of(cls, messages: Iterable[Message], /, **meta: Json) -> Chat:
        """A chat whose id is the hash of its messages; tools that any of them brings stand with the first that is no system's."""
        turns = tuple(copy_turn(turn) for turn in messages)
        if tools := tools_in(turns):
            for turn in turns:
                turn.pop("tools", None)
            next((turn for turn in turns if turn["role"] != "system"), turns[0])["tools"] = tools
        return cls(id=content_id(turns_to_json(turns)), messages=turns, meta=meta)

    @classmethod
    def pair(cls, query: str, response: str | None, /, *, system: str | None = None, **meta: Json) -> Chat:
        """One question and, unless None, its answer; `system` goes before both."""
        turns = [Message(role="system", content=system)] if system is not None else []
        turns.append(Message(role="user", content=query))
        if response is not None:
            turns.append(Message(role="assistant", content=response))
        return cls.of(turns, **meta)

    @property
    def prompt(self) -> tuple[Message, ...]:
        """All turns before the last answer."""
        return self.messages[:-1] if self.messages[-1]["role"] == "assistant" else self.messages

    @property
    def query(self) -> str:
        """The last thing the user says."""
        return next((turn["content"] for turn in reversed(self.messages) if turn["role"] == "user"), "")

    @property
    def answer(self) -> str | None:
        """The last answer; None for a probe."""
        last = self.messages[-1]
        return last["content"] if last["role"] == "assistant" else None

    def answered(self, answer: str, /, **meta: Json) -> Chat:
        """The same conversation with another last answer, and `meta` added."""
        return Chat.of((*self.prompt, Message(role="assistant", content=answer)), **{**self.meta, **meta})

    def tagged(self, /, **meta: Json) -> Chat:
        """The same conversation with `meta` added."""
        return replace(self, meta={**self.meta, **meta})

    def to_json(self) -> dict[str, Json]:
        """The row as it stands on disk."""
        bare = [{key: value for key, value in turn.items() if key != "tools"} for turn in map(copy_turn, self.messages)]
        tools = tools_in(self.messages)
        return {"id": self.id, "messages": bare, **({"tools": tools} if tools else {}), "meta": dict(self.meta)}  # type: ignore[dict-item]


def read_chats(path: Path) -> list[Chat]:
    """The chats of a file that Buckler wrote. Other formats: `buckler.formats`."""
    return list(each_chat(path))


def each_chat(path: Path) -> Iterator[Chat]:
    """The chats of a file that Buckler wrote, one at a time."""
    return (chat_from_json(row, where) for where, row in read_jsonl(path))


def read_documents(path: Path) -> list[Document]:
    """The documents of a file that Buckler wrote. Other formats: `buckler.formats`."""
    return [document_from_json(row, where) for where, row in read_jsonl(path)]


def one_schema(rows: Sequence[Mapping[str, Json]]) -> list[Mapping[str, Json]]:
    """Rows as objects, such that `datasets.load_dataset("json", ...)` reads `meta` as JSON, whatever file stands beside theirs.

    It takes a column whose objects all have the same keys for a struct of just these, and a file with others cannot follow:
    so where all have the same, the first says that it is the first.
    """
    metas = [meta for row in rows if isinstance(meta := row.get("meta"), Mapping)]
    if len(metas) < 2 or any(meta.keys() != metas[0].keys() for meta in metas) or not metas[0]:
        return list(rows)
    return [{**rows[0], "meta": {**metas[0], FIRST: True}}, *rows[1:]]


def write_rows(path: Path, rows: Iterable[Chat] | Iterable[Document]) -> int:
    """Write chats or documents; the number of rows."""
    return write_jsonl(path, (row.to_json() for row in rows))


def chat_from_json(row: Json, where: str) -> Chat:
    """Read one `{"messages": [...]}` object; `where` names file and line in errors.

    Raises:
        DataError: no messages, an unknown role, a text that is not a string, no user turn, an empty last answer, tool calls that
            are none.
    """
    if not isinstance(row, Mapping) or not isinstance(row.get("messages"), list) or not row["messages"]:
        raise DataError(f'{where}: expected an object with a list "messages", got {shorten(row)}')
    turns: list[Message] = []
    for turn in row["messages"]:  # type: ignore[union-attr]
        parts = tool_parts(turn, str(turn.get("role")), where) if isinstance(turn, Mapping) else {}
        content = turn.get("content") if isinstance(turn, Mapping) else None
        content = "" if content is None and parts.get("tool_calls") else content
        if not isinstance(turn, Mapping) or turn.get("role") not in ROLES or not isinstance(content, str):
            raise DataError(f'{where}: a message needs "role" ({", ".join(ROLES)}) and a text "content", got {shorten(turn)}')
        reasoning = turn.get("reasoning_content") or ""
        if not isinstance(reasoning, str):
            raise DataError(f'{where}: "reasoning_content" must be a text, got {shorten(turn)}')
        turns.append(Message(role=turn["role"], content=content, reasoning_content=reasoning, **parts))  # type: ignore[typeddict-item]
    if not any(turn["role"] == "user" for turn in turns):
        raise DataError(f"{where}: the conversation has no user turn")
    if turns[-1]["role"] == "assistant" and not turns[-1]["content"].strip() and not turns[-1].get("tool_calls"):
        raise DataError(f"{where}: the last answer is empty; drop the row or give it an answer")
    if tools := tools_of(row.get("tools"), where):
        turns[0]["tools"] = tools
    meta = row.get("meta") or {}
    if not isinstance(meta, Mapping):
        raise DataError(f'{where}: "meta" must be an object, got {shorten(meta)}')
    return Chat.of(turns, **meta)


def document_from_json(row: Json, where: str) -> Document:
    """Read one `{"text": ...}` object; `where` names file and line in errors.

    Raises:
        DataError: no text, or an empty one.
    """
    if not isinstance(row, Mapping) or not isinstance(row.get("text"), str) or not str(row["text"]).strip():
        raise DataError(f'{where}: expected an object with a non-empty "text", got {shorten(row)}')
    meta = row.get("meta") or {}
    if not isinstance(meta, Mapping):
        raise DataError(f'{where}: "meta" must be an object, got {shorten(meta)}')
    return Document.of(str(row["text"]), **meta)


def fill(template: str, values: Mapping[str, str]) -> str:
    """Put `values` in the places `{name}` of `template`, in one pass: braces inside a value change nothing.

    Raises:
        ConfigError: the template names a place that has no value.
    """

    def value_of(match: re.Match[str]) -> str:
        name = match.group(1)
        if name not in values:
            known = ", ".join(sorted(values))
            raise ConfigError(f"template contains the unknown placeholder {{{name}}}; the placeholders are: {known}")
        return values[name]

    return _PLACEHOLDER.sub(value_of, template)


def loss_weight(row: Chat) -> float:
    """The weight of a row's loss, 1 where it has none.

    Raises:
        DataError: it is not a number of at least 0.
    """
    weight = row.meta.get(LOSS_WEIGHT, 1.0)
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < float("inf"):
        raise DataError(f"row {row.id}: {LOSS_WEIGHT} must be a number of at least 0, got {weight!r}; correct or remove it")
    return float(weight)


def features(*, plain: bool) -> list[Json]:
    """The columns of a file of chats, as a data set card declares them: every file has one schema, whatever is in its `meta`.

    Args:
        plain: Whether the turns of all rows have a role and a text, and nothing else.
    """
    turns: dict[str, Json] = {"list": [{"name": name, "dtype": "string"} for name in ("role", "content")]}
    return [
        {"name": "id", "dtype": "string"},
        {"name": "messages", **(turns if plain else {"dtype": "json"})},
        {"name": "meta", "dtype": "json"},
    ]


def is_plain(row: Chat) -> bool:
    """Whether the turns have a role and a text, and nothing else."""
    return all(turn.keys() == {"role", "content"} for turn in row.messages) and row.to_json().keys() == {"id", "messages", "meta"}


RowT = TypeVar("RowT", Chat, Document)


def mix(parts: Mapping[str, Sequence[RowT]], counts: Mapping[str, int], *, seed: int, repeat: bool = False) -> list[RowT]:
    """`counts[name]` rows of each part, in one shuffled order; the same seed gives the same rows.

    A row stands once, whatever the number of its copies; of a row in two parts the one named first has it. `repeat`
    says that a part may be asked for more rows than it has: each row is then taken as often as any other, give or take
    one.
    Each part draws from a generator of its own name, so another part beside it does not change what it gives.

    Raises:
        ConfigError: a part has no count, or a count has no part or is below nought.
        DataError: a part has fewer rows than asked of it.
    """
    if parts.keys() != counts.keys():
        odd = ", ".join(sorted(parts.keys() ^ counts.keys()))
        raise ConfigError(f"every part needs a count and every count a part; unmatched: {odd}")
    taken: set[str] = set()
    drawn: list[RowT] = []
    for name, rows in parts.items():
        distinct: list[RowT] = []
        for row in rows:
            if row.id not in taken:
                taken.add(row.id)
                distinct.append(row)
        drawn += [distinct[at] for at in _index_map(name, len(distinct), counts[name], seed, repeat)]
    random.Random(f"{seed}:order").shuffle(drawn)
    return drawn


def _index_map(name: str, size: int, count: int, seed: int, repeat: bool) -> list[int]:
    """Which rows of a part are taken: whole passes over it, and a seeded sample for the rest."""
    if count < 0:
        raise ConfigError(f"part {name!r}: {count} rows requested; give a number of at least 0")
    if count > size and not (repeat and size):
        raise DataError(
            f"part {name!r}: {count} rows requested, but only {size} distinct rows available; request fewer, or allow repeats"
        )
    passes, rest = divmod(count, size) if size else (0, 0)
    return [*range(size)] * passes + random.Random(f"{seed}:{name}").sample(range(size), rest)
