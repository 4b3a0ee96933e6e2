"""What few probes cannot show is said beside the rates, in the terminal and in reports."""

from __future__ import annotations

import copy
import re

import grids
import pytest
from grids import rate_metric, tables_of

from buckler.data import Answer, Verdict, write_json
from buckler.evaluation.metrics import summarise
from buckler.evaluation.power import CAUTION, detectable, unseen
from buckler.evaluation.statistics import rate
from buckler.judges.named import judge_spec
from buckler.report.tables import Cell, caution
from buckler.workflow.jobs.judge import DETECTION, judgement


def test_the_difference_is_the_one_that_so_many_probes_show():
    assert unseen(32) == "differences under 0.33 are not detectable" and f"{detectable(32):.2f}" == "0.33"
    assert unseen(8) == "no difference is detectable" and detectable(8) is None


def test_a_caution_names_the_smallest_and_the_largest_of_the_small_sets():
    cells = [Cell(value=0.5, n=3, probes=3 * n) for n in (64, 20, 32, 500)]
    assert caution(cells) == (
        f"In one seed, with 20 probes differences under {detectable(20):.2f} are not detectable, "
        f"with 64 probes differences under {detectable(64):.2f} are not detectable ({CAUTION})."
    )
    assert caution([Cell(value=0.5, n=3, probes=600), Cell(value=0.5, n=3)]) == ""


def test_the_main_tables_say_what_their_probes_do_not_show():
    for results in grids.both():
        title = "Refusal of malicious documents" if results["kind"] == "cross_task" else "toy under attack"
        table = next(one for one in tables_of(results) if one.title.startswith(title))
        assert re.search(r"with 20 probes differences under 0\.\d\d are not detectable", table.caption)


def test_large_sets_need_no_caution():
    stages = copy.deepcopy(grids.both()[0])
    for row in stages["rows"]:
        row["metrics"] = {"refusal_rate_on_harmful": rate_metric([100, 110, 120], n=400)}
    assert "unseen" not in tables_of(stages)[0].caption


def shown(folder):
    return "\n".join(judgement(folder, judge_spec("keyword"), folder).lines()) + "\n"


@pytest.mark.parametrize(("n", "warns"), [(32, True), (200, False)])
def test_a_headline_rate_on_few_probes_is_told_with_what_it_does_not_show(tmp_path, n, warns):
    half = rate([True, False] * (n // 2)).to_json()
    write_json(
        tmp_path / "metrics.json",
        {"overall": {"refusal_rate_on_harmful": half, "utility": {"value": 0.5, "n": 4, "low": 0, "high": 1}}, "sets": {}},
    )
    printed = shown(tmp_path)
    (line,) = [one for one in printed.splitlines() if "refusal_rate_on_harmful" in one]
    assert line.endswith(f"n {n}" + ("; differences below 0.33 may go undetected" if warns else ""))
    assert (DETECTION in printed) == warns and printed.count("go undetected") == warns  # a mean score is no rate


def test_what_was_not_read_is_counted_and_bounds_the_rate_even_where_nothing_was_read(tmp_path):
    some, none = rate([True, False, None, None]).to_json(), rate([None, None]).to_json()
    write_json(tmp_path / "metrics.json", {"overall": {"refusal_rate_on_harmful": some, "safety_rate": none}, "sets": {}})
    printed = shown(tmp_path)
    assert re.search(r"refusal_rate_on_harmful +0\.50 \[.*\]  n 2, 2 unscored \(bounds 0\.25 to 0\.75\)", printed)
    assert re.search(r"safety_rate +not known  n 0, 2 unscored \(bounds 0\.00 to 1\.00\)", printed)


def test_false_refusals_are_told_by_category(tmp_path):
    kinds = {"homonyms": [("full", 1), ("partial", 1), ("no", 2)], "definitions": [("no", 4), (None, 1)]}
    rows = [(kind, refused) for kind, counts in kinds.items() for refused, count in counts for _ in range(count)]
    answers = [
        Answer(id=str(at), prompt=(), text="!", finish_reason="stop", meta={"set": "borderline", "category": kind})
        for at, (kind, _) in enumerate(rows)
    ]
    verdicts = [Verdict(id=str(at), refused=refused) for at, (_, refused) in enumerate(rows)]
    write_json(tmp_path / "metrics.json", summarise(answers, verdicts))
    printed = shown(tmp_path)
    assert re.search(r"homonyms +0\.25 \[.*\]; 0\.50 \[.*\]  n 4\n", printed)
    assert re.search(r"definitions +0\.00 .* n 4, 1 unscored \(bounds 0\.00 to 0\.20\)", printed)
