"""The data set card of defence rows: Markdown under a front matter that the Hugging Face hub and `load_dataset` read."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

import yaml

from buckler import __version__
from buckler.crosstask.build import CrossTaskSettings
from buckler.data import Chat, Json, features, is_plain


def defence_card(rows: Sequence[Chat], file: str, settings: CrossTaskSettings, models: Mapping[str, str], seed: int) -> str:
    """The card of a folder with the rows of a defence against malicious documents; the same rows give the same bytes.

    Args:
        rows: The rows.
        file: Their file.
        settings: How they were built.
        models: Names of models by what each did.
        seed: Of the draw.
    """
    front = {
        "pretty_name": "Rows of a defence against malicious documents",
        "license": "unknown",
        "task_categories": ["text-generation"],
        "annotations_creators": ["machine-generated"],
        "tags": ["safety", "alignment", "fine-tuning", "buckler"],
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": file}]}],
        "dataset_info": [{"config_name": "default", "features": features(plain=all(map(is_plain, rows)))}],
    }
    cells = Counter((str(row.meta.get("task", "")), str(row.meta.get("label", ""))) for row in rows)
    tasks = sorted({task for task, _ in cells})
    labels = sorted({label for _, label in cells})
    table = [
        ["task", *labels],
        ["---", *["---:"] * len(labels)],
        *([task, *(str(cells[task, one]) for one in labels)] for task in tasks),
    ]
    values: dict[str, Json] = {"seed": seed, **settings.model_dump(mode="json")}
    return "\n".join(
        [
            f"---\n{yaml.safe_dump(front, sort_keys=False)}---",
            "",
            "# Rows of a defence against malicious documents",
            "",
            f"{len(rows)} rows that ask a task of a document: refusals for malicious documents, answers for benign ones, as in "
            f"[arXiv 2405.15202](https://arxiv.org/abs/2405.15202). Made by Buckler {__version__}.",
            "",
            "**Learn the answers alone.** Questions hold malicious documents: a trainer that learns every token learns those.",
            f"`buckler export {file} --to trl` (or llamafactory, axolotl, openai) writes rows of which only answers are learnt.",
            "",
            *("| " + " | ".join(cells_) + " |" for cells_ in table),
            "",
            *(f"* `{_named(name)}` {does}" for does, name in models.items()),
            "",
            f"```yaml\n{yaml.safe_dump(values, sort_keys=False, allow_unicode=True, default_flow_style=None).rstrip()}\n```",
            "",
        ]
    )  # fmt: skip


def _named(name: str) -> str:
    """A model without its server and its folder."""
    name = re.sub(r"@https?://.*", "", name)
    return re.sub(r"[`|]", "", name.rpartition("/")[2] if name.startswith("/") else name)
