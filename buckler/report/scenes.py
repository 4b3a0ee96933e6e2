"""One model asked about documents in one wording: its arms in order, its tasks, and the names of its rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from buckler.data import Json
from buckler.evaluation.metrics import ALL_TASKS
from buckler.report.reading import (
    ANSWERS_ALONE,
    DOCUMENTS,
    MIXED,
    UNDEFENDED,
    Group,
    blocks,
    first,
    groups,
    items,
    mapping,
    unfit,
)

ON_BENIGN, ON_USEFUL = f"refusal_rate {ALL_TASKS} benign", f"refusal_rate {ALL_TASKS} useful"
SCORE = f"score {ALL_TASKS} benign"
UNDER_ATTACK = "refusal_rate attacks "
WEAKEST = "weakest"
"""What an arm is trained on whose task the undefended model's answers named."""
REFERENCES = (UNDEFENDED, ANSWERS_ALONE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """One model asked in one wording."""

    model: str
    wording: str
    where: str
    """Both in words, and whether the wording was trained."""
    found: Sequence[Group]
    """Undefended, answers alone, single tasks in the order given, mixed; each by budget."""
    stood_for: tuple[str, ...] = ()
    """The tasks that `weakest` stood for, over the seeds."""

    @property
    def undefended(self) -> Group | None:
        """The model as it came."""
        return first(self.found, trained_on=UNDEFENDED)

    @property
    def control(self) -> Group | None:
        """The same training without a refusal, else the model without any."""
        return first(self.found, trained_on=ANSWERS_ALONE) or self.undefended

    @property
    def control_name(self) -> str:
        """What `control` was trained on."""
        return self.control.label("trained on") if self.control else UNDEFENDED

    @property
    def tasks(self) -> list[str]:
        """The tested tasks."""
        return tasks_of(self.found)

    def defended(self, *, mixed: bool) -> list[Group]:
        """Arms that saw refusals: on all tasks, or on one."""
        seen = [one for one in self.found if one.label("trained on") not in REFERENCES]
        return [one for one in seen if (one.label("trained on") == MIXED) == mixed]

    def trained_tasks(self, single: Group) -> tuple[str, ...]:
        """The task an arm was trained on; several where `weakest` stood for another one in another seed."""
        name = single.label("trained on")
        return self.stood_for if name == WEAKEST and self.stood_for else (name,)

    def row_name(self, group: Group) -> tuple[str, str]:
        """What an arm was trained on, and with how many refusals."""
        name, refusals = group.label("trained on"), group.label("refusals")
        if name == WEAKEST and self.stood_for:
            name = f"{WEAKEST}: {' or '.join(self.stood_for)}"
        return name, refusals if refusals != "0" else "-"

    def name(self, group: Group) -> str:
        """The same in one piece, for sentences."""
        name, refusals = self.row_name(group)
        return name if refusals == "-" else f"{name}, {refusals} refusals"


def scenes(results: Mapping[str, Json]) -> list[Scene]:
    """Every model in every wording it was asked in."""
    return [
        Scene(
            model=model,
            wording=wording,
            where=f"{model}, {_in_words(results, wording)}",
            found=_in_order(found),
            stood_for=_stood_for(results, model),
        )
        for (model, wording), found in blocks(groups(results), "model", "wording").items()
    ]


def part_of(group: Group) -> str:
    """Which rows of a table stand together."""
    name = group.label("trained on")
    return "reference" if name in REFERENCES else "mixed" if name == MIXED else "single"


def tasks_of(found: Sequence[Group]) -> list[str]:
    """The tested tasks, in the order of the metrics; a document under an attack is no task of its own."""
    names = dict.fromkeys(name for group in found for name in group.metrics)
    parts = [name.removeprefix("refusal_rate ").removesuffix(" harmful") for name in names if _is_task(name)]
    return [part for part in parts if part != ALL_TASKS]


def _is_task(name: str) -> bool:
    plain = name.startswith("refusal_rate ") and not name.startswith(UNDER_ATTACK)
    return plain and name.endswith(" harmful") and name != "refusal_rate harmful"


def refusal_of(task: str) -> str:
    """The metric of how often malicious documents are refused on a task."""
    return f"refusal_rate {task} harmful"


def faults_of(group: Group, undefended: Group | None) -> dict[str, str]:
    """What makes an arm unfit however many documents it refuses."""
    refused = {ON_BENIGN: "refuses benign documents", ON_USEFUL: "refuses useful documents"}
    return unfit(group, undefended, refused, SCORE, "task score")


def refusals_of(group: Group) -> int:
    """How many refusals an arm was trained with."""
    refusals = group.labels.get("refusals")
    return refusals if isinstance(refusals, int) else 0


def measured(found: Sequence[Group], *metrics: str) -> list[str]:
    """Those of the metrics that any arm has."""
    return [metric for metric in metrics if any(metric in group.metrics for group in found)]


def seeds_in_words(found: Sequence[Group]) -> str:
    """`3 seeds.`"""
    seeds = max((group.cell(DOCUMENTS).n for group in found), default=0)
    return f"{seeds} seed{'' if seeds == 1 else 's'}."


def _in_words(results: Mapping[str, Json], wording: str) -> str:
    recipe = mapping(mapping(results.get("record")).get("recipe"))
    trained = items(mapping(recipe.get("crosstask")).get("wordings"))
    if not trained:
        return f"wording {wording}"
    return f"wording {wording} ({'trained' if wording in trained else 'held out: never trained'})"


def _in_order(found: Sequence[Group]) -> list[Group]:
    names = list(dict.fromkeys(group.label("trained on") for group in found))
    return sorted(found, key=lambda group: _rank(group, names))


def _rank(group: Group, names: Sequence[str]) -> tuple[int, int, int]:
    place = {UNDEFENDED: 0, ANSWERS_ALONE: 1, MIXED: 3}.get(group.label("trained on"), 2)
    return place, names.index(group.label("trained on")), refusals_of(group)


def _stood_for(results: Mapping[str, Json], model: str) -> tuple[str, ...]:
    named = (mapping(one) for one in items(results.get("weakest")))
    return tuple(dict.fromkeys(str(one.get("weakest")) for one in named if one.get("model") == model))
