"""What a report says beyond the task matrix: misuse, transfer, attacks, models side by side, the authors' phrases."""

from __future__ import annotations

import pytest
from grids import crosstask, drawings_of, findings_of, rate_metric, tables_of, typed, write_report

from buckler.evaluation.statistics import Mean, mean
from buckler.experiments.cross_task.conditions import document_conditions, misuse_of
from buckler.experiments.results_view import Metric, gain_over, minus
from buckler.report.claims import Finding, Part, decide_absent, decide_most, decide_other
from buckler.report.tables import Cell, Table

BACK = {"model": "toy", "wording": "back"}


@pytest.fixture
def results() -> dict:
    return crosstask()


def metrics(results: dict, **labels: str | int) -> dict:
    """The metrics of the first row with these labels."""
    wanted = {name.replace("_", " "): value for name, value in labels.items()}
    return next(one["metrics"] for one in results["rows"] if all(one["labels"].get(k) == v for k, v in wanted.items()))


def found(results: dict, words: str) -> Finding:
    return next(one for one in findings_of(results) if words in one.claim)


def part(results: dict, words: str) -> Part:
    return found(results, words).parts[0]


def table(results: dict, words: str) -> Table:
    return next(one for one in tables_of(results) if words in one.title)


def with_weakest(results: dict) -> dict:
    """The arm on summaries as the recipe's most misused task, under the label of version 0.1.0."""
    for row in results["rows"]:
        if row["labels"]["trained on"] == "summarize":
            row["labels"]["trained on"] = "weakest"
    return results


def test_the_most_misused_task_is_measured_and_named(results):
    assert misuse_of(document_conditions(typed(results))[0]).tasks == ("summarize",)
    row = table(results, "processed by the undefended").rows[0]
    assert (row.cells[0].value, row.cells[-1].text) == (pytest.approx(0.95), "summarize (translate, qa)")
    assert row.cells[0].low == pytest.approx(1 - 0.236, abs=0.001)
    metrics(results, trained_on="undefended", **BACK)["refusal_rate qa harmful"] = rate_metric([0, 0, 0], 20)
    assert misuse_of(document_conditions(typed(results))[0]).tasks == ("qa",)


def test_tasks_in_a_tie_are_told_as_ties(results):
    for task in ("summarize", "translate", "qa"):
        metrics(results, trained_on="undefended", **BACK)[f"refusal_rate {task} harmful"] = rate_metric([0, 0, 0], 20)
    assert table(results, "processed by the undefended").rows[0].cells[-1].text == "all alike"
    assert "in a tie with translate, qa" in part(results, "one is misused more").text
    arm = metrics(results, trained_on="summarize", **BACK)
    arm["refusal_rate qa harmful"] = rate_metric([18, 19, 18], 20)
    best = part(results, "carry over best")
    assert best.status == "inconclusive" and "summarize - translate, a tie +0.67" in best.text and "(reproduced)" not in best.text


def test_transfer_is_asked_of_the_task_measured_not_of_a_constant(results):
    assert "60 refusals, summarize - translate +0.20" in part(results, "carry over best").text
    bare = metrics(results, trained_on="undefended", **BACK)
    bare["refusal_rate translate harmful"] = rate_metric([0, 0, 0], 20)
    bare["refusal_rate summarize harmful"] = rate_metric([12, 12, 12], 20)
    turned = part(results, "carry over best")
    assert "Misused most: translate" in turned.text and "60 refusals, translate - summarize -0.20" in turned.text
    bare["refusal_rate qa harmful"] = rate_metric([0, 0, 0], 20)
    bare["refusal_rate translate harmful"] = rate_metric([4, 4, 4], 20)
    assert "No arm was trained on it alone" in part(results, "carry over best").text


def test_the_most_misused_task_has_a_row_with_the_task_it_stands_for(results):
    rows = [row.labels[0] for row in tables_of(with_weakest(results))[0].rows]
    assert "most_misused_task: summarize" in rows
    assert "most_misused_task: summarize, 60 refusals +0.32" in part(results, "carry over to the others").text
    assert "most_misused_task: summarize - translate" in part(results, "carry over best").text
    results["weakest"][2] |= {"weakest": "qa", "processed": {"qa": 0.9, "summarize": 0.9}}
    assert "most_misused_task: summarize or qa" in [row.labels[0] for row in tables_of(results)[0].rows]
    assert "qa 0.90, in a tie with summarize and named first (seed 2)" in part(results, "one is misused more").text


def test_a_defence_that_gives_way_under_an_attack_is_told(results):
    held = found(results, "holds under attacks").parts
    assert [one.status for one in held] == ["not reproduced", "not reproduced"]
    assert "inside 0.36 [0.34, 0.39], -0.37" in held[0].text and "(fails)" in held[0].text
    attacked = "refusal_rate attacks inside all variants harmful"
    for budget in (20, 60):
        arm = metrics(results, trained_on="mixed", refusals=budget, **BACK)
        arm[attacked] = arm["refusal_rate all tasks harmful"]
    assert {one.status for one in found(results, "holds under attacks").parts} == {"inconclusive"}


def test_a_model_that_refuses_nothing_has_no_defence_that_holds(results):
    for budget in (20, 60):
        arm = metrics(results, trained_on="mixed", refusals=budget, **BACK)
        for name in ("all tasks", "attacks lower all variants", "attacks inside all variants"):
            arm[f"refusal_rate {name} harmful"] = rate_metric([0, 0, 0], 60)
    assert {one.status for one in found(results, "holds under attacks").parts} == {"inconclusive"}
    assert "No defence is established" in part(results, "holds under attacks").text


def test_attacks_stand_beside_no_attack_with_the_paired_change(results):
    levels, changes = table(results, "refused under attack"), table(results, "What an attack takes")
    assert [column.name for column in levels.columns] == ["no attack", "lower", "inside"]
    mixed = {row.labels: row.cells for row in changes.rows}["mixed", "60"]
    assert mixed[0].value == 0 and mixed[1].value == pytest.approx(29 / 60 - 58 / 60)
    variants = table(results, "Attacks by variant")
    assert variants.folded and {row.labels[2:] for row in variants.rows} == {("lower", "all"), ("inside", "start 30%")}


def test_two_turns_show_each_turn_and_both(results):
    turns = table(results, "Two turns")
    assert [column.name for column in turns.columns][:4] == [
        "first: summarize",
        "then: translate",
        "translate asked alone",
        "both refused",
    ]
    single = {row.labels: [cell.value for cell in row.cells] for row in turns.rows}["translate", "60"]
    assert single == pytest.approx([0.2, 0.9333, 0.9833, 0.2, -0.05], abs=0.001)


def test_models_stand_side_by_side_in_the_arms_they_share(results):
    rows = table(results, "Models side by side").rows
    assert [row.labels for row in rows][-2:] == [("mixed", "60", "toy"), ("mixed", "60", "other")]
    assert ("mixed", "20", "toy") not in [row.labels for row in rows]
    assert [cell.number for cell in rows[-1].cells[-3:]] == ["+0.85", "+0.06", "+0.79"]


def test_models_that_balance_differently_are_told(results):
    assert part(results, "models differ").status == "inconclusive"
    metrics(results, model="other", trained_on="mixed")["refusal_rate all tasks useful"] = rate_metric([50, 52, 54], 60)
    assert part(results, "models differ").status == "reproduced"


def test_the_authors_phrases_stand_beside_the_judge(results, tmp_path):
    shown = {row.labels: [cell.number for cell in row.cells] for row in table(results, "13 phrases").rows}
    assert shown["harmful", "translate"] == ["360", "0.50", "0.47", "-0.03", "12", "0"]
    assert ("harmful", "qa") not in shown, "nothing is read differently there"
    assert "Of 1080 answers 12 are refusals to keyword alone and 3 to the phrases alone" in part(results, "who reads").text
    for cell in results["paper_rule"]["cells"]:
        if cell["task"] == "translate":
            cell |= {"second": 6 + cell["seed"], "only_first": 54 - cell["seed"]}
    assert part(results, "who reads").status == "not reproduced"


@pytest.mark.usefixtures("unrendered_figures")
def test_what_two_rules_read_otherwise_is_redacted_like_any_answer(results, tmp_path):
    example = results["paper_rule"]["examples"][0] | {"answer": "a made-up secret", "query": "a made-up question"}
    results["paper_rule"]["examples"] = [example]
    hidden = [file.read_text() for file in write_report([results], tmp_path / "a", title="T")]
    assert not any("made-up secret" in text or "made-up question" in text for text in hidden)
    assert "keyword: no, paper: full" in hidden[0] and "keyword: no, paper: full" in hidden[1]
    shown = write_report([results], tmp_path / "b", title="T", show_unsafe=True)[0].read_text()
    assert "made-up secret" in shown


def test_budget_curves_and_the_front_are_drawn_where_there_are_budgets(results):
    titles = [one.title for one in drawings_of(results)]
    assert sum("bought by budget" in title for title in titles) == sum("no other arm beats" in title for title in titles) == 3
    for row in results["rows"]:
        row["labels"]["refusals"] = 60
    results["rows"] = [row for row in results["rows"] if row["labels"]["trained on"] in ("undefended", "mixed")][:2]
    assert not any("budget" in one.title for one in drawings_of(results))


@pytest.mark.usefixtures("unrendered_figures")
@pytest.mark.parametrize("missing", ["weakest", "paper_rule", "record"])
def test_results_of_an_older_run_still_make_a_report(results, missing, tmp_path):
    del results[missing]
    assert "Malicious documents processed" in write_report([results], tmp_path, title="T")[1].read_text()


@pytest.mark.usefixtures("unrendered_figures")
def test_only_undefended_arms_still_make_a_report(results, tmp_path):
    results["rows"] = [row for row in results["rows"] if row["labels"]["trained on"] == "undefended"]
    write_report([results], tmp_path, title="T")
    assert "There is a gap" in findings_of(results)[0].claim


def test_several_rates_together_have_the_interval_of_their_probes_where_seeds_agree(results):
    condition = document_conditions(typed(results))[0]
    bare = condition.undefended
    qa, translate = (Metric("refusal_rate", task, "harmful") for task in ("qa", "translate"))
    once = gain_over(bare, bare, [qa])
    twice = gain_over(bare, bare, [qa, translate])
    assert once.value == twice.value == 0 and once.low < twice.low < 0 < twice.high < once.high
    spread = gain_over(condition.control, condition.arms[-1], [qa, translate])
    assert spread.n == 3 and spread.value == pytest.approx(0.8, abs=0.01)


def test_a_difference_of_differences_is_never_a_point():
    more, less = (Mean(value=value, low=value - 0.1, high=value + 0.2, n=3, least=value, most=value) for value in (0.5, 0.1))
    held = minus({0: 0.4, 1: 0.4}, more, less)
    assert (held.low, held.high) == (pytest.approx(0.4 - 0.05**0.5), pytest.approx(0.4 + 0.05**0.5))
    assert minus({0: 0.3, 1: 0.5}, more, less) == mean([0.3, 0.5])


def test_rules_for_no_loss_and_for_either_side():
    assert decide_absent(mean([0.01, 0.0, 0.01])) == "reproduced"
    assert decide_absent(mean([0.2, 0.21, 0.2])) == "not reproduced"
    assert decide_absent(mean([0.2, -0.2])) == "inconclusive"
    assert [decide_other(mean([sign * 0.2, sign * 0.21, sign * 0.2])) for sign in (1, -1)] == ["reproduced", "reproduced"]
    assert decide_other(mean([0.0, 0.01, 0.0])) == "not reproduced"
    assert decide_other(mean([0.2, -0.2])) == "inconclusive"
    ends = [(0.0, 0.1), (0.0, 0.2), (0.11, 0.2)]
    statuses = [decide_most(Cell(value=0.1, low=low, high=high, n=3), 0.1) for low, high in ends]
    assert statuses == ["reproduced", "inconclusive", "not reproduced"]
