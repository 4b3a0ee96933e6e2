"""The job `rows`: what files of rows hold, and what became of each row and column; with a model, what it would learn of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from buckler.data import UNCLEAR, Chat, Json, to_learn, write_jsonl
from buckler.errors import ConfigError
from buckler.finetuning.settings import Objective, TrainSettings
from buckler.formats import Account, DocumentsError, account_lines, companion
from buckler.models.fit import require_ready
from buckler.models.protocol import ModelSpec
from buckler.workflow.inputs import ModelRef
from buckler.workflow.jobs.base import Result, mapping
from buckler.workflow.jobs.drawing import DrawingJob
from buckler.workflow.rows import require_trains
from buckler.workflow.sources import WORLD, Source, accounted_chats, accounted_documents


class RowsJob(DrawingJob):
    """What files of rows hold: every row and column accounted for, nothing written but the rows that cannot be read."""

    files: tuple[Source, ...] = Field(min_length=1)
    """Files or folders of rows in any known format, or hub data sets (owner/name:config@split)."""
    model: ModelSpec | None = None
    """Model whose chat template and tokenizer count tokens (default: characters are counted)."""
    max_length: int = Field(default=1024, ge=8)
    """Maximum length of a row, in tokens, as `train` has it."""
    documents: bool = False
    """Read the files as documents, as `crosstask` does (default: where their only column is a text)."""

    def run(self, out: Path = Path()) -> RowsReport:
        """Read the files; rows that cannot be read go to `rejected.jsonl` in `out` with `skip_bad`.

        Raises:
            ConfigError, DataError, BackendError: a file or the model cannot be read.
        """
        accounts: list[dict[str, Json]] = []
        bad: list[dict[str, Json]] = []
        used = False
        self.concerned([self.drawn(one, documents=self.documents) for one in self.files])
        for source in self.files:
            if source.source.startswith(WORLD):
                raise ConfigError(f"{source.source}: is a set of the miniature's world, which is generated; name a file")
            if (known := companion(source.source)) is not None:
                accounts.append({"source": source.source, **known})
                continue
            rows, account = self._read(source)
            saved = self.noted(account, self.drawn(source, documents=self.documents)).to_json()
            if self.model is not None and rows:
                saved |= self._tokens(rows, self.model)
            accounts.append(saved)
            bad += account.bad
            used |= bool(account.preferences)
        if self.use is not None and not used:
            raise ConfigError(f"`use` is {self.use}, but no row of these files has two answers; remove it")
        written: list[Path] = []
        if bad:
            written = [out / self.rejected_rows]
            write_jsonl(written[0], bad)
        return RowsReport(out=out, written=tuple(written), files=tuple(accounts))

    def _read(self, source: Source) -> tuple[list[Chat], Account]:
        """The rows of a file, none where it is one of documents, and its account."""
        drawn = self.drawn(source, documents=self.documents)
        if not self.documents:
            try:
                rows, account = accounted_chats(drawn, is_planned=True)
                assert account is not None, "no file has none"
                return rows, account
            except DocumentsError:
                pass
        account = accounted_documents(drawn, is_planned=True)[1]
        account.layout = f"documents ({account.layout})"
        return [], account

    def _tokens(self, rows: Sequence[Chat], spec: ModelSpec) -> dict[str, Json]:
        """Tokens of the rows as `train` sees them, and the first row with what is learnt of it marked."""
        from buckler.finetuning.batches import as_seen, encode
        from buckler.models.huggingface import template_of
        from buckler.models.loading import open_model

        require_ready(spec)
        require_trains(TrainSettings(), ModelRef(spec=spec))
        answered = [row for row in rows if row.answer is not None and not row.meta.get(UNCLEAR)]
        if not to_learn(answered):
            return {}
        model, tokenizer = open_model(spec, reads_weights=False)
        limit = min(self.max_length, getattr(model.config, "max_position_embeddings", None) or self.max_length)
        encoded, record = encode(template_of(model, tokenizer, spec), answered, Objective(), limit)
        lengths = sorted((len(one.ids) for one in encoded), reverse=True)
        counts = {name: len(value) for name in ("cut", "dropped") if isinstance(value := record[name], list)}
        tokens: dict[str, Json] = {
            "model": spec.name,
            "max_length": limit,
            "total": sum(lengths),
            "longest": lengths[0],
            **counts,
        }
        tokens |= {name: record[name] for name in ("supervised_tokens", "answers", "answers_learnt", "sequences")}
        tokens["answers_masked"] = record.get("answers_masked", 0)
        hidden = any(row.meta.get("harmful") or row.meta.get("label") in ("harmful", "unsafe") for row in answered)
        return {"tokens": tokens, **({} if hidden else {"first": as_seen(encoded[0], tokenizer)})}


@dataclass(frozen=True, kw_only=True, repr=False)
class RowsReport(Result):
    """What files of rows hold."""

    files: tuple[Mapping[str, Json], ...]
    """The account of each."""

    def lines(self) -> list[str]:
        """Each file's account."""
        return [line for one in self.files for line in account_lines(one)] + super().lines()

    def numbers(self) -> dict[str, Json]:
        """The accounts."""
        return {"read": [dict(one) for one in self.files]}

    def records(self) -> list[dict[str, Json]]:
        """One file a row."""
        counts = ((one, mapping(one["rows"]), mapping(one["answers"])) for one in self.files)
        return [
            {"file": one["source"], "layout": one["layout"], "read": rows["read"], "kept": rows["kept"], **answers}
            for one, rows, answers in counts
        ]
