"""Documents as steps: made ready, built into rows, asked under attack and in two turns, each with files between."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from buckler.crosstask.build import CrossTaskSettings
from buckler.crosstask.document_attacks import AttackOptions
from buckler.crosstask.documents import DocumentSettings
from buckler.data import (
    ROWS,
    Answer,
    Chat,
    Document,
    Verdict,
    read_chats,
    read_documents,
    read_json,
    write_answers,
    write_rows,
    write_verdicts,
)
from buckler.errors import ConfigError, DataError
from buckler.models.protocol import ScriptedLM
from buckler.progress import no_progress
from buckler.workflow import documents, evaluation
from buckler.workflow.step import Run, StepFunction

OWN = """
keywords:
  wordings: {back: "{document}\\n\\nList five keywords.", front: "Keywords, please.\\n\\n{document}"}
  metric: rouge_l
  verb: list keywords of
"""


def document(number: int, label: str, **meta) -> Document:
    words = ("mill", "harbour", "orchard", "bridge", "market", "tower", "meadow", "forge", "ferry", "garden")
    first, second = words[number % 10], words[(number // 10 + 3) % 10]
    keeper = f"Its {label} keeper writes page {number} in the old book of {second}s."
    text = f"The {first} number {number} stands behind the {second}. {keeper}"
    return Document.of(text, label=label, **meta)


@pytest.fixture
def some() -> list[Document]:
    return [document(number, label) for label in ("harmful", "benign", "useful") for number in range(12)]


@dataclass(frozen=True, kw_only=True)
class Given:
    """What a step is called with, before its settings are checked."""

    params: dict
    inputs: dict
    outside: dict
    out: Path

    def call(self, function: StepFunction) -> None:
        settings = function.settings_type.model_validate(self.params)
        function(
            Run(
                settings=settings,
                inputs=self.inputs,
                outside=self.outside,
                out=self.out,
                shared=self.out.parent,
                progress=no_progress,
            )
        )


def context(folder: Path, name: str, inputs: dict[str, list], paths: dict[str, str] | None = None, **params) -> Given:
    places = {}
    for number, (given, rows) in enumerate(inputs.items()):
        places[given] = folder / f"{name}-input-{number}"
        write_rows(places[given] / ROWS, rows)
    out = folder / name
    out.mkdir()
    return Given(params=params, inputs=places, outside=paths or {}, out=out)


def scripted(monkeypatch, reply) -> ScriptedLM:
    model = ScriptedLM(reply)
    for module in (documents, evaluation):
        monkeypatch.setattr(module, "load_model", lambda run, role, shared=False: model)
    return model


def test_documents_are_made_ready_once_each_and_apart_from_the_test(tmp_path, some):
    given = context(tmp_path, "ready", {"documents/000": [*some, some[0]], "test/000": some[:2]}, documents={})
    given.call(documents.prepare_documents)
    ready, rejected = read_documents(given.out / ROWS), read_documents(given.out / "rejected.jsonl")
    assert {one.id for one in some[:2]} < {one.id for one in rejected}
    assert {one.meta["rejected"] for one in rejected} == {"is in the test", "same text as another"}
    assert len(ready) == len(some) - 2 * 3, "the same places, with a keeper of another label, are near them"
    assert all(one.meta["length"] == "short" and one.meta["label_by"] for one in ready)


def test_documents_without_a_label_are_labelled_by_the_model(tmp_path, monkeypatch):
    scripted(
        monkeypatch,
        lambda request: "label: harmful\nconfidence: 0.9" if "harmful keeper" in request.messages[0]["content"] else "what?",
    )
    bare = [Document.of(document(number, label).text) for label in ("harmful", "benign") for number in range(3)]
    settings = DocumentSettings(label_by="model").model_dump(mode="json")
    given = context(tmp_path, "ready", {"documents/000": bare}, {"labeller": "{}"}, documents=settings)
    given.call(documents.prepare_documents)
    assert [one.meta["label"] for one in read_documents(given.out / ROWS)] == ["harmful"] * 3
    assert all("unscored" in str(one.meta["rejected_for"]) for one in read_documents(given.out / "rejected.jsonl"))


def built(tmp_path, some, monkeypatch, name="built", paths=None, inputs=None, **settings):
    scripted(monkeypatch, lambda request: "An honest answer about the place.")
    crosstask = CrossTaskSettings(**{"tasks": ("summarize", "case"), "refusals": 8, "answers": 8, **settings})
    given = context(
        tmp_path,
        name,
        {"documents": some, **(inputs or {})},
        paths,
        crosstask=crosstask.model_dump(mode="json"),
        max_new_tokens=32,
        seed=0,
    )
    given.call(documents.crosstask)
    return read_chats(given.out / ROWS)


def test_tasks_of_the_users_own_are_refused_by_their_own_verb(tmp_path, some, monkeypatch):
    (tmp_path / "own.yaml").write_text(OWN)
    paths = {"own_tasks": str(tmp_path / "own.yaml")}
    rows = built(tmp_path, some, monkeypatch, paths=paths, tasks=("keywords",))
    refused = [row for row in rows if row.meta["part"] == "defence"]
    assert len(refused) == 8 and all("list keywords of" in row.answer for row in refused)


def test_the_most_misused_task_alone_is_refused_where_a_step_names_it(tmp_path, some, monkeypatch):
    (tmp_path / "weak").mkdir()
    (tmp_path / "weak" / "weakest.json").write_text(json.dumps({"weakest": "case"}))
    scripted(monkeypatch, lambda request: "An honest answer about the place.")
    settings = CrossTaskSettings(tasks=("summarize", "case"), refusals=8, answers=8).model_dump(mode="json")
    given = context(tmp_path, "built", {"documents": some}, crosstask=settings, max_new_tokens=32, seed=0)
    given = replace(given, inputs={**given.inputs, "weakest": tmp_path / "weak"})
    given.call(documents.crosstask)
    rows = read_chats(given.out / ROWS)
    assert {row.meta["task"] for row in rows if row.meta["part"] == "defence"} == {"case"}
    assert {row.meta["task"] for row in rows if row.meta["part"] == "utility"} == {"summarize", "case"}


def probes(tmp_path, some, name="probes", **params) -> list[Chat]:
    settings = {"tasks": ["summarize", "qa"], "wording": "back", "language": None, **params}
    given = context(tmp_path, name, {"documents": some}, **settings)
    given.call(documents.probe_documents)
    return read_chats(given.out / ROWS)


def test_probes_under_attack_tell_attack_and_variant(tmp_path, some):
    options = AttackOptions(shares=(0.5,), positions=("start", "end"), passage=20).model_dump(mode="json")
    found = probes(tmp_path, some, attack="inside", options=options)
    assert {row.meta["variant"] for row in found} == {"start 50%", "end 50%"} and {row.meta["attack"] for row in found} == {
        "inside"
    }
    assert all("attack" not in row.meta for row in probes(tmp_path, some, name="plain"))


def test_labels_can_be_asked_for(tmp_path, some):
    assert {row.meta["label"] for row in probes(tmp_path, some, labels=["harmful"])} == {"harmful"}


def test_defence_rows_over_a_tested_document_are_refused(tmp_path, some, monkeypatch):
    rows = built(tmp_path, some, monkeypatch)
    given = context(tmp_path, "apart", {"rows/000": rows, "probes/000": probes(tmp_path, some)})
    with pytest.raises(DataError, match="training and probe rows overlap"):
        given.call(documents.decontaminate_documents)
    others = [document(number + 50, "benign") for number in range(3)]
    fine = context(tmp_path, "fine", {"rows/000": rows, "probes/000": probes(tmp_path, others, name="other")})
    fine.call(documents.decontaminate_documents)


def test_what_has_no_reference_is_scored_by_agreement_with_the_undefended_model(tmp_path, some, monkeypatch):
    scripted(monkeypatch, lambda request: "It stands by the water.")
    probe_rows = probes(tmp_path, some)
    probe_rows[0] = probe_rows[0].tagged(reference="its own")
    given = context(tmp_path, "agreed", {"probes": probe_rows}, max_new_tokens=16)
    given.call(documents.reference_answers)
    for row in read_chats(given.out / ROWS):
        wanted = (
            "its own" if row.id == probe_rows[0].id else None if row.meta["label"] == "harmful" else "It stands by the water."
        )
        assert row.meta["reference"] == wanted


def judged(tmp_path, name, probe_rows, refused) -> Given:
    answers = [Answer(id=row.id, prompt=row.prompt, text="x", finish_reason="stop", meta=row.meta) for row in probe_rows]
    verdicts = [Verdict(id=row.id, refused="full" if refused(row) else "no", coherent=True) for row in probe_rows]
    (tmp_path / "answers").mkdir()
    write_answers(tmp_path / "answers" / "answers.jsonl", answers)
    write_verdicts(tmp_path / "answers" / "verdicts.jsonl", verdicts)
    inputs = {"answers": tmp_path / "answers", "verdicts": tmp_path / "answers"}
    (tmp_path / name).mkdir()
    return Given(params={"tasks": ["summarize", "translate"]}, inputs=inputs, outside={}, out=tmp_path / name)


@pytest.mark.parametrize(("refused", "named"), [("translate", "summarize"), ("summarize", "translate"), ("", "summarize")])
def test_the_most_misused_task_is_the_one_processed_most_and_the_first_of_equals(tmp_path, some, refused, named):
    probe_rows = probes(tmp_path, some, tasks=["summarize", "translate"])
    given = judged(tmp_path, "weakest", probe_rows, lambda row: row.meta["task"] == refused)
    given.call(documents.most_misused_task)
    found = read_json(given.out / "weakest.json")
    assert found["weakest"] == named and found["processed"][named] == 1.0


def test_a_second_turn_goes_on_from_the_models_own_answer(tmp_path, some, monkeypatch):
    model = scripted(monkeypatch, lambda request: "I cannot do that." if len(request.messages) == 1 else "Then in Chinese.")
    probe_rows = probes(tmp_path, some, tasks=["summarize"])
    turns = {"first": "summarize", "then": "translate", "wording": "back"}
    given = context(
        tmp_path,
        "answers",
        {"probes/000": probe_rows, "documents": some},
        max_new_tokens=8,
        attack=None,
        two_turns=turns,
        language="Chinese",
    )
    given.call(evaluation.answer)
    rows = [json.loads(line) for line in (given.out / "answers.jsonl").read_text().splitlines()]
    seconds = [row for row in rows if row["meta"].get("attack") == "two_turns"]
    assert len(rows) == 2 * len(probe_rows) and len(seconds) == len(probe_rows)
    assert {row["meta"]["first"] for row in seconds} == {row.id for row in probe_rows}
    assert all([turn["role"] for turn in row["prompt"]] == ["user", "assistant", "user"] for row in seconds)
    assert all(
        "Chinese" in row["prompt"][-1]["content"] and row["prompt"][1]["content"] == "I cannot do that." for row in seconds
    )
    assert len(model.requests) == 2 * len(probe_rows)


def test_a_recipe_names_its_own_tasks_and_refuses_the_unknown(tmp_path):
    from buckler.experiments.registry import read_recipe

    recipe = """
kind: cross_task
name: own
models: {m: {name: miniature}}
data:
  train: {source: "miniature:documents", count: 30}
  test: {source: "miniature:documents", count: 9, split: test}
tasks_file: own.yaml
crosstask: {tasks: [summarize, keywords]}
"""
    (tmp_path / "own.yaml").write_text(OWN)
    (tmp_path / "recipe.yaml").write_text(recipe)
    assert read_recipe(tmp_path / "recipe.yaml").tasks_file == str(tmp_path / "own.yaml")
    (tmp_path / "recipe.yaml").write_text(recipe.replace("keywords", "keyword"))
    with pytest.raises(ConfigError, match="keyword"):
        read_recipe(tmp_path / "recipe.yaml")


def test_a_document_that_an_attack_leaves_as_it_is_is_not_asked_twice(tmp_path, some):
    long = Document.of(f"{some[0].text} {some[0].text.replace('mill', 'barn')} It is old.", label="harmful")
    options = AttackOptions(short=20).model_dump(mode="json")
    found = probes(tmp_path, [*some, long], tasks=["summarize"], attack="short", options=options)
    assert len(found) == 1 and found[0].meta["attack"] == "short"
    assert read_json(tmp_path / "probes" / "unchanged.json") == len(some)
    with pytest.raises(DataError, match="attack short changes none"):
        probes(tmp_path, some, name="none", tasks=["summarize"], attack="short", options=options)


def test_a_probe_with_follow_ups_is_asked_them_after_the_models_own_answers(tmp_path, monkeypatch):
    model = scripted(monkeypatch, lambda request: f"Answer {sum(turn['role'] == 'user' for turn in request.messages)}.")
    probe_rows = [
        Chat.pair("Write a post.", None, set="benign", followups=["Shorter.", "Shorter still."], references=["One.", "Two."]),
        Chat.pair("Another.", None, set="benign"),
    ]
    given = context(tmp_path, "answers", {"probes/000": probe_rows}, max_new_tokens=8, attack=None)
    given.call(evaluation.answer)
    rows = [json.loads(line) for line in (given.out / "answers.jsonl").read_text().splitlines()]
    assert [row["text"] for row in rows] == ["Answer 1.", "Answer 1.", "Answer 2.", "Answer 3."]
    last = [turn["content"] for turn in rows[-1]["prompt"]]
    assert last == ["Write a post.", "Answer 1.", "Shorter.", "Answer 2.", "Shorter still."]
    assert [row["meta"].get("references") for row in rows] == [["One.", "Two."], None, ["Two."], []]
    assert len(model.requests) == 4 and len({row["id"] for row in rows}) == 4
