"""Recipes: unknown keys are refused with the nearest known one, before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from buckler.errors import ConfigError
from buckler.experiments.pipeline import is_pipeline
from buckler.experiments.registry import plan_of, read_recipe, recipe_kinds
from buckler.workflow.step import in_order

RECIPES = [path for path in sorted((Path(__file__).parent.parent / "recipes").glob("*.yaml")) if not is_pipeline(path)]

STAGES = """
kind: stages
name: small
models: {miniature: {name: miniature}}
seeds: [0, 1]
data:
  texts: {source: "miniature:commonsense", count: 10}
  customer: {source: "miniature:customer", count: 10}
  harmful: {source: "miniature:harmful", count: 10}
probes:
  harmful: {source: "miniature:probes-harmful", count: 9, split: test}
attacks:
  explicit: {kind: explicit, rows: 5}
defences:
  curated: {kind: curated, curation: {helpfulness: local, seed_words: miniature}}
  uncurated: {kind: uncurated}
  dropped: {kind: random_drop, share: 0.5}
"""


def recipe(tmp_path: Path, text: str = STAGES) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_every_recipe_of_the_project_is_understood_and_planned(path):
    read = read_recipe(path)
    assert len(read.seeds) >= 3
    planned = plan_of(read)
    assert planned.arms and planned.checks
    for source in (*getattr(read, "probes", {}).values(), *getattr(read.data, "direct", {}).values()):
        assert source.split in ("test", "dev")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("seeds:", "seed:", "unknown key `seed`; did you mean `seeds`"),
        ("helpfulness: local", "helpfullness: local", "did you mean `helpfulness`"),
        ("kind: stages", "kind: stage", "`kind` must be one of"),
        ("rows: 5", "rows: five", "`attacks.explicit.rows`"),
        ("rows: 5", "rows: 0", "`attacks.explicit.rows`"),
        ("kind: random_drop", "kind: random", "`defences.dropped.kind`"),
        ('  harmful: {source: "miniature:harmful", count: 10}\n', "", "data.harmful"),
        ("name: small", "name: Small Name", "`name`"),
        ("models: {miniature: {name: miniature}}", "models: {}", "`models`"),
        ("seeds: [0, 1]", "seeds: [0, 1", "not YAML"),
        ("seeds: [0, 1]", "seeds: [0, 1]\nseeds: [2]", "recipe.yaml:6: not YAML: `seeds` is given twice"),
        ("kind: curated, curation", "kind: curated, stages: [before], curation", "stages"),
    ],
)
def test_what_is_not_understood_is_one_clear_line(tmp_path, old, new, message):
    assert old in STAGES
    with pytest.raises(ConfigError) as fault:
        read_recipe(recipe(tmp_path, STAGES.replace(old, new)))
    assert message in str(fault.value) and "recipe.yaml" in str(fault.value) and "\n" not in str(fault.value)


def test_a_missing_recipe_is_one_clear_line(tmp_path):
    with pytest.raises(ConfigError, match="no such file"):
        read_recipe(tmp_path / "nowhere.yaml")


def test_a_model_on_the_command_line_replaces_the_recipes(tmp_path):
    read = read_recipe(recipe(tmp_path), model="miniature-base")
    assert [spec.name for spec in read.models.values()] == ["miniature-base"]


def test_arms_share_their_common_work(tmp_path):
    planned = plan_of(read_recipe(recipe(tmp_path)))
    keys = [step.key for arm in planned.arms for step in arm.phases]
    # For each seed: none 1, drop 1, and for each of two defences pre 2, in 1, post 2, all 3.
    assert len(planned.arms) == 2 * (2 + 1 + 2 * 4) and len(keys) == 2 * (1 + 1 + 2 * 8)
    # Shared: post's first phase is none's, all's first is pre's.
    assert len(set(keys)) == 2 * (1 + 1 + 2 * (2 + 1 + 1 + 2))
    names = [step.name for step in in_order(planned.targets)]
    assert names.count("curate") == 2


def test_the_plan_does_not_depend_on_the_order_of_the_recipe(tmp_path):
    values = yaml.safe_load(STAGES)
    turned = {**values, "defences": dict(reversed(values["defences"].items()))}
    keys = []
    for given in (values, turned):
        planned = plan_of(read_recipe(recipe(tmp_path, yaml.safe_dump(given))))
        keys.append({step.key for step in in_order([arm.measured.metrics for arm in planned.arms])})
    assert keys[0] == keys[1]


def test_files_enter_by_content_not_by_place(tmp_path):
    keys = []
    for place in ("a", "b"):
        folder = tmp_path / place
        folder.mkdir()
        (folder / "texts.jsonl").write_text(
            '{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}\n'
        )
        text = STAGES.replace('{source: "miniature:commonsense", count: 10}', "{source: texts.jsonl}")
        planned = plan_of(read_recipe(recipe(folder, text)))
        keys.append([step.key for step in in_order(planned.targets)])
    assert keys[0] == keys[1]
    (tmp_path / "b" / "texts.jsonl").write_text(
        '{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "b"}]}\n'
    )
    changed = plan_of(read_recipe(tmp_path / "b" / "recipe.yaml"))
    assert [step.key for step in in_order(changed.targets)] != keys[0]


def test_every_kind_is_read():
    kinds = {type(read_recipe(path)) for path in RECIPES}
    assert kinds == set(recipe_kinds().values())


def test_controls_are_defences_of_their_own_beside_the_curation(tmp_path):
    recipe = """
kind: stages
name: controls
models: {m: {name: miniature}}
data:
  texts: {source: "miniature:commonsense", count: 4}
  customer: {source: "miniature:customer", count: 4}
  harmful: {source: "miniature:harmful", count: 4}
probes: {harmful: {source: "miniature:probes-harmful", count: 4}}
attacks: {explicit: {kind: explicit, rows: 4}}
controls: [pre]
"""
    (tmp_path / "recipe.yaml").write_text(recipe)
    found = read_recipe(tmp_path / "recipe.yaml").all_defences
    wanted = {"uncurated", "curated", "lower", "contrast", "seed words only", "perplexity only", "plain rewrite"}
    assert set(found) == wanted and all(one.stages == ("pre",) for one in found.values())
    assert found["plain rewrite"].curation.words_per_prompt == 0 and found["curated"].curation is None
