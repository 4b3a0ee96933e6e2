"""Nothing paid for is asked twice: the cache is keyed by model, conversation, sampling and seed."""

from __future__ import annotations

import sqlite3

import pytest

from buckler.data import Chat, Message
from buckler.errors import StoreError
from buckler.evaluation.probes import answer_probes
from buckler.models.protocol import Completion, Request, Sampling, ScoreRequest, ScriptedLM
from buckler.models.registry import CachedLM


def request_of(text: str, seed: int = 0) -> Request:
    return Request(messages=(Message(role="user", content=text),), sampling=Sampling(seed=seed))


def test_answers_are_read_from_the_file_in_the_order_asked(tmp_path):
    model = ScriptedLM(lambda request: request.messages[0]["content"].upper())
    cached = CachedLM(model, tmp_path / "cache.sqlite", chunk=2)
    requests = [request_of(text) for text in "edcba"]
    first = cached.generate(requests)
    again = CachedLM(model, tmp_path / "cache.sqlite").generate(list(reversed(requests)))
    assert [given.text for given in first] == list("EDCBA") and again == list(reversed(first))
    assert len(model.requests) == 5


def test_another_seed_another_text_or_another_model_is_asked_anew(tmp_path):
    model, other = ScriptedLM(lambda _: "a"), ScriptedLM(lambda _: "b")
    other.identity = "other"
    path = tmp_path / "cache.sqlite"
    CachedLM(model, path).generate([request_of("x"), request_of("x", seed=1), request_of("y"), request_of("x")])
    assert len(model.requests) == 3
    assert CachedLM(other, path).generate([request_of("x")])[0].text == "b"


def test_likelihoods_are_kept_too(tmp_path):
    model = ScriptedLM(lambda _: "", nll=lambda pair: 1.25)
    cached = CachedLM(model, tmp_path / "cache.sqlite")
    pair = ScoreRequest(messages=(Message(role="user", content="q"),), answer="abc")
    assert cached.score([pair]) == cached.score([pair]) and len(model.scored) == 1


def test_what_was_answered_before_a_fault_is_kept(tmp_path):
    def faulty(request: Request) -> str:
        if request.messages[0]["content"] == "c":
            raise RuntimeError("the machine is gone")
        return "fine"

    model = ScriptedLM(faulty)
    with pytest.raises(RuntimeError):
        CachedLM(model, tmp_path / "cache.sqlite", chunk=1).generate([request_of("a"), request_of("b"), request_of("c")])
    model.requests.clear()
    CachedLM(model, tmp_path / "cache.sqlite", chunk=1).generate([request_of("a"), request_of("b")])
    assert not model.requests


class OneByOne(ScriptedLM):
    """Hands over one answer after the other; the second call fails."""

    def completions(self, requests):
        for at, given in enumerate(self.generate(requests)):
            yield [(at, Completion(text="", finish_reason="failed", tokens=0, error="no luck") if at == 1 else given)]

    def likelihoods(self, pairs):
        yield list(enumerate(self.score(pairs)))


def test_what_comes_is_kept_before_the_next_is_waited_for_and_a_failure_never(tmp_path):
    path = tmp_path / "cache.sqlite"
    known: list[int] = []

    class Watched(OneByOne):
        def completions(self, requests):
            for piece in super().completions(requests):
                yield piece
                with sqlite3.connect(path) as database:
                    known.append(database.execute("SELECT count(*) FROM given").fetchone()[0])

    model = Watched(lambda _: "fine")
    given = CachedLM(model, path).generate([request_of("a"), request_of("b"), request_of("c")])
    assert known == [1, 1, 2] and [one.error for one in given] == ["", "no luck", ""]
    model.requests.clear()
    CachedLM(model, path).generate([request_of("a"), request_of("b"), request_of("c")])
    assert [request.messages[0]["content"] for request in model.requests] == ["b"]


def test_a_model_that_hands_over_answers_is_asked_everything_at_once_and_progress_comes_with_them(tmp_path):
    class Watched(OneByOne):
        sizes: tuple[int, ...] = ()

        def completions(self, requests):
            self.sizes += (len(requests),)
            return super().completions(requests)

    reported: list[int] = []
    model = Watched(lambda request: request.messages[0]["content"])
    probes = [Chat.pair(f"text {at % 600}", None) for at in range(700)]
    progress = lambda what, done, of: reported.append(done)  # noqa: E731
    answers = answer_probes(CachedLM(model, tmp_path / "cache.sqlite"), probes, Sampling(), progress=progress)
    assert model.sizes == (600,) and reported[-1] == 700 and len(reported) == 600
    assert [one.text for one in answers[2:600]] == [f"text {at}" for at in range(2, 600)]


def test_a_cached_model_scores_if_its_model_does(tmp_path):
    model = ScriptedLM(lambda _: "")
    assert CachedLM(model, tmp_path / "cache.sqlite").can_score
    model.can_score = False
    assert not CachedLM(model, tmp_path / "cache.sqlite").can_score


def test_a_broken_file_is_one_clear_line(tmp_path):
    (tmp_path / "cache.sqlite").write_bytes(b"no database at all, but long enough to look like a file" * 40)
    with pytest.raises(StoreError, match="not a readable cache"):
        CachedLM(ScriptedLM(lambda _: ""), tmp_path / "cache.sqlite")
