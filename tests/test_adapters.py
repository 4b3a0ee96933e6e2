"""Adapters: alone as a model, on a base, trained on top of one another; what they bring is used, what does not fit is refused."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import pytest
import torch
from architectures import random_model
from conftest import CHATML, make_model

from buckler.data import Chat, write_rows
from buckler.errors import BackendError, ConfigError
from buckler.finetuning.settings import LoRA, TrainSettings
from buckler.finetuning.train import train
from buckler.models.loading import open_model
from buckler.models.protocol import ModelSpec, ScoreRequest
from buckler.models.registry import identity, load
from buckler.settings import parse
from buckler.workflow.jobs.customize import TrainJob

pytestmark = pytest.mark.ml

ROWS = [Chat.pair(f"soup {number}", "salt and carrots") for number in range(6)]
PAIRS = [ScoreRequest(messages=row.prompt, answer=row.answer or "") for row in ROWS[:2]]
FAST = {"epochs": 1, "batch_size": 3, "learning_rate": 1e-2}
SLOW = {**FAST, "learning_rate": 1e-9}


def lora(**more) -> TrainSettings:
    return TrainSettings(method="lora", lora=LoRA(dropout=0.0, **more), **FAST)


def nll(name: object, adapter: object = None, **more) -> list[float]:
    lm = load(ModelSpec(name=str(name), adapter=None if adapter is None else str(adapter), **more))
    return [one.nll for one in lm.score(PAIRS)]


def near(values: list[float]):
    return pytest.approx(values, rel=1e-4)


@pytest.fixture(scope="module")
def first(tiny, tmp_path_factory) -> Path:
    """A LoRA training on the tiny model."""
    out = tmp_path_factory.mktemp("first")
    train(ModelSpec(name=str(tiny)), ROWS, lora(targets=("q_proj", "v_proj")), out, seed=0)
    return out


def peft_adapter(base: Path, folder: Path, *, tokenizer: object = None, rows: int | None = None, **config) -> Path:
    """An adapter as another program leaves it: every weight of it random, so that it changes what the model says."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base)
    if rows is not None:
        model.resize_token_embeddings(rows, mean_resizing=False)
    settings = {"target_modules": ["q_proj"], "task_type": "CAUSAL_LM", "init_lora_weights": False, **config}
    torch.manual_seed(1)
    adapted = get_peft_model(model, LoraConfig(**settings))
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "modules_to_save" in name:
                weight.add_(torch.randn_like(weight) * 0.05)
    adapted.save_pretrained(folder)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
    return folder


def change(folder: Path, to: Path, **values) -> Path:
    """A copy of an adapter with other settings."""
    shutil.copytree(folder, to)
    settings = json.loads((to / "adapter_config.json").read_text())
    (to / "adapter_config.json").write_text(json.dumps({**settings, **values}))
    return to


def test_lora_on_top_of_an_adapter_leaves_a_merged_model_and_an_adapter_on_a_base_that_is_there(tiny, first, tmp_path, caplog):
    record = train(ModelSpec(name=str(tiny), adapter=str(first / "adapter")), ROWS, lora(), tmp_path / "second", seed=0)
    second = tmp_path / "second"
    assert record["base"] == {"model": str(tiny), "adapter": str(first / "adapter"), "adapter_is_on": "base"}
    settings = json.loads((second / "adapter" / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == str(second / "base")
    assert nll(second / "base") == near(nll(first / "model"))
    trained = nll(second / "model")
    assert trained != near(nll(first / "model"))
    assert nll(second / "adapter") == near(trained)
    assert nll(second / "base", second / "adapter") == near(trained)
    shutil.move(second, tmp_path / "moved")
    moved = tmp_path / "moved"
    with caplog.at_level(logging.WARNING, "buckler"):
        assert nll(moved / "adapter") == near(trained)
    assert f"its base {second / 'base'} has moved with it to {moved / 'base'}, which is used" in caplog.text


def test_full_fine_tuning_on_top_of_an_adapter_trains_every_weight_of_the_merged_model(tiny, first, tmp_path):
    from safetensors.torch import load_file

    settings = TrainSettings(**FAST)
    record = train(ModelSpec(name=str(tiny), adapter=str(first / "adapter")), ROWS, settings, tmp_path / "on", seed=0)
    train(ModelSpec(name=str(first / "model")), ROWS, settings, tmp_path / "by hand", seed=0)
    assert record["base"] == {"model": str(tiny), "adapter": str(first / "adapter")}
    assert not (tmp_path / "on" / "adapter").exists() and not (tmp_path / "on" / "base").exists()
    assert nll(tmp_path / "on" / "model") == pytest.approx(nll(tmp_path / "by hand" / "model"), rel=1e-3)
    weights, before = (load_file(folder / "model" / "model.safetensors") for folder in (tmp_path / "on", first))
    assert all(not torch.equal(weights[name], before[name]) for name in weights if "proj.weight" in name)


@pytest.mark.parametrize("config", [{"use_rslora": True, "r": 4}, {"use_dora": True}, {"bias": "all"}])
def test_adapters_of_other_kinds_can_be_trained_on(tiny, tmp_path, config):
    adapter = peft_adapter(tiny, tmp_path / "adapter", **config)
    before = nll(tiny, adapter)
    assert before != nll(tiny)
    merged, _ = open_model(ModelSpec(name=str(tiny), adapter=str(adapter)), for_training=True)
    merged.save_pretrained(tmp_path / "merged")
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(tiny / name, tmp_path / "merged" / name)
    assert nll(tmp_path / "merged") == near(before)


def test_the_job_hands_over_the_base_of_a_second_adapter(tiny, first, tmp_path):
    write_rows(tmp_path / "rows.jsonl", ROWS)
    values = {"rows": [str(tmp_path / "rows.jsonl")], "model": str(first / "adapter"), "train": lora().model_dump()}
    result = parse(TrainJob, values, "train").run(tmp_path / "out")
    settings = json.loads((tmp_path / "out" / "adapter" / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == str(tmp_path / "out" / "base")
    assert any("merged into it" in line and str(first / "adapter") in line for line in result.lines())
    shutil.rmtree(tmp_path / "out" / ".work")
    assert nll(tmp_path / "out" / "adapter") == near(nll(tmp_path / "out" / "model"))


def test_an_adapter_folder_alone_is_a_model_wherever_its_base_is_named_from(tiny, first, tmp_path, monkeypatch):
    wanted = nll(first / "model")
    assert nll(first / "adapter") == near(wanted)
    assert identity(ModelSpec(name=str(first / "adapter"))) == identity(ModelSpec(name=str(tiny), adapter=str(first / "adapter")))
    shutil.copytree(tiny, tmp_path / "models" / "base")
    beside = change(first / "adapter", tmp_path / "models" / "mine", base_model_name_or_path="../base")
    assert nll(beside) == near(wanted)
    monkeypatch.chdir(tmp_path)
    here = change(first / "adapter", tmp_path / "other", base_model_name_or_path="models/base")
    assert nll(here) == near(wanted)


@pytest.mark.parametrize("record", [None, {}, {"base": {"model": "m", "adapter_is_on": "other"}}, {"base": None}])
def test_another_folder_of_the_name_of_a_base_that_is_gone_is_not_taken_for_it(tiny, first, tmp_path, record):
    shutil.copytree(tiny, tmp_path / "base")
    if record is not None:
        (tmp_path / "training.json").write_text(json.dumps(record))
    gone = change(first / "adapter", tmp_path / "adapter", base_model_name_or_path="/elsewhere/base")
    with pytest.raises(BackendError, match=r"its base model /elsewhere/base, .* is not here; name the base with --model"):
        identity(ModelSpec(name=str(gone)))
    assert nll(tmp_path / "base", gone) == near(nll(first / "model"))


def test_the_gate_compares_adapters_each_on_the_base_that_it_names(tiny, first, tmp_path):
    from buckler.workflow.jobs.gate import GateJob

    train(ModelSpec(name=str(tiny), adapter=str(first / "adapter")), ROWS, lora(), tmp_path / "second", seed=0)
    pairs = {
        (tiny, first / "adapter"): (str(tiny), str(first / "adapter")),
        (tiny, tmp_path / "second" / "adapter"): (str(tmp_path / "second" / "base"), str(tmp_path / "second" / "adapter")),
        (first / "adapter", tmp_path / "second" / "adapter"): (
            str(tmp_path / "second" / "base"),
            str(tmp_path / "second" / "adapter"),
        ),
        (first / "model", first / "adapter"): (str(tiny), str(first / "adapter")),
    }
    for (base, tuned), wanted in pairs.items():
        job = parse(GateJob, {"base": str(base), "tuned": str(tuned), "probes": ["rows.jsonl"]}, "gate")
        spec = job._sides()["tuned"].spec
        assert (spec.name, spec.adapter) == wanted


@pytest.mark.parametrize("base", ["/nowhere/model", "./nowhere", "", None])
def test_an_adapter_whose_base_is_not_there_is_told_before_rows_are_read(first, tmp_path, base):
    adapter = change(first / "adapter", tmp_path / "adapter", base_model_name_or_path=base)
    values = {"rows": ["nowhere.jsonl"], "model": str(adapter)}
    with pytest.raises(BackendError, match=r"adapter: .*(is not here|names no base model).*--adapter"):
        parse(TrainJob, values, "train").run(tmp_path / "out")


def test_an_adapter_of_the_hub_is_checked_as_one_that_lies_here(tiny, first, tmp_path, monkeypatch):
    import huggingface_hub

    downloaded = change(first / "adapter", tmp_path / "downloaded")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: str(downloaded))
    spec = ModelSpec(name=str(tiny), adapter="owner/adapter")
    assert open_model(spec)
    (downloaded / "tokenizer_config.json").write_text("{not json")
    with pytest.raises(BackendError, match=r"tokenizer_config\.json: not JSON"):
        open_model(spec)


def test_an_adapter_on_an_adapter_is_a_model_and_one_that_leads_back_to_itself_is_refused(tiny, first, tmp_path):
    with pytest.raises(ConfigError, match="is itself an adapter"):
        identity(ModelSpec(name=str(first / "adapter"), adapter=str(first / "adapter")))
    stacked = change(first / "adapter", tmp_path / "adapter", base_model_name_or_path=str(first / "adapter"))
    assert nll(stacked) == near(nll(first / "model", first / "adapter")) != near(nll(first / "model"))
    assert identity(ModelSpec(name=str(stacked))) != identity(ModelSpec(name=str(first / "adapter")))
    change(stacked, tmp_path / "other", base_model_name_or_path=str(tmp_path / "ring"))
    ring = change(stacked, tmp_path / "ring", base_model_name_or_path=str(tmp_path / "other"))
    with pytest.raises(BackendError, match="leads back to itself"):
        identity(ModelSpec(name=str(ring)))


def test_the_tokenizer_added_tokens_and_template_of_an_adapter_are_used(tiny, tmp_path):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny)
    tokenizer.add_tokens(["<|mine|>"], special_tokens=True)
    tokenizer.chat_template = CHATML.replace("assistant\n", "assistant\n<|mine|>")
    new = tokenizer.convert_tokens_to_ids("<|mine|>")
    adapter = peft_adapter(
        tiny, tmp_path / "adapter", tokenizer=tokenizer, rows=new + 1, modules_to_save=["embed_tokens", "lm_head"]
    )
    lm = load(ModelSpec(name=str(adapter)))
    assert lm.model.get_input_embeddings().weight.shape[0] == new + 1
    assert lm.template.prompt(ROWS[0].prompt)[-1] == new
    assert all(torch.isfinite(torch.tensor([one.nll for one in lm.score(PAIRS)])))
    assert identity(ModelSpec(name=str(adapter))) != identity(ModelSpec(name=str(tiny)))
    (adapter / "chat_template.jinja").write_text(CHATML)
    assert load(ModelSpec(name=str(adapter))).template.prompt(ROWS[0].prompt)[-1] != new


def test_a_template_beside_the_adapter_alone_is_used_and_makes_a_base_without_one_answer(first, tmp_path):
    bare = make_model(tmp_path / "bare", template=False)
    adapter = change(first / "adapter", tmp_path / "adapter", base_model_name_or_path=str(bare))
    with pytest.raises(BackendError, match="no chat template"):
        load(ModelSpec(name=str(adapter)))
    (adapter / "chat_template.jinja").write_text(CHATML)
    assert load(ModelSpec(name=str(adapter))).score(PAIRS)


def test_one_embedding_that_an_adapter_trains_apart_stays_apart_when_merged(tiny, tmp_path):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny)
    model.config.tie_word_embeddings = True
    model.tie_weights()
    tied = tmp_path / "tied"
    model.save_pretrained(tied)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(tiny / name, tied / name)
    for kind, config in {"lora": {"target_modules": ["embed_tokens"]}, "saved": {"modules_to_save": ["lm_head"]}}.items():
        adapter = peft_adapter(tied, tmp_path / kind, **config)
        train(
            ModelSpec(name=str(adapter)), ROWS, TrainSettings(**{**FAST, "learning_rate": 1e-9}), tmp_path / f"{kind} on", seed=0
        )
        assert nll(tmp_path / f"{kind} on" / "model") == pytest.approx(nll(adapter), rel=1e-3), kind
        assert nll(adapter) != nll(tied)


def test_an_adapter_of_another_shape_task_or_layer_is_refused(tiny, first, tmp_path):
    wide = make_model(tmp_path / "wide", hidden=64)
    with pytest.raises(BackendError, match=r"adapter .*: does not fit .*wide: .*size mismatch"):
        open_model(ModelSpec(name=str(wide), adapter=str(first / "adapter")))
    for task in ("SEQ_CLS", "SEQ_2_SEQ_LM"):
        other = change(first / "adapter", tmp_path / task, task_type=task)
        with pytest.raises(BackendError, match=f"task type {task}, not CAUSAL_LM"):
            identity_checked(other)
    named = change(first / "adapter", tmp_path / "names", target_modules=["c_attn"])
    with pytest.raises(BackendError, match="does not fit"):
        open_model(ModelSpec(name=str(named)))
    fewer = change(first / "adapter", tmp_path / "fewer", target_modules=["q_proj"])
    with pytest.raises(BackendError, match=r"does not fit .*: \d+ of its weights have no place there"):
        open_model(ModelSpec(name=str(fewer)))
    more = change(first / "adapter", tmp_path / "more", target_modules=["q_proj", "v_proj", "k_proj"])
    with pytest.raises(BackendError, match=r"does not fit .*missing adapter keys"):
        open_model(ModelSpec(name=str(more)))


def test_an_adapter_beside_the_weights_of_a_model_is_not_put_on_them_and_that_is_said(tiny, first, tmp_path, caplog):
    folder = Path(shutil.copytree(first / "model", tmp_path / "merged"))
    for file in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copy(first / "adapter" / file, folder / file)
    with caplog.at_level(logging.WARNING, "buckler"):
        assert nll(folder) == near(nll(first / "model"))
    assert f"{folder} is used as it is, without the adapter that lies beside it" in caplog.text
    assert f"add --adapter {folder}" in caplog.text
    plain, on_top = ModelSpec(name=str(folder)), ModelSpec(name=str(folder), adapter=str(folder))
    assert identity(plain) == identity(ModelSpec(name=str(first / "model"))) != identity(on_top)
    assert nll(folder, folder) == near(nll(first / "model", first / "adapter"))
    for method, on in (("full", {}), ("lora", {"lora": LoRA(dropout=0.0)})):
        record = train(plain, ROWS, TrainSettings(method=method, **on, **SLOW), tmp_path / method, seed=0)
        assert "without the adapter that lies beside it" in record["note"]
        assert nll(tmp_path / method / "model") == pytest.approx(nll(folder), rel=1e-3)


def test_an_adapter_with_the_config_of_its_base_beside_it_is_an_adapter(tiny, first, tmp_path):
    adapter = change(first / "adapter", tmp_path / "adapter")
    shutil.copy(tiny / "config.json", adapter / "config.json")
    assert nll(adapter) == near(nll(first / "model"))


def identity_checked(folder: Path) -> None:
    from buckler.workflow.inputs import ModelRef

    ModelRef.outside(ModelSpec(name=str(folder)))


def test_an_adapter_without_safetensors_or_with_broken_numbers_is_refused(first, tmp_path):
    from safetensors.torch import load_file, save_file

    pickled = change(first / "adapter", tmp_path / "pickled")
    (pickled / "adapter_model.safetensors").rename(pickled / "adapter_model.bin")
    with pytest.raises(BackendError, match=r"adapter_model\.bin can run code"):
        identity_checked(pickled)
    for file in ("adapter_config.json", "tokenizer_config.json", "tokenizer.json"):
        damaged = change(first / "adapter", tmp_path / f"damaged {file}")
        (damaged / file).write_text("{not json")
        with pytest.raises(BackendError, match=f"{file}: not (JSON|a tokenizer)"):
            identity_checked(damaged)
    broken = change(first / "adapter", tmp_path / "broken")
    weights = load_file(broken / "adapter_model.safetensors")
    next(iter(weights.values()))[0, 0] = float("nan")
    save_file(weights, broken / "adapter_model.safetensors")
    with pytest.raises(BackendError, match="1 weights are not finite"):
        open_model(ModelSpec(name=str(broken)))


def test_an_adapter_on_another_base_than_its_own_is_said(tiny, first, tmp_path, caplog):
    other = make_model(tmp_path / "other", seed=5)
    with caplog.at_level(logging.WARNING, "buckler"):
        open_model(ModelSpec(name=str(other), adapter=str(first / "adapter")))
    assert f"was trained on {tiny}, and is loaded on {other}" in caplog.text


def test_a_prompt_tuning_answers_and_is_refused_as_what_a_training_goes_on_from(tiny, tmp_path):
    from peft import PromptTuningConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
    get_peft_model(AutoModelForCausalLM.from_pretrained(tiny), config).save_pretrained(tmp_path / "prompt")
    spec = ModelSpec(name=str(tmp_path / "prompt"))
    open_model(spec)
    with pytest.raises(BackendError, match="PROMPT_TUNING, which cannot be merged"):
        open_model(spec, for_training=True)


@pytest.mark.parametrize(
    ("name", "expected"), [("Phi3", "qkv_proj"), ("GPT2", "c_attn"), ("Mamba", "in_proj"), ("Llama", "up_proj")]
)
def test_all_linear_layers_are_found_on_every_architecture(name, expected):
    from buckler.finetuning.prepare import with_lora

    model = with_lora(random_model(name), LoRA(), 0)
    adapted = {key.rpartition(".")[2] for key in model.targeted_module_names}
    assert expected in adapted and not adapted & {"lm_head", "wte", "embed_tokens"}
    if name != "Mamba":
        ids = torch.tensor([[3, 4, 5]])
        model(input_ids=ids, labels=ids).loss.backward()
        assert all(weight.grad is not None for key, weight in model.named_parameters() if "lora_B" in key)


def test_targets_that_no_layer_has_are_refused_with_those_it_has():
    from buckler.finetuning.prepare import with_lora

    with pytest.raises(ConfigError, match=r"lora.targets \['wq'\].*q_proj.*all-linear"):
        with_lora(random_model("Llama"), LoRA(targets=("wq",)), 0)


@pytest.mark.parametrize("given", [{"r": 4}, {"targets": ["q_proj"]}, {"alpha": 1}])
def test_lora_settings_of_a_full_training_are_refused(given):
    with pytest.raises(ConfigError, match="no effect with method `full`"):
        parse(TrainJob, {"rows": ["rows.jsonl"], "train": {"lora": given}}, "train")


def test_a_full_training_has_the_key_it_had_and_reads_its_own_record():
    dumped = TrainSettings().model_dump(mode="json")
    assert dumped["lora"] == {"r": 8, "alpha": 16, "dropout": 0.05, "targets": ["q_proj", "v_proj"]}
    assert parse(TrainSettings, dumped, "train").model_dump(mode="json") == dumped
    assert TrainSettings(method="lora").model_dump(mode="json")["lora"]["targets"] == ["all-linear"]
    with pytest.raises(ConfigError, match="all-linear stands alone"):
        parse(LoRA, {"targets": ["all-linear", "q_proj"]}, "train")
