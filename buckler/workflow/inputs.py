"""What steps take in: rows of a file or of a named set of the miniature's world, models, tasks of the user's own.

Also the checks on what a model gave back.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import Field, field_validator, model_validator

from buckler import formats
from buckler.crosstask.task import Task
from buckler.crosstask.tasks import read_tasks, tasks_code
from buckler.data import ROWS, Answer, Chat, Document, Json, content_id, file_digest, read_chats, read_documents, read_json
from buckler.errors import BackendError, ConfigError, DataError
from buckler.models.dtype import supposes
from buckler.models.fit import require_ready
from buckler.models.places import base_of, dtype_of, with_base, with_merged
from buckler.models.protocol import LM, Likelihood, ModelSpec
from buckler.models.registry import identity, load
from buckler.progress import LOG
from buckler.registry import is_place
from buckler.settings import Settings
from buckler.workflow.step import Outside, Run, Step

WORLD = "miniature:"
RowT = TypeVar("RowT", Chat, Document)


class Source(Settings):
    """Rows of a set. A plain text stands for the source of that name."""

    unwritten_if_empty = ("format",)
    checks_itself = ("source", "format")
    paths = ("source",)
    source: str
    """Path or hub id of the rows, or `miniature:SET`; `FORMAT@PATH` also names the format."""
    count: int | None = Field(default=None, ge=1)
    """Number of rows (default: all; required for a set of the miniature's world)."""
    seed: int = 0
    """Random seed of the sample. For training rows in a recipe the run's own seed is added, so that seeds differ in their
    data."""
    split: Literal["train", "dev", "test"] = "train"
    """Split, for a set of the miniature's world."""
    label: Literal["harmful", "benign", "useful"] | None = None
    """Label of documents that have none of their own."""
    probe_set: Literal["harmful", "borderline", "benign"] | None = None
    """Probe set of the rows: harmful (should be refused), borderline or benign (should be answered)."""
    format: str | None = None
    """Format of the rows, if it cannot be detected: a name, or your own as `module:name`."""

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: object) -> object:
        values = {"source": str(value)} if isinstance(value, str | Path) else value
        if not isinstance(values, dict | Source):
            raise ValueError("expected a file, a set such as `miniature:customer`, or keys such as `source` and `count`")
        source = values.get("source") if isinstance(values, dict) else None
        if not isinstance(values, dict) or not isinstance(source, str) or values.get("format") or "@" not in source:
            return values
        name, _, path = source.partition("@")
        named = not Path(source).exists() and (is_place(name) or name in formats.FORMATS)
        return {**values, "format": name, "source": path} if named else values

    @field_validator("format")
    @classmethod
    def _is_format(cls, value: str | None) -> str | None:
        if value is not None:
            formats.FORMATS.get(value)
        return value

    def reseeded(self, seed: int) -> Source:
        """The same source drawn with another seed."""
        return self.model_copy(update={"seed": self.seed + seed})


def at_most(
    limit: int | None,
    name: str,
    *,
    seed: int = 0,
    split: Literal["train", "dev", "test"] = "train",
    documents: bool = False,
    format: str | None = None,
) -> Source:
    """What `--limit` asks of a file: so many rows, or all where there are fewer (a recipe's `count` must be there in full).

    Raises:
        DataError: the file cannot be read.
    """
    source = Source(source=name, count=limit, seed=seed, split=split, format=format)
    if limit is None or name.startswith(WORLD):
        return source
    rows = formats.read_documents(source.source) if documents else formats.read_chats(source.source, format=source.format)
    different = len({row.id for row in rows})
    return source if limit < different else source.model_copy(update={"count": None})


def format_code(source: Source) -> dict[str, str]:
    """The hash of the source of a format that another package or the user brings, for chats; nothing for Buckler's.

    Raises:
        DataError: the file cannot be read.
    """
    if source.source.startswith(WORLD):
        return {}
    name = source.format or formats.own_format(source.source)
    return {} if name is None else formats.FORMATS.code(name)


def fingerprint(source: Source) -> dict[str, Json]:
    """What decides the rows, by content: the settings, and the hash of the file instead of its place.

    Raises:
        DataError: there is no such file.
    """
    fields: dict[str, Json] = source.model_dump(mode="json")
    if not source.source.startswith(WORLD):
        fields["source"] = _digest(Path(source.source).expanduser())
    return fields


def source_chats(source: Source) -> list[Chat]:
    """The chats of a source.

    Raises:
        ConfigError, DataError: there is no such set or file, or it holds fewer rows than asked for.
    """
    if source.source.startswith(WORLD):
        from buckler.miniature import sets

        sets.require_set(_world_set(source))
        return sets.chats(_world_set(source), count=_world_count(source), seed=source.seed, split=source.split)
    return _drawn(formats.read_chats(source.source, format=source.format), source)


def source_documents(source: Source) -> list[Document]:
    """The documents of a source; `label` is put on those that have none.

    Raises:
        ConfigError, DataError: there is no such set or file, or it holds fewer rows than asked for.
    """
    if source.source.startswith(WORLD):
        from buckler.miniature import sets

        sets.require_set(_world_set(source))
        return sets.texts(count=_world_count(source), seed=source.seed, split=source.split)
    rows = _drawn(formats.read_documents(source.source), source)
    if source.label is None:
        return rows
    return [Document.of(row.text, **{"label": source.label, **row.meta}) for row in rows]


def _world_set(source: Source) -> str:
    return source.source.removeprefix(WORLD)


def _world_count(source: Source) -> int:
    if source.count is None:
        raise ConfigError(f"{source.source}: this set is generated without end; set the number of rows with `count` or --limit")
    return source.count


def _drawn(rows: Sequence[RowT], source: Source) -> list[RowT]:
    """`count` distinct rows, drawn by the hash of seed and id: the draw does not depend on the file's order."""
    unique = {row.id: row for row in rows}
    if source.count is None:
        return list(unique.values())
    if source.count > len(unique):
        raise DataError(
            f"{source.source}: {source.count} rows requested, but it has only {len(unique)} distinct rows; request fewer"
        )
    kept = sorted(unique, key=lambda row: content_id([source.seed, row]))[: source.count]
    chosen = set(kept)
    return [row for row in unique.values() if row.id in chosen]


def _digest(path: Path) -> str:
    """SHA-256 of a file, or of all files of a folder; a name that is no path stands for itself (a hub data set)."""
    if path.is_dir():
        files = sorted(one for one in path.rglob("*") if one.is_file() and not one.name.startswith("."))
        return content_id([[str(one.relative_to(path)), _digest(one)] for one in files])
    if not path.exists():
        if str(path).count("/") == 1 and not path.suffix and not path.is_absolute():
            return f"hub:{path}"
        raise DataError(f"{path}: no such file")
    return file_digest(path)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRef:
    """A model that steps use: an outside one by its content, or the result of a training step."""

    spec: ModelSpec | None = None
    made_by: Step | None = None
    digest: str = ""
    dtype: str = "auto"
    """In what the outside model computes, on the machine where the run is planned."""

    @classmethod
    def outside(cls, spec: ModelSpec) -> ModelRef:
        """A model that is there already.

        Raises:
            BackendError: it is not, or cannot answer.
        """
        digest, spec = identity(spec, planned=True), with_base(spec)
        require_ready(spec)
        dtype = dtype_of(spec)
        if spec.dtype == "auto" and dtype == "bfloat16" and not supposes():
            LOG.info("%s: computing in bfloat16, which this machine is made for (`dtype: float32` for full precision)", spec.name)
        return cls(spec=spec, digest=digest, dtype=dtype)

    def inputs(self, role: str = "model") -> dict[str, Step]:
        """The input steps that make a step depend on this model."""
        return {role: self.made_by} if self.made_by is not None else {}

    def places(self, role: str = "model") -> dict[str, Outside]:
        """The outside things that make a step depend on this model."""
        if self.spec is None:
            return {}
        place = {**self.spec.model_dump(mode="json"), "computes_in": self.dtype}
        return {role: Outside(digest=self.digest, place=json.dumps(place))}


def model_spec(run: Run[Settings], role: str) -> ModelSpec:
    """The model of an input step, or the outside one.

    Raises:
        BackendError: this machine computes in another type than the one where the run was planned.
        ConfigError: the step was given none for this role.
    """
    if role in run.inputs:
        training = None if run.step is None else run.step.inputs[role]
        return trained_spec(run.inputs[role], None if training is None else partial(base_spec, training, run.folder_of))
    if role not in run.outside:
        raise ConfigError(f"this step needs a {role}, but the recipe names none")
    spec, planned = outside_spec(run.outside[role])
    require_planned_type(spec, planned)
    return spec


def outside_spec(place: str) -> tuple[ModelSpec, str]:
    """An outside model, and the type in which it was planned to compute."""
    values = json.loads(place)
    planned = values.pop("computes_in", "auto")
    return ModelSpec.model_validate(values), str(planned)


def base_spec(training: Step, folder_of: Callable[[Step], Path]) -> ModelSpec:
    """What a training step goes on from, where it lies now: an outside model, or what another training step made."""
    if (before := training.inputs.get("model")) is not None:
        return trained_spec(folder_of(before), partial(base_spec, before, folder_of))
    return outside_spec(training.outside["model"].place)[0]


def require_planned_type(spec: ModelSpec, planned: str) -> None:
    """Refuse to compute in another type than the one that the key of the step holds (BackendError)."""
    if spec.is_local and planned not in ("auto", dtype_of(spec)):
        raise BackendError(
            f"{spec.name}: the run was planned with {planned}, but this machine would compute in {dtype_of(spec)}; "
            f"name one for all machines, such as `dtype: {planned}` at the model"
        )


def trained_spec(folder: Path, base: Callable[[], ModelSpec] | None = None) -> ModelSpec:
    """The model of a training step, computing as it did in training: that is part of the key of what uses it.

    LoRA leaves an adapter, which is merged into `base` (default: the one it names) on loading; older versions, the merged model.
    """
    record = read_json(folder / "training.json") if (folder / "training.json").exists() else {}
    values = record if isinstance(record, Mapping) else {}
    whole, adapter = folder / "model", folder / "adapter"
    spec = ModelSpec(name=str(whole))
    if adapter.exists() and not whole.exists():
        spec = with_merged(base() if base else ModelSpec(name=base_of(adapter)[0]), adapter)
    how = {name: values.get(name) for name in ("threads", "attn_implementation")}
    spec = ModelSpec.model_validate({**spec.model_dump(), **how})
    dtype = values.get("dtype", "float32")
    return spec if dtype == dtype_of(spec) else spec.model_copy(update={"dtype": dtype})


def load_model(run: Run[Settings], role: str, *, shared: bool = False) -> LM:
    """The model, with its answers cached in the step's own folder, so that a killed step asks nothing twice; `shared`, beside
    all steps, where another step may ask the same."""
    return load(model_spec(run, role), cache=(run.shared if shared else run.out) / "cache.sqlite")


def all_chats(run: Run[Settings], prefix: str) -> list[Chat]:
    """The chats of all inputs called `prefix`, each once."""
    rows: dict[str, Chat] = {}
    for folder in run.all_inputs(prefix):
        rows.update((row.id, row) for row in read_chats(folder / ROWS))
    return list(rows.values())


def all_documents(run: Run[Settings], prefix: str) -> list[Document]:
    """The documents of all inputs called `prefix`."""
    return [one for folder in run.all_inputs(prefix) for one in read_documents(folder / ROWS)]


def code_of(code: Mapping[str, str]) -> dict[str, Outside]:
    """The source of a user's part, as an outside thing: a step depends on what the part does, not on its name alone."""
    return {name: Outside(digest=digest, place="") for name, digest in code.items()}


def own_tasks_at(path: Path | str | None) -> dict[str, Outside]:
    """Tasks of the user's own, as an outside thing: the content of their file is hashed, its place is not."""
    if not path:
        return {}
    code = tasks_code(str(path))
    digest = "+".join(code) if code else str(fingerprint(Source(source=str(path)))["source"])
    return {"own_tasks": Outside(digest=digest, place=str(path))}


def own_tasks(run: Run[Settings]) -> Mapping[str, Task] | None:
    """Tasks of the user's own, where there are some."""
    return read_tasks(Path(run.outside["own_tasks"])) if "own_tasks" in run.outside else None


def require_answered(answers: Sequence[Answer]) -> None:
    """Stop where a server failed to answer (BackendError): what was answered is kept, and is not paid for again."""
    failed = [one.error for one in answers if one.finish_reason == "failed"]
    if failed:
        raise BackendError(
            f"{len(failed)} of {len(answers)} answers could not be generated: {failed[0]}; run the same command again to resume"
        )


def require_measured(likelihoods: Sequence[Likelihood]) -> None:
    """Stop where a server failed to measure some texts: their perplexity would look infinite.

    Raises:
        BackendError: some are missing.
    """
    failed = [likelihood.error for likelihood in likelihoods if likelihood.error]
    if failed:
        raise BackendError(
            f"{len(failed)} of {len(likelihoods)} perplexities could not be computed: {failed[0]}; run the same command to resume"
        )
