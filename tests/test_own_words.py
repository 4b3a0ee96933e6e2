"""What a local model writes is its own, and an answer of nothing but a thought is not learnt."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from templates import AWKWARD, tokenizer_of

from buckler.data import Answer, Chat, read_answers, write_answers
from buckler.errors import DataError
from buckler.finetuning.batches import encode
from buckler.finetuning.settings import Objective
from buckler.judges.base import judge_named, of_answers
from buckler.models.chat_template import Template
from buckler.models.reply import completion_of_reply, completion_of_text, read_again

MARKS = ["[CONTENT_FILTERED]", "[content_filter]"]
THOUGHTS = ["<think>hm</think>", "<think>hm", "[THINK]hm[/THINK]"]


@pytest.fixture
def template() -> Template:
    return Template(tokenizer_of(AWKWARD["newline after the end of turn"].text), "tiny")


@pytest.mark.parametrize("mark", MARKS)
def test_a_filters_mark_is_the_providers_when_served_and_the_models_own_when_local(mark: str, tmp_path: Path):
    local = completion_of_text(mark, "stop", tokens=3, own_words=True)
    reply = {"choices": [{"finish_reason": "stop", "message": {"content": mark}}]}
    from_server = completion_of_reply(reply)
    assert (local.text, local.withheld_by) == (mark, "") and from_server.withheld_by
    assert read_again(local) == local
    answer = Answer(id="a", prompt=(), text=local.text, finish_reason="stop", own_words=local.own_words)
    saved = tmp_path / "answers.jsonl"
    write_answers(saved, [answer])
    assert read_answers(saved) == [answer]
    assert [verdict.withheld_by for verdict in of_answers(judge_named("keyword")).judge(read_answers(saved))] == [""]
    saved.write_text(json.dumps({"id": "a", "prompt": [], "text": mark, "finish": "stop"}) + "\n")
    assert read_answers(saved)[0].withheld_by


@pytest.mark.parametrize("thought", THOUGHTS)
def test_a_row_whose_answer_is_only_a_thought_is_left_out_and_counted(thought: str, template: Template):
    _, record = encode(template, [Chat.pair("Q?", thought), Chat.pair("Q3?", "Yes.")], Objective(), 512)
    assert record["rows"] == 1 and record["dropped_without_answer"]


def test_rows_of_thoughts_alone_are_nothing_to_train_on(template: Template):
    with pytest.raises(DataError, match="thought"):
        encode(template, [Chat.pair("Q?", thought) for thought in THOUGHTS[:2]], Objective(), 512)
