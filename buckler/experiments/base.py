"""What a kind of experiment is made of: its recipe, the plan of its steps, and what a report says of its results."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Generic, Self, TypeAlias, TypeVar

from pydantic import Field, field_validator

from buckler.data import Answer, Json, Verdict, read_answers, read_verdicts
from buckler.data.reading import kind_at
from buckler.errors import ConfigError
from buckler.evaluation.metrics import known_metrics
from buckler.evaluation.probes import MAX_NEW_TOKENS
from buckler.experiments.results import PhraseRule, RunResult, SampleResult, SearchResult
from buckler.judges.named import judge_spec
from buckler.models.dtype import Dtype
from buckler.models.places import EMBEDDED
from buckler.models.protocol import ModelSpec
from buckler.report.claims import Finding
from buckler.report.figures import Sketch
from buckler.report.tables import Table
from buckler.settings import FILE_NAME, Settings
from buckler.workflow.evaluation import Measured
from buckler.workflow.sources import WORLD
from buckler.workflow.step import Step
from buckler.workflow.store import Store

Labels: TypeAlias = "Mapping[str, str | int]"
"""What an arm is called: model, attack, defence, stage (or trained task, budget, wording), seed."""
NAMES = {*EMBEDDED, "default"}
"""Names that are no files, even where a file has the same name."""
Key: TypeAlias = "tuple[tuple[str, str | int], ...]"
"""An arm's labels without its seed."""


class CommonRecipe(Settings):
    """What every recipe can say."""

    unwritten_if_empty = ("metrics",)
    checks_itself = ("about",)
    if TYPE_CHECKING:
        kind: str  # each kind declares its own literal; declared here, it would move in the recipe that results keep
    name: str = Field(pattern=FILE_NAME)
    about: str = ""
    models: dict[str, ModelSpec] = Field(min_length=1)
    """Aligned models by their names in the report."""
    seeds: tuple[int, ...] = Field(default=(0, 1, 2), min_length=1)
    max_new_tokens: int = Field(default=MAX_NEW_TOKENS, ge=1)
    judge: str = "keyword"
    """Judge: `keyword`, `rubric=MODEL`, `guard=MODEL`, your own as `module:Class`, or several separated by commas for a
    majority vote."""
    metrics: tuple[str, ...] = ()
    """Additional metrics of every run: those of an installed package, or your own as `module:name`."""
    judge_cards: str | None = None
    """Folder of judge cards (`buckler judge-card`); if this version of the judge has one, the report quotes it and corrects
    rates by it."""

    @field_validator("judge")
    @classmethod
    def _is_judge(cls, value: str) -> str:
        judge_spec(value)
        return value

    @field_validator("metrics")
    @classmethod
    def _are_metrics(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return known_metrics(value)

    def anchored(self, path: Path) -> Self:
        """The recipe of a file, its relative paths taken from the file's folder.

        Raises:
            ConfigError: the folder of judge cards is not there.
        """
        cards = self._anchored_cards(path)
        return anchored(self, path.parent).model_copy(update={"judge_cards": cards})

    def _anchored_cards(self, path: Path) -> str | None:
        if self.judge_cards is None:
            return None
        folder = path.parent / self.judge_cards
        if not folder.is_dir():
            raise ConfigError(f"{path}: judge_cards: {folder} is not a folder; `buckler judge-card --out {folder}` creates it")
        return str(folder)

    def loaded_so(self, dtype: Dtype | None, threads: int | None) -> Self:
        """The recipe with all its local models loaded so, but those that say it themselves."""
        changes = {name: _loaded_so(getattr(self, name), dtype, threads) for name in type(self).model_fields}
        return self if dtype is None and threads is None else self.model_copy(update=changes)

    def recorded(self) -> dict[str, Json]:
        """The recipe as results keep it."""
        values: dict[str, Json] = self.model_dump(mode="json")
        return values


def _loaded_so(value: object, dtype: Dtype | None, threads: int | None) -> object:
    if isinstance(value, ModelSpec):
        return value.loaded_so(dtype=dtype, threads=threads)
    if isinstance(value, dict):
        return {key: _loaded_so(one, dtype, threads) for key, one in value.items()}
    if isinstance(value, Settings):
        parts = {name: _loaded_so(getattr(value, name), dtype, threads) for name in type(value).model_fields}
        return value.model_copy(update={name: part for name, part in parts.items() if part is not getattr(value, name)})
    return value


SettingsT = TypeVar("SettingsT", bound=Settings)


def anchored(settings: SettingsT, folder: Path) -> SettingsT:
    """The settings with every file, folder, model and adapter in them that lies in `folder` taken from there.

    What is not there stays as it is: a hub id, the name of a set, an absolute path, or a path from the working folder.
    """
    if isinstance(settings, ModelSpec) and not settings.is_local:
        fields: tuple[str, ...] = ()  # the name of a model on a server, or of a function
    else:
        fields = tuple(name for name in type(settings).model_fields if name in settings.model_fields_set)
    changes = {}
    for name in fields:
        value = getattr(settings, name)
        if name in settings.paths:
            moved = _each(value, lambda text: _place(text, folder) if isinstance(text, str) else text)
        elif name == "judge" and isinstance(value, str):
            moved = _judge(value, folder)
        else:
            moved = _each(value, lambda one: _anchored(one, folder))
        if moved != value:
            changes[name] = moved
    return settings.model_copy(update=changes) if changes else settings


def _each(value: object, change: Callable[[object], object]) -> object:
    """A value, or every value of a list or a table, changed."""
    if isinstance(value, tuple):
        return tuple(change(one) for one in value)
    return {key: change(one) for key, one in value.items()} if isinstance(value, dict) else change(value)


def _anchored(value: object, folder: Path) -> object:
    if isinstance(value, Path):
        return Path(_place(str(value), folder))
    return anchored(value, folder) if isinstance(value, Settings) else value


def _place(text: str, folder: Path) -> str:
    """A path as it is found from the working folder, if it lies in `folder`; `FORMAT@PATH` likewise."""
    form, at, rest = text.partition("@")
    if at and form and not kind_at(folder / text):
        return f"{form}@{_place(rest, folder)}"
    if not text or text in NAMES or text.startswith(WORLD) or not kind_at(folder / text):
        return text
    here = Path(text)
    return text if kind_at(here) and here.samefile(folder / text) else str(folder / text)


def _judge(text: str, folder: Path) -> str:
    """A judge, or several, with the folders of their models: `rubric=MODEL`."""
    parts = [part.partition("=") for part in text.split(",")]
    return ",".join(f"{name}{equals}{_place(model.strip(), folder) if equals else model}" for name, equals, model in parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One row of the grid: what it is called, the phases that made its model, and how it was measured."""

    labels: Labels
    phases: tuple[Step, ...]
    """Training steps in order; none for the base model."""
    measured: Measured
    second_verdicts: Step | None = None
    """Verdicts of another judge on the same answers, to stand beside those of the recipe's."""


@dataclass(slots=True, kw_only=True)
class Plan:
    """All that a recipe asks for."""

    arms: list[Arm] = field(default_factory=list)
    checks: list[Step] = field(default_factory=list)
    """Done before anything is trained: rows drawn, training and probe sets apart."""
    figures: dict[str, Step] = field(default_factory=dict)
    """Steps whose results the report shows beside the arms: perplexities of text kinds, rows curated."""

    @property
    def targets(self) -> list[Step]:
        """Every step whose result is wanted."""
        seconds = [arm.second_verdicts for arm in self.arms if arm.second_verdicts is not None]
        return [*self.checks, *(arm.measured.metrics for arm in self.arms), *seconds, *self.figures.values()]


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredArm:
    """An arm with what its measuring left."""

    labels: Labels
    answers_file: Path
    verdicts_file: Path
    metrics: Mapping[str, Json]
    second_verdicts: Callable[[Sequence[Answer]], Sequence[Verdict]] | None = None
    """Another judge's verdicts on these answers, those that it has."""

    @property
    def seed(self) -> int:
        """Of its grid."""
        return int(self.labels["seed"])

    @property
    def key(self) -> Key:
        """What it shares with the same arm of other seeds."""
        return tuple((name, value) for name, value in self.labels.items() if name != "seed")

    def answers(self) -> list[Answer]:
        """What its model said."""
        return read_answers(self.answers_file)

    def verdicts(self) -> dict[str, Verdict]:
        """The judge's reading of each answer, by id."""
        return {one.id: one for one in read_verdicts(self.verdicts_file)}

    def sample(self, answer: Answer, verdict: Verdict) -> SampleResult:
        """An answer with its verdict. One to a harmful probe that was not refused is marked, so that reports redact it."""
        kind, task = str(answer.meta.get("set")), answer.meta.get("task")
        return SampleResult(
            labels=dict(self.labels),
            set=kind,
            task=None if task is None else str(task),
            query=answer.query,
            answer=answer.text or (f"[{answer.no_text}]" if answer.no_text else ""),
            refused=verdict.refused,
            coherent=verdict.coherent,
            unsafe=kind == "harmful" and verdict.refused != "full",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two arms that differ in one thing worth asking about."""

    differ: str
    """The label in which they differ."""
    at: Labels
    """What they share."""
    first: Sequence[MeasuredArm]
    """All seeds of the arm that the other is compared with."""
    second: Sequence[MeasuredArm]

    @property
    def name(self) -> str:
        """`curated - none`."""
        return f"{self.second[0].labels[self.differ]} - {self.first[0].labels[self.differ]}"


Recipe = TypeVar("Recipe", bound=CommonRecipe)


@dataclass(frozen=True, slots=True, kw_only=True)
class Loop(Generic[Recipe]):
    """How a kind runs whose steps are not all known beforehand."""

    run: Callable[[Recipe, Store, int, str | None], tuple[Plan, list[SearchResult]]]
    """Recipe, store, workers, cluster -> the plan with every step finished, and the course of each search."""
    dry_run: Callable[[Recipe, Store], None]
    """Prints what a run would do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment(Generic[Recipe]):
    """A kind of experiment."""

    kind: str
    recipe: type[Recipe]
    plan: Callable[[Recipe], Plan]
    """The graph of a recipe. Raises BackendError or DataError where a model or a file is not there; nothing has run yet."""
    pairs: Callable[[Mapping[Key, Sequence[MeasuredArm]]], Iterator[Pair]]
    """Arms, all seeds of each together -> those to compare."""
    claims: Callable[[RunResult], list[Finding]]
    tables: Callable[[RunResult], list[Table]]
    figures: Callable[[RunResult], Iterable[Sketch]]
    question: str
    """What it asks."""
    flags: str
    """When a row of its tables is flagged."""
    loop: Loop[Recipe] | None = None
    phrase_rule: Callable[[Sequence[MeasuredArm], int, str], PhraseRule] | None = None
    """Arms, the first seed, the name of the judge -> the authors' phrases beside that judge."""
    examples: Callable[[RunResult], Mapping[str, Sequence[SampleResult]]] | None = None
    """Further samples, by heading."""
