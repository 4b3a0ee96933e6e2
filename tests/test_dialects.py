"""Dialects of OpenAI-compatible servers, over real HTTP: what one refuses, withholds, drips or cannot say, and what it costs."""

from __future__ import annotations

import gzip
import itertools
import json
from collections import Counter

import pytest
from server import Server, Vllm, Whole

from buckler.data import Chat, Message, read_answers, read_json
from buckler.errors import BackendError, ConfigError
from buckler.models import http
from buckler.models.openai_client import ServedLM
from buckler.models.protocol import ModelSpec, Request, Sampling, ScoreRequest, endpoint_of
from buckler.models.registry import CachedLM, load
from buckler.models.reply import read_error
from buckler.models.template_text import tokens_before
from buckler.progress import LOG
from buckler.workflow.jobs.evaluate import EvaluateJob


@pytest.fixture(autouse=True)
def no_key(monkeypatch):
    for name in ("BUCKLER_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(LOG, "propagate", True)  # the command line switches it off


def evaluate(server, tmp_path, count, of="benign"):
    probes = tmp_path / "probes.jsonl"
    probes.write_text("".join(json.dumps({"prompt": f"question {at}", "set": of}) + "\n" for at in range(count)))
    job = EvaluateJob(model=ModelSpec(name="m", endpoint=server.url), probes=[str(probes)])
    return job.run(tmp_path / "out")


def requests(count=30, system=None, **sampling):
    turns = [Message(role="system", content=system)] if system else []
    sampling = Sampling(**sampling)
    return [Request(messages=(*turns, Message(role="user", content=f"text {at}")), sampling=sampling) for at in range(count)]


def remote(server, wait=0.001, **settings):
    return ServedLM(ModelSpec(name="m", endpoint=server.url, **settings), wait=wait)


def openai_error(message, param=None, code=None, status=400):
    return status, {"error": {"message": message, "type": "invalid_request_error", "param": param, "code": code}}


# Settings that a server does not take. Each is a way in which some server refuses, given the name of the setting.


def camel(name):
    first, *others = name.split("_")
    return first + "".join(map(str.title, others))


def handed_on(name):
    raw = json.dumps({"error": {"message": f"no {name}!"}})
    return 400, {"error": {"message": "Provider returned error", "code": 400, "metadata": {"raw": raw}}}


def forbidden(name):
    return 422, {"detail": [{"type": "extra_forbidden", "loc": ["body", name], "msg": "Extra inputs", "input": {}}]}


def unknown(name):
    return 400, [{"error": {"code": 400, "message": f'Invalid JSON: Unknown name "{name}": Cannot find field.'}}]


WORDINGS = {
    "OpenAI": lambda name: openai_error(f"Unsupported parameter: '{name}' is not supported with this model.", name),
    "OpenAI, without a field": lambda name: openai_error(f"Unsupported value: '{name}' does not support 0 with this model."),
    "FastAPI": forbidden,
    "Google": unknown,
    "plain": lambda name: (400, f"{name.replace('_', ' ')} not permitted"),
    "camel": lambda name: (400, {"message": f"{camel(name)} unknown"}),
    "within 200": lambda name: (200, {"error": {"message": f"{name} is not available here", "code": 400}}),
    "within 200, flat": lambda name: (200, {"success": False, "errors": [{"message": f"no {name}"}]}),
    "handed on": handed_on,
}


def choosy(refused, wording):
    """A server that takes none of these settings, and says so of one at a time."""
    return lambda body: next((wording(name) for name in refused if name in body), None)


@pytest.mark.parametrize("wording", WORDINGS)
@pytest.mark.parametrize("refused", [("max_tokens",), ("temperature", "seed"), ("seed", "top_p", "max_tokens", "temperature")])
def test_refused_settings_are_renamed_or_left_out_once_and_nothing_is_paid_twice(wording, refused, caplog):
    with Server(refuses=choosy(refused, WORDINGS[wording])).up() as server:
        lm = remote(server, concurrency=4)
        assert [one.text for one in lm.generate(requests())] == [f"TEXT {at}" for at in range(30)]
        assert len(server.refused) <= 4 + len(refused), "each refusal is met once, or once a call under way"
        before = len(server.refused)
        lm.generate(requests(40))
        assert len(server.refused) == before, "what was found out is remembered"
    counts = Counter(body["messages"][-1]["content"] for body in server.seen)
    assert set(counts.values()) == {1, 2}, "text 0 to 29 in both batches"
    sent = server.seen[-1]
    assert not set(refused) & set(sent)
    assert sent["max_completion_tokens" if "max_tokens" in refused else "max_tokens"] == 128
    record = lm.record()
    assert set(record["left_out"]) == set(refused) - {"max_tokens"} and ("max_tokens" in record["renamed"]) == (
        "max_tokens" in refused
    )
    for name in record["left_out"]:
        assert f"{name} is refused" in caplog.text, "what is not sent is said"


def test_of_two_settings_refused_together_the_one_that_changes_nothing_is_left_out():
    def refuses(body):
        return openai_error("`temperature` and `top_p` cannot both be given") if {"temperature", "top_p"} <= set(body) else None

    with Server(refuses=refuses).up() as server:
        lm = remote(server)
        lm.generate(requests(3, temperature=0.7))
        assert server.seen[-1]["temperature"] == 0.7 and list(lm.record()["left_out"]) == ["top_p"]


def test_a_refusal_that_always_lists_the_same_settings_is_met_by_the_fewest_changes():
    words = "temperature, top_p and n are fixed at 1 with this model (request id: 7f3a-{})"
    for refused, left_out in (({"temperature"}, {"temperature"}), ({"temperature", "top_p"}, {"temperature", "top_p"})):
        calls = itertools.count()

        def refuses(body, refused=refused, calls=calls):
            return openai_error(words.format(next(calls))) if refused & set(body) else None

        with Server(refuses=refuses).up() as server:
            lm = remote(server, concurrency=1)
            assert lm.generate(requests(5, temperature=0.5, top_p=0.9))[4].text == "TEXT 4"
            assert set(lm.record()["left_out"]) == left_out and len(server.refused) <= 3


def test_a_refusal_of_one_request_teaches_nothing():
    calls = itertools.count()

    def refuses(body):
        if body["messages"][-1]["content"] == "text 3":
            ids = f"{next(calls)}-of-4711"
            return openai_error(f"max_tokens is too large: 9000 with the seed words of your temperature report (id {ids})")
        return None

    with Server(refuses=refuses).up() as server:
        lm = remote(server)
        given = lm.generate(requests(8))
        assert [one.finish_reason for one in given].count("failed") == 1 and "too large" in given[3].error
        assert lm.record() == {"can_score": False, "renamed": {}, "left_out": {}}
    assert all({"max_tokens", "seed", "temperature"} <= set(body) for body in server.seen)


def test_words_of_the_request_in_an_error_are_not_settings():
    details = read_error({"error": {"message": "cannot answer 'Which temperature has a seed?' in this mode"}})
    assert details.settings({"temperature": 0, "seed": 1}, ["Which temperature has a seed?"]) == []
    echo = {"detail": [{"loc": ["body", "messages", 0], "msg": "bad role", "input": {"temperature": 0, "content": "seed"}}]}
    assert read_error(echo).settings({"temperature": 0, "seed": 1}) == [] and "seed" not in read_error(echo).text


def test_a_length_limit_is_never_dropped():
    with Server(refuses=choosy(("max_tokens", "max_completion_tokens"), WORDINGS["OpenAI"])).up() as server:
        with pytest.raises(BackendError, match="Unsupported parameter: 'max_tokens'"):
            remote(server).generate(requests(40))
    assert not server.seen


def test_a_system_turn_is_merged_once_for_all():
    def refuses(body):
        return openai_error("System role not supported") if body["messages"][0]["role"] == "system" else None

    with Server(refuses=refuses).up() as server:
        lm = remote(server, concurrency=2)
        assert lm.generate(requests(20, system="be kind"))[7].text == "BE KIND\n\nTEXT 7"
    assert len(server.refused) <= 2 and lm.record()["merges_system"] is True


def test_the_dialect_stands_in_the_record_of_a_run_and_the_run_made_again_pays_nothing(tmp_path, caplog):
    with Server(refuses=choosy(("max_tokens", "temperature", "seed"), WORDINGS["OpenAI"])).up() as server:
        written = evaluate(server, tmp_path, 3).written
        evaluate(server, tmp_path, 3)
        assert set(server.paid.values()) == {1} and len(server.paid) == 3
    assert tmp_path / "out" / "servers.json" in written
    record = read_json(tmp_path / "out" / "servers.json")[f"m@{server.url}"]
    assert set(record["left_out"]) == {"temperature", "seed"} and record["renamed"] == {"max_tokens": "max_completion_tokens"}
    assert "temperature is refused" in caplog.text


# Refusals that come as errors of the server's side

BROKEN_BY = {
    "Python": lambda name: (500, {"error": {"message": f"create() got an unexpected keyword argument '{name}'"}}),
    "Python, as a text": lambda name: (500, f"TypeError: {name}"),
    "FastAPI": lambda name: (500, forbidden(name)[1]),
    "plain": lambda name: (500, {"error": f"{name.replace('_', ' ')} not permitted"}),
    "not implemented": lambda name: (501, {"error": {"message": f"{name} is not implemented"}}),
    "a gateway": lambda name: (502, {"error": {"message": f"upstream: {camel(name)} unknown", "code": 502}}),
    "within 200": lambda name: (200, {"error": {"message": f"{name} is not available here", "code": 500}}),
    "a field": lambda name: (503, {"error": {"message": "invalid request", "param": name}}),
}


@pytest.mark.parametrize("wording", BROKEN_BY)
@pytest.mark.parametrize("refused", [("seed",), ("max_tokens", "temperature"), ("seed", "top_p", "max_tokens", "temperature")])
def test_a_server_that_breaks_at_a_setting_is_asked_without_it(wording, refused):
    with Server(refuses=choosy(refused, BROKEN_BY[wording])).up() as server:
        lm = remote(server, wait=60.0, concurrency=4)
        assert [one.text for one in lm.generate(requests(12))] == [f"TEXT {at}" for at in range(12)]
        assert len(server.refused) <= 4 + len(refused)
        lm.generate(requests(3))
        assert len(server.refused) <= 4 + len(refused), "what was found out is remembered"
    assert set(lm.record()["left_out"]) == set(refused) - {"max_tokens"}
    assert set(server.paid.values()) <= {1, 2} and not set(refused) & set(server.seen[-1])


ROLES = {
    "llama.cpp": (500, {"error": {"code": 500, "message": "Jinja Exception: System role not supported", "type": "server_error"}}),
    "alternating": (500, {"error": {"message": "Conversation roles must alternate user/assistant/user/assistant/..."}}),
    "two roles": (500, "Only user and assistant roles are supported!"),
    "a template": (500, {"error": "Error rendering prompt with jinja template: unexpected"}),
    "not implemented": (501, {"detail": "system messages are not implemented"}),
    "Google": (502, [{"error": {"code": 502, "message": "Developer instruction is not enabled for this model"}}]),
    "within 200": (200, {"error": {"code": 500, "message": "Unexpected message role."}}),
}


@pytest.mark.parametrize("words", ROLES)
def test_a_template_that_breaks_at_a_system_turn_is_given_it_before_the_question(words):
    def refuses(body):
        return ROLES[words] if body["messages"][0]["role"] == "system" else None

    with Server(refuses=refuses).up() as server:
        lm = remote(server, wait=60.0, concurrency=2)
        assert lm.generate(requests(8, system="be kind"))[7].text == "BE KIND\n\nTEXT 7"
    assert len(server.refused) <= 3 and lm.record()["merges_system"] is True and lm.record()["left_out"] == {}


def test_a_setting_and_a_system_turn_that_both_break_a_server_are_both_found():
    def refuses(body):
        return choosy(("seed",), BROKEN_BY["Python"])(body) or (
            ROLES["llama.cpp"] if body["messages"][0]["role"] == "system" else None
        )

    with Server(refuses=refuses).up() as server:
        lm = remote(server, wait=60.0, concurrency=1)
        assert lm.generate(requests(3, system="be kind"))[2].text == "BE KIND\n\nTEXT 2"
    assert lm.record()["merges_system"] is True and list(lm.record()["left_out"]) == ["seed"]


@pytest.mark.parametrize("words", ["Bad request", "", "maximum context length is 4096 tokens", "invalid JSON body"])
def test_a_refusal_that_passes_does_not_move_the_system_turn(words):
    fate = iter([True])

    def refuses(body):
        return openai_error(words) if next(fate, False) else None

    with Server(refuses=refuses).up() as server:
        lm = remote(server, concurrency=1)
        lm.generate(requests(6, system="be kind"))
        assert all(body["messages"][0]["role"] == "system" for body in server.seen)
    assert lm.record() == {"can_score": False, "renamed": {}, "left_out": {}}


@pytest.mark.parametrize("words", ["This model's maximum context length is 4096 tokens", "prompt too long", "seed: no"])
def test_a_refusal_that_names_something_else_does_not_move_the_system_turn(words):
    def refuses(body):
        return openai_error(words) if body["messages"][0] == {"role": "system", "content": "be kind"} else None

    with Server(refuses=refuses).up() as server:
        lm = remote(server, concurrency=1)
        with pytest.raises(BackendError, match=words):
            lm.generate(requests(3, system="be kind"))
    assert "merges_system" not in lm.record() and not server.seen


@pytest.mark.parametrize("words", ["Bad request", "", "invalid request body"])
def test_a_system_turn_that_is_refused_again_without_a_reason_is_merged(words):
    def refuses(body):
        return openai_error(words) if body["messages"][0]["role"] == "system" else None

    with Server(refuses=refuses).up() as server:
        lm = remote(server, concurrency=1)
        assert lm.generate(requests(3, system="be kind"))[2].text == "BE KIND\n\nTEXT 2"
    assert lm.record()["merges_system"] is True and len(server.refused) == 2


NOT_ABOUT_THE_FORM = {
    "nothing": "internal server error",
    "a setting": "GPU temperature sensor failed",
    "the request": "cannot serve 'text {}'",
    "memory": "CUDA out of memory: reduce max_tokens or try again",
    "a busy one": "seed node is overloaded, try again later",
    "a system": "the file system is full",
    "the role": "the system role cannot be loaded",
}


@pytest.mark.parametrize("words", NOT_ABOUT_THE_FORM)
@pytest.mark.parametrize("status", [500, 503])
def test_an_error_of_the_server_itself_is_asked_again_and_teaches_nothing(words, status):
    tries = Counter()

    def reply(body):
        text = body["messages"][-1]["content"]
        tries[text] += 1
        broken = (status, {"error": {"message": NOT_ABOUT_THE_FORM[words].format(text[-1])}})
        return broken if tries[text] <= 1 + (text == "text 4") * 5 else "fine"

    with Server(reply).up() as server:
        lm = remote(server, concurrency=1)
        assert {one.text for one in lm.generate(requests(6, system="be kind"))} == {"fine"}
    assert lm.record() == {"can_score": False, "renamed": {}, "left_out": {}}


@pytest.mark.parametrize("words", NOT_ABOUT_THE_FORM)
def test_a_server_that_stays_broken_ends_the_run_after_its_retries(words):
    broken = (500, {"error": {"message": NOT_ABOUT_THE_FORM[words]}})
    with Server(lambda body: broken).up() as server:
        with pytest.raises(BackendError, match="HTTP 500"):
            remote(server, concurrency=1, retries=3).generate(requests(2, system="be kind"))
    counts = Counter(body["messages"][-1]["content"] for body in server.seen if body["messages"][0]["role"] == "system")
    assert min(counts.values()) >= 4, "one try and three more"


# Azure, and servers that lack a path


def test_an_api_version_goes_with_every_call_and_the_key_in_azures_header(monkeypatch):
    monkeypatch.setenv("BUCKLER_API_KEY", "very-secret")
    routes = {"/openai/deployments/m/models": (404, {"error": {"code": "404", "message": "Resource not found"}})}
    with Server(routes=routes).up() as server:
        base = server.url.removesuffix("/v1") + "/openai/deployments/m"
        lm = load(ModelSpec(name="m", endpoint=f"{base}/?api-version=2024-10-21"))
        assert lm.generate(requests(2))[1].text == "TEXT 1"
    assert all(path.endswith("?api-version=2024-10-21") for path in server.paths)
    assert "/openai/deployments/m/chat/completions?api-version=2024-10-21" in server.paths
    assert {headers.get("api-key") for headers in server.headers} == {"very-secret"}


def test_an_endpoint_may_carry_a_version_and_no_other_query():
    assert endpoint_of("https://a/openai/?api-version=2024-10-21-preview") == "https://a/openai?api-version=2024-10-21-preview"
    for query in ("api-key=x", "api-version=1&key=2", "api-version=", "code=abc"):
        with pytest.raises(ConfigError, match="not a base URL"):
            endpoint_of(f"https://a/v1?{query}")


NO_TOKENIZER = {
    "LM Studio": (200, {"error": "Unexpected endpoint or method. (POST /tokenize). Returning 200 anyway"}),
    "TGI": (422, {"detail": [{"loc": ["body", "inputs"], "msg": "field required"}]}),
    "llama.cpp": (200, {"tokens": []}),
    "a list": (200, [{"id": 1, "text": "one"}]),
    "a page": (200, "<!DOCTYPE html><html>home</html>"),
    "an empty reply": (200, ""),
    "a broken one": (500, {"error": {"message": "no such route"}}),
    "not allowed": (405, "Method Not Allowed"),
    "forbidden": (403, {"message": "not on your plan"}),
}
NO_LIST = {
    "absent": (404, {"detail": "Not Found"}),
    "not allowed": (405, ""),
    "forbidden": (403, {"error": "no"}),
    "a page": (200, "<html></html>"),
    "an error": (200, {"error": {"message": "no list", "code": 404}}),
    "null": (200, "null"),
}


@pytest.mark.parametrize("tokenize", NO_TOKENIZER)
def test_a_server_without_a_tokenizer_answers_and_does_not_score(tokenize):
    with Server(routes={"/tokenize": NO_TOKENIZER[tokenize]}).up() as server:
        lm = remote(server)
        assert not lm.can_score and lm.generate(requests(2))[1].text == "TEXT 1"
    assert len(server.seen) == 2


@pytest.mark.parametrize("models", NO_LIST)
def test_a_server_without_a_list_of_models_answers(models):
    with Server(routes={"/v1/models": NO_LIST[models]}).up() as server:
        assert remote(server).generate(requests(1))[0].text == "TEXT 0"


# Content


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"content": [{"type": "text", "text": "one "}, {"type": "text", "text": "two"}]}, "one two"),
        ({"content": {"type": "text", "text": "one"}}, "one"),
        ({"content": None, "reasoning_content": "hm"}, ""),
        ({"content": "</think>\n\none", "reasoning": "hm"}, "one"),
        ({"content": "<think>hm</think>one", "reasoning_content": "hm"}, "one"),
        ({"content": "one, and </think> is a mark", "reasoning_content": "hm"}, "one, and </think> is a mark"),
        ({"content": "one", "refusal": None, "tool_calls": None}, "one"),
    ],
)
def test_content_in_parts_or_null_is_read(message, text):
    with Server(lambda body: {"finish_reason": "stop", "message": message}).up() as server:
        given = remote(server).generate(requests(3))
    assert {one.text for one in given} == {text} and {one.finish_reason for one in given} == {"stop"}


def test_tools_calls_and_results_are_sent_in_the_form_of_the_api():
    tool = {"type": "function", "function": {"name": "owner", "parameters": {"type": "object"}}}
    call = {"id": "c1", "type": "function", "function": {"name": "owner", "arguments": {"of": "the mill"}}}
    turns = [
        {"role": "user", "content": "Who runs it?", "tools": [tool]},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "Anna", "tool_call_id": "c1"},
    ]
    with Server(lambda body: "Anna.").up() as server:
        given = remote(server).generate([Request(messages=Chat.of(turns).messages)])
    assert given[0].text == "Anna." and server.seen[0]["tools"] == [tool]
    messages = server.seen[0]["messages"]
    assert messages[0] == {"role": "user", "content": "Who runs it?"} and messages[2] == turns[2]
    assert json.loads(messages[1]["tool_calls"][0]["function"]["arguments"]) == {"of": "the mill"}


# What a provider withholds is an answer

AZURE = {"code": "ResponsibleAIPolicyViolation", "content_filter_result": {"violence": {"filtered": True, "severity": "high"}}}
MODERATED = {"reasons": ["violence"], "flagged_input": "text"}
FILTERS = {
    "a filter's finish": {"finish_reason": "content_filter", "message": {"content": ""}},
    "a filter's finish without a message": {"finish_reason": "content_filter"},
    "a refusal field": {"finish_reason": "stop", "message": {"content": None, "refusal": "I'm sorry, I can't help with that."}},
    "Azure": (400, {"error": {"message": "It was filtered", "param": "prompt", "code": "content_filter", "innererror": AZURE}}),
    "OpenAI": openai_error("Your request was rejected as a result of our safety system.", code="content_policy_violation"),
    "OpenRouter": (403, {"error": {"code": 403, "message": "your input was flagged", "metadata": MODERATED}}),
    "within 200": (200, {"error": {"code": 400, "message": "blocked: prohibited_content"}}),
    "DashScope": (400, {"code": "data_inspection_failed", "message": "Input data may contain inappropriate content."}),
}


@pytest.mark.parametrize("how", FILTERS)
def test_a_withheld_answer_is_a_refusal_of_the_provider_and_evaluation_ends(how, tmp_path):
    def reply(body):
        held = int(body["messages"][-1]["content"].split()[1]) % 2
        return FILTERS[how] if held else "Sure: first take the soup, then add salt to it and stir."

    with Server(reply).up() as server:
        numbers = evaluate(server, tmp_path, 20, of="harmful").numbers()
    assert len(server.seen) == 20, "asked once, never again"
    answers = read_answers(tmp_path / "out" / "answers.jsonl")
    assert sum(bool(one.withheld_by) for one in answers) == 10 and not [one for one in answers if one.error]
    overall = numbers["metrics"]["overall"]
    assert overall["withheld_rate_on_harmful"]["hits"] == overall["refusal_rate_on_harmful"]["hits"] == 10


def test_an_account_that_is_flagged_is_no_filter():
    suspended = (403, {"error": {"message": "Your account was flagged for violating our usage policies"}})
    with Server(lambda body: suspended).up() as server:
        with pytest.raises(BackendError, match="Your account was flagged"):
            remote(server, concurrency=2).generate(requests())
    assert len(server.seen) <= 2


# What ends a run, and what it may cost

UNREADABLE = {
    "no choices": Whole(id="x", object="chat.completion"),
    "empty choices": Whole(choices=[]),
    "another API": Whole(output=[{"content": "hello from another API"}]),
    "a page": (200, "<html>Please log in at the portal</html>"),
    "a text": (200, "upstream details hello"),
    "a list": (200, ["hello"]),
    "nothing": (200, ""),
    "a number as content": {"finish_reason": "stop", "message": {"content": 7}},
    "no message": {"finish_reason": "stop", "delta": {"content": "x"}},
    "a list without an end": (200, "[" * 200_000),
    "a deep list": (200, "[" * 300 + "]" * 300),
    "a deep error": (200, '{"error":' * 3000 + "1" + "}" * 3000),
    "deep content": {"finish_reason": "stop", "message": {"content": json.loads("[" * 300 + "]" * 300)}},
    "deep and broken": (200, '{"choices":' * 5000),
    "no gzip": (200, "plainly not packed", {"Content-Encoding": "gzip"}),
    "no deflate": (200, "plainly not packed", {"Content-Encoding": "deflate"}),
    "half a gzip": (200, gzip.compress(json.dumps({"choices": []}).encode())[:20], {"Content-Encoding": "gzip"}),
    "a broken gzip": (200, gzip.compress(b"[]")[:-8] + b"eight---", {"Content-Encoding": "gzip"}),
    "an unknown coding": (200, b"\x00\xff", {"Content-Encoding": "own"}),
    "no UTF-8": (200, '{"choices": "caf\xe9"}'.encode("latin-1")),
    "a number of 6000 digits": (200, '{"choices": ' + "9" * 6000 + "}"),
}


@pytest.mark.parametrize("kind", UNREADABLE)
def test_an_unreadable_reply_ends_the_run_after_one_paid_call_for_each_under_way(kind, tmp_path):
    with Server(lambda body: UNREADABLE[kind]).up() as server:
        lm = CachedLM(remote(server, concurrency=4), tmp_path / "cache.sqlite")
        with pytest.raises(BackendError, match="unreadable reply") as fault:
            lm.generate(requests(200))
        assert sum(server.calls.values()) <= 4 and max(server.calls.values()) == 1
    words = {"another API": "hello from another API", "a page": "Please log in", "a text": "upstream details hello"}
    assert words.get(kind, "") in str(fault.value)


DEEP = '{"error":' * 3000 + "1" + "}" * 3000
DEEP_ERRORS = {
    "an error": (400, DEEP),
    "a list": (400, "[" * 200_000),
    "400 levels": (400, '{"error":' * 400 + '"no"' + "}" * 400),
    "handed on": (400, {"error": {"message": "Provider returned error", "metadata": {"raw": DEEP}}}),
    "of the server": (500, DEEP),
    "not packed": (400, "plainly not packed", {"Content-Encoding": "gzip"}),
}


@pytest.mark.parametrize("kind", DEEP_ERRORS)
def test_an_error_that_cannot_be_read_is_one_clear_line(kind):
    with Server(lambda body: DEEP_ERRORS[kind]).up() as server:
        with pytest.raises(BackendError, match=r"HTTP [45]00") as fault:
            remote(server, retries=1).generate(requests(3))
    assert len(str(fault.value)) < 1000


def test_a_busy_gateway_whose_page_cannot_be_unpacked_is_asked_again():
    tries = itertools.count()
    page = (503, "plainly not packed", {"Content-Encoding": "gzip"})
    with Server(lambda body: page if next(tries) < 2 else "fine").up() as server:
        assert {one.text for one in remote(server).generate(requests(3))} == {"fine"}


@pytest.mark.parametrize("route", ["/v1/models", "/tokenize"])
def test_what_cannot_be_read_when_a_model_is_loaded_is_as_good_as_absent(route):
    for reply in ((200, "[" * 200_000), (400, DEEP), (200, '{"tokens": [1e999]}')):
        with Server(routes={route: reply}).up() as server:
            lm = remote(server)
            assert not lm.can_score and lm.generate(requests(1))[0].text == "TEXT 0"


@pytest.mark.parametrize("depth", [400, 200_000])
def test_arguments_of_a_tool_call_that_are_nested_without_end_stay_text(depth):
    deep = "[" * depth + "]" * depth
    calls = [{"id": "1", "type": "function", "function": {"name": "f", "arguments": deep}}]
    forms = [{"content": None, "tool_calls": calls}, {"content": f'<tool_call>{{"name": "f", "arguments": {deep}}}</tool_call>'}]
    with Server(lambda body: {"finish_reason": "stop", "message": forms[int(body["messages"][0]["content"][-1])]}).up() as server:
        for given in remote(server).generate(requests(2)):
            assert given.finish_reason == "stop" and deep in json.dumps(given.tool_calls)


def test_what_was_answered_before_an_unreadable_reply_is_kept_and_not_asked_again(tmp_path):
    with Server(lambda body: "fine" if len(server.seen) <= 10 else Whole(oops=1)).up() as server:
        lm = CachedLM(remote(server, concurrency=2), tmp_path / "cache.sqlite")
        with pytest.raises(BackendError, match="the same command resumes"):
            lm.generate(requests(60))
        server.reply = lambda body: "fine"
        lm.generate(requests(60))
    fine = Counter(body["messages"][-1]["content"] for body in server.seen)
    assert sum(fine.values()) <= 60 + 2 and max(fine.values()) <= 2


@pytest.mark.parametrize("fault", ["broken JSON", "endless"])
def test_a_reply_of_broken_json_or_without_end_ends_the_run(fault, monkeypatch):
    monkeypatch.setattr(http, "LARGEST", 1 << 22)
    with Server(share=1.0, faults=(fault,)).up() as server:
        with pytest.raises(BackendError, match="unreadable reply" if fault == "broken JSON" else "more than 4 MiB"):
            remote(server, concurrency=3).generate(requests(50))
    assert sum(server.calls.values()) <= 3


@pytest.mark.parametrize("fault", ["drips head", "drips body"])
def test_a_server_that_drips_its_reply_meets_the_deadline_of_the_whole_call(fault):
    with Server(share=1.0, faults=(fault,)).up() as server:
        with pytest.raises(BackendError, match="no whole answer within"):
            remote(server, timeout=0.3, retries=8).generate(requests(4))
    assert max(server.calls.values()) <= 3, "what may have been paid for is asked for again twice at most"


@pytest.mark.parametrize("status", [401, 402, 403, 404])
def test_key_credit_rights_and_model_are_not_asked_about_again(status):
    with Server(lambda body: openai_error("words of the provider", status=status)).up() as server:
        with pytest.raises(BackendError, match="words of the provider"):
            remote(server, concurrency=3).generate(requests())
    assert len(server.seen) <= 3


def google(period):
    details = [{"quotaId": f"GenerateRequestsPer{period}PerProjectPerModel-FreeTier"}]
    message = "You exceeded your current quota, please check your plan and billing details."
    return 429, [{"error": {"code": 429, "message": message, "status": "RESOURCE_EXHAUSTED", "details": details}}]


QUOTAS = {
    "OpenAI": openai_error("You exceeded your current quota, check your plan.", code="insufficient_quota", status=429),
    "Groq": openai_error("Rate limit reached on tokens per day (TPD). Please try again in 7m54s.", status=429),
    "OpenRouter": (429, {"error": {"message": "Rate limit exceeded: free-models-per-day", "code": 429}}),
    "within 200": (200, {"error": {"message": "daily limit reached", "code": 429}}),
    "Google": google("Day"),
}


@pytest.mark.parametrize("quota", QUOTAS)
def test_a_quota_of_a_day_or_of_money_is_not_waited_for(quota):
    with Server(lambda body: QUOTAS[quota]).up() as server:
        with pytest.raises(BackendError, match=r"quota|per day|per-day|daily"):
            remote(server, concurrency=2).generate(requests())
    assert len(server.seen) <= 2


PASSES = {
    "a minute's limit": openai_error("Limit 3 requests per min (RPM). Add a payment method to increase it.", status=429),
    "Google": google("Minute"),
    "overloaded": (503, {"error": {"message": "overloaded"}}),
    "within 200": (200, {"error": {"message": "Rate limit exceeded", "code": 429}}),
    "within 200, flat": (200, {"object": "error", "message": "Too many requests", "code": 429}),
    "within 200, as a text": (200, {"detail": "Too many requests", "status": "503"}),
    "broken amid the answer": Whole(
        choices=[{"finish_reason": "stop", "message": {"content": "Su"}}], error={"code": 502, "message": "upstream died"}
    ),
    "given up": {"finish_reason": "error", "error": {"code": 502, "message": "upstream"}, "message": {"content": ""}},
}


@pytest.mark.parametrize("limit", PASSES)
def test_what_passes_in_a_while_is_asked_for_again(limit):
    tries = Counter()

    def reply(body):
        text = body["messages"][-1]["content"]
        tries[text] += 1
        return PASSES[limit] if tries[text] == 1 else "fine"

    with Server(reply).up() as server:
        assert {one.text for one in remote(server).generate(requests(6))} == {"fine"}
    assert set(tries.values()) == {2}


def test_a_wait_longer_than_the_deadline_is_not_waited_for():
    with Server(share=1.0, faults=("busy",), retry_after="30").up() as server:
        with pytest.raises(BackendError, match="asks to wait 30 s, longer than the timeout of 20 s"):
            remote(server, timeout=20.0, concurrency=2).generate(requests())
    assert sum(server.calls.values()) <= 2


def test_an_error_within_200_keeps_the_providers_words():
    with Server(lambda body: (200, {"error": {"message": "No endpoints found that support this", "code": 404}})).up() as server:
        with pytest.raises(BackendError, match="No endpoints found that support this"):
            remote(server, concurrency=2).generate(requests())
    full = (200, {"error": "context window is full"})
    with Server(lambda body: full if body["messages"][-1]["content"] == "text 1" else "fine").up() as server:
        given = remote(server).generate(requests(3))
    assert [one.text for one in given] == ["fine", "", "fine"] and "context window is full" in given[1].error


# A text alone


def test_what_a_tokenizer_puts_before_a_text_is_found_whatever_it_puts_behind():
    assert tokens_before([5, 6], [1, 5, 6, 2]) == [1] and tokens_before([5, 6], [5, 6]) == []
    assert tokens_before([1, 6], [1, 1, 6]) == [1] and tokens_before([5], [7, 8]) == []


@pytest.mark.ml
@pytest.mark.parametrize("adds_bos", [True, False])
def test_a_text_alone_is_weighed_alike_here_and_there(tiny, tmp_path, adds_bos):
    folder = tiny
    if adds_bos:
        from tokenizers.processors import TemplateProcessing
        from transformers import AutoModelForCausalLM, AutoTokenizer

        folder = tmp_path / "adds"
        tokenizer = AutoTokenizer.from_pretrained(tiny)
        begin = (tokenizer.bos_token, tokenizer.bos_token_id)
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single=f"{begin[0]} $A", special_tokens=[begin])
        tokenizer.save_pretrained(folder)
        AutoModelForCausalLM.from_pretrained(tiny).save_pretrained(folder)
    pairs = [ScoreRequest(messages=(), answer="the soup is made of carrots"), ScoreRequest(messages=(), answer="")]
    local = load(ModelSpec(name=str(folder)))
    with Server(vllm=Vllm(folder, adds_bos=adds_bos)).up() as server:
        there = remote(server).score(pairs)
    here = local.score(pairs)
    assert [one.tokens for one in here] == [one.tokens for one in there]
    assert there[0].nll == pytest.approx(here[0].nll, rel=1e-5)
    assert here[0].tokens == len(local.template.ids(pairs[0].answer)) - (not adds_bos)


def test_settings_of_the_chat_template_are_sent_with_every_request():
    with Server().up() as server:
        model = remote(server, chat_template_kwargs={"enable_thinking": False})
        assert model.identity != remote(server).identity
        model.generate(requests(2))
        assert [body["chat_template_kwargs"] for body in server.seen] == [{"enable_thinking": False}] * 2
