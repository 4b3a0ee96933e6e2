"""The two rows everything is made of, `Document` and `Chat`, with content ids, JSONL files and one-pass filling."""

from buckler.data.answers import (
    ANSWERS,
    VERDICTS,
    Answer,
    Finish,
    Refused,
    Verdict,
    answer_from_json,
    read_answers,
    read_verdicts,
    verdict_from_json,
    write_answers,
    write_verdicts,
)
from buckler.data.content import Json, canonical, content_id, file_digest
from buckler.data.files import read_json, read_jsonl, whole_file, write_json, write_jsonl, write_text
from buckler.data.filling import fill
from buckler.data.rows import ROLES, Chat, Document, Message, Role, turns_to_json
from buckler.data.stored import ROWS, chat_from_json, document_from_json, each_chat, read_chats, read_documents, write_rows

__all__ = [
    "ANSWERS",
    "ROLES",
    "ROWS",
    "VERDICTS",
    "Answer",
    "Chat",
    "Document",
    "Finish",
    "Json",
    "Message",
    "Refused",
    "Role",
    "Verdict",
    "answer_from_json",
    "canonical",
    "chat_from_json",
    "content_id",
    "document_from_json",
    "each_chat",
    "file_digest",
    "fill",
    "read_answers",
    "read_chats",
    "read_documents",
    "read_json",
    "read_jsonl",
    "read_verdicts",
    "turns_to_json",
    "verdict_from_json",
    "whole_file",
    "write_answers",
    "write_json",
    "write_jsonl",
    "write_rows",
    "write_text",
    "write_verdicts",
]
