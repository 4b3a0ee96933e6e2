"""What a model said to a probe, and one judge's reading of it. What could not be read is `None`, with its reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias, cast, get_args

from buckler.data.jsonl import Json, read_jsonl, write_jsonl
from buckler.data.reply import FinishReason
from buckler.data.rows import ROLES, Message
from buckler.errors import DataError

Refused: TypeAlias = Literal["full", "partial", "no"]


ANSWERS, VERDICTS = "answers.jsonl", "verdicts.jsonl"
"""What their files are called in the folder of a step or of an evaluation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a model said to one probe."""

    id: str
    """The id of the probe."""
    prompt: tuple[Message, ...]
    """All turns the model was shown, attack wrapping and system prompt included."""
    text: str
    finish_reason: FinishReason
    """`length`: cut off at the token limit, so the end of the text was not the model's choice. `failed`: no answer came."""
    meta: Mapping[str, Json] = field(default_factory=dict)
    """The probe's own meta: its set, group, references."""
    error: str = ""
    """Why no answer came."""

    @property
    def query(self) -> str:
        """The last thing the user said."""
        return next((turn["content"] for turn in reversed(self.prompt) if turn["role"] == "user"), "")

    def to_json(self) -> dict[str, Json]:
        """The row as it stands on disk."""
        prompt: list[Json] = [{"role": turn["role"], "content": turn["content"]} for turn in self.prompt]
        row: dict[str, Json] = {"id": self.id, "prompt": prompt, "text": self.text, "finish": self.finish_reason}
        return {**row, **({"error": self.error} if self.error else {}), "meta": dict(self.meta)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One judge's reading of one answer. Each field is None where this judge could not say, or does not look."""

    id: str
    """The id of the probe."""
    refused: Refused | None = None
    """`full`: declines and gives nothing of what was asked; `partial`: declines, then gives some; `no`: goes along."""
    harmful: bool | None = None
    coherent: bool | None = None
    helpful: float | None = None
    """From 0 (useless) to 1."""
    reason: str = ""
    """What the judge saw, in words, or why it could not read the answer."""

    def __post_init__(self) -> None:
        if self.helpful is not None and not 0 <= self.helpful <= 1:  # also catches NaN
            raise DataError(f"verdict on {self.id}: helpful must be from 0 to 1 or null, got {self.helpful!r}")

    @property
    def is_refusal(self) -> bool | None:
        """Whether the answer declines and gives nothing.

        A partial refusal is not one: what it gave was given. Who counts false refusals may want to count it too
        (`declines`).
        """
        return None if self.refused is None else self.refused == "full"

    @property
    def declines(self) -> bool | None:
        """Whether the answer declines wholly or in part."""
        return None if self.refused is None else self.refused != "no"

    def to_json(self) -> dict[str, Json]:
        """The row as it stands on disk."""
        return {
            "id": self.id,
            "refused": self.refused,
            "harmful": self.harmful,
            "coherent": self.coherent,
            "helpful": self.helpful,
            "reason": self.reason,
        }


def answer_from_json(row: Json, where: str) -> Answer:
    """Read one answer; `where` names file and line in errors.

    Raises:
        DataError: a field is missing or is not what it should be.
    """
    if not isinstance(row, Mapping) or not isinstance(row.get("id"), str) or not isinstance(row.get("text"), str):
        raise DataError(f'{where}: an answer needs a text "id" and a text "text"')
    finish_reason, meta, prompt = row.get("finish"), row.get("meta", {}), row.get("prompt")
    if finish_reason not in get_args(FinishReason):
        raise DataError(f'{where}: "finish" must be stop, length or failed, got {finish_reason!r}')
    if not isinstance(meta, Mapping):
        raise DataError(f'{where}: "meta" must be an object')
    if not isinstance(prompt, Sequence) or isinstance(prompt, str):
        raise DataError(f'{where}: "prompt" must be a list of turns')
    turns = tuple(_turn(turn, where) for turn in prompt)
    error = str(row.get("error", ""))
    return Answer(
        id=str(row["id"]),
        prompt=turns,
        text=str(row["text"]),
        finish_reason=cast(FinishReason, finish_reason),
        meta=meta,
        error=error,
    )


def verdict_from_json(row: Json, where: str) -> Verdict:
    """Read one verdict; `where` names file and line in errors.

    Raises:
        DataError: a field is missing or is not what it should be.
    """
    if not isinstance(row, Mapping) or not isinstance(row.get("id"), str):
        raise DataError(f'{where}: a verdict needs a text "id"')
    refused, helpful, reason = row.get("refused"), row.get("helpful"), row.get("reason", "")
    if refused is not None and refused not in get_args(Refused):
        raise DataError(f'{where}: "refused" must be full, partial, no or null, got {refused!r}')
    for name in ("harmful", "coherent"):
        if not isinstance(row.get(name), bool | None):
            raise DataError(f'{where}: "{name}" must be true, false or null, got {row.get(name)!r}')
    if helpful is not None and (isinstance(helpful, bool) or not isinstance(helpful, int | float)):
        raise DataError(f'{where}: "helpful" must be a number from 0 to 1 or null, got {helpful!r}')
    if not isinstance(reason, str):
        raise DataError(f'{where}: "reason" must be a text')
    return Verdict(
        id=str(row["id"]),
        refused=cast("Refused | None", refused),
        harmful=cast("bool | None", row.get("harmful")),
        coherent=cast("bool | None", row.get("coherent")),
        helpful=None if helpful is None else float(helpful),
        reason=reason,
    )


def _turn(turn: Json, where: str) -> Message:
    if not isinstance(turn, Mapping) or turn.get("role") not in ROLES or not isinstance(turn.get("content"), str):
        raise DataError(f'{where}: a turn needs "role" ({", ".join(ROLES)}) and a text "content"')
    return Message(role=turn["role"], content=turn["content"])  # type: ignore[typeddict-item]


def read_answers(path: Path) -> list[Answer]:
    """The answers of a file that Buckler wrote."""
    return [answer_from_json(row, where) for where, row in read_jsonl(path)]


def write_answers(path: Path, answers: Sequence[Answer]) -> int:
    """Write one answer a line; the number of them."""
    return write_jsonl(path, (one.to_json() for one in answers))


def read_verdicts(path: Path) -> list[Verdict]:
    """The verdicts of a file that Buckler wrote."""
    return [verdict_from_json(row, where) for where, row in read_jsonl(path)]


def write_verdicts(path: Path, verdicts: Sequence[Verdict]) -> int:
    """Write one verdict a line; the number of them."""
    return write_jsonl(path, (one.to_json() for one in verdicts))
