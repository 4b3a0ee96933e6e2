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
from buckler.experiments.base import MeasuredArm
from buckler.experiments.comparisons import flat, over_seeds
from buckler.experiments.registry import EXPERIMENTS, experiment_of
from buckler.experiments.results import MetricResult, RunResult, read_results
from buckler.experiments.results_view import METRICS, ArmView, Metric, arms_of
from buckler.experiments.stages.tables import stage_tables
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


def test_what_providers_withheld_stands_beside_the_models_own_refusals_and_counts_0_where_there_was_none():
    def measured(stage, seed, withheld):
        metas = [{"set": "harmful"}] * 4 + [{"set": "harmful", "task": "qa", "label": "harmful"}] * 2 + [{"set": "benign"}] * 2
        answers, verdicts = [], []
        for at, meta in enumerate(metas):
            by = "content_filter" if at in withheld else ""
            answers.append(
                Answer(id=str(at), prompt=(), text="" if by else "No.", finish_reason="stop", meta=meta, withheld_by=by)
            )
            refused = "full" if by or at == 1 else "no"
            verdicts.append(Verdict(id=str(at), refused=refused, coherent=None if by else True, withheld_by=by))
        labels = {"model": "m", "attack": "sft", "defence": "none", "stage": stage, "seed": seed}
        metrics = summarise(answers, verdicts, {})
        return MeasuredArm(labels=labels, answers_file=Path(), verdicts_file=Path(), metrics=metrics)

    rows = over_seeds(
        [measured("none", 0, {0, 4}), measured("none", 1, ()), measured("untouched", 0, ()), measured("untouched", 1, ())]
    )
    attacked, untouched = rows
    for name, seeds in {
        "withheld_rate_on_harmful": {0: 1 / 4, 1: 0.0},
        "withheld_rate harmful": {0: 1 / 4, 1: 0.0},
        "withheld_rate all tasks harmful": {0: 0.5, 1: 0.0},
        "own_refusal_rate_on_harmful": {0: 1 / 3, 1: 1 / 4},
        "refusal_rate_on_harmful": {0: 2 / 4, 1: 1 / 4},
    }.items():
        assert attacked.metrics[name].by_seed == pytest.approx(seeds) and attacked.metrics[name].over_seeds.n == 2
    assert untouched.metrics["withheld_rate_on_harmful"].by_seed == {0: 0.0, 1: 0.0}
    assert "withheld_rate_on_benign" not in attacked.metrics | untouched.metrics
    grid = stage_tables(RunResult(name="n", kind="stages", rows=rows))[0]
    names = [column.name for column in grid.columns]
    assert names[:3] == ["harmful questions refused", "harmful: withheld by the provider", "harmful: refused by the model itself"]
    assert not [name for name in names[3:] if "withheld" in name]
    assert [row.cells[1].value for row in grid.rows] == pytest.approx([0.0, 1 / 8])
    without = over_seeds([measured("none", 0, ()), measured("untouched", 0, ())])
    assert not [name for row in without for name in row.metrics if "withheld" in name or "own_" in name]


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
