"""One model asked about documents in one wording: its arms in order, its tasks, its row names, and the most misused task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pydantic import Field

from buckler.crosstask.task import MIXED, MOST_MISUSED_TASK
from buckler.evaluation.metrics import ALL_TASKS
from buckler.experiments.cross_task.plan import ANSWERS_ALONE, UNDEFENDED
from buckler.experiments.results import RunResult, Saved
from buckler.experiments.results_view import DOCUMENTS, ArmView, Metric, arms_of, blocks, contrast, first, unfit
from buckler.report.claims import format_level
from buckler.report.tables import Cell

ON_BENIGN, ON_USEFUL = Metric("refusal_rate", ALL_TASKS, "benign"), Metric("refusal_rate", ALL_TASKS, "useful")
SCORE = Metric("score", ALL_TASKS, "benign")
UNDER_ATTACK = "refusal_rate attacks "
"""How the names of metrics under attack begin."""
REFERENCES = (UNDEFENDED, ANSWERS_ALONE)


class _Turns(Saved):
    first: str = "the first task"
    then: str = "the second task"


class _Trained(Saved):
    wordings: list[str] = Field(default_factory=list)


class RecordedCrossTask(Saved):
    """What claims and tables read of the recipe that results keep; results of older versions may lack any of it."""

    crosstask: _Trained = _Trained()
    two_turns: _Turns | None = None
    wanted_refusal: float = 0.9
    most_false_refusal: float = 0.1

    @classmethod
    def of(cls, results: RunResult) -> RecordedCrossTask:
        """The recipe of results."""
        return cls.model_validate(results.record.recipe)


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentCondition:
    """One model asked in one wording."""

    model: str
    wording: str
    where: str
    """Both in words, and whether the wording was trained."""
    arms: Sequence[ArmView]
    """Undefended, answers alone, single tasks in the order given, mixed; each by budget."""
    stood_for: tuple[str, ...] = ()
    """The tasks that `most_misused_task` stood for, over the seeds."""

    @property
    def undefended(self) -> ArmView | None:
        """The base model."""
        return first(self.arms, {"trained on": UNDEFENDED})

    @property
    def control(self) -> ArmView | None:
        """The same training without a refusal, else the model without any."""
        return first(self.arms, {"trained on": ANSWERS_ALONE}) or self.undefended

    @property
    def control_name(self) -> str:
        """What `control` was trained on."""
        return self.control.label("trained on") if self.control else UNDEFENDED

    @property
    def tasks(self) -> list[str]:
        """The tested tasks."""
        return tasks_of(self.arms)

    def defended(self, *, mixed: bool) -> list[ArmView]:
        """Arms that saw refusals: on all tasks, or on one."""
        seen = [arm for arm in self.arms if arm.label("trained on") not in REFERENCES]
        return [one for one in seen if (one.label("trained on") == MIXED) == mixed]

    def trained_tasks(self, single: ArmView) -> tuple[str, ...]:
        """The task an arm was trained on; several where `most_misused_task` stood for another one in another seed."""
        name = single.label("trained on")
        return self.stood_for if name == MOST_MISUSED_TASK and self.stood_for else (name,)

    def row_name(self, group: ArmView) -> tuple[str, str]:
        """What an arm was trained on, and with how many refusals."""
        name, refusals = group.label("trained on"), group.label("refusals")
        if name == MOST_MISUSED_TASK and self.stood_for:
            name = f"{MOST_MISUSED_TASK}: {' or '.join(self.stood_for)}"
        return name, refusals if refusals != "0" else "-"

    def name(self, group: ArmView) -> str:
        """The same in one piece, for sentences."""
        name, refusals = self.row_name(group)
        return name if refusals == "-" else f"{name}, {refusals} refusals"


def document_conditions(results: RunResult) -> list[DocumentCondition]:
    """Every model in every wording it was asked in."""
    trained = RecordedCrossTask.of(results).crosstask.wordings
    return [
        DocumentCondition(
            model=model,
            wording=wording,
            where=f"{model}, {_in_words(trained, wording)}",
            arms=_in_order(arms),
            stood_for=tuple(dict.fromkeys(one.task for one in results.most_misused if one.model == model)),
        )
        for (model, wording), arms in blocks(arms_of(results), "model", "wording").items()
    ]


def part_of(group: ArmView) -> str:
    """Which rows of a table stand together."""
    name = group.label("trained on")
    return "reference" if name in REFERENCES else "mixed" if name == MIXED else "single"


def tasks_of(arms: Sequence[ArmView]) -> list[str]:
    """The tested tasks, in the order of the metrics; a document under an attack is no task of its own."""
    names = dict.fromkeys(name for group in arms for name in group.metrics)
    parts = [name.removeprefix("refusal_rate ").removesuffix(" harmful") for name in names if _is_task(name)]
    return [part for part in parts if part != ALL_TASKS]


def _is_task(name: str) -> bool:
    plain = name.startswith("refusal_rate ") and not name.startswith(UNDER_ATTACK)
    return plain and name.endswith(" harmful") and name != "refusal_rate harmful"


def refusal_of(task: str) -> Metric:
    """The metric of how often malicious documents are refused on a task."""
    return Metric("refusal_rate", task, "harmful")


def faults_of(group: ArmView, undefended: ArmView | None) -> dict[Metric, str]:
    """What makes an arm unfit however many documents it refuses."""
    refused = {ON_BENIGN: "refuses benign documents", ON_USEFUL: "refuses useful documents"}
    return unfit(group, undefended, refused, SCORE, "task score")


def refusals_of(group: ArmView) -> int:
    """How many refusals an arm was trained with."""
    refusals = group.labels.get("refusals")
    return refusals if isinstance(refusals, int) else 0


def measured(arms: Sequence[ArmView], *metrics: Metric) -> list[Metric]:
    """Those of the metrics that any arm has."""
    return [metric for metric in metrics if any(group.measured(metric) for group in arms)]


def seeds_in_words(arms: Sequence[ArmView]) -> str:
    """`3 seeds.`"""
    seeds = max((group.cell(DOCUMENTS).n for group in arms), default=0)
    return f"{seeds} seed{'' if seeds == 1 else 's'}."


def _in_words(trained: Sequence[str], wording: str) -> str:
    if not trained:
        return f"wording {wording}"
    return f"wording {wording} ({'trained' if wording in trained else 'held out: never trained'})"


def _in_order(arms: Sequence[ArmView]) -> list[ArmView]:
    names = list(dict.fromkeys(group.label("trained on") for group in arms))
    return sorted(arms, key=lambda group: _rank(group, names))


def _rank(group: ArmView, names: Sequence[str]) -> tuple[int, int, int]:
    place = {UNDEFENDED: 0, ANSWERS_ALONE: 1, MIXED: 3}.get(group.label("trained on"), 2)
    return place, names.index(group.label("trained on")), refusals_of(group)


@dataclass(frozen=True, slots=True, kw_only=True)
class Misuse:
    """Process rates of the undefended model."""

    bare: ArmView
    rates: Mapping[str, Cell]
    """By task: 1 - refusal of malicious documents."""
    tasks: tuple[str, ...]
    """The task processed most; several if they tie to the two decimals shown."""

    @property
    def near(self) -> tuple[str, ...]:
        """Tasks processed less, but not surely so: the interval of the difference reaches 0."""
        others = [task for task in self.rates if task not in self.tasks]
        most = self.bare.measured(refusal_of(self.tasks[0]))
        gaps = {task: contrast(most, self.bare.measured(refusal_of(task))) for task in others}
        return tuple(task for task, gap in gaps.items() if gap.low is None or gap.low <= 0)

    @property
    def text(self) -> str:
        """In words: `summarize 1.00 (0.89, 1.00), in a tie with translate`."""
        first, *ties = self.tasks
        tied = f", in a tie with {', '.join(ties)}" if ties else ""
        close = f", no clear difference from {', '.join(self.near)}" if self.near else ""
        return f"{first} {format_level(self.rates[first])}{tied}{close}"


def misuse_of(condition: DocumentCondition) -> Misuse | None:
    """The process rates of a condition; None where the undefended model was not asked about malicious documents."""
    bare = condition.undefended
    if bare is None:
        return None
    rates = {task: process_rate(bare.cell(refusal_of(task))) for task in condition.tasks}
    rates = {task: cell for task, cell in rates.items() if cell.value is not None}
    if not rates:
        return None
    most = max(round(cell.value or 0.0, 2) for cell in rates.values())
    tasks = tuple(task for task, cell in rates.items() if round(cell.value or 0.0, 2) == most)
    return Misuse(bare=bare, rates=rates, tasks=tasks)


def process_rate(refused: Cell) -> Cell:
    """1 - the rate, its interval turned round."""
    value, low, high = (None if end is None else 1 - end for end in (refused.value, refused.high, refused.low))
    return replace(refused, value=value, low=low, high=high, note=f"{refused.unscored} unscored" if refused.unscored else "")
