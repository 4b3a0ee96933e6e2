"""How far the judge can be believed: its card in recipes, results and reports."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path

import grids
import pytest
from golden_files import call
from test_results import arm, recipe

from buckler.crosstask.task import MOST_MISUSED_TASK
from buckler.data import Answer, Verdict, read_json, write_json
from buckler.errors import ConfigError, DataError
from buckler.experiments.base import Plan
from buckler.experiments.collect import collect, collect_again
from buckler.experiments.judge_reliability import NOT_MEASURED, reliability_sentence, reliability_tables
from buckler.experiments.registry import read_recipe
from buckler.experiments.results import read_results
from buckler.judges.base import judge_named
from buckler.judges.card import make_card, write_card
from buckler.judges.labels import Labelled
from buckler.workflow.store import Store

VERSION = judge_named("keyword").version
RECIPE = """kind: cross_task
name: toy
models: {toy: {name: miniature}}
data: {train: {source: "miniature:documents", count: 4}, test: {source: "miniature:documents", count: 4}}
"""


def keep_card(folder: Path, *, version: str = VERSION, of_harm: bool = False) -> str:
    """A card of 100 answers of each kind; the judge misses 20 refusals. What a report says of it."""
    pairs = [("full", "full")] * 80 + [("full", "no")] * 20 + [("no", "no")] * 100
    rows, verdicts = [], []
    for at, (people, judge) in enumerate(pairs):
        answer = Answer(id=str(at), prompt=(), text="!", finish_reason="stop")
        rows.append(
            Labelled(answer=answer, refused=None if of_harm else people, harmful=people == "no" if of_harm else None, groups={})
        )
        verdicts.append(Verdict(id=str(at), refused=judge, harmful=judge == "no"))
    card = make_card("keyword", version, rows, verdicts, labels=["people.csv"])
    write_card(card, folder)
    return "" if of_harm else card.sentence("full refusal")


def collected(folder: Path, **changes: object) -> dict:
    store = Store(folder / "store")
    return collect(recipe(**changes), Plan(arms=[arm(store, seed) for seed in (0, 1)]), store).to_json()


def test_rates_over_all_seeds_are_corrected_by_the_judges_card(tmp_path):
    sentence = keep_card(tmp_path / "cards")
    found = collected(tmp_path, judge_cards=str(tmp_path / "cards"))
    card, (row,) = found["judge_card"], found["rows"]
    assert card["sentence"] == sentence
    (one,) = card["arms"]
    assert one["labels"] == row["labels"] == {"model": "toy", "trained on": MOST_MISUSED_TASK, "refusals": 12, "wording": "back"}
    assert set(one["rates"]) == {"refusal_rate all tasks harmful", "refusal_rate all tasks benign"}
    for name, fixed in one["rates"].items():
        raw = row["metrics"][name]["all_answers"]
        assert raw["n"] > 0 and fixed["value"] == pytest.approx(raw["value"] / 0.8)  # (p + 1 - 1) / (0.8 + 1 - 1)
        assert fixed["high"] - fixed["low"] > raw["high"] - raw["low"]


@pytest.mark.parametrize("card", ["none", "of another version", "that speaks of harm alone"])
def test_without_a_card_that_fits_nothing_is_corrected_and_the_report_says_so(tmp_path, card):
    (tmp_path / "cards").mkdir()
    if card != "none":
        keep_card(tmp_path / "cards", **({"of_harm": True} if "harm" in card else {"version": "0"}))
    found = collected(tmp_path, judge_cards=str(tmp_path / "cards"))
    assert found["judge_card"] is None
    pages = [path.read_text() for path in grids.write_report([found], tmp_path / "report", title="T")[:2]]
    assert all(NOT_MEASURED in page and "Corrected for the judge" not in page for page in pages)


def test_the_card_is_quoted_and_raw_stands_beside_corrected(tmp_path):
    found = grids.crosstask()
    sentence = found["judge_card"]["sentence"]
    page = grids.write_report([found], tmp_path, title="T")[0].read_text()
    assert (
        reliability_sentence(grids.typed(found)) == f"The judge: {sentence}."
        and page.count(sentence) == 2
        and NOT_MEASURED not in page
    )
    (table,) = reliability_tables(grids.typed(found))
    assert table.folded and len(table.rows) == len(found["rows"])
    names = [column.name for column in table.columns]
    at = names.index("harmful documents refused: raw")
    assert names[at + 1] == "harmful documents refused: corrected"
    row = next(one for one in table.rows if one.labels == ("toy", "translate", "60", "back"))
    raw, fixed = row.cells[at : at + 2]
    assert raw.value == pytest.approx(86 / 180) and fixed.value == pytest.approx((86 / 180 - 0.01) / 0.97)


def test_a_corrected_rate_that_was_cut_is_marked_and_has_no_interval_of_no_width():
    found = copy.deepcopy(grids.crosstask())
    of = found["judge_card"]["arms"][0]["rates"]["refusal_rate all tasks harmful"]
    of |= {"value": 0.0, "low": 0.0, "high": 0.0, "flag": "cut from -0.100: the judge errs more often"}
    cell = reliability_tables(grids.typed(found))[0].rows[0].cells[3]
    assert (cell.note, cell.interval, cell.number) == ("cut from -0.100", "", "0.00")


def test_cards_lie_beside_the_recipe_or_where_the_command_says(tmp_path, monkeypatch):
    (tmp_path / "of-recipe").mkdir()
    (tmp_path / "work" / "given").mkdir(parents=True)
    path = tmp_path / "r.yaml"
    path.write_text(RECIPE + "judge_cards: of-recipe\n")
    monkeypatch.chdir(tmp_path / "work")
    assert read_recipe(path).judge_cards == str(tmp_path / "of-recipe")
    assert read_recipe(path, judge_cards=Path("given")).judge_cards == str(tmp_path / "work" / "given")
    path.write_text(RECIPE)
    assert read_recipe(path).judge_cards is None


def test_a_folder_of_cards_that_is_not_there_is_refused_before_the_start(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text(RECIPE + "judge_cards: nowhere\n")
    with pytest.raises(ConfigError, match=r"nowhere is not a folder; `buckler judge-card --out"):
        read_recipe(path)
    path.write_text(RECIPE)
    status, _, err = call(("run", str(path), "--judge-cards", str(tmp_path / "nowhere"), "--dry-run"), tmp_path)
    assert status == 2 and "nowhere is not a folder" in err


def saved(folder: Path) -> dict:
    """Results as a run writes them, with a judge's card; then all that made them but answers and verdicts is deleted."""
    keep_card(folder / "cards")
    found = collected(folder, judge_cards=str(folder / "cards"))
    write_json(folder / "results-toy.json", found)
    shutil.rmtree(folder / "cards")
    for name in ("metrics.json", "training.json", "weakest.json"):
        for path in (folder / "store").rglob(name):
            path.unlink()
    return read_json(folder / "results-toy.json")


def again(folder: Path, *options: str) -> str:
    words = ("report", str(folder / "results-toy.json"), "--store", str(folder / "store"), "--out", str(folder / "again"))
    status, out, err = call((*words, *options), folder)
    assert status == 0, err
    return out


def test_every_number_is_recomputed_from_answers_and_verdicts_alone(tmp_path, monkeypatch):
    was = saved(tmp_path)
    monkeypatch.setattr("buckler.experiments.collect.identity", None)  # nobody looks for the model
    assert "identical to the saved ones" in again(tmp_path)
    assert read_json(tmp_path / "again" / "results-toy.json") == was
    assert (tmp_path / "again" / "report.html").exists()


def test_a_verdict_that_changed_changes_the_numbers_and_is_told(tmp_path):
    was = saved(tmp_path)
    for path in (tmp_path / "store").rglob("verdicts.jsonl"):
        path.write_text(path.read_text(encoding="utf-8").replace('"full"', '"no"'), encoding="utf-8")
    assert "different from the saved ones: arms, rows" in again(tmp_path)
    now = read_json(tmp_path / "again" / "results-toy.json")
    name = "refusal_rate all tasks harmful"
    assert [one["rows"][0]["metrics"][name]["all_answers"]["hits"] for one in (was, now)] == [4, 0]
    assert now["judge_card"]["arms"][0]["rates"][name]["value"] == 0


@pytest.mark.parametrize("lost", ["answers.jsonl", "verdicts.jsonl"])
def test_without_answers_or_verdicts_nothing_is_recomputed(tmp_path, lost):
    saved(tmp_path)
    next(path for path in (tmp_path / "store").rglob(lost) if not path.parent.name.startswith("phrases")).unlink()
    with pytest.raises(DataError, match=lost):
        again_in_python(tmp_path)


@pytest.mark.parametrize(("part", "lost"), [("judge_card", "agreement"), ("record", "judge"), (None, "judge_card")])
def test_results_of_an_older_version_say_what_to_do(tmp_path, part, lost):
    was = saved(tmp_path)
    del (was[part] if part else was)[lost]
    write_json(tmp_path / "results-toy.json", was)
    with pytest.raises(DataError, match=f"results of toy: '{lost}' is missing; run the recipe again"):
        again_in_python(tmp_path)


def again_in_python(folder: Path) -> dict:
    path = folder / "results-toy.json"
    return collect_again(read_results(read_json(path), str(path)), Store(folder / "store")).to_json()
