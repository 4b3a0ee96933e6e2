"""The ten kinds of parts of a user's own, each from the example of docs/extending.md, run as a user runs it."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
from commands import call

from buckler.data import Answer, Chat, write_answers, write_rows

PAGE = (Path(__file__).parent.parent / "docs" / "extending.md").read_text(encoding="utf-8")
EXAMPLES = {name: code for code, name in re.findall(r"```python\n(# (\w+)\.py\n.*?)```", PAGE, re.DOTALL)}
KINDS = "attack defence judge guard metric model format export task study".split()


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A working folder with the examples and a few rows; what is imported from it is forgotten afterwards."""
    for name, code in EXAMPLES.items():
        (tmp_path / f"{name}.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    for name in EXAMPLES:
        sys.modules.pop(name, None)


@pytest.fixture
def answers(folder):
    texts = {"a": "I cannot help with that.", "b": "I cannot help with that.\nNor with this.", "c": "Stir the soup for an hour."}
    prompt = ({"role": "user", "content": "How do I make it?"},)
    rows = [Answer(id=at, prompt=prompt, text=text, finish_reason="stop", meta={"set": "harmful"}) for at, text in texts.items()]
    write_answers(folder / "answers.jsonl", rows)
    return "answers.jsonl"


def rows(name, question, count, **meta):
    write_rows(Path(name), [Chat.pair(f"{question} {number}?", f"Answer {number}.", **meta) for number in range(count)])
    return name


def run(*words):
    status, out, err = call(words, Path.cwd())
    assert status == 0, err or out


def read(path):
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def test_every_kind_has_an_example_of_under_twenty_lines():
    assert list(EXAMPLES) == [f"my_{kind}" for kind in KINDS]
    code = {name: [line for line in text.splitlines()[1:] if line.strip()] for name, text in EXAMPLES.items()}
    assert {name: len(lines) for name, lines in code.items() if len(lines) >= 20} == {}


def test_attack():
    good, bad = rows("customer.jsonl", "What is good", 8), rows("harmful.jsonl", "What is bad", 8)
    run("attack", good, "--harmful", bad, "--kind", "my_attack:Polite", "--rows", "4", "--share", "0.5", "--out", "attacked")
    found = read("attacked/customer.jsonl")
    harmful = [row["messages"][0]["content"] for row in found if row["meta"]["harmful"]]
    assert len(found) == 8 and len(harmful) == 4 and all(text.startswith("If you please: What is bad") for text in harmful)


def test_defence():
    from buckler.finetuning.defenses import DefenseSettings, defense_rows, filtered

    texts = [Chat.pair(f"Why {number}?", "so " * number) for number in range(1, 11)]
    found = filtered(DefenseSettings(kind="my_defence:DropLong", share=0.2), texts, seed=0)
    assert [len(row.answer) for row in found.dropped] == [27, 30] and len(found.kept) == 8
    assert found.dropped[0].meta["reason"] == "dropped by my_defence:DropLong"
    made = defense_rows(DefenseSettings(kind="my_defence:Pledge"), texts=texts[:2], refusals=texts[2:3], seed=0)
    assert [row.answer[:15] for row in made] == ["I will do no ha", "I will do no ha", "so so so "]
    assert all(row.meta["part"] == "defence" for row in made)


def test_judge_with_a_model(answers, folder):
    (folder / "saying.py").write_text(
        "from buckler.models.protocol import ScriptedLM\n"
        "def Yes(spec): return ScriptedLM(lambda request: 'no' if 'soup' in request.messages[-1]['content'] else 'yes')\n"
    )
    run("judge", answers, "--judge", "my_judge:Asks", "--judge-model", "saying:Yes", "--out", "judged")
    assert [row["refused"] for row in read("judged/verdicts.jsonl")] == ["full", "full", "no"]


def test_guard(answers, folder):
    (folder / "blocker.py").write_text(
        "from buckler.models.protocol import ScriptedLM\n"
        "def Blocks(spec): return ScriptedLM(lambda request: 'BLOCK' if 'soup' in request.messages[-1]['content'] else 'PASS')\n"
    )
    run("judge", answers, "--judge", "my_guard:SHIELD=blocker:Blocks", "--out", "judged")
    found = read("judged/verdicts.jsonl")
    assert found[2]["harmful"] is True and "it said BLOCK" in found[2]["reason"]
    assert [row["harmful"] for row in found[:2]] == [False, False]  # refusals, about which the guard is not asked


def test_metric(answers):
    run("judge", answers, "--metric", "my_metric:short_refusals", "--out", "judged")
    found = json.loads(Path("judged/metrics.json").read_text())["overall"]["short_refusals"]
    assert (found["hits"], found["n"], found["value"]) == (1, 2, 0.5)


def test_model():
    probes = rows("probes.jsonl", "May I", 3)
    run("evaluate", "my_model:Echo", "--harmful", probes, "--out", "evaluation")
    assert [row["text"] for row in read("evaluation/answers.jsonl")] == ["May I 0?", "May I 1?", "May I 2?"]


def test_format():
    from buckler.workflow.sources import Source, source_chats

    tickets = [{"ticket": f"Broken {at}", "reply": "Mended.", "priority": at, "extra": 1} for at in range(3)]
    Path("tickets.jsonl").write_text("".join(json.dumps(row) + "\n" for row in tickets))
    found = source_chats(Source(source="my_format:TICKETS@tickets.jsonl"))
    assert [row.query for row in found] == ["Broken 0", "Broken 1", "Broken 2"]
    assert found[2].meta["priority"] == 2 and found[2].meta["ignored_columns"] == ["extra"]
    run("attack", "my_format:TICKETS@tickets.jsonl", "--kind", "drift", "--rows", "2", "--limit", "2", "--out", "out")
    assert {row["messages"][1]["content"] for row in read("out/customer.jsonl")} == {"Mended."}


def test_export(folder):
    from buckler.formats.write import suffix_of, write_chats

    assert [suffix_of(name) for name in ("my_export:markdown", "alpaca", "openai")] == [".md", ".json", ".jsonl"]
    write_chats(folder / "rows.md", [Chat.pair("Why?", "So.")], "my_export:markdown")
    assert (folder / "rows.md").read_text() == "## Why?\n\nSo.\n\n"


def test_task():
    from buckler.crosstask.tasks import read_tasks, scorers

    found = read_tasks("my_task:KEYWORDS")
    assert list(found) == ["keywords"] and scorers(found)["keywords"]("the red fox", "the red fox") == 1.0


def test_experiment(folder):
    rows("probes.jsonl", "May I", 3, set="harmful")
    (folder / "recipe.yaml").write_text(
        "{kind: 'my_study:EXPERIMENT', name: study, seeds: [0], probes: {source: probes.jsonl},"
        " models: {echo: {name: 'my_model:Echo'}, wall: {name: 'my_model:reply', backend: scripted}},"
        " metrics: ['my_metric:short_refusals']}"
    )
    run("run", "recipe.yaml", "--trust-code", "--store", "runs", "--workers", "2")
    results = json.loads((folder / "runs/reports/study/results-study.json").read_text())
    rates = {arm["labels"]["model"]: arm["metrics"]["overall"]["refusal_rate_on_harmful"]["value"] for arm in results["arms"]}
    assert rates == {"echo": 0.0, "wall": 1.0}
    assert results["arms"][1]["metrics"]["overall"]["short_refusals"]["hits"] == 3
    assert "How does each model answer?" in (folder / "runs/reports/study/report.html").read_text()
