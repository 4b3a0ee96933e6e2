"""A process that runs steps keeps the model that it read last; what a step does to its copy does not reach the next one."""

from __future__ import annotations

import shutil

import pytest
import torch
from conftest import make_model

from buckler.data import Chat
from buckler.finetuning.settings import LoRA, TrainSettings
from buckler.finetuning.train import train
from buckler.models import kept, loading
from buckler.models.protocol import ModelSpec, ScoreRequest
from buckler.models.registry import load

pytestmark = pytest.mark.ml

ROWS = [Chat.pair(f"soup {number}", "salt and carrots") for number in range(6)]
PAIRS = [ScoreRequest(messages=row.prompt, answer=row.answer or "") for row in ROWS[:2]]
FAST = {"epochs": 1, "batch_size": 3, "learning_rate": 1e-2}
LORA = TrainSettings(method="lora", lora=LoRA(r=2), **FAST)


@pytest.fixture
def read(monkeypatch) -> list[str]:
    """The models whose weights are read from their files, in order."""
    names: list[str] = []
    real = loading._base

    def counted(spec: ModelSpec, dtype: str, device: str):
        names.append(spec.name)
        return real(spec, dtype, device)

    monkeypatch.setattr(loading, "_base", counted)
    return names


def test_the_weights_of_the_same_model_are_read_once_and_of_another_one_again(tiny, tmp_path, read):
    other = str(shutil.copytree(tiny, tmp_path / "other"))
    with kept.keeping():
        for name in (str(tiny), str(tiny), other, other, str(tiny)):
            load(ModelSpec(name=name))
        assert read == [str(tiny), other, str(tiny)], "one model at most is kept"
    load(ModelSpec(name=str(tiny)))
    assert len(read) == 4, "and nothing when the steps are done"


def test_a_model_in_another_type_or_with_other_files_is_read_again(tiny, tmp_path, read):
    folder = shutil.copytree(tiny, tmp_path / "base")
    with kept.keeping():
        before = load(ModelSpec(name=str(folder))).score(PAIRS)
        load(ModelSpec(name=str(folder), dtype="bfloat16"))
        assert len(read) == 2
        make_model(folder, "qwen", seed=5)
        again = load(ModelSpec(name=str(folder), dtype="bfloat16"))
        assert len(read) == 3 and again.score(PAIRS) != before


def test_neither_a_merged_adapter_nor_a_training_reaches_the_next_step(tiny, tmp_path, read):
    base, folders = ModelSpec(name=str(tiny)), {name: tmp_path / name for name in ("kept", "fresh")}
    found, trained = {}, {}
    for name, folder in folders.items():
        with kept.keeping() if name == "kept" else pytest.MonkeyPatch.context():
            train(base, ROWS, LORA, folder / "one", seed=0, merge=False)
            merged = ModelSpec(name=str(tiny), merge=(str(folder / "one" / "adapter"),))
            specs = [base, merged, base, merged.model_copy(update={"dtype": "bfloat16"}), base]
            found[name] = [[one.nll for one in load(spec).score(PAIRS)] for spec in specs]
            train(base, ROWS, TrainSettings(**FAST), folder / "full", seed=0)
            train(merged, ROWS, LORA, folder / "two", seed=0, merge=False)
            trained[name] = [*(folder / part for part in ("full/model/model", "two/adapter/adapter_model"))]
    assert read == [str(tiny)] * (1 + 8), "once with keeping, at every step without"
    assert found["kept"] == found["fresh"] and found["kept"][0] == found["kept"][2] != found["kept"][1]
    for some, other in zip(trained["kept"], trained["fresh"], strict=True):
        assert some.with_suffix(".safetensors").read_bytes() == other.with_suffix(".safetensors").read_bytes()


def test_a_model_that_does_not_fit_twice_is_not_kept(tiny, read, monkeypatch):
    monkeypatch.setattr(kept, "free_memory", lambda: 1000)
    with kept.keeping():
        load(ModelSpec(name=str(tiny)))
        load(ModelSpec(name=str(tiny)))
    assert len(read) == 2


def test_a_copy_has_the_tied_weights_and_the_generation_settings_of_the_model(tmp_path):
    make_model(tmp_path / "m", "qwen")
    with kept.keeping():
        one, two = (loading.open_model(ModelSpec(name=str(tmp_path / "m")))[0] for _ in range(2))
    assert one is not two and one.generation_config.to_dict() == two.generation_config.to_dict()
    for model in (one, two):
        tied = model.get_input_embeddings().weight is model.get_output_embeddings().weight
        assert tied == bool(model.config.tie_word_embeddings)
    assert all(torch.equal(one.state_dict()[name], value) for name, value in two.state_dict().items())
