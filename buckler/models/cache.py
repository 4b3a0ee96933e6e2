"""An on-disk cache of completions and likelihoods, keyed by content: model, conversation, sampling, seed."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from buckler.data import Message, content_id, turns_to_json
from buckler.errors import StoreError
from buckler.models.protocol import LM, Completion, Likelihood, Request, ScoreRequest, Streaming

ToAnswer = TypeVar("ToAnswer", Request, ScoreRequest)
AnswerType = TypeVar("AnswerType", Completion, Likelihood)


class CachedLM:
    """A model that is asked nothing twice, also over runs and processes. Nothing paid for is lost when a run is killed.

    What a `Streaming` model hands over is written as it comes, the answers of others a chunk at a time. Failed calls are not
    kept.
    """

    def __init__(self, model: LM, path: Path, chunk: int = 256) -> None:
        self.model, self.path, self.chunk = model, path, chunk
        self.identity = model.identity
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._database() as database:
            database.execute("CREATE TABLE IF NOT EXISTS given (key TEXT PRIMARY KEY, value TEXT NOT NULL)")

    @property
    def can_score(self) -> bool:
        """As the model's own."""
        return self.model.can_score

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """As the model's own, but only what is not known yet is asked."""
        keys = [f"g:{self.identity}:{request.key}" for request in requests]

        def ask(wanted: Sequence[Request]) -> Iterator[list[tuple[int, Completion]]]:
            if isinstance(self.model, Streaming):
                return self.model.completions(wanted)
            return _by_chunk(self.model.generate, wanted, self.chunk)

        return self._through(requests, keys, ask, Completion)

    def score(self, pairs: Sequence[ScoreRequest]) -> list[Likelihood]:
        """As the model's own, but only what is not known yet is asked."""
        keys = [f"s:{self.identity}:{content_id([turns_to_json(pair.messages), pair.answer])}" for pair in pairs]

        def ask(wanted: Sequence[ScoreRequest]) -> Iterator[list[tuple[int, Likelihood]]]:
            if isinstance(self.model, Streaming):
                return self.model.likelihoods(wanted)
            return _by_chunk(self.model.score, wanted, self.chunk)

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
    ) -> list[AnswerType]:
        """Known answers from the file, the others from the model, each piece written before the next is waited for."""
        known = {key: kind(**_fields(row)) for key, row in self._known(keys).items()}
        wanted = {key: item for key, item in zip(keys, items, strict=True) if key not in known}
        if wanted:
            names = list(wanted)
            for piece in ask(list(wanted.values())):
                came = {names[at]: one for at, one in piece}
                self._keep(came)
                known.update(came)
        return [known[key] for key in keys]

    def _keep(self, came: Mapping[str, Completion] | Mapping[str, Likelihood]) -> None:
        rows = [(key, _row(one)) for key, one in came.items() if not one.error]
        if not rows:
            return
        with self._database() as database:
            database.executemany("INSERT OR IGNORE INTO given VALUES (?, ?)", rows)

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


def _row(answer: Completion | Likelihood) -> str:
    return json.dumps(
        {"finish" if name == "finish_reason" else name: value for name, value in asdict(answer).items() if name != "error"}
    )


def _fields(row: str) -> dict[str, Any]:
    return {"finish_reason" if name == "finish" else name: value for name, value in json.loads(row).items()}


def _by_chunk(
    ask: Callable[[Sequence[ToAnswer]], list[AnswerType]], wanted: Sequence[ToAnswer], chunk: int
) -> Iterator[list[tuple[int, AnswerType]]]:
    for start in range(0, len(wanted), chunk):
        yield list(enumerate(ask(wanted[start : start + chunk]), start))
