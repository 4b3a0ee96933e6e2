"""Results as tables read them: a misspelled name is an error, what was not measured is an empty cell, files keep their bytes."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import grids
import pytest

from buckler.data import Answer, Verdict
from buckler.errors import ConfigError, DataError
from buckler.evaluation.metrics import summarise
from buckler.experiments.comparisons import flat
from buckler.experiments.registry import EXPERIMENTS, experiment_of
from buckler.experiments.results import MetricResult, read_results
from buckler.experiments.results_view import METRICS, ArmView, Metric, arms_of
from buckler.report.tables import Cell

EXPECTED = Path(__file__).parent / "golden" / "expected"
SAVED = sorted(EXPECTED.glob("run-*/results-*.json.gz"))


def test_a_misspelled_metric_names_the_nearest():
    with pytest.raises(DataError, match="unknown metric 'refusal_rat'; did you mean 'refusal_rate'"):
        Metric("refusal_rat", "all tasks", "harmful")


@pytest.mark.parametrize(
    ("metric", "near"),
    [
        (Metric("refusal_rate", "all tasks", "harmfull"), "harmful"),
        (Metric("refusal_rate", "all taks", "harmful"), "all tasks"),
        (Metric("utility", "benignn"), "benign"),
        (Metric("refusal_rate", "harmful", "heldout"), "held_out"),
        (Metric("score", "summarise", "benign"), "summarize"),
    ],
)
def test_a_misspelled_part_of_a_metric_names_the_nearest(metric, near):
    arm = ArmView(metrics={"refusal_rate all tasks harmful": MetricResult(), "score summarize benign": MetricResult()})
    with pytest.raises(DataError, match=f"did you mean '{near}'"):
        arm.cell(metric)
    for absent in (Metric("refusal_rate", "all tasks", "useful"), Metric("score", "qa", "benign"), Metric("utility")):
        assert arm.cell(absent).value is None


def test_a_misspelled_label_names_the_nearest():
    with pytest.raises(DataError, match="no label 'wordin'; did you mean 'wording'"):
        arms_of(grids.typed(grids.crosstask()))[0].label("wordin")


def test_a_metric_that_was_not_measured_is_an_empty_cell():
    arm = arms_of(grids.typed(grids.crosstask()))[0]
    assert arm.cell(Metric("helpfulness", "benign")) == Cell() and arm.value(Metric("coherence_rate")) is not None


def test_every_metric_of_a_run_has_its_name_in_the_table():
    answers, verdicts = [], []
    for at, (name, meta) in enumerate(
        [
            ("harmful", {"group": "seen", "category": "ink", "pair": "1"}),
            ("borderline", {"pair": "1"}),
            ("benign", {}),
            ("harmful", {"task": "qa", "label": "harmful", "group": "seen"}),
            ("harmful", {"task": "qa", "label": "harmful", "attack": "lower", "variant": "all", "first": "3"}),
        ]
    ):
        answers.append(Answer(id=str(at), prompt=(), text="No.", finish_reason="stop", meta={"set": name, **meta}))
        verdicts.append(Verdict(id=str(at), refused="full", coherent=True, helpful=0.5))
    names = {name.split(" ")[0] for name in flat(summarise(answers, verdicts, {"2": 1.0}))}
    assert names <= set(METRICS) and len(names) > 12


@pytest.mark.parametrize("path", SAVED, ids=lambda path: path.parent.name)
def test_a_saved_file_is_written_back_as_it_was(path):
    text = gzip.decompress(path.read_bytes()).decode()
    assert json.dumps(read_results(json.loads(text), path.name).to_json()) == json.dumps(json.loads(text))


def test_what_is_no_results_file_is_named_with_the_place_of_its_fault():
    with pytest.raises(DataError, match=r"some\.json: not the results of a run: `rows.0.metrics.utility.over_seeds.n`"):
        read_results({"kind": "stages", "rows": [{"metrics": {"utility": {"over_seeds": {"n": "many"}}}}]}, "some.json")
    with pytest.raises(DataError, match=r"some\.json: not the results of a run: `kind`"):
        read_results({"arms": []}, "some.json")


def test_kinds_are_looked_up_in_one_table():
    assert {experiment_of(kind).kind for kind in EXPERIMENTS} == set(EXPERIMENTS)
    with pytest.raises(ConfigError, match="stages"):
        experiment_of("stage")


def test_arms_of_earlier_versions_are_read_under_current_names_and_a_users_own_name_stays():
    for kind, name in (("cross_task", "mixed - most_misused_task"), ("stages", "mixed - weakest")):
        saved = {"kind": kind, "differences": [{"name": "mixed - weakest", "at": {"stage": "as it came", "defence": "weakest"}}]}
        (difference,) = read_results(saved, "some.json").differences
        assert difference.name == name and difference.at == {"stage": "base", "defence": "weakest"}
