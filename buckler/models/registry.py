"""Building the model that a spec names; a user's own stands behind the same two calls."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from buckler.data import Message
from buckler.errors import BackendError
from buckler.models.cache import CachedLM
from buckler.models.identity import identity
from buckler.models.protocol import BACKENDS, LM, Completion, Likelihood, ModelSpec, Request, ScoreRequest
from buckler.progress import note_loading


def load(spec: ModelSpec, *, cache: Path | None = None) -> LM:
    """Build the model `spec` names; with `cache`, completions asked for before are read from that file.

    Raises:
        BackendError: it cannot be found, reached or loaded, or has no chat template.
        ConfigError: there is no such backend, or one of the user's own is none.
    """
    note_loading(spec.name)
    name = spec.backend_name
    with BACKENDS.boundary(name):
        model: LM = BACKENDS.get(name)(spec)
    if spec.is_own:
        model = OwnLM(model, name, identity(spec))
    if cache is not None:
        model = CachedLM(model, cache)
    return model


class OwnLM:
    """A user's model, checked at every call. What it lacks has a default: it cannot score, and everything fits."""

    def __init__(self, model: object, backend: str, identity: str) -> None:
        if not callable(getattr(model, "generate", None)):
            raise BACKENDS.returned(backend, model, "a model: an object with `generate(requests)`")
        self.model: Any = model
        self.backend, self.identity = backend, identity
        self.can_score = callable(getattr(model, "score", None)) and bool(getattr(model, "can_score", True))

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """One completion a request, in order."""
        with BACKENDS.boundary(self.backend):
            completions: object = self.model.generate(requests)
        return BACKENDS.list_of(self.backend, completions, Completion, count=len(requests))

    def score(self, pairs: Sequence[ScoreRequest]) -> list[Likelihood]:
        """One likelihood a pair, in order."""
        if not self.can_score:
            raise BackendError(f"backend {self.backend!r} gives no likelihoods; it needs a `score(pairs)`")
        with BACKENDS.boundary(self.backend):
            likelihoods: object = self.model.score(pairs)
        return BACKENDS.list_of(self.backend, likelihoods, Likelihood, count=len(pairs))

    def overflow_tokens(self, messages: Sequence[Message], new_tokens: int) -> int:
        """By how many tokens a conversation is too long; 0 where the model does not say."""
        if not callable(getattr(self.model, "overflow_tokens", None)):
            return 0
        with BACKENDS.boundary(self.backend):
            tokens: object = self.model.overflow_tokens(messages, new_tokens)
        if not isinstance(tokens, int):
            raise BACKENDS.returned(self.backend, tokens, "a number of tokens from `overflow_tokens`")
        return tokens
