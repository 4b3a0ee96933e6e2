"""What a model or a server returned, read in one place: text, thinking, tool calls, how it ended, who withheld it.

`read_reply` reads a message as OpenAI-compatible servers send it and as files keep it; a text alone is the simplest message.
Local, served and saved answers all pass here, so that they get the same verdicts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from buckler.data.jsonl import Json, whole_characters
from buckler.data.thinking import begins_inside, read_text
from buckler.data.tool_calls import tool_calls_of

FinishReason: TypeAlias = Literal["stop", "length", "failed"]

REFUSAL = "refusal"
"""`withheld_by` of a refusal that came in a field of its own (`message.refusal`, a part of type `refusal`)."""
_FILTERS = re.compile(
    r"filter|safety|refusal|moderat|blocked|blocklist|prohibit|sensitive|toxic|guardrail|recitation|spii|policy|flagged",
    re.IGNORECASE,
)
_CUT = re.compile(r"length|max|token.?limit|context|incomplete|truncat", re.IGNORECASE)
_GAVE_UP = re.compile(r"error|abort|cancel|fail|malformed|overload|timeout|insufficient|network|unexpected|other", re.IGNORECASE)
"""Words of finish reasons: of a filter, of a limit, and of a server that did not finish. All others are the model's own end."""

_ENDED = re.compile(r"stop|end|eos|tool|function|complete|finish|done|return", re.IGNORECASE)
_FILTER_ERROR = re.compile(
    r"content[_ -]?filter|content[_ -]?policy|content management policy|responsible ?ai|content exists risk"
    r"|data_?inspection_?failed|inappropriate content|(?:violat|flagged|rejected|blocked)\w*(?: \w+){0,8} "
    r"(?:moderation|safety|usage polic|content polic|guardrail|prohibited)|(?:moderation|safety) (?:system|filter|polic|check)"
    r"|guardrail_?intervened|prohibited_content|requires moderation|prompt (?:was )?(?:blocked|flagged)"
    r"|(?:input|prompt|output|content|request) (?:was|has been) flagged|flagged by (?:the )?moderation",
    re.IGNORECASE,
)
"""What a server says where a filter, and not a fault, stands between the request and the model."""
_WHAT = r"(?:content|response|reply|output|completion|answer|message|text|prompt|request|input)"
_DONE = r"(?:filtered|blocked|withheld|moderated|suppressed)"
_WHOSE = (
    r"(?:(?:content|safety|moderation|usage)[ -](?:\w+ )?"
    r"(?:filter|polic|management|moderation|guideline|system|check|classifier)"
    r"|responsible ?ai|guardrail|moderation (?:api|endpoint)|openai|azure|google|anthropic"
    r"|(?:our|the) (?:provider|filter|policy))"
)
_MARKER = re.compile(
    # [CONTENT_FILTERED], <response blocked by safety filter>, (message withheld), **Content filtered**
    rf"[\[<({{*_]{{1,3}}\s*(?:{_WHAT}[\s_-]+(?:(?:was|is|has been)\s+)?(?:{_DONE}|removed|redacted|censored)"
    rf"(?:\s+(?:by|due to)\b[^\n\])>}}]{{0,120}})?"
    r"|content[\s_-]*filter|(?-i:FILTERED|BLOCKED|WITHHELD|MODERATED))\s*[\])>}*_.]{1,4}"
    rf"|(?:content|safety|response|output|prompt)_(?:{_DONE}|filter|policy_violation)"
    r"|(?-i:\$MODERATION\$)[^\n]{0,200}"
    # This response was blocked. The output was filtered due to our content policy.
    rf"|(?:the|this|your) (?:generated )?(?:response|content|output|completion|text) (?:was|has been) {_DONE}\W*"
    rf"|(?:the |this |your |my )?(?:generated )?{_WHAT} (?:was|is|has been) {_DONE} "
    rf"(?:by|due to|because of|for|as)\b[^\n]*\b{_WHOSE}[^\n]*",
    re.IGNORECASE,
)
"""A text that only says that the answer was filtered: `[CONTENT_FILTERED]`, "The response was filtered due to ... policy"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What was returned, each part in its own field."""

    text: str
    """What a person is shown."""
    thinking: str = ""
    tool_calls: tuple[Json, ...] = ()
    """Each as `{"name": ..., "arguments": ...}`."""
    finish_reason: FinishReason = "stop"
    withheld_by: str = ""
    """The provider's own word for its refusal or filter (`content_filter`, `SAFETY`, `refusal`); empty: it withheld nothing."""
    error: str = ""
    """Why no answer came (`failed`)."""
    began_inside: bool = False
    """Whether the text began inside a thought that the chat template had opened, which it does not show by itself."""


def read_reply(message: Json, finish_reason: Json = "stop", *, begun: str = "", own_words: bool = False) -> Reply:
    """Read a message: a text, a list of parts, null, or an object with `content` and whatever stands beside it.

    Args:
        message: The message itself, unchanged.
        finish_reason: How it ended, in the provider's words.
        begun: What the prompt has already written of the thought (`thinking.opened_thought`).
        own_words: Whether no provider stands between: what reads like the marker of a filter is then the model's own text.

    Raises:
        ValueError: it is no message; the text says what it is.
    """
    message = whole_characters(message)  # a server that cuts within an emoji sends half of it
    fields: Mapping[str, Json] = message if isinstance(message, Mapping) else {"content": message}
    parts = _Parts(fields.get("content"))
    named = fields.get("finish_reason") if finish_reason is None else finish_reason
    reason, withheld_by, error = read_finish(named)
    thinking = _distinct([*_thoughts(fields), *parts.thoughts])
    # With the thought in a field of its own the text cannot begin inside one; some servers repeat it in front of the text.
    written = "".join(parts.texts)
    before = "<think>" if written.lstrip().startswith("</think>") else "<think></think>"  # some leave the end of it in the text
    spoken = read_text(written, begun=before if thinking else begun, cut=reason == "length")
    refusal = "\n\n".join(filter(None, [_text(fields.get("refusal")), *parts.refusals])).strip()
    text = spoken.text or refusal
    if not withheld_by and (refusal and not spoken.text):
        withheld_by = REFUSAL
    if not withheld_by and not own_words and text and is_marker(text):
        withheld_by, text = text, ""
    tool_calls = (*tool_calls_of(fields), *parts.tool_calls, *spoken.tool_calls)
    return Reply(
        text=text,
        thinking="\n\n".join(_distinct([*thinking, spoken.thinking])),
        tool_calls=tool_calls,
        finish_reason=reason,
        withheld_by=withheld_by,
        error=error,
        began_inside=not thinking and not begun and begins_inside(written),
    )


class Returned(Protocol):
    """What a model returned, whatever else is known of it: a completion, or the answer to a probe."""

    @property
    def text(self) -> str: ...
    @property
    def thinking(self) -> str: ...
    @property
    def tool_calls(self) -> Sequence[Json]: ...
    @property
    def finish_reason(self) -> FinishReason: ...
    @property
    def withheld_by(self) -> str: ...
    @property
    def error(self) -> str: ...


def no_text(one: Returned) -> str:
    """Why there is no text of the model's that could be read; "" if there is one, or if it is empty and nothing else."""
    if one.finish_reason == "failed":
        return f"no answer came: {one.error}"
    if one.withheld_by:
        return f"withheld by the provider ({_one_line(one.withheld_by)})"
    if one.text.strip():
        return ""
    if calls := one.tool_calls:
        names = ", ".join(dict.fromkeys(str(call["name"]) for call in calls if isinstance(call, Mapping) and call.get("name")))
        return f"no text: the answer is {len(calls)} tool call{'s' * (len(calls) > 1)}{f' ({names})' if names else ''}"
    if one.thinking:
        cut = "cut off at the token limit" if one.finish_reason == "length" else "it ended"
        return f"no answer yet: {cut} within its thinking"
    return ""


def _one_line(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= 80 else f"{words[:77]}..."


def read_finish(reason: Json) -> tuple[FinishReason, str, str]:
    """A finish reason in a provider's words: ours, the filter's name if it names one, and why it failed if it did."""
    word = str(reason or "stop")
    if _FILTERS.search(word):
        return "stop", word, ""
    if _GAVE_UP.search(word):
        return "failed", "", f"the server did not finish the answer ({word})"
    return ("length" if _CUT.search(word) else "stop"), "", ""


def is_finish(word: str) -> bool:
    """Whether a finish reason is one that some provider gives."""
    return any(known.search(word) for known in (_ENDED, _FILTERS, _GAVE_UP, _CUT))


def filter_of_error(body: Json) -> str:
    """The name of the filter that an error speaks of, in its own words; "" where the error is no filter's.

    Args:
        body: The body of a reply that is an error, or its message.
    """
    words = list(_words(body))
    if not any(_FILTER_ERROR.search(word) for word in words):
        return ""
    codes = [word for word in words if re.fullmatch(r"[A-Za-z_]{4,40}", word) and (_FILTERS.search(word) or "olicy" in word)]
    known = next((match.group() for word in words if (match := _FILTER_ERROR.search(word))), "")
    return codes[0] if codes else known


def is_marker(text: str) -> bool:
    """Whether a text says that the answer was filtered, and nothing else."""
    bare = text.strip()
    return len(bare) <= 400 and _MARKER.fullmatch(bare) is not None


class _Parts:
    """Content as text, null, one part or a list of parts, sorted by what the parts are."""

    def __init__(self, content: Json) -> None:
        self.texts: list[str] = []
        self.thoughts: list[str] = []
        self.refusals: list[str] = []
        self.tool_calls: list[Json] = []
        if content is None or isinstance(content, str):
            self.texts.append(content or "")
        elif isinstance(content, Mapping):
            self._take(content)
        elif isinstance(content, Sequence):
            for part in content:
                self._take(part)
        else:
            raise ValueError(f"the content is {content!r}, which is no text and no list of parts")

    def _take(self, part: Json) -> None:
        if part is None or isinstance(part, str):
            self.texts.append(part or "")
            return
        if not isinstance(part, Mapping):
            raise ValueError(f"a part of the content is {part!r}, which is no text")
        kind = str(part.get("type", "text"))
        if "redacted" in kind:
            return  # a thought that the provider keeps to itself
        if part.get("thought") is True or re.search("think|reason|thought", kind):
            self.thoughts.append(_text(part))
        elif "refusal" in kind or "refusal" in part:
            self.refusals.append(_text(part.get("refusal", part.get("text"))))
        elif re.search("tool|function", kind) or "functionCall" in part:
            self.tool_calls += tool_calls_of({"tool_calls": [part.get("functionCall", part)]})
        elif "text" in part or "content" in part:
            self.texts.append(_text(part.get("text", part.get("content"))))
        else:
            raise ValueError(f"a part of the content is of type {kind!r}, which holds no text")


def _thoughts(fields: Mapping[str, Json]) -> list[str]:
    """What stands in the fields where servers put thoughts."""
    names = ("reasoning_content", "reasoning", "thinking", "thinking_blocks", "reasoning_details", "thought")
    return [_text(fields.get(name)) for name in names]


def _distinct(texts: Iterable[str]) -> list[str]:
    """Each text once: some servers send one thought in two fields."""
    return list(dict.fromkeys(text.strip() for text in texts if text.strip()))


def _text(value: Json) -> str:
    """The text in a field: a text, a list of them, or objects that hold it under one of the usual names."""
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        names = ("text", "thinking", "reasoning", "content", "summary", "value", "refusal")
        return next((found for name in names if (found := _text(value.get(name)))), "")
    if isinstance(value, Sequence):
        return "".join(map(_text, value))
    return ""


def _words(body: Json) -> Iterable[str]:
    """Every text in a JSON value; a name beside `filtered: true`, and one that gives the reason of a block, count as one."""
    if isinstance(body, str):
        yield body
    elif isinstance(body, Mapping):
        for name, value in body.items():
            if isinstance(value, Mapping) and value.get("filtered") is True:
                yield "content_filter"
            if isinstance(value, str | Mapping | list | tuple):
                yield from _words(value)
            if value and re.search("flagged|filtered" if value is True else "block_?reason", name, re.IGNORECASE):
                yield "content_filter"
    elif isinstance(body, Sequence):
        for one in body:
            yield from _words(one)
