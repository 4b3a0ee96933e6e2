"""Texts taken apart: thoughts and tool calls in every published form, and prose that only speaks of their marks."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buckler.data.thinking import Spoken, begins_inside, opened_thought, read_text, without_thinking

THOUGHT, ANSWER = "The user asks.\nI can't help with that, or can I?", "Anna runs it.\n\nShe bakes."
WRITTEN = {
    "DeepSeek, Qwen, GLM": f"<think>\n{THOUGHT}\n</think>\n\n{ANSWER}",
    "on one line": f"<think>{THOUGHT}</think>{ANSWER}",
    "opened by the template": f"{THOUGHT}\n</think>\n\n{ANSWER}",
    "opened by the template, on one line": f"{THOUGHT}</think>{ANSWER}",
    "two in a row": f"<think>\n{THOUGHT}\n</think>\n<think>\n\n</think>\n{ANSWER}",
    "after a greeting of blanks": f"\n\n  <think>{THOUGHT}</think>\n{ANSWER}",
    "capitals": f"<Think>{THOUGHT}</Think>{ANSWER}",
    "thinking": f"<thinking>\n{THOUGHT}\n</thinking>\n{ANSWER}",
    "thought": f"<thought>{THOUGHT}</thought>{ANSWER}",
    "Reka": f"<reasoning> {THOUGHT} </reasoning> {ANSWER}",
    "scratchpad": f"<scratchpad>{THOUGHT}</scratchpad>{ANSWER}",
    "Seed": f"<seed:think>{THOUGHT}</seed:think>{ANSWER}",
    "Seed, opened by the template": f"{THOUGHT}</seed:think>{ANSWER}",
    "Magistral": f"[THINK]{THOUGHT}[/THINK]{ANSWER}",
    "Magistral, opened by the template": f"{THOUGHT}[/THINK]{ANSWER}",
    "Kimi-VL": f"\u25c1think\u25b7{THOUGHT}\u25c1/think\u25b7{ANSWER}",
    "Gemma 4": f"<|channel>thought\n{THOUGHT}<channel|>{ANSWER}",
    "MedGemma": f"<unused94>thought\n{THOUGHT}<unused95>{ANSWER}",
    "Command A": f"<|START_THINKING|>{THOUGHT}<|END_THINKING|><|START_RESPONSE|>{ANSWER}<|END_RESPONSE|>",
    "OpenThinker": f"<|begin_of_thought|>{THOUGHT}<|end_of_thought|>\n<|begin_of_solution|>{ANSWER}<|end_of_solution|>",
    "Apertus": f"<|inner_prefix|>{THOUGHT}<|inner_suffix|>{ANSWER}",
    "Granite": f"Here is my thought process: {THOUGHT} Here is my response: {ANSWER}",
    "Hunyuan": f"<think>\n{THOUGHT}\n</think>\n<answer>\n{ANSWER}\n</answer>",
    "ERNIE": f"<think>\n{THOUGHT}\n</think>\n\n<response>\n{ANSWER}\n</response>",
    "gpt-oss": f"<|channel|>analysis<|message|>{THOUGHT}<|end|><|start|>assistant<|channel|>final<|message|>{ANSWER}<|return|>",
    "gpt-oss, opened": f"<|channel|>analysis<|message|>{THOUGHT}<|start|>assistant<|channel|>final<|message|>{ANSWER}",
    "gpt-oss without its control tokens": f"analysis{THOUGHT}assistantfinal{ANSWER}",
}


@pytest.mark.parametrize("name", list(WRITTEN))
def test_a_thought_in_any_published_form_is_no_part_of_the_answer(name):
    spoken = read_text(WRITTEN[name])
    assert (spoken.text, spoken.thinking, spoken.unfinished) == (ANSWER, THOUGHT, False)
    assert read_text(spoken.text) == Spoken(text=ANSWER), "what was read once is read the same again"


@pytest.mark.parametrize(
    "written",
    [
        f"<think>\n{THOUGHT}",
        "<think>",
        f"[THINK]{THOUGHT}",
        f"<|channel>thought\n{THOUGHT}",
        f"<|channel|>analysis<|message|>{THOUGHT}",
        f"<|START_THINKING|>{THOUGHT}",
        f"Here's my thought process: {THOUGHT}",
        f"<think>one</think>\n<think>{THOUGHT}",
        "analysisThe user asks for the way to",
    ],
)
def test_a_thought_that_never_ends_is_no_answer_yet(written):
    spoken = read_text(written)
    assert (spoken.text, spoken.unfinished) == ("", True) and without_thinking(written) == ""


@pytest.mark.parametrize(
    "answer",
    [
        "Anna runs it.",
        "Open it with <think>, close it with </think>.",
        "Close it with </think>, open it with <think>.",
        "The tag `<think>` opens a thought and `</think>` ends it.",
        "If x </think> y then stop.",
        "Write:\n```\n<think>\nHm.\n</think>\n```\nand then answer.",
        "analysis of the text: it is final.",
        "Here is my response: Anna.",
        "<answer>42</answer>",
        "The row is:\n<reasoning>\nIt rains.\n</reasoning>\nand no more.",
        "A [THINK] tank.",
        "Use `<tool_call>` for a call.",
    ],
)
def test_an_answer_that_speaks_of_marks_stays_whole(answer):
    assert read_text(answer) == Spoken(text=answer)


def test_thoughts_between_parts_of_an_answer_are_taken_out():
    spoken = read_text("First, the soup.\n<think>\nWhat next?\n</think>\nThen, the bread.")
    assert spoken.text.split() == "First, the soup. Then, the bread.".split() and spoken.thinking == "What next?"


@pytest.mark.parametrize(
    ("written", "name", "arguments"),
    [
        ('<tool_call>\n{"name": "find", "arguments": {"a": 1}}\n</tool_call>', "find", {"a": 1}),
        ('<tool_calls>[{"name": "find", "arguments": {"a": 1}}]</tool_calls>', "find", {"a": 1}),
        ('[TOOL_CALLS][{"name": "find", "arguments": {"a": 1}}]', "find", {"a": 1}),
        ('<|python_tag|>{"name": "find", "parameters": {"a": 1}}', "find", {"a": 1}),
        ('<|tool_call|>[{"name": "find", "arguments": {"a": 1}}]', "find", {"a": 1}),
        ('<|START_ACTION|>[{"tool_name": "find", "parameters": {"a": 1}}]<|END_ACTION|>', "find", {"a": 1}),
        ('<|channel|>commentary to=functions.find <|constrain|>json<|message|>{"a": 1}<|call|>', "find", {"a": 1}),
        ('<functioncall> {"name": "find", "arguments": {"a": 1}} </functioncall>', "find", {"a": 1}),
        ("<tool_call>\n<function=find>\n<parameter=a>\n1\n</parameter>\n</function>\n</tool_call>", "find", None),
        ("<tool_call>find\n<arg_key>a</arg_key>\n<arg_value>1</arg_value>\n</tool_call>", "find", None),
        ('<minimax:tool_call><invoke name="find"><parameter name="a">1</parameter></invoke></minimax:tool_call>', "find", None),
        ("<|tool_call>call:find{a:1}<tool_call|>", "find", None),
        ("<|tool_call_start|>[find(a=1)]<|tool_call_end|>", "find", None),
        ('<function=find>{"a": 1}</function>', "find", None),
    ],
)
def test_a_tool_call_is_no_text(written, name, arguments):
    spoken = read_text(f"<think>Hm.</think>{written}" if "channel" not in written else written)
    (call,) = spoken.tool_calls
    assert spoken.text == "" and call["name"] == name and call.get("arguments") == arguments and not spoken.unfinished
    assert ("raw" in call) == (arguments is None)


def test_a_text_beside_a_tool_call_stays():
    spoken = read_text('I will look.\n<tool_call>{"name": "find", "arguments": {}}</tool_call>')
    assert spoken.text == "I will look." and len(spoken.tool_calls) == 1


@pytest.mark.parametrize(
    "opening", ["<think>", "<think>\n", "[THINK]", "<seed:think>", "<|channel>thought\n", "<|START_THINKING|>"]
)
def test_a_prompt_tells_what_it_has_written_of_the_thought(opening):
    assert opened_thought(f"<|im_start|>assistant\n{opening}") == opening
    assert opened_thought(f"What is {opening}?<|im_end|>\n<|im_start|>assistant\n") == ""


def test_a_thought_that_the_prompt_closed_is_not_open():
    assert opened_thought("<|im_start|>assistant\n<think>\n\n</think>\n\n") == ""


MARKS = ["<think>", "</think>", "`", "\n", " ", "a.", "[THINK]", "<tool_call>", "<|channel|>", "<|message|>", '{"name": 1}']


@given(st.lists(st.sampled_from(MARKS)).map("".join))
def test_no_text_is_too_odd_to_be_taken_apart(written):
    spoken = read_text(written)
    json.dumps(spoken.tool_calls)
    assert begins_inside(written) in (True, False) and not (spoken.unfinished and spoken.text)
    if not (spoken.thinking or spoken.tool_calls or spoken.unfinished):
        assert set(spoken.text) <= set(written)
