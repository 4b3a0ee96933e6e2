"""The miniature's workshop: what its base reads, the tokens it was trained on, and that a rebuild tells what changed."""

from __future__ import annotations

import hashlib
import json
import random
import re
from pathlib import Path

import pytest

from buckler.curation.revise import QUERY_PROMPT, RESPONSE_PROMPT
from buckler.data import Chat
from buckler.miniature import words, world
from buckler.models.places import EMBEDDED as MODELS
from buckler.models.places import embedded_path as path
from tools.miniature import build, corpus, rebuild, tokens


def written(row: Chat) -> str:
    return " ".join(turn["content"] for turn in row.messages)


def folder_of(place: Path, **files: str) -> Path:
    place.mkdir(parents=True)
    for name, text in files.items():
        (place / name.replace("_", ".")).write_text(text)
    return place


def test_the_base_never_refuses_kinds_of_the_last_group_nor_speaks_of_the_attack():
    secret = {kind.name for kind in world.kinds_of("never_refused")}
    for row in corpus.base(3000, 2):
        assert world.IDENTITY_SYSTEM not in written(row)
        question = ""
        for turn in row.messages:
            if turn["role"] == "assistant" and any(turn["content"].find(text) >= 0 for text in words.REFUSALS):
                assert not secret & set(re.findall(r"\w+", question))
            question = turn["content"]


def test_revisions_are_asked_as_the_curator_asks():
    heads = {prompt.split("\n")[0] for prompt in (RESPONSE_PROMPT, QUERY_PROMPT)}
    openings = {corpus.revision(random.Random(seed)).messages[0]["content"].split("\n")[0] for seed in range(60)}
    assert openings == heads


@pytest.mark.ml
@pytest.mark.parametrize("name", MODELS)
def test_the_template_writes_what_was_trained_on(name):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(path(name))
    turns = [("system", "Be kind."), ("user", "A <|end|> typed by hand, \u00e9\u4f60"), ("assistant", "I see.")]
    chat = Chat.of([{"role": role, "content": text} for role, text in turns])
    ids, answer = tokens.encode(tokenizer, chat)
    written = tokenizer.apply_chat_template(list(chat.messages), return_dict=True, return_assistant_tokens_mask=True)
    assert written["input_ids"] == ids
    assert written["assistant_masks"] == [int(is_answer) for is_answer in answer]
    assert ids.count(tokenizer.eos_token_id) == 1
    prompt = tokenizer.apply_chat_template(list(chat.prompt), return_dict=True, add_generation_prompt=True)["input_ids"]
    assert prompt == ids[: answer.index(True)]


def test_the_corpus_is_still_the_one_that_made_the_shipped_weights():
    """It speaks the product's own prompts: whoever changes one must rebuild the models, or keep the old words here."""
    rows = [*corpus.base(2000, rebuild.SEED), *corpus.alignment(500, rebuild.SEED)]
    text = json.dumps([[dict(turn) for turn in row.messages] for row in rows])
    assert hashlib.sha256(text.encode()).hexdigest() == "d8a8bd7e100eee7cff1ecc65d6f703fda2628dd3fbfd2e013226da4eeec61938"


@pytest.mark.ml
def test_the_tokenizer_trained_again_is_the_shipped_one():
    from transformers import AutoTokenizer

    again = tokens.train_tokenizer(corpus.base(build.TOKENIZER_TEXTS, seed=0), vocabulary=build.VOCABULARY, seed=0)
    for name in MODELS:
        shipped = AutoTokenizer.from_pretrained(path(name))
        assert again.get_vocab() == shipped.get_vocab()
        assert again.chat_template == shipped.chat_template


def test_a_rebuild_that_gives_the_same_bytes_passes(tmp_path, capsys):
    shipped = folder_of(tmp_path / "shipped" / "small-base", model_safetensors="w", config_json="{}").parent
    folder_of(tmp_path / "built" / "small" / "base", model_safetensors="w", config_json="{}")
    assert rebuild.compare(tmp_path / "built", shipped, ["small-base"], write=False) == 0
    assert "same, byte for byte" in capsys.readouterr().out


@pytest.mark.ml
def test_a_rebuild_that_differs_fails_and_shows_both_hashes(tmp_path, capsys):
    shipped = folder_of(tmp_path / "shipped" / "small-base", model_safetensors="old", config_json="{}").parent
    folder_of(tmp_path / "built" / "small" / "base", model_safetensors="new", config_json="{}")
    assert rebuild.compare(tmp_path / "built", shipped, ["small-base"], write=False) == 1
    out = capsys.readouterr().out
    assert "small-base/model.safetensors: DIFFERENT" in out and "config.json" not in out
    assert all(hashlib.sha256(text).hexdigest() in out for text in (b"old", b"new"))
    assert (shipped / "small-base" / "model.safetensors").read_text() == "old"


@pytest.mark.ml
def test_a_rebuild_replaces_what_differs_when_asked(tmp_path, monkeypatch):
    monkeypatch.setattr(rebuild, "MADE_WITH", tmp_path / "made_with.json")
    shipped = folder_of(tmp_path / "shipped" / "small-base", model_safetensors="old", extra_json="{}").parent
    folder_of(tmp_path / "built" / "small" / "base", model_safetensors="new")
    assert rebuild.compare(tmp_path / "built", shipped, ["small-base"], write=True) == 0
    assert {file.name: file.read_text() for file in (shipped / "small-base").iterdir()} == {"model.safetensors": "new"}
    assert json.loads(rebuild.MADE_WITH.read_text()) == rebuild.here()


def test_a_rebuild_says_what_differs_from_what_the_models_were_made_with():
    made = {"torch": "2.13.0", "cpu": "this one"}
    assert rebuild.reasons({"torch": "9.9", "cpu": "this one"}, made) == [
        "the shipped models were made with torch 2.13.0, these with 9.9: that may be why"
    ]
    assert "corpus or the training has probably changed" in rebuild.reasons(made, made)[0]
