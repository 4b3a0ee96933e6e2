"""Arithmetic and threads: what `auto` is on which machine, what it changes in keys, and that bfloat16 trains float32 weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from conftest import make_model

from buckler.data import Chat, content_id, write_rows
from buckler.errors import BackendError, ConfigError
from buckler.experiments.registry import read_recipe
from buckler.finetuning.settings import LoRA, TrainSettings
from buckler.finetuning.train import train
from buckler.models import dtype as dtypes
from buckler.models.places import dtype_of
from buckler.models.protocol import ModelSpec, Request, Sampling, ScoreRequest
from buckler.models.registry import identity, load
from buckler.settings import parse
from buckler.workflow.evaluation import judge_answers, judged
from buckler.workflow.inputs import ModelRef, model_spec, trained_spec
from buckler.workflow.jobs.customize import TrainJob
from buckler.workflow.jobs.evaluate import EvaluateJob
from buckler.workflow.jobs.gate import GateJob
from buckler.workflow.jobs.judge import JudgeJob
from buckler.workflow.rows import rows_of
from buckler.workflow.sources import Source
from buckler.workflow.step import Run

pytestmark = pytest.mark.ml

ROWS = [Chat.pair(f"soup {number}", "salt and carrots") for number in range(6)]
PAIRS = [ScoreRequest(messages=row.prompt, answer=row.answer or "") for row in ROWS]


@pytest.fixture
def amx(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """A machine whose CPU has AMX, or not, and where every model is large."""

    def machine(*, has_amx: bool) -> None:
        file = tmp_path / "cpuinfo"
        file.write_text(f"flags\t\t: fpu avx512_bf16 {'amx_bf16 amx_tile' if has_amx else ''}\n")
        monkeypatch.setattr(dtypes, "CPU_INFO", file)
        monkeypatch.setattr(dtypes, "GPU_SIGNS", ())
        monkeypatch.setattr(dtypes, "SMALL", 0)
        dtypes.cpu_has_amx.cache_clear()

    yield machine
    dtypes.cpu_has_amx.cache_clear()


def test_auto_is_bfloat16_where_the_cpu_has_amx_and_float32_elsewhere(tiny, amx):
    spec = ModelSpec(name=str(tiny))
    amx(has_amx=True)
    assert dtype_of(spec) == "bfloat16" and dtype_of(ModelSpec(name="owner/model")) == "bfloat16"
    assert dtype_of(ModelSpec(name=str(tiny), dtype="float32")) == "float32"
    amx(has_amx=False)
    assert dtype_of(spec) == "float32" and dtype_of(ModelSpec(name=str(tiny), dtype="bfloat16")) == "bfloat16"


def test_auto_is_float32_for_the_miniature_and_other_small_models_on_every_machine(tiny, amx, monkeypatch):
    amx(has_amx=True)
    monkeypatch.undo()
    for name in ("miniature", "miniature-base", "miniature-small", str(tiny)):
        assert dtype_of(ModelSpec(name=name)) == "float32"


def test_a_float32_key_is_what_it_was_and_a_bfloat16_one_is_another(tiny, amx):
    spec = ModelSpec(name=str(tiny))
    amx(has_amx=False)
    before = identity(spec)
    files = [[path.name, _digest(path)] for path in sorted(tiny.glob("*")) if path.name != "generation_config.json"]
    assert before == content_id([content_id(files), None, None, "auto"]), "the key of version 0.1.0"
    amx(has_amx=True)
    assert identity(spec) not in (before, identity(ModelSpec(name=str(tiny), dtype="float32")))
    assert identity(spec) == identity(ModelSpec(name=str(tiny), dtype="bfloat16"))
    amx(has_amx=False)
    assert identity(ModelSpec(name=str(tiny), dtype="float32")) == content_id([content_id(files), None, None, "float32"])


def _digest(path: Path) -> str:
    from buckler.data import file_digest

    return file_digest(path)


def test_a_run_that_is_planned_on_one_machine_does_not_compute_otherwise_on_another(tiny, amx, tmp_path):
    amx(has_amx=True)
    places = ModelRef.outside(ModelSpec(name=str(tiny))).places()
    run = Run(settings=None, inputs={}, outside={"model": places["model"].place}, out=tmp_path, shared=tmp_path, progress=print)
    assert model_spec(run, "model").name == str(tiny)
    amx(has_amx=False)
    with pytest.raises(BackendError, match=r"planned with bfloat16, but this machine would compute in float32; .*bfloat16"):
        model_spec(run, "model")
    named = ModelRef.outside(ModelSpec(name=str(tiny), dtype="bfloat16")).places()["model"].place
    assert model_spec(Run(**{**_fields(run), "outside": {"model": named}}), "model").dtype == "bfloat16"


def _fields(run: Run) -> dict[str, object]:
    return {name: getattr(run, name) for name in ("settings", "inputs", "outside", "out", "shared", "progress")}


def test_answers_in_bfloat16_are_near_those_in_float32_and_weights_have_that_type(tiny):
    exact, near = (load(ModelSpec(name=str(tiny), dtype=dtype)) for dtype in ("float32", "bfloat16"))
    assert {weight.dtype for weight in near.model.parameters()} == {torch.bfloat16}
    assert [one.nll for one in near.score(PAIRS)] == pytest.approx([one.nll for one in exact.score(PAIRS)], rel=0.02)
    requests = [Request(messages=row.prompt, sampling=Sampling(max_new_tokens=6)) for row in ROWS]
    assert near.generate(requests) == [near.generate([request])[0] for request in requests]


@pytest.mark.parametrize("method", ["full", "lora"])
def test_training_in_bfloat16_updates_float32_weights(tiny, tmp_path, method):
    from safetensors.torch import load_file

    more = {"lora": LoRA(dropout=0.0)} if method == "lora" else {}
    settings = TrainSettings(method=method, epochs=4, batch_size=3, learning_rate=3e-3, **more)
    records = {}
    for dtype in ("float32", "bfloat16"):
        records[dtype] = train(ModelSpec(name=str(tiny), dtype=dtype), ROWS, settings, tmp_path / dtype, seed=0)
    assert "dtype" not in records["float32"] and records["bfloat16"]["dtype"] == "bfloat16"
    weights = {dtype: load_file(tmp_path / dtype / "model" / "model.safetensors") for dtype in records}
    assert {value.dtype for value in weights["bfloat16"].values()} == {torch.float32}
    assert any(not torch.equal(weights["float32"][name], value) for name, value in weights["bfloat16"].items())
    name = "model.layers.0.self_attn.q_proj.weight"
    assert not torch.equal(weights["bfloat16"][name], weights["bfloat16"][name].bfloat16().float()), "more than bfloat16 holds"
    assert records["bfloat16"]["losses"] == pytest.approx(records["float32"]["losses"], rel=0.02)


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of threads that torch is given: a process that really had two could not be forked by later tests."""
    given = [torch.get_num_threads()]
    monkeypatch.setattr(torch, "set_num_threads", given.append)
    monkeypatch.setattr(torch, "get_num_threads", lambda: given[-1])
    return given


def test_a_trained_model_is_loaded_as_it_was_trained(tiny, tmp_path, amx, threads):
    settings = TrainSettings(epochs=1, batch_size=6)
    train(ModelSpec(name=str(tiny), dtype="bfloat16", threads=2), ROWS, settings, tmp_path / "bf16", seed=0)
    assert trained_spec(tmp_path / "bf16").dtype == "bfloat16" and trained_spec(tmp_path / "bf16").threads == 2
    train(ModelSpec(name=str(tiny)), ROWS, settings, tmp_path / "f32", seed=0)
    assert trained_spec(tmp_path / "f32").dtype == "auto", "as ever, where auto is float32"
    amx(has_amx=True)
    assert trained_spec(tmp_path / "f32").dtype == "float32"


def test_float16_is_for_answering_only(tiny, tmp_path):
    with pytest.raises(ConfigError, match="float16 is for answering only"):
        train(ModelSpec(name=str(tiny), dtype="float16"), ROWS, TrainSettings(), tmp_path, seed=0)


def test_float16_is_refused_where_a_cpu_computes_and_not_where_a_gpu_is_named(tiny, tmp_path, amx):
    amx(has_amx=True)
    for spec in ({"dtype": "float16"}, {"dtype": "float16", "device": "cpu"}):
        model = {"name": str(tiny), **spec}
        with pytest.raises(BackendError, match="dtype float16 is for GPUs, and this computes on a CPU; use float32 or bfloat16"):
            parse(EvaluateJob, {"probes": ["nowhere.jsonl"], "model": model}, "evaluate").run(tmp_path / "out")
        with pytest.raises(BackendError, match="dtype float16 is for GPUs"):
            load(ModelSpec.model_validate(model))
    assert ModelRef.outside(ModelSpec(name=str(tiny), dtype="float16", device="cuda")).dtype == "float16"
    with pytest.raises(ConfigError, match="float16 is for answering only"):
        values = {"rows": ["nowhere.jsonl"], "model": {"name": str(tiny), "dtype": "float16", "device": "cuda"}}
        parse(TrainJob, values, "train").run(tmp_path / "out")


@pytest.mark.parametrize("judge", ["rubric={0}", "keyword,rubric={0}", "llama-guard-3={0}"])
def test_a_judge_that_is_planned_on_one_machine_does_not_compute_otherwise_on_another(tiny, amx, tmp_path, judge):
    amx(has_amx=True)
    source = rows_of(Source(source="miniature:customer", count=2))
    step = judged(source, judge.format(tiny), "a judge")
    (tmp_path / "answers.jsonl").write_text("")
    places = {name: one.place for name, one in step.outside.items()}
    run = Run(settings=None, inputs={"answers": tmp_path}, outside=places, out=tmp_path, shared=tmp_path, progress=print)
    amx(has_amx=False)
    with pytest.raises(BackendError, match=r"planned with bfloat16, but this machine would compute in float32"):
        judge_answers(run)
    assert step.key != judged(source, judge.format(tiny), "a judge").key


def test_results_of_another_dtype_or_model_are_not_replaced_without_a_word(tiny, tmp_path, caplog, amx):
    write_rows(tmp_path / "rows.jsonl", ROWS)
    other = make_model(tmp_path / "other", seed=3)
    amx(has_amx=False)

    def run(**more: object) -> str:
        caplog.clear()
        values = {"rows": [str(tmp_path / "rows.jsonl")], "model": str(tiny), "train": {"epochs": 1}, **more}
        with caplog.at_level("WARNING", "buckler"):
            saved = parse(TrainJob, values, "train").run(tmp_path / "out").to_json()
        assert saved.get("notes", []) == [record.getMessage() for record in caplog.records], "what is said stands in --json"
        return caplog.text

    assert "replaced" not in run()
    assert "replaced" not in run(threads=1), "what changes no result is not said"
    warning = run(dtype="bfloat16")
    assert (
        "are replaced: " in warning
        and 'dtype null -> "bfloat16"' in warning
        and 'model.computes_in "float32" -> "bfloat16"' in warning
    )
    assert str(other) in run(model=str(other), dtype="bfloat16")
    assert "seed null -> 3" in run(model=str(other), dtype="bfloat16", seed=3)
    run()
    amx(has_amx=True)
    assert 'model.computes_in "float32" -> "bfloat16"' in run(), "the same command on another CPU"


def test_a_store_that_moves_to_another_cpu_names_the_steps_that_are_done_again(tiny, tmp_path, amx):
    from buckler.experiments.registry import find_recipe, plan_of
    from buckler.experiments.run import of_other_types
    from buckler.workflow.step import in_order
    from buckler.workflow.store import Store

    changes = (f"models={{tiny: {tiny}}}", "seeds=[0]")
    recipe = read_recipe(find_recipe("demo_stages"), changes=changes)
    store = Store(tmp_path)
    amx(has_amx=False)
    steps = [step for step in in_order(plan_of(recipe).targets) if step.name in ("answer", "train")][:5]
    for step in steps:
        with store.folder(step).parent.joinpath(step.key) as folder:
            folder.mkdir(parents=True)
        store.mark(step, 1.0)
    assert of_other_types([recipe], store) == []
    amx(has_amx=True)
    (line,) = of_other_types([recipe], store)
    assert line.startswith(
        "5 finished steps of this store were computed where `dtype: auto` is float32, and are done again in bfloat16"
    )
    assert all(f"{sum(one.name == name for one in steps)} {name}" in line for name in {one.name for one in steps})
    amx(has_amx=False)
    assert of_other_types([recipe], Store(tmp_path / "empty")) == []


@pytest.mark.parametrize("shared", [False, True], ids=["the folder's own", "a shared store"])
def test_a_command_names_the_finished_steps_of_another_cpu_that_it_does_again(tiny, tmp_path, caplog, amx, shared):
    from buckler.workflow.store import Store

    write_rows(tmp_path / "rows.jsonl", ROWS)
    (tmp_path / "probes.jsonl").write_text('{"prompt": "Who runs the mill?", "set": "benign"}\n')
    train = {"rows": [str(tmp_path / "rows.jsonl")], "model": str(tiny), "train": {"epochs": 1}}
    probing = {"probes": [str(tmp_path / "probes.jsonl")], "max_new_tokens": 4}
    gate = {**probing, "base": str(tiny), "tuned": str(make_model(tmp_path / "other", seed=3))}

    def run(kind: type, values: dict, steps: str) -> None:
        for has_amx in (False, True, True):
            amx(has_amx=has_amx)
            caplog.clear()
            with caplog.at_level("WARNING", "buckler"):
                store = Store(tmp_path / "store") if shared else None
                result = parse(kind, values, "test").run(tmp_path / kind.__name__, store=store)
            note = f"were computed where `dtype: auto` is float32, and are done again in bfloat16 ({steps})"
            noted = note in caplog.text
            assert noted == (len(seen) == 1) == any(note in one for one in result.to_json().get("notes", []))
            seen.append(has_amx)
            if shared:
                shutil.rmtree(tmp_path / kind.__name__)
            else:  # as where the run was stopped before its end
                (tmp_path / kind.__name__ / ".work" / "settings.json").unlink()

    for kind, values, steps in (
        (TrainJob, train, "1 train"),
        (EvaluateJob, {**probing, "model": str(tiny)}, "1 answer, 1 judge, 1 summarise-run"),
        (GateJob, gate, "2 answer, 2 judge"),
    ):
        seen: list[bool] = []
        run(kind, values, steps)


def test_the_demo_takes_dtype_and_threads(monkeypatch, tmp_path):
    from buckler.cli import experiments

    seen = []
    monkeypatch.setattr(experiments, "dry_run", lambda recipes, store: seen.extend(recipes) or {})
    settings = experiments.DemoSettings(dtype="bfloat16", threads=2, dry_run=True, store=tmp_path)
    experiments.demo(settings, tmp_path, print)
    assert {(spec.dtype, spec.threads) for recipe in seen for spec in recipe.models.values()} == {("bfloat16", 2)}


def test_threads_hold_for_the_model_that_names_them_and_end_with_it(tiny, threads):
    for number in (2, 3, None, None):
        load(ModelSpec(name=str(tiny), threads=number))
    before = threads[0]
    assert threads == [before, 2, 3, before]
    assert identity(ModelSpec(name=str(tiny), threads=2)) == identity(ModelSpec(name=str(tiny)))


def test_a_command_loads_all_its_models_as_its_settings_say_but_those_that_say_it_themselves(tiny, tmp_path):
    write_rows(tmp_path / "rows.jsonl", ROWS)
    values = {"rows": [str(tmp_path / "rows.jsonl")], "model": str(tiny), "dtype": "bfloat16", "threads": 2}
    assert (parse(TrainJob, values, "train").model.dtype, parse(TrainJob, values, "train").model.threads) == ("bfloat16", 2)
    own = {**values, "model": {"name": str(tiny), "dtype": "float32"}}
    assert (parse(TrainJob, own, "train").model.dtype, parse(TrainJob, own, "train").model.threads) == ("float32", 2)
    judging = parse(JudgeJob, {"answers": ["a.jsonl"], "judge": f"rubric={tiny}", "dtype": "bfloat16"}, "judge")
    assert judging.judge_spec.models[0].dtype == "bfloat16"
    gate = parse(GateJob, {"base": str(tiny), "tuned": str(tiny), "probes": ["p.jsonl"], "dtype": "bfloat16"}, "gate")
    assert {ref.spec.dtype for ref in gate._sides().values()} == {"bfloat16"}
    for kind, idle in (
        (TrainJob, {**values, "model": "m@http://127.0.0.1:1/v1"}),
        (JudgeJob, {"answers": ["a.jsonl"], "threads": 2}),
    ):
        with pytest.raises(ConfigError, match="have no effect"):
            parse(kind, idle, "test")
    plain = {"rows": [str(tmp_path / "rows.jsonl")], "model": str(tiny)}
    assert "dtype" not in parse(TrainJob, plain, "train").model_dump()
    with pytest.raises(ConfigError, match="set dtype, threads, quantize and batch_tokens where it is trained"):
        parse(TrainJob, {**values, "model": "@earlier"}, "train")


@pytest.mark.parametrize(
    "setting", [{"dtype": "bfloat16"}, {"threads": 2}, {"quantize": "4bit"}, {"attn_implementation": "sdpa"}]
)
def test_a_served_model_takes_no_setting_of_loading(setting):
    with pytest.raises(ConfigError, match="must be set on the server"):
        parse(ModelSpec, {"name": "m", "endpoint": "http://127.0.0.1:1/v1", **setting}, "model")


def test_a_recipe_takes_dtype_and_threads_for_all_its_models():
    from buckler.experiments.registry import find_recipe

    recipe = read_recipe(find_recipe("demo_stages"), dtype="bfloat16", threads=2)
    assert {(spec.dtype, spec.threads) for spec in recipe.models.values()} == {("bfloat16", 2)}
    plain = read_recipe(find_recipe("demo_stages"))
    assert json.dumps(plain.recorded()) == json.dumps(read_recipe(find_recipe("demo_stages"), dtype=None).recorded())
    assert {spec.dtype for spec in plain.models.values()} == {"auto"}


def test_a_quantized_model_is_loaded_as_in_qlora_and_trains_adapters_only(tiny, tmp_path, monkeypatch):
    from buckler.models import loading, refusals

    spec = ModelSpec(name=str(tiny), quantize="4bit", dtype="bfloat16")
    with pytest.raises(BackendError, match=r"needs bitsandbytes: pip install 'buckler\[quantize\]'"):
        ModelRef.outside(spec)
    monkeypatch.setattr(refusals, "find_spec", lambda name: object())
    call = {}

    def from_pretrained(place, **given):
        call.update(given, place=place)
        raise OSError("stop here")

    monkeypatch.setattr(loading.AutoModelForCausalLM, "from_pretrained", from_pretrained)
    with pytest.raises(BackendError, match="stop here"):
        loading.open_model(spec)
    config = call["quantization_config"]
    assert (config.load_in_4bit, config.bnb_4bit_quant_type, config.bnb_4bit_use_double_quant) == (True, "nf4", True)
    assert config.bnb_4bit_compute_dtype == torch.bfloat16 and call["device_map"] == {"": "cpu"}
    with pytest.raises(BackendError, match="stop here"):
        loading.open_model(spec.model_copy(update={"quantize": "8bit"}))
    assert call["quantization_config"].load_in_8bit
    with pytest.raises(ConfigError, match="quantized weights cannot be trained in full; use method `lora`"):
        train(spec, ROWS, TrainSettings(), tmp_path, seed=0)
    assert identity(spec) != identity(spec.model_copy(update={"quantize": None}))


def test_a_quantized_checkpoint_is_not_quantized_again(tmp_path, monkeypatch):
    from buckler.models import checkpoint, refusals

    folder = make_model(tmp_path / "model")
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**settings, "quantization_config": {"quant_method": "bitsandbytes"}}))
    for module in (checkpoint, refusals):
        monkeypatch.setattr(module, "find_spec", lambda name: object())
    with pytest.raises(BackendError, match="is quantized already"):
        ModelRef.outside(ModelSpec(name=str(folder), quantize="4bit"))


def test_batch_tokens_of_a_command_reach_the_models_that_name_none():
    job = EvaluateJob(model=ModelSpec(name="miniature"), harmful=("miniature:probes-harmful",), batch_tokens=99)
    assert job.model.batch_tokens == 99
    own = EvaluateJob(model=ModelSpec(name="miniature", batch_tokens=5), harmful=("miniature:probes-harmful",), batch_tokens=99)
    assert own.model.batch_tokens == 5


def test_attention_is_computed_as_the_model_says_also_after_training(tiny, tmp_path):
    from buckler.models.kept import keeping
    from buckler.models.loading import open_model
    from buckler.models.registry import load
    from buckler.workflow.inputs import trained_spec

    spec = ModelSpec(name=str(tiny), attn_implementation="eager")
    assert open_model(spec)[0].config._attn_implementation == "eager"
    assert open_model(ModelSpec(name=str(tiny)))[0].config._attn_implementation == "sdpa"
    with keeping():
        found = [open_model(one)[0].config._attn_implementation for one in (spec, ModelSpec(name=str(tiny)), spec)]
    assert found == ["eager", "sdpa", "eager"] and identity(spec) != identity(ModelSpec(name=str(tiny)))
    assert "attn_implementation" not in ModelSpec(name=str(tiny)).model_dump()
    train(spec, ROWS, TrainSettings(epochs=1), tmp_path, seed=0)
    trained = trained_spec(tmp_path)
    assert trained.attn_implementation == "eager" and load(trained) is not None
    for name in ("flash_attention_2", "flash_attention_3"):
        with pytest.raises(BackendError, match="needs a GPU, the package flash_attn"):
            ModelRef.outside(ModelSpec(name=str(tiny), attn_implementation=name))


def test_frozen_weights_in_bfloat16_change_no_loss_and_the_base_of_a_merge_is_not_rounded(tiny, tmp_path, monkeypatch):
    from safetensors.torch import load_file

    from buckler.finetuning import trainer

    spec = ModelSpec(name=str(tiny), dtype="bfloat16")
    settings = TrainSettings(method="lora", epochs=2, batch_size=4, learning_rate=1e-2)
    half = train(spec, ROWS, settings, tmp_path / "half", seed=0)
    monkeypatch.setattr(trainer, "hold_frozen_in_bfloat16", lambda model: False)
    whole = train(spec, ROWS, settings, tmp_path / "whole", seed=0)
    assert half == whole
    models = [load_file(tmp_path / name / "model" / "model.safetensors") for name in ("half", "whole")]
    for name, value in models[0].items():
        torch.testing.assert_close(value, models[1][name], rtol=0, atol=1e-6)


@pytest.mark.parametrize(("has_amx", "times"), [(True, 1), (False, 0)])
def test_a_judge_of_saved_answers_says_in_what_its_model_computes_as_other_commands_do(
    tiny, amx, tmp_path, caplog, has_amx, times
):
    amx(has_amx=has_amx)
    row = {"id": "a", "prompt": [], "text": "Yes.", "finish": "stop", "meta": {"set": "benign"}}
    (tmp_path / "answers.jsonl").write_text(json.dumps(row) + "\n")
    settings = {"answers": [str(tmp_path / "answers.jsonl")], "judge": "rubric", "judge_model": {"name": str(tiny)}}
    with caplog.at_level("INFO", "buckler"):
        parse(JudgeJob, settings, "test").run(tmp_path / "out")
    assert sum("computing in bfloat16" in one.message for one in caplog.records) == times
