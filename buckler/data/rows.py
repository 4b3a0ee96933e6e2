"""The two rows everything is made of: `Document` and `Chat`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias, TypedDict

from buckler.data.content import Json, content_id

Role: TypeAlias = Literal["system", "user", "assistant"]
ROLES: tuple[Role, ...] = ("system", "user", "assistant")


class Message(TypedDict):
    """One turn of a conversation."""

    role: Role
    content: str


def turns_to_json(messages: Iterable[Message]) -> list[Json]:
    """Turns as they stand on disk and as they are hashed."""
    return [{"role": turn["role"], "content": turn["content"]} for turn in messages]


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
