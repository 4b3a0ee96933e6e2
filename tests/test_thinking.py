"""Texts taken apart: thoughts and tool calls in every published form, and prose that only speaks of their marks."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buckler.data.reply import read_reply
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
    "s1": f"<|im_start|>think\n{THOUGHT}\n<|im_start|>answer\n{ANSWER}",
    "s1, opened by the template": f"{THOUGHT}\n<|im_start|>answer\n{ANSWER}",
    "s1 without its control tokens": f"think\n{THOUGHT}\nanswer\n{ANSWER}",
    "Apriel": f"Here are my reasoning steps:\n{THOUGHT}\n[BEGIN FINAL RESPONSE]\n{ANSWER}\n[END FINAL RESPONSE]\n<|end|>",
    "Apriel, opened by the template": f"{THOUGHT}\n[BEGIN FINAL RESPONSE]\n{ANSWER}\n[END FINAL RESPONSE]",
    "LongCat": f"<longcat_think>\n{THOUGHT}\n</longcat_think>\n{ANSWER}",
    "LongCat, opened by the template": f"{THOUGHT}\n</longcat_think>\n{ANSWER}",
    "MiniMax M3": f"<mm:think>{THOUGHT}</mm:think>{ANSWER}",
    "MiniMax M3 without a thought of its own": f"<mm:think>{THOUGHT}</mm:think>\n</mm:think>{ANSWER}",
    "K2": f"<think_faster>{THOUGHT}</think_faster>{ANSWER}",
    "K2 Horizon": f"<ifm|think_fast>{THOUGHT}</ifm|think_fast>{ANSWER}",
    "Hunyuan 3": f"<think:opensource>{THOUGHT}</think:opensource>{ANSWER}",
    "openPangu": f"[unused16]{THOUGHT}[unused17]{ANSWER}",
    "Kimi K3": f"<|open|>think<|sep|>{THOUGHT}<|close|>think<|sep|><|open|>response<|sep|>{ANSWER}<|close|>response<|sep|>"
    "<|close|>message<|sep|><|end_of_msg|>",
    "Solar Open": f"<|think|>{THOUGHT}<|end|><|begin|>assistant<|content|>{ANSWER}<|end|>",
    "Solar Open 2": f"<|think:start|>{THOUGHT}<|think:end|>{ANSWER}",
    "PLaMo": f"<|plamo:begin_think:plamo|>{THOUGHT}<|plamo:end_think:plamo|>{ANSWER}",
    "HyperCLOVA X": f"/think\n{THOUGHT}<|im_end|>\n<|im_start|>assistant\n{ANSWER}",
    "Open WebUI": f'<details type="reasoning" done="true" duration="3">\n{THOUGHT}\n</details>\n{ANSWER}',
    "blanks in the tags": f"< think >\n{THOUGHT}\n</think >\n{ANSWER}",
    "a blank before the name at the end": f"<think>\n{THOUGHT}\n< / think>\n{ANSWER}",
    "attributes": f'<think budget="32" mode=deep>{THOUGHT}</think>{ANSWER}',
    "the beginning twice": f"<think>\n<think>\n{THOUGHT}\n</think>\n{ANSWER}",
    "the end twice": f"<think>\n{THOUGHT}\n</think>\n</think>\n{ANSWER}",
    "the end under another name": f"<thinking>\n{THOUGHT}\n</think>\n{ANSWER}",
}
OPENINGS = {name: written[: written.index(THOUGHT)] for name, written in WRITTEN.items() if not written.startswith(THOUGHT)}
IN_DOUBT = ("Granite", "Apriel", "HyperCLOVA X", "s1 without its control tokens", "gpt-oss without its control tokens")
"""Forms that begin with plain words, as an answer may, too."""


@pytest.mark.parametrize("name", list(WRITTEN))
def test_a_thought_in_any_published_form_is_no_part_of_the_answer(name):
    spoken = read_text(WRITTEN[name])
    assert (spoken.text, spoken.thinking, spoken.unfinished) == (ANSWER, THOUGHT, False)
    assert read_text(spoken.text) == Spoken(text=ANSWER), "what was read once is read the same again"


@pytest.mark.parametrize("name", list(OPENINGS))
def test_a_thought_that_was_cut_off_is_no_answer_yet(name):
    for written in (f"{OPENINGS[name]}{THOUGHT}", f"<think>one</think>\n{OPENINGS['DeepSeek, Qwen, GLM']}{THOUGHT}"):
        spoken = read_text(written, cut=True)
        assert (spoken.text, spoken.unfinished) == ("", True) and spoken.thinking.endswith(THOUGHT)
        assert read_reply(written, "length").text == ""


@pytest.mark.parametrize("name", list(OPENINGS))
def test_a_text_that_ended_without_the_end_of_its_thought_is_an_answer_only_where_plain_words_began_it(name):
    spoken = read_text(f"{OPENINGS[name]}{THOUGHT} So it is.")
    assert spoken.unfinished == (name not in IN_DOUBT) and (spoken.text == "") == spoken.unfinished


@pytest.mark.parametrize("name", sorted(OPENINGS.keys() - {"gpt-oss without its control tokens"}))
def test_what_the_prompt_has_begun_is_read_with_what_follows_it(name):
    begun, rest = OPENINGS[name], WRITTEN[name][len(OPENINGS[name]) :]
    spoken = read_text(rest, begun=begun)
    assert (spoken.text, spoken.thinking) == (ANSWER, THOUGHT)
    cut = read_text(f" is it {THOUGHT}", begun=begun, cut=True)
    assert cut.unfinished and not cut.text and cut.thinking.startswith("is it"), "it goes on from the prompt"


@pytest.mark.parametrize("written", ["<think>", "<think>\n", "[THINK]", "<|channel|>analysis<|message|>", "<seed:think>"])
def test_a_thought_that_was_only_begun_is_no_answer_yet(written):
    spoken = read_text(written)
    assert (spoken.text, spoken.unfinished) == ("", True) and without_thinking(written) == ""


@pytest.mark.parametrize(
    "thought",
    [
        'The user asks what "</think>" means. It ends a thought.',
        "They wrote `</think>` in their question. I explain it.",
        "The </think> tag ends a thought.",
        "I must close with </think>, then answer.",
        "An example:\n```\n<think>\nHm.\n</think>\n```\nThat is it.",
        "He opens <think> and (</think>) closes.",
        "One <think>within</think> another.",
        "A fence that stays open:\n```python\nx = 1",
        'I shall say "no."',
    ],
)
def test_the_end_of_a_thought_that_is_only_spoken_of_within_it_does_not_end_it(thought):
    for written in (f"<think>\n{thought}\n</think>\n\n{ANSWER}", f"<think>{thought}</think>{ANSWER}"):
        spoken = read_text(written)
        assert (spoken.text, spoken.thinking, spoken.unfinished) == (ANSWER, thought, False)


@pytest.mark.parametrize("thought", ["so it is yes", "It is `x", 'He said "hm', "the tag `</think>` is quoted"])
def test_the_only_end_of_a_thought_ends_it_and_no_answer_is_lost(thought):
    assert read_text(f"<think>{thought} </think> {ANSWER}").text == ANSWER


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
        "Use <tool_call> for a call.",
        "Put it between <tool_call> and </tool_call> tags.",
        'The tag "</think>" ends a thought.',
        "The closing tag is </think>",
        "You close it with </think>\nand then you answer.",
        "</think> ends a thought.",
        "Close it like this:\n```\n</think>\n```\nand go on.",
        "It ends with this mark:\n\n</think>",
        "<think> is the tag that opens a thought.",
        "<think> and </think> are tags.",
        "Here are my reasoning steps:\n1. It rains.\n2. So take a coat.",
        "Here's my thought process: it rains, so take a coat.",
        "Begin with:\n<think>\nand write on.",
        "think\nabout it\nanswer slowly",
        "In harmony, `<|channel|>final<|message|>` begins the answer.",
        "Tags such as <thinking about it> mean nothing.",
        "Write (</think>) at the end.",
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


MARKS = [
    *("<think>", "</think>", "`", "```", '"', "\n", " ", ". ", "[THINK]", "[/THINK]", "<tool_call>", "</tool_call>", "</think >"),
    *("<|channel|>", "<|message|>", "<|start|>assistant", "<|end|>", "final", "analysis", "<answer>", "</answer>", "(", ")"),
    *("<|im_start|>think\n", "<|im_start|>answer\n", "Here are my reasoning steps:", "[BEGIN FINAL RESPONSE]", "the ", ", "),
    *("[END FINAL RESPONSE]", "<longcat_think>", "</longcat_think>", "think\n", "\nanswer\n", "<reasoning>", "</reasoning>"),
]


@given(st.lists(st.sampled_from([*MARKS, None, None, None])), st.sampled_from(["", "<think>", "[THINK]"]), st.booleans())
def test_no_word_is_lost_or_doubled_however_odd_the_text(pieces, begun, cut):
    words = iter(range(100, 100 + len(pieces)))
    written = "".join(f"Word{next(words)}" if piece is None else piece for piece in pieces)
    spoken = read_text(written, begun=begun, cut=cut)
    parts = f"{spoken.text} {spoken.thinking} {json.dumps(spoken.tool_calls)}"
    assert sorted(re.findall(r"Word\d+", written)) == sorted(set(re.findall(r"Word\d+", parts)))
    assert begins_inside(written) in (True, False) and not (spoken.unfinished and spoken.text)
    if not (spoken.thinking or spoken.tool_calls or spoken.unfinished or begun):
        assert set(spoken.text) <= {*written, "\n"}


@given(
    st.text(alphabet="abc XYZ.,!?\n\u00e9\u4e2d", min_size=1).filter(lambda text: text.strip()[:1].isalnum()),
    st.sampled_from(sorted(WRITTEN)),
)
def test_any_answer_comes_whole_out_of_any_form(answer, name):
    written = WRITTEN[name].replace(ANSWER, answer.strip())
    assert read_text(written).text == answer.strip()


@given(st.text(alphabet="<>/[]|`\"'() \nthinkTHINKanswer:=_"))
def test_a_text_of_nothing_but_marks_is_read_in_some_way(written):
    spoken = read_text(written)
    assert spoken == read_text(written) and isinstance(spoken.text, str)
