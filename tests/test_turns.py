"""Conversations however they are published: lists under any names, pairs, trees, transcripts; pairs of columns by any names."""

from __future__ import annotations

import json

import pytest

from buckler.errors import DataError
from buckler.formats import Reading, read_accounted, read_chats, recognise

Q, A = "Which river runs past the old mill?", "The Lorn runs past it."
FULL = [("user", Q), ("assistant", A), ("user", "Since when?"), ("assistant", "Always.")]


def put(path, *rows):
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


def listed(roles, speaker="role", content="content"):
    names = dict(zip(("user", "assistant"), roles, strict=True))
    return [{speaker: names[role], content: text} for role, text in FULL]


LISTS = {
    "capitals": {"messages": listed(("User", "Assistant"))},
    "upper": {"messages": listed(("USER", "ASSISTANT"))},
    "human-ai": {"messages": listed(("Human", "ai"))},
    "from-value": {"messages": listed(("human", "gpt"), "from", "value")},
    "role-content": {"conversations": listed(("user", "assistant"))},
    "from-assistant": {"conversations": listed(("user", "assistant"), "from", "value")},
    "wildchat": {"conversation": [{**turn, "toxic": False} for turn in listed(("user", "assistant"))], "turn": 2},
    "gemini": {"contents": [{"role": one["role"], "parts": [{"text": one["content"]}]} for one in listed(("user", "model"))]},
    "bedrock": {
        "messages": [{"role": one["role"], "content": [{"text": one["content"]}]} for one in listed(("user", "assistant"))]
    },
    "speaker-text": {"dialog": listed(("user", "bot"), "speaker", "text")},
    "ultrachat": {"id": "1", "data": [text for _, text in FULL]},
    "xtuner": {"conversation": [{"input": Q, "output": A}, {"input": "Since when?", "output": "Always."}]},
    "swift": {"conversation": [{"human": Q, "assistant": A}, {"human": "Since when?", "assistant": "Always."}]},
    "two": {"conversation": [[Q, A], ["Since when?", "Always."]]},
}


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("name", LISTS)
def test_a_list_of_turns_is_read_under_any_names(tmp_path, name, rows):
    for path in (put(tmp_path / "r.jsonl", *[LISTS[name]] * rows), tmp_path / "r.json"):
        if path.suffix == ".json":
            path.write_text(json.dumps([LISTS[name]] * rows))
        chats = read_chats(path)
        assert len(chats) == rows
        assert [(turn["role"], turn["content"]) for turn in chats[0].messages] == FULL


@pytest.mark.parametrize("column", ["system", "system_prompt", "systemInstruction"])
def test_a_system_prompt_beside_the_turns_goes_before_them(tmp_path, column):
    value = {"parts": [{"text": "s"}]} if column == "systemInstruction" else "s"
    (chat,) = read_chats(put(tmp_path / "r.jsonl", {column: value, **LISTS["role-content"]}))
    assert [turn["content"] for turn in chat.messages[:2]] == ["s", Q]
    own = [{"role": "system", "content": "other"}, *LISTS["role-content"]["conversations"]]
    with pytest.raises(DataError, match="two system prompts"):
        read_chats(put(tmp_path / "t.jsonl", {"system": "s", "messages": own}))
    own[0]["content"] = "s"
    assert len(read_chats(put(tmp_path / "u.jsonl", {"system": "s", "messages": own}))[0].messages) == 5


def test_a_speaker_that_nobody_knows_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"r\.jsonl:1: a turn needs a role, one of system"):
        read_chats(put(tmp_path / "r.jsonl", {"messages": [{"role": "narrator", "content": "x"}]}))


def reply(role, text, *replies, **more):
    return {"role": role, "text": text, "replies": list(replies), **more}


def test_a_tree_is_read_along_the_branch_that_people_ranked_first(tmp_path):
    answers = (reply("assistant", "worse", rank=1), reply("assistant", A, reply("prompter", "more?"), rank=0))
    tree = {"message_tree_id": "t", "prompt": reply("prompter", Q, *answers)}
    chats, account = read_accounted(put(tmp_path / "trees.jsonl", tree, tree), Reading())
    assert [turn["content"] for turn in chats[0].messages] == [Q, A] and account.branches == 2
    flat = [
        {"message_id": "1", "parent_id": None, "role": "prompter", "text": Q, "message_tree_id": "t", "rank": None},
        {"message_id": "2", "parent_id": "1", "role": "assistant", "text": "worse", "message_tree_id": "t", "rank": 1},
        {"message_id": "3", "parent_id": "1", "role": "assistant", "text": A, "message_tree_id": "t", "rank": 0},
        {"message_id": "4", "parent_id": None, "role": "prompter", "text": "alone?", "message_tree_id": "u", "rank": None},
    ]
    chats, account = read_accounted(put(tmp_path / "flat.jsonl", *flat), Reading())
    assert [chat.answer for chat in chats] == [A, None] and account.branches == 1
    with pytest.raises(DataError, match="is not in the file"):
        read_chats(put(tmp_path / "torn.jsonl", *flat[1:]))


def test_an_export_of_chatgpt_is_read_along_the_branch_it_ended_in(tmp_path):
    def node(name, parent, role, text, *children):
        message = role and {"author": {"role": role}, "content": {"content_type": "text", "parts": [text]}}
        return {"id": name, "parent": parent, "message": message, "children": list(children)}

    nodes = [
        node("r", None, None, "", "a"),
        node("a", "r", "user", Q, "b", "c"),
        node("b", "a", "assistant", "first try"),
        node("c", "a", "assistant", A),
    ]
    row = {"title": "t", "mapping": {one["id"]: one for one in nodes}, "current_node": "c"}
    path = tmp_path / "conversations.json"
    path.write_text(json.dumps([row, row]))
    chats, account = read_accounted(path, Reading())
    assert [turn["content"] for turn in chats[0].messages] == [Q, A] and account.branches == 2
    row["mapping"]["r"]["parent"] = "c"  # in a circle
    path.write_text(json.dumps([row, row]))
    assert read_chats(path)[0].answer == A


TRANSCRIPTS = {
    "chatml": f"<|im_start|>user\n{Q}<|im_end|>\n<|im_start|>assistant\n{A}<|im_end|>\n",
    "llama2": f"<s>[INST] {Q} [/INST] {A} </s>",
    "llama3": "<|begin_of_text|>"
    + "".join(f"<|start_header_id|>{role}<|end_header_id|>\n\n{text}<|eot_id|>" for role, text in FULL[:2]),
    "gemma": f"<start_of_turn>user\n{Q}<end_of_turn>\n<start_of_turn>model\n{A}<end_of_turn>\n",
    "zephyr": f"<|user|>\n{Q}</s>\n<|assistant|>\n{A}</s>\n",
    "guanaco": f"### Human: {Q}### Assistant: {A}",
    "guanaco-lines": f"### Human:\n{Q}\n### Assistant:\n{A}",
    "hh": f"\n\nHuman: {Q}\n\nAssistant: {A}",
    "vicuna": f"USER: {Q}\nASSISTANT: {A}",
    "alpaca": f"Below is an instruction that describes a task.\n\n### Instruction:\n{Q}\n\n### Response:\n{A}",
}


@pytest.mark.parametrize("name", TRANSCRIPTS)
def test_a_transcript_with_published_marks_is_a_conversation(tmp_path, name):
    for column in ("transcript", "text"):
        path = put(
            tmp_path / f"{column}.jsonl", {column: TRANSCRIPTS[name], "rating": 1}, {column: TRANSCRIPTS[name], "rating": 2}
        )
        assert len(read_chats(path)) == 2
    assert recognise(path) == "transcript"
    assert [(turn["role"], turn["content"]) for turn in read_chats(path)[0].messages] == FULL[:2]


def test_a_transcript_keeps_its_system_prompt_and_all_its_turns(tmp_path):
    chatml = "<|im_start|>system\ns<|im_end|>\n" + "".join(f"<|im_start|>{role}\n{text}<|im_end|>\n" for role, text in FULL)
    llama = f"<s>[INST] <<SYS>>\ns\n<</SYS>>\n\n{Q} [/INST] {A} </s><s>[INST] Since when? [/INST] Always. </s>"
    for number, text in enumerate((chatml, llama)):
        (chat,) = read_chats(put(tmp_path / f"{number}.jsonl", {"text": text}))
        assert [(turn["role"], turn["content"]) for turn in chat.messages] == [("system", "s"), *FULL]


@pytest.mark.parametrize("text", ["A plain text.", "Human: are you?", "Q: why?", "We said: User: hello"])
def test_a_text_without_an_answer_by_its_marks_is_a_document(tmp_path, text):
    with pytest.raises(DataError, match="a document, not a question"):
        read_chats(put(tmp_path / "r.jsonl", {"text": text}))


PAIRS = {
    "slimorca": {"system_prompt": "s", "question": Q, "response": A},
    "distilabel": {"instruction": Q, "generation": A, "model_name": "m"},
    "magpie": {"instruction": Q, "response": A},
    "query": {"query": Q, "response": A},
    "problem": {"problem": Q, "generation": A},
    "user-assistant": {"user": Q, "assistant": A},
    "prompt-generation": {"prompt": Q, "generation": A},
    "output": {"prompt": Q, "output": A},
}


@pytest.mark.parametrize("name", PAIRS)
def test_a_question_and_its_answer_are_read_under_any_names(tmp_path, name):
    (chat,) = read_chats(put(tmp_path / "r.jsonl", PAIRS[name]))
    assert (chat.query, chat.answer) == (Q, A)
    assert (chat.messages[0]["role"] == "system") == ("system_prompt" in PAIRS[name])


def test_two_columns_that_may_be_the_answer_are_asked_about(tmp_path):
    path = put(tmp_path / "r.jsonl", {"query": Q, "response": A, "generation": "other"})
    with pytest.raises(DataError, match=r"response and generation may be the answer; .* --columns prompt=query,answer="):
        read_chats(path)
    assert read_chats(path, reading=Reading(columns={"prompt": "query", "answer": "generation"}))[0].answer == "other"
    assert read_chats(put(tmp_path / "same.jsonl", {"query": Q, "response": A, "generation": A}))[0].answer == A


@pytest.mark.parametrize(
    ("row", "format"), [({"sentence": "A hat.", "label": 1}, "sst2"), ({"source": "x", "target": "y"}, "translation")]
)
def test_a_task_that_nothing_names_is_asked_about(tmp_path, row, format):
    path = put(tmp_path / "r.jsonl", row, row)
    with pytest.raises(DataError, match=f"name the format .*: {format}@FILE, or the columns: --columns prompt="):
        read_chats(path)
    assert read_chats(path, format=format)[0].meta["format"] == format
    columns = {"prompt": "sentence"} if format == "sst2" else {"prompt": "source", "answer": "target"}
    assert read_chats(path, reading=Reading(columns=columns))[0].query == row.get("sentence", "x")


@pytest.mark.parametrize("code", ["utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("delimiter", ["\t", ",", ";", "|"])
def test_tables_as_office_programs_write_them(tmp_path, code, delimiter):
    text = f"prompt{delimiter}completion\r\n{Q}{delimiter}{A}\r\n"
    mark = {"utf-16-le": b"\xff\xfe", "utf-16-be": b"\xfe\xff"}.get(code, b"")
    (tmp_path / "t.csv").write_bytes(mark + text.encode(code))
    assert [(one.query, one.answer) for one in read_chats(tmp_path / "t.csv")] == [(Q, A)]
    (tmp_path / "s.csv").write_text(f"sep={delimiter}\n{text}")
    assert [(one.query, one.answer) for one in read_chats(tmp_path / "s.csv")] == [(Q, A)]


def test_turns_that_a_table_holds_as_text_are_read(tmp_path):
    messages = json.dumps(listed(("user", "assistant"))).replace('"', '""')
    (tmp_path / "t.csv").write_text(f'id,messages\n1,"{messages}"\n')
    assert [(turn["role"], turn["content"]) for turn in read_chats(tmp_path / "t.csv")[0].messages] == FULL
    python = str(listed(("human", "gpt"), "from", "value")).replace('"', '""')
    (tmp_path / "p.csv").write_text(f'id,conversations\n1,"{python}"\n')
    assert len(read_chats(tmp_path / "p.csv")[0].messages) == 4
