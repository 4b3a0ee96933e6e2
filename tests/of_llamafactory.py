"""Rows and the loss of a step in LLaMA-Factory, by a configuration beside the rows; run in an environment that has it."""

import importlib.machinery
import json
import sys
import types
from pathlib import Path

import yaml

# LLaMA-Factory imports torchaudio for rows with sound; its wheels need a torch built for a GPU.
sys.modules["torchaudio"] = types.ModuleType("torchaudio")
sys.modules["torchaudio"].__spec__ = importlib.machinery.ModuleSpec("torchaudio", None)

from llamafactory.data import get_dataset, get_template_and_fix_tokenizer  # noqa: E402
from llamafactory.hparams import get_train_args  # noqa: E402
from llamafactory.model import load_tokenizer  # noqa: E402
from llamafactory.train.tuner import run_exp  # noqa: E402

on_a_cpu = {"use_cpu": True, "report_to": "none", "overwrite_cache": True, "save_strategy": "no"}
values = {**yaml.safe_load(Path(sys.argv[1]).read_text()), **on_a_cpu}
model, data, training, *_ = get_train_args(values)
tokenizer = load_tokenizer(model)
template = get_template_and_fix_tokenizer(tokenizer["tokenizer"], data)
rows = get_dataset(template, model, data, training, stage="sft", **tokenizer)["train_dataset"]
print("ROWS", json.dumps([[row["input_ids"], row["labels"]] for row in rows]))
run_exp({**values, "max_steps": 1, "logging_steps": 1, "plot_loss": False})
print("LOSS", json.loads(Path("trained/all_results.json").read_text())["train_loss"])
