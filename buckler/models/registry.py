"""A model by its spec: its identity by content, and the model itself with its cache.

Identity is found without loading anything heavy. The cache keeps completions and likelihoods on disk, keyed by content: model,
conversation, sampling, seed. A backend of the user's own stands behind the same two calls.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

from buckler.data import Json, Message, content_id, file_digest, planned_digest, read_json, turns_to_json, write_json
from buckler.data.hub import hub_or_cache
from buckler.data.reading import bounded_json, read_bytes, read_text
from buckler.errors import BackendError, DataError, StoreError
from buckler.models.calls import CHUNK, by_chunk, in_order
from buckler.models.places import ADAPTER_CONFIG, ADAPTER_WEIGHTS, dtype_of, first_line, location, with_base
from buckler.models.protocol import BACKENDS, LM, Completion, Likelihood, ModelSpec, Request, ScoreRequest, Streaming
from buckler.models.reply import read_again
from buckler.progress import note_loading
from buckler.registry import imported, is_place, source_digest

_PATTERNS = (
    "*.safetensors",
    "config.json",
    "tokenizer*",
    "chat_template*",
    "special_tokens_map.json",
    "vocab*",
    "merges*",
)
SERVERS, JUDGES_SERVERS = "servers.json", "judge-servers.json"
"""What was found out about each server whose answers lie in the same folder, by `NAME@URL`."""


def identity(spec: ModelSpec, *, planned: bool = False) -> str:
    """The hash of everything that decides what the model says.

    Local folders are hashed by the content of their files, hub models by their commit. What a server serves cannot be seen:
    its name, revision and endpoint stand for it, so a server that changes its weights must change its name or its address.
    The arithmetic counts: what `dtype: auto` stands for on this machine, unless that is float32. For a plan (`planned`), large
    files that did not change since an earlier command are not read again.

    Raises:
        BackendError: there is no such model.
    """
    settings = [spec.chat_template_kwargs] if spec.chat_template_kwargs else []
    if spec.endpoint is not None:
        return content_id(["served", spec.name, spec.revision, spec.endpoint, *settings])
    if spec.is_own:
        return _own(spec)
    spec = with_base(spec)
    adapter = None if spec.adapter is None else _part(spec.adapter, None, ADAPTER_CONFIG)
    parts = [_part(spec.name, spec.revision, "config.json", planned=planned), adapter]
    template = _digest(Path(spec.chat_template)) if spec.chat_template else None
    found = dtype_of(spec)
    dtype = spec.dtype if found == "float32" else found  # a key of float32 is what it was before `auto` could be anything else
    merge: list[Json] = [_part(name, None, ADAPTER_CONFIG) for name in spec.merge]
    below: list[Json] = [{"merge": merge}] if merge else []
    how: list[Json] = [one for one in (spec.quantize, spec.attn_implementation) if one]
    return content_id([*parts, template, dtype, *settings, *how, *below])


def _own(spec: ModelSpec) -> str:
    """What a backend of the user's own is: its source, and all its settings."""
    code = [BACKENDS.code(spec.backend_name)]
    if is_place(spec.name):
        what = f"model {spec.name!r}"
        code.append({"code": source_digest(what, imported(what, spec.name), spec.name)})
    fields = spec.model_dump(
        mode="json", include={"name", "adapter", "revision", "dtype", "chat_template", "chat_template_kwargs"}
    )
    template = _digest(Path(spec.chat_template)) if spec.chat_template else None
    return content_id(["backend", spec.backend_name, code, {**fields, "chat_template": template}])


def _part(name: str, revision: str | None, told_by: str, *, planned: bool = False) -> str:
    place = location(name)
    if place is None:
        return f"{name}@{_commit(name, revision)}"
    if place.is_file():
        return content_id([["gguf", _digest(place, planned=planned)]])
    if not (place / told_by).exists():
        raise BackendError(
            f"{place}: contains no {told_by}, which every {'adapter' if told_by == ADAPTER_CONFIG else 'model folder'} needs"
        )
    patterns = (ADAPTER_WEIGHTS, ADAPTER_CONFIG, *_PATTERNS)
    files = sorted({path for pattern in patterns for path in place.glob(pattern)})
    if told_by != ADAPTER_CONFIG:  # an adapter beside the weights of a model is not put on them
        files = [path for path in files if path.name not in (ADAPTER_WEIGHTS, ADAPTER_CONFIG)]
    return content_id([*([path.name, _digest(path, planned=planned)] for path in files), *_ends_of(place)])


def _ends_of(folder: Path) -> list[Json]:
    """What `generation_config.json` ends an answer with beside the `config.json`, which is hashed as a whole."""
    ends: list[dict[str, Json]] = []
    for name in ("config.json", "generation_config.json"):
        try:
            config = bounded_json(read_bytes(folder / name), constants=True)
            ends.append({key: config[key] for key in ("eos_token_id", "stop_strings") if config.get(key) is not None})
        except (DataError, ValueError, AttributeError):
            ends.append({})
    return [] if ends[1] == ends[0] or not ends[1] else [ends[1]]


def _digest(path: Path, *, planned: bool = False) -> str:
    try:
        return planned_digest(path) if planned else file_digest(path)
    except DataError as fault:
        raise BackendError(str(fault)) from None


def _commit(name: str, revision: str | None) -> str:
    """The commit of a hub model: from the local cache if it lies there, else from the hub."""
    from huggingface_hub import HfApi, constants

    reference = Path(constants.HF_HUB_CACHE) / f"models--{name.replace('/', '--')}" / "refs" / (revision or "main")
    if reference.exists():
        return read_text(reference).strip()
    try:
        with hub_or_cache() as why:
            return str(HfApi().model_info(name, revision=revision).sha)
    except Exception as fault:  # noqa: BLE001 - the hub client raises many kinds; all mean the same here
        reason = why or first_line(fault)
        raise BackendError(f"{name}: not a local folder, and not available from the hub ({reason[:160]})") from None


def load(spec: ModelSpec, *, cache: Path | None = None, negotiate: bool = True) -> LM:
    """Build the model `spec` names; with `cache`, completions asked for before are read from that file.

    The dialect of a server is found now, with one call for one token, unless it is recorded beside the cache (`negotiate`).

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
    if negotiate and isinstance(model, Recorded):
        model.negotiate(None if cache is None else _recorded(cache.with_name(SERVERS), model.called))
    if cache is not None:
        model = CachedLM(model, cache)
        model.note()
    return model


def _recorded(file: Path, called: str) -> Mapping[str, Json] | None:
    """What an earlier run found out about a server."""
    records = read_json(file) if file.is_file() else None
    record = records.get(called) if isinstance(records, Mapping) else None
    return record if isinstance(record, Mapping) else None


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
        return [read_again(one) for one in BACKENDS.list_of(self.backend, completions, Completion, count=len(requests))]

    def score(self, pairs: Sequence[ScoreRequest]) -> list[Likelihood]:
        """One likelihood a pair, in order."""
        if not self.can_score:
            raise BackendError(f"backend {self.backend!r} returns no log-likelihoods; it needs a method `score(pairs)`")
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


_IF_ANY = ("thinking", "tool_calls", "withheld_by", "began_inside", "own_words")
"""Fields of a completion that are written where there is something to write."""
ToAnswer = TypeVar("ToAnswer", Request, ScoreRequest)
AnswerType = TypeVar("AnswerType", Completion, Likelihood)


@runtime_checkable
class Recorded(Protocol):
    """A model that finds out what it is when it is loaded, and while it is asked: a server's dialect."""

    called: str

    def negotiate(self, known: Mapping[str, Json] | None = None) -> None:
        """Find it out before anything else is asked, or take what an earlier run recorded."""

    def record(self) -> dict[str, Json]:
        """What was found out so far."""


class CachedLM:
    """A model that is asked nothing twice, also over runs and processes. Nothing paid for is lost when a run is killed.

    What a `Streaming` model hands over is written as it comes, the answers of others a chunk at a time. Failed calls are not
    kept.
    """

    def __init__(self, model: LM, path: Path, chunk: int = CHUNK) -> None:
        self.model, self.path, self.chunk = model, path, chunk
        self.identity = model.identity
        self._noted: Json = None
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._database() as database:
            database.execute("CREATE TABLE IF NOT EXISTS given (key TEXT PRIMARY KEY, value TEXT NOT NULL)")

    @property
    def can_score(self) -> bool:
        """As the model's own."""
        return self.model.can_score

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """As the model's own, but only what is not known yet is asked."""
        return in_order(self.completions(requests))

    def completions(self, requests: Sequence[Request]) -> Iterator[list[tuple[int, Completion]]]:
        """What is known, and then the others as they come."""
        keys = [f"g:{self.identity}:{request.key}" for request in requests]

        def ask(wanted: Sequence[Request]) -> Iterator[list[tuple[int, Completion]]]:
            if isinstance(self.model, Streaming):
                return self.model.completions(wanted)
            return by_chunk(self.model.generate, wanted, self.chunk)

        return self._through(requests, keys, ask, Completion)

    def score(self, pairs: Sequence[ScoreRequest]) -> list[Likelihood]:
        """As the model's own, but only what is not known yet is asked."""
        return in_order(self.likelihoods(pairs))

    def likelihoods(self, pairs: Sequence[ScoreRequest]) -> Iterator[list[tuple[int, Likelihood]]]:
        """What is known, and then the others as they come."""
        # 0.1.0 weighed texts by themselves after another token, under `s`.
        keys = [
            f"{'s' if pair.messages else 'text'}:{self.identity}:{content_id([turns_to_json(pair.messages), pair.answer])}"
            for pair in pairs
        ]

        def ask(wanted: Sequence[ScoreRequest]) -> Iterator[list[tuple[int, Likelihood]]]:
            if isinstance(self.model, Streaming):
                return self.model.likelihoods(wanted)
            return by_chunk(self.model.score, wanted, self.chunk)

        return self._through(pairs, keys, ask, Likelihood)

    def overflow_tokens(self, messages: Sequence[Message], new_tokens: int) -> int:
        """As the model's own."""
        return self.model.overflow_tokens(messages, new_tokens)

    def _through(
        self,
        items: Sequence[ToAnswer],
        keys: Sequence[str],
        ask: Callable[[Sequence[ToAnswer]], Iterator[list[tuple[int, AnswerType]]]],
        kind: type[AnswerType],
    ) -> Iterator[list[tuple[int, AnswerType]]]:
        """Known answers from the file, the others from the model, each piece written before the next is waited for."""
        places: dict[str, list[int]] = {}
        for at, key in enumerate(keys):
            places.setdefault(key, []).append(at)
        known = {key: _read(kind(**_fields(row))) for key, row in self._known(list(places)).items()}
        if known:
            yield [(at, one) for key, one in known.items() for at in places[key]]
        if names := [key for key in places if key not in known]:
            for piece in ask([items[places[key][0]] for key in names]):
                came = {names[at]: one for at, one in piece}
                self._keep(came)
                self.note()
                yield [(at, one) for key, one in came.items() for at in places[key]]

    def _keep(self, came: Mapping[str, Completion] | Mapping[str, Likelihood]) -> None:
        rows = [(key, _row(one)) for key, one in came.items() if not one.error]
        if not rows:
            return
        with self._database() as database:
            database.executemany("INSERT OR IGNORE INTO given VALUES (?, ?)", rows)

    def note(self) -> None:
        """Write beside the answers what was found out about the server that gave them."""
        if isinstance(self.model, Recorded) and (record := self.model.record()) != self._noted:
            self._noted = record
            path = self.path.with_name(SERVERS)
            before = read_json(path) if path.exists() else {}
            write_json(path, {**(before if isinstance(before, dict) else {}), self.model.called: record})

    def _known(self, keys: Sequence[str]) -> dict[str, str]:
        rows: dict[str, str] = {}
        with self._database() as database:
            for start in range(0, len(keys), 500):
                part = keys[start : start + 500]
                marks = ",".join("?" * len(part))
                rows.update(database.execute(f"SELECT key, value FROM given WHERE key IN ({marks})", part).fetchall())
        return rows

    @contextmanager
    def _database(self) -> Iterator[sqlite3.Connection]:
        try:
            connection = sqlite3.connect(self.path, timeout=60)
            try:
                with connection:
                    yield connection
            finally:
                connection.close()
        except sqlite3.Error as fault:
            raise StoreError(
                f"{self.path}: not a readable cache ({fault}); move it away, and its answers are generated again"
            ) from None


def _read(answer: AnswerType) -> AnswerType:
    """An older version kept thoughts in the text."""
    return read_again(answer) if isinstance(answer, Completion) else answer


def _row(answer: Completion | Likelihood) -> str:
    unwritten = {"error", *(name for name in _IF_ANY if not getattr(answer, name, None))}
    return json.dumps(
        {"finish" if name == "finish_reason" else name: value for name, value in asdict(answer).items() if name not in unwritten}
    )


def _fields(row: str) -> dict[str, Any]:
    fields = {"finish_reason" if name == "finish" else name: value for name, value in bounded_json(row, constants=True).items()}
    return {**fields, **({"tool_calls": tuple(fields["tool_calls"])} if "tool_calls" in fields else {})}
