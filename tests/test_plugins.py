"""Registries and what holds of every part of a user's own: how it is found, trusted, checked, and recognised once changed."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from commands import call

import buckler
from buckler.data import Answer, Chat, Verdict, write_rows
from buckler.data import read_chats as read_rows
from buckler.errors import ConfigError, DataError
from buckler.evaluation.metrics import METRICS, summarise
from buckler.experiments.registry import experiment_of, read_recipe
from buckler.experiments.results import RunResult
from buckler.finetuning.attacks import ATTACKS, AttackSettings, customization, wrap
from buckler.finetuning.defenses import DefenseSettings, filtered
from buckler.formats import write_chats
from buckler.judges.base import JUDGES, judge_named, of_answers
from buckler.judges.named import judge_spec
from buckler.models.protocol import ModelSpec, Request, spec_of
from buckler.models.registry import identity, load
from buckler.registry import REGISTRIES, Registry, imported, read_from, refuse_code
from buckler.workflow.executor import execute
from buckler.workflow.sources import Source, source_chats
from buckler.workflow.step import in_order
from buckler.workflow.store import Store

PARTS = """
from buckler import Chat
from buckler.data import Verdict
from buckler.formats import Format


def attack(benign, harmful, settings, seed):
    return [Chat.pair(f"Now: {row.query}", row.answer) for row in harmful]


class Dicts:
    def rows(self, benign, harmful, settings, seed):
        return [{"messages": []}]

    def wrap(self, probe):
        return probe.query


class Short:
    name, version = "short", "1"

    def judge(self, answers):
        return [Verdict(id=one.id) for one in answers[1:]]


class Texts(Short):
    def judge(self, answers):
        return ["refused" for one in answers]


class Breaks(Short):
    def judge(self, answers):
        return answers[0].no_such_thing


class Keep:
    def filter(self, rows, settings, seed):
        return rows[:2]


class Invents:
    def filter(self, rows, settings, seed):
        return [Chat.pair("New?", "Yes.")]


class Says:
    def __init__(self, spec):
        pass

    def generate(self, requests):
        return ["text" for request in requests]


def words(answers, verdicts):
    return "many"


def exported(rows):
    return rows


BROKEN = Format(matches=lambda row: True, read=lambda row, where: row)
NUMBER = 7


class Builds:
    def rows(self, texts, refusals, settings, seed):
        return [text.answered(f"With care: {text.answer}") for text in texts]


class Empty:
    def rows(self, texts, refusals, settings, seed):
        return []
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    (tmp_path / "parts.py").write_text(PARTS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    for name in ("parts", "extra_parts", "broken"):
        sys.modules.pop(name, None)


def answers(*texts):
    return [
        Answer(id=str(at), prompt=({"role": "user", "content": "?"},), text=text, finish_reason="stop", meta={"set": "benign"})
        for at, text in enumerate(texts)
    ]


def pairs(count):
    return [Chat.pair(f"Question {at}?", f"Answer {at}.") for at in range(count)]


@pytest.mark.parametrize("kind", REGISTRIES)
def test_every_kind_has_a_registry_whose_own_parts_are_all_there(kind):
    registry = imported(kind, REGISTRIES[kind])
    assert isinstance(registry, Registry) and registry.group.startswith("buckler.")
    assert [registry.is_own(name) for name in registry] == [False] * len(registry.names())
    assert all(registry.get(name) is not None for name in registry)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("explict", r"unknown attack 'explict' \(did you mean 'explicit'\?\); the attacks are explicit, identity, drift"),
        ("no_module:attack", r"no module 'no_module' in .* or among the installed packages"),
        ("parts:atack", r"parts.py has no 'atack'; did you mean 'attack'\?"),
        ("parts:NUMBER", r"attack 'parts:NUMBER' must be a function .*; it is an object of type int"),
        ("broken:attack", r"attack 'broken:attack': broken cannot be imported: ZeroDivisionError: division by zero"),
    ],
)
def test_what_cannot_be_had_is_one_message_that_names_it(folder, name, says):
    (folder / "broken.py").write_text("1 / 0\n")
    with pytest.raises(ConfigError, match=says):
        ATTACKS.get(name)


def test_a_file_of_the_working_folder_does_not_hide_an_installed_package(folder):
    (folder / "yaml.py").write_text("raise SystemExit\n")
    ATTACKS.get("parts:attack")
    assert subprocess.run([sys.executable, "-c", "import sys; sys.path.pop(0); import yaml"], cwd=folder).returncode == 0
    assert sys.path[-1] == str(folder)


def test_a_part_is_registered_under_a_name_that_is_free(monkeypatch):
    monkeypatch.setattr(ATTACKS, "_added", {})
    buckler.register("attack", "mine", lambda benign, harmful, settings, seed: list(benign))
    found = customization(AttackSettings(kind="mine", rows=3), benign=pairs(5), harmful=[], seed=0)
    assert len(found) == 3 and all(row.meta["harmful"] for row in found)
    with pytest.raises(ConfigError, match="'explicit': the name is already taken"):
        buckler.register("attack", "explicit", print)
    with pytest.raises(ConfigError, match="unknown kind of part 'attak'; the kinds are attack"):
        buckler.register("attak", "mine", print)
    with pytest.raises(ConfigError, match="must be a function"):
        buckler.register("attack", "other", 3)


def test_an_attack_of_ones_own_is_mixed_like_the_others():
    settings = AttackSettings(kind="parts:attack", rows=4, share=0.5)
    found = customization(settings, benign=pairs(10), harmful=pairs(10), seed=1)
    assert sum(row.query.startswith("Now: ") for row in found) == 4 and len(found) == 8
    assert found == customization(settings, benign=pairs(10), harmful=pairs(10), seed=1)


def test_options_are_for_parts_of_ones_own():
    assert AttackSettings(kind="parts:attack", options={"a": 1}).model_dump()["options"] == {"a": 1}
    assert "options" not in AttackSettings().model_dump() and "options" not in DefenseSettings(kind="safety").model_dump()
    with pytest.raises(ValueError, match="attack 'drift' has no options"):
        AttackSettings(kind="drift", options={"a": 1})


def test_a_filter_may_only_drop_rows():
    assert [row.query for row in filtered(DefenseSettings(kind="parts:Keep"), pairs(4), seed=0).dropped] == [
        "Question 2?",
        "Question 3?",
    ]
    with pytest.raises(DataError, match=r"'parts:Invents' is a filter.*rows that it was not given"):
        filtered(DefenseSettings(kind="parts:Invents"), pairs(4), seed=0)


@pytest.mark.parametrize(
    ("run", "says"),
    [
        (
            lambda: customization(AttackSettings(kind="parts:Dicts"), benign=[], harmful=[], seed=0),
            "attack 'parts:Dicts' must return a list of Chat from `rows`; one of them is of type dict",
        ),
        (
            lambda: wrap(AttackSettings(kind="parts:Dicts"), Chat.pair("Why?", None)),
            "attack 'parts:Dicts' must return a Chat from `wrap`, got str: 'Why",
        ),
        (lambda: judge_named("parts:Short").judge(answers("a", "b")), "judge 'parts:Short': 1 verdicts on 2 answers"),
        (
            lambda: judge_named("parts:Texts").judge(answers("a")),
            "judge 'parts:Texts' must return a list of Verdict; one of them is of type str",
        ),
        (
            lambda: judge_named("parts:Breaks").judge(answers("a")),
            r"judge 'parts:Breaks' failed: AttributeError: .*no_such_thing.* \(parts.py, line 33\)",
        ),
        (
            lambda: summarise(answers("a"), [Verdict(id="0")], metrics=["parts:words"]),
            "metric 'parts:words' must return a Rate, a Mean, a finite number, or None, got str: 'many'",
        ),
        (
            lambda: load(spec_of("parts:Says")).generate([Request(messages=({"role": "user", "content": "?"},))]),
            "backend 'parts:Says' must return a list of 1 Completion; one of them is of type str",
        ),
        (lambda: write_chats(Path("out"), pairs(1), "parts:exported"), "export format 'parts:exported' must return the text of"),
        (lambda: source_chats(Source(source="parts:BROKEN@rows.jsonl")), r"format 'parts:BROKEN' must return \(turns, meta\)"),
    ],
)
def test_what_a_part_returns_is_checked_and_the_part_is_named(folder, run, says):
    write_rows(folder / "rows.jsonl", pairs(1))
    with pytest.raises((ConfigError, DataError), match=says):
        run()


def test_a_metric_does_not_take_the_name_of_another_number(folder):
    (folder / "extra_parts.py").write_text("def unread(answers, verdicts): return 1\ndef mine(answers, verdicts): return 0.25\n")
    found = summarise(answers("a"), [Verdict(id="0")], metrics=["extra_parts:mine"])
    assert found["overall"]["mine"] == {"value": 0.25, "n": 1, "low": None, "high": None}
    with pytest.raises(ConfigError, match="there is already a number called 'unread'"):
        summarise(answers("a"), [Verdict(id="0")], metrics=["extra_parts:unread"])
    with pytest.raises(ConfigError, match="unknown metric 'mine'; none is installed"):
        METRICS.get("mine")


RECIPE = """
kind: stages
name: own
models: {{model: {{name: miniature}}}}
seeds: [0]
data:
  texts: {{source: "miniature:commonsense", count: 6}}
  customer: {{source: "miniature:customer", count: 12}}
  harmful: {{source: "miniature:harmful", count: 12}}
probes: {{harmful: {{source: "miniature:probes-harmful", count: 4, split: test}}}}
attacks: {{mine: {{kind: "{attack}", rows: 4}}}}
defences: {{kept: {{kind: "{defence}"}}}}
judge: "{judge}"
"""


def recipe(folder, attack="explicit", defence="random_drop", judge="keyword"):
    (folder / "recipe.yaml").write_text(RECIPE.format(attack=attack, defence=defence, judge=judge))
    return folder / "recipe.yaml"


@pytest.mark.parametrize("part", [{"attack": "parts:attack"}, {"defence": "parts:Keep"}, {"judge": "parts:Short"}])
def test_code_that_a_recipe_names_is_run_only_if_it_is_trusted(folder, part):
    path = recipe(folder, **part)
    with pytest.raises(ConfigError, match=r"recipe.yaml.* names; if you trust it, add --trust-code"):
        read_recipe(path)
    assert "parts" not in sys.modules
    assert read_recipe(path, trust_code=True).name == "own"


@pytest.mark.parametrize(
    "text",
    [
        "models: {m: {name: 'parts:Says'}}",
        "models: {m: {name: miniature, trust_remote_code: true}}",
        "metrics: ['parts:words']",
        "probes: {one: {source: 'parts:BROKEN@rows.jsonl'}}",
        "judge: 'keyword,rubric=parts:Says'",
        "kind: 'parts:NUMBER'",
        "curation: {seed_words: 'parts:words'}",
        "data: {texts: {source: rows.jsonl, format: 'parts:BROKEN'}, customer: {source: rows.jsonl}}",
    ],
)
def test_every_place_of_a_recipe_where_code_may_stand_is_guarded(folder, text):
    import yaml

    values = {**yaml.safe_load(recipe(folder).read_text()), **yaml.safe_load(text)}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(ConfigError, match="--trust-code"):
        read_recipe(folder / "recipe.yaml")
    assert "parts" not in sys.modules


def test_code_that_the_user_names_beside_a_recipe_needs_no_trust(folder):
    path = recipe(folder)
    assert read_recipe(path, judge="parts:Short").judge == "parts:Short"
    assert read_recipe(path, model="parts:Says").models["parts:Says"].backend_name == "parts:Says"
    assert read_recipe(path, changes=["attacks.mine.kind=parts:attack"]).name == "own"


@pytest.mark.parametrize(
    "step",
    [
        "evaluate: {model: miniature, probes: [rows.jsonl], judge: 'parts:Short'}",
        "evaluate: {model: miniature, probes: [rows.jsonl], metrics: ['parts:words']}",
        "evaluate: {model: 'parts:Says', probes: [rows.jsonl]}",
        "evaluate: {model: {name: miniature, trust_remote_code: true}, probes: [rows.jsonl]}",
        "attack: {customer: rows.jsonl, attack: {kind: 'parts:attack'}}",
        "judge: {answers: ['@evaluate'], tasks_file: 'parts:NUMBER'}",
        "curate: {texts: rows.jsonl, decontaminate: ['parts:BROKEN@rows.jsonl']}",
        "curate: {texts: rows.jsonl, curation: {decontaminate: ['parts:BROKEN@rows.jsonl']}}",
        "curate: {texts: rows.jsonl, curation: {seed_words: 'parts:words'}}",
        "curate: {texts: 'parts:BROKEN@rows.jsonl'}",
        "curate: {texts: rows.jsonl, reviser: 'parts:Says'}",
        "curate: {texts: rows.jsonl, adapter: 'parts:Says'}",
        "export: {rows: [rows.jsonl], to: 'parts:exported'}",
        "crosstask: {documents: [rows.jsonl], tasks_file: 'parts:NUMBER'}",
        "train: {rows: ['parts:BROKEN@rows.jsonl']}",
        "train: {rows: [rows.jsonl], model: {name: 'parts:reply', backend: scripted}}",
        "evaluate: {model: miniature, probes: ['parts:BROKEN@rows.jsonl']}",
        "evaluate: {model: miniature, probes: [rows.jsonl], judge: 'keyword,rubric=parts:Says'}",
        "judge: {answers: ['@evaluate'], judge_model: 'parts:Says'}",
        "gate: {base: 'parts:Says', tuned: miniature, probes: [rows.jsonl]}",
        "gate: {base: miniature, tuned: 'parts:Says', probes: [rows.jsonl]}",
        "gate: {base: miniature, tuned: miniature, adapter: 'parts:Says', probes: [rows.jsonl]}",
    ],
)
def test_a_pipeline_is_guarded_like_a_recipe(folder, step):
    (folder / "p.yaml").write_text(f"kind: pipeline\nname: own\nsteps:\n  - {step}\n")
    write_rows(folder / "rows.jsonl", pairs(2))
    (folder / "parts.py").write_text(f"open('imported', 'w').close()\n{PARTS}")
    for way in (("--dry-run",), ()):
        status, _, err = call(("run", "p.yaml", *way), folder)
        assert status == 2 and re.search(r"that (p.yaml names; if you trust it|code), add --trust-code", err)
        assert "Traceback" not in err and err.count("\n") == 1
    assert not (folder / "imported").exists()


def test_what_only_looks_like_code_in_a_recipe_is_read():
    names = ["miniature:customer", "owner/name:config@train", "qwen2:latest@http://127.0.0.1:1/v1", "rows.jsonl", "llama3:8b"]
    with read_from("recipe.yaml", trusted=False):
        refuse_code({"sets": names, "model": ModelSpec(name="qwen2:latest", endpoint="http://127.0.0.1:1/v1")})
        with pytest.raises(ConfigError, match=r"sets.0: 'evil:F' is code that recipe.yaml names"):
            refuse_code({"sets": ["a,evil:F@rows.jsonl"]})


def test_code_of_a_recipe_is_refused_wherever_it_is_run_from(folder):
    with (
        read_from("recipe.yaml", trusted=False),
        pytest.raises(ConfigError, match=r"'parts:words' is code that recipe.yaml names"),
    ):
        imported("metric 'parts:words'", "parts:words")
    assert "parts" not in sys.modules


def test_saved_results_run_no_code(folder):
    with pytest.raises(ConfigError, match="--trust-code"), read_from("results.json", trusted=False):
        experiment_of(RunResult.model_validate({"name": "x", "kind": "parts:NUMBER"}).kind)


def test_a_training_needs_weights(folder):
    status, _, err = call(("train", "rows.jsonl", "--model", "parts:Says", "--out", "out"), folder)
    assert status == 2 and "Traceback" not in err


def keys(folder, **parts):
    found = read_recipe(recipe(folder, **parts), trust_code=True)
    return {step.name: step.key for step in in_order(experiment_of(found.kind).plan(found).targets)}


def test_a_changed_part_is_another_step_and_what_does_not_use_it_stays(folder):
    before = keys(folder, attack="parts:attack", defence="parts:Keep", judge="parts:Short")
    assert before == keys(folder, attack="parts:attack", defence="parts:Keep", judge="parts:Short")
    (folder / "parts.py").write_text(PARTS + "\n# another version\n")
    after = keys(folder, attack="parts:attack", defence="parts:Keep", judge="parts:Short")
    unchanged = {name for name in before if before[name] == after[name]}
    assert unchanged == {"draw", "as-probes", "perplexities"}  # the latter of the untouched model
    assert before.keys() - unchanged == {"attack", "decontaminate", "filter-rows", "train", "answer", "judge", "summarise-run"}


def test_a_defence_of_ones_own_builds_rows_and_filters_them_as_steps(folder):
    for kind, name in (("parts:Builds", "own-defence"), ("parts:Keep", "filter-rows")):
        found = read_recipe(recipe(folder, defence=kind), trust_code=True)
        made = next(step for step in in_order(experiment_of(found.kind).plan(found).targets) if step.name == name)
        store = Store(folder / "store")
        assert execute([made], store).failed == []
        rows = read_rows(store.folder(made) / "rows.jsonl")
        if name == "own-defence":
            assert len(rows) == 6 and all((row.answer or "").startswith("With care: ") for row in rows)
        else:
            assert len(rows) == 2
    empty = read_recipe(recipe(folder, defence="parts:Empty"), trust_code=True)
    made = next(step for step in in_order(experiment_of("stages").plan(empty).targets) if step.name == "own-defence")
    assert "defence 'parts:Empty' returned no rows for 6 texts" in execute([made], Store(folder / "store")).failed[0].error


def test_a_changed_backend_or_judge_is_another_one(folder):
    spec, judge = ModelSpec(name="parts:Says"), judge_spec("parts:Short")
    before = identity(spec), judge.code
    (folder / "parts.py").write_text(PARTS + "\n# another version\n")
    assert identity(spec) != before[0] and judge.code != before[1]
    assert judge_spec("keyword").code == {} and judge_spec("keyword,paper").code == {}
    assert list(judge_spec("keyword,parts:Short").code) == ["code"]


def wheel(folder):
    """A wheel by hand: a module, its metadata, its entry points."""
    path = folder / "extra_parts-1.0-py3-none-any.whl"
    info = "extra_parts-1.0.dist-info"
    files = {
        "extra_parts.py": PARTS,
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: extra-parts\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": "[buckler.attacks]\nurgent = extra_parts:attack\n"
        "[buckler.judges]\nhasty = extra_parts:Short\n",
    }
    record = "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in {**files, f"{info}/RECORD": record}.items():
            archive.writestr(name, text)
    return path


@pytest.fixture
def installed(folder, monkeypatch):
    place = folder / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--disable-pip-version-check"]
    done = subprocess.run([*pip, "--target", str(place), str(wheel(folder))], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    monkeypatch.syspath_prepend(str(place))
    return place


def test_parts_of_an_installed_package_have_plain_names_and_need_no_trust(folder, installed):
    assert "urgent" in ATTACKS and "hasty" in JUDGES
    found = customization(AttackSettings(kind="urgent", rows=2), benign=[], harmful=pairs(3), seed=0)
    assert all(row.query.startswith("Now: ") for row in found)
    with pytest.raises(DataError, match="judge 'hasty': 0 verdicts on 1 answers"):
        judge_named("hasty").judge(answers("a"))
    with pytest.raises(ConfigError, match=r"did you mean 'urgent'.*explicit, identity, drift, urgent"):
        ATTACKS.get("urgnt")
    assert read_recipe(recipe(folder, attack="urgent", judge="hasty")).judge == "hasty"
    before = keys(folder, attack="urgent")
    (installed / "extra_parts.py").write_text(PARTS + "\n# version 1.1\n")
    assert keys(folder, attack="urgent")["attack"] != before["attack"]


def test_a_command_takes_parts_of_an_installed_package(folder, installed):
    write_rows(folder / "rows.jsonl", pairs(4))
    status, out, err = call(
        ("attack", "rows.jsonl", "--harmful", "rows.jsonl", "--kind", "urgent", "--rows", "2", "--out", "out"), folder
    )
    assert status == 0, err or out
    assert (folder / "out" / "customer.jsonl").read_text().count("Now: ") == 2


def test_a_verdict_with_a_label_that_there_is_not_names_the_judge():
    class Odd:
        name, version = "odd", "1"

        def judge(self, answers):
            return [Verdict(id=one.id, refused="maybe") for one in answers]

    answer = Answer(id="a", prompt=(), text="Yes.", finish_reason="stop")
    with pytest.raises(
        DataError,
        match="judge 'odd' must return a list of Verdict; in number 1, refused is 'maybe': it must be 'full', 'partial' or 'no'",
    ):
        of_answers(Odd()).judge([answer])
