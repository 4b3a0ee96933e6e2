"""Training: settings that do not fit are refused, rows are cut in their document, a killed run goes on to the same bytes."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys

import pytest
import torch

from buckler.data import Chat, Document, write_rows, write_text
from buckler.errors import ConfigError, DataError
from buckler.finetuning.settings import LoRA, TrainSettings
from buckler.finetuning.train import train
from buckler.models.protocol import ModelSpec
from buckler.settings import parse

pytestmark = pytest.mark.ml

WORDS = ["soup", "salt", "carrots", "the", "of", "made", "is", "help", "that"]


def rows(counts: dict[str, int], part: str = "defence", seed: int = 0) -> list[Chat]:
    rng = random.Random(seed)

    def words(low: int, high: int) -> str:
        return " ".join(rng.choice(WORDS) for _ in range(rng.randint(low, high)))

    return [
        Chat.pair(f"{task} {number} {words(2, 9)}", words(1, 12), task=task, part=part)
        for task, count in counts.items()
        for number in range(count)
    ]


def test_what_was_cut_and_dropped_is_in_the_record(tiny, tmp_path):
    from buckler.crosstask.tasks import TASKS

    text = "The soup is made of salt. " * 60
    content = TASKS["summarize"].ask(Document.of(text), "back")[0]["content"]
    long = Chat.pair(content, "I cannot help with that.", document=[0, len(text)])
    hopeless = Chat.pair("soup " * 400, "I cannot help with that.")
    settings = TrainSettings(max_length=96, epochs=1)
    record = train(ModelSpec(name=str(tiny)), [long, hopeless], settings, tmp_path, seed=0)
    assert record["cut"] == [long.id] and record["dropped"] == [hopeless.id] and record["rows"] == 1
    seen = (tmp_path / "first_row.txt").read_text()
    assert "Summarize the above article" in seen and ">>>I cannot help with that." in seen and "[...]" in seen


def test_each_row_that_fits_is_tokenized_once(tiny, monkeypatch):
    from buckler.finetuning.batches import encode
    from buckler.finetuning.settings import Objective
    from buckler.models.chat_template import Template
    from buckler.models.loading import open_model

    calls: list[object] = []
    own = Template.row
    monkeypatch.setattr(Template, "row", lambda self, messages, masked: calls.append(messages) or own(self, messages, masked))
    encode(Template(open_model(ModelSpec(name=str(tiny)))[1], "tiny"), rows({"case": 7}), Objective(), 96)
    assert len(calls) == 7


def test_no_row_is_longer_than_the_model_can_read(tiny, tmp_path):
    text = "soup and salt " * 400
    long = Chat.pair(f"Read this. {text}", "salt", document=[11, 11 + len(text)])
    record = train(ModelSpec(name=str(tiny)), [long], TrainSettings(max_length=4096, epochs=1), tmp_path, seed=0)
    assert record["max_length"] == 512 and record["cut"] == [long.id]


@pytest.mark.parametrize("given", [{"accumulation": 3}, {"processes": 3}, {"accumulation": 2, "processes": 2}, {"processes": 0}])
def test_more_shares_of_a_step_than_it_has_rows_are_refused_when_settings_are_read(given):
    with pytest.raises(ConfigError, match=r"`processes`: .*(each need at least|greater than or equal to 1)"):
        parse(TrainSettings, {"batch_size": 2, **given}, "train")


def test_packing_and_accumulation_change_nothing_but_rounding(tiny, tmp_path):
    from safetensors.torch import load_file

    chats = rows({"case": 21})
    found = {}
    for name, more in {"plain": {}, "packed": {"packing": True}, "parts": {"accumulation": 3, "packing": True}}.items():
        settings = TrainSettings(epochs=2, batch_size=8, learning_rate=1e-3, max_length=128, **more)
        train(ModelSpec(name=str(tiny)), chats, settings, tmp_path / name, seed=0)
        found[name] = load_file(tmp_path / name / "model" / "model.safetensors")
    for name in ("packed", "parts"):
        for key, value in found["plain"].items():
            # Adam divides by the gradient's size: where that is zero but for rounding (a key's bias), steps are arbitrary.
            if "k_proj.bias" not in key:
                torch.testing.assert_close(found[name][key], value, rtol=0, atol=2e-5)


def test_a_launcher_around_buckler_is_refused_instead_of_waited_for(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="without a launcher"):
        train(ModelSpec(name=str(tiny)), rows({"case": 4}), TrainSettings(), tmp_path, seed=0)


def test_a_training_that_diverges_is_an_error_and_leaves_no_model(tiny, tmp_path):
    settings = TrainSettings(epochs=4, batch_size=4, learning_rate=1e30)
    with pytest.raises(ConfigError, match="lower learning_rate"):
        train(ModelSpec(name=str(tiny)), rows({"case": 8}), settings, tmp_path, seed=0)
    assert not (tmp_path / "model").exists()


def test_rows_without_an_answer_are_refused(tiny, tmp_path):
    with pytest.raises(DataError, match="no final answer"):
        train(ModelSpec(name=str(tiny)), [Chat.pair("soup", None)], TrainSettings(), tmp_path, seed=0)


def test_a_lora_phase_leaves_a_merged_model_and_its_adapter(tiny, tmp_path):
    chats = rows({"case": 8})
    settings = TrainSettings(method="lora", epochs=1, batch_size=4, learning_rate=1e-2, lora=LoRA(dropout=0.0))
    train(ModelSpec(name=str(tiny)), chats, settings, tmp_path, seed=0)
    from buckler.models.protocol import ScoreRequest
    from buckler.models.registry import load

    pairs = [ScoreRequest(messages=chat.prompt, answer=chat.answer or "") for chat in chats]
    merged = load(ModelSpec(name=str(tmp_path / "model"))).score(pairs)
    beside = load(ModelSpec(name=str(tiny), adapter=str(tmp_path / "adapter"))).score(pairs)
    base = load(ModelSpec(name=str(tiny))).score(pairs)
    assert [one.nll for one in merged] == pytest.approx([one.nll for one in beside], rel=1e-3)
    assert [one.nll for one in merged] != pytest.approx([one.nll for one in base], rel=1e-3)


def test_same_seed_same_bytes_and_a_resumed_run_ends_the_same(tiny, tmp_path):
    chats = rows({"case": 24})
    settings = TrainSettings(epochs=2, batch_size=4, learning_rate=1e-3, checkpoint_every=5)

    class Stop(BaseException):
        pass

    def stop_at_seven(what: str, done: int, total: int) -> None:
        if done == 7:
            raise Stop

    train(ModelSpec(name=str(tiny)), chats, settings, tmp_path / "whole", seed=1)
    train(ModelSpec(name=str(tiny)), chats, settings, tmp_path / "again", seed=1)
    with pytest.raises(Stop):
        train(ModelSpec(name=str(tiny)), chats, settings, tmp_path / "broken", seed=1, progress=stop_at_seven)
    assert (tmp_path / "broken" / "checkpoints" / "checkpoint-5").exists()
    seen: list[int] = []
    train(ModelSpec(name=str(tiny)), chats, settings, tmp_path / "broken", seed=1, progress=lambda w, d, t: seen.append(d))
    assert seen[0] == 6
    files = [(tmp_path / name / "model" / "model.safetensors").read_bytes() for name in ("whole", "again", "broken")]
    assert files[0] == files[1] == files[2]
    other = train(ModelSpec(name=str(tiny)), chats, settings, tmp_path / "other", seed=2)
    assert other["rows"] == 24
    assert (tmp_path / "other" / "model" / "model.safetensors").read_bytes() != files[0]


KILLED = """
import os, signal, sys
from pathlib import Path
from buckler.data import read_chats
from buckler.models.protocol import ModelSpec
from buckler.data.yaml_text import read_yaml
from buckler.settings import parse
from buckler.finetuning.train import TrainSettings, train

model, folder = sys.argv[1], Path(sys.argv[2])

def progress(name, done, total):
    if done == 8:
        os.kill(os.getpid(), signal.SIGKILL)

settings = parse(TrainSettings, read_yaml(folder / "settings.yaml"), "train")
train(ModelSpec(name=model), read_chats(folder / "rows.jsonl"), settings, folder / "run", seed=1, progress=progress)
"""


@pytest.mark.slow
def test_a_run_killed_between_checkpoints_ends_with_the_same_bytes_dropout_included(tiny, tmp_path):
    chats = rows({"case": 20})
    settings = TrainSettings(method="lora", epochs=3, batch_size=4, accumulation=2, learning_rate=1e-2, checkpoint_every=3)
    write_rows(tmp_path / "rows.jsonl", chats)
    write_text(tmp_path / "settings.yaml", settings.model_dump_json())
    command = [sys.executable, "-c", KILLED, str(tiny), str(tmp_path)]
    assert subprocess.run(command, check=False, capture_output=True).returncode == -signal.SIGKILL
    assert (tmp_path / "run" / "checkpoints" / "checkpoint-6").exists()
    # What a kill leaves while a checkpoint is written, or while one of several processes has still to add its part.
    torn, partial = (tmp_path / "run" / "checkpoints" / f"checkpoint-{step}" for step in (9, 12))
    shutil.copytree(tmp_path / "run" / "checkpoints" / "checkpoint-6", torn)
    shutil.copytree(torn, partial)
    (torn / "state.json").write_text('{"step": 1')
    (partial / "random-0.pt").unlink()
    seen: list[int] = []
    spec = ModelSpec(name=str(tiny))
    train(spec, chats, settings, tmp_path / "run", seed=1, progress=lambda what, done, total: seen.append(done))
    assert seen == list(range(7, 16))
    train(spec, chats, settings, tmp_path / "whole", seed=1)
    assert not (tmp_path / "run" / "checkpoints").exists()
    for name in ("model/model.safetensors", "adapter/adapter_model.safetensors", "training.json"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_the_loss_falls_and_the_record_tells_what_was_trained_on(tiny, tmp_path):
    chats = [Chat.pair(f"soup {number % 3}", "salt and carrots") for number in range(30)]
    record = train(
        ModelSpec(name=str(tiny)),
        chats,
        TrainSettings(epochs=20, batch_size=10, learning_rate=1e-2),
        tmp_path,
        seed=0,
    )
    assert record["losses"][-1] < 0.5 * record["losses"][0]
    written = json.loads((tmp_path / "training.json").read_text())
    assert written["rows"] == 30 and written["steps"] == 60 and written["seed"] == 0
    first = (tmp_path / "first_row.txt").read_text()
    assert ">>>salt and carrots" in first


def test_a_disk_that_fills_while_a_model_is_written_is_one_clear_line(tiny, tmp_path, monkeypatch):
    from types import SimpleNamespace

    from transformers import PreTrainedModel

    from buckler.errors import StoreError

    def full(*_: object, **__: object) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
        raise RuntimeError("PytorchStreamWriter failed writing file")

    monkeypatch.setattr(PreTrainedModel, "save_pretrained", full)
    with pytest.raises(StoreError, match="the disk is full"):
        train(ModelSpec(name=str(tiny)), rows({"case": 4}), TrainSettings(epochs=1, checkpoint_every=0), tmp_path, seed=0)


def test_a_phase_that_would_not_fit_the_disk_is_not_begun(tiny, tmp_path, monkeypatch):
    from types import SimpleNamespace

    from buckler.errors import StoreError

    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10))
    with pytest.raises(StoreError, match="GB free, but training needs"):
        train(ModelSpec(name=str(tiny)), rows({"case": 4}), TrainSettings(), tmp_path, seed=0)
