"""The two rows everything is made of, `Document` and `Chat`, with content ids, JSONL files and one-pass filling."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import IO, Literal, TypeAlias, TypedDict

from buckler.errors import ConfigError, DataError, StoreError

Json: TypeAlias = "None | bool | int | float | str | Sequence[Json] | Mapping[str, Json]"
Role: TypeAlias = Literal["system", "user", "assistant"]
ROLES: tuple[Role, ...] = ("system", "user", "assistant")


class Message(TypedDict):
    """One turn of a conversation."""

    role: Role
    content: str


def turns_to_json(messages: Iterable[Message]) -> list[Json]:
    """Turns as they stand on disk and as they are hashed."""
    return [{"role": turn["role"], "content": turn["content"]} for turn in messages]


def canonical(value: Json) -> str:
    """The one spelling of a JSON value that is hashed: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def content_id(value: Json) -> str:
    """First 16 hex digits of the SHA-256 of `canonical(value)`: the id of a row is what it says."""
    return hashlib.sha256(canonical(value).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def file_digest(path: Path) -> str:
    """SHA-256 of a file. A plan names the same weights for every arm: a file that did not change is read once a process.

    Raises:
        OSError: it cannot be read.
    """
    state = path.stat()
    return _file_digest(path, (state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns))


@lru_cache(maxsize=4096)
def _file_digest(path: Path, state: tuple[int, ...]) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
        """A chat whose id is the hash of its messages."""
        turns = tuple(Message(role=turn["role"], content=turn["content"]) for turn in messages)
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
        return {"id": self.id, "messages": turns_to_json(self.messages), "meta": dict(self.meta)}


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


def read_jsonl(path: Path) -> Iterator[tuple[str, Json]]:
    """Each line's place (`file:line`) and value; blank lines are passed over.

    Raises:
        DataError: the file is missing, not UTF-8, or a line is not JSON.
    """
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    try:
                        yield f"{path}:{number}", json.loads(line)
                    except json.JSONDecodeError as fault:
                        raise DataError(f"{path}:{number}: not JSON: {fault.msg} at column {fault.colno}") from None
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise DataError(f"{path}: is a folder, expected a JSONL file") from None
    except UnicodeDecodeError as fault:
        raise DataError(f"{path}: not UTF-8 at byte {fault.start}; convert it first") from None


def read_chats(path: Path) -> list[Chat]:
    """The chats of a file that Buckler wrote. Other formats: `buckler.formats`."""
    return list(each_chat(path))


def each_chat(path: Path) -> Iterator[Chat]:
    """The chats of a file that Buckler wrote, one at a time."""
    return (chat_from_json(row, where) for where, row in read_jsonl(path))


def read_documents(path: Path) -> list[Document]:
    """The documents of a file that Buckler wrote. Other formats: `buckler.formats`."""
    return [document_from_json(row, where) for where, row in read_jsonl(path)]


@contextmanager
def whole_file(path: Path) -> Iterator[IO[str]]:
    """A text file that appears whole or not at all: written to a neighbour first, then renamed.

    Raises:
        StoreError: the disk is full or the folder cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("w", encoding="utf-8", errors="surrogatepass", newline="\n") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        temporary.replace(path)
    except OSError as fault:
        raise StoreError(f"{path}: cannot be written: {fault.strerror or fault}") from None
    finally:
        with suppress(OSError):  # what went wrong above is what is told
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text, whole or not at all."""
    with whole_file(path) as out:
        out.write(text)


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Json]]) -> int:
    """Write one object a line as they come, whole or not at all; the number of rows."""
    written = 0
    with whole_file(path) as out:
        for row in rows:
            out.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
            written += 1
    return written


def write_rows(path: Path, rows: Iterable[Chat] | Iterable[Document]) -> int:
    """Write chats or documents; the number of rows."""
    return write_jsonl(path, (row.to_json() for row in rows))


def write_json(path: Path, value: Json) -> None:
    """Write one indented JSON value, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Json:
    """One JSON value.

    Raises:
        DataError: the file is missing or is not JSON.
    """
    try:
        value: Json = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as fault:
        raise DataError(f"{path}: not JSON: {fault}") from None
    return value


_PLACEHOLDER = re.compile(r"\{([a-z][a-z0-9_]*)\}")


def fill(template: str, values: Mapping[str, str]) -> str:
    """Put `values` in the places `{name}` of `template`, in one pass: braces inside a value change nothing.

    Raises:
        ConfigError: the template names a place that has no value.
    """

    def value_of(match: re.Match[str]) -> str:
        name = match.group(1)
        if name not in values:
            known = ", ".join(sorted(values))
            raise ConfigError(f"template asks for {{{name}}}; the places that can be filled are: {known}")
        return values[name]

    return _PLACEHOLDER.sub(value_of, template)


def _short(value: Json) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else text[:77] + "..."
