"""The published forms of thoughts, as a chat template writes them and as rows bring them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile

from buckler.data.thinking import leading_thought, opened_thought, read_text


@dataclass(frozen=True, slots=True, kw_only=True)
class Thought:
    """A published form of thoughts."""

    opening: str
    closing: str
    """Both with the line breaks that the model's authors put there."""


_TAGS = "think seed:think longcat_think mm:think think:opensource thinking thought thoughts reasoning scratchpad".split()
FORMS: tuple[Thought, ...] = (
    # `<think>\n\n</think>\n\n` is the empty thought of DeepSeek-R1's model card and of Qwen3's template.
    *(Thought(opening=f"<{tag}>\n", closing=f"\n</{tag}>\n\n") for tag in _TAGS),
    Thought(opening="<|channel>thought\n", closing="\n<channel|>"),
    Thought(opening="[THINK]", closing="[/THINK]"),
    Thought(opening="\u25c1think\u25b7", closing="\u25c1/think\u25b7"),
    Thought(opening="<|START_THINKING|>", closing="<|END_THINKING|>"),
    Thought(opening="<|begin_of_thought|>", closing="<|end_of_thought|>"),
    Thought(opening="<|inner_prefix|>", closing="<|inner_suffix|>"),
    Thought(opening="<|think|>", closing="<|/think|>"),
    Thought(opening="<unused94>thought\n", closing="<unused95>"),
    Thought(opening="<|think:start|>", closing="<|think:end|>"),
    Thought(opening="[unused16]", closing="[unused17]"),
    Thought(opening="Here are my reasoning steps:\n", closing="\n[BEGIN FINAL RESPONSE]\n"),
    Thought(opening="<|channel|>analysis<|message|>", closing="<|end|><|start|>assistant<|channel|>final<|message|>"),
)
_OPENINGS = {form.opening.removesuffix("thought\n").strip(): form for form in FORMS}
_CLOSINGS = {form.closing.strip(): form for form in FORMS}
_MARK = r"(?:<\|[^<>|\s]+\|>|<(?:answer|response|output)>)"


def form_of(text: str) -> Thought | None:
    """The form of the thoughts in a text; one that is closed there before one that is only opened."""
    for marks in (_CLOSINGS, _OPENINGS):
        if found := [mark for mark in marks if mark in text]:
            return marks[max(found, key=text.rfind)]
    return None


def is_closed(text: str, *, at_end: bool = False) -> bool:
    """Whether the last thought in a text has ended; `at_end`: and nothing follows it."""
    if at_end:
        return text.rstrip().endswith(tuple(_CLOSINGS))
    return max(map(text.rfind, _CLOSINGS)) > max(map(text.rfind, _OPENINGS))


def answer_mark(written: str, answer: str, prompt: str) -> str:
    """The tokens right before an answer that no prompt ends with (`<|START_RESPONSE|>`), but for those of a thought."""
    run = re.search(rf"(?:{_MARK}\s*)+\Z", written.partition(answer)[0])
    found = re.findall(rf"{_MARK}\s*", run.group()) if run and answer in written else []
    mark = "".join(reversed([*takewhile(lambda one: one.strip() not in prompt, reversed(found))]))
    return "" if is_closed(mark) or opened_thought(mark) else mark


def with_mark(before: str, lead: str, mark: str) -> str:
    """What stands between a prompt and the text of an answer, with the mark that opens the text."""
    return lead if (before + lead).endswith(mark) else lead + mark


def split_thought(turn: Mapping[str, object]) -> Mapping[str, object]:
    """A turn whose text begins with a thought, or inside one, with this thought as `reasoning_content`."""
    content = turn.get("content")
    if not isinstance(content, str) or turn.get("reasoning_content"):
        return turn
    found = leading_thought(content)
    if found is None or not (found[1] or turn.get("tool_calls")):
        return turn
    return {**turn, "content": found[1], "reasoning_content": found[0]}


def is_only_thought(turn: Mapping[str, object]) -> bool:
    """Whether an answer holds a thought and nothing else, ended or not: to learn it is to learn to say nothing."""
    content = str(turn.get("content") or "").strip()
    if turn["role"] != "assistant" or turn.get("tool_calls"):
        return False
    if not content:
        return bool(turn.get("reasoning_content"))
    return read_text(content).unfinished or ((found := leading_thought(content)) is not None and not found[1])


def without_thoughts(turns: Sequence[Mapping[str, object]]) -> list[dict[str, object]]:
    """Turns without `reasoning_content`, and without a thought at the beginning of an answer."""
    split = [split_thought(turn) if turn["role"] == "assistant" else turn for turn in turns]
    return [{key: value for key, value in turn.items() if key != "reasoning_content"} for turn in split]
