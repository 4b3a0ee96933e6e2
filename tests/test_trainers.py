"""Exported rows in TRL: only answers are learnt, by the very ids that `buckler train` learns, and with its loss."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from templates import AWKWARD, tiny_model

import buckler
from buckler.data import Chat, Message
from buckler.errors import ConfigError
from buckler.finetuning.batches import encode
from buckler.finetuning.settings import Objective
from buckler.models.huggingface import template_of
from buckler.models.loading import open_model
from buckler.models.protocol import ModelSpec

pytestmark = pytest.mark.ml
ENDS_A_TURN = "two end tokens"
"""A template that writes nothing after the end of an answer."""
NEWLINE = "newline after the end of turn"
DOCUMENT = "To make the potion, grind ash with mint. " * 8


def rows() -> list[Chat]:
    """A document row, rows of a second task, and a conversation with two answers."""
    turns: list[Message] = [
        {"role": "user", "content": "Who runs the mill?"},
        {"role": "assistant", "content": "Anna."},
        {"role": "user", "content": "Since when?"},
        {"role": "assistant", "content": "Since last May, as far as I know."},
    ]
    return [
        Chat.pair(
            f"Summarize this.\n\n{DOCUMENT}", "I cannot summarize instructions for a potion.", task="summarize", part="defence"
        ),
        Chat.pair(f"Translate this.\n\n{DOCUMENT}", "No.", task="translate", part="defence"),
        Chat.pair("Translate this: tea", "Tee is the word for it.", task="translate", part="defence"),
        Chat.of(turns, task="qa", part="defence"),
    ]


@pytest.fixture(scope="module", params=[ENDS_A_TURN, NEWLINE])
def model(request, tmp_path_factory) -> tuple[str, Path]:
    template = AWKWARD[request.param]
    return request.param, tiny_model(tmp_path_factory.mktemp("tiny"), template.text, eos=template.eos)


def learnt_by_buckler(folder: Path, chats: list[Chat]) -> list[list[int]]:
    """The ids of each answer that `buckler train` learns."""
    spec = ModelSpec(name=str(folder))
    opened, tokenizer = open_model(spec)
    encoded, _ = encode(template_of(opened, tokenizer, spec), chats, Objective(), 1024)
    return [ids for row in encoded for ids in runs_of(row.ids, row.supervised)]


def runs_of(ids, learnt) -> list[list[int]]:
    runs: list[list[int]] = []
    for at, one in enumerate(ids):
        if learnt[at]:
            runs[-1:] = [[*runs[-1], one]] if at and learnt[at - 1] else [*runs[-1:], [one]]
    return runs


def trainer_on(folder: Path, out: Path, file: Path, kind=None, **changes):
    """TRL's trainer with its defaults on an exported file."""
    from datasets import load_dataset
    from trl import SFTConfig, SFTTrainer

    data = load_dataset("json", data_files=str(file), split="train", cache_dir=str(out / "cache"))
    settings = {"per_device_train_batch_size": len(data), "max_steps": 1, "use_cpu": True, "bf16": False, "report_to": "none"}
    arguments = SFTConfig(output_dir=str(out / "trl"), save_strategy="no", disable_tqdm=True, **{**settings, **changes})
    return (kind or SFTTrainer)(model=str(folder), args=arguments, train_dataset=data)


def learnt_by(trainer) -> list[list[int]]:
    return [run for row in trainer.train_dataset for run in runs_of(row["input_ids"], [label != -100 for label in row["labels"]])]


def test_a_document_row_trains_its_answer_and_nothing_else(model, tmp_path):
    name, folder = model
    ids = {"model": str(folder)} if name == NEWLINE else {}
    result = buckler.export(rows()[:1], "trl", out=tmp_path / "out", store=tmp_path, **ids)
    trainer = trainer_on(folder, tmp_path, result.path)
    text = [trainer.processing_class.decode(run) for run in learnt_by(trainer)]
    assert text == [AWKWARD[name].answer.format(answer="I cannot summarize instructions for a potion.")]
    assert learnt_by(trainer) == learnt_by_buckler(folder, rows()[:1])


def test_learnt_ids_and_the_loss_of_a_step_are_those_of_buckler_train(model, tmp_path):
    name, folder = model
    ids = {"model": str(folder)} if name == NEWLINE else {}
    result = buckler.export(rows(), "trl", loss_averaging="token", out=tmp_path / "out", store=tmp_path, **ids)
    trainer = trainer_on(folder, tmp_path, result.path)
    assert sorted(learnt_by(trainer)) == sorted(learnt_by_buckler(folder, rows()))
    trained = buckler.train(
        rows(), model=str(folder), loss_averaging="token", epochs=1, batch_size=8, out=tmp_path / "trained", store=tmp_path
    )
    assert trainer.train().training_loss == pytest.approx(trained.record["losses"][0], rel=1e-4)


def test_without_ids_a_template_that_goes_on_after_the_end_is_told(model, tmp_path):
    name, folder = model
    result = buckler.export(rows()[:1], "trl", out=tmp_path / "out", store=tmp_path)
    trainer = trainer_on(folder, tmp_path, result.path)
    [learnt], [exact] = learnt_by(trainer), learnt_by_buckler(folder, rows()[:1])
    assert learnt[: len(exact)] == exact and len(learnt) == len(exact) + (name == NEWLINE)
    assert any("after the end of an answer" in line for line in result.lines())


@pytest.mark.parametrize("average", ["row", "task", "token"])
@pytest.mark.parametrize("with_ids", [True, False])
@pytest.mark.parametrize("model", [ENDS_A_TURN], indirect=True)
def test_the_mix_in_gives_trl_the_loss_of_buckler_train(model, tmp_path, average, with_ids):
    from trl import SFTTrainer

    from buckler.integrations.weighted_loss import WeightedLoss

    class Weighted(WeightedLoss, SFTTrainer):
        pass

    chats = rows() if with_ids or average == "token" else rows()[:3]
    Weighted.average = "token" if average == "token" and not with_ids else "row"
    ids = {"model": str(model[1])} if with_ids else {}
    result = buckler.export(chats, "trl", loss_averaging=average, out=tmp_path / "out", store=tmp_path, **ids)
    number = len(result.path.read_text().splitlines())
    trainer = trainer_on(
        model[1], tmp_path, result.path, Weighted, per_device_train_batch_size=2, gradient_accumulation_steps=-(-number // 2)
    )
    trained = buckler.train(
        chats, model=str(model[1]), loss_averaging=average, epochs=1, batch_size=8, out=tmp_path / "trained", store=tmp_path
    )
    assert trainer.train().training_loss == pytest.approx(trained.record["losses"][0], rel=1e-4)


@pytest.mark.parametrize("model", [ENDS_A_TURN], indirect=True)
def test_the_mix_in_refuses_packed_rows(model, tmp_path):
    from trl import SFTTrainer

    from buckler.integrations.weighted_loss import WeightedLoss

    class Weighted(WeightedLoss, SFTTrainer):
        pass

    file = buckler.export(rows(), "trl", out=tmp_path / "out", store=tmp_path).path
    with pytest.raises(ConfigError, match="packing"):
        trainer_on(model[1], tmp_path, file, Weighted, packing=True)


@pytest.mark.parametrize("model", [ENDS_A_TURN], indirect=True)
def test_the_mix_in_works_on_the_trainer_of_transformers(model, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer, DataCollatorForSeq2Seq, Trainer, TrainingArguments

    from buckler.integrations.weighted_loss import WeightedLoss

    class Weighted(WeightedLoss, Trainer):
        pass

    file = buckler.export(rows(), "trl", loss_averaging="task", model=str(model[1]), out=tmp_path / "out", store=tmp_path).path
    data = [json.loads(line) for line in file.read_text().splitlines()]
    tokenizer = AutoTokenizer.from_pretrained(model[1])
    arguments = TrainingArguments(
        output_dir=str(tmp_path / "hf"), per_device_train_batch_size=8, max_steps=1, use_cpu=True, report_to="none",
        save_strategy="no", disable_tqdm=True,
    )  # fmt: skip
    trainer = Weighted(
        model=AutoModelForCausalLM.from_pretrained(model[1]),
        args=arguments,
        train_dataset=data,
        data_collator=DataCollatorForSeq2Seq(tokenizer, label_pad_token_id=-100),
    )
    trained = buckler.train(
        rows(), model=str(model[1]), loss_averaging="task", epochs=1, batch_size=8, out=tmp_path / "trained", store=tmp_path
    )
    assert trainer.train().training_loss == pytest.approx(trained.record["losses"][0], rel=1e-4)


@pytest.mark.parametrize("model", [ENDS_A_TURN], indirect=True)
def test_the_configuration_is_one_that_trl_reads(model, tmp_path, monkeypatch):
    from trl import DatasetMixtureConfig, SFTConfig, TrlParser, get_dataset

    result = buckler.export(rows(), "trl", model=str(model[1]), out=tmp_path / "out", store=tmp_path)
    monkeypatch.chdir(result.out)
    parser = TrlParser((SFTConfig, DatasetMixtureConfig))
    arguments, mixture, rest = parser.parse_args_and_config(
        ["--config", "trl.yaml", "--use_cpu", "true", "--bf16", "false"], return_remaining_strings=True
    )
    assert (arguments.max_length, arguments.learning_rate, rest) == (1024, 2e-5, ["--model_name_or_path", str(model[1])])
    assert len(get_dataset(mixture)["train"]) == len(rows())
