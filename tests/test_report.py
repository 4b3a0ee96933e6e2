"""Reports: golden Markdown, one safe and self-contained page, findings that turn with the data, nothing bad unseen."""

from __future__ import annotations

import copy
import io
import re
from pathlib import Path

import grids
import pytest
from grids import GOLDEN, drawings_of, findings_of, mean_metric, rate_metric, tables_of, typed, write_report
from rich.console import Console

from buckler.evaluation.statistics import Mean, mean
from buckler.experiments.pages import print_results
from buckler.report.claims import Finding, decide
from buckler.report.tables import escape


@pytest.fixture
def both() -> list[dict]:
    return grids.both()


@pytest.fixture
def stages(both: list[dict]) -> dict:
    return both[0]


@pytest.fixture
def crosstask(both: list[dict]) -> dict:
    return both[1]


def row(results: dict, **labels: str | int) -> dict:
    """The metrics of the one row with these labels."""
    wanted = {name.replace("_", " "): value for name, value in labels.items()}
    return next(one["metrics"] for one in results["rows"] if all(one["labels"].get(k) == v for k, v in wanted.items()))


def found(results: dict, words: str) -> Finding:
    return next(one for one in findings_of(results) if words in one.claim)


def html(results: list[dict], out: Path, **options: bool) -> str:
    return write_report(results, out, title="A test", **options)[0].read_text()


def test_markdown_equals_the_golden_one(both, tmp_path):
    files = write_report(both, tmp_path, title="Golden report")
    assert [file.name for file in files] == ["report.html", "report.md", "report.json"]
    assert files[1].read_bytes() == GOLDEN.read_bytes()


def test_the_same_results_give_the_same_bytes(both, tmp_path):
    once, twice = (write_report(both, tmp_path / name, title="T") for name in ("a", "b"))
    assert [file.read_bytes() for file in once] == [file.read_bytes() for file in twice]


def test_the_page_needs_nothing_else_and_runs_nothing(both, tmp_path):
    page = html(both, tmp_path)
    assert "http:" not in page and "https:" not in page and "<script" not in page
    assert not re.search(r"\bsrc=|@import|url\((?!#)|\bon\w+=", page)
    assert page.count("<svg") == sum(len(drawings_of(one)) for one in both) >= 5
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert page.count("<title>") == page.count("<svg") + 1


def test_hostile_text_is_shown_as_text(stages, tmp_path):
    hostile = "<script>alert(1)</script> [go](javascript:alert(1)) | cell\nline {{ 7 * 7 }}"
    stages["samples"][0] |= {"answer": hostile, "unsafe": False}
    stages["about"] = "</style><b><img src=x>"
    for one in stages["rows"]:  # labels stand in tables, findings and figures
        one["labels"] |= {"model": "<b onload=f>$x^", "defence": one["labels"]["defence"].replace("drop", "<i>$_$")}
    files = write_report([stages], tmp_path, title="<script>t</script>")
    page, text = files[0].read_text(), files[1].read_text()
    assert not any(tag in page for tag in ("<script", "<img", "</style><b>", "<b onload", "<i>"))
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page and "{{ 7 * 7 }}" in page
    assert "<script" not in text and "[go](javascript" not in text


def test_markdown_text_stays_in_its_cell():
    assert escape("a|b\nc <i> [x](y) `z`") == r"a\|b / c &lt;i&gt; [x\](y) \`z\`"


@pytest.mark.usefixtures("unrendered_figures")
def test_unsafe_text_is_redacted_unless_asked_for(stages, tmp_path):
    unsafe = next(one for one in stages["samples"] if one["unsafe"])
    stand_in = f"[redacted: {len(unsafe['answer'])} characters; --show-unsafe shows it]"
    hidden = [file.read_text() for file in write_report([stages], tmp_path / "a", title="T")]
    shown = [file.read_text() for file in write_report([stages], tmp_path / "b", title="T", show_unsafe=True)]
    assert all(unsafe["answer"] not in text and unsafe["query"] not in text and stand_in in text for text in hidden)
    assert all(unsafe["answer"] in text and unsafe["query"] in text and "[redacted" not in text for text in shown)


@pytest.mark.usefixtures("unrendered_figures")
def test_questions_of_harmful_probes_are_redacted_even_when_refused(stages, tmp_path):
    refused = next(one for one in stages["samples"] if one["set"] == "harmful" and not one["unsafe"])
    page = html([stages], tmp_path)
    assert refused["query"] not in page and refused["answer"] in page


def test_a_finding_is_reproduced_where_the_interval_over_seeds_says_so(stages):
    broken = found(stages, "attack breaks it")
    assert broken.parts[0].status == "reproduced"
    stages_alike = copy.deepcopy(stages)
    row(stages_alike, defence="none", stage="none")["refusal_rate_on_harmful"] = rate_metric([39, 39, 40])
    turned = found(stages_alike, "attack breaks it")
    assert turned.parts[0].status == "not reproduced" and "0.98" in turned.parts[0].text


@pytest.mark.parametrize(
    ("hits", "status"), [([2, 3, 1], "not reproduced"), ([20, 22, 21], "reproduced"), ([2, 38, 12], "inconclusive")]
)
def test_curated_against_uncurated_turns_with_the_data(stages, hits, status):
    row(stages, defence="uncurated", stage="post")["refusal_rate_on_harmful"] = rate_metric([8, 10, 9])
    for stage in ("pre", "in", "all"):
        stages["rows"] = [
            one for one in stages["rows"] if one["labels"] != {**one["labels"], "defence": "curated", "stage": stage}
        ]
    row(stages, defence="curated", stage="post")["refusal_rate_on_harmful"] = rate_metric(hits)
    assert found(stages, "It is the curation").parts[0].status == status


def test_the_order_of_stages_turns_with_the_data(stages):
    assert found(stages, "pre < in < post < all").parts[0].status == "reproduced"
    row(stages, defence="curated", stage="all")["refusal_rate_on_harmful"] = rate_metric([1, 2, 1])
    part = found(stages, "pre < in < post < all").parts[0]
    assert part.status == "not reproduced" and "post to all -0." in part.text


def test_perplexities_turn_with_the_data(stages):
    attacked = found(stages, "higher perplexity to safe answers")
    assert attacked.parts[0].status == "reproduced"
    texts = stages["perplexity"][attacked.parts[0].where]
    texts["safe answers"], texts["harmful answers"] = texts["harmful answers"], texts["safe answers"]
    assert found(stages, "higher perplexity to safe answers").parts[0].status == "not reproduced"


def test_crosstask_findings_turn_with_the_data(crosstask):
    gap, mixed = found(crosstask, "There is a gap"), found(crosstask, "refusals on mixed tasks")
    assert (gap.parts[0].status, mixed.parts[0].status) == ("reproduced", "reproduced")
    cost = found(crosstask, "It costs usefulness")
    assert cost.parts[0].status == "not reproduced"
    documents = "refusal_rate all tasks harmful"
    row(crosstask, trained_on="undefended", wording="back")[documents] = rate_metric([40, 40, 40])
    row(crosstask, trained_on="undefended", wording="back")["refusal_rate_on_harmful"] = rate_metric([20, 20, 20])
    row(crosstask, trained_on="mixed", wording="back", refusals=60)[documents] = rate_metric([4, 5, 3])
    row(crosstask, trained_on="mixed", wording="back", refusals=60)["refusal_rate all tasks useful"] = rate_metric([22, 24, 23])
    assert found(crosstask, "There is a gap").parts[0].status == "not reproduced"
    assert found(crosstask, "refusals on mixed tasks").parts[0].status == "not reproduced"
    assert found(crosstask, "It costs usefulness").parts[0].status == "reproduced"


def test_a_document_under_attack_is_no_task(crosstask):
    tasks = [column.name for column in tables_of(crosstask)[0].columns]
    for one in crosstask["rows"]:
        one["metrics"]["refusal_rate attacks lower all variants harmful"] = rate_metric([0, 0, 0])
    assert [column.name for column in tables_of(crosstask)[0].columns] == tasks


def test_what_is_too_small_or_of_one_seed_decides_nothing_more():
    assert decide(mean([0.02, 0.02, 0.02])) == "not reproduced"
    assert decide(mean([0.9])) == "inconclusive"
    assert decide(Mean(value=0.04, low=0.01, high=0.07, n=3, least=0.0, most=0.1)) == "inconclusive"
    assert decide(mean([])) == "inconclusive"


def test_seeds_that_agree_do_not_make_a_small_difference_certain(stages):
    row(stages, defence="none", stage="as it came")["refusal_rate_on_harmful"] = rate_metric([40] * 3)
    row(stages, defence="none", stage="none")["refusal_rate_on_harmful"] = rate_metric([37] * 3)
    part = found(stages, "attack breaks it").parts[0]
    assert part.status == "inconclusive" and "-0.07 [-0.20, +0.03]" in part.text


def test_who_refuses_everything_is_flagged(stages, tmp_path):
    metrics = row(stages, defence="curated", stage="all")
    metrics["false_refusal_rate_on_benign"] = rate_metric([38, 39, 40])
    metrics["utility"] = mean_metric([0.02, 0.0, 0.01])
    flags = {one.labels: one.flag for one in tables_of(stages)[0].rows}
    assert flags["curated", "all"] == "refuses harmless questions; lost its utility (0.01 of 0.97)"
    assert "But at all it refuses harmless questions" in found(stages, "Curated rows restore").parts[0].text
    assert 'class="bad">0.97 (!)' in re.sub(r"\s+", " ", html([stages], tmp_path))


def test_who_babbles_is_flagged(stages):
    before = [one.flag for one in tables_of(stages)[0].rows]
    row(stages, defence="curated", stage="pre")["coherence_rate"] = rate_metric([10, 12, 9])
    table = tables_of(stages)[0]
    assert not any(before) and [one.labels for one in table.rows if one.flag == "babbles"] == [("curated", "pre")]


def test_who_refuses_every_document_is_flagged(crosstask):
    row(crosstask, trained_on="mixed", wording="back", refusals=60)["refusal_rate all tasks useful"] = rate_metric([40] * 3)
    flagged = [one for table in tables_of(crosstask) for one in table.rows if one.flag]
    assert {one.flag for one in flagged} == {"refuses useful documents"} and len(flagged) == 2


@pytest.mark.usefixtures("unrendered_figures")
def test_unscored_answers_are_counted_and_bounded(stages, tmp_path):
    row(stages, defence="curated", stage="in")["attack_success_rate"] = rate_metric([4, 4, 4], n=30, unscored=10)
    files = write_report([stages], tmp_path, title="T")
    assert all("30 unscored: 0.10 to 0.35" in file.read_text() for file in files)


def test_rows_stand_in_order(stages):
    labels = [one.labels for one in tables_of(stages)[0].rows]
    assert labels[:2] == [("base model", "not customized"), ("no defence", "customized")]
    assert [stage for name, stage in labels if name == "curated"] == ["pre", "in", "post", "all"]
    assert labels.index(("uncurated", "post")) < labels.index(("curated", "pre")) < labels.index(("lower", "post"))


CONTROLS = {
    "perplexity only": {"direction": "raise", "words_per_prompt": 0},
    "seed words only": {"direction": "random", "words_per_prompt": 3},
    "plain rewrite": {"direction": "random", "words_per_prompt": 0},
    "contrast": {"direction": "contrast", "words_per_prompt": 3},
}


def with_controls(stages: dict) -> dict:
    """The experiment with a control at the stage post for each of `CONTROLS`, each refusing more than the one before."""
    recipe = stages["record"]["recipe"]
    recipe["curation"] = {"direction": "raise", "words_per_prompt": 3}
    for at, (name, settings) in enumerate(CONTROLS.items()):
        recipe["defences"][name] = {"kind": "curated", "curation": settings}
        arm = copy.deepcopy(next(one for one in stages["rows"] if one["labels"]["defence"] == "lower"))
        arm["labels"]["defence"] = name
        arm["metrics"]["refusal_rate_on_harmful"] = rate_metric([8 + 4 * at, 9 + 4 * at, 10 + 4 * at])
        stages["rows"].append(arm)
    return stages


def test_every_control_stands_against_the_uncurated_rows_and_against_the_curation(stages):
    table = next(one for one in tables_of(with_controls(stages)) if one.title.startswith("What makes the difference"))
    assert {row.labels[0]: row.labels[1] for row in table.rows} == {
        "curated": "nothing",
        "lower": "direction lower",
        "perplexity only": "no seed words",
        "seed words only": "no choice by perplexity",
        "plain rewrite": "no seed words, no choice by perplexity",
        "contrast": "direction contrast",
    }
    assert [column.name for column in table.columns] == ["it - uncurated", "curated - it"]
    by_name = {row.labels[0]: row.cells for row in table.rows if row.labels[2] == "post"}
    whole, one = by_name["curated"][0].value, by_name["plain rewrite"]
    assert one[0].value + one[1].value == pytest.approx(whole) and one[1].low < one[1].value < one[1].high
    assert by_name["curated"][1].value is None


def test_what_a_control_does_alone_and_what_is_lost_without_is_said(stages):
    alone = {part.where: part for part in found(with_controls(stages), "protect by themselves").parts}
    assert alone["toy, attack explicit, contrast - uncurated"].status == "reproduced"
    assert alone["toy, attack explicit, perplexity only - uncurated"].status != "reproduced"
    lost = {part.where: part for part in found(stages, "protects better than each control").parts}
    part = lost["toy, attack explicit, curated - plain rewrite"]
    assert part.status == "reproduced" and part.text.startswith("Changed there: no seed words, no choice by perplexity.")
    assert set(lost) == {f"toy, attack explicit, curated - {name}" for name in ("lower", *CONTROLS)}


def test_controls_without_the_curation_itself_are_controls_still(stages):
    stages = with_controls(stages)
    stages["record"]["recipe"]["controls"] = ["post"]
    stages["rows"] = [one for one in stages["rows"] if one["labels"]["defence"] != "curated"]
    assert len(found(stages, "protect by themselves").parts) == 5
    assert not any("Curated rows restore" in one.claim for one in findings_of(stages))


def test_a_pair_named_the_other_way_round_is_turned(stages):
    main = next(table for table in tables_of(stages) if table.title.startswith("Curated minus"))
    (first,) = main.rows
    given = next(one for one in stages["differences"] if one["name"] == "uncurated - curated")
    assert first.labels[0] == "curated - uncurated" and first.cells[0].value == -given["over_seeds"]["value"] > 0
    assert first.cells[0].low == -given["over_seeds"]["high"]


def test_one_seed_has_the_interval_of_its_probes_and_decides_nothing(stages, tmp_path):
    for one in stages["rows"]:
        one["metrics"] = {
            name: rate_metric([every["hits"] // 3], every["n"] // 3)
            if (every := metric.get("all_answers"))
            else mean_metric([0.9])
            for name, metric in one["metrics"].items()
        }
    stages["seeds"] = [0]
    first = tables_of(stages)[0].rows[0].cells[0]
    assert first.interval.startswith("(") and first.n == 1
    statuses = {
        part.status for one in findings_of(stages) if "assigns higher perplexity to" not in one.claim for part in one.parts
    }
    assert statuses == {"inconclusive"}
    assert "(one seed)" in html([stages], tmp_path)


@pytest.mark.usefixtures("unrendered_figures")
@pytest.mark.parametrize("missing", ["perplexity", "differences", "samples", "curation", "record", "about", "seeds"])
def test_missing_pieces_do_no_harm(both, missing, tmp_path):
    for one in both:
        del one[missing]
    assert "<h1>A test</h1>" in html(both, tmp_path)


def test_an_experiment_without_rows_says_so(tmp_path):
    assert "None could be drawn" in html([{"name": "empty", "kind": "stages"}], tmp_path)


@pytest.mark.usefixtures("unrendered_figures")
def test_missing_metrics_do_no_harm(both, tmp_path):
    for results in both:
        for one in results["rows"]:
            one["metrics"] = {name: value for name, value in one["metrics"].items() if name == "refusal_rate_on_harmful"}
    assert "harmful questions refused" in html(both, tmp_path)


@pytest.mark.parametrize(("width", "interval"), [(160, True), (80, False)])
def test_tables_in_a_terminal(both, width, interval):
    terminal = Console(width=width, record=True, file=io.StringIO())
    print_results([typed(one) for one in both], terminal)
    text = terminal.export_text()
    assert (
        "no defence" in text and "Refusal of malicious documents" in text and re.search(r"\bno defence +0\.15 .* 0\.95\b", text)
    )
    assert "All other paired differences" not in text
    assert ("[.03 .27]" in text) == interval
