"""Any OpenAI-compatible server as a model. vLLM's own server also gives the log-probabilities that `score` needs.

Generation is one chat completion a request. Scoring follows vLLM: the server's tokenizer makes the ids (`/tokenize`), and
`/v1/completions` with `prompt_logprobs` weighs them, so that the same tokens are counted as with transformers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from threading import Event
from typing import Final, TypeVar

from buckler.data import Json, Message, turns_to_json
from buckler.data.thinking import without_thinking
from buckler.errors import BackendError
from buckler.models.http import FILTERED, Budget, Fault, Read, Reply, Transport, iter_completed
from buckler.models.protocol import Completion, Likelihood, ModelSpec, Request, ScoreRequest
from buckler.models.registry import identity

Result = TypeVar("Result", Completion, Likelihood)

PATIENCE = 16
"""So many calls in a row that fail the same way (all of them, if there are fewer): the server is gone."""
NEUTRAL: Final[Mapping[str, Json]] = {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}
"""vLLM takes sampling defaults from the checkpoint unless set otherwise; here only what is asked for holds."""
GAVE_UP = ("abort", "error")
"""Reasons to finish that are the server's, not the model's."""


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
        self.http = Transport(spec.endpoint, concurrency=spec.concurrency, timeout=spec.timeout, retries=spec.retries, wait=wait)
        self.budget = Budget(spec.max_requests, spec.max_tokens)
        self._knock()
        self.bos: list[int] = []
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

    def _answer(self, request: Request, stop: Event) -> Completion:
        sampling = request.sampling

        def read(reply: Reply) -> Completion:
            choice = reply["choices"][0]
            reason = choice.get("finish_reason")
            if reason == "content_filter":
                raise Fault("the server's filter withheld the answer", kind=FILTERED, passes=False)
            if reason in GAVE_UP:
                raise Fault(f"the server did not finish the answer ({reason})")
            # What a reasoning model thought stands in a field of its own (`reasoning`), or in front of the content.
            text = without_thinking(choice["message"].get("content") or "")
            usage = reply.get("usage") or {}
            return Completion(
                text=text,
                finish_reason="length" if reason == "length" else "stop",
                tokens=usage.get("completion_tokens") or len(text.split()),
                prompt_tokens=usage.get("prompt_tokens") or 0,
            )

        settings: dict[str, Json] = {
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_new_tokens,
            "seed": int(request.key, 16) % 2**31,  # servers differ in how long a seed they take
            **(NEUTRAL if self.can_score else {}),
        }
        return self._converse(f"{self.endpoint}/chat/completions", request.messages, settings, read, stop, self.budget)

    def _weigh(self, pair: ScoreRequest, stop: Event) -> Likelihood:
        answer = self._ids({"prompt": pair.answer, "add_special_tokens": False}, stop)
        before = self.bos
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
        """Ask about a conversation; where its template knows no system role, with the system turn put before the question."""
        try:
            body = {"model": self.name, "messages": turns_to_json(messages), **settings}
            return self.http.call(url, body, read, budget=budget, stop=stop)
        except Fault as fault:
            if fault.status != 400 or messages[0]["role"] != "system" or len(messages) < 2:
                raise
        first = Message(role=messages[1]["role"], content=f"{messages[0]['content']}\n\n{messages[1]['content']}")
        body = {"model": self.name, "messages": turns_to_json([first, *messages[2:]]), **settings}
        return self.http.call(url, body, read, budget=budget, stop=stop)

    def _end(self, last: Fault, in_a_row: int, total: int) -> BackendError | None:
        """What ends the run after so many of `total` calls failed the same way in a row; None if it goes on."""
        if last.status in (401, 403, 404):
            return self._final(last)
        if in_a_row < min(total, max(PATIENCE, self.concurrency)):
            return None
        # A refusal concerns its own request, unless this server never took any.
        if last.refused and (self.budget.replies or total == 1 or last.kind == FILTERED):
            return None
        return BackendError(
            f"{self.endpoint}: {in_a_row} calls in a row failed, the last: {last.reason}; run the same command again to resume, "
            "answers given so far are kept"
        )

    def _final(self, fault: Fault) -> BackendError:
        """The error a user sees for a fault that no other request would escape."""
        if fault.status in (401, 403):
            fix = f"check {self.http.variable}" if self.http.variable else "set BUCKLER_API_KEY (or OPENAI_API_KEY)"
            return BackendError(f"{self.endpoint} refuses access: {fix} ({fault.reason})")
        if fault.status == 404:
            return BackendError(f"{self.endpoint} has no model {self.name!r}, or is not the base URL of an API ({fault.reason})")
        return BackendError(f"{self.endpoint}: {fault.reason}")

    def _knock(self) -> None:
        """One call that costs nothing, to find out now whether the server is there and takes the key."""
        once = Event()
        once.set()
        try:
            self.http.call(f"{self.endpoint}/models", None, bool, stop=once)
        except Fault as fault:  # not every server lists its models
            if fault.status == 401 or not self.http.reached:
                raise self._final(fault) from None

    def _can_score(self) -> bool:
        """Whether the server gives log-probabilities of a prompt, by a probe of three tokens; also finds its bos token."""
        text = "one two three"
        try:
            ids = self._ids({"prompt": text, "add_special_tokens": False})
            if not ids:
                return False
            marked = self._ids({"prompt": text, "add_special_tokens": True})
            self.bos = marked[: next((at for at, token in enumerate(marked) if token == ids[0]), 0)]
            return self._logprobs(ids, lambda reply: bool(reply["choices"][0].get("prompt_logprobs")))
        except Fault as fault:
            if fault.passes or (fault.status == 404 and self.name in fault.reason):
                raise self._final(fault) from None
            return False

    @property
    def _tokenize(self) -> str:
        return f"{self.endpoint.removesuffix('/v1')}/tokenize"

    def _ids(self, what: Mapping[str, Json], stop: Event | None = None) -> list[int]:
        return self.http.call(self._tokenize, {"model": self.name, **what}, _tokens, stop=stop)

    def _logprobs(
        self, ids: list[int], read: Callable[[Reply], Read], stop: Event | None = None, budget: Budget | None = None
    ) -> Read:
        body = {"model": self.name, "prompt": ids, "max_tokens": 1, "temperature": 0.0, "prompt_logprobs": 1}
        return self.http.call(f"{self.endpoint}/completions", body, read, stop=stop, budget=budget)


def _tokens(reply: Reply) -> list[int]:
    return [int(token) for token in reply["tokens"]]


def _in_order(pieces: Iterator[list[tuple[int, Result]]]) -> list[Result]:
    numbered = [one for piece in pieces for one in piece]
    return [one for _, one in sorted(numbered, key=lambda pair: pair[0])]
