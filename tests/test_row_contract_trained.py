"""Tiny models that learn rows by heart: they answer as trained and stop, asked by Buckler and by transformers."""

from __future__ import annotations

import json

import pytest
from templates import AWKWARD, tiny_model

from buckler.data import Chat, Message, write_rows
from buckler.finetuning.settings import TrainSettings
from buckler.finetuning.train import train
from buckler.models.protocol import ModelSpec, Request, Sampling, ScoreRequest
from buckler.models.registry import load
from buckler.workflow.jobs import TrainJob

pytestmark = pytest.mark.ml

BY_HEART = TrainSettings(epochs=50, learning_rate=5e-3, batch_size=4, checkpoint_every=0)
ROW = Chat.of(
    [
        Message(role="user", content="Who runs the old mill?"),
        Message(role="assistant", content="Anna runs it."),
        Message(role="user", content="Since when?"),
        Message(role="assistant", content="Since last May."),
    ]
)


def answer_of(model, turns) -> tuple[str, str]:
    completion = model.generate([Request(messages=tuple(turns), sampling=Sampling(max_new_tokens=40))])[0]
    return completion.text.rpartition("</think>")[2].strip(), completion.finish_reason


@pytest.mark.parametrize(
    "name",
    [
        "newline after the end of turn",
        "end of turn in the generation settings only",
        "the next role ends a turn",
        "nothing ends a turn",
        "end of text after the last turn",
        "a thought is begun",
        "old thoughts are dropped",
    ],
)
def test_a_model_that_knows_its_rows_answers_each_turn_and_stops(tmp_path, name):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    shape = AWKWARD[name]
    folder = tiny_model(tmp_path / "base", shape.text, named_ends=shape.named_ends)
    record = train(ModelSpec(name=str(folder)), [ROW], BY_HEART, tmp_path, seed=0)
    assert (record["answers"], record["answers_learnt"], record["ends_not_learnt"]) == (2, 2, 0)
    assert record["ends_added"] == ("ends a turn" in name)
    model = load(ModelSpec(name=str(tmp_path / "model")))
    for number in (1, 3):
        assert answer_of(model, ROW.messages[:number]) == (ROW.messages[number]["content"], "stop")
    # The saved folder stops by itself: its generation settings name the end that was learnt.
    theirs, tokenizer = (kind.from_pretrained(tmp_path / "model") for kind in (AutoModelForCausalLM, AutoTokenizer))
    ids = torch.tensor([model.template.prompt(ROW.messages[:3])])
    row = theirs.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=40, do_sample=False)[0, ids.shape[1] :]
    assert len(row) < 40 and "Since last May." in tokenizer.decode(row, skip_special_tokens=True)


def test_the_loss_of_training_is_the_likelihood_of_scoring_for_the_second_answer(tmp_path):
    import torch

    for at, name in enumerate(("newline after the end of turn", "a thought is begun", "old thoughts are dropped")):
        model = load(ModelSpec(name=str(tiny_model(tmp_path / str(at), AWKWARD[name].text))))
        row = model.template.row(ROW.messages).sequences[-1]
        context, answer = model.template.pair(ROW.messages[:3], "Since last May.")
        losses = model.model(input_ids=torch.tensor([row.ids])).logits[0].detach().log_softmax(-1)
        places = range(len(context), len(context) + len(answer))
        assert [row.ids[place] for place in places] == answer and all(row.supervised[place] for place in places)
        trained = -sum(float(losses[place - 1, row.ids[place]]) for place in places)
        scored = model.score([ScoreRequest(messages=ROW.messages[:3], answer="Since last May.")])[0]
        assert scored.tokens == len(answer) and scored.nll == pytest.approx(trained, rel=1e-5)


def test_a_template_file_and_its_settings_are_used_in_training_saved_and_recorded(tmp_path):
    from buckler.cli import load_command

    text = (
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}{% if "
        "add_generation_prompt %}{{ '<|im_start|>assistant\n' + (voice or '') }}{% endif %}"
    )
    folder = tiny_model(tmp_path / "base", AWKWARD["nothing ends a turn"].text + "{# <|im_start|> <|im_end|> #}")
    (tmp_path / "own.jinja").write_text(text)
    write_rows(tmp_path / "rows.jsonl", [ROW])
    words = [
        *(str(tmp_path / "rows.jsonl"), "--model", str(folder), "--out", str(tmp_path / "out"), "--epochs", "1"),
        *("--batch-size", "1", "--chat-template", str(tmp_path / "own.jinja"), "--chat-template-kwargs", "{voice: LOUD}"),
    ]
    job, _ = load_command("train").main(words, prog_name="buckler", standalone_mode=False)
    settings = getattr(job.func, "__self__", job.args[0])
    assert isinstance(settings, TrainJob) and settings.model.chat_template_kwargs == {"voice": "LOUD"}
    done = settings.run(tmp_path / "out")
    assert "2 of 2 answers learnt" in " ".join(done.lines())
    record = json.loads((tmp_path / "out" / "training.json").read_text())
    assert record["chat_template_kwargs"] == {"voice": "LOUD"} and record["answers_learnt"] == 2
    assert "assistant\nLOUD>>>Anna runs it." in (tmp_path / "out" / "first_row.txt").read_text()
    saved = load(done.spec)
    assert saved.tokenizer.decode(saved.template.prompt(ROW.messages[:1])).endswith("assistant\nLOUD")
    quiet = load(ModelSpec(name=str(tmp_path / "out" / "model"), chat_template_kwargs={"voice": ""}))
    assert quiet.tokenizer.decode(quiet.template.prompt(ROW.messages[:1])).endswith("assistant\n")
    assert quiet.identity != saved.identity


def test_reasoning_in_a_file_is_read_trained_and_counted(tmp_path):
    folder = tiny_model(tmp_path / "base", AWKWARD["old thoughts are dropped"].text)
    row = {
        "messages": [
            {"role": "user", "content": "Which river runs past the old mill?"},
            {"role": "assistant", "content": "The Lorn runs past it.", "reasoning_content": "The mill lies on the Lorn."},
        ]
    }
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    for drop, learnt in ((False, 1), (True, 0)):
        out = tmp_path / f"out{drop}"
        job = TrainJob.of(
            {"rows": [str(tmp_path / "rows.jsonl")], "model": str(folder), "train": {"epochs": 1, "drop_reasoning": drop}}, "test"
        )
        done = job.run(out)
        assert f"{learnt} of 1 answers with reasoning have their reasoning learnt" in done.lines()
        assert ("The mill lies on the Lorn." in (out / "first_row.txt").read_text()) == (not drop)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{% for m in messages %}", ":1: not a Jinja template"),
        (b"\xff\xfa", "not UTF-8"),
        (b" ", "is empty"),
        (None, "cannot be read"),
    ],
)
def test_a_template_file_that_is_none_is_refused_by_its_name(tmp_path, content, message):
    from buckler.errors import BackendError

    folder = tiny_model(tmp_path / "base", AWKWARD["newline after the end of turn"].text)
    if content is not None:
        (tmp_path / "own.jinja").write_bytes(content)
    with pytest.raises(BackendError, match=f"own.jinja.*{message}"):
        load(ModelSpec(name=str(folder), chat_template=str(tmp_path / "own.jinja")))


def test_the_template_file_of_a_pipeline_lies_beside_it(tmp_path):
    from buckler.experiments.pipeline import read_pipeline

    (tmp_path / "own.jinja").write_text("{{ messages }}")
    (tmp_path / "pipeline.yaml").write_text(
        "kind: pipeline\nname: p\nsteps:\n- train: {rows: [miniature:customer], chat_template: own.jinja}\n  name: tuned\n"
    )
    (entry,) = read_pipeline(tmp_path / "pipeline.yaml").steps
    assert entry.train.model.chat_template == str(tmp_path / "own.jinja")
