"""What a user's part returns, raises or lacks: one message that names the part, wherever it is called."""

from __future__ import annotations

import re
import sys

import pytest
from commands import call

from buckler.crosstask.task import Task
from buckler.crosstask.tasks import TASK_REGISTRY, known_tasks, read_tasks
from buckler.data import Chat, Verdict, write_answers, write_rows
from buckler.errors import BucklerError, ConfigError
from buckler.evaluation.metrics import summarise
from buckler.experiments.registry import experiment_of, plan_of, read_recipe
from buckler.finetuning.attacks import AttackSettings, customization, wrap
from buckler.finetuning.defenses import DefenseSettings, defense_rows
from buckler.formats.write import suffix_of
from buckler.judges.base import judge_named, of_answers
from buckler.judges.named import judge_spec
from buckler.models.protocol import ModelSpec, Request, spec_of
from buckler.models.registry import load
from buckler.registry import imported
from buckler.workflow.sources import Source, source_chats

STUDY = """
from buckler.experiments.base import Arm, CommonRecipe, Experiment, Plan
from buckler.workflow.evaluation import evaluation_steps
from buckler.workflow.inputs import ModelRef
from buckler.workflow.sources import Source
from buckler.workflow.rows import probe_set, rows_of


class Study(CommonRecipe):
    kind: str
    probes: Source


def plan(recipe):
    probes = [probe_set(rows_of(recipe.probes), None)]
    how = {{"judge": recipe.judge, "metrics": recipe.metrics, "max_new_tokens": recipe.max_new_tokens}}
    found = {{name: evaluation_steps(ModelRef.outside(spec), probes, title=name, **how) for name, spec in recipe.models.items()}}
    return Plan(arms=[Arm(labels={{"model": name, "seed": 0}}, phases=(), measured=one) for name, one in found.items()])


def nothing(results):
    return []


def fails(*given):
    raise SystemExit(7)


PARTS = {{"kind": "study:EXPERIMENT", "recipe": Study, "plan": plan, "question": "?", "flags": "",
         **dict.fromkeys(["pairs", "claims", "tables", "figures"], nothing)}}
EXPERIMENT = Experiment(**{{**PARTS, {changes}}})
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    for name in ("study", "mine", "beside", "beside.guard"):
        sys.modules.pop(name, None)


def study(folder, changes=""):
    (folder / "study.py").write_text(STUDY.format(changes=changes))
    write_rows(folder / "probes.jsonl", [Chat.pair("How is tea made?", None, set="benign")])
    (folder / "p.yaml").write_text(
        "kind: study:EXPERIMENT\nname: mine\nmodels: {m: {name: miniature}}\nseeds: [0]\n"
        "probes: probes.jsonl\nmax_new_tokens: 4\n"
    )
    return folder / "p.yaml"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ('"plan": lambda recipe: None', "must return a Plan from `plan`, got NoneType"),
        ('"plan": lambda recipe: 1 / 0', "failed: ZeroDivisionError: division by zero"),
        ('"plan": fails', "failed: SystemExit: 7"),
        ('"plan": 3', "failed: TypeError: 'int' object is not callable"),
        ('"plan": lambda recipe: Plan(arms=["x"])', "must return a list of Arm from `plan.arms`; one of them is of type str"),
        ('"plan": lambda recipe: Plan(arms=None)', "must return a list of Arm from `plan.arms`, got NoneType"),
        ('"plan": lambda recipe: Plan(checks=[1])', "must return a list of Step from `plan.checks`"),
        ('"plan": lambda recipe: Plan(figures={"a": 1})', "must return a list of Step from `plan.figures`"),
        ('"kind": "other"', "its `kind` is 'other'; make it the name that recipes give it"),
        ('"recipe": 3', "must return a class derived from CommonRecipe as its `recipe`, got int"),
    ],
)
def test_an_experiment_with_a_wrong_plan_is_one_line_that_names_it(folder, changes, says):
    study(folder, changes)
    status, _, err = call(("run", "p.yaml", "--trust-code", "--dry-run"), folder)
    assert status == 2 and err.startswith("error: experiment 'study:EXPERIMENT'") and says in err and err.count("\n") == 1


def test_a_recipe_class_that_fails_is_named(folder):
    study(folder)
    text = (folder / "study.py").read_text()
    (folder / "study.py").write_text(text.replace("    probes: Source\n", "    probes: Source\n    anchored = 3\n"))
    with pytest.raises(ConfigError, match="experiment 'study:EXPERIMENT'"):
        read_recipe(folder / "p.yaml", trust_code=True)


@pytest.mark.parametrize(
    ("by", "value", "says"),
    [
        (by, value, says)
        for by, item in (("tables", "Table"), ("claims", "Finding"), ("figures", "Sketch"), ("pairs", "Pair"))
        for value, says in (
            ("None", f"must return a list of {item} from `{by}`, got NoneType"),
            ("'yes'", f"must return a list of {item} from `{by}`, got str: 'yes'"),
            ("['x']", f"must return a list of {item} from `{by}`; one of them is of type str"),
            ("iter([1])", f"must return a list of {item} from `{by}`; one of them is of type int"),
            ("1 / 0", "failed: ZeroDivisionError"),
            ("fails(results)", "failed: SystemExit: 7"),
        )
    ]
    + [
        ("phrase_rule", "3", "must return a PhraseRule from `phrase_rule`, got int"),
        ("examples", "[1]", "must return samples by heading from `examples`, got list"),
        ("examples", "{'a': [1]}", "must return a list of SampleResult from `examples`"),
    ],
)
def test_what_an_experiment_shows_is_checked_and_it_is_named(folder, by, value, says):
    study(folder, f'"{by}": lambda results, *more: {value}')
    with pytest.raises(BucklerError) as caught:
        list(getattr(experiment_of("study:EXPERIMENT"), by)({}))
    assert str(caught.value).startswith("experiment 'study:EXPERIMENT'") and says in str(caught.value)


def test_a_table_whose_fields_are_wrong_names_the_experiment(folder):
    wrong = "[__import__('buckler.report.tables').report.tables.Table(title=3, caption='', heads=(), columns=(), rows=())]"
    study(folder, f'"tables": lambda results: {wrong}')
    with pytest.raises(BucklerError, match=r"experiment 'study:EXPERIMENT' must return .* in number 1, title is 3"):
        experiment_of("study:EXPERIMENT").tables({})


def test_a_search_of_an_experiment_is_checked(folder):
    study(folder, '"loop": __import__("buckler.experiments.base").experiments.base.Loop(run=fails, dry_run=fails)')
    loop = experiment_of("study:EXPERIMENT").loop
    with pytest.raises(ConfigError, match="experiment 'study:EXPERIMENT' failed"):
        loop.run(None, None, 1, None)
    with pytest.raises(ConfigError, match="experiment 'study:EXPERIMENT' failed: SystemExit: 7"):
        loop.dry_run(None, None)


def test_a_run_whose_claims_are_wrong_ends_with_one_line(folder):
    study(folder, '"claims": lambda results: "yes"')
    status, _, err = call(("run", "p.yaml", "--trust-code", "--workers", "1", "--store", "store"), folder)
    assert status == 2 and "experiment 'study:EXPERIMENT' must return a list of Finding from `claims`" in err
    assert "Traceback" not in err


def test_a_right_experiment_is_planned(folder):
    assert len(plan_of(read_recipe(study(folder), trust_code=True)).arms) == 1


HEAD = """
from dataclasses import replace

from buckler import Chat
from buckler.data import Verdict
from buckler.evaluation.statistics import Mean
from buckler.formats import Format
from buckler.models.protocol import Completion, Likelihood


class Stop(BaseException):
    pass


def exits(*given, **named):
    raise SystemExit(7)


def stops(*given, **named):
    raise Stop("enough")


def function(value):
    return lambda *given, **named: value


def holding(**methods):
    return type("Part", (), {"name": "mine", "version": "1", "__init__": lambda self, *given: None,
                             **{name: staticmethod(one) for name, one in methods.items()}})


PART = """


def write_part(folder, part):
    sys.modules.pop("mine", None)
    (folder / "mine.py").write_text(f"{HEAD}{part}\n")


def answers():
    from buckler.data import Answer

    return [Answer(id="a", prompt=({"role": "user", "content": "?"},), text="Yes.", finish_reason="stop", meta={"set": "benign"})]


def attacked():
    customization(AttackSettings(kind="mine:PART"), benign=[], harmful=[], seed=0)


def built():
    defense_rows(DefenseSettings(kind="mine:PART"), texts=[], refusals=[], seed=0)


def judged():
    judge_named("mine:PART").judge(answers())


def measured():
    summarise(answers(), [Verdict(id="a")], metrics=["mine:PART"])


def answered():
    load(spec_of("mine:PART")).generate([Request(messages=({"role": "user", "content": "?"},))])


def read():
    source_chats(Source(source="mine:PART@rows.jsonl"))


ROWS = {
    "Chat.pair('a', 'b', x=object())": "meta is {'x': <object object",
    "Chat.pair('a', 'b', **{'x': {1: 2}})": "meta is {'x': {1: 2}}, which JSON cannot hold",
    "Chat.pair('a', 'b', x=float('nan'))": "meta is {'x': nan}, which JSON cannot hold",
    "Chat.pair('a', 'b', x={1})": "meta is {'x': {1}}, which JSON cannot hold",
    "Chat(id='a', messages=({'role': 'user', 'content': 3},))": "messages.0.content is 3",
    "Chat(id='a', messages=({'role': 'robot', 'content': 'a'},))": "messages.0.role is 'robot'",
    "Chat(id='a', messages=())": "attack 'mine:PART'",
    "Chat.pair('a', None)": "in number 1, it has no answer",
}
VERDICTS = {
    "helpful=7.5": "judge 'mine:PART': verdict on a: helpful must be from 0 to 1 or null, got 7.5",
    "helpful=float('nan')": "helpful must be from 0 to 1 or null, got nan",
    "helpful='high'": "helpful must be from 0 to 1 or null, got 'high'",
    "harmful='yes'": "harmful is 'yes': it must be a valid boolean",
    "coherent=3": "coherent is 3",
    "refused=True": "refused is True",
    "reason=None": "reason is None",
}
COMPLETIONS = {
    "text=3": "text is 3: it must be a valid string",
    "text=None": "text is None",
    "finish_reason='end'": "finish_reason is 'end': it must be 'stop', 'length' or 'failed'",
    "tokens='a'": "tokens is 'a': it must be a valid integer",
    "tool_calls=(object(),)": "tool_calls is (<object",
}


@pytest.mark.parametrize(
    ("part", "run", "says"),
    [
        *((f"function([{row}])", attacked, says) for row, says in ROWS.items()),
        *((f"holding(rows=function([{row}]))", built, says.replace("attack", "defence")) for row, says in ROWS.items()),
        *((f"holding(judge=lambda answers: [Verdict(id='a', {field})])", judged, says) for field, says in VERDICTS.items()),
        *(
            (
                f"holding(generate=function([replace(Completion(text='a', finish_reason='stop', tokens=1), {field})]))",
                answered,
                says,
            )
            for field, says in COMPLETIONS.items()
        ),
        *(
            (f"function({value})", measured, "must return a Rate, a Mean, a finite number, or None, got")
            for value in (
                "10**400",
                "-10**400",
                "float('nan')",
                "float('inf')",
                "True",
                "'a'",
                "Mean(value=float('nan'), n=1, low=0, high=1, least=0, most=1)",
            )
        ),
        *(
            (
                f"Format(matches=lambda row: True, read=function(([], {meta})))",
                read,
                "turns and meta that JSON can hold",
            )
            for meta in ("{'x': object()}", "{1: 2}", "{'x': {1: 2}}", "{'x': float('inf')}")
        ),
    ],
)
def test_a_wrong_return_names_the_part(folder, part, run, says):
    write_rows(folder / "rows.jsonl", [Chat.pair("a", "b")])
    write_part(folder, part)
    with pytest.raises(BucklerError) as caught:
        run()
    assert "'mine:PART'" in str(caught.value) and says in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(("fault", "says"), [("exits", "SystemExit: 7"), ("stops", "Stop: enough")])
@pytest.mark.parametrize(
    ("part", "run"),
    [
        ("{}", attacked),
        ("holding(rows={})", built),
        ("holding(judge={})", judged),
        ("holding(__init__={}, judge={})", judged),
        ("holding(generate={})", answered),
        ("{}", measured),
        ("Format(matches=lambda row: True, read={})", read),
    ],
)
def test_a_part_that_exits_does_not_end_the_program(folder, part, run, fault, says):
    write_rows(folder / "rows.jsonl", [Chat.pair("a", "b")])
    write_part(folder, part.replace("{}", fault))
    with pytest.raises(ConfigError, match=f"'mine:PART' failed: {says}"):
        run()


def test_a_module_that_exits_when_it_is_imported_is_named(folder):
    write_part(folder, "exits()")
    with pytest.raises(ConfigError, match="judge 'mine:PART': mine cannot be imported: SystemExit: 7"):
        judged()


def test_an_interrupt_by_the_user_goes_through_a_part(folder):
    write_part(folder, "holding(judge=lambda answers: (_ for _ in ()).throw(KeyboardInterrupt))")
    with pytest.raises(KeyboardInterrupt):
        judged()


def test_a_probe_that_an_attack_wraps_is_checked(folder):
    write_part(folder, "holding(rows=function([]), wrap=function(Chat.pair('a', None, x=object())))")
    with pytest.raises(BucklerError, match=r"attack 'mine:PART' must return a list of Chat from `wrap`; in number 1, meta is"):
        wrap(AttackSettings(kind="mine:PART"), Chat.pair("Why?", None))


def test_a_judge_with_the_name_of_one_of_bucklers_is_named_by_its_class(folder):
    write_part(folder, "holding(judge=exits)\nPART.name = 'keyword'")
    part = imported("judge", "mine:PART")
    with pytest.raises(ConfigError, match="judge 'mine:Part' failed: SystemExit: 7"):
        of_answers(part()).judge(answers())


GUARD = """
from buckler.judges.guards import Guard


def read(reply):
    return (True, "blocked") if reply.startswith("BLOCK") else (None, reply)


GUARD = Guard(name="mine", known_by="mine", template={template}, read=read)
"""


def guard(folder, template, text="{{ messages[0].content }}"):
    place = folder / "beside"
    place.mkdir()
    (place / "__init__.py").write_text("")
    (place / "guard.py").write_text(GUARD.format(template=template))
    (place / "mine.j2").write_text(text)


@pytest.mark.parametrize("own", [False, True])
def test_the_template_of_a_guard_is_found_beside_its_module(folder, own):
    guard(folder, "'mine.j2'")
    model = {"name": "miniature", **({"chat_template": "given.jinja"} if own else {})}
    (found,) = judge_spec("beside.guard:GUARD", ModelSpec.model_validate(model)).models
    assert found.chat_template == ("given.jinja" if own else str(folder / "beside" / "mine.j2"))


def test_an_absolute_template_of_a_guard_is_taken(folder):
    guard(folder, f"'{folder}/beside/mine.j2'")
    assert judge_spec("beside.guard:GUARD", "miniature").models[0].chat_template == str(folder / "beside" / "mine.j2")


@pytest.mark.parametrize(
    ("template", "text", "says"),
    [
        ("'none.j2'", "", r"its template .*beside/none.j2 is no file; it is looked for beside the guard's module"),
        ("3", "", "template is 3: it must be a valid string"),
        ("'mine.j2'", "{% if %}", "mine.j2"),
        ("'mine.j2'", "the same for all", "template"),
    ],
)
def test_a_guard_whose_template_cannot_be_used_is_named(folder, template, text, says):
    guard(folder, template, text)
    write_answers(folder / "answers.jsonl", answers())
    status, _, err = call(
        ("judge", "answers.jsonl", "--judge", "beside.guard:GUARD", "--judge-model", "miniature", "--out", "out"), folder
    )
    assert status == 2 and re.search(f"error: .*(?:guard|judge) 'beside.guard:GUARD'.*{says}", err) and "Traceback" not in err


@pytest.mark.parametrize(
    ("task", "says"),
    [
        ('wordings={"back": "{document} Why?"}, metric="rouge_q"', "`metric`: must be 'rouge_l'"),
        ('wordings={"back": "Why?"}, metric="rouge_l"', "wording back: its user turn must contain {document} exactly once"),
        ('wordings={"back": "{document} {what}?"}, metric="rouge_l"', "wording back: unknown placeholder {what}"),
        ('wordings=3, metric="rouge_l"', "`wordings`: must be keys and values"),
    ],
)
def test_a_task_in_python_is_checked_like_one_in_yaml(folder, task, says):
    (folder / "mine.py").write_text(f"from buckler.crosstask.task import Task\nTASK = Task(id='title', {task})\n")
    with pytest.raises(ConfigError, match=re.escape(f"task 'mine:TASK': {says}")):
        read_tasks("mine:TASK")


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"id": "title", "wordings": {"back": "Why?"}}, "wording back: its user turn must contain {document} exactly once"),
        ({"id": "other", "wordings": {"back": "{document} Why?"}}, "its id is 'other'"),
    ],
)
def test_an_installed_task_is_checked_like_one_in_yaml(monkeypatch, values, says):
    monkeypatch.setattr(TASK_REGISTRY, "_added", {"title": Task(metric="rouge_l", **values)})
    with pytest.raises(ConfigError, match=re.escape(f"task 'title': {says}")):
        known_tasks()


def test_an_attack_class_without_rows_is_one_clear_error(folder):
    (folder / "mine.py").write_text("class Nothing: pass\n")
    with pytest.raises(ConfigError, match=r"attack 'mine:Nothing' must be a function .*; Nothing has no `rows`"):
        customization(AttackSettings(kind="mine:Nothing", rows=1), benign=[], harmful=[], seed=0)


def test_a_turn_that_is_none_names_the_format_that_made_it(folder):
    (folder / "mine.py").write_text(
        "from buckler.formats import Format\n"
        "BOSS = Format(matches=lambda row: True, read=lambda row, where: ([{'role': 'boss', 'content': 'x'}], {}))\n"
    )
    (folder / "rows.jsonl").write_text('{"a": "b"}\n')
    with pytest.raises(BucklerError, match=re.escape("format 'mine:BOSS': rows.jsonl:1: a message needs")):
        source_chats(Source(source="mine:BOSS@rows.jsonl"))


@pytest.mark.parametrize("suffix", ["md", "../x", 3])
def test_a_suffix_that_is_none_names_the_export_format(folder, suffix):
    (folder / "mine.py").write_text(f"def plain(rows): return ''\nplain.suffix = {suffix!r}\n")
    with pytest.raises(ConfigError, match="export format 'mine:plain': its `suffix` must end a file's name"):
        suffix_of("mine:plain")
