"""One reading of what a model returned: local, served and saved answers get the same verdicts; filters count as such."""

from __future__ import annotations

import json
import re

import pytest
from commands import buckler
from server import Server
from thinking_models import (
    BENIGN,
    BY_HEART,
    EVERY_FORM,
    FORMS,
    HARMFUL,
    ROOM,
    Form,
    as_text,
    in_form,
    learnt_by_heart,
    written_by,
)

from buckler.data import Answer, Chat, Message, read_answers, read_verdicts, write_answers
from buckler.data.answers import answer_from_json
from buckler.data.thinking import FORMS as PATTERNS
from buckler.errors import DataError
from buckler.evaluation.metrics import summarise
from buckler.evaluation.probes import answer_probes
from buckler.judges.base import judge_named, of_answers
from buckler.models.openai_client import ServedLM
from buckler.models.protocol import Completion, ModelSpec, Request, Sampling, ScriptedLM
from buckler.models.registry import CachedLM, load

pytestmark = pytest.mark.ml
JUDGE = judge_named("keyword")
FILTERED = {
    "the field refusal": {
        "finish_reason": "stop",
        "message": {"content": None, "refusal": "I'm sorry, I can't assist with that."},
    },
    "a part refusal": {"finish_reason": "stop", "message": {"content": [{"type": "refusal", "refusal": "I cannot."}]}},
    "content_filter": {"finish_reason": "content_filter", "message": {"content": None}},
    "content_filter, half way": {"finish_reason": "content_filter", "message": {"content": "First, take the"}},
    "refusal": {"finish_reason": "refusal", "message": {"content": ""}},
    "SAFETY": {"finish_reason": "SAFETY", "message": {}},
    "native SAFETY": {"finish_reason": "stop", "native_finish_reason": "SAFETY", "message": {"content": ""}},
    "no message": {"finish_reason": "content_filter"},
    "a marker": {"finish_reason": "stop", "message": {"content": "[CONTENT_FILTERED]"}},
    "an error in the choice": {"error": {"code": 403, "message": "Blocked by content policy: flagged by moderation"}},
    "an error of Azure": (400, {"error": {"code": "content_filter", "innererror": {"code": "ResponsibleAIPolicyViolation"}}}),
    "an error of DashScope": (400, {"error": {"code": "data_inspection_failed", "message": "Output data may be inappropriate"}}),
}
"""What providers send in place of an answer."""


def probes():
    kinds = {**dict.fromkeys(HARMFUL, "harmful"), **dict.fromkeys(BENIGN, "benign")}
    return [Chat.of((Message(role="user", content=question),), set=kind) for question, kind in kinds.items()]


def verdicts_of(answers):
    return [(one.refused, one.harmful, one.coherent, one.reason) for one in JUDGE.judge(answers)]


def remote(server, **settings):
    return ServedLM(ModelSpec(name="m", endpoint=server.url, **settings), wait=0.001)


@pytest.fixture(scope="module")
def learnt(tmp_path_factory):
    return learnt_by_heart(tmp_path_factory.mktemp("thinking") / "learnt")


@pytest.fixture(scope="module")
def ids_written(learnt, tmp_path_factory):
    """By question, what the model writes, with its finish reason: the ids are the same in every form."""
    folder = in_form(learnt, tmp_path_factory.mktemp("ids") / "model", FORMS["tags"])
    return {question: written_by(folder, question) for question in BY_HEART}


def test_every_form_that_is_read_is_one_of_those_tried():
    for opening, closing in PATTERNS:
        tried = [after.strip() for before, after in EVERY_FORM if re.match(opening, before, re.IGNORECASE)]
        assert [one for one in tried if re.match(closing, f"{one}\n", re.IGNORECASE)], opening


def cases():
    """Every form, its marks as plain text and as control tokens; of those that a template may open in its prompt, also that."""
    for before, after in EVERY_FORM:
        yield before, after, False, False
        yield before, after, True, not re.match("/think|Here", before)


@pytest.mark.parametrize(("before", "after", "special", "opened"), cases())
def test_thoughts_in_every_published_form_get_the_same_verdicts_local_served_and_saved(
    before, after, special, opened, learnt, ids_written, tmp_path
):
    folder = in_form(learnt, tmp_path / "model", Form(before=before, after=after, special=special, opened=opened))
    model = load(ModelSpec(name=str(folder)))
    start = opened  # the prompt has written the first of the ids
    written = {question: (as_text(model.tokenizer, ids[start:]), reason) for question, (ids, reason) in ids_written.items()}
    local = answer_probes(model, probes(), Sampling(max_new_tokens=ROOM))
    answered = (*HARMFUL, BENIGN[0])
    assert [(one.thinking, one.text) for one in local[:3]] == [BY_HEART[question] for question in answered]
    wanted = verdicts_of(local)
    assert [one[0] for one in wanted] == ["full", "no", "no", None] and not local[3].text

    def reply(body):
        text, reason = written[body["messages"][-1]["content"]]
        return {"finish_reason": reason, "message": {"content": text}}

    with Server(reply).up() as server:
        by_server = answer_probes(remote(server), probes(), Sampling(max_new_tokens=ROOM))
    write_answers(tmp_path / "new.jsonl", local)
    (tmp_path / "old.jsonl").write_text("".join(json.dumps(row) + "\n" for row in old_rows(written)))
    for answers in (by_server, read_answers(tmp_path / "old.jsonl"), read_answers(tmp_path / "new.jsonl")):
        assert [(one.thinking, one.text) for one in answers[:3]] == [BY_HEART[question] for question in answered]
        assert verdicts_of(answers) == wanted


def old_rows(written):
    """Answers as earlier versions saved them: what was written, as one text."""
    return [
        {"id": one.id, "prompt": list(one.messages), "text": text, "finish": ended, "meta": dict(one.meta)}
        for one, (text, ended) in zip(probes(), written.values(), strict=True)
    ]


@pytest.mark.parametrize("name", list(FORMS))
def test_a_thinking_model_gets_the_same_verdicts_local_served_and_saved(name, learnt, tmp_path):
    form = FORMS[name]
    folder = in_form(learnt, tmp_path / "model", form)
    model = load(ModelSpec(name=str(folder)))
    by_transformers = {question: written_by(folder, question) for question in BY_HEART}
    written = {question: (as_text(model.tokenizer, ids), reason) for question, (ids, reason) in by_transformers.items()}
    local = answer_probes(model, probes(), Sampling(max_new_tokens=ROOM))
    assert [(one.text, one.finish_reason) for one in local] == [
        (BY_HEART[HARMFUL[0]][1], "stop"),
        (BY_HEART[HARMFUL[1]][1], "stop"),
        (BY_HEART[BENIGN[0]][1], "stop"),
        ("", "length"),
    ]
    assert [one.thinking for one in local[:3]] == [BY_HEART[question][0] for question in (*HARMFUL, BENIGN[0])]
    wanted = verdicts_of(local)
    assert [one[0] for one in wanted] == ["full", "no", "no", None]
    assert wanted[3][1:3] == (None, None) and "cut off at the token limit within its thinking" in wanted[3][3]

    def parsed(question, name):
        text, reason = written[question]
        thought, answer = BY_HEART[question] if reason == "stop" else (text.removeprefix(form.before), None)
        return {"role": "assistant", "content": answer, name: thought}

    def in_parts(question):
        message = parsed(question, "thought")
        thought = {"type": "thinking", "thinking": [{"type": "text", "text": message["thought"]}]}
        return {"content": [thought, *({"type": "text", "text": answer} for answer in [message["content"]] if answer)]}

    dialects = {
        "no parser": lambda question: {"content": written[question][0]},
        "reasoning_content": lambda question: parsed(question, "reasoning_content"),
        "reasoning": lambda question: {**parsed(question, "reasoning"), "refusal": None},
        "parts": in_parts,
    }
    for dialect, message in dialects.items():

        def reply(body, message=message):
            question = body["messages"][-1]["content"]
            return {"finish_reason": written[question][1], "message": message(question)}

        with Server(reply).up() as server:
            answers = answer_probes(remote(server), probes(), Sampling(max_new_tokens=ROOM))
        assert verdicts_of(answers) == wanted, dialect
        assert [one.text for one in answers] == [one.text for one in local], dialect

    (tmp_path / "old.jsonl").write_text("".join(json.dumps(row) + "\n" for row in old_rows(written)))
    write_answers(tmp_path / "new.jsonl", local)
    for file in ("old.jsonl", "new.jsonl"):
        done = buckler("judge", tmp_path / file, "--out", tmp_path / f"of {file}")
        assert done.returncode == 0 and "have no text and are unscored; raise max_new_tokens" in done.stdout, done.stderr
        saved = read_verdicts(tmp_path / f"of {file}" / "verdicts.jsonl")
        assert [(one.refused, one.harmful, one.coherent, one.reason) for one in saved] == wanted


def test_an_evaluation_counts_filters_and_refusals_of_the_provider_and_pays_nothing_twice(tmp_path):
    names = list(FILTERED)
    rows = [{"prompt": f"Tell me of {name}.", "set": "harmful"} for name in names]
    rows += [{"prompt": "Who answers?", "set": "harmful"}, {"prompt": "Who runs the bakery?", "set": "benign"}]
    (tmp_path / "probes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def reply(body):
        question = body["messages"][-1]["content"]
        known = {f"Tell me of {name}.": choice for name, choice in FILTERED.items()}
        return known.get(question, "I'm sorry, but I can't help with that." if "Who answers" in question else "Anna runs it.")

    with Server(reply).up() as server:
        argv = ("evaluate", f"m@{server.url}", "--probes", tmp_path / "probes.jsonl", "--out", tmp_path / "out")
        first = buckler(*argv)
        paid = dict(server.calls)
        again = buckler(*argv)
    assert first.returncode == 0 and again.returncode == 0, first.stderr
    assert dict(server.calls) == paid and set(paid.values()) == {1}, "nothing is question twice"
    assert f"{len(names)} of {len(rows)} answers (" in first.stdout and "withheld by the provider" in first.stdout
    overall = json.loads((tmp_path / "out" / "metrics.json").read_text())["overall"]
    assert (overall["refusal_rate_on_harmful"]["hits"], overall["refusal_rate_on_harmful"]["n"]) == (
        len(names) + 1,
        len(names) + 1,
    )
    assert overall["withheld_rate_on_harmful"]["hits"] == len(names)
    assert (overall["own_refusal_rate_on_harmful"]["hits"], overall["own_refusal_rate_on_harmful"]["n"]) == (1, 1)
    assert overall["safety_rate"]["value"] == 1.0 and overall["safe_but_incoherent_rate"]["value"] == 0.0
    assert overall["coherence_rate"]["n"] == 2 and overall["unread"] == 0
    assert "withheld_rate_on_benign" not in overall and sum(overall["withheld_by"].values()) == len(names)
    answers, verdicts = read_answers(tmp_path / "out/answers.jsonl"), read_verdicts(tmp_path / "out/verdicts.jsonl")
    assert all(one.withheld_by for one in answers[: len(names)]) and not any(one.withheld_by for one in answers[len(names) :])
    assert {(one.refused, one.coherent) for one in verdicts[: len(names)]} == {("full", None)}
    assert all(one.reason.startswith("withheld by the provider") for one in verdicts[: len(names)])
    judged = buckler("judge", tmp_path / "out/answers.jsonl", "--judge", "paper", "--out", tmp_path / "paper")
    assert judged.returncode == 0 and "withheld_rate_on_harmful" in judged.stdout
    gated = buckler("gate", "--base", tmp_path / "out", "--tuned", tmp_path / "out", "--out", tmp_path / "gate")
    assert gated.returncode in (0, 3), gated.stderr
    assert f"withheld by the provider, not refused by the model: {len(names)} of base, {len(names)} of tuned" in gated.stdout
    checks = {one["check"]: one for one in json.loads((tmp_path / "gate/gate.json").read_text())["checks"]}
    assert checks["safety"]["withheld"] == {"base": len(names), "tuned": len(names)} and "withheld" not in checks["coherence"]
    assert checks["coherence"]["probes"] == 2


def test_a_conversation_ends_at_an_answer_without_a_text_and_the_turns_not_asked_are_counted(tmp_path):
    chats = [
        Chat.of((Message(role="user", content=f"{name} one?"),), set="benign", followups=[f"{name} two?"])
        for name in ("Filtered", "Refused", "Fine")
    ]
    probes_file = tmp_path / "probes.jsonl"
    probes_file.write_text("".join(json.dumps(chat.to_json()) + "\n" for chat in chats))

    def reply(body):
        question = body["messages"][-1]["content"]
        if "Refused one" in question:
            return FILTERED["the field refusal"]
        return FILTERED["content_filter"] if "Filtered" in question else "Anna runs it."

    with Server(reply).up() as server:
        done = buckler("evaluate", f"m@{server.url}", "--benign", probes_file, "--out", tmp_path / "out")
        questions = [body["messages"][-1]["content"] for body in server.seen]
    assert done.returncode == 0, done.stderr
    assert sorted(questions) == ["Filtered one?", "Fine one?", "Fine two?", "Refused one?", "Refused two?"]
    assert "1 follow-up questions were not asked" in done.stdout


def test_the_files_of_a_run_without_thoughts_and_filters_have_their_old_shape(tmp_path):
    answer = Answer(id="a", prompt=(), text="Anna runs it.", finish_reason="stop", meta={"set": "benign"})
    assert list(answer.to_json()) == ["id", "prompt", "text", "finish", "meta"]
    (verdict,) = JUDGE.judge([answer])
    assert list(verdict.to_json()) == ["id", "refused", "harmful", "coherent", "helpful", "reason"]
    overall = summarise([answer], [verdict])["overall"]
    assert not {name for name in overall if "withheld" in name or "own_" in name or "without" in name}
    lm = CachedLM(ScriptedLM(lambda request: "Yes."), tmp_path / "cache.sqlite")
    lm.generate([Request(messages=(Message(role="user", content="?"),))])
    assert b"thinking" not in (tmp_path / "cache.sqlite").read_bytes()


def test_what_was_withheld_or_thought_comes_back_from_the_cache(tmp_path):
    given = Completion(
        text="",
        finish_reason="stop",
        tokens=3,
        thinking="Hm.",
        tool_calls=({"name": "f", "arguments": {}},),
        withheld_by="SAFETY",
    )

    class Once(ScriptedLM):
        def generate(self, requests):
            return [given for _ in requests]

    request = Request(messages=(Message(role="user", content="?"),))
    lm = CachedLM(Once(lambda request: ""), tmp_path / "cache.sqlite")
    assert lm.generate([request]) == lm.generate([request]) == [given]


def test_thoughts_in_an_old_cache_are_read_as_thoughts(tmp_path):
    lm = CachedLM(ScriptedLM(lambda request: "<think>no?</think>Yes."), tmp_path / "cache.sqlite")
    request = Request(messages=(Message(role="user", content="?"),))
    lm.generate([request])
    (again,) = lm.generate([request])
    assert (again.text, again.thinking) == ("Yes.", "no?")


@pytest.mark.parametrize(
    ("row", "refused", "reason"),
    [
        ({"text": None, "finish": "content_filter"}, "full", "withheld by the provider (content_filter)"),
        ({"text": None, "finish": "stop", "refusal": "I cannot."}, "full", "withheld by the provider (refusal)"),
        ({"text": "[content filtered]", "finish": "stop"}, "full", "withheld by the provider ([content filtered])"),
        (
            {"text": "", "finish": "failed", "error": "HTTP 400: content_filter"},
            "full",
            "withheld by the provider (content_filter)",
        ),
        ({"text": "", "finish": "failed", "error": "HTTP 500"}, None, "no answer came: HTTP 500"),
        ({"text": '<tool_call>{"name": "find", "arguments": {}}</tool_call>', "finish": "stop"}, None, "1 tool call (find)"),
        ({"text": None, "finish": "stop"}, None, "the answer is empty"),
        ({"text": None, "finish": "stop", "reasoning_content": "Hm."}, None, "it ended within its thinking"),
        ({"text": "Yes.", "finish": "stop", "reasoning": "I cannot help with that."}, "no", ""),
        ({"text": "<think>I cannot help", "finish": "length"}, None, "cut off at the token limit within its thinking"),
    ],
)
def test_a_saved_answer_is_read_for_what_it_is(tmp_path, row, refused, reason):
    file = tmp_path / "answers.jsonl"
    file.write_text(json.dumps({"id": "a", "prompt": [], "meta": {}, **row}) + "\n")
    answers = read_answers(file)
    (verdict,) = JUDGE.judge(answers)
    assert verdict.refused == refused and reason in verdict.reason
    write_answers(file, answers)
    assert read_answers(file) == answers, "what was read once is read the same again"


def test_a_text_cut_off_inside_a_thought_that_the_template_opened_is_told_by_the_others():
    texts = {"a": "Hm.\n</think>\n\nI can't help with that.", "b": "So.\n</think>\n\nYes.", "c": "I can't help, or can I"}
    with Server(lambda body: reply_of(texts, body)).up() as server:
        chats = [Chat.of((Message(role="user", content=question),), set="benign") for question in texts]
        answers = answer_probes(remote(server), chats, Sampling(max_new_tokens=9))
    assert [one.text for one in answers] == ["I can't help with that.", "Yes.", ""]
    assert answers[2].thinking == "I can't help, or can I"


def reply_of(texts, body):
    question = body["messages"][-1]["content"]
    return {"finish_reason": "length" if question == "c" else "stop", "message": {"content": texts[question]}}


def test_judges_of_every_kind_are_shown_the_final_text_alone():
    seen = []

    class Own:
        name, version = "own", "1"

        def judge(self, answers):
            seen.extend(answers)
            return JUDGE.judge(answers)

    texts = {"a": "<think>secret</think>Yes.", "b": "<think>secret", "c": '[TOOL_CALLS][{"name": "f", "arguments": {}}]', "d": ""}
    answers = [Answer(id=at, prompt=(), text=text, finish_reason="stop") for at, text in texts.items()]
    verdicts = of_answers(Own()).judge([*answers, Answer(id="e", prompt=(), text="", finish_reason="stop", withheld_by="SAFETY")])
    assert [(one.id, one.text) for one in seen] == [("a", "Yes."), ("d", "")]
    assert [one.refused for one in verdicts] == ["no", None, None, None, "full"]
    assert verdicts[3].coherent is False, "an answer that is plainly empty is noise, as ever"


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({"text": "Yes.", "finish": "tool_calls"}, ("Yes.", "stop", "")),
        ({"text": "Yes.", "finish": None}, ("Yes.", "stop", "")),
        ({"text": "Yes.", "finish": "MAX_TOKENS"}, ("Yes.", "length", "")),
        ({"text": [{"type": "text", "text": "Yes."}], "finish": "end_turn"}, ("Yes.", "stop", "")),
        ({"text": None, "finish": "content_filter"}, ("", "stop", "content_filter")),
    ],
)
def test_a_saved_answer_in_the_words_of_a_provider_is_read_as_a_served_one(fields, found):
    answer = answer_from_json({"id": "a", "prompt": [], **fields}, "f:1")
    assert (answer.text, answer.finish_reason, answer.withheld_by) == found


@pytest.mark.parametrize(("fields", "says"), [({"finish": "stpo"}, "word of a provider"), ({"text": [3]}, "part of the content")])
def test_a_saved_answer_that_is_none_names_its_place(fields, says):
    with pytest.raises(DataError, match=f"f:1: .*{says}"):
        answer_from_json({"id": "a", "prompt": [], "text": "x", "finish": "stop", **fields}, "f:1")
