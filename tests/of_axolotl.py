"""Rows as axolotl prepares them by a configuration; run in an environment that has it, beside the rows."""

import json
import sys
from pathlib import Path

import yaml
from axolotl.prompt_strategies import load
from axolotl.utils.dict import DictDefault
from axolotl.utils.schemas.datasets import SFTDataset
from transformers import AutoTokenizer

values = yaml.safe_load(Path(sys.argv[1]).read_text())
[data] = values["datasets"]
SFTDataset(**data)
rows = [json.loads(line) for line in Path(data["path"]).read_text().splitlines()]
strategy = load(data["type"], AutoTokenizer.from_pretrained(values["base_model"]), DictDefault(values), DictDefault(data))
print("ROWS", json.dumps([[row["input_ids"], row["labels"]] for row in map(strategy.tokenize_prompt, rows)]))
