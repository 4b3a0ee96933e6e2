"""What a backend returned as a `Completion`: a generated text, or the reply of an OpenAI-compatible server; what an error says.

Both pass through `buckler.data.reply.read_reply`, which puts thinking, tool calls and refusals into fields of their own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from buckler.data import FinishReason, Json, bounded_json
from buckler.data.reply import filter_of_error, is_marker, read_finish, read_reply
from buckler.data.thinking import is_mark, opened_thought
from buckler.models.dialect import ErrorDetails
from buckler.models.protocol import Completion

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_ACCOUNT = re.compile(r"\b(?:account|organi[sz]ation|project|key|subscription|permission|region|country)\b", re.IGNORECASE)
LONGEST_OPENING = 24
"""Tokens at the end of a prompt in which the beginning of a thought is looked for."""


def completion_of_text(
    text: str, finish_reason: FinishReason, *, tokens: int, prompt_tokens: int = 0, begun: str = "", own_words: bool = False
) -> Completion:
    """What a model generated.

    Args:
        text: All of it, control tokens of thoughts and tool calls included.
        finish_reason: How it ended.
        tokens: How many it generated.
        prompt_tokens: How many it was given.
        begun: What its prompt has already written of the thought (`data.thinking.opened_thought`).
        own_words: Whether the model runs here, so that no provider can have filtered its answer.
    """
    reply = read_reply(text, finish_reason, begun=begun, own_words=own_words)
    return Completion(
        text=reply.text,
        finish_reason=finish_reason,
        tokens=tokens,
        prompt_tokens=prompt_tokens,
        thinking=reply.thinking,
        tool_calls=reply.tool_calls,
        withheld_by=reply.withheld_by,
        began_inside=reply.began_inside,
        own_words=own_words and is_marker(reply.text),
    )


class GeneratedReader:
    """Reads what a transformers model generated.

    The marks of thoughts and tool calls are control tokens in some vocabularies (Magistral, gpt-oss, Gemma 4), so they are
    decoded for the reading; no control token stays in the text.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        added = {str(one.content): at for at, one in tokenizer.added_tokens_decoder.items() if one.special}
        named = dict(zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True))
        specials = {str(token): at for token, at in {**added, **named}.items()}
        self._marks = {at for token, at in specials.items() if is_mark(token)}
        self._control = re.compile("|".join(re.escape(one) for one in sorted(specials, key=len, reverse=True)) or r"(?!)")

    def read(self, ids: Sequence[int], finish_reason: FinishReason, prompt: Sequence[int]) -> Completion:
        """The completion in `ids`, up to the one that ended them and without it, after the ids of `prompt`."""
        begun = opened_thought(self.tokenizer.decode(list(prompt[-LONGEST_OPENING:])))
        plain = self.tokenizer.decode(ids, skip_special_tokens=True)
        whole = plain if self._marks.isdisjoint(ids) else self.tokenizer.decode(ids, skip_special_tokens=False)
        counts = {"tokens": len(ids), "prompt_tokens": len(prompt)}
        completion = completion_of_text(whole, finish_reason, begun=begun, own_words=True, **counts)
        if whole is plain:
            return completion
        if completion.text == whole.strip():  # nothing was taken apart
            return replace(completion, text=plain.strip(), own_words=is_marker(plain))
        return replace(completion, text=self._control.sub("", completion.text).strip())


def read_again(completion: Completion) -> Completion:
    """A completion of a backend that puts all that its model wrote into `text`; one that was read before stays as it is."""
    if completion.error or completion.thinking or completion.tool_calls or completion.withheld_by or completion.own_words:
        return completion
    one = completion_of_text(completion.text, completion.finish_reason, tokens=completion.tokens)
    return completion if one.text == completion.text.strip() else replace(one, prompt_tokens=completion.prompt_tokens)


def completion_of_reply(reply: Json) -> Completion:
    """What an OpenAI-compatible server replied: the first of its `choices`, with the tokens it counts.

    A filter's refusal is an answer (`withheld_by`), also where it came as an error or without a choice. `failed`, with the
    server's word for it in `error`: the server gave up on the answer, and may be asked again.

    Raises:
        ValueError: there is no answer in it; the text says what there is instead.
    """
    if not isinstance(reply, Mapping):
        raise ValueError(f"the reply is no JSON object: {_short(reply)}")
    choices, usage = reply.get("choices"), reply.get("usage")
    counted = usage if isinstance(usage, Mapping) else {}
    first = choices[0] if isinstance(choices, list | tuple) and choices else None
    if not isinstance(first, Mapping):
        if named := filter_of_error(reply):
            return replace(withheld(named), prompt_tokens=_count(counted.get("prompt_tokens")))
        error = reply.get("error")
        raise ValueError(f"no choice in the reply{f', but an error: {_short(error)}' if error else f': {_short(reply)}'}")
    error = reply.get("error")  # beside a choice: the server broke amid the answer
    completion = completion_of_choice({**first, "error": error} if error and not first.get("error") else first)
    details = counted.get("completion_tokens_details")
    hidden = _count(details.get("reasoning_tokens")) if isinstance(details, Mapping) else 0
    return replace(
        completion,
        tokens=_count(counted.get("completion_tokens")) or completion.tokens,
        prompt_tokens=_count(counted.get("prompt_tokens")),
        thinking=completion.thinking or (f"({hidden} tokens of thinking that the provider does not show)" if hidden else ""),
    )


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
        began_inside=reply.began_inside,
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


def read_error(body: Json) -> ErrorDetails:
    """What the body of a reply says about an error, in the shapes servers use; without words if it says nothing."""
    read = _details(body)
    try:
        text = json.dumps(_without_echo(body), ensure_ascii=False)
    except (TypeError, ValueError):
        text = read.words
    named = filter_of_error(_without_echo(body))
    if not named and re.search(r'"flagged_input"|\b(?:input|prompt|request|content)s? (?:was|were|is|has been) flagged', text):
        named = "moderation"
    whose = bool(_ACCOUNT.search(read.words)) and not re.search(r"\b(?:input|prompt|content|response|output)", read.words)
    return replace(read, text=text[:20_000], filtered_by="" if whose else named)


def is_error(reply: Json) -> bool:
    """Whether a reply is an error, whatever its HTTP status."""
    if not isinstance(reply, Mapping) or reply.get("choices"):
        return False
    named = "error" in (reply.get("object"), reply.get("type")) or reply.get("success") is False
    return bool(reply.get("error")) or named or (not reply.keys() & {"data", "tokens"} and read_error(reply).status > 0)


def _details(body: Json) -> ErrorDetails:
    if isinstance(body, str):
        return ErrorDetails(words="" if body.lstrip().startswith("<") else body.strip())  # a page is made for people
    if isinstance(body, list | tuple):
        parts = [_details(one) for one in body]
        words = "; ".join(dict.fromkeys(part.words for part in parts if part.words))
        status = next((part.status for part in parts if part.status), 0)
        return ErrorDetails(words=words, params=tuple(name for part in parts for name in part.params), status=status)
    if not isinstance(body, Mapping):
        return ErrorDetails()
    names = ("error", "errors", "message", "msg", "detail", "title", "error_msg", "status_msg", "base_resp")
    inner = next((found for name in names if (found := _details(body.get(name))).words), ErrorDetails())
    words, params = inner.words, inner.params
    metadata = body.get("metadata")
    if isinstance(metadata, Mapping) and (raw := metadata.get("raw")):  # OpenRouter hands on what the provider wrote
        within = _details(_parsed(raw))
        words, params = ": ".join(dict.fromkeys(filter(None, [words, within.words]))), params or within.params
    place = body.get("loc") or body.get("param")
    path = [str(part) for part in (place if isinstance(place, list | tuple) else str(place or "").split("."))]
    own = (next((part for part in reversed(path) if not part.isdigit()), ""),)
    if own[0]:
        params = (*own, *params)
        words = words if own[0] in words else f"{own[0]}: {words}"
    codes = [str(body.get(name, "")) for name in ("code", "status", "status_code")]
    status = next((int(code) for code in codes if re.fullmatch(r"[45]\d\d", code)), inner.status)
    return ErrorDetails(words=words, params=params, status=status)


def _parsed(raw: Json) -> Json:
    try:
        return bounded_json(raw) if isinstance(raw, str) else raw
    except ValueError:
        return raw


def _without_echo(body: Json) -> Json:
    """The body without the request that some servers send back in it (FastAPI's `input`)."""
    if isinstance(body, Mapping):
        return {name: _without_echo(value) for name, value in body.items() if name not in ("input", "ctx", "messages")}
    return [_without_echo(one) for one in body] if isinstance(body, list | tuple) else body
