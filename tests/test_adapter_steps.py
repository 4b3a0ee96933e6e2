"""A store keeps the adapter of a LoRA phase and nothing else of its model; what goes on from it merges it in memory."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path

import pytest
import torch
from conftest import make_model

from buckler.data import Chat, write_rows
from buckler.errors import ConfigError
from buckler.experiments.registry import read_recipe, recipe_folder
from buckler.experiments.run import dry_run
from buckler.finetuning.export import save_loaded, save_merged
from buckler.finetuning.settings import LoRA, TrainSettings
from buckler.finetuning.train import train
from buckler.models import loading
from buckler.models.checkpoint import header
from buckler.models.fit import trained_bytes
from buckler.models.loading import open_model
from buckler.models.protocol import ModelSpec
from buckler.models.registry import load
from buckler.settings import parse
from buckler.workflow.evaluation import text_perplexities
from buckler.workflow.executor import run_steps
from buckler.workflow.inputs import ModelRef, base_spec, model_spec, trained_spec
from buckler.workflow.jobs.customize import TrainedModel, TrainJob
from buckler.workflow.rows import rows_of, training_phase
from buckler.workflow.sources import Source
from buckler.workflow.step import Run, Step
from buckler.workflow.store import Store

pytestmark = pytest.mark.ml

ROWS = [Chat.pair(f"soup {number}", "salt and carrots") for number in range(6)]
LORA = TrainSettings(method="lora", lora=LoRA(r=2, dropout=0.0), epochs=1, batch_size=3, learning_rate=1e-2)
FULL = TrainSettings(epochs=1, batch_size=3, learning_rate=1e-3)


@pytest.fixture
def rows(tmp_path) -> Step:
    write_rows(tmp_path / "rows.jsonl", ROWS)
    return rows_of(Source(source=str(tmp_path / "rows.jsonl")))


def phases(base: ModelSpec, rows: Step, *settings: TrainSettings) -> list[Step]:
    """Training phases one on top of another."""
    made, model = [], ModelRef.outside(base)
    for number, one in enumerate(settings):
        made.append(training_phase(one, model, [rows], number, f"phase {number}"))
        model = ModelRef(made_by=made[-1])
    return made


def spec_of(phase: Step, store: Store) -> ModelSpec:
    return trained_spec(store.folder(phase), partial(base_spec, phase, store.folder))


def weights(spec: ModelSpec) -> dict[str, torch.Tensor]:
    return open_model(spec)[0].state_dict()


def test_a_trained_model_answers_with_as_many_tokens_at_once_as_the_one_it_began_with(tiny, rows, tmp_path):
    store = Store(tmp_path / "store")
    chain = phases(ModelSpec(name=str(tiny), batch_tokens=77), rows, FULL, FULL)
    run_steps(chain, store)
    step = Step(name="answer", function="none:none", inputs={"model": chain[-1]})
    run = Run(
        settings=None,
        inputs={"model": store.folder(chain[-1])},
        outside={},
        out=tmp_path,
        shared=tmp_path,
        progress=print,
        step=step,
        folder_of=store.folder,
    )
    assert model_spec(run, "model").batch_tokens == load(model_spec(run, "model")).batch_tokens == 77


def same(some: dict[str, torch.Tensor], others: dict[str, torch.Tensor]) -> bool:
    return some.keys() == others.keys() and all(torch.equal(one, others[name]) for name, one in some.items())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("settings", [(LORA, LORA, LORA), (FULL, LORA), (LORA, FULL)], ids=["lora", "on full", "full on"])
def test_phases_on_adapters_have_the_weights_of_phases_on_merged_models(tiny, rows, tmp_path, settings, dtype):
    store, chain = Store(tmp_path / "store"), phases(ModelSpec(name=str(tiny), dtype=dtype), rows, *settings)
    run_steps(chain, store)
    by_hand = ModelSpec(name=str(tiny), dtype=dtype)
    for number, (phase, one) in enumerate(zip(chain, settings, strict=True)):
        left = {path.name for path in store.folder(phase).iterdir() if path.is_dir()}
        assert left == ({"adapter"} if one.method == "lora" else {"model"})
        train(by_hand, ROWS, one, tmp_path / f"by hand {number}", seed=number)
        by_hand = ModelSpec(name=str(tmp_path / f"by hand {number}" / "model"), dtype=dtype)
        assert same(weights(spec_of(phase, store)), weights(by_hand))


def test_a_step_on_an_adapter_finds_the_base_where_it_lies_now(rows, tmp_path):
    make_model(tmp_path / "here", "qwen")
    store = Store(tmp_path / "store")
    (before,) = phases(ModelSpec(name=str(tmp_path / "here")), rows, LORA)
    run_steps([before], store)
    shutil.move(tmp_path / "here", tmp_path / "there")
    (after,) = phases(ModelSpec(name=str(tmp_path / "there")), rows, LORA)
    assert after.key == before.key
    found = text_perplexities(ModelRef(made_by=after), {"rows": rows}, "after")
    run_steps([found], store)
    assert list(store.folder(found).glob("*.json"))


def test_merged_models_that_an_earlier_version_left_are_used_as_they_are(tiny, rows, tmp_path):
    store, (first, second) = Store(tmp_path / "store"), phases(ModelSpec(name=str(tiny)), rows, LORA, LORA)
    run_steps([first], store)
    folder = store.folder(first)
    wanted = weights(spec_of(first, store))
    save_merged(ModelSpec(name=str(tiny)), folder)
    (folder / "adapter" / "adapter_model.safetensors").unlink()
    assert spec_of(first, store) == ModelSpec(name=str(folder / "model")) and same(weights(spec_of(first, store)), wanted)
    run_steps([second], store)
    assert spec_of(second, store).name == str(folder / "model")
    assert load(spec_of(second, store)).identity


def test_a_chat_template_given_for_a_training_is_that_of_all_that_goes_on_from_it(tiny, rows, tmp_path):
    template = tmp_path / "own.jinja"
    template.write_text("{% for turn in messages %}[{{ turn.role }}] {{ turn.content }}<|im_end|>{% endfor %}[assistant] ")
    store = Store(tmp_path / "store")
    chain = phases(ModelSpec(name=str(tiny), chat_template=str(template)), rows, LORA, LORA)
    run_steps(chain, store)
    assert (store.folder(chain[0]) / "adapter" / "tokenizer.json").exists()
    assert not (store.folder(chain[1]) / "adapter" / "tokenizer.json").exists(), "it lies beside the first one"
    for phase in chain:
        assert open_model(spec_of(phase, store))[1].chat_template == template.read_text()


def test_train_gives_a_merged_model_and_the_adapter_or_on_demand_the_adapter_alone(tiny, rows, tmp_path):
    values = {"rows": [str(tmp_path / "rows.jsonl")], "model": str(tiny), "train": LORA.model_dump()}
    both = parse(TrainJob, values, "train").run(tmp_path / "both")
    assert isinstance(both, TrainedModel) and [path.name for path in both.written[-2:]] == ["model", "adapter"]
    assert not list((tmp_path / "both" / ".work").rglob("model.safetensors"))
    alone = parse(TrainJob, {**values, "merge": False}, "train").run(tmp_path / "alone")
    assert isinstance(alone, TrainedModel) and alone.path == tmp_path / "alone" / "adapter"
    assert sorted(path.name for path in (tmp_path / "alone").iterdir() if path.is_dir()) == [".work", "adapter"]
    unmerged = open_model(alone.spec, for_training=True)[0].state_dict()
    assert same(unmerged, weights(both.spec))
    again = parse(TrainJob, values, "train").run(tmp_path / "alone")
    assert isinstance(again, TrainedModel) and same(weights(again.spec), weights(both.spec))
    with pytest.raises(ConfigError, match="`merge: false` has no effect with method `full`"):
        parse(TrainJob, {**values, "train": {}, "merge": False}, "train")


def test_train_on_an_adapter_of_a_store_merges_all_below_it(tiny, rows, tmp_path):
    store, chain = Store(tmp_path / "store"), phases(ModelSpec(name=str(tiny)), rows, LORA, LORA)
    run_steps(chain, store)
    adapter = store.folder(chain[1]) / "adapter"
    values = {"rows": [str(tmp_path / "rows.jsonl")], "model": str(adapter), "train": LORA.model_dump()}
    result = parse(TrainJob, values, "train").run(tmp_path / "out")
    assert isinstance(result, TrainedModel)
    settings = json.loads((tmp_path / "out" / "adapter" / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == str(tmp_path / "out" / "base")
    assert same(weights(ModelSpec(name=str(tmp_path / "out" / "base"))), weights(spec_of(chain[1], store)))
    by_adapter = open_model(ModelSpec(name=str(Path(tmp_path / "out" / "adapter"))), for_training=True)[0].state_dict()
    assert same(by_adapter, weights(result.spec))


def eight_billion(folder: Path, tiny: Path) -> Path:
    """A folder with the headers of an 8B model (Llama 3.1's shapes) and no values."""
    shutil.copytree(tiny, folder)
    hidden, inner, keys, vocabulary, layers = 4096, 14336, 1024, 128256, 32
    parts = {"self_attn.q_proj": (hidden, hidden), "self_attn.k_proj": (keys, hidden), "self_attn.v_proj": (keys, hidden)}
    parts |= {"self_attn.o_proj": (hidden, hidden), "mlp.gate_proj": (inner, hidden), "mlp.up_proj": (inner, hidden)}
    parts |= {"mlp.down_proj": (hidden, inner)}
    shapes = {f"model.layers.{at}.{name}.weight": shape for at in range(layers) for name, shape in parts.items()}
    shapes |= {"model.embed_tokens.weight": (vocabulary, hidden), "lm_head.weight": (vocabulary, hidden)}
    entries = {name: {"dtype": "BF16", "shape": shape, "data_offsets": [0, 0]} for name, shape in shapes.items()}
    head = json.dumps(entries).encode()
    (folder / "model.safetensors").write_bytes(len(head).to_bytes(8, "little") + head)
    return folder


def test_the_whole_grid_of_stages_with_lora_stores_less_than_50_gb_at_8b(tiny, tmp_path, capsys):
    attacks = ("explicit", "poisoned", "identity", "drift")
    changes = [f"attacks.{name}.train.method=lora" for name in attacks] + ["defence_train.method=lora"]
    model = eight_billion(tmp_path / "8b", tiny)
    for changed in (changes, []):
        recipe = read_recipe(recipe_folder() / "stages.yaml", model=str(model), changes=changed)
        dry_run([recipe], Store(tmp_path / "store"))
    lora, full = (line for line in capsys.readouterr().out.splitlines() if "to be stored" in line)
    assert lora.strip() == "weights to be stored: about 33.72 GB by 402 training phases"
    assert full.strip() == "weights to be stored: about 12912.23 GB by 402 training phases"


@pytest.mark.parametrize("targets", [("all-linear",), ("q_proj", "v_proj")])
def test_the_size_of_an_adapter_is_known_from_the_shapes_of_its_base(tiny, rows, tmp_path, targets):
    settings = LORA.model_copy(update={"lora": LoRA(r=3, targets=targets)})
    store, (phase,) = Store(tmp_path / "store"), phases(ModelSpec(name=str(tiny)), rows, settings)
    wanted = trained_bytes(ModelSpec(name=str(tiny)), 3, settings.lora.named)
    run_steps([phase], store)
    tensors = header(store.folder(phase) / "adapter" / "adapter_model.safetensors").values()
    assert wanted == 4 * sum(one.shape[0] * one.shape[1] for one in tensors)


def test_the_phases_of_a_run_read_their_base_once(tiny, rows, tmp_path, monkeypatch):
    read: list[str] = []
    real = loading._base
    monkeypatch.setattr(loading, "_base", lambda spec, dtype, device: (read.append(spec.name), real(spec, dtype, device))[1])
    chain = phases(ModelSpec(name=str(tiny)), rows, LORA, LORA)
    measured = [text_perplexities(ModelRef(made_by=phase), {"rows": rows}, "after") for phase in chain]
    run_steps(measured, Store(tmp_path / "store"))
    assert read == [str(tiny)]


def test_train_moves_the_model_out_of_its_work_folder_and_knows_it_again(tiny, rows, tmp_path, caplog):
    values = {"rows": [str(tmp_path / "rows.jsonl")], "model": str(tiny), "train": FULL.model_dump()}
    job, out = parse(TrainJob, values, "train"), tmp_path / "out"
    first = job.run(out)
    file = out / "model" / "model.safetensors"
    trained, inode = file.read_bytes(), file.stat().st_ino
    assert not list((out / ".work").rglob("model.safetensors")) and first.written[-1] == out / "model"
    assert job.run(out).written == first.written and file.stat().st_ino == inode, "it lies there unchanged"
    for spoil in (lambda: file.write_bytes(trained[:-4] + b"soup"), file.unlink, lambda: (out / "model" / "more").touch()):
        spoil()
        job.run(out)
        assert file.read_bytes() == trained and not (out / "model" / "more").exists(), "and is trained again where it does not"
    other = parse(TrainJob, {**values, "seed": 1}, "train").run(out)
    assert isinstance(other, TrainedModel) and file.read_bytes() != trained
    job.run(out)
    assert file.read_bytes() == trained
    store = Store(tmp_path / "store")
    job.run(tmp_path / "shared", store=store)
    assert len(list(store.root.rglob("model.safetensors"))) == 1, "a store that others use keeps it"


def test_a_model_that_attends_as_a_gpu_does_is_merged_on_a_cpu(tiny, tmp_path):
    save_loaded(ModelSpec(name=str(tiny), attn_implementation="flash_attention_2"), tmp_path / "plain")
    assert same(weights(ModelSpec(name=str(tmp_path / "plain"))), weights(ModelSpec(name=str(tiny))))
