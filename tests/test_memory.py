"""The memory model: what it predicts is what training takes, and what fits a device is known before it starts."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from buckler.finetuning.settings import TrainSettings

pytestmark = pytest.mark.ml

GB = 10**9
SIZES = {
    "15 million parameters, a large vocabulary": {"hidden_size": 256, "intermediate_size": 688, "num_hidden_layers": 9},
    "40 million": {"hidden_size": 512, "intermediate_size": 1408, "num_hidden_layers": 8},
    "125 million": {"hidden_size": 768, "intermediate_size": 2048, "num_hidden_layers": 14},
}
ROWS, LENGTH = 2, 256

MEASURED = """
import json, re, sys
from pathlib import Path
import torch
from transformers import AutoModelForCausalLM, LlamaConfig
from buckler.finetuning.batches import TrainRow
from buckler.finetuning.loop import Phase
from buckler.finetuning.loss import Objective
from buckler.finetuning.prepare import hold_frozen_in_bfloat16, set_checkpointing, with_lora
from buckler.finetuning.settings import TrainSettings

shape, settings, bf16, rows, length = json.loads(sys.argv[1])

def status(name):
    return int(re.search(name + r":\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024

def phase(shape):
    torch.manual_seed(0)
    given = TrainSettings(**settings, batch_size=2 * rows, epochs=2, checkpoint_every=0)
    model = AutoModelForCausalLM.from_config(LlamaConfig(**shape))
    if given.method == "lora":
        model = with_lora(model, given.lora, 0)
    objective = Objective(model.train())
    set_checkpointing(objective, given, "")
    if given.method == "lora" and bf16:
        hold_frozen_in_bfloat16(model)
    ids = torch.randint(3, shape["vocab_size"], (2 * rows, length)).tolist()
    data = [TrainRow(ids=one, supervised=[False] + [True] * (length - 1), weight=1 / length) for one in ids]
    Phase(objective, data, given, 0, pad=0, max_length=length, budget=rows * length, bf16=bf16).run(Path("/nowhere"))

phase({**shape, "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1})
Path("/proc/self/clear_refs").write_text("5")
before = status("VmRSS")
phase(shape)
print(status("VmHWM") - before)
"""


def shape_of(size: str) -> dict[str, int]:
    heads = {"num_attention_heads": 8, "num_key_value_heads": 4, "max_position_embeddings": 1024}
    return {**SIZES[size], **heads, "vocab_size": 32_000}


def llama_8b():
    from transformers import LlamaConfig

    return LlamaConfig(
        vocab_size=128_256,
        hidden_size=4096,
        intermediate_size=14_336,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=8,
        max_position_embeddings=8192,
    )


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="the peak of a process is read from /proc")  # noqa: PTH110
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("given", "bf16"), [({}, False), ({"gradient_checkpointing": "on"}, True), ({"method": "lora"}, True)], ids=str
)
def test_what_training_takes_is_what_the_model_says(size, given, bf16):
    from transformers import LlamaConfig

    from buckler.finetuning.memory import need_of

    shape = shape_of(size)
    predicted = need_of(LlamaConfig(**shape), TrainSettings(**given), bf16=bf16, length=LENGTH).peak(ROWS)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    command = [sys.executable, "-c", MEASURED, json.dumps([shape, given, bf16, ROWS, LENGTH])]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    found = int(done.stdout)
    print(size, given, bf16, round(predicted / 1e6), round(found / 1e6), round(found / predicted, 3))
    assert 0.85 * predicted <= found <= 1.15 * predicted


@pytest.mark.slow
def test_lora_on_an_8b_model_with_the_defaults_fits_80_gb():
    from buckler.finetuning.memory import need_of

    settings = TrainSettings(method="lora")
    need = need_of(llama_8b(), settings, bf16=True, length=1024)
    assert need.peak(settings.batch_size) < 80 * GB
    assert need.rows_on(80 * GB) >= settings.batch_size, "a whole step at once"
    assert 16 * GB < need.weights < 18 * GB and need.gradients < GB
    assert "fits a GPU (80.0 GB)" in need.lines(80 * GB, "a GPU")[1]


@pytest.mark.slow
def test_full_fine_tuning_of_an_8b_model_does_not_fit_80_gb_and_the_number_of_devices_for_sharding_is_given():
    from buckler.finetuning.memory import need_of

    need = need_of(llama_8b(), TrainSettings(), bf16=True, length=1024)
    assert need.lasting == 16 * 8_030_261_248
    assert need.rows_on(80 * GB) == 0 and need.devices(80 * GB) == 3 and need.devices(4 * GB) is None
    assert need.rows_on(192 * GB) > 0
    assert "does NOT fit a GPU (80.0 GB)" in need.lines(80 * GB, "a GPU")[1]
    assert "needs 3 such devices" in need.lines(80 * GB, "a GPU")[1]


def a_small_shape():
    from transformers import LlamaConfig

    return LlamaConfig(**{**shape_of("40 million"), "num_hidden_layers": 2})


def test_what_is_kept_and_what_is_computed_again_shows_in_the_need():
    from buckler.finetuning.memory import need_of

    kept, again, four_bits = (
        need_of(
            a_small_shape(), TrainSettings(method="lora", gradient_checkpointing=wanted), bf16=True, length=512, quantize=bits
        )
        for wanted, bits in (("off", None), ("on", None), ("on", "4bit"))
    )
    assert again.per_row < 0.7 * kept.per_row and again.weights == kept.weights
    assert again.weights - four_bits.weights == pytest.approx(1.48 * 2 * 2_949_120, rel=0.01), "matrices of layers, not the head"
    halves = [need_of(a_small_shape(), TrainSettings(), bf16=bf16, length=512).weights for bf16 in (False, True)]
    assert halves[0] == halves[1], "float32 master weights"


def test_a_dry_run_of_train_tells_the_memory_and_reads_no_row(tiny, tmp_path):
    from commands import call

    (tmp_path / "rows.jsonl").write_text("none\n")
    words = ("train", tmp_path / "rows.jsonl", "--model", tiny, "--method", "lora", "--out", tmp_path / "out", "--dry-run")
    status, out, err = call((*map(str, words), "--json"), tmp_path)
    found = json.loads(out)
    assert status == 0 and found["fits"] and found["length"] == 512 and found["peak"] > found["weights"], err
    status, out, _ = call(tuple(map(str, words)), tmp_path)
    assert status == 0 and "fits the memory of this machine" in out and "on a GPU: fits one of 80 GB" in out
    assert not (tmp_path / "out").exists()


def test_a_dry_run_of_a_recipe_tells_the_memory_of_models_that_are_not_small(tiny, tmp_path, monkeypatch):
    from commands import call

    from buckler.models import places

    words = ("run", "demo_stages", "--dry-run", "--store", "runs", "--set", "seeds=[0]")
    assert "memory:" not in call(words, tmp_path)[1]
    monkeypatch.setattr(places, "SMALL", 0)
    out = call((*words, "--set", "models.miniature.dtype=float32"), tmp_path)[1]
    assert "training miniature, method full" in out and out.count("memory: weights") == 1


def test_the_micro_batch_is_what_a_gpu_has_room_for(tiny, monkeypatch):
    from types import SimpleNamespace

    import torch

    from buckler.finetuning import trainer
    from buckler.finetuning.batches import TrainRow
    from buckler.finetuning.memory import need_of
    from buckler.models.protocol import ModelSpec

    rows = [TrainRow(ids=[1] * length, supervised=[True] * length, weight=1.0) for length in (20, 64)]
    plain = SimpleNamespace(device=torch.device("cpu"), config=a_small_shape())
    spec, settings = ModelSpec(name=str(tiny)), TrainSettings()
    chosen = lambda limit=128, **more: trainer.micro_batch_tokens(  # noqa: E731
        SimpleNamespace(plain=plain), spec, settings.model_copy(update=more), "float32", rows, limit
    )
    assert chosen() == trainer.CPU_TOKENS
    plain.device = SimpleNamespace(type="cuda")
    need = need_of(plain.config, settings, bf16=False, length=64)
    free = int((need.peak(0) + 7.5 * need.per_row) / 0.92)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free - 1000, free))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 1000)
    assert chosen() == 7 * 64
    assert chosen(packing=True) % 128 == 0
    free //= 2
    assert chosen() == 64, "one row at least"
