"""What a model said to a probe, and one judge's reading of it. What could not be read is `None`, with its reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, TypeAlias, cast, get_args

from buckler.data.jsonl import Json, write_jsonl
from buckler.data.reading import read_jsonl
from buckler.data.reply import FinishReason, Reply, filter_of_error, is_finish, no_text, read_finish, read_reply
from buckler.data.rows import ROLES, Message, turns_to_json
from buckler.data.thinking import begins_inside
from buckler.data.tool_calls import tool_calls_of, tool_parts
from buckler.errors import DataError

Refused: TypeAlias = Literal["full", "partial", "no"]


ANSWERS, VERDICTS = "answers.jsonl", "verdicts.jsonl"
"""What their files are called in the folder of a step or of an evaluation."""
FOREIGN = ("reasoning_content", "reasoning", "refusal", "function_call")
"""What servers write beside a text, where a row was copied from one."""


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
    thinking: str = ""
    """What a reasoning model thought first; judges and scorers are not shown it."""
    tool_calls: tuple[Json, ...] = ()
    """Calls of tools, each as `{"name": ..., "arguments": ...}`."""
    withheld_by: str = ""
    """The provider's word for its own refusal or filter (`content_filter`, `refusal`); empty: the answer was let through."""
    own_words: bool = False
    """Whether the text, which reads like the marker of a filter, is a local model's own: no provider stands between."""

    @property
    def no_text(self) -> str:
        """Why there is no text of the model's to be judged; "" if there is one, or if the answer is plainly empty."""
        return no_text(self)

    @property
    def query(self) -> str:
        """The last thing the user said."""
        return next((turn["content"] for turn in reversed(self.prompt) if turn["role"] == "user"), "")

    def to_json(self) -> dict[str, Json]:
        """The row as it stands on disk."""
        prompt = turns_to_json(Message(**{**turn, "reasoning_content": ""}) for turn in self.prompt)
        row: dict[str, Json] = {"id": self.id, "prompt": prompt, "text": self.text, "finish": self.finish_reason}
        more: dict[str, Json] = {
            "thinking": self.thinking,
            "tool_calls": list(self.tool_calls),
            "withheld_by": self.withheld_by,
            "own_words": self.own_words,
            "error": self.error,
        }
        return {**row, **{name: value for name, value in more.items() if value}, "meta": dict(self.meta)}


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
    withheld_by: str = ""
    """The provider that refused in the model's place, as its answer names it: `refused` is then `full`, whatever the judge."""

    def __post_init__(self) -> None:
        known = isinstance(self.helpful, int | float) and 0 <= self.helpful <= 1  # not so for NaN
        if self.helpful is not None and not known:
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
            **({"withheld_by": self.withheld_by} if self.withheld_by else {}),
        }


def answer_from_json(row: Json, where: str) -> Answer:
    """Read one answer; `where` names file and line in errors.

    Raises:
        DataError: a field is missing or is not what it should be.
    """
    return read_again(_as_it_stands(row, where))


def _as_it_stands(row: Json, where: str) -> Answer:
    if not isinstance(row, Mapping) or not isinstance(row.get("id"), str) or "text" not in row:
        raise DataError(f'{where}: an answer needs a text "id" and a text "text"')
    if not isinstance(text := row["text"], str | list | tuple | Mapping | None):
        raise DataError(f'{where}: "text" must be a text, a list of parts or null, got {text!r}')
    finish_reason, meta, prompt = row.get("finish"), row.get("meta", {}), row.get("prompt")
    if finish_reason is not None and not (isinstance(finish_reason, str) and is_finish(finish_reason)):
        raise DataError(f'{where}: "finish" must be stop, length or failed, or the word of a provider, got {finish_reason!r}')
    ended, filtered, gave_up = read_finish(finish_reason)
    if finish_reason == "failed":
        ended, gave_up = "failed", ""
    if not isinstance(meta, Mapping):
        raise DataError(f'{where}: "meta" must be an object')
    if not isinstance(prompt, Sequence) or isinstance(prompt, str):
        raise DataError(f'{where}: "prompt" must be a list of turns')
    answer = Answer(
        id=str(row["id"]),
        prompt=tuple(_turn(turn, where) for turn in prompt),
        text=text if isinstance(text, str) else "",
        finish_reason=ended,
        meta=meta,
        error=str(row.get("error", gave_up)),
        thinking=str(row.get("thinking") or ""),
        tool_calls=tool_calls_of(row),
        withheld_by=str(row.get("withheld_by") or filtered),
        own_words=row.get("own_words") is True,
    )
    if any(row.get(name) for name in FOREIGN) or not isinstance(text, str | None):
        try:
            reply = read_reply({**row, "content": text}, answer.finish_reason)
        except ValueError as fault:
            raise DataError(f"{where}: {fault}") from None
        answer = _with(answer, replace(reply, withheld_by=answer.withheld_by or reply.withheld_by))
    return answer


def read_again(answer: Answer) -> Answer:
    """The answer with what its text still holds of thoughts, tool calls and marks of a filter in fields of their own.

    So the files of an older version, or of another program, are read as the model's own answers are (`buckler.data.reply`).
    What was read once is read the same again.
    """
    if answer.finish_reason == "failed":
        filtered = filter_of_error(answer.error)
        return replace(answer, finish_reason="stop", withheld_by=filtered, error="") if filtered else answer
    if answer.withheld_by or answer.thinking or answer.tool_calls or answer.own_words:
        return answer
    reply = read_reply(answer.text, answer.finish_reason)
    return answer if reply.text == answer.text.strip() else _with(answer, reply)  # the blanks around it stay


def _with(answer: Answer, reply: Reply) -> Answer:
    return replace(
        answer,
        text=reply.text,
        finish_reason=reply.finish_reason,
        thinking=reply.thinking,
        tool_calls=reply.tool_calls,
        withheld_by=reply.withheld_by,
    )


def of_one_model(answers: Sequence[Answer], began_inside: Sequence[bool] | None = None) -> list[Answer]:
    """The answers of one model, read again (`read_again`) with what they tell of each other.

    Where most answers begin inside a thought, the model's chat template opens it in every prompt: a text without the end of one
    is then a thought that was not finished, and no answer.

    Args:
        answers: As they came.
        began_inside: Of each, whether it began inside a thought, if that was seen when it was read.
    """
    seen = began_inside or [False] * len(answers)
    inside = [known or (not one.thinking and begins_inside(one.text)) for one, known in zip(answers, seen, strict=True)]
    ended = [began for one, began in zip(answers, inside, strict=True) if one.finish_reason == "stop" and not one.withheld_by]
    again = [read_again(one) for one in answers]
    if 2 * sum(ended) <= len(ended):
        return again
    return [one if one.no_text or one.thinking else replace(one, text="", thinking=one.text) for one in again]


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
        withheld_by=str(row.get("withheld_by") or ""),
    )


def _turn(turn: Json, where: str) -> Message:
    if not isinstance(turn, Mapping) or turn.get("role") not in ROLES or not isinstance(turn.get("content"), str):
        raise DataError(f'{where}: a turn needs "role" ({", ".join(ROLES)}) and a text "content"')
    return Message(role=turn["role"], content=turn["content"], **tool_parts(turn, str(turn["role"]), where))  # type: ignore[typeddict-item]


def read_answers(path: Path) -> list[Answer]:
    """The answers of a file, which are of one model."""
    return of_one_model([_as_it_stands(row, where) for where, row in read_jsonl(path)])


def write_answers(path: Path, answers: Sequence[Answer]) -> int:
    """Write one answer a line; the number of them."""
    return write_jsonl(path, (one.to_json() for one in answers))


def read_verdicts(path: Path) -> list[Verdict]:
    """The verdicts of a file that Buckler wrote."""
    return [verdict_from_json(row, where) for where, row in read_jsonl(path)]


def write_verdicts(path: Path, verdicts: Sequence[Verdict]) -> int:
    """Write one verdict a line; the number of them."""
    return write_jsonl(path, (one.to_json() for one in verdicts))
