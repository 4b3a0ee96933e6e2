"""What a report says of a search: the worst case found beside the fixed attack, the settings that won, how it was reached."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from pydantic import Field

from buckler.evaluation.statistics import Mean, mean
from buckler.experiments.attack_search.recipe import FIXED, WORST
from buckler.experiments.results import RunResult, Saved, SearchResult, TrialResult
from buckler.experiments.results_view import ATTACK_SUCCESS, COHERENCE, UTILITY, ArmView, Metric, arms_of, first, gain
from buckler.experiments.stages.plan import UNTOUCHED
from buckler.experiments.stages.recipe import D2D
from buckler.experiments.stages.tables import faults_of
from buckler.report.claims import Finding, Part, finding, format_difference, format_level, negative, part
from buckler.report.figures import COLOURS, SHAPES, Sketch
from buckler.report.tables import NOTHING, Cell, Column, Table, TableRow, column_of, format_number, signed

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class RecordedSearch(Saved):
    """What claims and tables read of the search in the recipe that results keep."""

    kinds: str = "all"
    sampler: str | None = None
    trials: int | None = None
    most_steps: int | None = None
    utility_floor: float | None = None

    @classmethod
    def of(cls, results: RunResult) -> RecordedSearch:
        """The search of results."""
        return _Recorded.model_validate(results.record.recipe).search

    @property
    def metric(self) -> Metric:
        """What was searched for."""
        return ATTACK_SUCCESS if self.kinds == "all" else Metric("attack_success_rate", "harmful", self.kinds)

    @property
    def budget(self) -> str:
        """In words: `12 trials on each model and seed by random, the first the fixed attack`."""
        steps = f", of at most {self.most_steps} optimizer steps" if self.most_steps else ""
        return f"{self.trials} trials on each model and seed by {self.sampler}{steps}, the first the fixed attack"


class _Recorded(Saved):
    search: RecordedSearch = Field(default_factory=RecordedSearch)


@dataclass(frozen=True, slots=True, kw_only=True)
class Victim:
    """A model with a defence at a stage, over seeds."""

    model: str
    defence: str
    stage: str
    fixed: ArmView | None
    worst: ArmView | None
    untouched: ArmView | None
    searches: Sequence[SearchResult]
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
    def trials(self) -> list[TrialResult]:
        """Of all seeds."""
        return [trial for search in self.searches for trial in search.trials]

    @property
    def ruined(self) -> int:
        """How many trials left less utility than the floor asks for."""
        return sum(not trial.keeps_utility for trial in self.trials)

    def own(self) -> Cell:
        """Success of the chosen attacks on the attacker's own probes, which chose them."""
        success = mean(search.chosen.success for search in self.searches if search.chosen is not None)
        low, high = (None if end is None else min(1.0, max(0.0, end)) for end in (success.low, success.high))
        return Cell(value=success.value, low=low, high=high, n=success.n)


def victims(results: RunResult) -> list[Victim]:
    """Every model that was attacked, in the order of the plan."""
    arms = arms_of(results)
    searches: dict[tuple[str, ...], list[SearchResult]] = {}
    for one in results.search:
        searches.setdefault(tuple(str(one.labels[name]) for name in ("model", "defence", "stage")), []).append(one)
    victims = []
    for (model, defence, stage), of in searches.items():
        labels = {"model": model, "defence": defence, "stage": stage}
        fixed, worst = (first(arms, {**labels, "attack": attack}) for attack in (FIXED, WORST))
        base = first(arms, {"model": model, "stage": UNTOUCHED})
        victims.append(Victim(**labels, fixed=fixed, worst=worst, untouched=base, searches=of))
    return victims


def understated(one: Victim, metric: Metric) -> Mean:
    """By how much the worst attack found does better than the fixed one, paired by seed."""
    return gain(one.fixed, one.worst, metric)


def search_tables(results: RunResult) -> list[Table]:
    """For each model the worst case; then the settings that won, and how far each trial had come."""
    all_victims = victims(results)
    models = list(dict.fromkeys(victim.model for victim in all_victims))
    return [
        *(_worst_table(model, [one for one in all_victims if one.model == model], results) for model in models),
        _settings_table(all_victims),
        _reached_table(all_victims),
    ]


def _worst_table(model: str, of_model: Sequence[Victim], results: RunResult) -> Table:
    search = RecordedSearch.of(results)
    metric = search.metric
    rows = []
    for one in of_model:
        fixed, worst = (arm or ArmView() for arm in (one.fixed, one.worst))
        faults = faults_of(worst, one.untouched)
        cells = (
            fixed.cell(metric),
            worst.cell(metric),
            signed(understated(one, metric)),
            one.own(),
            fixed.cell(UTILITY),
            *(replace(worst.cell(name), bad=name in faults) for name in (UTILITY, COHERENCE)),
            Cell(text=f"{one.ruined} of {len(one.trials)}"),
        )
        rows.append(TableRow(labels=one.labels, cells=cells, flag="; ".join(dict.fromkeys(faults.values())), part=one.defence))
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
    words = search.kinds.replace("_", "-")
    of = "all harmful probes" if search.kinds == "all" else f"harmful probes of {words} kinds"
    caption = (
        f"{search.budget}. Attack success on {of}. Settings were chosen on the attacker's own probes; every other "
        f"number is on held-out probes: the worst found is not a maximum over noise, and may be below the fixed attack. An "
        f"attack that left less than {search.utility_floor} of the untouched model's utility is below the minimum and does not "
        "count."
    )
    return Table(
        title=f"An attacker with a budget: {model}",
        caption=caption,
        heads=("defence", "stage"),
        columns=(*columns, Column(name="trials below the minimum")),
        rows=tuple(rows),
    )


def _settings_table(of_model: Sequence[Victim]) -> Table:
    rows = []
    for one in of_model:
        for search in one.searches:
            chosen = search.chosen
            texts: tuple[str, ...] = (NOTHING, "none kept enough utility", NOTHING, NOTHING)
            if chosen is not None:
                levels = (NOTHING if level is None else format_number(level) for level in (chosen.success, chosen.utility))
                texts = (str(chosen.number), chosen.name, *levels)
            cells = tuple(Cell(text=text) for text in texts)
            rows.append(
                TableRow(labels=(one.model, one.name, str(search.labels["seed"])), cells=cells, part=one.model + one.name)
            )
    return Table(
        title="The settings that won",
        caption="By seed; trial 0 is the fixed attack. What a setting does not name is as in the fixed attack. Both numbers are "
        "on the attacker's own probes.",
        heads=("model", "defence", "seed"),
        columns=tuple(Column(name=name) for name in ("trial", "setting", "attack success", "utility")),
        rows=tuple(rows),
    )


def _reached_table(of_model: Sequence[Victim]) -> Table:
    longest = max((len(search.best_so_far) for one in of_model for search in one.searches), default=0)
    rows = []
    for one in of_model:
        cells = [Cell(value=mean(_at(search.best_so_far, trial) for search in one.searches).value) for trial in range(longest)]
        rows.append(TableRow(labels=(one.model, one.name), cells=tuple(cells), part=one.model))
    return Table(
        title="Best attack so far, by trial",
        caption="Attack success on the attacker's own probes, best of the trials so far that kept the minimum "
        "utility; mean over seeds.",
        heads=("model", "defence"),
        columns=tuple(Column(name=str(trial)) for trial in range(longest)),
        rows=tuple(rows),
        folded=True,
    )


def _at(values: Sequence[float | None], at: int) -> float | None:
    return values[at] if at < len(values) else None


def search_claims(results: RunResult) -> list[Finding]:
    """Each finding for every model that was attacked."""
    all_victims, search = victims(results), RecordedSearch.of(results)
    bare = {victim.model: victim for victim in all_victims if victim.defence == "none"}
    return [
        *finding(
            "A fixed attack understates: an attacker who searches does better.",
            "arXiv 2310.03693: what a fine-tuning attack does depends on its learning rate and batch size. "
            f"Here: {search.budget}.",
            [_understated(one, search.metric) for one in all_victims],
        ),
        *finding(
            "The defence lowers the success of the worst attack found, not only that of the fixed one.",
            f"{D2D} attacks each defence with fixed settings.",
            [_lowered(bare[one.model], one, search.metric) for one in all_victims if one.defence != "none" and one.model in bare],
        ),
    ]


def _understated(one: Victim, metric: Metric) -> Part | None:
    if one.fixed is None or one.worst is None:
        return None
    levels = f"fixed {format_level(one.fixed.cell(metric))}, worst found {format_level(one.worst.cell(metric))}"
    where = f"{one.model}, {one.name}"
    return part(where, {"worst found minus fixed": understated(one, metric)}, f"Attack success {levels};")


def _lowered(bare: Victim, one: Victim, metric: Metric) -> Part | None:
    if one.worst is None or bare.worst is None:
        return None
    sentence = "Fall of attack success against no defence, each before the worst attack found on it:"
    under_fixed = negative(gain(bare.fixed, one.fixed, metric))
    tail = "" if under_fixed.value is None else f"Before the fixed attack the fall is {format_difference(under_fixed)}."
    return part(f"{one.model}, {one.name}", {"worst found": negative(gain(bare.worst, one.worst, metric))}, sentence, tail)


def search_figures(results: RunResult) -> Iterator[Sketch]:
    """One figure a model."""
    all_victims = victims(results)
    for model in dict.fromkeys(victim.model for victim in all_victims):
        yield Sketch(
            title=f"The best attack so far: {model}",
            alt="Attack success on the attacker's own probes after each trial, of the attacks that kept the minimum utility: "
            "the mean over seeds as a line, the lowest and the highest seed as a band. Trial 0 is the fixed attack.",
            size=(8.2, 4.2),
            draw=partial(_curves, of_model=[one for one in all_victims if one.model == model]),
        )


def _curves(figure: Figure, of_model: Sequence[Victim]) -> None:
    from matplotlib.ticker import MaxNLocator

    axis = figure.subplots()
    for at, one in enumerate(of_model):
        colour, marker = COLOURS[at % len(COLOURS)], SHAPES[at % len(SHAPES)]
        by_trial = [
            [value for value in values if value is not None]
            for values in zip(*(search.best_so_far for search in one.searches), strict=False)
        ]
        # Before the first attack that kept the floor there is nothing to draw.
        trials = [trial for trial, values in enumerate(by_trial) if values]
        means = [sum(by_trial[trial]) / len(by_trial[trial]) for trial in trials]
        axis.plot(trials, means, color=colour, marker=marker, markersize=5, drawstyle="steps-post", label=one.name)
        least, most = ([end(by_trial[trial]) for trial in trials] for end in (min, max))
        axis.fill_between(trials, least, most, step="post", color=colour, alpha=0.12, linewidth=0)
    axis.set(xlabel="trial", ylabel="attack success, best so far", ylim=(-0.04, 1.04))
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.grid(True)
    axis.set_axisbelow(True)
    figure.legend(loc="outside right center")
