"""Any OpenAI-compatible server as a model. vLLM's own server also gives the log-probabilities that `score` needs.

Generation is one chat completion a request. Scoring follows vLLM: the server's tokenizer makes the ids (`/tokenize`), and
`/v1/completions` with `prompt_logprobs` weighs them, so that the same tokens are counted as with transformers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from threading import Event
from typing import TypeVar

from buckler.data import Json, Message
from buckler.errors import BackendError
from buckler.models.dialect import FILTERED, NEUTRAL, Doubt, Fault, Negotiator
from buckler.models.http import NOT_ASKED, Budget, Read, Reply, Transport
from buckler.models.protocol import Completion, Likelihood, ModelSpec, Request, ScoreRequest
from buckler.models.registry import identity
from buckler.models.reply import completion_of_reply, withheld
from buckler.models.template_text import tokens_before

Result = TypeVar("Result", Completion, Likelihood)
ToAnswer = TypeVar("ToAnswer", Request, ScoreRequest)

PATIENCE = 16
"""So many calls in a row that fail the same way (all of them, if there are fewer): the server is gone."""
PROBES = 2
"""Further tries of a call that finds out what the server can do."""
BUSY = {408, 425, 429, 503, 504}
"""Statuses of a server that does not get to it just now; other ones of a probe mean that it cannot."""


class ServedLM:
    """A model behind an HTTP endpoint.

    Args:
        spec: with an `endpoint`.
        wait: seconds before a failed call is made again the first time.

    Raises:
        BackendError: nothing answers there, the key is refused, or the server has no such model.
    """

    def __init__(self, spec: ModelSpec, *, wait: float = 0.5) -> None:
        assert spec.endpoint is not None
        if spec.adapter or spec.chat_template:
            raise BackendError(f"{spec.name}: adapter and chat template of a served model must be set on the server")
        self.identity = identity(spec)
        self.name, self.endpoint, self.concurrency = spec.name, spec.endpoint, spec.concurrency
        self.http = Transport(spec.endpoint, timeout=spec.timeout, retries=spec.retries, wait=wait)
        self._of_template: dict[str, Json] = (
            {"chat_template_kwargs": spec.chat_template_kwargs} if spec.chat_template_kwargs else {}
        )
        self.budget = Budget(spec.max_requests, spec.max_tokens)
        self.called = f"{spec.name}@{spec.endpoint}"
        self._negotiator = Negotiator(self.called)
        self._knock()
        self.begins: list[int] = []
        """The tokens that its tokenizer puts before a text."""
        self.can_score = self._can_score()

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """One completion a request, in order; those that never came say `failed` and why.

        Raises:
            BackendError: the budget is spent, the key or the model is refused, or the server is gone.
        """
        return _in_order(self.completions(requests))

    def score(self, pairs: Sequence[ScoreRequest]) -> list[Likelihood]:
        """One likelihood a pair, in order; those that never came have an `error`.

        Raises:
            BackendError: this server gives no log-probabilities of a prompt; or as `generate`.
        """
        return _in_order(self.likelihoods(pairs))

    def completions(self, requests: Sequence[Request]) -> Iterator[list[tuple[int, Completion]]]:
        """Completions with their request's number, as they come; raises as `generate` does, after all that came."""
        if any(request.sampling.num_beams > 1 for request in requests):
            raise BackendError("beam search is not supported for servers; set num_beams to 1 or use a transformers model")
        return iter_completed(
            requests,
            self._answer,
            failed=lambda why: Completion(text="", finish_reason="failed", tokens=0, error=why),
            ends=lambda fault, in_a_row: self._end(fault, in_a_row, len(requests)),
            at_once=self.concurrency,
        )

    def likelihoods(self, pairs: Sequence[ScoreRequest]) -> Iterator[list[tuple[int, Likelihood]]]:
        """Likelihoods with their pair's number, as they come; raises as `score` does, after all that came."""
        if not self.can_score:
            raise BackendError(
                f"{self.endpoint} returns no log-probabilities of prompts: measure perplexity with a transformers model or a "
                "vLLM server"
            )
        return iter_completed(
            pairs,
            self._weigh,
            failed=lambda why: Likelihood(nll=0.0, tokens=0, error=why),
            ends=lambda fault, in_a_row: self._end(fault, in_a_row, len(pairs)),
            at_once=self.concurrency,
        )

    def overflow_tokens(self, messages: Sequence[Message], new_tokens: int) -> int:
        """Tokens beyond the model's context, as the server counts them.

        Only vLLM tells its context and counts tokens. With other servers everything fits here, and what does not fit there
        becomes a failed answer.
        """
        if not self.can_score:
            return 0

        def read(reply: Reply) -> int:
            limit = reply.get("max_model_len")
            return len(_tokens(reply)) + new_tokens - int(limit) if limit else 0

        try:
            return self._converse(self._tokenize, messages, {"add_generation_prompt": True}, read, Event())
        except Fault as fault:
            if fault.refused:  # as a request it will fail alone
                return 0
            raise self._final(fault) from None

    def record(self) -> dict[str, Json]:
        """What was found out about the server: whether it can score, and the dialect in which it is asked."""
        return {"can_score": self.can_score, **self._negotiator.dialect.to_json()}

    def _answer(self, request: Request, stop: Event) -> Completion:
        sampling = request.sampling

        def read(reply: Reply) -> Completion:
            completion = completion_of_reply(reply)
            if completion.finish_reason == "failed":
                raise Fault(completion.error, charged=True)
            return completion

        settings: dict[str, Json] = {
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_new_tokens,
            "seed": int(request.key, 16) % 2**31,  # servers differ in how long a seed they take
            **(NEUTRAL if self.can_score else {}),
        }
        try:
            return self._converse(self.http.url("chat/completions"), request.messages, settings, read, stop, self.budget)
        except Fault as fault:
            if fault.kind == FILTERED:
                return withheld(fault.details.filtered_by)
            raise

    def _weigh(self, pair: ScoreRequest, stop: Event) -> Likelihood:
        answer = self._ids({"prompt": pair.answer, "add_special_tokens": False}, stop)
        before = self.begins
        if pair.messages:
            ask: dict[str, Json] = {"add_generation_prompt": True}
            before = self._converse(self._tokenize, pair.messages, ask, _tokens, stop)
        before, answer = (before, answer) if before else (answer[:1], answer[1:])
        if not answer:
            return Likelihood(nll=0.0, tokens=0)
        ids = [*before, *answer]

        def read(reply: Reply) -> Likelihood:
            steps = reply["choices"][0]["prompt_logprobs"]
            if len(steps) != len(ids):
                raise ValueError("as many steps as tokens are wanted")
            logprobs = [float(steps[at][str(ids[at])]["logprob"]) for at in range(len(before), len(ids))]
            return Likelihood(nll=-math.fsum(logprobs), tokens=len(answer))

        return self._logprobs(ids, read, stop, self.budget)

    def _converse(
        self,
        url: str,
        messages: Sequence[Message],
        settings: Mapping[str, Json],
        read: Callable[[Reply], Read],
        stop: Event,
        budget: Budget | None = None,
    ) -> Read:
        """Ask about a conversation, in the dialect of the server."""

        def send(body: dict[str, Json], doubt: Doubt) -> Read:
            return self.http.call(url, {"model": self.name, **body}, read, budget=budget, stop=stop, doubt=doubt)

        return self._negotiator.ask(messages, {**settings, **self._of_template}, send, self.http.short)

    def _end(self, last: Fault, in_a_row: int, total: int) -> BackendError | None:
        """What ends the run after so many of `total` calls failed the same way in a row; None if it goes on."""
        if last.ends:
            return self._final(last)
        if in_a_row < min(total, max(PATIENCE, self.concurrency)):
            return None
        # A refusal concerns its own request, unless this server never took any.
        if last.refused and (self.budget.replies or total == 1):
            return None
        return BackendError(
            f"{self.endpoint}: {in_a_row} calls in a row failed, the last: {last.reason}; run the same command again to resume, "
            "answers given so far are kept"
        )

    def _final(self, fault: Fault) -> BackendError:
        """The error a user sees for a fault that no other request would escape."""
        kept = "; answers given so far are kept, and the same command resumes" if self.budget.replies else ""
        if fault.status in (401, 403):
            fix = f"check {self.http.variable}" if self.http.variable else "set BUCKLER_API_KEY (or OPENAI_API_KEY)"
            return BackendError(f"{self.endpoint} refuses access: {fix} ({fault.reason}){kept}")
        if fault.status == 404:
            why = f"has no model {self.name!r}, or is not the base URL of an API"
            return BackendError(f"{self.endpoint} {why} ({fault.reason}){kept}")
        return BackendError(f"{self.endpoint}: {fault.reason}{kept}")

    def _knock(self) -> None:
        """One call that costs nothing, to find out now whether the server is there and takes the key."""
        try:
            self.http.call(self.http.url("models"), None, bool, retries=0)
        except Fault as fault:  # not every server lists its models
            if fault.status == 401 or not self.http.reached:
                raise self._final(fault) from None

    def _can_score(self) -> bool:
        """Whether the server gives log-probabilities of a prompt, by a probe of three tokens; also finds what begins a text.

        Servers without `/tokenize` say so with any status, or with none: 404, 422, 500, an error within 200, another shape.
        """
        text = "one two three"
        try:
            ids = self._ids({"prompt": text, "add_special_tokens": False}, retries=PROBES)
            if not ids:
                return False
            self.begins = tokens_before(ids, self._ids({"prompt": text, "add_special_tokens": True}, retries=PROBES))
            return self._logprobs(ids, lambda reply: bool(reply["choices"][0].get("prompt_logprobs")), retries=PROBES)
        except Fault as fault:
            absent = fault.status == 404 and self.name in fault.reason  # the model, not the address
            if absent or (fault.passes and (not fault.status or fault.status in BUSY)):
                raise self._final(fault) from None
            return False

    @property
    def _tokenize(self) -> str:
        return self.http.url("tokenize", at_root=True)

    def _ids(self, what: Mapping[str, Json], stop: Event | None = None, retries: int | None = None) -> list[int]:
        return self.http.call(self._tokenize, {"model": self.name, **what}, _tokens, stop=stop, retries=retries)

    def _logprobs(
        self,
        ids: list[int],
        read: Callable[[Reply], Read],
        stop: Event | None = None,
        budget: Budget | None = None,
        retries: int | None = None,
    ) -> Read:
        body = {"model": self.name, "prompt": ids, "max_tokens": 1, "temperature": 0.0, "prompt_logprobs": 1}
        return self.http.call(self.http.url("completions"), body, read, stop=stop, budget=budget, retries=retries)


def _tokens(reply: Reply) -> list[int]:
    return [int(token) for token in reply["tokens"]]


def _in_order(pieces: Iterator[list[tuple[int, Result]]]) -> list[Result]:
    numbered = [one for piece in pieces for one in piece]
    return [one for _, one in sorted(numbered, key=lambda pair: pair[0])]


def iter_completed(
    items: Sequence[ToAnswer],
    ask: Callable[[ToAnswer, Event], Result],
    *,
    failed: Callable[[str], Result],
    ends: Callable[[Fault, int], BackendError | None],
    at_once: int,
) -> Iterator[list[tuple[int, Result]]]:
    """Ask for all, `at_once` at a time; each piece is what came since the last, with its number.

    Args:
        items: what is asked for.
        ask: asks for one, in a thread of its own; it makes no further try once the event is set.
        failed: what stands for an answer that never came, from the reason.
        ends: what ends the run after a fault, given how many of its kind came in a row; None if it goes on.
        at_once: calls under way.

    Raises:
        BackendError: the run has to end. No call is begun after the cause, and what was under way has come before.
    """
    stop = Event()
    finished: SimpleQueue[Future[Result]] = SimpleQueue()
    pool = ThreadPoolExecutor(at_once, thread_name_prefix="served")
    under_way = {pool.submit(ask, one, stop): at for at, one in enumerate(items)}
    for future in under_way:
        future.add_done_callback(finished.put)
    end: BackendError | None = None
    left, kind, in_a_row = len(under_way), "", 0
    try:
        while left:
            came: list[tuple[int, Result]] = []
            for future in _all_in(finished):
                left -= 1
                if future.cancelled():
                    continue
                try:
                    came.append((under_way[future], future.result()))
                    in_a_row = 0
                except Fault as fault:
                    if fault.kind == NOT_ASKED:
                        continue
                    came.append((under_way[future], failed(fault.reason)))
                    in_a_row = in_a_row + 1 if fault.kind == kind else 1
                    kind = fault.kind
                    end = end or ends(fault, in_a_row)
                except BackendError as fault:
                    end = end or fault
            if end is not None and not stop.is_set():
                stop.set()
                for future in under_way:
                    future.cancel()
            yield came
        if end is not None:
            raise end
    finally:
        stop.set()
        pool.shutdown(wait=False, cancel_futures=True)


def _all_in(finished: SimpleQueue[Future[Result]]) -> Iterator[Future[Result]]:
    """What has finished by now; waits for the first."""
    yield finished.get()
    while not finished.empty():
        yield finished.get()
