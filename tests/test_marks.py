"""Marks that say what of a row is learnt: honoured or refused, never learnt in silence; two answers, of which one is named."""

from __future__ import annotations

import json

import pytest

from buckler.data import LOSS_WEIGHT, MASKED_TURNS, NOT_LEARNT, UNCLEAR, Chat, distinct, masked_turns, to_learn
from buckler.errors import ConfigError, DataError
from buckler.finetuning.other_trainers import learnt_answers
from buckler.formats import Reading, read_accounted, read_chats


def put(path, *rows):
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


def talk(*texts, **marks):
    """Question and answer by turns, with marks on the first answer."""
    roles = ("user", "assistant")
    turns = [{"role": roles[at % 2], "content": text} for at, text in enumerate(texts)]
    turns[1] |= marks
    return {"messages": turns}


@pytest.mark.parametrize(
    "marks",
    [
        {"weight": 0},
        {"weight": 0.0},
        {"loss_scale": 0},
        {"train": False},
        {"training": False},
        {"train_on_turn": False},
        {"trainable": False},
        {"loss": False},
        {"masked": True},
        {"mask": 1},
        {"train_detail": [{"begin_offset": 0, "end_offset": 2, "train": False}]},
    ],
    ids=str,
)
def test_an_answer_that_is_marked_is_no_part_of_what_is_learnt(tmp_path, marks):
    (row,) = read_chats(put(tmp_path / "r.jsonl", talk("q", "bad", "sure?", "good", **marks)))
    assert masked_turns(row) == {1} and learnt_answers(row) == [3]
    alone = read_chats(put(tmp_path / "s.jsonl", talk("q", "bad", **marks), talk("q", "good")))
    assert [one.answer for one in to_learn(alone)] == ["good"]
    named = {**talk("q", "bad", "sure?", "good", **marks), "system": "s"}
    named = {
        "system": "s",
        "conversations": [{"from": turn.pop("role"), "value": turn.pop("content"), **turn} for turn in named["messages"]],
    }
    (row,) = read_chats(put(tmp_path / "t.json", [named]))
    assert masked_turns(row) == {2} and learnt_answers(row) == [4]


@pytest.mark.parametrize("marks", [{"weight": 1}, {"train": True}, {"loss": True}, {"mask": False}, {"weight": None}], ids=str)
def test_an_answer_that_is_marked_as_learnt_is(tmp_path, marks):
    (row,) = read_chats(put(tmp_path / "r.jsonl", talk("q", "a", **marks)))
    assert not row.meta.keys() & {MASKED_TURNS, NOT_LEARNT}
    assert "dropped_turn_keys" not in row.meta


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (talk("q", "a", weight=0.5), "'weight' of a turn must be 0 or 1"),
        (talk("q", "a", weight="some"), "'weight' of a turn must be 0 or 1"),
        (talk("q", "a", train_detail=[{"train": True}, {"train": False}]), "'train_detail' marks parts of an answer"),
        (
            talk("q", [{"type": "text", "text": "a", "train": False}, {"type": "text", "text": "b"}]),
            "some parts of an answer are to be learnt and some are not",
        ),
        (
            {"messages": [{"role": "user", "content": "q", "train": True}, {"role": "assistant", "content": "a"}]},
            "only answers are",
        ),
        ({**talk("q", "a"), "input_ids": [1, 2], "labels": [-100, 2]}, "token ids of one model"),
        ({**talk("q", "a"), "assistant_masks": [0, 1]}, "a mask of tokens"),
        ({**talk("q", "a"), "chat_template_kwargs": {"enable_thinking": False}}, "settings of the chat template"),
        ({"prompt": "q", "completion": "a", "segments": [{"label": True, "text": "x"}]}, "pieces of text with a mark"),
        ({"prompt": "q", "completions": ["a", "b"], "labels": [True, False]}, "steps with a label each"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_mark_that_cannot_be_honoured_is_refused_by_its_name(tmp_path, row, message):
    with pytest.raises(DataError, match=message) as caught:
        read_chats(put(tmp_path / "r.jsonl", row))
    assert "r.jsonl:1" in str(caught.value)


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ({"label": True}, {"label": False}),
        ({"kto_tag": True}, {"kto_tag": False}),
        ({"label": "True"}, {"label": "False"}),
        ({"is_safe": True}, {"is_safe": False}),
        ({"is_response_safe": "true"}, {"is_response_safe": "false"}),
        ({"response_harm_label": "unharmful"}, {"response_harm_label": "harmful"}),
        ({"mask": "User"}, {"mask": "Assistant"}),
    ],
    ids=str,
)
@pytest.mark.parametrize("shape", ["pair", "turns", "messages"])
def test_a_row_whose_answer_is_undesired_is_not_learnt(tmp_path, good, bad, shape):
    question, answer = [{"role": "user", "content": "q"}], [{"role": "assistant", "content": "a"}]
    row = {
        "pair": {"prompt": "q", "completion": "a"},
        "turns": {"prompt": question, "completion": answer},
        "messages": {"messages": question + answer},
    }[shape]
    rows = read_chats(put(tmp_path / "r.jsonl", {**row, **good}, {**row, **bad}))
    assert [NOT_LEARNT in one.meta for one in rows] == [False, True]
    assert len(to_learn(rows)) == 1
    assert not any("ignored_columns" in one.meta for one in rows if "mask" not in good)


def test_a_number_that_may_be_a_class_is_asked_about_when_it_is_learnt(tmp_path):
    path = put(tmp_path / "r.jsonl", *({"prompt": f"q{at}", "completion": "a", "label": at % 2} for at in range(4)))
    rows = read_chats(path)
    assert all(UNCLEAR in row.meta for row in rows)
    with pytest.raises(
        DataError, match="'label' is 0: a mark of answers not to be learnt, or a class; say it with --columns learn=label"
    ):
        to_learn(rows)
    assert len(to_learn(read_chats(path, reading=Reading(columns={"learn": "label"})))) == 2
    assert len(to_learn(read_chats(path, reading=Reading(columns={"ignore": "label"})))) == 4


def test_a_weight_of_a_row_is_that_of_its_loss(tmp_path):
    rows = read_chats(put(tmp_path / "r.jsonl", {**talk("q", "a"), "weight": 2.5}, {"messages": talk("q", "b")["messages"]}))
    assert [row.meta.get(LOSS_WEIGHT) for row in rows] == [2.5, None]
    with pytest.raises(DataError, match="weight must be a number of at least 0"):
        read_chats(put(tmp_path / "n.jsonl", {**talk("q", "a"), "weight": -1}))


def test_marks_of_copies_stay(tmp_path):
    marked = Chat.pair("q", "a", not_learnt="label: false")
    assert to_learn(distinct([marked, Chat.pair("q", "a")])) == []
    partly = Chat.of(Chat.pair("q", "a").messages, masked_turns=[1])
    assert masked_turns(distinct([partly, Chat.pair("q", "a")])[0]) == {1}


def test_the_answers_in_a_prompt_of_trl_are_not_learnt(tmp_path):
    turns = talk("q", "before", "then", "after")["messages"]
    (row,) = read_chats(put(tmp_path / "r.jsonl", {"prompt": turns[:3], "completion": turns[3:]}))
    assert learnt_answers(row) == [3]


@pytest.mark.parametrize(
    "row",
    [
        {**talk("q", "a"), "images": ["a.jpg"]},
        {"instruction": "q", "input": "", "output": "a", "audios": ["a.wav"]},
        {"prompt": "q", "completion": "a", "image": {"bytes": "x"}},
        talk("<image>Who is it?", "a"),
        talk([{"type": "text", "text": "Who?"}, {"type": "image_url", "image_url": {"url": "x"}}], "a"),
        talk([{"type": "input_audio", "input_audio": {"data": "x"}}], "a"),
    ],
    ids=str,
)
def test_pictures_and_sounds_are_refused(tmp_path, row):
    with pytest.raises(DataError, match="only text is read"):
        read_chats(put(tmp_path / "r.jsonl", row))
    text = {name: value for name, value in row.items() if name not in ("images", "audios", "image")}
    if text != row:
        assert read_chats(put(tmp_path / "s.jsonl", {**text, "images": []}))


TURNS = [{"role": "user", "content": "q"}]
GOOD, BAD = [{"role": "assistant", "content": "good"}], [{"role": "assistant", "content": "bad"}]
PREFERENCES = {
    "texts": {"prompt": "q", "chosen": "good", "rejected": "bad"},
    "turns": {"prompt": TURNS, "chosen": GOOD, "rejected": BAD},
    "conversations": {"chosen": TURNS + GOOD, "rejected": TURNS + BAD},
    "argilla": {"prompt": "q", "chosen": TURNS + GOOD, "rejected": TURNS + BAD, "score_chosen": 5},
    "transcripts": {"chosen": "\n\nHuman: q\n\nAssistant: good", "rejected": "\n\nHuman: q\n\nAssistant: bad"},
    "alpaca": {"instruction": "q", "input": "", "chosen": "good", "rejected": "bad"},
    "list": {"instruction": "q", "input": "", "output": ["good", "bad"]},
    "sharegpt": {
        "conversations": [{"from": "human", "value": "q"}],
        "chosen": {"from": "gpt", "value": "good"},
        "rejected": {"from": "gpt", "value": "bad"},
    },
    "openai": {"input": {"messages": TURNS, "tools": []}, "preferred_output": GOOD, "non_preferred_output": BAD},
    "swift": {"messages": TURNS + GOOD, "rejected_response": "bad"},
    "stack": {"question": "q", "response_j": "good", "response_k": "bad"},
    "shp": {"history": "q", "human_ref_A": "bad", "human_ref_B": "good", "labels": 0},
    "arena": {"prompt": "q", "response_a": "bad", "response_b": "good", "winner": "model_b"},
}


@pytest.mark.parametrize("name", PREFERENCES)
def test_two_answers_are_read_as_their_user_says(tmp_path, name):
    path = put(tmp_path / "p.jsonl", PREFERENCES[name], PREFERENCES[name])
    with pytest.raises(DataError, match=r"two answers to a question .*--use chosen"):
        read_chats(path)
    for use, answer in (("chosen", "good"), ("rejected", "bad"), ("prompt", None)):
        rows, account = read_accounted(path, Reading(use=use))
        assert [(row.query, row.answer) for row in rows] == [("q", answer)] * 2, use
        assert account.preferences == 2 and len(to_learn(rows)) == 2


def test_the_safer_answer_may_still_be_one_that_is_not_learnt(tmp_path):
    row = {"prompt": "q", "response_0": "x", "response_1": "y", "better_response_id": 0, "safer_response_id": 1}
    path = put(tmp_path / "p.jsonl", {**row, "is_response_0_safe": False, "is_response_1_safe": False})
    (safer,) = read_chats(path, reading=Reading(use="safer"))
    assert safer.answer == "y" and safer.meta[NOT_LEARNT] == "is_safe: false"
    assert read_chats(path, reading=Reading(use="better"))[0].answer == "x"
    with pytest.raises(DataError, match="does not say which answer is chosen; --use better or safer"):
        read_chats(path, reading=Reading(use="chosen"))
    with pytest.raises(ConfigError, match="use is 'best'"):
        read_chats(path, reading=Reading(use="best"))


def test_messages_that_are_the_chosen_answer_need_no_word(tmp_path):
    row = {"prompt": "q", "messages": TURNS + GOOD, "chosen": TURNS + GOOD, "rejected": TURNS + BAD}
    rows, account = read_accounted(put(tmp_path / "u.jsonl", row), Reading())
    assert rows[0].answer == "good" and "rejected" in account.ignored
