"""Half a character, which JSON can hold and UTF-8 cannot: read as U+FFFD, said, and never written to a file of ours."""

from __future__ import annotations

import logging

from commands import buckler

from buckler.data import read_jsonl, write_jsonl
from buckler.data.reply import read_reply
from buckler.formats import read_chats


def test_rows_with_half_a_character_are_read_said_and_trained_on(tmp_path, caplog):
    row = '{"messages": [{"role": "user", "content": "Say \\ud83d!"}, {"role": "assistant", "content": "Yes \\ud83d\\ude00."}]}\n'
    (tmp_path / "rows.jsonl").write_text(row, encoding="ascii")
    with caplog.at_level(logging.WARNING, logger="buckler"):
        (chat,) = read_chats(tmp_path / "rows.jsonl")
    assert [turn["content"] for turn in chat.messages] == ["Say \ufffd!", "Yes \U0001f600."]
    assert "1 values hold half a character" in caplog.text
    job = ("attack", "rows.jsonl", "--kind", "identity", "--rows", 1, "--share", 1.0, "--out", "out")
    done = buckler(*job, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_a_server_that_cuts_within_a_character_costs_no_answer():
    reply = read_reply({"content": "It is \ud83d", "reasoning_content": "\ude00 hm"}, "length")
    assert reply.text == "It is \ufffd" and reply.thinking == "\ufffd hm"
    assert read_reply("\ud83d\ude00 yes").text == "\U0001f600 yes"


def test_a_file_that_holds_one_is_still_read(tmp_path):
    write_jsonl(tmp_path / "a.jsonl", [{"text": "a\ud83d"}])
    assert [value for _, value in read_jsonl(tmp_path / "a.jsonl")] == [{"text": "a\ufffd"}]
