"""What a model wrote, as one text, taken apart: its thinking, its tool calls, and the answer that a person would be shown.

`read_text` knows the forms that open models use. `FORMS` has one entry a form, so a new one is one line. The forms are those of
the reasoning and tool parsers of vLLM and of the chat templates that are published with the models.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from buckler.data.jsonl import Json
from buckler.data.tool_calls import function_call, in_code, without_tool_calls

_NAME = r"(?!no_)(?:ant|\w+[:_|])?(?:think|thinking|thoughts?|reasoning|scratchpad)(?:_fast(?:er)?)?(?::\w+)?"
_ATTRIBUTES = r"(?:\s+[\w:-]+\s*=\s*(?:\"[^\"<>]*\"|'[^'<>]*'|[^\s\"'<>]+))*\s*"
_TAG_END = rf"<\s*/\s*{_NAME}\s*>"
_MARKED = (
    # <think> of DeepSeek, Qwen, GLM, Kimi, Nemotron, Hunyuan, ERNIE, ...; <seed:think>, <longcat_think>, <mm:think> of MiniMax,
    # <ifm|think_fast> of K2; <reasoning> of Reka; and others
    (rf"<\s*(?P<tag>{_NAME}){_ATTRIBUTES}>", _TAG_END),
    (r"<\s*details\s[^<>]*type=[\"']?reasoning\b[^<>]*>", r"</details>"),  # Open WebUI
    (r"\[THINK\]", r"\[/THINK\]"),  # Magistral
    (r"\[unused16\]", r"\[unused17\]"),  # openPangu
    ("\u25c1think\u25b7", "\u25c1/think\u25b7"),  # Kimi-VL
    (r"<\|open\|>think<\|sep\|>", r"<\|close\|>think<\|sep\|>"),  # Kimi K3
    (r"<\|channel>(?:thought|thinking|analysis)?(?=\s|<channel\|>)", r"<channel\|>"),  # Gemma 4
    (r"<unused94>(?:thought)?", r"<unused95>"),  # MedGemma
    (r"<\|START_THINKING\|>", r"<\|END_THINKING\|>"),  # Command A Reasoning
    (r"<\|begin_of_thought\|>", r"<\|end_of_thought\|>"),  # OpenThinker
    (r"<\|inner_prefix\|>", r"<\|inner_suffix\|>"),  # Apertus
    (r"<\|plamo:begin_think:plamo\|>", r"<\|plamo:end_think:plamo\|>"),
    (r"<\|think:start\|>", r"<\|think:end\|>"),  # Solar Open 2
    (r"<\|think(?:ing)?\|>", rf"<\|/think(?:ing)?\|>|{_TAG_END}|<\|end\|>\s*<\|begin\|>assistant(?=<\|)"),  # Solar Open
    (r"<\|im_start\|>\s*think\b", r"<\|im_start\|>\s*answer\b"),  # s1
)
_BEGUN_IN_WORDS = ((r"Here are my reasoning steps:", r"\[BEGIN FINAL RESPONSE\]"),)  # Apriel
_IN_WORDS = (
    (r"(?:Here is|Here's) my thought process:", r"(?:Here is|Here's) my response:"),  # Granite 3.2
    (r"(?:<\|im_start\|>assistant)?/think\n", r"<\|im_end\|>\s*<\|im_start\|>assistant(?= ->|\n)"),  # HyperCLOVA X
)
FORMS: tuple[tuple[str, str], ...] = (*_MARKED, *_BEGUN_IN_WORDS, *_IN_WORDS)
"""Where a thought begins and where it ends, as patterns. Some chat templates write the beginning themselves."""
_WORDS = {opening for opening, _ in (*_BEGUN_IN_WORDS, *_IN_WORDS)}  # an answer may begin with them too
_OPENING = "|".join(f"(?:{opening.replace('?P<tag>', '?:')})" for opening, _ in FORMS)
_ANY_OPENING = re.compile(_OPENING, re.IGNORECASE)
_CLOSING = re.compile("|".join(f"(?:{closing})" for _, closing in (*_MARKED, *_BEGUN_IN_WORDS)), re.IGNORECASE)
_OPENS = [(re.compile(opening, re.IGNORECASE), re.compile(closing, re.IGNORECASE)) for opening, closing in FORMS]
_AT_END = re.compile(rf"(?:{_OPENING}|<\|channel\|>analysis<\|message\|>)\s*\Z", re.IGNORECASE)
_AT_LINE = re.compile(
    rf"^[ \t]*(?=<\s*(?:\w+[:_|])?think(?:ing|_fast(?:er)?)?\b|(?!<\s*\w|[/\w]){_OPENING})", re.IGNORECASE | re.MULTILINE
)
_SPOKEN_OF = re.compile(
    r"\s?(?:[,;:)]|\.(?!\.)|(?:is|are|was|marks?|opens?|begins?|starts?|means?|tags?|tokens?|denotes?|indicates?|wraps?|or"
    r"|encloses?|stands for)\b|and [<`\[])"
)
"""What follows a mark that begins a sentence about it."""
_CALL_BEGINS = re.compile(r"^\s*<(?:\w+[:_])?tool_calls?>", re.MULTILINE)

# gpt-oss: messages on the channels analysis (thought), commentary (tool calls) and final.
_HARMONY = re.compile(
    r"(?:<\|start\|>(?P<role>(?:assistant|functions\.[\w.\-]+)?(?:\s*to=[\w.\-]+)?)\s*)?<\|channel\|>"
    r"(?P<channel>analysis|commentary|final)(?P<to>(?:\s*to=[\w.\-]+)?\s*(?:json|code|text)?\s*)(?:<\|constrain\|>\s*\w+\s*)?"
    r"<\|message\|>"
    r"(?P<text>.*?)(?P<end><\|end\|>|<\|return\|>|<\|call\|>|(?=<\|start\|>)|(?=<\|channel\|>)|\Z)",
    re.DOTALL,
)
# The same with its control tokens left out by a tokenizer: `analysisThe user asks ...assistantfinalNo.`
_BARE_HARMONY = re.compile(
    r"\Aanalysis(?=[A-Z\"'])(?P<thought>.*?)(?:assistantcommentary to=(?:functions\.)?(?P<call>[\w.\-]+)\s*(?:json|code)?"
    r"(?P<arguments>\s*\{.*?\}))?(?:assistantfinal(?P<text>.*))?\Z",
    re.DOTALL,
)
_BARE_S1 = re.compile(r"\Athink\n(?P<thought>.*?)(?:^[ \t]*answer\n(?P<text>.*))?\Z", re.DOTALL | re.MULTILINE)
"""s1 in the same way."""

_WRAPPINGS = [
    re.compile(rf"\A\s*{opening}(.*?)(?:{closing}(.*))?\Z", re.DOTALL | re.IGNORECASE)
    for opening, closing in (
        ("<answer>", "</answer>"),  # Hunyuan
        ("<response>", "</response>"),  # ERNIE
        ("<output>", "</output>"),
        (r"<\|START_RESPONSE\|>", r"<\|END_RESPONSE\|>"),  # Command A
        (r"<\|begin_of_solution\|>", r"<\|end_of_solution\|>"),  # OpenThinker
        (r"<\|content\|>", r"<\|end\|>"),  # Solar Open
        (r"<\|open\|>response<\|sep\|>", r"<\|close\|>response<\|sep\|>"),  # Kimi K3
    )
]
_LEFT_OVER = re.compile(
    r"<\|(?:begin|end)_of_box\|>"  # GLM-V marks the short answer in its text
    r"|(?:\s*(?:\[END FINAL RESPONSE\]|<\|close\|>message<\|sep\|>|<\|end_of_msg\|>|<\|end\|>))+\s*\Z"  # Apriel, Kimi K3
)

_MARK = re.compile(
    r"think|thought|reasoning|scratchpad|details|tool|response|action|solution|inner_|channel|python_tag|dsml|of_box|unused(?:9[45]|1[1267])|plamo"
    r"|<\|(?:start|im_start|begin|end|message|constrain|call|return|content|open|close|sep)\|>",
    re.IGNORECASE,
)


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


def read_text(written: str, *, begun: str = "", cut: bool = False) -> Spoken:
    """Take a text apart; one that holds no thought and no tool call comes back as it is, without blanks around it.

    A thought stands at the beginning, or at the beginning of a line. Where the chat template has begun it, only its end stands
    in the text. What stands in code or between quotes, and marks that a sentence speaks of, are left alone. In doubt, a text is
    an answer.

    Args:
        written: All of it.
        begun: What the prompt has already written of the thought.
        cut: Whether the text was cut off, so that a thought may lack its end.
    """
    bare = (begun + written).strip()
    if (messages := list(_HARMONY.finditer(bare))) and not in_code(bare, 0, messages[0].start(), 1):
        return _harmony(bare, messages)
    if match := _BARE_HARMONY.match(bare):
        thought, call, final = match["thought"], match["call"], match["text"]
        if final is not None or call or cut or not thought.rstrip().endswith((".", "!", "?", '"')):
            calls = (function_call(call, match["arguments"]),) if call else ()
            unfinished = final is None and not call
            return Spoken(text=(final or "").strip(), thinking=thought.strip(), tool_calls=calls, unfinished=unfinished)
    if (match := _BARE_S1.match(bare)) and (cut or match["text"] is not None):
        final = (match["text"] or "").strip()
        return Spoken(text=final, thinking=match["thought"].strip(), unfinished=not final)
    text, thoughts, unfinished = _without_thoughts(bare, cut=cut, certain=bool(begun.strip()))
    text, tool_calls = without_tool_calls(text)
    if thoughts or "<|" in text:
        text = _unwrapped(text)
    return Spoken(
        text=text.strip(),
        thinking="\n\n".join(thought for thought in thoughts if thought),
        tool_calls=tuple(tool_calls),
        unfinished=unfinished and not text.strip() and not tool_calls,
    )


def without_thinking(written: str) -> str:
    """The answer in what a model wrote; "" where it never left its thought."""
    return read_text(written).text


def leading_thought(written: str) -> tuple[str, str] | None:
    """The thought that a text begins with, or inside, and what follows it; None where none is there, or it does not end."""
    bare = written.strip()
    if messages := list(_HARMONY.finditer(bare)):
        spoken = _harmony(bare, messages)
        return (spoken.thinking, spoken.text) if spoken.thinking and not spoken.tool_calls else None
    text, thoughts, unfinished = _without_thoughts(bare, cut=False, certain=False, leading=True)
    return ("\n\n".join(filter(None, thoughts)), _unwrapped(text).strip()) if thoughts and not unfinished else None


def opened_thought(prompt: str) -> str:
    """What the end of a prompt has already written of the thought that follows it: `<think>` of some templates; else ""."""
    match = _AT_END.search(prompt)
    return match.group() if match else ""


def is_mark(token: str) -> bool:
    """Whether a control token is one of those that mark thoughts, tool calls and answers."""
    return _MARK.search(token) is not None


def begins_inside(written: str) -> bool:
    """Whether a text begins inside a thought that its chat template has opened: it holds the end of one, and no beginning."""
    first = _HARMONY.search(written)
    return _unopened(written) is not None or (first is not None and _begins_before(written, first))


def _without_thoughts(text: str, *, cut: bool, certain: bool, leading: bool = False) -> tuple[str, list[str], bool]:
    """The text without its thoughts, these, and whether the last one is not closed.

    `certain`: the text begins with the beginning of a thought. `leading`: only thoughts at its beginning are looked for.
    """
    thoughts: list[str] = []
    kept, at = "", 0
    if not certain and (end := _unopened(text)):
        thoughts.append(text[: end.start()].strip())
        at = _past(text, end.end())
    while match := _next_opening(text, at, certain=certain and not at, leading=leading):
        opening, opens, closes = match
        before, start = text[at : opening.start()], opening.end()
        while again := opens.match(text, len(text) - len(text[start:].lstrip())):
            start = again.end()
        end = _end(text, start, opens, _same_name(text, opening, closes, start), cut)
        if end is not None:
            stop, at = end.start(), _past(text, end.end())
        elif call := _CALL_BEGINS.search(text, start):  # some models call a tool without ending the thought
            stop = at = call.start()
        elif not cut and ((kept + before).strip() or (opens.pattern in _WORDS and not certain)):
            break
        else:
            return kept + before, [*thoughts, text[start:].strip()], True
        kept += before
        thoughts.append(text[start:stop].strip())
    rest = text[at:]
    return kept + (rest.lstrip() if thoughts and not kept.strip() else rest), thoughts, False


def _next_opening(
    text: str, at: int, *, certain: bool, leading: bool
) -> tuple[re.Match[str], re.Pattern[str], re.Pattern[str]] | None:
    """The next thought from `at` on, its form's beginning and end: right there, or where it begins a line.

    Tags of other names than `think` (`<reasoning>`) are an answer's own, unless it begins with them.
    """
    lines = () if leading else (line.end() for line in _AT_LINE.finditer(text, at))
    for place in (len(text) - len(text[at:].lstrip()), *lines):
        for opens, closes in _OPENS:
            match = opens.match(text, place)
            if match and (certain or not (_SPOKEN_OF.match(text, match.end()) or in_code(text, 0, place, match.end(), True))):
                return match, opens, closes
    return None


def _same_name(text: str, opening: re.Match[str], closes: re.Pattern[str], start: int) -> re.Pattern[str]:
    """The end of a tag is the one of its name; that of another name where there is none."""
    if not (name := opening.groupdict().get("tag")):
        return closes
    own = re.compile(rf"<\s*/\s*{re.escape(name)}\s*>", re.IGNORECASE)
    return own if own.search(text, start) else closes


def _end(text: str, start: int, opens: re.Pattern[str], closes: re.Pattern[str], cut: bool) -> re.Match[str] | None:
    """Where a thought that begins at `start` ends: at the first end that is not only spoken of, and not of a thought within."""
    ends = list(closes.finditer(text, start))
    free = [mark for mark in ends if not _is_quoted(text, start, mark)]
    if len(clear := [mark for mark in free if not _in_sentence(text, mark)]) > 1:
        inner = [mark for mark in opens.finditer(text, start) if not (_is_quoted(text, start, mark) or _in_sentence(text, mark))]
        depth = 1
        for mark in sorted([*clear, *inner], key=lambda mark: mark.start()):
            depth += 1 if mark.re is opens else -1
            if not depth:
                return mark
    return next(iter(clear or free or ([] if cut else ends)), None)


def _unopened(text: str) -> re.Match[str] | None:
    """The end of a thought that began before the text: prose speaks of `</think>` too, so it must look like one."""
    for end in _CLOSING.finditer(text):
        if _is_quoted(text, 0, end) or _in_sentence(text, end):
            continue
        before, after = text[: end.start()], text[end.end() :]
        if before[-1:] in (" ", "\t") and not _ends_sentence(before):
            continue
        if before.rstrip().endswith(":") and before.endswith("\n") and not after.strip():
            continue  # the mark that an answer was asked for
        begins = (mark for mark in _ANY_OPENING.finditer(before) if mark.group()[-1] != ":" or not before[: mark.start()].strip())
        if any(not (_is_quoted(text, 0, mark) or _in_sentence(text, mark)) for mark in begins):
            return None
        return end
    return None


def _past(text: str, at: int) -> int:
    """Past further ends right after one."""
    while again := _CLOSING.match(text, len(text) - len(text[at:].lstrip())):
        if _in_sentence(text, again):
            break
        at = again.end()
    return at


def _in_sentence(text: str, mark: re.Match[str]) -> bool:
    """Whether a mark stands within a sentence that speaks of it: "the </think> tag", "write </think>, then"."""
    before, after = text[: mark.start()], text[mark.end() :]
    if before[-1:] not in ("", " ", "\t", "\n"):
        return False
    if not before or before.endswith("\n") or _ends_sentence(before):
        return re.match(r"[ \t]+[a-z]|[,;)]", after) is not None
    return re.match(r"[ \t]+[a-z(]|[.,;:)!?](?:\s|\Z)|[ \t]*\Z", after) is not None


def _ends_sentence(text: str) -> bool:
    return text.rstrip().endswith((".", "!", "?", ":", '"', ")", "\u2026", "\u3002"))


def _is_quoted(text: str, start: int, mark: re.Match[str]) -> bool:
    """Whether a mark stands between quotes or parentheses, or in code."""
    before, after = text[max(mark.start() - 2, 0) : mark.start()], text[mark.end() : mark.end() + 2]
    pair = before[-1:] + after[:1]
    quoted = pair in ('""', "''", "()", "\u201c\u201d", "\u2018\u2019", "\u00ab\u00bb", "\u300c\u300d", "\u300e\u300f")
    if quoted and not (len(before) > 1 and before[0].isalnum()) and not after[1:].isalnum() and before[:1] not in (".", "!", "?"):
        return True
    return in_code(text, start, mark.start(), mark.end())


def _unwrapped(text: str) -> str:
    for wrapping in _WRAPPINGS:
        if match := wrapping.match(text):
            text = f"{match[1].strip()}\n\n{(match[2] or '').strip()}".strip()
            break
    return _LEFT_OVER.sub("", text)


def _begins_before(written: str, first: re.Match[str]) -> bool:
    """Whether a thought that the prompt has begun ends where the first message of gpt-oss begins."""
    return written[: first.start()].rstrip().endswith("<|end|>")


def _harmony(written: str, messages: list[re.Match[str]]) -> Spoken:
    thoughts: list[str] = []
    texts: list[str] = []
    calls, at = [], 0
    for one in messages:
        between, at = written[at : one.start()], one.end()
        begun = one is messages[0] and _begins_before(written, one)
        (thoughts if begun else texts).append(re.sub(r"\s*<\|end\|>\s*\Z", "", between) if begun else between)
        recipient = re.search(r"to=(?:functions\.)?([\w.\-]+)", f"{one['role'] or ''} {one['to']}")
        if recipient:
            calls.append(function_call(recipient[1], one["text"]))
        elif one["channel"] == "analysis":
            thoughts.append(one["text"].strip())
        else:
            texts.append(one["text"])
    texts.append(written[at:])
    texts = [re.sub(r"<\|(?:start|end|return|call|message)\|>(?:assistant)?", "", part).strip() for part in texts]
    text = "\n\n".join(filter(None, texts))
    return Spoken(
        text=text,
        thinking="\n\n".join(filter(None, thoughts)),
        tool_calls=tuple(calls),
        unfinished=not text and not calls,
    )
