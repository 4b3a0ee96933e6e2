"""Calls of tools, in one form: `{"name": ..., "arguments": ...}`, with `"raw"` where a call could not be parsed.

Read from what a model wrote, in the forms of vLLM's tool parsers and of published chat templates, and from a message's fields.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from typing_extensions import TypedDict  # that of Python 3.11 cannot be checked by pydantic

from buckler.data.jsonl import Json
from buckler.data.reading import bounded_json, json_value
from buckler.errors import DataError

_TOOL_CALLS = [
    re.compile(pattern, re.DOTALL)
    for pattern in (
        r"<\uff5ctool\u2581calls\u2581begin\uff5c>(.*?)(?:<\uff5ctool\u2581calls\u2581end\uff5c>|\Z)",  # DeepSeek
        r"<\uff5cDSML\uff5cfunction_calls>(.*?)(?:</\uff5cDSML\uff5cfunction_calls>|\Z)",  # DeepSeek V3.2
        r"<\|tool_calls_section_begin\|>(.*?)(?:<\|tool_calls_section_end\|>|\Z)",  # Kimi K2
        r"<\|tool_call_start\|>(.*?)(?:<\|tool_call_end\|>|\Z)",  # LFM2
        r"<\|tool_call>(.*?)(?:<tool_call\|>|\Z)",  # Gemma 4
        r"<\|tools_prefix\|>(.*?)(?:<\|tools_suffix\|>|\Z)",  # Apertus
        r"<\|START_ACTION\|>(.*?)(?:<\|END_ACTION\|>|\Z)",  # Command
        r"<\|tool_call\|>(.*?)(?:<\|/tool_call\|>|<\|tool_call\|>|\Z)",  # Granite, Phi-4-mini
        r"<\|python_tag\|>(.*?)(?:<\|eom_id\|>|\Z)",  # Llama 3
        r"\[unused11\](.*?)(?:\[unused12\]|\Z)",  # openPangu
        r"<\|tool_call:start\|>(.*?)(?:<\|tool_call:end\|>|\Z)",  # Solar Open 2
        r"<\|plamo:begin_tool_requests:plamo\|>(.*?)(?:<\|plamo:end_tool_requests:plamo\|>|\Z)",
        r"<\|open\|>tools<\|sep\|>(.*?)(?:<\|close\|>tools<\|sep\|>|\Z)",  # Kimi K3
        r"\[TOOL_CALLS\](.*?)(?=\[TOOL_CALLS\]|\Z)",  # Mistral
        # Hermes, Qwen, GLM, MiniMax, Seed, ...
        r"<((?:\w+[:_|])?(?:tool_calls?|function_?calls?)(?::\w+)?)>(?P<body>.*?)(?:</\1>|\Z)",
        r"(<function=[^>]+>.*?)(?:</function>|\Z)",  # Llama 3.1
    )
]
_NAMES = (r"<function=([^>]+)>", r"name=\"([\w.\-]+)\"", r"functions\.([\w.\-]+)", r"call:([\w.\-]+)", r"^[\s\[]*([\w.\-]+)")
"""Where a call that is no JSON names its tool."""
_CALL = re.compile(r"\s*(?:[\[{<(]|call:|functions\.)|\n?\w[\w.\-]*\s*(?:[\n(\[{<]|\Z)")
"""How a call begins; a sentence about its mark goes on otherwise."""
_LETTERS = tuple(f"<{letter}" for letter in "abcdefghijklmnopqrstuvwxyz")


class ToolParts(TypedDict, total=False):
    """What a turn of a conversation holds of tools."""

    tool_calls: list[Any]
    """Calls in the assistant's turn, as chat templates take them: `{"type": "function", "function": {...}}`."""
    name: str
    """Of the tool whose result a tool turn holds, where the row names it."""
    tool_call_id: str
    tools: list[Any]
    """With the first turn that is no system's: the JSON schemas of the tools that the conversation may call."""


def tool_parts(turn: Mapping[str, Json], role: str, where: str) -> ToolParts:
    """What a turn holds of tools: its calls in the form of chat templates, the name and the id of a result.

    Raises:
        DataError: calls that are no calls, or calls in a turn that is not the assistant's.
    """
    parts: ToolParts = {}
    calls: list[Json] = []
    listed = turn.get("tool_calls")
    for at, call in enumerate(tool_calls_of(turn)):
        fits = isinstance(call, Mapping) and call.get("name") and isinstance(call.get("arguments"), Mapping)
        if role != "assistant" or not fits:
            raise DataError(
                f"{where}: tool calls must be the assistant's, each with a name and an object of arguments, got {shorten(turn)}"
            )
        one = listed[at] if isinstance(listed, list) and at < len(listed) else None
        own = {"id": str(one["id"])} if isinstance(one, Mapping) and one.get("id") else {}
        calls.append({**own, "type": "function", "function": call})
    if calls:
        parts["tool_calls"] = calls
    if role == "tool" and turn.get("name"):
        parts["name"] = str(turn["name"])
    if role == "tool" and turn.get("tool_call_id"):
        parts["tool_call_id"] = str(turn["tool_call_id"])
    if tools := tools_of(turn.get("tools"), where):
        parts["tools"] = tools
    return parts


def tools_of(value: Json, where: str) -> list[Json]:
    """The tools that a row declares, as chat templates take them: a list of JSON schemas, or the same as a text.

    Raises:
        DataError: it is neither.
    """
    try:
        tools = json_value(value)[0] if isinstance(value, str) and value.strip() else value or []
    except ValueError:
        tools = None
    schemas = (
        [one.get("function", one) if isinstance(one, Mapping) else None for one in tools] if isinstance(tools, list) else [None]
    )
    if not all(isinstance(one, Mapping) and one.get("name") for one in schemas):
        raise DataError(f"{where}: 'tools' must be a list of JSON schemas with names, got {shorten(value)}; correct or remove it")
    return [{"type": "function", "function": one} for one in schemas]


def with_text_arguments(calls: Sequence[Json]) -> list[Json]:
    """Calls as servers and trainers of theirs take them: the arguments are a text."""
    return [
        {**call, "function": {**function, "arguments": json.dumps(function.get("arguments"), ensure_ascii=False)}}
        for call in calls
        if isinstance(call, Mapping) and isinstance(function := call.get("function"), Mapping)
    ]


def shorten(value: Json) -> str:
    """A value as an error message shows it."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else text[:77] + "..."


def without_tool_calls(text: str) -> tuple[str, list[Json]]:
    """A text without the calls in it, and these; what stands in code stays."""
    calls: list[Json] = []

    def take(match: re.Match[str]) -> str:
        body = match.groupdict().get("body", match[1])
        spoken_of = match.group().startswith(("[TOOL", *_LETTERS)) and not _CALL.match(body)
        if spoken_of or in_code(match.string, 0, match.start(), match.start() + 1, True):
            return match.group()
        calls.extend(_calls(body))
        return ""

    for pattern in _TOOL_CALLS:
        text = pattern.sub(take, text)
    return text, calls


def _calls(body: str) -> list[Json]:
    """The calls in what stands between the marks: JSON of one or several, or a form of its own."""
    try:
        value = bounded_json(body)
    except ValueError:
        found = (re.search(pattern, body) for pattern in _NAMES)
        name = next((match[1] for match in found if match), "")
        return [{"name": name, "raw": body.strip()}]
    return [call for one in (value if isinstance(value, list) else [value]) for call in _parsed(one)]


def _parsed(one: Json) -> list[Json]:
    if not isinstance(one, dict):
        return [{"name": "", "raw": json.dumps(one)}]
    return [function_call(str(one.get("name", one.get("tool_name", ""))), one.get("arguments", one.get("parameters", {})))]


def function_call(name: str, arguments: Json) -> Json:
    """A tool call in our form; arguments that are JSON as a text are parsed."""
    if not isinstance(arguments, str):
        return {"name": name, "arguments": {} if arguments is None else arguments}
    if not arguments.strip():
        return {"name": name, "arguments": {}}
    try:
        parsed = bounded_json(arguments)
    except ValueError:
        parsed = arguments.strip()
    return {"name": name, "arguments": parsed}


def tool_calls_of(fields: Mapping[str, Json]) -> tuple[Json, ...]:
    """The tool calls in a message's fields, in our form: those of servers, and our own."""
    calls = fields.get("tool_calls") or []
    listed: list[Json] = list(calls) if isinstance(calls, Sequence) and not isinstance(calls, str) else [calls]
    if fields.get("function_call"):
        listed.append(fields["function_call"])
    found: list[Json] = []
    for call in listed:
        function = call.get("function", call) if isinstance(call, Mapping) else {"name": str(call)}
        about = function if isinstance(function, Mapping) else {"name": str(function)}
        if "raw" in about:
            found.append(dict(about))
        else:
            arguments = next((about[name] for name in ("arguments", "input", "args", "parameters") if name in about), {})
            found.append(function_call(str(about.get("name", "")), arguments))
    return tuple(found)


def in_code(text: str, start: int, at: int, end: int, unclosed: bool = False) -> bool:
    """Whether what stands from `at` to `end` is in code: within a fence of three backticks, or a pair of them in its line.

    `unclosed`: also where the fence does not end.
    """
    before, after = text[start:at], text[end:]
    if before.count("```") % 2 and (after.count("```") % 2 or (unclosed and "```" not in after)):
        return True
    ahead, behind = (line.replace("```", "") for line in (before.rpartition("\n")[2], after.partition("\n")[0]))
    return ahead.count("`") % 2 == 1 and "`" in behind
