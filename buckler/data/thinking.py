"""What a model wrote, as one text, taken apart: its thinking, its tool calls, and the answer that a person would be shown.

`read_text` knows the forms that open models use. `FORMS` has one entry a form, so a new one is one line. The forms are those of
the reasoning and tool parsers of vLLM and of the chat templates that are published with the models.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from buckler.data.jsonl import Json, bounded_json

_TAG = r"(?:seed:|ant)?(?:think|thinking|thoughts?|reasoning|scratchpad)"
FORMS: tuple[tuple[str, str], ...] = (
    # <think> of DeepSeek, Qwen, GLM, Kimi, Nemotron, Hunyuan, ERNIE, ...; <seed:think> of Seed; <reasoning> of Reka; and others
    (rf"<(?P<tag>{_TAG})>", rf"</{_TAG}>"),
    (r"\[THINK\]", r"\[/THINK\]"),  # Magistral
    ("\u25c1think\u25b7", "\u25c1/think\u25b7"),  # Kimi-VL
    (r"<\|channel>(?:thought|thinking|analysis)?(?=\s|<channel\|>)", r"<channel\|>"),  # Gemma 4
    (r"<unused94>(?:thought)?", r"<unused95>"),  # MedGemma
    (r"<\|START_THINKING\|>", r"<\|END_THINKING\|>"),  # Command A Reasoning
    (r"<\|begin_of_thought\|>", r"<\|end_of_thought\|>"),  # OpenThinker
    (r"<\|inner_prefix\|>", r"<\|inner_suffix\|>"),  # Apertus
    (r"<\|think(?:ing)?\|>", r"<\|/think(?:ing)?\|>"),
    (r"(?:Here is|Here's) my thought process:", r"(?:Here is|Here's) my response:"),  # Granite 3.2
)
"""Where a thought begins and where it ends, as patterns. Some chat templates write the beginning themselves."""
_OPENING = "|".join(f"(?:{opening.replace('?P<tag>', '?:')})" for opening, _ in FORMS)
_CLOSING = re.compile("|".join(f"(?:{closing})" for _, closing in FORMS[:-1]), re.IGNORECASE)  # Granite's are plain words
_OPENS = [(re.compile(opening, re.IGNORECASE), re.compile(closing, re.IGNORECASE)) for opening, closing in FORMS]
_AT_END = re.compile(rf"(?:{_OPENING}|<\|channel\|>analysis<\|message\|>)\s*\Z", re.IGNORECASE)
_AT_LINE = re.compile(rf"^[ \t]*(?=<(?:seed:)?think(?:ing)?>|(?!<\w+>){_OPENING})", re.IGNORECASE | re.MULTILINE)

# gpt-oss: messages on the channels analysis (thought), commentary (tool calls) and final.
_HARMONY = re.compile(
    r"(?:<\|start\|>(?P<role>[^<]*?))?<\|channel\|>(?P<channel>\w+)(?P<to>[^<]*)(?:<\|constrain\|>[^<]*)?<\|message\|>"
    r"(?P<text>.*?)(?P<end><\|end\|>|<\|return\|>|<\|call\|>|(?=<\|start\|>)|(?=<\|channel\|>)|\Z)",
    re.DOTALL,
)
# The same with its control tokens left out by a tokenizer: `analysisThe user asks ...assistantfinalNo.`
_BARE_HARMONY = re.compile(r"\Aanalysis(?=[A-Z\"'])(?P<thought>.*?)(?:assistantfinal(?P<text>.*))?\Z", re.DOTALL)

_WRAPPINGS = [
    re.compile(rf"\A\s*{opening}(.*?)(?:{closing}(.*))?\Z", re.DOTALL | re.IGNORECASE)
    for opening, closing in (
        ("<answer>", "</answer>"),  # Hunyuan
        ("<response>", "</response>"),  # ERNIE
        ("<output>", "</output>"),
        (r"<\|START_RESPONSE\|>", r"<\|END_RESPONSE\|>"),  # Command A
        (r"<\|begin_of_solution\|>", r"<\|end_of_solution\|>"),  # OpenThinker
        (r"<\|content\|>", r"<\|end\|>"),  # Solar Open
    )
]
_BOX = re.compile(r"<\|(?:begin|end)_of_box\|>")  # GLM-V marks the short answer in its text

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
        r"\[TOOL_CALLS\](.*?)(?=\[TOOL_CALLS\]|\Z)",  # Mistral
        r"<((?:\w+:)?(?:tool_calls?|function_?calls?))>(?P<body>.*?)(?:</\1>|\Z)",  # Hermes, Qwen, GLM, MiniMax, Seed, ...
        r"(<function=[^>]+>.*?)(?:</function>|\Z)",  # Llama 3.1
    )
]
_MARK = re.compile(
    r"think|thought|tool|response|action|solution|inner_|channel|python_tag|dsml|of_box|unused9[45]"
    r"|<\|(?:start|end|message|constrain|call|return|content)\|>",
    re.IGNORECASE,
)
_NAMES = (r"<function=([^>]+)>", r"name=\"([\w.\-]+)\"", r"functions\.([\w.\-]+)", r"call:([\w.\-]+)", r"^[\s\[]*([\w.\-]+)")
"""Where a call that is no JSON names its tool."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spoken:
    """What a model wrote, taken apart."""

    text: str
    """What a person would be shown."""
    thinking: str = ""
    tool_calls: tuple[Json, ...] = ()
    """Each as `{"name": ..., "arguments": ...}`; with `"raw"` where it could not be parsed."""
    unfinished: bool = False
    """The thought was never closed: there is no answer yet."""


def read_text(written: str) -> Spoken:
    """Take a text apart; one that holds no thought and no tool call comes back as it is, without blanks around it.

    A thought stands at the beginning, or at the beginning of a line. Where the chat template has begun it, only its end stands
    in the text. What stands in code, between backticks, is left alone.
    """
    bare = written.strip()
    if "<|channel|>" in bare and (messages := list(_HARMONY.finditer(bare))):
        return _harmony(bare, messages)
    if match := _BARE_HARMONY.match(bare):
        thought, final = match["thought"], match["text"]
        if final is not None or not thought.rstrip().endswith((".", "!", "?", '"')):
            return Spoken(text=(final or "").strip(), thinking=thought.strip(), unfinished=final is None)
    text, thoughts, unfinished = _without_thoughts(bare)
    text, tool_calls = _without_tool_calls(text)
    if thoughts or "<|" in text:
        text = _unwrapped(text)
    return Spoken(
        text=text.strip(),
        thinking="\n\n".join(thought for thought in thoughts if thought),
        tool_calls=tuple(tool_calls),
        unfinished=unfinished and not text.strip(),
    )


def without_thinking(written: str) -> str:
    """The answer in what a model wrote; "" where it never left its thought."""
    return read_text(written).text


def opened_thought(prompt: str) -> str:
    """What the end of a prompt has already written of the thought that follows it: `<think>` of some templates; else ""."""
    match = _AT_END.search(prompt)
    return match.group() if match else ""


def is_mark(token: str) -> bool:
    """Whether a control token is one of those that mark thoughts, tool calls and answers."""
    return _MARK.search(token) is not None


def begins_inside(written: str) -> bool:
    """Whether a text begins inside a thought that its chat template has opened: it holds the end of one, and no beginning."""
    end = _closing(written)
    return end is not None and not re.search(_OPENING, written[: end.start()], re.IGNORECASE)


def _without_thoughts(text: str) -> tuple[str, list[str], bool]:
    """The text without its thoughts, these, and whether the last one is not closed."""
    thoughts: list[str] = []
    if begins_inside(text):
        end = _closing(text)
        assert end is not None
        thoughts.append(text[: end.start()].strip())
        text = text[end.end() :].lstrip()
    kept, at = "", 0
    while match := _next_opening(text, at):
        opening, closing = match
        end = closing.search(text, opening.end())
        kept += text[at : opening.start()]
        if end is None:
            return kept, [*thoughts, text[opening.end() :].strip()], True
        thoughts.append(text[opening.end() : end.start()].strip())
        at = end.end()
    rest = text[at:]
    return kept + (rest.lstrip() if thoughts and not kept.strip() else rest), thoughts, False


def _next_opening(text: str, at: int) -> tuple[re.Match[str], re.Pattern[str]] | None:
    """The next thought from `at` on, and the pattern of its end: right there, or where it begins a line.

    Tags of other names than `think` (`<reasoning>`) are an answer's own, unless it begins with them.
    """
    places = [len(text) - len(text[at:].lstrip()), *(line.end() for line in _AT_LINE.finditer(text, at))]
    for place in places:
        for opens, closes in _OPENS:
            if (match := opens.match(text, place)) and not _in_code(text, place):
                return match, closes
    return None


def _closing(text: str) -> re.Match[str] | None:
    """The first end of a thought, if it may end one that began before the text: prose speaks of `</think>` too."""
    return next((match for match in _CLOSING.finditer(text) if _ends_thought(text, match)), None)


def _ends_thought(text: str, mark: re.Match[str]) -> bool:
    before, after = text[: mark.start()], text[mark.end() :]
    if before.endswith("\n") and after.startswith("\n"):
        return True
    if _in_code(text, mark.start()):
        return False
    ended = before[-1:] not in (" ", "\t") or before.rstrip().endswith((".", "!", "?", ":", '"', ")", "\u2026", "\u3002"))
    return ended or not after.strip(" \t") or after.lstrip(" \t").startswith("\n")


def _in_code(text: str, at: int) -> bool:
    """Whether a place stands between backticks: a fence of three, or a pair within its line."""
    before = text[:at]
    if before.count("```") % 2:
        return True
    return before.rpartition("\n")[2].replace("```", "").count("`") % 2 == 1


def _unwrapped(text: str) -> str:
    for wrapping in _WRAPPINGS:
        if match := wrapping.match(text):
            text = f"{match[1].strip()}\n\n{(match[2] or '').strip()}".strip()
            break
    return _BOX.sub("", text)


def _harmony(written: str, messages: list[re.Match[str]]) -> Spoken:
    thoughts, texts, calls = [], [written[: messages[0].start()]], []
    for one in messages:
        recipient = re.search(r"to=(?:functions\.)?([\w.\-]+)", f"{one['role'] or ''} {one['to']}")
        if recipient:
            calls.append(function_call(recipient[1], one["text"]))
        elif one["channel"] == "analysis":
            thoughts.append(one["text"].strip())
        else:
            texts.append(one["text"])
    text = "\n\n".join(part.strip() for part in texts if part.strip())
    return Spoken(
        text=re.sub(r"<\|(?:start|end|return|message)\|>(?:assistant)?", "", text).strip(),
        thinking="\n\n".join(filter(None, thoughts)),
        tool_calls=tuple(calls),
        unfinished=not text and not calls,
    )


def _without_tool_calls(text: str) -> tuple[str, list[Json]]:
    calls: list[Json] = []

    def take(match: re.Match[str]) -> str:
        if _in_code(match.string, match.start()):
            return match.group()
        calls.extend(_calls(match.groupdict().get("body") or match[1]))
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
        return {"name": name, "arguments": arguments}
    try:
        parsed = bounded_json(arguments)
    except ValueError:
        parsed = arguments.strip()
    return {"name": name, "arguments": parsed}
