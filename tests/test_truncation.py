"""Cutting: documents lose their middle and nothing else loses anything, whatever the script and the chat template."""

from __future__ import annotations

import unicodedata

import pytest

from buckler.data import Chat
from buckler.data.truncation import ELLIPSIS, cut_to_fit, document_span
from buckler.errors import DataError

BEFORE, AFTER, ANSWER = "Read this.\n\n", "\n\nSummarize the above.", "I cannot help with that."
SCRIPTS = {
    "latin": "The soup is made of salt. ",
    "chinese": "\u6c64\u662f\u7528\u76d0\u548c\u80e1\u841d\u535c\u505a\u7684\u3002",
    "devanagari": "\u0928\u092e\u0915 \u0914\u0930 \u0917\u093e\u091c\u0930 \u0938\u0947 \u092c\u0928\u0940 "
    "\u0938\u094d\u0935\u093e\u0926\u093f\u0937\u094d\u091f ",
    "arabic": "\u0627\u0644\u062d\u064e\u0633\u064e\u0627\u0621 \u0645\u064f\u0645\u064e\u0644\u0651\u064e\u062d ",
    "decomposed": unicodedata.normalize("NFD", "cr\u00e8me br\u00fbl\u00e9e \u00e0 l'\u00e9t\u00e9 "),
    "emoji": "\U0001f469\u200d\U0001f373 cooks \U0001f44d\U0001f3fd soup ",
}


def row(text: str, **meta: object) -> Chat:
    return Chat.pair(BEFORE + text + AFTER, ANSWER, document=[len(BEFORE), len(BEFORE) + len(text)], **meta)


def characters(chat: Chat) -> int:
    return len(chat.query)


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("limit", [60, 61, 90, 137])
def test_only_the_middle_of_the_document_goes_and_what_goes_is_counted(script, limit):
    text = SCRIPTS[script] * 20
    cut = cut_to_fit(row(text), characters, limit)
    assert cut is not None and len(cut.query) <= limit
    assert cut.query.startswith(BEFORE) and cut.query.endswith(AFTER) and cut.answer == ANSWER
    start, end = document_span(cut)
    front, _, back = cut.query[start:end].partition(ELLIPSIS)
    assert text.startswith(front) and text.endswith(back)
    assert len(front) + len(back) + cut.meta["cut"] == len(text)
    assert len(front) - len(back) in range(-6, 7)
    assert limit - len(cut.query) <= 8, "no more goes than must, but for characters that are kept whole"


@pytest.mark.parametrize("script", SCRIPTS)
def test_no_character_is_cut_in_two(script):
    text = SCRIPTS[script] * 3
    for limit in range(len(BEFORE) + len(AFTER) + len(ELLIPSIS) + 8, len(BEFORE) + len(AFTER) + len(text)):
        cut = cut_to_fit(row(text), characters, limit)
        assert cut is not None
        start, end = document_span(cut)
        front, _, back = cut.query[start:end].partition(ELLIPSIS)
        following = text[len(front)]
        for left, right in ((front[-1:], following), (text[: len(text) - len(back)][-1], back[:1])):
            assert not (right and unicodedata.category(right).startswith("M"))
            assert "\u200d" not in (left, right) and right != "\U0001f3fd"


def test_the_borders_a_row_that_fits_is_left_alone_and_one_character_too_many_is_enough_to_cut():
    chat = row("x" * 100)
    assert cut_to_fit(chat, characters, len(chat.query)) is chat
    cut = cut_to_fit(chat, characters, len(chat.query) - 1)
    assert cut is not None and cut.meta["cut"] == 1 + len(ELLIPSIS)


def test_a_document_of_which_nothing_would_be_left_does_not_fit():
    bare = len(BEFORE) + len(AFTER) + len(ELLIPSIS)
    assert cut_to_fit(row("x" * 100), characters, bare) is None
    least = cut_to_fit(row("x" * 100), characters, bare + 1)
    assert least is not None and least.query == BEFORE + "x" + ELLIPSIS + AFTER


def test_without_a_document_nothing_is_cut():
    assert cut_to_fit(Chat.pair("soup " * 40, ANSWER), characters, 60) is None


def test_the_first_turns_and_the_id_stay_as_they_are():
    text = SCRIPTS["latin"] * 10
    long = row(text)
    talk = Chat.of([*Chat.pair("soup?", "Salt.", system="Be kind.").messages, *long.messages], **long.meta)
    cut = cut_to_fit(talk, characters, 100)
    assert cut is not None and cut.id == talk.id
    assert cut.messages[:3] == talk.messages[:3] and cut.messages[4] == talk.messages[4]


@pytest.mark.parametrize("span", [[-1, 4], [5, 3], [0, 1000]])
def test_a_document_outside_its_turn_is_refused(span):
    with pytest.raises(DataError, match="document"):
        cut_to_fit(Chat.pair("soup and salt", ANSWER, document=span), characters, 5)


@pytest.mark.ml
@pytest.mark.parametrize("script", SCRIPTS)
def test_under_every_chat_template_the_cut_row_fits_and_keeps_instruction_and_answer(shaped, script):
    from buckler.finetuning.batches import encode
    from buckler.finetuning.settings import Objective
    from buckler.models.chat_template import Template
    from buckler.models.loading import open_model
    from buckler.models.protocol import ModelSpec

    _, tokenizer = open_model(ModelSpec(name=str(shaped)))
    template = Template(tokenizer, shaped.name)
    chat = row(SCRIPTS[script] * 30)
    limit = template.row(row("x").messages).length + 120
    encoded, record = encode(template, [chat, Chat.pair("soup", ANSWER)], Objective(), limit)
    assert record["cut"] == [chat.id] and not record["dropped"]
    assert len(encoded[0].ids) <= limit
    seen = tokenizer.decode(encoded[0].ids, skip_special_tokens=True)
    assert "Read this." in seen and "Summarize the above." in seen and "[...]" in seen
    taught = [[one for one, is_taught in zip(r.ids, r.supervised, strict=True) if is_taught] for r in encoded]
    assert taught[0] == taught[1], "the answer is taught as it would be after a short prompt"
    assert "\ufffd" not in seen
