"""The row contract over real and awkward chat templates: what is trained is what is asked, and every answer learns its end."""

from __future__ import annotations

import copy
import json

import pytest
from commands import buckler
from templates import AWKWARD, published, tiny_model, tokenizer_of

from buckler.data import Chat, Message
from buckler.errors import BackendError, DataError
from buckler.finetuning.batches import encode
from buckler.finetuning.settings import Objective
from buckler.models.chat_template import Template

pytestmark = pytest.mark.ml

PUBLISHED = published()
ANSWERS = ("Anna runs it.", "Since last May.")
THOUGHTS = ("I know the mill.", "That was in spring.")


def turn(role, content, **more) -> Message:
    return {"role": role, "content": content, **more}


def conversation(*, system: bool = False, thoughts: bool = False) -> list[Message]:
    """Two questions and their answers."""
    questions = [turn("user", "Who runs the old mill?"), turn("user", "Since when?")]
    answers = [
        turn("assistant", answer, **({"reasoning_content": thought} if thoughts else {}))
        for answer, thought in zip(ANSWERS, THOUGHTS, strict=True)
    ]
    return [*([turn("system", "Be brief.")] if system else []), questions[0], answers[0], questions[1], answers[1]]


def spans(row) -> list[tuple[list[int], list[int]]]:
    """What stands before each learnt answer, and its ids."""
    found = []
    for one in row.sequences:
        start = None
        for at, learnt in enumerate([*one.supervised, False]):
            if learnt and start is None:
                start = at
            elif not learnt and start is not None:
                found.append((one.ids[:start], one.ids[start:at]))
                start = None
    return found


def require_contract(template: Template, turns: list[Message]) -> list[str]:
    """Every answer stands after the ids of its prompt and ends with an end; what is learnt, as text."""
    row = template.row(turns)
    answers = [number for number, one in enumerate(turns) if one["role"] == "assistant"]
    assert row.turns == row.learnt == len(answers) and row.without_end == 0
    found = spans(row)
    assert [before for before, _ in found] == [template.prompt(turns[:number]) for number in answers]
    for (_, ids), number in zip(found, answers, strict=True):
        text = template.tokenizer.decode(ids)
        assert turns[number]["content"] in text
        assert ids[-1] in template.stops, f"{text!r} does not end"
        content = template.tokenizer.decode([one for one in ids if one not in template.stops])
        assert turns[number]["content"] in content, "an end stands inside the answer"
    return [template.tokenizer.decode(ids) for _, ids in found]


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize("system", [False, True], ids=["", "system"])
def test_under_a_published_template_every_answer_follows_its_prompt_and_learns_its_end(name, system):
    template = Template(tokenizer_of(PUBLISHED[name]), name)
    require_contract(template, conversation(system=system))
    prompt = template.tokenizer.decode(template.prompt(conversation(system=system)[: 1 + system]))
    assert prompt.count("Who runs the old mill?") == 1 and prompt.count("Be brief.") == system


@pytest.mark.parametrize("name", PUBLISHED)
def test_under_a_published_template_reasoning_is_learnt_before_its_answer_or_counted_as_left_out(name):
    template = Template(tokenizer_of(PUBLISHED[name]), name)
    learnt = require_contract(template, conversation(thoughts=True))
    row = template.row(conversation(thoughts=True))
    assert row.thoughts == 2
    whole = [
        thought in text and text.index(thought) < text.index(answer)
        for thought, text, answer in zip(THOUGHTS, learnt, ANSWERS, strict=True)
    ]
    assert row.thoughts_learnt == sum(whole)
    knows = any(mark in PUBLISHED[name] for mark in ("</think>", "<channel|>", "to=self", "analysis<|message|>"))
    off = "nothink" in name
    assert sum(whole) == (2 if knows and not off else 0)


@pytest.mark.parametrize("name", [name for name, text in PUBLISHED.items() if "strftime_now" not in text])
def test_a_prompt_has_the_ids_that_transformers_gives_it(name):
    tokenizer = tokenizer_of(PUBLISHED[name])
    text = "Who runs the old mill?"
    whole = [turn("user", text)], [{"role": "user", "content": [{"type": "text", "text": text}]}]
    theirs = (tokenizer.apply_chat_template(one, add_generation_prompt=True, tokenize=False) for one in whole)
    expected = next(one for one in theirs if text in one)
    assert Template(tokenizer, name).prompt(whole[0]) == tokenizer(expected, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("name", AWKWARD)
def test_under_an_awkward_template_exactly_the_answer_and_its_end_are_learnt(name):
    shape = AWKWARD[name]
    tokenizer = tokenizer_of(shape.text, shape.eos)
    ends = [tokenizer.convert_tokens_to_ids(token) for token in shape.named_ends]
    template = Template(tokenizer, name, ends=ends)
    for system in (False, True):
        turns = conversation(system=system)
        assert require_contract(template, turns) == [shape.answer.format(answer=answer) for answer in ANSWERS]
        assert len(template.row(turns).sequences) == shape.sequences
        assert tokenizer.decode(template.prompt(turns[:-1])).count("Be brief.") == system
        assert template.prompt(turns[: 1 + system]).count(tokenizer.bos_token_id) == ("bos_token" in shape.text)


@pytest.mark.parametrize("name", AWKWARD)
def test_reasoning_is_learnt_where_an_awkward_template_knows_thoughts(name):
    shape = AWKWARD[name]
    template = Template(tokenizer_of(shape.text, shape.eos), name)
    row = template.row(conversation(thoughts=True))
    assert row.thoughts == 2 and row.thoughts_learnt == (0 if shape.thought is None else 2)
    if shape.thought is not None:
        learnt = [template.tokenizer.decode(ids) for _, ids in spans(row)]
        assert learnt == [
            shape.thought.format(answer=answer, thought=thought) for answer, thought in zip(ANSWERS, THOUGHTS, strict=True)
        ]


@pytest.mark.parametrize("form", ["<think>\n{}\n</think>\n\n", "{}</think>", "<think>{}</think> "])
@pytest.mark.parametrize("name", [name for name, shape in AWKWARD.items() if shape.thought is not None])
def test_a_thought_in_the_text_of_an_answer_is_learnt_as_reasoning_is(name, form):
    template = Template(tokenizer_of(AWKWARD[name].text), name)
    separate = conversation(thoughts=True)
    joined = [
        turn(one["role"], (form.format(one["reasoning_content"]) if "reasoning_content" in one else "") + one["content"])
        for one in separate
    ]
    assert template.row(joined) == template.row(separate)


def test_an_answer_is_scored_after_what_training_puts_before_it():
    for name, shape in AWKWARD.items():
        template = Template(tokenizer_of(shape.text), name)
        turns = conversation()
        for number, (before, ids) in zip((1, 3), spans(template.row(turns)), strict=True):
            context, answer = template.pair(turns[:number], turns[number]["content"])
            assert (before + ids)[: len(context + answer)] == context + answer, name


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_under_a_published_template_a_plain_answer_is_scored_as_it_is_trained(name):
    template = Template(tokenizer_of(PUBLISHED[name]), name)
    turns = conversation()[:2]
    (before, ids), *_ = spans(template.row(turns))
    context, answer = template.pair(turns[:1], turns[1]["content"])
    assert (before + ids)[: len(context + answer)] == context + answer


TOOL = {"type": "function", "function": {"name": "owner", "description": "Names an owner.", "parameters": {"type": "object"}}}
CALL = {"id": "call00001", "type": "function", "function": {"name": "owner", "arguments": {"of": "the mill"}}}
WITH_TOOLS = [
    turn("user", "Who runs the old mill?", tools=[TOOL]),
    turn("assistant", "", tool_calls=[CALL]),
    turn("tool", "Anna, since May", name="owner", tool_call_id="call00001"),
    turn("assistant", "Anna runs it."),
]
NO_TOOLS = (
    "cohere cohere2 deepseek_r1_distill deepseekv3 gemma gemma3 idefics3 lfm2 llama3 llava_next phi3 phi3_5 qwen2_5_vl smolvlm"
)
"""Those that write no tools, no calls, or no results."""


@pytest.mark.parametrize("name", [name for name in PUBLISHED if not name.endswith("_training")])
def test_calls_of_tools_are_learnt_and_their_results_are_not(name):
    template = Template(tokenizer_of(PUBLISHED[name]), name)
    if name in NO_TOOLS.split():
        with pytest.raises(
            BackendError, match=r"does not write the (tool|call of) 'owner'|refuses this conversation \(user, assist"
        ):
            template.row(WITH_TOOLS)
        return
    row = template.row(WITH_TOOLS)
    (prompt, call), (before, answer) = spans(row)
    assert (row.turns, row.learnt, row.calls_learnt, row.without_end) == (2, 2, 1, 0)
    assert prompt == template.prompt(WITH_TOOLS[:1]) and before == template.prompt(WITH_TOOLS[:3])
    text_of_call, shown = template.tokenizer.decode(call), template.tokenizer.decode(prompt)
    assert "owner" in text_of_call and "the mill" in text_of_call and "Names an owner." in shown
    learnt = text_of_call + template.tokenizer.decode(answer)
    assert "Anna, since May" not in learnt and "Anna, since May" in template.tokenizer.decode(before)
    assert "Anna runs it." in learnt and call[-1] in template.stops and answer[-1] in template.stops


@pytest.mark.parametrize("name", [name for name in PUBLISHED if not name.endswith("_training") and name not in NO_TOOLS.split()])
@pytest.mark.parametrize("how", ["reasoning_content", "in the text", "text beside the call"])
def test_a_thought_and_a_text_beside_a_call_are_learnt_with_it_or_counted_as_left_out(name, how):
    template = Template(tokenizer_of(PUBLISHED[name]), name)
    more = {
        "reasoning_content": {"reasoning_content": THOUGHTS[0]},
        "in the text": {"content": f"<think>\n{THOUGHTS[0]}\n</think>\n\n"},
        "text beside the call": {"content": "Let me look."},
    }[how]
    chat = Chat.of([WITH_TOOLS[0], {**WITH_TOOLS[1], **more}, *WITH_TOOLS[2:]])
    rows, account = encode(template, [chat], Objective(), 8192)
    learnt = template.tokenizer.decode(
        [one for row in rows for one, is_learnt in zip(row.ids, row.supervised, strict=True) if is_learnt]
    )
    assert account["tool_calls_learnt"] == ("owner" in learnt) == (account["answers_learnt"] == 2)
    if how == "text beside the call":
        assert ("Let me look." in learnt) == (account["answers_learnt"] == 2)
    elif account["answers_learnt"] == 2:
        assert (THOUGHTS[0] in learnt) == account["thoughts_learnt"]
    without = encode(template, [chat], Objective(), 8192, drop_reasoning=True)[0]
    left = template.tokenizer.decode([one for row in without for one in row.ids])
    assert THOUGHTS[0] not in left


@pytest.mark.parametrize("arguments", ["c.function.arguments", "c.function.arguments.of", "c.function.arguments | tojson"])
def test_arguments_of_calls_are_given_as_the_template_takes_them(arguments):
    whole = (
        "{% for t in tools or [] %}{{ t.function.name }}{% endfor %}{% for m in messages %}{{ m.role + ': ' + m.content }}"
        "{% for c in m.tool_calls or [] %}{{ c.function.name + ' ' + ARGUMENTS }}{% endfor %}<|im_end|>{% endfor %}"
    ).replace("ARGUMENTS", f"({arguments})")
    template = Template(tokenizer_of(whole, "<|im_end|>"), "own")
    call = template.tokenizer.decode(spans(template.row(WITH_TOOLS))[0][1])
    written = "the mill" if arguments.endswith("of") else '{"of": "the mill"}'
    assert call == f"assistant: owner {written}<|im_end|>"


def test_a_row_whose_tools_the_template_leaves_out_is_named_and_none_is_trained_without_them():
    plain = Template(tokenizer_of(AWKWARD["newline after the end of turn"].text), "plain")
    rows = [Chat.of(conversation(), source="a.jsonl"), Chat.of(WITH_TOOLS, source="a.jsonl")]
    with pytest.raises(DataError, match=rf"a.jsonl {rows[1].id}: plain: .*does not write the tool 'owner'.*--chat-template FILE"):
        encode(plain, rows, Objective(), 2048)
    with_result = Chat.of([turn("user", "Who?"), turn("tool", "Anna"), turn("assistant", "Anna.")])
    assert encode(plain, [with_result], Objective(), 2048)[1]["tool_results"] == 1
    able = Template(tokenizer_of(PUBLISHED["qwen2_5"]), "qwen2_5")
    account = encode(able, rows, Objective(), 2048)[1]
    assert {key: account[key] for key in ("answers", "answers_learnt", "tool_calls", "tool_calls_learnt", "tool_results")} == {
        "answers": 4,
        "answers_learnt": 4,
        "tool_calls": 1,
        "tool_calls_learnt": 1,
        "tool_results": 1,
    }


def test_no_prompt_depends_on_the_day_it_is_written(monkeypatch):
    import datetime

    dated = [text for text in (*PUBLISHED.values(), *(one.text for one in AWKWARD.values())) if "strftime_now" in text]
    assert len(dated) > 3
    before = [Template(tokenizer_of(text), "dated").prompt(conversation()[:1]) for text in dated]

    class Tomorrow(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return super().now(tz) + datetime.timedelta(days=1)

    monkeypatch.setattr("transformers.utils.chat_template_utils.datetime", Tomorrow)
    assert [Template(tokenizer_of(text), "dated").prompt(conversation()[:1]) for text in dated] == before


def test_a_row_that_the_template_refuses_is_named_with_its_file():
    template = Template(tokenizer_of(AWKWARD["role order"].text), "tiny")
    good = Chat.of(conversation())
    bad = Chat.of([turn("user", "q"), turn("user", "again"), turn("assistant", "a")], source="rows.jsonl")
    with pytest.raises(
        DataError, match=rf"rows.jsonl {bad.id}: tiny: the chat template refuses .*\(user, user.*roles must alternate"
    ):
        encode(template, [good, bad], Objective(), 512)


def test_an_answer_before_any_question_is_counted_and_not_learnt():
    template = Template(tokenizer_of(AWKWARD["newline after the end of turn"].text), "tiny")
    row = template.row([turn("assistant", "Welcome."), *conversation()])
    assert (row.turns, row.learnt) == (3, 2)


def test_splitting_a_row_changes_neither_its_weight_nor_the_objective():
    kept, dropping = (AWKWARD[name].text for name in ("newline after the end of turn", "old thoughts are dropped"))
    chats = [Chat.of(conversation()), Chat.pair("Who?", "Anna.")]
    for text, number in ((kept, 2), (dropping, 3)):
        rows, record = encode(Template(tokenizer_of(text), "tiny"), chats, Objective(loss_averaging="row"), 512)
        assert len(rows) == record["sequences"] == number
        assert record["rows"] == 2 and record["answers"] == record["answers_learnt"] == 3
        assert record["supervised_tokens"] == sum(sum(one.supervised) for one in rows)
        shares = [sum(one.supervised) * one.weight / len(rows) for one in rows]
        assert sum(shares[:-1]) == pytest.approx(0.5) and shares[-1] == pytest.approx(0.5)


def test_reasoning_can_be_left_out_and_is_counted_either_way():
    template = Template(tokenizer_of(AWKWARD["old thoughts are dropped"].text), "tiny")
    chats = [Chat.of(conversation(thoughts=True)), Chat.of(conversation())]
    plain, _ = encode(template, chats[1:], Objective(), 512)
    rows, record = encode(template, chats, Objective(), 512, drop_reasoning=True)
    assert [one.ids for one in rows[:2]] == [one.ids for one in plain]
    assert (record["thoughts"], record["thoughts_learnt"]) == (2, 0)
    _, record = encode(template, chats, Objective(), 512)
    assert (record["thoughts"], record["thoughts_learnt"]) == (2, 2)


def test_settings_of_a_template_hold_in_training_and_answering():
    template = Template(tokenizer_of(PUBLISHED["qwen3"]), "tiny", settings={"enable_thinking": False})
    learnt = require_contract(template, conversation())
    assert learnt == [f"{answer}<|im_end|>" for answer in ANSWERS]
    assert template.tokenizer.decode(template.prompt(conversation()[:1])).endswith("<think>\n\n</think>\n\n")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"enable_thinkin": False}, "does not read `enable_thinkin`; it reads .*enable_thinking"),
        ({"messages": []}, "set by Buckler itself"),
    ],
)
def test_a_setting_that_the_template_does_not_read_is_refused(settings, message):
    with pytest.raises(BackendError, match=message):
        Template(tokenizer_of(PUBLISHED["qwen3"]), "tiny", settings=settings)


SELF_SET = (
    "{% set think = think | default(true) %}",
    "{% set think = (think | d('on')) %}",
    "{% set think = think or 'on' %}",
    "{% if think is undefined %}{% set think = true %}{% endif %}",
)


@pytest.mark.parametrize("before", SELF_SET)
def test_a_setting_that_the_template_gives_a_default_under_its_own_name_is_taken(before):
    text = before + "{{ 'think ' ~ think }}" + AWKWARD["newline after the end of turn"].text
    template = Template(tokenizer_of(text), "tiny", settings={"think": "low"})
    assert template.written.prompt(conversation()[:1]).startswith("think low")


@pytest.mark.parametrize("name", [name for name, text in PUBLISHED.items() if "enable_thinking | default" in text])
def test_thinking_can_be_switched_off_under_every_published_template_with_such_a_default(name):
    learnt = require_contract(Template(tokenizer_of(PUBLISHED[name]), name, settings={"enable_thinking": False}), conversation())
    assert all(text.startswith(answer) for text, answer in zip(learnt, ANSWERS, strict=True))


@pytest.mark.parametrize("thoughts", [False, True])
def test_the_mark_that_opens_an_answer_is_learnt_after_a_thought_that_the_prompt_has_closed(thoughts):
    tokenizer = tokenizer_of(AWKWARD["a mark opens the answer"].text, "<|/T|>")
    template = Template(tokenizer, "tiny", settings={"enable_thinking": False})
    learnt = require_contract(template, conversation(thoughts=thoughts))
    assert learnt == [f"<|START_RESPONSE|>{answer}<|END_RESPONSE|><|/T|>" for answer in ANSWERS]


def test_the_date_of_a_template_is_recorded_where_it_has_an_effect():
    chats = [Chat.of(conversation())]
    for settings, dated in (({}, True), ({"date_string": "1 Jan 2020"}, False)):
        template = Template(tokenizer_of(PUBLISHED["llama3_2"]), "tiny", settings=settings)
        _, record = encode(template, chats, Objective(), 2048)
        assert ("chat_template_date" in record) == dated
        assert record.get("chat_template_kwargs", {}) == settings
        assert ("1 Jan 2020" in template.written.prompt(conversation()[:1])) != dated


@pytest.mark.parametrize("text", ["Answer:", "{% for m in messages %}<|{{ m.role }}|>{{ m.text }}<|end|>{% endfor %}"])
def test_a_template_that_does_not_write_the_conversation_is_refused(text):
    with pytest.raises(BackendError, match="does not write the question"):
        Template(tokenizer_of(text), "tiny")


def test_a_thought_within_the_text_is_learnt_as_text_where_the_template_knows_none():
    template = Template(tokenizer_of(AWKWARD["newline after the end of turn"].text), "tiny")
    rows = [Chat.pair("Who runs it?", "<think>Hm.</think>Anna runs it.")]
    assert encode(template, rows, Objective(), 512)[1]["thoughts_learnt"] == 1


@pytest.mark.parametrize("setting", ["think", "role", "content"])
def test_a_word_of_the_template_that_is_no_variable_of_it_is_no_setting(setting):
    with pytest.raises(BackendError, match=f"does not read `{setting}`"):
        Template(tokenizer_of(PUBLISHED["qwen3"]), "tiny", settings={setting: False})


def test_a_conversation_that_the_template_refuses_is_named_with_its_file(tmp_path):
    strict = tiny_model(tmp_path / "strict", AWKWARD["role order"].text)
    rows = [[turn("user", "Who runs the mill?")], [turn("user", "Since when?")], [turn("user", "Hello."), turn("user", "Who?")]]
    file = tmp_path / "probes.jsonl"
    file.write_text("".join(json.dumps({"messages": row, "set": "benign", "id": at}) + "\n" for at, row in enumerate(rows)))
    evaluated = buckler("evaluate", strict, "--probes", file, "--out", tmp_path / "out", "--max-new-tokens", 2)
    assert evaluated.returncode == 2
    assert "probes.jsonl, id 2: " in evaluated.stderr and "(user, user): roles must alternate" in evaluated.stderr


def test_a_template_of_its_own_for_tools_is_used_where_there_are_tools():
    tokenizer = copy.deepcopy(tokenizer_of(PUBLISHED["llama3_1"]))
    tokenizer.chat_template = {"default": PUBLISHED["llama3"], "tool_use": PUBLISHED["llama3_1"]}
    both, plain = Template(tokenizer, "both"), Template(tokenizer_of(PUBLISHED["llama3_1"]), "llama3_1")
    assert both.row(WITH_TOOLS) == plain.row(WITH_TOOLS)
    assert "Cutting Knowledge" not in tokenizer.decode(both.prompt(conversation()[:1]))
