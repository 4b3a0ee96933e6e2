"""Recipes by name, and a first recipe for the user's own files."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path

from buckler import formats
from buckler.data import write_text
from buckler.data.reading import kind_at
from buckler.data.yaml_text import read_yaml
from buckler.errors import ConfigError
from buckler.evaluation.probes import describe
from buckler.experiments.registry import packaged
from buckler.workflow.sources import WORLD

SETS = ("harmful", "borderline", "benign")
OF_WORLD = 100
"""Rows of a set of the miniature's world, which has no end."""
ROWS, SHARE = 50, 0.05
"""Rows of the attack and their share of the customer's set, where the files hold enough."""


def listed() -> dict[str, tuple[str, str]]:
    """Each packaged recipe's kind and what it is about."""
    recipes = {}
    for name, path in packaged().items():
        values = read_yaml(path)
        assert isinstance(values, dict)
        recipes[name] = (str(values["kind"]), str(values.get("about", "")))
    return recipes


def beginning(text: str) -> list[str]:
    """What a shell completes the beginning of a recipe to: packaged ones, and YAML files of the folder that it names."""
    folder = Path(text).parent if "/" in text else Path()
    files = [str(path) for path in sorted(folder.glob("[!.]*.yaml")) if path.is_file()]
    return [name for name in (*packaged(), *files) if name.startswith(text)]


def write_recipe(out: Path, *, texts: str, customer: str, harmful: str, probes: Sequence[str], model: str) -> None:
    """A commented recipe for the user's files, which a dry run accepts.

    Raises:
        ConfigError: the file is there already, or a probe file does not say what a good model does with its rows.
        DataError: a file cannot be read.
    """
    if out.exists():
        raise ConfigError(f"{out}: already exists and is not overwritten; name another file with --out")
    rows = min(ROWS, _count(harmful))
    share = max(SHARE, _rounded_up(rows / (rows + _count(customer))))
    name = re.sub(r"[^a-z0-9_-]+", "-", out.stem.lower()).strip("-_") or "my-recipe"
    label = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(model).name) or "model"
    text = TEMPLATE.format(
        name=name,
        file=out,
        label=json.dumps(label),
        model=json.dumps(_relative(model, out.parent)),
        texts=_source(texts, out.parent, 500),
        customer=_source(customer, out.parent, None),
        harmful=_source(harmful, out.parent, None),
        probes="\n".join(f"  {key}: {value}" for key, value in _probe_lines(probes, out.parent).items()),
        rows=rows,
        share=share,
    )
    write_text(out, text)


def _probe_lines(probes: Sequence[str], folder: Path) -> dict[str, str]:
    lines: dict[str, str] = {}
    for path in probes:
        kind, equals, name = path.partition("=")
        if not equals or kind not in SETS:
            kind, name = "", path
        if not kind and not name.startswith(WORLD):
            unknown = describe(formats.read_chats(name), name).categories.get(None)
            if unknown:
                raise ConfigError(
                    f"{name}: {sum(unknown.values())} rows do not name their probe set; "
                    f"write --probes harmful={name}, borderline={name} or benign={name}"
                )
        key = re.sub(r"[^a-z0-9_-]+", "-", (kind or Path(name.removeprefix(WORLD)).stem).lower()) or "probes"
        while key in lines:
            key += "-more"
        source = _source(name, folder, None, split="test")
        lines[key] = source if not kind else f"{source[:-1]}, probe_set: {kind}}}"
    return lines


def _source(name: str, folder: Path, most: int | None, *, split: str = "") -> str:
    """A file as a recipe names it, relative to the recipe; of the miniature's world, with a number of rows."""
    if name.startswith(WORLD):
        return f"{{source: {json.dumps(name)}, count: {OF_WORLD}{f', split: {split}' if split else ''}}}"
    limit = f", count: {most}" if most is not None and _count(name) > most else ""
    return f"{{source: {json.dumps(_relative(name, folder))}{limit}}}"


def _relative(name: str, folder: Path) -> str:
    return os.path.relpath(name, folder) if kind_at(name) else name


def _count(name: str) -> int:
    """Different rows of a file; of what is not here (a set of the world, a hub data set), as many as are wanted."""
    if name.startswith(WORLD):
        return OF_WORLD
    path = Path(name).expanduser()
    if not kind_at(path) and "/" in name and not path.suffix:
        return 100_000
    return len({row.id for row in formats.read_chats(name)})


def _rounded_up(share: float) -> float:
    return min(1.0, int(share * 100 + 0.999) / 100)


TEMPLATE = """\
# What an attack on your fine-tuning does to {label}, and what curated rows do against it.
# buckler run {file} --dry-run   shows the plan and its cost, and checks every key and file
# buckler run {file}             runs it; interrupted, the same command resumes
kind: stages
name: {name}
about: One poisoned customer set; curated rows at every stage beside their baselines.
models:
  {label}: {{name: {model}}}
# Three seeds allow intervals over runs; one is enough for a first look.
seeds: [0, 1, 2]
max_new_tokens: 256
# Paths are relative to this file.
data:
  # Harmless question/answer rows: what is curated, and the uncurated control.
  texts: {texts}
  # What the customer trains on.
  customer: {customer}
  # Harmful pairs of the simulated attack.
  harmful: {harmful}
# What the models are asked before and after; `probe_set` says what a good model does with rows that do not say it.
probes:
{probes}
attacks:
  # {rows} harmful rows in the customer's set, this share of it.
  poisoned: {{kind: explicit, rows: {rows}, share: {share}, train: {{method: lora, epochs: 3}}}}
# raise: the published direction; contrast: by a compromised copy, which this recipe makes. See docs/curation.md.
curation: {{direction: raise, rounds: 2, beam: 2, temperatures: [0.4, 0.8], top_ps: [0.9, 1.0], helpfulness: rubric}}
defence_train: {{method: lora, epochs: 3}}
defences:
  # A filter over the customer's rows: the half with the highest perplexity is dropped.
  perplexity drop 50%: {{kind: perplexity_drop, share: 0.5}}
  # The control: the same texts as they were.
  uncurated: {{kind: uncurated}}
  # Trained on before, during and after the customization, and at all three.
  curated: {{kind: curated, stages: [pre, in, post, all]}}
"""
