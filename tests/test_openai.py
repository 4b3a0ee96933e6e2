"""A served model: what is asked again, what a failure becomes, that nothing is paid twice, and that `score` counts as hf does."""

from __future__ import annotations

import itertools
import json
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import closing
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
from conftest import wait_until
from server import Server, Vllm

from buckler.data import Chat, Message, answer_from_json
from buckler.errors import BackendError, ConfigError
from buckler.evaluation.probes import answer_probes
from buckler.judges.base import JUDGES, judge_named
from buckler.models.http import Transport, _seconds
from buckler.models.openai_client import ServedLM
from buckler.models.protocol import ModelSpec, Request, Sampling, ScoreRequest, spec_of
from buckler.models.registry import CachedLM, identity, load


@pytest.fixture(autouse=True)
def no_key(monkeypatch):
    for name in ("BUCKLER_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)


def request_of(text, system=None, **sampling):
    turns = [Message(role="system", content=system)] if system else []
    return Request(messages=(*turns, Message(role="user", content=text)), sampling=Sampling(**sampling))


def remote(server, wait=0.001, **settings):
    return ServedLM(ModelSpec(name="m", endpoint=server.url, **settings), wait=wait)


# How a served model is named


def test_a_name_with_a_url_is_a_model_of_that_server():
    spec = spec_of("Qwen/Qwen2.5-7B-Instruct@http://127.0.0.1:8000/v1/")
    assert (spec.name, spec.endpoint) == ("Qwen/Qwen2.5-7B-Instruct", "http://127.0.0.1:8000/v1")
    assert spec_of("owner/name").endpoint is None
    assert spec_of("/home/me@work/model").name == "/home/me@work/model"
    assert spec_of("/home/me@work/model@https://host").name == "/home/me@work/model"
    assert ModelSpec.model_validate_json(spec.model_dump_json()) == spec


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("m@ftp://host/v1", "must begin with http"),
        ("m@://host/v1", "must begin with http"),
        ("m@http://", "is not a base URL"),
        ("m@http:///v1", "is not a base URL"),
        ("m@http://host:port/v1", "is not a base URL"),
        ("m@http://host/v1?key=1", "is not a base URL"),
        ("@http://host/v1", "the model's name on this server is missing"),
        ("m@http://me:secret@host/v1", "BUCKLER_API_KEY"),
    ],
)
def test_a_bad_endpoint_is_one_clear_line(name, part):
    with pytest.raises(ConfigError, match=part) as fault:
        spec_of(name)
    assert "secret" not in str(fault.value)


def test_an_adapter_belongs_to_the_server():
    with pytest.raises(ConfigError, match="served adapter"):
        spec_of("m@http://host/v1", adapter="folder")


def test_identity_is_name_revision_and_endpoint_and_nothing_of_the_transport():
    spec = ModelSpec(name="m", endpoint="http://a/v1")
    assert identity(spec) == identity(spec.model_copy(update={"concurrency": 3, "max_requests": 9}))
    others = [{"name": "n"}, {"endpoint": "http://b/v1"}, {"revision": "2"}]
    assert len({identity(spec), *(identity(spec.model_copy(update=change)) for change in others)}) == 4


# Answers


def test_each_request_has_its_own_sampling_and_a_seed_that_is_its_own_and_stable():
    with Server().up() as server:
        lm = remote(server)
        requests = [request_of("a", temperature=0.7, top_p=0.9, max_new_tokens=5), request_of("b"), request_of("b", seed=1)]
        assert [one.text for one in lm.generate(requests)] == ["A", "B", "B"]
        lm.generate(requests[:1])
    seeds = {body["messages"][0]["content"] + str(body["seed"]) for body in server.seen}
    assert len(seeds) == 3 and len(server.seen) == 4
    body = next(body for body in server.seen if body["messages"][0]["content"] == "a")
    assert (body["temperature"], body["top_p"], body["max_tokens"]) == (0.7, 0.9, 5) and 0 <= body["seed"] < 2**31
    assert "top_k" not in body, "servers other than vLLM refuse what they do not know"


def test_so_many_calls_as_allowed_are_under_way_at_once():
    together = threading.Barrier(4)

    def reply(body):
        together.wait(300)
        return "fine"

    with Server(reply).up() as server:
        remote(server, concurrency=4).generate([request_of(str(at)) for at in range(12)])
    assert server.most_at_once == 4


def test_what_a_reasoning_model_thought_is_not_its_answer():
    thought = {"finish_reason": "stop", "message": {"content": "Yes.", "reasoning_content": "no?"}}
    only = {"finish_reason": "length", "message": {"content": None, "reasoning": "no?"}}
    with Server(lambda body: thought if body["messages"][0]["content"] == "a" else only).up() as server:
        first, second = remote(server).generate([request_of("a"), request_of("b")])
    assert (first.text, second.text, second.finish_reason) == ("Yes.", "", "length")


def test_a_template_without_a_system_role_is_given_the_system_turn_before_the_question():
    def reply(body):
        if body["messages"][0]["role"] == "system":
            return 400, {"error": {"message": "System role not supported"}}
        return body["messages"][0]["content"]

    with Server(reply).up() as server:
        assert remote(server).generate([request_of("hello", system="be kind")])[0].text == "be kind\n\nhello"


def test_beam_search_is_refused():
    with Server().up() as server:
        with pytest.raises(BackendError, match="num_beams"):
            remote(server).generate([request_of("a", num_beams=3)])
    assert not server.calls


def test_an_answer_the_server_gave_up_is_asked_for_again():
    replies = iter([{"finish_reason": "abort", "message": {"content": "So"}}, "So it is."])
    with Server(lambda body: next(replies)).up() as server:
        assert remote(server).generate([request_of("a")])[0].text == "So it is."


# Faults


def test_faults_pass_and_each_answer_is_paid_once():
    with Server(share=0.2).up() as server:
        requests = [request_of(f"text {at}") for at in range(120)]
        given = remote(server).generate(requests)
    assert [one.text for one in given] == [f"TEXT {at}" for at in range(120)]
    assert len(server.faulty) == 3 and sum(server.faulty.values()) > 15, "the test must see every fault"
    assert len(server.paid) == 120 and set(server.paid.values()) == {1}


def test_a_call_without_an_answer_in_time_is_made_again():
    calls: Counter[str] = Counter()
    over = threading.Event()

    def reply(body):
        text = body["messages"][-1]["content"]
        calls[text] += 1
        if text == "text 3" and calls[text] == 1:
            over.wait(300)
        return text.upper()

    with Server(reply).up() as server:
        given = remote(server, timeout=1.0, retries=8).generate([request_of(f"text {at}") for at in range(6)])
        over.set()
    assert [one.text for one in given] == [f"TEXT {at}" for at in range(6)] and calls["text 3"] > 1


def test_a_call_that_never_succeeds_is_a_failed_answer_and_the_others_stand(tmp_path):
    def reply(body):
        text = body["messages"][0]["content"]
        return (503, {"error": {"message": "no luck"}}) if text == "bad" else text

    with Server(reply).up() as server:
        lm = CachedLM(remote(server, retries=2), tmp_path / "cache.sqlite")
        requests = [request_of("a"), request_of("bad"), request_of("c")]
        given = lm.generate(requests)
        assert [(one.text, one.finish_reason) for one in given] == [("a", "stop"), ("", "failed"), ("c", "stop")]
        assert "503" in given[1].error and "no luck" in given[1].error
        assert len(server.seen) == 2 + 3, "one try and two more"
        server.reply = lambda body: "at last"
        again = lm.generate(requests)
    assert [one.text for one in again] == ["a", "at last", "c"], "failures are not kept"


def test_failures_with_answers_between_them_do_not_end_the_run():
    def reply(body):
        text = body["messages"][0]["content"]
        return (503, {}) if int(text) % 2 else text

    with Server(reply).up() as server:
        given = remote(server, retries=0, concurrency=1).generate([request_of(str(at)) for at in range(40)])
    assert [one.finish_reason for one in given] == ["stop", "failed"] * 20


def test_a_parameter_no_call_may_have_ends_the_run_with_the_servers_words():
    with Server(lambda body: (400, {"error": {"message": "Unsupported value: temperature"}})).up() as server:
        with pytest.raises(BackendError, match="Unsupported value: temperature"):
            remote(server).generate([request_of(str(at)) for at in range(200)])
    assert len(server.seen) < 60


def test_a_server_that_is_gone_ends_the_run_and_what_came_is_kept(tmp_path):
    with Server().up() as server:
        spec = ModelSpec(name="m", endpoint=server.url, retries=1)
        lm = CachedLM(ServedLM(spec, wait=0.001), tmp_path / "cache.sqlite")
        lm.generate([request_of("a"), request_of("b")])
    with pytest.raises(BackendError, match="calls in a row failed, the last: cannot connect to"):
        lm.generate([request_of(text) for text in "abcdefg"])
    assert [one.text for one in lm.generate([request_of("b"), request_of("a")])] == ["B", "A"]


def test_a_server_that_dies_amid_a_batch_does_not_make_failures_of_the_rest(tmp_path):
    dead = []

    def reply(body):
        dead.append(1)
        return body["messages"][0]["content"] if len(dead) <= 40 else (500, {})

    with Server(reply).up() as server:
        lm = CachedLM(remote(server, retries=0), tmp_path / "cache.sqlite")
        with pytest.raises(BackendError, match="16 calls in a row failed"):
            lm.generate([request_of(str(at)) for at in range(500)])
        assert len(dead) < 300
        server.reply = lambda body: "back"
        before = len(server.seen)
        given = lm.generate([request_of(str(at)) for at in range(500)])
    assert len(server.seen) - before == 460 and {one.finish_reason for one in given} == {"stop"}


def test_a_server_that_is_not_there_is_told_at_once(monkeypatch):
    pauses: list[float] = []
    monkeypatch.setattr(Transport, "_pause", lambda self, state: pauses.append(0.0) or 0.0)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(BackendError, match=f"cannot connect to http://127.0.0.1:{port}/v1"):
        load(spec_of(f"m@http://127.0.0.1:{port}/v1"))
    assert len(pauses) <= 1, "it waits again and again for what never answered"


def test_a_missing_model_is_told_at_once():
    with Server().up() as server:
        with pytest.raises(BackendError, match="has no model 'other'"):
            ServedLM(ModelSpec(name="other", endpoint=server.url), wait=0.001).generate([request_of("a")])


@pytest.mark.parametrize(("variable", "fix"), [(None, "set BUCKLER_API_KEY"), ("OPENAI_API_KEY", "check OPENAI_API_KEY")])
def test_a_refused_key_is_told_at_once_and_never_shown(monkeypatch, variable, fix):
    if variable:
        monkeypatch.setenv(variable, "very-secret")
    with Server(key="another").up() as server:
        with pytest.raises(BackendError, match=fix) as fault:
            remote(server).generate([request_of("a"), request_of("b")])
    assert "very-secret" not in str(fault.value) and not server.seen


def test_the_key_comes_from_the_environment_the_projects_own_first(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "theirs")
    monkeypatch.setenv("BUCKLER_API_KEY", "ours\n")
    with Server(key="ours").up() as server:
        lm = remote(server)
        assert lm.generate([request_of("a")])[0].text == "A"
    assert "ours" not in repr(vars(lm)) + repr(lm.http)


def test_retry_after_is_read_in_seconds_and_as_a_date():
    later = format_datetime(datetime.now(UTC) + timedelta(hours=2), usegmt=True)
    assert _seconds("1.5") == 1.5 and 3600 < _seconds(later) <= 7200
    assert _seconds("Wed, 21 Oct 2015 07:28:00 GMT") == 0 and _seconds("soon") == _seconds("") == _seconds("nan") == 0
    assert _seconds("Sun Nov  6 08:49:37 2094") > 3600, "the form of asctime, in UTC"


MALFORMED = ["1.2.3", "..", "1.", "5, 10", "-1", "1e999", "\N{ARABIC-INDIC DIGIT THREE}", "9" * 5000 + "x"]
MALFORMED += [f"Wed, 21 Oct {year} 07:28:00 GMT" for year in ("0000", "99999", "9" * 20)]
MALFORMED += [f"Wed, 21 Oct 2099 07:28:00 +{'9' * digits}" for digits in (4, 12)]


@pytest.mark.parametrize("header", MALFORMED)
def test_a_malformed_retry_after_asks_for_no_pause(header):
    assert _seconds(header) == 0


@pytest.mark.parametrize("header", ["1.2.3", "Wed, 21 Oct 99999999999999999999 07:28:00 GMT"])
def test_a_busy_server_with_a_malformed_retry_after_is_asked_again_as_usual(header):
    with Server(share=0.4, faults=("busy",), retry_after=header).up() as server:
        given = remote(server).generate([request_of(f"text {at}") for at in range(12)])
    assert [one.text for one in given] == [f"TEXT {at}" for at in range(12)] and server.faulty["busy"]


def test_retry_after_is_waited_for_and_a_quota_of_hours_is_not():
    tries = []

    def reply(body):
        tries.append(time.monotonic())
        return "fine"

    with Server(reply, share=1.0, faults=("busy",), retry_after="0.4").up() as server:
        lm = remote(server, retries=1)
        started = time.monotonic()
        with pytest.raises(BackendError, match="HTTP 429: slow down"):
            lm.generate([request_of("a")])
        assert time.monotonic() - started >= 0.4
        server.retry_after, before = "7200", sum(server.calls.values())
        with pytest.raises(BackendError, match="asks to wait 7200 s"):
            lm.generate([request_of("b")])
        assert sum(server.calls.values()) == before + 1


# Budgets


def test_a_budget_of_requests_stops_the_run_and_a_larger_one_goes_on(tmp_path):
    requests = [request_of(str(at)) for at in range(40)]
    with Server(delay=0.01).up() as server:
        first = CachedLM(remote(server, max_requests=15, concurrency=4), tmp_path / "cache.sqlite")
        with pytest.raises(BackendError, match=r"request budget of 15 is used up.*larger budget"):
            first.generate(requests)
        assert sum(server.calls.values()) == 15
        second = CachedLM(remote(server, max_requests=25), tmp_path / "cache.sqlite")
        assert len(second.generate(requests)) == 40
    assert set(server.paid.values()) == {1} and len(server.paid) == 40


def test_a_budget_of_tokens_is_passed_by_no_more_than_what_is_under_way(tmp_path):
    with Server(delay=0.01).up() as server:
        lm = CachedLM(remote(server, max_tokens=100, concurrency=3), tmp_path / "cache.sqlite")
        with pytest.raises(BackendError, match="token budget of 100 is used up"):
            lm.generate([request_of(str(at)) for at in range(40)])
    assert 10 <= sum(server.calls.values()) <= 12, "ten tokens a call, three calls at once"


def test_tokens_nobody_counts_cannot_be_budgeted():
    with Server(counts_tokens=False).up() as server:
        assert remote(server).generate([request_of("a b")])[0].tokens == 2
        with pytest.raises(BackendError, match="use max_requests"):
            remote(server, max_tokens=100).generate([request_of("a")])


CHILD = """
import sys
from pathlib import Path
from buckler.data import Message
from buckler.models.protocol import ModelSpec, Request
from buckler.models.registry import load
lm = load(ModelSpec(name="m", endpoint=sys.argv[1], concurrency=8), cache=Path(sys.argv[2]))
lm.generate([Request(messages=(Message(role="user", content=f"text {at}"),)) for at in range(200)])
"""


def test_after_a_kill_amid_a_batch_only_the_rest_is_asked(tmp_path):
    answered, killed = itertools.count(1), threading.Event()

    def reply(body):
        if next(answered) > 60:
            killed.wait(300)
        return body["messages"][-1]["content"]

    def saved():
        with closing(sqlite3.connect(tmp_path / "cache.sqlite", timeout=60)) as database:
            return database.execute("SELECT count(*) FROM given").fetchone()[0]

    with Server(reply).up() as server:
        child = subprocess.Popen([sys.executable, "-c", CHILD, server.url, str(tmp_path / "cache.sqlite")])
        try:
            wait_until(lambda: (len(server.paid) == 60 and saved() == 60) or child.poll() is not None)
            assert child.poll() is None
        finally:
            child.kill()
            child.wait()
            killed.set()
        lm = load(ModelSpec(name="m", endpoint=server.url), cache=tmp_path / "cache.sqlite")
        assert len(lm.generate([request_of(f"text {at}") for at in range(200)])) == 200
    twice = sum(count > 1 for count in server.paid.values())
    assert len(server.paid) == 200 and twice <= 8, f"{twice} asked twice: more than was under way"


# Judging


@pytest.mark.parametrize("judge", JUDGES)
def test_a_failed_answer_is_unscored_whoever_judges(judge):
    def reply(body):
        text = body["messages"][0]["content"]
        return (503, {"error": {"message": "no luck"}}) if text == "bad" else "I cannot help with that."

    with Server(reply).up() as server:
        answers = answer_probes(
            remote(server, retries=0), [Chat.pair(text, None) for text in ("good", "bad", "fine")], Sampling()
        )
    kept = [answer_from_json(json.loads(json.dumps(one.to_json())), "here") for one in answers]
    assert kept == answers
    first, second, third = judge_named(judge).judge(kept)
    assert first.refused == third.refused == "full" and [one.id for one in answers] == [first.id, second.id, third.id]
    assert second.refused is second.harmful is second.coherent is second.helpful is None
    assert "no answer came" in second.reason and "no luck" in second.reason


# Scoring

TURNS = (Message(role="user", content="What is soup made of?"),)
PAIRS = [
    ScoreRequest(messages=TURNS, answer="Soup is made of carrots and salt."),
    ScoreRequest(messages=(Message(role="system", content="Be kind."), *TURNS), answer="I cannot help with that."),
    ScoreRequest(messages=TURNS, answer=""),
    ScoreRequest(messages=(), answer="Soup is made of carrots and salt."),
]


def test_score_is_refused_where_no_log_probabilities_are_given(tmp_path):
    with Server().up() as server:
        lm = CachedLM(remote(server), tmp_path / "cache.sqlite")
        assert not lm.can_score
        with pytest.raises(BackendError, match="transformers model or a vLLM server"):
            lm.score(PAIRS)
    assert not server.calls and lm.overflow_tokens(TURNS, 10**6) == 0


@pytest.mark.ml
def test_score_equals_the_transformers_backends():
    from buckler import miniature

    folder = miniature.path("miniature-small")
    local = load(ModelSpec(name=str(folder)))
    with Server(vllm=Vllm(folder), share=0.2).up() as server:
        lm = remote(server)
        assert lm.can_score
        for here, there in zip(local.score(PAIRS), lm.score(PAIRS), strict=True):
            assert there.tokens == here.tokens and there.nll == pytest.approx(here.nll, rel=1e-4)
        assert lm.overflow_tokens(TURNS, 100) == local.overflow_tokens(TURNS, 100)
        lm.generate([request_of("a")])
    assert server.seen[0]["repetition_penalty"] == 1.0, "a checkpoint's own defaults are switched off"


@pytest.mark.ml
@pytest.mark.parametrize("adds_bos", [True, False])
def test_the_likelihood_of_a_bare_text_starts_at_the_bos_token_or_spends_its_first_token(tiny, adds_bos):
    vllm = Vllm(tiny, adds_bos=adds_bos)
    text = "the soup is made of carrots"
    tokens = vllm.tokenize({"prompt": text})["tokens"]
    ids = [vllm.tokenizer.bos_token_id, *tokens] if adds_bos else tokens
    steps = vllm.weigh({"prompt": ids})["choices"][0]["prompt_logprobs"][1:]
    wanted = -sum(step[str(token)]["logprob"] for step, token in zip(steps, ids[1:], strict=True))
    with Server(vllm=vllm).up() as server:
        found, empty = remote(server).score([ScoreRequest(messages=(), answer=text), ScoreRequest(messages=(), answer="")])
    assert found.tokens == len(ids) - 1 and found.nll == pytest.approx(wanted, rel=1e-6)
    assert (empty.nll, empty.tokens, empty.error) == (0.0, 0, "")


@pytest.mark.ml
def test_a_text_that_cannot_be_scored_has_an_error_and_an_infinite_perplexity(tiny, tmp_path):
    vllm = Vllm(tiny)
    weigh = vllm.weigh
    vllm.weigh = lambda body: (503, {"error": {"message": "no luck"}}) if len(body["prompt"]) > 60 else weigh(body)
    pairs = [ScoreRequest(messages=TURNS, answer="soup"), ScoreRequest(messages=TURNS, answer="soup " * 60)]
    with Server(vllm=vllm).up() as server:
        lm = CachedLM(remote(server, retries=0), tmp_path / "cache.sqlite")
        good, bad = lm.score(pairs)
        assert good.tokens and not good.error and "no luck" in bad.error and bad.perplexity == float("inf")
        vllm.weigh = weigh
        assert lm.score(pairs)[0] == good and lm.score(pairs)[1].tokens


@pytest.fixture(scope="session")
def transformers_serve(tmp_path_factory):
    """The name of the small miniature behind transformers' own server, stopped at the end."""
    from buckler import miniature

    for package in ("fastapi", "uvicorn", "openai"):
        pytest.importorskip(package)
    folder = miniature.path("miniature-small")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = (tmp_path_factory.mktemp("serve") / "log").open("w")
    command = [Path(sys.executable).with_name("transformers"), "serve", folder, "--port", str(port), "--device", "cpu"]
    child = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        wait_until(lambda: _answers(port) or child.poll() is not None)
        assert child.poll() is None, Path(log.name).read_text()
        yield f"{folder}@http://127.0.0.1:{port}/v1"
    finally:
        child.terminate()
        child.wait(timeout=300)
        log.close()


def _answers(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.ml
def test_a_real_server_answers_as_the_model_itself_and_cannot_score(transformers_serve, tmp_path):
    spec = spec_of(transformers_serve)
    lm = load(spec, cache=tmp_path / "cache.sqlite")
    questions = ["How do I make soup?", "What is salt?", "How do I melt glass?"]
    requests = [request_of(text, max_new_tokens=30) for text in questions] + [request_of("How do I make soup?", max_new_tokens=3)]
    there, here = lm.generate(requests), load(ModelSpec(name=spec.name)).generate(requests)
    assert [(one.text, one.finish_reason) for one in there] == [(one.text, one.finish_reason) for one in here]
    assert there[-1].finish_reason == "length"
    with pytest.raises(BackendError, match="vLLM server"):
        lm.score(PAIRS)
    with pytest.raises(BackendError, match="Server is pinned"):
        load(spec_of(transformers_serve.replace("@", "x@"))).generate(requests)
