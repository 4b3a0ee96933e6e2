"""What does not fit is refused before a row is read: layers for LoRA, adapters of the hub, shapes of adapters."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from conftest import CHATML, make_model
from safetensors.torch import load_file, save_file

from buckler.data import Chat, write_rows
from buckler.errors import BackendError, ConfigError
from buckler.finetuning.settings import LoRA, TrainSettings
from buckler.finetuning.train import train
from buckler.models import fit
from buckler.models.protocol import ModelSpec, ScoreRequest
from buckler.models.registry import identity, load
from buckler.settings import parse
from buckler.workflow.inputs import ModelRef
from buckler.workflow.jobs.customize import TrainJob
from buckler.workflow.jobs.evaluate import EvaluateJob
from buckler.workflow.jobs.gate import GateJob
from buckler.workflow.jobs.judge import JudgeJob

pytestmark = pytest.mark.ml

ROWS = [Chat.pair(f"soup {number}", "salt and carrots") for number in range(6)]
PAIRS = [ScoreRequest(messages=row.prompt, answer=row.answer or "") for row in ROWS[:2]]
COMMIT = "1" * 40


@pytest.fixture(scope="module")
def adapter(tiny, tmp_path_factory) -> Path:
    """A LoRA adapter that changes the tiny model."""
    out = tmp_path_factory.mktemp("trained")
    settings = TrainSettings(method="lora", lora=LoRA(dropout=0.0), epochs=1, batch_size=3, learning_rate=1e-2)
    train(ModelSpec(name=str(tiny)), ROWS, settings, out, seed=0)
    return out / "adapter"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A cache of the hub without a hub: puts a folder's files there under a name."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))

    def put(name: str, folder: Path, **config: object) -> Path:
        cached = tmp_path / "hub" / f"models--{name.replace('/', '--')}"
        (cached / "refs").mkdir(parents=True)
        (cached / "refs" / "main").write_text(COMMIT)
        to = Path(shutil.copytree(folder, cached / "snapshots" / COMMIT))
        if config:
            settings = json.loads((to / "adapter_config.json").read_text())
            (to / "adapter_config.json").write_text(json.dumps({**settings, **config}))
        return to

    return put


def copy_of(adapter: Path, to: Path, **config: object) -> Path:
    shutil.copytree(adapter, to)
    settings = json.loads((to / "adapter_config.json").read_text())
    (to / "adapter_config.json").write_text(json.dumps({**settings, **config}))
    return to


def lora(targets: object) -> dict[str, object]:
    return {"method": "lora", "lora": {"targets": targets}}


@pytest.mark.parametrize(("given", "wanted"), [
    ("all-linear", ("all-linear",)),
    (["all-linear"], ("all-linear",)),
    ("q_proj", ("q_proj",)),
    (["q_proj", "v_proj"], ("q_proj", "v_proj")),
    ((" q_proj", "q_proj"), ("q_proj",)),
    ("self_attn.q_proj", ("self_attn.q_proj",)),
])  # fmt: skip
def test_targets_are_a_name_or_a_list_of_names_wherever_they_are_set(given, wanted):
    assert parse(TrainSettings, lora(given), "recipe").lora.targets == wanted
    assert LoRA(targets=given).targets == wanted
    job = parse(TrainJob, {"rows": ["r.jsonl"], "method": "lora", "lora_targets": given}, "train")
    assert job.train.lora.targets == wanted


@pytest.mark.parametrize(("given", "reason"), [
    (["all-linear", "q_proj"], "stands alone"),
    ("", "no name of a layer"),
    ("q_proj,v_proj", "no name of a layer; give names such as q_proj, each as an entry"),
    ([".*_proj"], "no name of a layer"),
    ([], "at least 1"),
    (3, "list"),
])  # fmt: skip
def test_what_is_no_name_of_a_layer_is_refused_as_it_is_read(given, reason):
    with pytest.raises(ConfigError, match=reason):
        parse(TrainSettings, lora(given), "recipe")


@pytest.mark.parametrize("targets", ["w_proj", ["q_proj", "w_proj"], "norm", "proj", "layers.7.self_attn.q_proj"])
def test_layers_that_the_model_lacks_are_told_before_rows_are_read(tiny, tmp_path, targets):
    values = {"rows": ["nowhere.jsonl"], "model": str(tiny), "train": lora(targets)}
    wrong = targets if isinstance(targets, str) else targets[1]
    message = rf"has no layer for an adapter called '{wrong}'; it has (?!.*(rotary|norm)).*q_proj.* \(or use all-linear\)"
    with pytest.raises(ConfigError, match=message):
        parse(TrainJob, values, "train").run(tmp_path / "out")
    with pytest.raises(ConfigError, match=message):
        parse(TrainJob, {**values, "job": str(tmp_path / "job.json")}, "train").run(tmp_path / "out")
    with pytest.raises(ConfigError, match=message):
        train(ModelSpec(name=str(tiny)), ROWS, TrainSettings.model_validate(lora(targets)), tmp_path / "direct", seed=0)


def test_layers_are_looked_up_in_the_model_itself_where_its_files_name_them_otherwise(tmp_path):
    from architectures import random_model

    model = random_model("Mixtral")
    model.save_pretrained(tmp_path / "model")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(
            make_model(tmp_path / "plain") / name if name == "tokenizer.json" else tmp_path / "plain" / name, tmp_path / "model"
        )
    (tmp_path / "model" / "chat_template.jinja").write_text(CHATML)
    spec = ModelSpec(name=str(tmp_path / "model"))
    fit.require_layers(spec, ["q_proj"])
    with pytest.raises(ConfigError, match="called 'w9'"):
        fit.require_layers(spec, ["w9"])


def test_an_adapter_of_the_hub_is_a_model_by_its_name_alone(tiny, adapter, hub):
    hub("owner/base", tiny)
    folder = hub("owner/adapter", adapter, base_model_name_or_path="owner/base")
    wanted = [one.nll for one in load(ModelSpec(name=str(tiny), adapter=str(adapter))).score(PAIRS)]
    assert [one.nll for one in load(ModelSpec(name="owner/adapter", dtype="float32")).score(PAIRS)] == wanted
    alone, named = ModelSpec(name="owner/adapter"), ModelSpec(name="owner/base", adapter="owner/adapter")
    assert identity(alone) == identity(named)
    assert ModelRef.outside(alone).spec == named
    pinned = ModelRef.outside(ModelSpec(name="owner/adapter", revision=COMMIT)).spec
    assert (pinned.name, pinned.adapter, pinned.revision) == ("owner/base", str(folder), None)
    assert ModelRef.outside(ModelSpec(name="owner/base")).spec.adapter is None


@pytest.mark.parametrize(("config", "reason"), [
    ({"base_model_name_or_path": None}, "names no base model"),
    ({"base_model_name_or_path": "/gone/base"}, "its base model /gone/base.* is not here"),
    ({"base_model_name_or_path": "owner/gone"}, "owner/gone: not a local folder, and not available from the hub"),
    ({"task_type": "SEQ_CLS"}, "task type SEQ_CLS, not CAUSAL_LM"),
])  # fmt: skip
def test_an_adapter_of_the_hub_is_refused_as_one_that_lies_here(tiny, adapter, hub, tmp_path, config, reason):
    hub("owner/base", tiny)
    hub("owner/adapter", adapter, **{"base_model_name_or_path": "owner/base", **config})
    with pytest.raises(BackendError, match=reason):
        parse(TrainJob, {"rows": ["nowhere.jsonl"], "model": "owner/adapter"}, "train").run(tmp_path / "out")


def test_an_adapter_of_the_hub_that_cannot_be_had_is_one_error_with_its_name(tiny, hub, tmp_path):
    for model in ({"name": str(tiny), "adapter": "owner/nothing"}, {"name": "owner/nothing"}):
        with pytest.raises(BackendError, match=r"owner/nothing: not a local folder, and not available from the hub"):
            parse(EvaluateJob, {"probes": ["nowhere.jsonl"], "model": model}, "evaluate").run(tmp_path / "out")


def wrong_adapters(tiny: Path, adapter: Path, to: Path) -> dict[str, Path]:
    """Adapters that do not fit the tiny model, each for another reason, by that reason."""
    from transformers import AutoTokenizer

    weights = load_file(adapter / "adapter_model.safetensors")
    rank = copy_of(adapter, to / "rank")
    name = next(name for name in weights if name.endswith("q_proj.lora_A.weight"))
    save_file({**weights, name: weights[name][:2].contiguous()}, rank / "adapter_model.safetensors")
    deeper = copy_of(adapter, to / "deeper")
    save_file(
        {**weights, **{name.replace("layers.0", "layers.9"): one.clone() for name, one in weights.items()}},
        deeper / "adapter_model.safetensors",
    )
    words = copy_of(adapter, to / "words")
    tokenizer = AutoTokenizer.from_pretrained(tiny)
    tokenizer.add_tokens([f"word{number}" for number in range(9)])
    tokenizer.save_pretrained(words)
    return {
        r"does not fit .*size mismatch": rank,
        r"does not fit .*have no place there": deeper,
        r"does not fit .*missing adapter keys": copy_of(adapter, to / "more", target_modules=["q_proj", "embed_tokens"]),
        r"does not fit ": copy_of(adapter, to / "other", target_modules=["c_attn"]),
        r"has embeddings for \d+ tokens only": words,
    }


def test_an_adapter_that_does_not_fit_is_told_before_rows_are_read_in_every_command(tiny, adapter, tmp_path):
    for reason, folder in wrong_adapters(tiny, adapter, tmp_path).items():
        model = {"name": str(tiny), "adapter": str(folder)}
        jobs = {
            TrainJob: {"rows": ["nowhere.jsonl"], "model": model},
            EvaluateJob: {"probes": ["nowhere.jsonl"], "model": model},
            GateJob: {"base": str(tiny), "tuned": model, "probes": ["nowhere.jsonl"]},
            JudgeJob: {"answers": ["nowhere.jsonl"], "judge": "rubric", "judge_model": model},
        }
        for kind, values in jobs.items():
            with pytest.raises(BackendError, match=reason):
                parse(kind, values, "test").run(tmp_path / "out")


def test_headers_alone_tell_that_a_plain_adapter_fits(tiny, adapter, tmp_path, monkeypatch):
    def built(spec: ModelSpec) -> object:
        raise AssertionError(f"{spec.name} was built")

    monkeypatch.setattr(fit, "_without_values", built)
    fit.require_ready(ModelSpec(name=str(adapter)))
    fit.require_layers(ModelSpec(name=str(tiny)), ["q_proj", "lm_head", "layers.0.mlp.up_proj"])
    wide = make_model(tmp_path / "wide", hidden=64)
    with pytest.raises(AssertionError, match="wide was built"):
        fit.require_ready(ModelSpec(name=str(wide), adapter=str(adapter)))


def test_a_judge_that_cannot_answer_is_told_before_the_probes_are_asked(tiny, tmp_path):
    write_rows(tmp_path / "rows.jsonl", ROWS)
    encoder = Path(shutil.copytree(tiny, tmp_path / "encoder"))
    settings = json.loads((encoder / "config.json").read_text())
    (encoder / "config.json").write_text(json.dumps({**settings, "architectures": ["BertForMaskedLM"]}))
    values = {"probes": [str(tmp_path / "rows.jsonl")], "model": str(tiny), "judge": f"keyword,rubric={encoder}"}
    with pytest.raises(BackendError, match="BertForMaskedLM is an encoder"):
        parse(EvaluateJob, values, "evaluate").run(tmp_path / "out")
    assert not list((tmp_path / "out").rglob("answers.jsonl"))
