"""Turns as chat templates take them: a system turn folded, calls in their form, and marks that show whether tools are written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from buckler.data.tool_calls import with_text_arguments

SAMPLE_MARKS: Final = ("buckler0called", "buckler0argument")


def sample(text_arguments: bool) -> list[dict[str, object]]:
    """A small conversation with a call, whose marks a template writes if it takes its arguments so: as a text or as an object."""
    call = {"id": "call00001", "type": "function", "function": {"name": SAMPLE_MARKS[0], "arguments": {"of": SAMPLE_MARKS[1]}}}
    turns: tuple[dict[str, object], ...] = (
        {"role": "user", "content": "?"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "!", "name": SAMPLE_MARKS[0], "tool_call_id": "call00001"},
    )
    return [in_form(turn, text_arguments) for turn in turns]


def in_form(turn: Mapping[str, object], text_arguments: bool) -> dict[str, object]:
    """A turn without the tools of its conversation, the arguments of its calls as a text where the template takes one."""
    bare = {key: value for key, value in turn.items() if key != "tools"}
    calls = turn.get("tool_calls")
    return {**bare, "tool_calls": with_text_arguments(calls)} if text_arguments and isinstance(calls, list) else bare


def names_called(turn: Mapping[str, object]) -> list[str]:
    """The names of the tools that a turn calls."""
    calls = turn.get("tool_calls")
    return [call["function"]["name"] for call in calls] if isinstance(calls, list) else []


def with_marks(turns: Sequence[Mapping[str, object]]) -> tuple[list[dict[str, object]], dict[str, str]]:
    """Turns with marks in place of the names of tools and calls and of results, and what each mark stands for, for errors."""
    marks: dict[str, str] = {}
    marked: list[dict[str, object]] = []
    for at, turn in enumerate(turns):
        copy = dict(turn)
        for key, what in (("tools", "the tool"), ("tool_calls", "the call of")):
            if isinstance(listed := turn.get(key), list):
                names = {f"buckler{at}{key}{number}": f"{what} {one['function']['name']!r}" for number, one in enumerate(listed)}
                copy[key] = [
                    {**one, "function": {**one["function"], "name": name}} for one, name in zip(listed, names, strict=True)
                ]
                marks |= names
        if turn["role"] == "tool":
            copy["content"] = mark = f"buckler{at}result"
            marks[mark] = f"the result {str(turn['content'])[:60]!r}"
        marked.append(copy)
    return marked, marks


def folded(turns: Sequence[dict[str, object]]) -> Iterator[dict[str, object]]:
    """A leading system turn as the beginning of the first user turn, for templates without a system role."""
    system = str(turns[0]["content"]) if turns and turns[0]["role"] == "system" and len(turns) > 1 else None
    for turn in turns if system is None else turns[1:]:
        if system is not None and turn["role"] == "user":
            yield {**turn, "content": f"{system}\n\n{turn['content']}"}
            system = None
        else:
            yield turn
