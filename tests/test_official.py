"""Official numbers: what the harness is asked, how its results are read, and what is reported where it cannot be asked."""

from __future__ import annotations

import json
import sys
from importlib.metadata import PackageNotFoundError
from importlib.util import find_spec
from types import SimpleNamespace

import pytest

from buckler import miniature
from buckler.errors import BackendError, ConfigError
from buckler.models.protocol import ModelSpec
from buckler.workflow import harness
from buckler.workflow.harness import official_scores
from buckler.workflow.inputs import ModelRef


def test_the_harness_is_asked_for_the_model_where_it_lies(tmp_path):
    command = harness.harness_command(ModelSpec(name="miniature", adapter="a"), ["arc_easy", "boolq"], tmp_path, "own", 5)
    assert command[:5] == [sys.executable, "-m", "lm_eval", "--model", "hf"]
    assert f"pretrained={miniature.path('miniature')},peft=a" in command and "arc_easy,boolq" in command
    assert command[-4:] == ["--include_path", "own", "--limit", "5"]


def test_a_served_model_and_a_missing_harness_are_one_clear_line(tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="needs the weights"):
        harness.harness_command(ModelSpec(name="m", endpoint="http://127.0.0.1:1/v1"), ["boolq"], tmp_path, None, None)
    monkeypatch.setattr(harness, "version", _missing)
    with pytest.raises(ConfigError, match=r"buckler\[eval\]"):
        official_scores(ModelRef(spec=ModelSpec(name="m"), digest="d"), ["boolq"], None, None)


def _missing(name):
    raise PackageNotFoundError(name)


def test_numbers_of_another_harness_are_other_numbers(monkeypatch):
    keys = set()
    for version in ("0.4.9", "0.5.0"):
        monkeypatch.setattr(harness, "version", lambda name, version=version: version)
        keys.add(official_scores(ModelRef(spec=ModelSpec(name="m"), digest="d"), ["boolq"], None, None).key)
    assert len(keys) == 2


def test_tasks_that_the_harness_does_not_have_are_told_before_it_runs(tmp_path, monkeypatch):
    manager = SimpleNamespace(match_tasks=lambda names: [name for name in names if name == "boolq"])
    monkeypatch.setitem(sys.modules, "lm_eval", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "lm_eval.tasks", SimpleNamespace(TaskManager=lambda include_path: manager))
    harness.check_tasks(ModelSpec(name="miniature"), ["boolq"], None)
    with pytest.raises(ConfigError, match=r"has no task 'bolq'; for tasks of your own"):
        harness.check_tasks(ModelSpec(name="miniature"), ["boolq", "bolq"], None)
    with pytest.raises(ConfigError, match="own: no such folder"):
        harness.check_tasks(ModelSpec(name="miniature"), ["boolq"], str(tmp_path / "own"))
    (tmp_path / "own").mkdir()
    with pytest.raises(ConfigError, match=r"has no task 'bolq'; .*own has none"):
        harness.check_tasks(ModelSpec(name="miniature"), ["bolq"], str(tmp_path / "own"))
    with pytest.raises(ConfigError, match="needs the weights"):
        harness.check_tasks(ModelSpec(name="m", endpoint="http://127.0.0.1:1/v1"), ["boolq"], None)


def test_the_newest_results_are_read_number_by_number(tmp_path):
    for name, value in (("results_2026-01-01.json", 0.1), ("results_2026-02-01.json", 0.5)):
        (tmp_path / "model").mkdir(exist_ok=True)
        (tmp_path / "model" / name).write_text(json.dumps({"results": {"boolq": {"alias": "boolq", "acc,none": value}}}))
    assert harness.read_results(tmp_path) == {"boolq": {"acc,none": 0.5}}
    with pytest.raises(BackendError, match="left no results"):
        harness.read_results(tmp_path / "model" / "nothing")


@pytest.mark.ml
@pytest.mark.slow
@pytest.mark.skipif(find_spec("lm_eval") is None, reason="lm-evaluation-harness is not installed")
def test_the_harness_runs_a_task_of_ones_own_on_the_miniature(tmp_path):
    from buckler.workflow.jobs.evaluate import EvaluateJob

    rows = [{"question": "What is it?", "choices": ["soup", "stone"], "gold": 0}] * 3
    (tmp_path / "soup.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "soup.yaml").write_text(
        f"task: soup\ndataset_path: json\ndataset_kwargs: {{data_files: {tmp_path / 'soup.jsonl'}}}\ntest_split: train\n"
        'output_type: multiple_choice\ndoc_to_text: "{{question}}"\ndoc_to_choice: "{{choices}}"\ndoc_to_target: "{{gold}}"\n'
        "metric_list: [{metric: acc}]\n"
    )
    job = EvaluateJob(
        model="miniature-small", judge_cards=tmp_path, official=["soup"], official_tasks=tmp_path / "tasks", limit=2
    )
    (line_,) = [line for line in job.run(tmp_path / "out").lines() if "acc,none" in line]
    assert line_.endswith("  n 2") and "sample_len" not in line_
    assert json.loads((tmp_path / "out" / "official.json").read_text())["soup"]["acc,none"] in (0.0, 0.5, 1.0)
