"""A language model behind two calls over lists, `generate` and `score`: what goes in, what comes out, what a backend is.

Answers come in the order of the requests. `BACKENDS` names the backends; `ScriptedLM` is the smallest.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias, TypeGuard, runtime_checkable

from pydantic import Field, JsonValue, field_validator, model_validator

from buckler.data import FinishReason, Json, Message, content_id, kind_at, turns_to_json
from buckler.data.reply import no_text
from buckler.errors import ConfigError
from buckler.models.dtype import Dtype
from buckler.models.endpoint import endpoint_of
from buckler.registry import Registry, allow, allow_remote_code, imported, is_place
from buckler.settings import Settings


class ModelSpec(Settings):
    """Which model, and how it is loaded: light, picklable, hashable. A plain text stands for `spec_of` of it.

    `buckler.models.registry.load` builds the heavy thing."""

    unwritten_if_empty = tuple("backend chat_template_kwargs threads quantize attn_implementation merge batch_tokens".split())
    paths = ("name", "adapter", "merge", "chat_template")
    checks_itself = ("name", "backend", "endpoint")
    name: str
    """`miniature` or one of its variants, a local folder, a GGUF file, an adapter's folder (its base is named in it), a hub id,
    or your own backend as `module:Class`; with `endpoint`, the name of the model on the server."""
    adapter: str | None = None
    """PEFT adapter to load on the model: a folder or a hub id."""
    merge: tuple[str, ...] = ()
    """PEFT adapters (folders or hub ids) to merge into the weights in float32 as they are loaded, one after another."""
    revision: str | None = None
    """Hub revision of the model."""
    dtype: Dtype = "auto"
    """Arithmetic: float32, bfloat16, or float16 (answering on a GPU only). `auto` is bfloat16 on a CPU with AMX and on a GPU with
    bfloat16, float32 elsewhere and for small models; training keeps float32 master weights."""
    threads: int | None = Field(default=None, ge=1)
    """CPU threads of a process that loads the model (default: `OMP_NUM_THREADS`, else 1 on the command line). Sums of several
    threads may differ in their last bits."""
    quantize: Literal["4bit", "8bit"] | None = None
    """Load the weights quantized by bitsandbytes; adapters are then trained on them (QLoRA)."""
    attn_implementation: Literal["eager", "sdpa", "flash_attention_2", "flash_attention_3"] | None = None
    """Attention of transformers (default: its choice, mostly sdpa); flash ones need their package, a GPU and half precision."""
    device: str = "auto"
    """Device; `auto` is the first GPU, or the CPU if there is none."""
    batch_tokens: int | None = Field(default=None, ge=1)
    """Maximum number of tokens held at once, padding included (default: what a GPU's free memory holds; 16384 on a CPU)."""
    chat_template: str | None = None
    """File with a Jinja chat template, in place of the tokenizer's own."""
    chat_template_kwargs: dict[str, JsonValue] = Field(default_factory=dict)
    """Settings of the chat template, such as {enable_thinking: false}; the same in training, answering and scoring."""
    trust_remote_code: bool = False
    """Run code that is shipped with the weights."""
    endpoint: str | None = None
    """Base URL of an OpenAI-compatible server, such as http://127.0.0.1:8000/v1. The settings below it, up to `max_tokens`, are
    for servers only."""
    concurrency: int = Field(default=16, ge=1)
    """Maximum number of concurrent requests."""
    timeout: float = Field(default=120.0, gt=0)
    """Maximum number of seconds from a request to the end of its reply, and of a wait that the server asks for."""
    retries: int = Field(default=8, ge=0)
    """Maximum number of retries of a failed request."""
    max_requests: int | None = Field(default=None, ge=1)
    """Budget of this run in billed requests, retries included (default: no limit)."""
    max_tokens: int | None = Field(default=None, ge=1)
    """Budget of this run in tokens, as the server counts them (default: no limit); requests in progress may exceed it."""
    backend: str | None = None
    """Backend, if the name does not say it: `scripted` (for a function as `module:name`), an installed one, or `module:Class`."""

    @model_validator(mode="after")
    def _may_be_loaded(self) -> ModelSpec:
        if self.backend is not None and self.endpoint is not None:
            raise ValueError("`endpoint` and `backend` exclude each other; give one of them")
        of_loading = ("dtype", "threads", "quantize", "attn_implementation", "batch_tokens")
        named = [name for name in of_loading if getattr(self, name) not in (None, "auto")]
        if self.endpoint is not None and named:
            raise ValueError(f"`{named[0]}` of a served model must be set on the server; remove it here")
        if self.merge and (self.endpoint is not None or self.quantize is not None or self.is_own):
            raise ValueError("`merge` is for weights that are loaded here, and not quantized; remove it")
        if self.trust_remote_code:
            allow_remote_code(self.name)
        if self.is_own:
            allow(f"backend {self.backend_name!r}", self.backend_name)
            allow(f"model {self.name!r}", self.name)
        return self

    def __hash__(self) -> int:
        return hash(self.model_dump_json())

    @property
    def is_local(self) -> bool:
        """Whether its weights are loaded here."""
        return self.endpoint is None and not self.is_own

    def loaded_so(self, **how: object) -> ModelSpec:
        """The spec with `dtype`, `threads` and others as given, where they are no None and it says nothing itself.

        Only weights that are loaded here can be loaded in another way.
        """
        changes = {name: value for name, value in how.items() if value is not None and getattr(self, name) in (None, "auto")}
        return self.model_copy(update=changes) if self.is_local else self

    @property
    def backend_name(self) -> str:
        """The one of `BACKENDS` that loads it."""
        if self.endpoint is not None:
            return "openai"
        own = ":" in self.name and is_place(self.name) and kind_at(self.name) != "folder"
        return self.backend or (self.name if own else "huggingface")

    @property
    def is_own(self) -> bool:
        """Whether the user's own code answers for it."""
        return self.backend_name not in ("openai", "huggingface")

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: object) -> object:
        return spec_of(str(value)).model_dump(exclude_unset=True) if isinstance(value, str | Path) else value

    @field_validator("endpoint")
    @classmethod
    def _is_url(cls, value: str | None) -> str | None:
        return None if value is None else endpoint_of(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How an answer is drawn."""

    temperature: float = 0.0
    """Sampling temperature; 0 selects the most likely token (greedy decoding)."""
    top_p: float = 1.0
    """Nucleus sampling: the smallest set of tokens whose probability reaches this."""
    max_new_tokens: int = 128
    num_beams: int = 1
    """Number of beams (beam search); only with temperature 0."""
    seed: int = 0
    """Random seed; a sample depends on it and on the conversation alone, not on the rest of the batch."""

    def __post_init__(self) -> None:
        beams, heat = self.num_beams, self.temperature
        checks = {
            "max_new_tokens": (type(self.max_new_tokens) is int and self.max_new_tokens >= 1, "a whole number of at least 1"),
            "num_beams": (type(beams) is int and beams >= 1, "a whole number of at least 1"),
            "seed": (type(self.seed) is int, "a whole number"),
            "temperature": (isinstance(heat, int | float) and 0 <= heat < math.inf, "a number of at least 0"),
            "top_p": (isinstance(self.top_p, int | float) and 0 < self.top_p <= 1, "a number above 0 and at most 1"),
        }
        for name, wanted in ((name, wanted) for name, (fits, wanted) in checks.items() if not fits):
            raise ConfigError(f"{name} must be {wanted}, got {getattr(self, name)!r}")
        if beams > 1 and heat > 0:
            raise ConfigError(f"num_beams {beams} needs temperature 0, not {heat}: beam search does not sample")

    def to_json(self) -> dict[str, Json]:
        """As it is hashed and recorded."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, kw_only=True)
class Request:
    """A conversation to be answered."""

    messages: tuple[Message, ...]
    sampling: Sampling = Sampling()

    @cached_property
    def key(self) -> str:
        """The hash of what is asked and how."""
        return content_id({"messages": turns_to_json(self.messages), "sampling": self.sampling.to_json()})


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """An answer."""

    text: str
    finish_reason: FinishReason
    """Whether the model ended it, or the token limit did; `failed`: no answer came, and `text` is empty."""
    tokens: int
    prompt_tokens: int = 0
    """Tokens of the conversation it answers; 0 where a server does not tell."""
    error: str = ""
    """Why no answer came."""
    thinking: str = ""
    """What a reasoning model thought first; no part of `text`."""
    tool_calls: tuple[Json, ...] = ()
    """Calls of tools, each as `{"name": ..., "arguments": ...}`."""
    withheld_by: str = ""
    """The provider's word for its own refusal or filter; empty: the model's answer was let through."""
    began_inside: bool = False
    """Whether the text began inside a thought that the chat template had opened."""
    own_words: bool = False
    """Whether the text, which reads like the marker of a filter, is known to be the model's own: no provider stands between."""

    @property
    def no_text(self) -> str:
        """Why there is no text of the model's; "" if there is one, or if the answer is plainly empty."""
        return no_text(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreRequest:
    """A conversation and an answer whose likelihood is wanted."""

    messages: tuple[Message, ...]
    """Empty: the likelihood of the text by itself, after what the tokenizer puts before every text (`tokens_before`). Where it
    puts nothing there, the first token is context and is not counted."""
    answer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Likelihood:
    """How likely an answer is, given its conversation."""

    nll: float
    """Summed negative log-likelihood in nats, of the answer's own tokens (the end of turn is not counted)."""
    tokens: int
    error: str = ""
    """Why there is none; `nll` and `tokens` are then 0, and the perplexity infinite."""

    @property
    def perplexity(self) -> float:
        """`exp(nll / tokens)` (arXiv 2410.02220, section on perplexity); infinity where it overflows."""
        if not self.tokens:
            return math.inf
        return math.exp(min(self.nll / self.tokens, 700.0))


class LM(Protocol):
    """What every backend is."""

    identity: str
    """A hash of weights, tokenizer and template: the same string only for the same model."""

    @property
    def can_score(self) -> bool:
        """Whether `score` works: some servers give no log-probabilities."""

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """One completion a request, in order."""

    def score(self, pairs: Sequence[ScoreRequest]) -> list[Likelihood]:
        """One likelihood a pair, in order."""

    def overflow_tokens(self, messages: Sequence[Message], new_tokens: int) -> int:
        """By how many tokens a conversation and `new_tokens` after it pass what the model can read; 0 or less fits."""


@runtime_checkable
class Streaming(Protocol):
    """A backend that hands over answers as they come, so that they can be kept at once. Failed ones come too.

    Each piece is what came since the last. An error is raised only after everything that was under way has come.
    """

    def completions(self, requests: Sequence[Request]) -> Iterator[list[tuple[int, Completion]]]:
        """Completions with their request's number, each once, in any order."""

    def likelihoods(self, pairs: Sequence[ScoreRequest]) -> Iterator[list[tuple[int, Likelihood]]]:
        """Likelihoods with their pair's number, each once, in any order."""


class ScriptedLM:
    """A model without weights, for tests: answers by `reply`; a character of an answer costs 1 nat unless `nll` is given."""

    can_score = True

    def __init__(self, reply: Callable[[Request], str], nll: Callable[[ScoreRequest], float] | None = None) -> None:
        self._reply = reply
        self._nll = nll or (lambda pair: float(len(pair.answer)))
        self.identity = content_id(["scripted", getattr(reply, "__qualname__", "reply")])
        self.requests: list[Request] = []
        self.scored: list[ScoreRequest] = []

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """One reply a request; every request is kept in `requests`."""
        self.requests.extend(requests)
        replies = [self._reply(request) for request in requests]
        return [Completion(text=text, finish_reason="stop", tokens=len(text.split())) for text in replies]

    def score(self, pairs: Sequence[ScoreRequest]) -> list[Likelihood]:
        """One likelihood a pair, a token a character; every pair is kept in `scored`."""
        self.scored.extend(pairs)
        return [Likelihood(nll=self._nll(pair), tokens=len(pair.answer)) for pair in pairs]

    def overflow_tokens(self, messages: Sequence[Message], new_tokens: int) -> int:
        """Everything fits."""
        return 0


def scripted(spec: ModelSpec) -> ScriptedLM:
    """The model whose answers are those of the function that its name gives: `{name: mymodule:reply, backend: scripted}`.

    Raises:
        ConfigError: the name is no function at a `module:name`.
    """
    reply = imported(f"model {spec.name!r}", spec.name) if is_place(spec.name) else None
    if not callable(reply):
        raise ConfigError(f"model {spec.name!r}: a scripted model must be named by its function, as `module:name`")
    return ScriptedLM(reply)


Backend: TypeAlias = Callable[[ModelSpec], Any]
"""Makes a model of its spec."""


def _accepts(part: object) -> TypeGuard[Backend]:
    return callable(part)


BACKENDS: Registry[Backend] = Registry(
    "backend",
    "buckler.backends",
    {
        "huggingface": "buckler.models.huggingface:HuggingFaceLM",
        "openai": "buckler.models.openai_client:ServedLM",
        "scripted": "buckler.models.protocol:scripted",
    },
    _accepts,
    "a class made of a ModelSpec, with `generate(requests)`, perhaps `score(pairs)`, `overflow_tokens(messages, new_tokens)`",
)


def spec_of(name: str, adapter: str | None = None) -> ModelSpec:
    """The spec of a model named on the command line or in a recipe; `NAME@URL` is model NAME of the server at URL.

    Raises:
        ConfigError: the name is empty, or the URL is none.
    """
    match = re.fullmatch(r"(.*?)@(\w*://.*)", name.strip())
    if match is None:
        if not name.strip():
            raise ConfigError("the model's name is empty; try `miniature`, a folder, or a hub id")
        return ModelSpec(name=name, adapter=adapter)
    if not match[1]:
        raise ConfigError(f"{name}: the model's name on this server is missing; write NAME{name.strip()}")
    if adapter:
        raise ConfigError(f"{name}: adapters of a served model are loaded by the server; name the served adapter as the model")
    return ModelSpec(name=match[1], endpoint=endpoint_of(match[2]))
