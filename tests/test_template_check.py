"""A chat template that cannot be asked, or does not write what it is given, is refused at load; what is wrong in part is said."""

from __future__ import annotations

import json
import re
import shutil

import pytest
from templates import AWKWARD, PUBLISHED_NAMES, published, tokenizer_of

from buckler.cli.doctor_model import describe
from buckler.data import Chat
from buckler.errors import BackendError
from buckler.finetuning.batches import encode
from buckler.finetuning.settings import Objective, TrainSettings
from buckler.finetuning.train import train
from buckler.models.chat_template import Template
from buckler.models.loading import open_model
from buckler.models.places import require_answers
from buckler.models.protocol import ModelSpec
from buckler.models.registry import load
from buckler.progress import LOG
from buckler.settings import parse
from buckler.workflow.jobs.customize import TrainJob
from buckler.workflow.jobs.evaluate import EvaluateJob
from buckler.workflow.jobs.gate import GateJob

pytestmark = pytest.mark.ml

ASK = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"


def chatml(answer: str = "m.content", question: str = "m.content", before: str = "") -> str:
    """A template that writes its answers and questions in some way."""
    written = f"({answer}) if m.role == 'assistant' else ({question})"
    return (
        before
        + "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + "
        + f"({written})"
        + " + '<|im_end|>\n' }}{% endfor %}"
        + ASK
    )


REFUSED = {
    "always raises": (chatml(before="{{ raise_exception('never') }}"), "refuses every conversation: never"),
    "wants documents": (chatml(before="{{ documents[0].title }}"), "refuses every conversation: .*documents"),
    "an unknown function": (chatml(before="{{ today() }}"), "refuses every conversation: 'today' is undefined"),
    "an unknown function in a turn": (chatml("shorten(m.content)", "shorten(m.content)"), "refuses every conversation"),
    "an unknown filter": (chatml("m.content | shout"), "refuses every conversation: No filter named 'shout'"),
    "an unknown test": (chatml(before="{% if messages is list_like %}{% endif %}"), "No test named 'list_like'"),
    "no question": (chatml(question="''"), "does not write the question"),
    "another field": (chatml("m.text", "m.text"), "refuses every conversation|does not write the question"),
    "no conversation": ("Answer:", "does not write the question"),
    "no answer": (chatml("''"), "does not write the answer"),
    "questions only": (
        chatml().replace("{% for m in messages %}", "{% for m in messages if m.role == 'user' %}"),
        "the answer it is",
    ),
    "another word for the answer": (chatml("'ok'"), "does not write the answer"),
    "capitals": (chatml("m.content | upper"), "rewrites answers .words"),
    "everything in capitals": (chatml("m.content | upper", "m.content | upper"), "rewrites answers"),
    "small letters": (chatml("m.content.lower()"), r"rewrites answers .capital letters\)"),
    "a title": (chatml("m.content | title"), "rewrites answers"),
    "letters exchanged": (chatml("m.content | replace('e', '3')"), "rewrites answers"),
    "blanks exchanged": (chatml("m.content.replace(' ', '_')"), "rewrites answers"),
    "lines joined": (chatml("m.content.split() | join(' ')"), "rewrites answers .line breaks, blanks"),
    "cut": (chatml("m.content[:9]"), "rewrites answers"),
    "cut late": (chatml("m.content[:50000]"), r"rewrites answers .a long text\)"),
    "truncated": (chatml("m.content | truncate(60)"), "rewrites answers"),
    "as JSON": (chatml("m.content | tojson"), "rewrites answers .*line breaks"),
    "escaped": (chatml("m.content | e"), "rewrites answers .*markup"),
    "without tags": (chatml("m.content | striptags"), "rewrites answers"),
    "ASCII": (chatml("m.content.encode('ascii', 'ignore').decode()"), "rewrites answers .*outside ASCII"),
    "written twice": (chatml("m.content + ' ' + m.content"), "writes an answer twice"),
    "parts in capitals": (
        "{% for m in messages %}<|im_start|>{% for part in m.content %}{{ part.text | upper }}{% endfor %}<|im_end|>{% endfor %}",
        "rewrites answers",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_template_that_does_not_write_what_it_is_given_is_refused(name):
    text, reason = REFUSED[name]
    with pytest.raises(BackendError, match=rf"tiny: the chat template .*{reason}.*--chat-template FILE"):
        Template(tokenizer_of(text), "tiny")


@pytest.mark.parametrize("name", ["always raises", "an unknown filter", "no question", "no answer", "capitals", "cut late"])
@pytest.mark.parametrize("given", [False, True], ids=["in the folder", "given"])
def test_it_is_refused_before_rows_are_read_and_by_doctor_alike_with_its_file(name, given, tiny, tmp_path):
    text, reason = REFUSED[name]
    folder = shutil.copytree(tiny, tmp_path / "model")
    file = tmp_path / "given.jinja" if given else folder / "chat_template.jinja"
    file.write_text(text, encoding="utf-8")
    model = {"name": str(folder), **({"chat_template": str(file)} if given else {})}
    match = rf"{file}: the chat template .*{reason}"
    for kind, rows in ((TrainJob, {"rows": ["nowhere.jsonl"]}), (EvaluateJob, {"probes": ["nowhere.jsonl"]})):
        with pytest.raises(BackendError, match=match):
            parse(kind, {**rows, "model": model}, "test").run(tmp_path / "out")
    with pytest.raises(BackendError, match=match):
        parse(GateJob, {"base": model, "tuned": str(tiny), "probes": ["nowhere.jsonl"]}, "test").run(tmp_path / "out")
    with pytest.raises(BackendError, match=match):
        load(ModelSpec.model_validate(model))
    if not given:
        assert any(str(file) in fault and "chat template" in fault for fault in describe(str(folder)).faults)


@pytest.mark.parametrize("where", ["folder", "tokenizer_config", "adapter", "given"])
def test_a_template_of_a_model_is_refused_wherever_it_stands(where, tiny, tmp_path):
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    folder = shutil.copytree(tiny, tmp_path / "model")
    spec, text = {"name": str(folder)}, REFUSED["capitals"][0]
    if where == "folder":
        (folder / "chat_template.jinja").write_text(text)
    elif where == "tokenizer_config":
        (folder / "chat_template.jinja").unlink(missing_ok=True)
        config = json.loads((folder / "tokenizer_config.json").read_text())
        (folder / "tokenizer_config.json").write_text(json.dumps({**config, "chat_template": text}))
    elif where == "given":
        (tmp_path / "own.jinja").write_text(text)
        spec["chat_template"] = str(tmp_path / "own.jinja")
    else:
        adapted = get_peft_model(
            AutoModelForCausalLM.from_pretrained(folder), LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj"])
        )
        adapted.save_pretrained(tmp_path / "adapter")
        (tmp_path / "adapter" / "chat_template.jinja").write_text(text)
        spec["adapter"] = str(tmp_path / "adapter")
    for refuses in (require_answers, open_and_load):
        with pytest.raises(BackendError, match="rewrites answers"):
            refuses(ModelSpec.model_validate(spec))


def open_and_load(spec):
    load(spec)


def test_a_template_file_that_is_no_template_is_refused_before_rows_are_read(tiny, tmp_path):
    file = tmp_path / "own.jinja"
    for text, reason in (("{% for m in messages %}{{ m.content }", "not a Jinja template"), (" ", "is empty")):
        file.write_text(text)
        model = {"name": str(tiny), "chat_template": str(file)}
        with pytest.raises(BackendError, match=rf"{file}.*{reason}"):
            parse(TrainJob, {"rows": ["nowhere.jsonl"], "model": model}, "test").run(tmp_path / "out")


def test_a_setting_that_the_template_does_not_read_is_refused_before_rows_are_read(tiny, tmp_path):
    model = {"name": str(tiny), "chat_template_kwargs": {"enable_thinkin": False}}
    with pytest.raises(BackendError, match="does not read `enable_thinkin`"):
        parse(TrainJob, {"rows": ["nowhere.jsonl"], "model": model}, "test").run(tmp_path / "out")


# What is only said

SAID = {
    "a filter in a branch": (
        chatml(before="{% if tools %}{{ tools | pretty }}{% endif %}"),
        r"unknown filter `pretty` \(line 1\)",
    ),
    "a function in a branch": (chatml(before="{% if tools %}{{ render(tools) }}{% endif %}"), "unknown function `render`"),
    "one question": (
        chatml(before="{% if messages | length > 2 %}{{ raise_exception('one') }}{% endif %}"),
        "second question: one",
    ),
    "the last question": (
        chatml().replace("in messages %}", "in (messages[-1:] if add_generation_prompt else messages) %}"),
        "leaves earlier turns out",
    ),
    "questions in capitals": (chatml(question="m.content | upper"), "rewrites questions"),
    "no answer last": (
        chatml(before="{% if messages[-1].role == 'assistant' %}{{ raise_exception('ask me') }}{% endif %}"),
        "refuses a conversation that ends with an answer: ask me",
    ),
    "no answer at all": (
        chatml(before="{% for m in messages if m.role == 'assistant' %}{{ raise_exception('no') }}{% endfor %}"),
        "every conversation with an answer: no",
    ),
}


@pytest.mark.parametrize("name", SAID)
def test_where_only_a_part_of_a_template_is_wrong_it_is_said_and_questions_are_answered(
    name, tiny, tmp_path, caplog, monkeypatch
):
    monkeypatch.setattr(LOG, "propagate", True)
    text, words = SAID[name]
    template = Template(tokenizer_of(text), "tiny")
    assert template.prompt([{"role": "user", "content": "Who?"}])
    folder = shutil.copytree(tiny, tmp_path / "model")
    (folder / "chat_template.jinja").write_text(text)
    load(ModelSpec(name=str(folder)))
    assert any(one.levelname == "WARNING" for one in caplog.records) and re.search(words, caplog.text)
    found = describe(str(folder))
    assert not found.faults and re.search(words, str(found.values["of_the_template"]))


@pytest.mark.parametrize("name", ["no answer last", "no answer at all"])
def test_what_cannot_be_trained_under_its_template_is_refused_before_a_row_is_encoded(name, tiny, tmp_path):
    folder = shutil.copytree(tiny, tmp_path / "model")
    (folder / "chat_template.jinja").write_text(SAID[name][0])
    with pytest.raises(BackendError, match="nothing can be trained with it"):
        train(ModelSpec(name=str(folder)), [Chat.pair("Who?", "Anna.")], TrainSettings(epochs=1), tmp_path / "out", seed=0)


def test_answers_that_a_template_rewrites_for_a_word_in_them_are_counted_and_learn_their_end():
    template = Template(tokenizer_of(chatml("m.content | replace('Anna', 'Berta')")), "tiny")
    rows = [Chat.pair("Who runs it?", "Anna runs it."), Chat.pair("Since when?", "Since May.")]
    encoded, record = encode(template, rows, Objective(), 512)
    assert record["answers_rewritten"] == 1 and record["answers_learnt"] == 2
    learnt = [id_ for id_, mark in zip(encoded[0].ids, encoded[0].supervised, strict=True) if mark]
    assert template.tokenizer.decode(learnt) == "Berta runs it.<|im_end|>"
    _, plain = encode(template, rows[1:], Objective(), 512)
    assert "answers_rewritten" not in plain


# What a template may do

MAY = {
    "trims": chatml("m.content | trim"),
    "strips thoughts": chatml("m.content.split('</think>')[-1].lstrip('\n')"),
    "no system role": AWKWARD["no system role"].text,
    "role order": AWKWARD["role order"].text,
    "date": AWKWARD["today's date"].text,
    "its own function where it is there": chatml(before="{% if strftime is defined %}{{ strftime('%d') }}{% endif %}"),
    "a macro": chatml("written(m.content)", before="{% macro written(text) %}{{ text }}{% endmacro %}"),
    "a call block": chatml(before="{% macro box() %}{{ caller() }}{% endmacro %}{% call box() %}-{% endcall %}"),
    "the marks of training": chatml()
    .replace("{{", "{% generation %}{{")
    .replace("}}{% endfor", "}}{% endgeneration %}{% endfor"),
}


@pytest.mark.parametrize("name", MAY)
def test_a_template_with_a_will_of_its_own_is_taken_without_a_word(name):
    assert Template(tokenizer_of(MAY[name]), "tiny").written.check.notes == []


@pytest.mark.parametrize("name", PUBLISHED_NAMES)
def test_nothing_is_said_of_a_published_template(name):
    check = Template(tokenizer_of(published()[name]), name).written.check
    assert check.notes == [] and not check.no_answers


def test_a_template_that_wants_a_system_turn_learns_and_stops_as_others_do():
    wants = "{% if messages[0].role != 'system' %}{{ raise_exception('a system turn first') }}{% endif %}"
    template, plain = (Template(tokenizer_of(text), "tiny") for text in (chatml(before=wants), chatml()))
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Who?"},
        {"role": "assistant", "content": "Anna."},
    ]
    assert template.row(turns) == plain.row(turns) and template.stops == plain.stops
    assert template.written.check.notes == []
    with pytest.raises(BackendError, match="a system turn first"):
        template.prompt(turns[1:2])


def test_an_opened_model_is_checked_with_its_own_special_tokens(tiny, tmp_path):
    folder = shutil.copytree(tiny, tmp_path / "model")
    (folder / "chat_template.jinja").write_text(chatml(before="{{ bos_token + '\n' }}"))
    assert open_model(ModelSpec(name=str(folder))) and load(ModelSpec(name=str(folder)))
