"""Sources of rows: a file, a folder, a data set or a set of the miniature's world, and how it is read and drawn from."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal, Self, TypeAlias, TypeVar

from pydantic import BeforeValidator, Field, field_validator, model_validator

from buckler import formats
from buckler.data import (
    Chat,
    Document,
    Json,
    content_id,
    copy_of,
    distinct,
    file_digest,
    with_copies,
)
from buckler.data.reading import kind_at, path_kind
from buckler.errors import ConfigError, DataError
from buckler.formats import Account, Reading
from buckler.formats.account import TARGETS, fill, is_target
from buckler.registry import is_place
from buckler.settings import Settings

WORLD = "miniature:"
WORLD_SPLITS: tuple[Literal["train", "dev", "test"], ...] = ("train", "dev", "test")
OF_FILES = ("format", "columns", "use", "skip_bad")
"""Settings of a source that say how a file is read."""
RowT = TypeVar("RowT", Chat, Document)


def columns_of(given: str) -> dict[str, str]:
    """`prompt=question,answer=response` as names and columns.

    Raises:
        ValueError: it is something else.
    """
    pairs = [part.partition("=") for part in given.split(",") if part.strip()]
    if bad := [name for name, equals, column in pairs if not equals or not column.strip() or not name.strip()]:
        raise ValueError(f"write it as prompt=COLUMN,answer=COLUMN; {bad[0]!r} names no column")
    named = {name.strip(): column.strip() for name, _, column in pairs}
    if unknown := [name for name in named if not is_target(name)]:
        raise ValueError(f"{unknown[0]!r} must be one of {', '.join(TARGETS)}")
    return named


Use: TypeAlias = Literal["chosen", "rejected", "better", "safer", "prompt"]
Columns: TypeAlias = Annotated[
    dict[str, str], BeforeValidator(lambda value: columns_of(value) if isinstance(value, str) else value)
]


class Source(Settings):
    """Rows of a set. A plain text stands for the source of that name."""

    unwritten_if_empty = ("format", "columns", "use", "skip_bad")
    unwritten_if_default = ("repeats",)
    checks_itself = ("source", "format")
    paths = ("source",)
    source: str
    """Path or hub id of the rows, or `miniature:SET`; `FORMAT@PATH` also names the format."""
    count: int | None = Field(default=None, ge=1)
    """Number of rows (default: all; required for a set of the miniature's world)."""
    seed: int = 0
    """Random seed of the sample. For training rows in a recipe the run's own seed is added, so that seeds differ in their
    data."""
    split: str = "train"
    """Split of a set of the miniature's world (train, dev, test), or of a file or folder that has several."""
    label: Literal["harmful", "benign", "useful"] | None = None
    """Label of documents that have none of their own."""
    probe_set: Literal["harmful", "borderline", "benign"] | None = None
    """Probe set of the rows: harmful (should be refused), borderline or benign (should be answered)."""
    format: str | None = None
    """Format of the rows, if it cannot be detected: a name, or your own as `module:name`."""
    columns: Columns = Field(default_factory=dict)
    """Columns by what they are, instead of a guess: `{prompt: question, answer: response}`."""
    use: Use | None = None
    """Answer that is meant in rows with two of them; `prompt` is the question alone."""
    repeats: Literal["merge", "keep"] = "merge"
    """Repeated rows: merged into one and counted, or kept as often as they stand."""
    skip_bad: bool = False
    """Go on after a row that cannot be read; it stands in `rejected.jsonl` with the reason."""

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
        named = not kind_at(source) and (is_place(name) or name in formats.FORMATS)
        return {**values, "format": name, "source": path} if named else values

    @model_validator(mode="after")
    def _of_the_world(self) -> Self:
        if self.source.startswith(WORLD) and (given := [name for name in OF_FILES if getattr(self, name)]):
            raise ValueError(f"`{given[0]}` has no effect on {self.source}, whose rows are generated; remove it")
        if self.source.startswith(WORLD) and self.split not in WORLD_SPLITS:
            raise ValueError(f"`split` of {self.source} must be one of {', '.join(WORLD_SPLITS)}, got {self.split!r}")
        return self

    @field_validator("format")
    @classmethod
    def _is_format(cls, value: str | None) -> str | None:
        if value is not None:
            formats.FORMATS.get(value)
        return value

    def reseeded(self, seed: int) -> Source:
        """The same source drawn with another seed."""
        return self.model_copy(update={"seed": self.seed + seed})


def at_most(limit: int | None, source: Source, *, documents: bool = False) -> Source:
    """What `--limit` asks of a file: so many rows, or all where there are fewer (a recipe's `count` must be there in full).

    Raises:
        DataError: the file cannot be read.
    """
    if limit is None or source.source.startswith(WORLD):
        return source.model_copy(update={"count": limit})
    reading = reading_of(source, is_planned=True)
    rows: Sequence[Chat] | Sequence[Document]
    rows = (
        formats.read_documents(source.source, reading=reading)
        if documents
        else formats.read_chats(source.source, reading=reading)
    )
    different = len(rows) if source.repeats == "keep" else len({row.id for row in rows})
    return source.model_copy(update={"count": limit if limit < different else None})


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
    return accounted_chats(source)[0]


def accounted_chats(source: Source, *, is_planned: bool = False) -> tuple[list[Chat], Account | None]:
    """The same, with what became of the rows of a file and of its columns.

    Args:
        source: The rows.
        is_planned: Whether the source is as its user gave it: a split that was not named must be the only one.
    """
    if source.source.startswith(WORLD):
        from buckler.miniature import sets

        sets.require_set(_world_set(source))
        return sets.chats(_world_set(source), count=_world_count(source), seed=source.seed, split=_world_split(source)), None
    rows, account = formats.read_accounted(source.source, reading_of(source, is_planned=is_planned))
    if is_planned:
        _require_split(source, account)
    repeats = len(rows) - len({row.id for row in rows})
    kept = with_copies(rows) if source.repeats == "keep" else distinct(rows)
    account.kept = len(kept)
    account.repeats, account.merged = (repeats, 0) if source.repeats == "keep" else (0, repeats)
    fill(account, kept)
    drawn = _drawn(kept, source)
    account.sampled = None if source.count is None else len(drawn)
    return drawn, account


def reading_of(source: Source, *, is_planned: bool = False) -> Reading:
    """How the file of a source is read."""
    split = source.split if not is_planned or "split" in source.model_fields_set else None
    return Reading(format=source.format, split=split, columns=source.columns, use=source.use, skip_bad=source.skip_bad)


def _require_split(source: Source, account: Account) -> None:
    """Refuse a split that the file does not have (ConfigError): the same rows under two names would look like two sets."""
    if "split" in source.model_fields_set and not account.splits and not source.source.count(":"):
        raise ConfigError(f"{source.source}: has no splits, so {source.split!r} chooses nothing; remove `split`")


@lru_cache(maxsize=64)
def _several_splits(path: str, _changed: float) -> bool:
    return bool(formats.splits_of(path, None))


def require_one_split(source: Source) -> None:
    """Refuse a file of several splits of which none is named: train and test would be one set.

    Raises:
        DataError: it is one.
    """
    place = Path(source.source).expanduser()
    if "split" not in source.model_fields_set and place.exists() and not source.source.startswith(WORLD):
        _several_splits(str(place), place.stat().st_mtime)


def source_documents(source: Source) -> list[Document]:
    """The documents of a source; `label` is put on those that have none.

    Raises:
        ConfigError, DataError: there is no such set or file, or it holds fewer rows than asked for.
    """
    if source.source.startswith(WORLD):
        from buckler.miniature import sets

        sets.require_set(_world_set(source))
        return sets.texts(count=_world_count(source), seed=source.seed, split=_world_split(source))
    rows = accounted_documents(source)[0]
    if source.label is None:
        return rows
    return [Document.of(row.text, **{"label": source.label, **row.meta}) for row in rows]


def accounted_documents(source: Source, *, is_planned: bool = False) -> tuple[list[Document], Account]:
    """The documents of a file, and what became of its rows and columns."""
    rows, account = formats.read_accounted_documents(source.source, reading_of(source, is_planned=is_planned))
    if is_planned:
        _require_split(source, account)
    drawn = _drawn(rows, source)
    account.kept = len({row.id for row in rows})
    account.merged = len(rows) - account.kept
    account.sampled = None if source.count is None else len(drawn)
    return drawn, account


def _world_set(source: Source) -> str:
    return source.source.removeprefix(WORLD)


def _world_split(source: Source) -> Literal["train", "dev", "test"]:
    for known in WORLD_SPLITS:
        if source.split == known:
            return known
    raise ConfigError(f"{source.source}: its splits are {', '.join(WORLD_SPLITS)}, not {source.split!r}")


def _world_count(source: Source) -> int:
    if source.count is None:
        raise ConfigError(f"{source.source}: this set is generated without end; set the number of rows with `count` or --limit")
    return source.count


def _drawn(rows: Sequence[RowT], source: Source) -> list[RowT]:
    """`count` distinct rows, drawn by the hash of seed and id: the draw does not depend on the file's order."""
    unique = {copy_of(row): row for row in rows}
    if source.count is None:
        return list(unique.values())
    if source.count > len(unique):
        raise DataError(
            f"{source.source}: {source.count} rows requested, but it has only {len(unique)} distinct rows; request fewer"
        )
    kept = sorted(unique, key=lambda one: content_id([source.seed, *filter(None, one)]))[: source.count]
    chosen = set(kept)
    return [row for one, row in unique.items() if one in chosen]


def _digest(path: Path) -> str:
    """SHA-256 of a file, or of all files of a folder; a name that is no path stands for itself (a hub data set)."""
    if (kind := path_kind(path)) == "folder":
        files = sorted(one for one in path.rglob("*") if one.is_file() and not one.name.startswith("."))
        return content_id([[str(one.relative_to(path)), _digest(one)] for one in files])
    if not kind:
        if str(path).count("/") == 1 and not path.suffix and not path.is_absolute():
            return f"hub:{path}"
        raise DataError(f"{path}: no such file")
    return file_digest(path)
