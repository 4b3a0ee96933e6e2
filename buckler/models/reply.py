"""What a backend returned as a `Completion`: a generated text, or the reply of an OpenAI-compatible server.

Both pass through `buckler.data.reply.read_reply`, which puts thinking, tool calls and refusals into fields of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from buckler.data import FinishReason, Json
from buckler.data.reply import filter_of_error, read_finish, read_reply
from buckler.models.protocol import Completion


def completion_of_text(
    text: str, finish_reason: FinishReason, *, tokens: int, prompt_tokens: int = 0, begun: str = ""
) -> Completion:
    """What a model generated.

    Args:
        text: All of it, control tokens of thoughts and tool calls included.
        finish_reason: How it ended.
        tokens: How many it generated.
        prompt_tokens: How many it was given.
        begun: What its prompt has already written of the thought (`data.thinking.opened_thought`).
    """
    reply = read_reply(text, finish_reason, begun=begun)
    return Completion(
        text=reply.text,
        finish_reason=finish_reason,
        tokens=tokens,
        prompt_tokens=prompt_tokens,
        thinking=reply.thinking,
        tool_calls=reply.tool_calls,
        withheld_by=reply.withheld_by,
    )


def completion_of_reply(reply: Mapping[str, Json]) -> Completion:
    """What an OpenAI-compatible server replied: the first of its `choices`, with the tokens it counts.

    A filter's refusal is an answer (`withheld_by`), also where it came as an error or without a choice. `failed`, with the
    server's word for it in `error`: the server gave up on the answer, and may be asked again.

    Raises:
        ValueError: there is no answer in it; the text says what there is instead.
    """
    choices, usage = reply.get("choices"), reply.get("usage")
    counted = usage if isinstance(usage, Mapping) else {}
    first = choices[0] if isinstance(choices, list | tuple) and choices else None
    if not isinstance(first, Mapping):
        if named := filter_of_error(reply):
            return replace(withheld(named), prompt_tokens=_count(counted.get("prompt_tokens")))
        error = reply.get("error")
        raise ValueError(f"no choice in the reply{f', but an error: {_short(error)}' if error else f': {_short(reply)}'}")
    completion = completion_of_choice(first)
    tokens = _count(counted.get("completion_tokens")) or completion.tokens
    return replace(completion, tokens=tokens, prompt_tokens=_count(counted.get("prompt_tokens")))


def completion_of_choice(choice: Mapping[str, Json]) -> Completion:
    """One choice of a reply: its `message` (`text` of the older API) and its `finish_reason`.

    Raises:
        ValueError: it holds no message, or one that cannot be read.
    """
    if error := choice.get("error"):
        if named := filter_of_error(error):
            return withheld(named)
        return Completion(
            text="", finish_reason="failed", tokens=0, error=f"the server did not finish the answer ({_short(error)})"
        )
    reason = choice.get("finish_reason")
    _, filtered, _ = read_finish(choice.get("native_finish_reason"))
    if "message" not in choice and "text" not in choice and not filtered and not read_finish(reason)[1]:
        raise ValueError(f"no message in the choice: {_short(choice)}")
    reply = read_reply(choice.get("message", choice.get("text")), reason)
    withheld_by = reply.withheld_by or filtered
    if not withheld_by and not reply.text and not reply.tool_calls:
        withheld_by = filter_of_error(choice.get("content_filter_results"))
    return Completion(
        text=reply.text,
        finish_reason=reply.finish_reason,
        tokens=len(f"{reply.thinking} {reply.text}".split()),
        error=reply.error,
        thinking=reply.thinking,
        tool_calls=reply.tool_calls,
        withheld_by=withheld_by,
    )


def withheld(by: str) -> Completion:
    """An answer that a provider's filter withheld, in the provider's word for it."""
    return Completion(text="", finish_reason="stop", tokens=0, withheld_by=by)


def _count(value: Json) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def _short(value: Json) -> str:
    text = value.get("message") if isinstance(value, Mapping) else value
    words = " ".join(str(text or value).split())
    return words if len(words) <= 200 else f"{words[:197]}..."
