"""A model that says what it is told: for tests, and to run a pipeline without weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from buckler.data import Message, content_id
from buckler.errors import ConfigError
from buckler.models.protocol import Completion, Likelihood, ModelSpec, Pair, Request
from buckler.registry import imported, is_place


class ScriptedLM:
    """Answers by `reply`, and finds every character of an answer equally likely unless `nll` says otherwise."""

    can_score = True

    def __init__(self, reply: Callable[[Request], str], nll: Callable[[Pair], float] | None = None) -> None:
        self._reply = reply
        self._nll = nll or (lambda pair: float(len(pair.answer)))
        self.identity = content_id(["scripted", getattr(reply, "__qualname__", "reply")])
        self.asked: list[Request] = []
        self.scored: list[Pair] = []

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """One reply a request; every request is kept in `asked`."""
        self.asked.extend(requests)
        replies = [self._reply(request) for request in requests]
        return [Completion(text=text, finish="stop", tokens=len(text.split())) for text in replies]

    def score(self, pairs: Sequence[Pair]) -> list[Likelihood]:
        """One likelihood a pair, a token a character; every pair is kept in `scored`."""
        self.scored.extend(pairs)
        return [Likelihood(nll=self._nll(pair), tokens=len(pair.answer)) for pair in pairs]

    def excess(self, messages: Sequence[Message], new_tokens: int) -> int:
        """Everything fits."""
        return 0


def scripted(spec: ModelSpec) -> ScriptedLM:
    """The model whose answers are those of the function that its name gives: `{name: mymodule:reply, backend: scripted}`.

    Raises:
        ConfigError: the name is no function at a `module:name`.
    """
    reply = imported(f"model {spec.name!r}", spec.name) if is_place(spec.name) else None
    if not callable(reply):
        raise ConfigError(f"model {spec.name!r}: a scripted model is named by its function, as `module:name`")
    return ScriptedLM(reply)
