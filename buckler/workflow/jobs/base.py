"""What every job is: settings that plan steps, a run that hands over their files, and a result with paths and numbers."""

from __future__ import annotations

import html
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, Self, TypeAlias, get_origin

from pydantic import BaseModel, model_validator
from pydantic.fields import FieldInfo

from buckler.data import ROWS, Chat, Json, content_id, one_schema, read_json, read_jsonl, write_jsonl, write_rows
from buckler.errors import ConfigError, DataError, StoreError
from buckler.settings import Settings, inner_model, parse, put
from buckler.workflow.step import Step
from buckler.workflow.store import Store

if TYPE_CHECKING:
    from pandas import DataFrame

WORK = ".work"
"""Where a single job keeps its steps, inside its output folder."""
ACCOUNTS = "rows.json"
"""In the work folder: what became of the rows and columns of the files that a job reads."""
NOTES = "notes.json"
"""In the work folder: what is said of the run whose results lie there, beside these."""
EARLIER = "@"
"""Begins the name of an earlier job of the same pipeline, where rows, a model or answers are named."""
Kind: TypeAlias = Literal["rows", "model", "answers"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """The steps of a job."""

    result: Step
    """What the job is done for: what `@NAME` stands for in a later job."""
    gives: Kind
    more: Mapping[str, Step] = field(default_factory=dict)
    """Other steps whose files the job hands over, or that later jobs may use, by name."""

    @property
    def targets(self) -> list[Step]:
        """Every step the job wants done."""
        return [self.result, *self.more.values()]


Earlier: TypeAlias = Mapping[str, Planned]
"""Earlier jobs of the same pipeline, by name."""


class Job(Settings):
    """What one command is to do: every setting of it, with its one default and its description."""

    paths = ("adapter",)
    method_fields: ClassVar[tuple[str, ...]] = ()
    """Fields that hold the settings of the method: in Python and in a pipeline these may also stand beside the job's own."""

    @model_validator(mode="before")
    @classmethod
    def _settings_of_the_method(cls, values: object) -> object:
        return cls.nested(values)

    @classmethod
    def nested(cls, values: object) -> object:
        """Values with the method's settings in their own field; ValueError where one stands in both places."""
        if not isinstance(values, Mapping):
            return values
        own, others = dict(values), cls.other_names()
        for name, value in values.items():
            if name in cls.model_fields:
                own[name] = _several(cls.model_fields[name], value)
            elif name in others:
                del own[name]
        for name in [name for name in values if name not in cls.model_fields and name in others]:
            path = others[name].split(".")
            put(cls, own, path, _several(_given_once(cls, values, name, path), values[name]))
        return own

    @classmethod
    def other_names(cls) -> Mapping[str, str]:
        """The settings of the method, and those that have a name of their own."""
        fields = {
            name: f"{home}.{name}"
            for home in reversed(cls.method_fields)
            if (inner := inner_model(cls.model_fields[home].annotation)) is not None
            for name in inner.model_fields
        }
        return {name: path for name, path in {**fields, **cls.option_names}.items() if name not in cls.model_fields}

    @classmethod
    def of(cls, values: Mapping[str, object], where: str) -> Self:
        """The job of plain values; `where` names the command or the file in errors.

        Raises:
            ConfigError: something in them is not understood.
        """
        return parse(cls, values, where)


def _given_once(model: type[BaseModel], values: Mapping[str, object], name: str, path: Sequence[str]) -> FieldInfo:
    """The field at a path, of which the values beside it say nothing yet.

    Raises:
        ValueError: they do, or they hold something else where it belongs.
    """
    for at, part in enumerate(path):
        info, inner, value = model.model_fields[part], inner_model(model.model_fields[part].annotation), values.get(part)
        if at == len(path) - 1 and part in values:
            raise ValueError(f"{name} stands beside `{'.'.join(path[:-1]) or part}` and in it; set it in one place")
        if inner is None:
            return info
        if isinstance(value, str | Path) and hasattr(inner, "_from_text"):
            value = {}
        elif isinstance(value, BaseModel):
            value = value.model_dump(exclude_unset=True)
        if not isinstance(value, Mapping | None):
            raise ValueError(f"{name} is a setting in `{part}`, which must hold keys and values, got {value!r}")
        model, values = inner, value or {}
    return info


def _several(info: FieldInfo, value: object) -> object:
    """A single value of a field that takes several, as the only one."""
    is_one = get_origin(info.annotation) is tuple and isinstance(value, str | Path | BaseModel | Mapping)
    return (value,) if is_one else value


def answers_of(name: str, earlier: Earlier) -> Planned:
    """The earlier job whose answers `@NAME` names."""
    return named_step(name, earlier, "answers")


def named_step(name: str, earlier: Earlier, kind: Kind) -> Planned:
    step = earlier.get(name.removeprefix(EARLIER))
    if step is None:
        known = ", ".join(f"{EARLIER}{one}" for one in earlier) or "none; `@NAME` names an earlier entry of a pipeline"
        raise ConfigError(f"{name}: no such earlier job; the earlier jobs are: {known}")
    if step.gives != kind:
        raise ConfigError(f"{name} gives {step.gives}, but {kind} are needed here")
    return step


def store_of(out: Path, store: Store | None) -> Store:
    """Where a job keeps its steps: the store it is given, or the work folder beside its output."""
    return store or Store(out / WORK)


def deliver(folder: Path, names: Mapping[str, str], out: Path) -> list[Path]:
    """Copy a step's files to where the user wants them; those written. A file that is there is replaced as a whole."""
    written = []
    for name, wanted in names.items():
        if (folder / name).exists():
            place = out / wanted
            temporary = place.with_name(f".{place.name}.tmp")
            try:
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(folder / name, temporary)
            except OSError as fault:
                temporary.unlink(missing_ok=True)
                raise StoreError(f"{place}: cannot be written: {fault.strerror}") from None
            temporary.replace(place)
            written.append(place)
    return written


def deliver_rows(folder: Path, wanted: str, out: Path) -> list[Path]:
    """Write a step's rows where the user wants them, such that files of rows load together; the file."""
    rows = [row for _, row in read_jsonl(folder / ROWS) if isinstance(row, Mapping)]
    write_jsonl(out / wanted, one_schema(rows))
    return [out / wanted]


def chats_file(rows: Sequence[Chat], folder: Path) -> Path:
    """Rows that are held in memory as a file, named by their content: the same rows are the same source."""
    path = folder / f"{content_id([row.to_json() for row in rows])}.jsonl"
    write_rows(path, list(rows))
    return path


def read_object(path: Path) -> dict[str, Json]:
    """The JSON object in a file.

    Raises:
        DataError: there is none.
    """
    value = read_json(path)
    if not isinstance(value, dict):
        raise DataError(f"{path}: expected a JSON object, got {type(value).__name__}")
    return value


def wrote(paths: Iterable[Path]) -> list[str]:
    """The line that names each file written."""
    return [f"wrote {path}" for path in paths]


def count_lines(counts: Mapping[str, Json]) -> list[str]:
    """Counts as lines, those of reasons one a reason."""
    given = {name: value if isinstance(value, Mapping) else {"": value} for name, value in counts.items()}
    return [f"  {': '.join(filter(None, (name, reason)))}: {one}" for name, part in given.items() for reason, one in part.items()]


@dataclass(frozen=True, kw_only=True, repr=False)
class Result:
    """What a job found: the files it wrote, its numbers, and lines that say them."""

    out: Path
    """The folder of its files."""
    written: tuple[Path, ...] = ()
    """Files and folders, in the order in which they were written."""

    def lines(self) -> list[str]:
        """What the command line prints."""
        return wrote(self.written)

    def numbers(self) -> dict[str, Json]:
        """The numbers by name, nested as they are saved."""
        return {}

    def records(self) -> list[dict[str, Json]]:
        """The numbers as rows of a table."""
        return [dict(self.numbers())] if self.numbers() else []

    def to_json(self) -> dict[str, Json]:
        """All of it, for `--json`."""
        files: list[Json] = [str(path) for path in self.written]
        notes = {"notes": read_json(file)} if (file := self.out / WORK / NOTES).is_file() else {}
        read = {"read": read_json(file)} if (file := self.out / WORK / ACCOUNTS).is_file() else {}
        return {"result": type(self).__name__, "out": str(self.out), "files": files, **notes, **read, **self.numbers()}

    def to_pandas(self) -> DataFrame:
        """The table as a data frame.

        Raises:
            ConfigError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError:
            raise ConfigError("to_pandas() needs pandas: pip install pandas; records() gives the same rows as a list") from None
        return pandas.DataFrame(self.records())

    def __repr__(self) -> str:
        rows = self.records()
        head = f"{type(self).__name__} in {self.out}"
        if not rows:
            return head
        names = list(dict.fromkeys(name for row in rows for name in row))
        table = [names, *([_shown(row.get(name)) for name in names] for row in rows)]
        widths = [max(len(row[at]) for row in table) for at in range(len(names))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]
        return "\n".join([head, *(f"  {line}" for line in lines)])

    def _repr_html_(self) -> str:
        rows = self.records()
        names = list(dict.fromkeys(name for row in rows for name in row))
        head = "".join(f"<th>{html.escape(name)}</th>" for name in names)
        body = "".join(
            "<tr>" + "".join(f"<td>{html.escape(_shown(row.get(name)))}</td>" for name in names) + "</tr>" for row in rows
        )
        caption = f"<caption>{type(self).__name__} in {html.escape(str(self.out))}</caption>"
        return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _shown(value: Json) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def mapping(value: Json) -> Mapping[str, Json]:
    """A JSON object that is known to be one.

    Raises:
        DataError: it is not.
    """
    if not isinstance(value, Mapping):
        raise DataError(f"expected a JSON object in the saved metrics, got {value!r}")
    return value


def whole(value: Json) -> int:
    """A count in saved numbers, 0 where there is none."""
    return value if isinstance(value, int) else 0


def interval(value: Mapping[str, Json]) -> str:
    """A number with its interval."""
    middle, low, high = value["value"], value["low"], value["high"]
    if not isinstance(middle, int | float):
        return "not known"
    ends = f" [{low:.2f}, {high:.2f}]" if isinstance(low, int | float) and isinstance(high, int | float) else ""
    return f"{middle:.2f}{ends}"


def unscored(value: Mapping[str, Json]) -> str:
    """How many answers have no verdict, and what the number would be whatever they are."""
    bounds = value.get("bounds")
    if not value.get("unread") or not isinstance(bounds, Sequence) or isinstance(bounds, str):
        return ""
    low, high = bounds
    return f", {value['unread']} unscored (bounds {low:.2f} to {high:.2f})"
