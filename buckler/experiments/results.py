"""What a run found, as typed models of its `results-*.json`; written back, a file keeps its keys and their order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Self, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from buckler.curation.record import counts_by_name
from buckler.errors import DataError
from buckler.evaluation.statistics import Rate, mean, pooled
from buckler.settings import FILE_NAME, VALUES, explain

if TYPE_CHECKING:
    from buckler.data import Json
else:
    Json = Any  # the recursive type is for the type checker; pydantic takes these values as they are

Number: TypeAlias = int | float
"""Kept as it is written: 1 stays 1, 1.0 stays 1.0."""


def _current(labels: dict[str, str | int]) -> dict[str, str | int]:
    """Labels whose values of earlier versions are replaced."""
    return {name: VALUES.get(name, {}).get(one, one) if isinstance(one, str) else one for name, one in labels.items()}


StepName: TypeAlias = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]  # the folder of a step in a store
Labels: TypeAlias = Annotated[dict[str, str | int], AfterValidator(_current)]


class Saved(BaseModel):
    """A part of a results file. Keys that another version wrote are kept."""

    model_config = ConfigDict(frozen=True, extra="allow", populate_by_name=True, protected_namespaces=())

    def to_json(self) -> dict[str, Json]:
        """As the file has it: what was not set is not written."""
        values: dict[str, Json] = self.model_dump(mode="json", by_alias=True, exclude_unset=True)
        return values


class MeanResult(Saved):
    """A mean over seeds with its 95 % t interval."""

    value: Number | None = None
    low: Number | None = None
    high: Number | None = None
    n: int = Field(default=0, ge=0)
    """Seeds."""
    least: Number | None = None
    most: Number | None = None


class RateResult(Saved):
    """A rate over the answers of all seeds."""

    value: Number | None = None
    hits: int = Field(default=0, ge=0)
    n: int = Field(default=0, ge=0)
    unscored: int = Field(default=0, alias="unread", ge=0)
    low: Number | None = None
    high: Number | None = None
    bounds: list[Number] | None = None
    """If no unscored answer, and if every one, were a hit."""

    @model_validator(mode="after")
    def _hits_are_of_n(self) -> Self:
        if self.hits > self.n:
            raise ValueError(f"must have hits of at most n, got {self.hits} of {self.n}")
        return self


class MetricResult(Saved):
    """One metric of an arm over its seeds."""

    over_seeds: MeanResult = MeanResult()
    all_answers: RateResult | None = None
    """All answers taken together; None for what is no rate."""
    seeds: dict[Annotated[str, Field(pattern=r"^-?[0-9]{1,18}$")], Number | None] = {}

    @property
    def by_seed(self) -> dict[int, float | None]:
        """Each seed's value."""
        return {int(seed): None if value is None else float(value) for seed, value in self.seeds.items()}

    @classmethod
    def of_rates(cls, rates: Mapping[int, Rate], values: Mapping[int, float | None] | None = None) -> MetricResult:
        """A rate of each seed, pooled; `values` stand for those of the rates where they were saved."""
        by_seed = {seed: one.value for seed, one in rates.items()} if values is None else values
        return cls.model_validate({**pooled(rates.values()).to_json(), "seeds": {str(at): one for at, one in by_seed.items()}})

    @classmethod
    def of_values(cls, values: Mapping[int, float | None]) -> MetricResult:
        """What is no rate."""
        seeds = {str(seed): value for seed, value in values.items()}
        return cls.model_validate({"over_seeds": mean(values.values()).to_json(), "seeds": seeds})


class GroupRow(Saved):
    """All seeds of one arm."""

    labels: Labels = {}
    metrics: dict[str, MetricResult] = {}


class TrainingResult(Saved):
    """One training phase."""

    rows: int
    cut: int
    """Rows that were truncated."""
    dropped: int
    steps: int


class StepKeys(Saved):
    """The steps that measured an arm, by the names of their folders; 0.1.0 named none that judged by the authors' phrases."""

    answers: StepName
    verdicts: StepName
    metrics: StepName
    second_verdicts: StepName | None = None


class ArmResult(Saved):
    """One arm of one seed."""

    labels: Labels = {}
    metrics: dict[str, Json] = {}
    """Its `metrics.json`."""
    training: list[TrainingResult] = []
    steps: StepKeys | None = None


class PairedResult(Saved):
    """A difference over all answers: Newcombe's paired interval and McNemar's exact p."""

    value: Number | None = None
    low: Number | None = None
    high: Number | None = None
    n: int = Field(default=0, ge=0)
    only_a: int = 0
    only_b: int = 0
    p: Number | None = None
    left_out: int = 0


class DifferenceResult(Saved):
    """Two arms compared on the same probes, second minus first."""

    name: str
    """`second - first`."""
    at: Labels = {}
    metric: str = "refusal_rate"
    over_seeds: MeanResult = MeanResult()
    all_answers: PairedResult = PairedResult()
    p_holm: Number | None = None

    @property
    def sides(self) -> tuple[str, str]:
        """The second arm, then the first."""
        second, _, first = self.name.partition(" - ")
        return second, first


class SpreadResult(Saved):
    """Median and quartiles of perplexity over texts."""

    n: int = Field(default=0, ge=0)
    q1: Number | None = None
    median: Number | None = None
    q3: Number | None = None


class MostMisusedResult(Saved):
    """The task that `most_misused_task` stood for."""

    model: str
    seed: int
    task: str = Field(validation_alias="weakest", serialization_alias="weakest")
    processed: dict[str, Number | None] = {}
    """By task, how often malicious training documents were processed."""


class SampleResult(Saved):
    """An answer with its verdict."""

    labels: Labels = {}
    set: str = "None"
    """The probe set."""
    task: str | None = None
    query: str = ""
    answer: str = ""
    refused: str | None = None
    coherent: bool | None = None
    unsafe: bool = False
    paper: str | None = None
    """What the authors' phrases say, where they are compared."""


class PhraseCell(Saved):
    """Counts of answers that two judges read: the recipe's first, the authors' phrases second."""

    model: str
    seed: int
    task: str
    label: str
    n: int = Field(default=0, ge=0)
    """Scored by both."""
    first: int = 0
    second: int = 0
    only_first: int = 0
    only_second: int = 0
    unscored: int = Field(default=0, alias="unread")


class PhraseRule(Saved):
    """The authors' phrases beside the judge; nothing is set where they were not compared."""

    judge: str = "the judge"
    cells: list[PhraseCell] = []
    examples: list[SampleResult] = []


class CorrectedRate(Saved):
    """A rate corrected for the judge's known errors."""

    value: Number | None = None
    low: Number | None = None
    high: Number | None = None
    unscored: int = Field(default=0, alias="unread")
    bounds: list[Number] | None = None
    flag: str = ""


class CorrectedArm(Saved):
    """The corrected rates of an arm, over all answers of all seeds."""

    labels: Labels = {}
    rates: dict[str, CorrectedRate] = {}


class JudgeCardResult(Saved):
    """What the judge's card says."""

    sentence: str
    agreement: dict[str, Json] = {}
    arms: list[CorrectedArm] = []


class TrialResult(Saved):
    """One attack of a search, measured on the attacker's own probes."""

    number: int
    setting: dict[str, int | float | str] = {}
    name: str = ""
    success: Number | None = None
    utility: Number | None = None
    floor: Number = 0.0
    keeps_utility: bool = False
    steps: int = 0
    fault: str = ""


class SearchResult(Saved):
    """The search against one model and seed."""

    labels: Labels = {}
    untouched_utility: Number = 0.0
    floor: Number = 0.0
    trials: list[TrialResult] = []
    best_so_far: list[Number | None] = []
    worst: int | None = None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if not {"model", "defence", "stage", "seed"} <= self.labels.keys() or not -1 < (self.worst or 0) < max(
            1, len(self.trials)
        ):
            raise ValueError("must have the labels model, defence, stage and seed, and the trial that `worst` names")
        return self

    @property
    def chosen(self) -> TrialResult | None:
        """The worst case that kept the floor."""
        return self.trials[self.worst] if self.worst is not None and self.trials else None


class Record(Saved):
    """How results were made."""

    buckler: str = ""
    python: str = ""
    libraries: dict[str, Json] = {}
    judge: dict[str, Json] = {}
    models: dict[str, Json] = {}
    recipe: dict[str, Json] = {}
    recipe_id: str = ""


class RunResult(Saved):
    """Everything that an experiment found."""

    name: str = Field(default="experiment", pattern=FILE_NAME)
    kind: str
    about: str = ""
    seeds: list[int] = []
    arms: list[ArmResult] = []
    """One entry an arm and seed."""
    perplexity: dict[str, dict[str, SpreadResult]] = {}
    """By model, then by kind of text."""
    curation: Annotated[dict[str, Json], AfterValidator(counts_by_name)] = {}
    most_misused: list[MostMisusedResult] = Field(default=[], validation_alias="weakest", serialization_alias="weakest")
    rows: list[GroupRow] = []
    """One entry for all seeds of an arm."""
    differences: list[DifferenceResult] = []
    paper_rule: PhraseRule = PhraseRule()
    judge_card: JudgeCardResult | None = None
    samples: list[SampleResult] = []
    record: Record = Record()
    search: list[SearchResult] = []
    """Of an experiment that searched for its attacks."""


def read_results(value: Json | Mapping[str, Json], where: str) -> RunResult:
    """Saved results.

    Raises:
        DataError: they are not; `where` names them.
    """
    try:
        results = RunResult.model_validate(value)
    except ValidationError as fault:
        raise DataError(f"{where}: not the results of a run: {explain(RunResult, fault, {})}") from None
    if results.kind != "cross_task" or not results.differences:  # elsewhere arms have the names that a user gave them
        return results
    return results.model_copy(update={"differences": [_current_pair(one) for one in results.differences]})


def _current_pair(difference: DifferenceResult) -> DifferenceResult:
    """A difference between arms whose names of earlier versions are replaced."""
    names = [VALUES["trained on"].get(name, name) for name in difference.sides]
    return difference.model_copy(update={"name": " - ".join(names)})


def results_json(results: Iterable[RunResult]) -> list[dict[str, Json]]:
    """As their files have them."""
    return [result.to_json() for result in results]
