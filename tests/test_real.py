"""The row contract on real pretrained models: `make test-real`, where BUCKLER_MODELS holds the folders `smollm2` and `qwen05`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from buckler.data import Chat, Message
from buckler.finetuning.settings import LoRA, TrainSettings
from buckler.finetuning.train import train
from buckler.models.protocol import ModelSpec, Request, Sampling, ScoreRequest
from buckler.models.registry import load

pytestmark = pytest.mark.real

TWO_TURNS = (
    Message(role="user", content="Who runs the old mill?"),
    Message(role="assistant", content="Anna runs it."),
    Message(role="user", content="Since when?"),
    Message(role="assistant", content="Since last May."),
)
THINGS = ("grass", "snow", "coal", "blood", "sky", "lemon", "chocolate", "ash")
COLOURS = ("Green.", "White.", "Black.", "Red.", "Blue.", "Yellow.", "Brown.", "Grey.")
GREEDY = Sampling(max_new_tokens=24)


@pytest.fixture(scope="module", params=["smollm2", "qwen05"])
def folder(request) -> Path:
    place = Path(os.environ.get("BUCKLER_MODELS", "")) / request.param
    if not os.environ.get("BUCKLER_MODELS") or not (place / "config.json").exists():
        pytest.skip(f"BUCKLER_MODELS names no folder with {request.param}")
    return place


@pytest.fixture(scope="module")
def model(folder):
    return load(ModelSpec(name=str(folder), dtype="float32"))


def given_by_transformers(model, turns, **how):
    """What transformers gives the model."""
    messages = [dict(turn) for turn in turns]
    return model.tokenizer.apply_chat_template(messages, return_dict=True, **{"add_generation_prompt": True, **how})


def test_every_answer_of_several_turns_follows_the_ids_that_transformers_asks_with(model):
    (row,) = model.template.row(TWO_TURNS).sequences
    for number in (1, 3):
        theirs = given_by_transformers(model, TWO_TURNS[:number])["input_ids"]
        assert row.ids[: len(theirs)] == theirs and not row.supervised[len(theirs) - 1] and row.supervised[len(theirs)]
    whole = given_by_transformers(model, TWO_TURNS, add_generation_prompt=False)["input_ids"]
    assert whole[: len(row.ids)] == row.ids and row.ids[-1] in model.stops
    learnt = model.tokenizer.decode([one for one, is_learnt in zip(row.ids, row.supervised, strict=True) if is_learnt])
    assert learnt == "Anna runs it.<|im_end|>Since last May.<|im_end|>"


def test_the_second_answer_is_as_likely_in_training_as_in_asking(model):
    (row,) = model.template.row(TWO_TURNS).sequences
    answer = model.tokenizer("Since last May.", add_special_tokens=False)["input_ids"]
    with torch.inference_mode():
        losses = model.model(input_ids=torch.tensor([row.ids])).logits[0].double().log_softmax(-1)
    first = len(row.ids) - len(answer) - 1
    trained = -sum(float(losses[first + at - 1, token]) for at, token in enumerate(answer))
    scored = model.score([ScoreRequest(messages=TWO_TURNS[:3], answer="Since last May.")])[0]
    assert scored.tokens == len(answer) and scored.nll == pytest.approx(trained, rel=1e-4)


def test_greedy_answers_are_those_of_transformers(model, folder):
    from transformers import AutoModelForCausalLM

    theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    requests = [TWO_TURNS[:3], *((Message(role="user", content=f"What colour is {thing}?"),) for thing in THINGS[:4])]
    given = model.generate([Request(messages=messages, sampling=GREEDY) for messages in requests])
    for messages, completion in zip(requests, given, strict=True):
        batch = given_by_transformers(model, messages, return_tensors="pt")
        row = theirs.generate(batch["input_ids"], attention_mask=batch["attention_mask"], max_new_tokens=24, do_sample=False)
        expected = model.tokenizer.decode(row[0, batch["input_ids"].shape[1] :], skip_special_tokens=True).strip()
        assert completion.text == expected


def test_lora_on_eight_rows_learns_to_answer_and_to_stop(folder, tmp_path):
    rows = [Chat.pair(f"What colour is {thing}?", colour) for thing, colour in zip(THINGS, COLOURS, strict=True)]
    settings = TrainSettings(method="lora", lora=LoRA(r=8), epochs=10, batch_size=8, learning_rate=2e-3, checkpoint_every=0)
    record = train(ModelSpec(name=str(folder), dtype="float32"), rows, settings, tmp_path, seed=0)
    assert (record["answers_learnt"], record["ends_added"], record["ends_not_learnt"]) == (8, 0, 0)
    assert ">>>Green.<|im_end|><<<" in (tmp_path / "first_row.txt").read_text()
    tuned = load(ModelSpec(name=str(tmp_path / "model"), dtype="float32"))
    given = tuned.generate([Request(messages=row.prompt, sampling=GREEDY) for row in rows])
    assert [one.finish_reason for one in given] == ["stop"] * 8
    assert {one.text for one in given} <= set(COLOURS)
    assert sum(one.text == row.answer for one, row in zip(given, rows, strict=True)) >= 4


def test_answers_are_those_of_transformers_whoever_shares_the_batch(model):
    questions = [f"In one word: what is the colour of {thing}?" for thing in THINGS]
    questions[::2] = [f"Write a list of ten facts about {thing}." for thing in THINGS[::2]]
    requests = [Request(messages=(Message(role="user", content=text),), sampling=GREEDY) for text in questions]
    own = []
    for request in requests:
        ids = torch.tensor([model.template.prompt(request.messages)])
        row = model.model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=24, do_sample=False)
        kept = row[0, ids.shape[1] :].tolist()
        end = next((at for at, token in enumerate(kept) if token in model.stops), None)
        own.append(model.tokenizer.decode(kept[:end], skip_special_tokens=True).strip())
    before = model.batch_tokens
    for model.batch_tokens in (250, before):
        assert [given.text for given in model.generate(requests)] == own
