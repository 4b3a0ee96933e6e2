"""The memory model: what it says of a phase is what training takes, and what fits a device is told before it starts."""

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
    said = need_of(LlamaConfig(**shape), TrainSettings(**given), bf16=bf16, length=LENGTH).peak(ROWS)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    command = [sys.executable, "-c", MEASURED, json.dumps([shape, given, bf16, ROWS, LENGTH])]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    found = int(done.stdout)
    print(size, given, bf16, round(said / 1e6), round(found / 1e6), round(found / said, 3))
    assert 0.85 * said <= found <= 1.15 * said
