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
from buckler.models.fit import require_ready
from buckler.models.loading import open_model
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
    "wants documents": (chatml(before="{{ documents[0].title }}"), "refuses every conversation: "),
    "an unknown function": (chatml(before="{{ today() }}"), "refuses every conversation: 'today' is undefined"),
    "an unknown function in a turn": (chatml("shorten(m.content)", "shorten(m.content)"), "refuses every conversation"),
    "an unknown filter": (
        chatml("m.content | shout", "m.content | shout"),
        "every conversation: No filter named 'shout'",
    ),
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
    "a title": (chatml("m.content | title"), "rewrites answers"),
    "letters exchanged": (chatml("m.content | replace('e', '3')"), "rewrites answers"),
    "blanks exchanged": (chatml("m.content.replace(' ', '_')"), "rewrites answers"),
    "cut": (chatml("m.content[:9]"), "rewrites answers"),
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


@pytest.mark.parametrize("name", ["always raises", "an unknown filter", "no question", "no answer", "capitals", "cut"])
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
    with pytest.raises(BackendError, match=rf"{folder}.*: the chat template .*{reason}"):
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
    for refuses in (require_ready, load):
        with pytest.raises(BackendError, match="rewrites answers"):
            refuses(ModelSpec.model_validate(spec))


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

NOTED = {
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


@pytest.mark.parametrize("name", NOTED)
def test_where_only_a_part_of_a_template_is_wrong_it_is_said_and_questions_are_answered(
    name, tiny, tmp_path, caplog, monkeypatch
):
    monkeypatch.setattr(LOG, "propagate", True)
    text, words = NOTED[name]
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
    (folder / "chat_template.jinja").write_text(NOTED[name][0])
    with pytest.raises(BackendError, match=rf"{folder}/chat_template.jinja: the chat template .*nothing can be trained with it"):
        parse(TrainJob, {"rows": ["nowhere.jsonl"], "model": str(folder)}, "test").run(tmp_path / "out")
    with pytest.raises(BackendError, match="nothing can be trained with it"):
        train(ModelSpec(name=str(folder)), [Chat.pair("Who?", "Anna.")], TrainSettings(epochs=1), tmp_path / "out", seed=0)


REWRITES = {
    "small letters": ("m.content.lower()", "capital letters", "Anna runs it.", "anna runs it."),
    "lines joined": ("m.content.split() | join(' ')", "line breaks, blanks", "Anna\nruns it.", "Anna runs it."),
    "cut late": ("m.content[:50000]", "a long text", "it runs " * 7000, "it runs " * 6250),
    "truncated": (
        "m.content | truncate(60, true)",
        "digits and punctuation, ",
        "Anna runs it, " * 5,
        "Anna runs it, " * 4 + "A...",
    ),
    "as JSON": ("m.content | tojson", "line breaks, ", "Anna\nruns it.", 'Anna\\nruns it."'),
    "escaped": ("'%s' | format(m.content | e)", "quotation marks, markup", "Anna & Berta", "Anna &amp; Berta"),
    "without tags": ("m.content | striptags", "line breaks, ", "Anna <b>runs</b> it.", "Anna runs it."),
    "ASCII": (
        "m.content.encode('ascii', 'ignore').decode()",
        "quotation marks, letters outside ASCII",
        "Ann\u00e1 runs it.",
        "Ann runs it.",
    ),
    "punctuation": ("m.content | replace(';', ',')", "digits and punctuation", "Anna; Berta.", "Anna, Berta."),
}


@pytest.mark.parametrize("name", REWRITES)
def test_answers_of_which_a_template_rewrites_a_part_are_counted_and_a_note_says_of_what_kind(name):
    form, words, answer, learnt = REWRITES[name]
    template = Template(tokenizer_of(chatml(form)), "tiny")
    assert [note for note in template.written.check.notes if note.startswith(f"rewrites answers ({words}")]
    (encoded,), record = encode(template, [Chat.pair("Who runs it?", answer)], Objective(), 1 << 20)
    assert record["answers_rewritten"] == record["answers_learnt"] == 1
    ids = [id_ for id_, mark in zip(encoded.ids, encoded.supervised, strict=True) if mark]
    assert template.tokenizer.decode(ids).removesuffix("<|im_end|>").removeprefix('"') == learnt
    _, plain = encode(template, [Chat.pair("Who runs it?", "it runs")], Objective(), 512)
    assert "answers_rewritten" not in plain


def test_a_training_says_how_many_answers_its_template_rewrites(tiny, tmp_path):
    folder = shutil.copytree(tiny, tmp_path / "model")
    (folder / "chat_template.jinja").write_text(chatml("m.content.lower()"))
    (tmp_path / "rows.jsonl").write_text(
        "".join(json.dumps(Chat.pair("Who?", word).to_json()) + "\n" for word in ("Anna.", "Berta.", "nobody"))
    )
    values = {"rows": [str(tmp_path / "rows.jsonl")], "model": str(folder), "train": {"epochs": 1}}
    result = parse(TrainJob, values, "test").run(tmp_path / "out")
    assert result.record["answers_rewritten"] == 2
    assert any(line.startswith("2 answers are learnt as the chat template writes them") for line in result.lines())


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
    "the marks of training": chatml().replace("{{", "{% generation %}{{", 1).replace("}}{%", "}}{% endgeneration %}{%", 1),
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
