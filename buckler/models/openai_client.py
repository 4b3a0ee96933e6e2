"""Any OpenAI-compatible server as a model. vLLM's own server also gives the log-probabilities that `score` needs.

Generation is one chat completion a request. Scoring follows vLLM: the server's tokenizer makes the ids (`/tokenize`), and
`/v1/completions` with `prompt_logprobs` weighs them, so that the same tokens are counted as with transformers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from threading import Event

from buckler.data import Json, Message
from buckler.errors import BackendError
from buckler.models.calls import in_order, iter_completed
from buckler.models.dialect import FILTERED, NEUTRAL, Dialect, Doubt, Fault, Negotiator
from buckler.models.http import Budget, Read, Reply, Transport
from buckler.models.protocol import Completion, Likelihood, ModelSpec, Request, Sampling, ScoreRequest
from buckler.models.registry import identity
from buckler.models.reply import completion_of_reply, withheld
from buckler.models.served_template import ServedTemplate
from buckler.models.template_text import tokens_before
from buckler.progress import LOG

PATIENCE = 16
"""So many calls in a row that fail the same way (all of them, if there are fewer): the server is gone."""
PROBES = 2
"""Further tries of a call that finds out what the server can do."""
HELLO = (
    Message(role="system", content="You are a helpful assistant."),
    Message(role="user", content="Say hello."),
)
"""What a server is asked when it is loaded, for one token: its dialect is known before anything else is paid for."""
ABSENT = {400, 401, 403, 404, 405, 422, 501}
"""Statuses of an address that a server does not have."""
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
        self._kwargs = spec.chat_template_kwargs
        self._of_template: dict[str, Json] = (
            {"chat_template_kwargs": spec.chat_template_kwargs} if spec.chat_template_kwargs else {}
        )
        self.budget = Budget(spec.max_requests, spec.max_tokens)
        self.called = f"{spec.name}@{spec.endpoint}"
        self._negotiator, self._negotiated, self._replies_to_hello = Negotiator(self.called), False, 0
        self._knock()
        self.begins: list[int] = []
        """The tokens that its tokenizer puts before a text."""
        self._template: ServedTemplate | None = None
        self._cannot_score = ""
        """What `/tokenize` or the log-probabilities failed with, where that may pass."""
        self.can_score = self._can_score()

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """One completion a request, in order; those that never came say `failed` and why.

        Raises:
            BackendError: the budget is spent, the key or the model is refused, or the server is gone.
        """
        return in_order(self.completions(requests))

    def score(self, pairs: Sequence[ScoreRequest]) -> list[Likelihood]:
        """One likelihood a pair, in order; those that never came have an `error`.

        Raises:
            BackendError: this server gives no log-probabilities of a prompt; or as `generate`.
        """
        return in_order(self.likelihoods(pairs))

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
        if self._cannot_score:
            self.can_score = self._can_score()
        if not self.can_score:
            why = f" ({self._cannot_score})" if self._cannot_score else ""
            raise BackendError(
                f"{self.endpoint} returns no log-probabilities of prompts{why}: measure perplexity with a transformers model or "
                "a vLLM server"
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
        at_load = {"negotiated": "at load"} if self._negotiated else {}
        return {"can_score": self.can_score, **self._negotiator.dialect.to_json(), **at_load}

    def negotiate(self, known: Mapping[str, Json] | None = None) -> None:
        """Find the dialect of the server with one short call, unless an earlier run recorded it (`known`); refusals cost nothing.

        Raises:
            BackendError: the reply cannot be read, the key or the model is refused, or the budget is spent.
        """
        if known is not None and known.get("negotiated"):
            self._negotiator.dialect, self._negotiated = Dialect.from_json(known), True
            return
        sampling = Sampling(max_new_tokens=1)
        try:
            self._ask(HELLO, self._settings(sampling, seed=0), completion_of_reply, Event(), once=True)
            self._negotiated = True
        except Fault as fault:
            if fault.ends:
                raise self._final(fault) from None
            self._negotiator = Negotiator(self.called)
            LOG.warning("%s: a first short request brought nothing (%s); what it takes is found later", self.called, fault.reason)
        self._replies_to_hello = self.budget.replies

    def _answer(self, request: Request, stop: Event) -> Completion:
        sampling = request.sampling

        def read(reply: Reply) -> Completion:
            completion = completion_of_reply(reply)
            if completion.finish_reason == "failed":
                raise Fault(completion.error, charged=True)
            return completion

        settings = self._settings(sampling, seed=int(request.key, 16) % 2**31)  # servers differ in how long a seed they take
        try:
            return self._ask(request.messages, settings, read, stop)
        except Fault as fault:
            if fault.kind == FILTERED:
                return withheld(fault.details.filtered_by)
            raise

    def _settings(self, sampling: Sampling, *, seed: int) -> dict[str, Json]:
        return {
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_new_tokens,
            "seed": seed,
            **(NEUTRAL if self.can_score else {}),
        }

    def _ask(
        self,
        messages: Sequence[Message],
        settings: Mapping[str, Json],
        read: Callable[[Reply], Read],
        stop: Event,
        *,
        once: bool = False,
    ) -> Read:
        return self._converse(self.http.url("chat/completions"), messages, settings, read, stop, self.budget, once=once)

    def _weigh(self, pair: ScoreRequest, stop: Event) -> Likelihood:
        before = self.begins
        if pair.messages:
            before = self._converse(self._tokenize, pair.messages, {"add_generation_prompt": True}, _tokens, stop)
        if pair.messages and self._template is not None:
            before, answer = self._template.pair(before, pair.answer)
        else:
            answer = self._ids({"prompt": pair.answer, "add_special_tokens": False}, stop)
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
        *,
        once: bool = False,
    ) -> Read:
        """Ask about a conversation, in the dialect of the server; `once`: not again after a call that may have been paid for."""

        def send(body: dict[str, Json], doubt: Doubt) -> Read:
            return self.http.call(
                url,
                {"model": self.name, **body},
                read,
                budget=budget,
                stop=stop,
                retries=PROBES if once else None,
                doubt=lambda fault: (once and fault.charged) or doubt(fault),
            )

        return self._negotiator.ask(messages, {**settings, **self._of_template}, send, self.http.short)

    def _end(self, last: Fault, in_a_row: int, total: int) -> BackendError | None:
        """What ends the run after so many of `total` calls failed the same way in a row; None if it goes on."""
        if last.ends:
            return self._final(last)
        if in_a_row < min(total, max(PATIENCE, self.concurrency)):
            return None
        # A refusal concerns its own request, unless this server never took any.
        if last.refused and (self.budget.replies > self._replies_to_hello or total == 1):
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

        Servers without `/tokenize` say so with any status, or with none: 404, 422, 500, an error within 200, another shape. An
        error that may pass is asked about again, said, and asked about once more when there is something to score.
        """
        text, self._cannot_score = "one two three", ""
        try:
            ids = self._ids({"prompt": text, "add_special_tokens": False}, retries=PROBES)
            if not ids:
                return False
            self.begins = tokens_before(ids, self._ids({"prompt": text, "add_special_tokens": True}, retries=PROBES))
            scores = self._logprobs(ids, lambda reply: bool(reply["choices"][0].get("prompt_logprobs")), retries=PROBES)
            self._template = self._template_seen() if scores else None
            return scores
        except Fault as fault:
            absent = fault.status == 404 and self.name in fault.reason  # the model, not the address
            if absent or (fault.passes and (not fault.status or fault.status in BUSY)):
                raise self._final(fault) from None
            if not fault.ends and fault.status not in ABSENT:
                self._cannot_score = fault.reason
                LOG.warning("%s: no perplexity can be measured there now: /tokenize failed (%s)", self.called, fault.reason)
            return False

    def _template_seen(self) -> ServedTemplate | None:
        """What its chat template writes before an answer; None where it has none, or turns no ids into text."""
        to_text = self.http.url("detokenize", at_root=True)

        def text(ids: list[int]) -> str:
            body = {"model": self.name, "tokens": ids}
            return self.http.call(to_text, body, lambda reply: str(reply["prompt"]), costs_nothing=True)

        try:
            return ServedTemplate(self._ids, text, self._kwargs)
        except Fault as fault:
            LOG.warning(
                "%s: what its chat template writes before an answer is not known (%s): perplexities of answers may differ from a "
                "local model's",
                self.called,
                fault.reason,
            )
            return None

    @property
    def _tokenize(self) -> str:
        return self.http.url("tokenize", at_root=True)

    def _ids(self, what: Mapping[str, Json], stop: Event | None = None, retries: int | None = None) -> list[int]:
        return self.http.call(
            self._tokenize, {"model": self.name, **what}, _tokens, stop=stop, retries=retries, costs_nothing=True
        )

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
