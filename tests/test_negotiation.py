"""What is found out about a server when it is loaded, over real HTTP: its dialect, its tokenizer, and its template."""

from __future__ import annotations

import itertools

import pytest
from server import Server, Vllm
from templates import AWKWARD, published, tiny_model
from test_dialects import BROKEN_BY, WORDINGS, choosy, evaluate, openai_error, remote, requests

from buckler.data import Message, read_json
from buckler.errors import BackendError, BucklerError
from buckler.models.protocol import ModelSpec, ScoreRequest
from buckler.models.registry import load
from buckler.progress import LOG


@pytest.fixture(autouse=True)
def no_key(monkeypatch):
    for name in ("BUCKLER_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(LOG, "propagate", True)


def spec(server, **settings):
    return ModelSpec(name="m", endpoint=server.url, **settings)


def no_system(body):
    return openai_error("System role not supported") if body["messages"][0]["role"] == "system" else None


# The dialect


@pytest.mark.parametrize("wording", [*WORDINGS, *(f"5xx {name}" for name in BROKEN_BY)])
@pytest.mark.parametrize("refused", [("max_tokens",), ("temperature", "seed"), ("seed", "top_p", "max_tokens", "temperature")])
def test_the_dialect_is_known_and_recorded_when_a_model_is_loaded_for_one_short_call(wording, refused, tmp_path):
    words = BROKEN_BY[wording[4:]] if wording.startswith("5xx ") else WORDINGS[wording]
    with Server(refuses=choosy(refused, words)).up() as server:
        lm = load(spec(server), cache=tmp_path / "cache.sqlite")
        record = read_json(tmp_path / "servers.json")[f"m@{server.url}"]
        assert record == lm.model.record() and record["negotiated"] == "at load"
        assert set(record["left_out"]) == set(refused) - {"max_tokens"}
        assert record["renamed"] == ({"max_tokens": "max_completion_tokens"} if "max_tokens" in refused else {})
        limit = "max_completion_tokens" if "max_tokens" in refused else "max_tokens"
        assert [body[limit] for body in server.hellos] == [1] and not server.calls
        met = len(server.refused)
        assert [one.text for one in lm.generate(requests(20))] == [f"TEXT {at}" for at in range(20)]
        assert len(server.refused) == met and set(server.calls.values()) == {1}, "no request of the run is refused"


def test_a_system_role_that_a_template_does_not_know_is_known_when_the_model_is_loaded():
    with Server(refuses=no_system).up() as server:
        lm = load(spec(server))
        assert lm.record()["merges_system"] is True
        assert lm.generate(requests(5, system="be kind"))[4].text == "BE KIND\n\nTEXT 4" and len(server.refused) == 1


def test_a_dialect_that_an_earlier_run_recorded_is_not_asked_for_again(tmp_path):
    with Server(refuses=choosy(("temperature", "max_tokens"), WORDINGS["OpenAI"])).up() as server:
        first = load(spec(server), cache=tmp_path / "cache.sqlite").model.record()
        met = len(server.refused)
        lm = load(spec(server), cache=tmp_path / "cache.sqlite")
        assert lm.model.record() == first and len(server.hellos) == 1
        lm.generate(requests(3))
        assert len(server.refused) == met and "temperature" not in server.seen[-1]


def test_one_temperature_that_is_refused_does_not_silence_the_others():
    def refuses(body):
        return (422, {"error": "`temperature` must be strictly positive"}) if body.get("temperature") == 0 else None

    with Server(refuses=refuses).up() as server:
        lm = load(spec(server, concurrency=1))
        assert lm.record()["refused_at"] == {"temperature": 0.0}
        lm.generate(requests(2, temperature=0.7))
        lm.generate(requests(2))
        assert [body.get("temperature") for body in server.seen] == [0.7, 0.7, None, None] and len(server.refused) == 1


def test_a_temperature_that_is_refused_at_a_second_value_is_not_sent_at_all(caplog):
    def refuses(body):
        return openai_error("Only the default (1) of temperature is supported") if body.get("temperature", 1) != 1 else None

    with Server(refuses=refuses).up() as server:
        lm = load(spec(server, concurrency=1))
        for temperature in (0.7, 0.9, 0.0):
            lm.generate(requests(2, temperature=temperature))
        assert len(server.refused) == 2 and not any("temperature" in body for body in server.seen)
    assert "refused_at" not in lm.record() and "refused at every value" in caplog.text


def test_a_first_call_that_is_refused_in_every_form_is_said_and_the_run_learns_as_it_goes(caplog):
    hello = itertools.count()

    def refuses(body):
        if body["messages"][-1]["content"].endswith("Say hello."):
            return openai_error(f"this model answers questions about images only ({next(hello)})")
        return choosy(("seed",), WORDINGS["plain"])(body)

    with Server(refuses=refuses).up() as server:
        lm = load(spec(server))
        assert "negotiated" not in lm.record() and "images only" in caplog.text and not server.hellos
        assert lm.generate(requests(3))[2].text == "TEXT 2" and list(lm.record()["left_out"]) == ["seed"]


@pytest.mark.parametrize(
    ("hello", "words"), [((200, "<html>log in</html>"), "log in"), ((402, {"error": "no credit"}), "credit")]
)
def test_what_every_request_would_meet_ends_the_run_when_the_model_is_loaded(hello, words, tmp_path):
    with Server(hello=lambda body: hello).up() as server:
        with pytest.raises(BackendError, match=words):
            load(spec(server))
        with pytest.raises(BucklerError, match=words):
            evaluate(server, tmp_path, 3)
        assert len(server.hellos) == 2 and not server.calls


def test_the_call_at_load_is_made_once_though_its_reply_is_lost_and_counts_in_the_budget():
    with Server(hello=lambda body: {"message": {"content": "so"}, "finish_reason": "stop"}).up() as server:
        lm = load(spec(server, max_requests=3))
        assert len(lm.generate(requests(2))) == 2
        with pytest.raises(BackendError, match="request budget of 3 is used up"):
            lm.generate(requests(4))


# The tokenizer


@pytest.mark.parametrize(
    "fault", [(503, "busy"), (503, {"error": {"message": "loading"}}), (200, {"error": "the pool is empty"})]
)
@pytest.mark.ml
def test_a_tokenizer_that_fails_once_is_asked_again(fault, tiny):
    vllm, calls = Vllm(tiny), itertools.count()
    tokenize = vllm.tokenize
    vllm.tokenize = lambda body: fault if next(calls) < 2 else tokenize(body)
    with Server(vllm=vllm).up() as server:
        lm = remote(server)
        assert lm.can_score and lm.score([ScoreRequest(messages=(), answer="the soup")])[0].tokens


@pytest.mark.ml
@pytest.mark.parametrize("fault", [(200, {"error": "the pool is empty"}), (500, {"error": {"message": "the pool is empty"}})])
def test_a_tokenizer_that_fails_for_a_while_is_said_and_used_when_it_is_back(fault, tiny, caplog):
    vllm, broken = Vllm(tiny), True
    tokenize = vllm.tokenize
    vllm.tokenize = lambda body: fault if broken else tokenize(body)
    pairs = [ScoreRequest(messages=(), answer="the soup")]
    with Server(vllm=vllm).up() as server:
        lm = remote(server)
        assert not lm.can_score and "no perplexity can be measured" in caplog.text and "the pool is empty" in caplog.text
        with pytest.raises(BackendError, match=r"returns no log-probabilities of prompts .*the pool is empty"):
            lm.score(pairs)
        broken = False
        assert lm.score(pairs)[0].tokens and lm.can_score


@pytest.mark.ml
def test_a_tokenizer_that_stays_busy_ends_the_run(tiny):
    with Server(routes={"/tokenize": (503, {"error": "overloaded"})}).up() as server:
        with pytest.raises(BackendError, match="overloaded"):
            remote(server)


# What the template writes before an answer

USER = Message(role="user", content="Who runs it?")
LEADS = {
    "qwen3": "<think>\n\n</think>\n\n",
    "glm4moe": "\n<think></think>\n",
    "qwen3_5_think": "\n</think>\n\n",
    "deepseek_r1_distill": "\n</think>\n\n",
    "nemotron_3_ultra": "</think>",
    "the next role ends a turn": "\n",
    "nothing ends a turn": " ",
    "another form of thought": "[/THINK]",
    "a mark opens the answer": "<|END_THINKING|><|START_RESPONSE|>",
    "newline after the end of turn": "",
}


@pytest.mark.ml
@pytest.mark.parametrize("name", LEADS)
def test_answers_under_a_template_that_writes_before_them_are_weighed_as_a_local_model_weighs_them(name, tmp_path):
    folder = tiny_model(tmp_path / "m", AWKWARD[name].text if name in AWKWARD else published()[name])
    second = (USER, Message(role="assistant", content="Anna."), Message(role="user", content="Since when?"))
    pairs = [ScoreRequest(messages=(USER,), answer=text) for text in ("Anna runs it.", " Anna", "\n\nAnna", "", "<think> no")]
    pairs += [ScoreRequest(messages=second, answer="Since May.\n"), ScoreRequest(messages=(), answer="Anna runs it.")]
    local = load(ModelSpec(name=str(folder)))
    with Server(vllm=Vllm(folder, adds_bos=True)).up() as server:
        lm = load(spec(server))
        assert lm._template.lead == LEADS[name] == local.template.written.plain_lead
        for here, there in zip(local.score(pairs), lm.score(pairs), strict=True):
            assert not there.error and there.tokens == here.tokens
            assert there.nll == pytest.approx(here.nll, rel=1e-5) and there.perplexity == pytest.approx(here.perplexity, rel=1e-5)


@pytest.mark.ml
def test_settings_of_the_template_hold_where_answers_are_weighed_on_a_server(tmp_path):
    folder = tiny_model(tmp_path / "m", published()["qwen3"])
    pairs = [ScoreRequest(messages=(USER,), answer="Anna runs it.")]
    for kwargs in ({}, {"enable_thinking": False}):
        (here,) = load(ModelSpec(name=str(folder), chat_template_kwargs=kwargs)).score(pairs)
        with Server(vllm=Vllm(folder)).up() as server:
            lm = load(spec(server, chat_template_kwargs=kwargs))
            (there,) = lm.score(pairs)
        assert there.nll == pytest.approx(here.nll, rel=1e-5) and there.tokens == here.tokens
        assert lm._template.lead == ("" if kwargs else LEADS["qwen3"])


@pytest.mark.ml
def test_a_server_that_turns_no_ids_into_text_is_said_to_weigh_otherwise(tiny, caplog):
    with Server(vllm=Vllm(tiny), routes={"/detokenize": (404, {"detail": "Not Found"})}).up() as server:
        assert remote(server).score([ScoreRequest(messages=(USER,), answer="soup")])[0].tokens
    assert "may differ from a local model's" in caplog.text
