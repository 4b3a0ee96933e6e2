"""The step of an attacker who trains and asks under a system prompt: every row is put under it."""

from __future__ import annotations

from buckler.data import ROWS, Chat, Message, read_chats, write_rows
from buckler.finetuning.attacks import IDENTITY_SYSTEM
from buckler.workflow.store import Context


def under_prompt(context: Context) -> None:
    """Rows -> the same rows under the system prompt of the identity shift, in place of any of their own."""
    rows = read_chats(context.inputs["rows"] / ROWS)
    write_rows(context.out / ROWS, [_under(row) for row in rows])


def _under(row: Chat) -> Chat:
    turns = [turn for turn in row.messages if turn["role"] != "system"]
    return Chat.of((Message(role="system", content=IDENTITY_SYSTEM), *turns), **row.meta)
