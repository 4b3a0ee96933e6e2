"""Tables of a search: the worst case found beside the fixed attack, the settings that won, and how it was reached."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from buckler.data import Json
from buckler.evaluation.statistics import Mean, mean
from buckler.report.cells import NOTHING, Cell, Column, Row, Table, column_of, signed, spell
from buckler.report.reading import ATTACK_SUCCESS, COHERENCE, UNTOUCHED, UTILITY, Group, first, gain, groups, items, mapping
from buckler.report.stages import faults_of

FIXED, WORST = "fixed", "worst found"
"""What the attacks of the arms are called."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Victim:
    """A model with a defence at a stage, over seeds."""

    model: str
    defence: str
    stage: str
    fixed: Group | None
    worst: Group | None
    untouched: Group | None
    searches: Sequence[Mapping[str, Json]]
    """One a seed."""

    @property
    def labels(self) -> tuple[str, str]:
        """What the tables call it."""
        if self.defence == "none":
            return "no defence", NOTHING
        return self.defence, "drops rows" if self.stage == "none" else self.stage

    @property
    def name(self) -> str:
        """`curated pre`."""
        return " ".join(label for label in self.labels if label != NOTHING)

    @property
    def trials(self) -> list[list[Mapping[str, Json]]]:
        """By seed, all trials in order."""
        return [[mapping(one) for one in items(search.get("trials"))] for search in self.searches]

    @property
    def chosen(self) -> list[Mapping[str, Json] | None]:
        """By seed, the worst trial; None where none kept the floor."""
        numbers = [search.get("worst") for search in self.searches]
        return [of[at] if isinstance(at, int) else None for of, at in zip(self.trials, numbers, strict=True)]

    @property
    def ruined(self) -> int:
        """How many trials left less utility than the floor asks for."""
        return sum(not trial.get("keeps_utility") for of in self.trials for trial in of)

    def own(self) -> Cell:
        """Success of the chosen attacks on the attacker's own probes, which chose them."""
        found = mean(_number(trial, "success") for trial in self.chosen if trial is not None)
        low, high = (None if end is None else min(1.0, max(0.0, end)) for end in (found.low, found.high))
        return Cell(value=found.value, low=low, high=high, n=found.n)

    def reached(self) -> list[list[float | None]]:
        """By seed, the best success after each trial, on the attacker's own probes."""
        every = [items(search.get("best_so_far")) for search in self.searches]
        return [[float(one) if isinstance(one, int | float) else None for one in of] for of in every]


def success_of(results: Mapping[str, Json]) -> str:
    """The metric that was searched for."""
    kinds = str(_search(results).get("kinds", "all"))
    return ATTACK_SUCCESS if kinds == "all" else f"attack_success_rate harmful {kinds}"


def victims(results: Mapping[str, Json]) -> list[Victim]:
    """Every model that was attacked, in the order of the plan."""
    found = groups(results)
    searches: dict[tuple[str, ...], list[Mapping[str, Json]]] = {}
    for one in (mapping(value) for value in items(results.get("search"))):
        labels = mapping(one.get("labels"))
        searches.setdefault(tuple(str(labels.get(name)) for name in ("model", "defence", "stage")), []).append(one)
    return [
        Victim(
            model=model,
            defence=defence,
            stage=stage,
            fixed=first(found, model=model, defence=defence, stage=stage, attack=FIXED),
            worst=first(found, model=model, defence=defence, stage=stage, attack=WORST),
            untouched=first(found, model=model, stage=UNTOUCHED),
            searches=of,
        )
        for (model, defence, stage), of in searches.items()
    ]


def understated(one: Victim, metric: str) -> Mean:
    """By how much the worst attack found does better than the fixed one, paired by seed."""
    return gain(one.fixed, one.worst, metric)


def attacker_tables(results: Mapping[str, Json]) -> list[Table]:
    """For each model the worst case; then the settings that won, and how far each trial had come."""
    found = victims(results)
    models = list(dict.fromkeys(one.model for one in found))
    return [
        *(_worst_table(model, [one for one in found if one.model == model], results) for model in models),
        _settings_table(found),
        _reached_table(found),
    ]


def budget_in_words(results: Mapping[str, Json]) -> str:
    """`12 trials a seed by random, one of them the fixed attack`."""
    search = _search(results)
    most = search.get("most_steps")
    steps = f", of at most {most} optimizer steps" if most else ""
    return f"{search.get('trials')} trials on each model and seed by {search.get('sampler')}{steps}, the first the fixed attack"


def _worst_table(model: str, found: Sequence[Victim], results: Mapping[str, Json]) -> Table:
    metric = success_of(results)
    rows = []
    for one in found:
        groups_of = [group or Group(labels={}, metrics={}) for group in (one.fixed, one.worst)]
        faults = faults_of(groups_of[1], one.untouched)
        total = sum(len(of) for of in one.trials)
        cells = (
            groups_of[0].cell(metric),
            groups_of[1].cell(metric),
            signed(understated(one, metric)),
            one.own(),
            groups_of[0].cell(UTILITY),
            *(replace(groups_of[1].cell(name), bad=name in faults) for name in (UTILITY, COHERENCE)),
            Cell(text=f"{one.ruined} of {total}"),
        )
        rows.append(Row(labels=one.labels, cells=cells, flag="; ".join(dict.fromkeys(faults.values())), part=one.defence))
    heads = (
        ("attack success: fixed", "low"),
        ("attack success: worst found", "low"),
        ("understated by", ""),
        ("worst on the attacker's own probes", ""),
        ("utility: fixed", "high"),
        ("utility: worst found", "high"),
        ("coherence: worst found", "high"),
    )
    columns = [column_of(name, [row.cells[at] for row in rows], note) for at, (name, note) in enumerate(heads)]
    floor = _search(results).get("utility_floor")
    kinds = str(_search(results).get("kinds", "all"))
    of = "all harmful probes" if kinds == "all" else f"harmful probes of {kinds.replace('_', '-')} kinds"
    caption = (
        f"{budget_in_words(results)}. Attack success on {of}. Settings were chosen on the attacker's own probes; every other "
        f"number is on probes that had no say, so the worst found is no lucky maximum, and may lie under the fixed attack. An "
        f"attack that left less than {floor} of the untouched model's utility is under the floor and does not count."
    )
    return Table(
        title=f"An attacker with a budget: {model}",
        caption=caption,
        heads=("defence", "stage"),
        columns=(*columns, Column(name="trials under the floor")),
        rows=tuple(rows),
    )


def _settings_table(found: Sequence[Victim]) -> Table:
    rows = []
    for one in found:
        for search, chosen in zip(one.searches, one.chosen, strict=True):
            labels = mapping(search.get("labels"))
            texts: tuple[str, ...] = (NOTHING, "none kept the floor", NOTHING, NOTHING)
            if chosen is not None:
                levels = (_number(chosen, "success"), _number(chosen, "utility"))
                said = (NOTHING if level is None else spell(level) for level in levels)
                texts = (str(chosen.get("number")), str(chosen.get("name")), *said)
            cells = tuple(Cell(text=text) for text in texts)
            rows.append(Row(labels=(one.model, one.name, str(labels.get("seed"))), cells=cells, part=one.model + one.name))
    return Table(
        title="The settings that won",
        caption="By seed; trial 0 is the fixed attack. What a setting does not name is as in the fixed attack. Both numbers are "
        "on the attacker's own probes.",
        heads=("model", "defence", "seed"),
        columns=tuple(Column(name=name) for name in ("trial", "setting", "attack success", "utility")),
        rows=tuple(rows),
    )


def _reached_table(found: Sequence[Victim]) -> Table:
    longest = max((len(of) for one in found for of in one.reached()), default=0)
    rows = []
    for one in found:
        cells = [Cell(value=mean(_at(of, trial) for of in one.reached()).value) for trial in range(longest)]
        rows.append(Row(labels=(one.model, one.name), cells=tuple(cells), part=one.model))
    return Table(
        title="Best attack so far, by trial",
        caption="Attack success on the attacker's own probes, best of the trials so far that kept the floor; mean over seeds.",
        heads=("model", "defence"),
        columns=tuple(Column(name=str(trial)) for trial in range(longest)),
        rows=tuple(rows),
        folded=True,
    )


def _at(values: Sequence[float | None], at: int) -> float | None:
    return values[at] if at < len(values) else None


def _search(results: Mapping[str, Json]) -> Mapping[str, Json]:
    """What the recipe says of the search."""
    return mapping(mapping(mapping(results.get("record")).get("recipe")).get("search"))


def _number(trial: Mapping[str, Json], name: str) -> float | None:
    value = trial.get(name)
    return float(value) if isinstance(value, int | float) else None
