"""The figure of a search: the best attack so far against the number of trials."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

from buckler.experiments.attack_search.tables import Victim, victims
from buckler.experiments.results import RunResult
from buckler.report.figures import COLOURS, SHAPES, Sketch

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def search_figures(results: RunResult) -> Iterator[Sketch]:
    """One figure a model."""
    found = victims(results)
    for model in dict.fromkeys(one.model for one in found):
        yield Sketch(
            title=f"The best attack so far: {model}",
            alt="Attack success on the attacker's own probes after each trial, of the attacks that kept the floor of utility: "
            "the mean over seeds as a line, the lowest and the highest seed as a band. Trial 0 is the fixed attack.",
            size=(8.2, 4.2),
            draw=partial(_curves, found=[one for one in found if one.model == model]),
        )


def _curves(figure: Figure, found: Sequence[Victim]) -> None:
    from matplotlib.ticker import MaxNLocator

    axis = figure.subplots()
    for at, one in enumerate(found):
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
