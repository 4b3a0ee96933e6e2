"""Cut a row that is too long in the middle of its document: never in the instruction, never in the answer."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence

from buckler.data.rows import Chat, Message
from buckler.errors import DataError

ELLIPSIS = " [...] "
JOINER = "\u200d"
SKIN_TONES = range(0x1F3FB, 0x1F400)


def document_span(chat: Chat) -> tuple[int, int] | None:
    """Where the document stands in the last user turn: `meta["document"] = [start, end]`, in characters.

    Raises:
        DataError: it would stand outside that turn.
    """
    span = chat.meta.get("document")
    if not isinstance(span, Sequence) or len(span) != 2:
        return None
    start, end = span
    if not isinstance(start, int) or not isinstance(end, int):
        return None
    if not 0 <= start <= end <= len(chat.query):
        raise DataError(f'row {chat.id}: meta["document"] is {list(span)}, but its turn has {len(chat.query)} characters')
    return start, end


def cut_to_fit(chat: Chat, length: Callable[[Chat], int], limit: int) -> Chat | None:
    """`chat` with as much of its document's two ends as keeps `length(chat) <= limit`; None if nothing helps.

    A document is cut in its middle, since its topic stands at the front and its point at the end, and never within a
    character that is written with several code points. The shortened row's `meta["cut"]` tells how many of them went. A
    document of which nothing would be left is no document: the row does not fit.
    """
    if length(chat) <= limit:
        return chat
    span = document_span(chat)
    if span is None:
        return None
    low, high = 1, span[1] - span[0] - 1
    best: Chat | None = None
    while low <= high:
        keep = (low + high) // 2
        shorter = _with_document(chat, span, keep)
        if length(shorter) <= limit:
            best, low = shorter, keep + 1
        else:
            high = keep - 1
    return best if best is not None and best.meta["cut"] != span[1] - span[0] else None


def _with_document(chat: Chat, span: tuple[int, int], keep: int) -> Chat:
    """`chat` with at most `keep` characters of its document, the front having one more than the end where it is odd."""
    at = max(number for number, turn in enumerate(chat.messages) if turn["role"] == "user")
    content = chat.messages[at]["content"]
    text = content[span[0] : span[1]]
    front, back = (keep + 1) // 2, len(text) - keep // 2
    while _is_joined(text, front):
        front -= 1
    while _is_joined(text, back):
        back += 1
    kept = text[:front] + ELLIPSIS + text[back:]
    turn: Message = {**chat.messages[at], "content": content[: span[0]] + kept + content[span[1] :]}
    messages = (*chat.messages[:at], turn, *chat.messages[at + 1 :])
    # The id stays that of the whole row: a cut row is the same row, seen through a smaller window.
    return Chat(
        id=chat.id,
        messages=messages,
        meta={**chat.meta, "document": [span[0], span[0] + len(kept)], "cut": back - front},
    )


def _is_joined(text: str, at: int) -> bool:
    """Whether what stands at `at` belongs to the character before it: a mark, a joined emoji, a skin tone."""
    if not 0 < at < len(text):
        return False
    here = text[at]
    return unicodedata.category(here).startswith("M") or JOINER in (here, text[at - 1]) or ord(here) in SKIN_TONES
