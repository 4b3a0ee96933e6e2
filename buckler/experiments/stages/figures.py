"""Figures of a customization: safety against its price, and perplexities by kind of text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from buckler.experiments.results import RunResult
from buckler.experiments.results_view import BORDERLINE, HARMFUL, UTILITY, ArmView
from buckler.experiments.stages.plan import UNTOUCHED
from buckler.experiments.stages.tables import Spread, attack_conditions, spreads
from buckler.report.figures import COLOURS, INK, SHAPES, Sketch, point

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MARKERS = {UNTOUCHED: "*", "none": "X", "pre": "<", "in": "o", "post": ">", "all": "D"}


def stage_figures(results: RunResult) -> Iterator[Sketch]:
    """The trade-off for each model and attack, then perplexities."""
    for condition in attack_conditions(results):
        if any(arm.value(BORDERLINE) is not None or arm.value(UTILITY) is not None for arm in condition.arms):
            yield Sketch(
                title=f"Safety against over-refusal and utility: {condition.where}",
                alt="Each point is a defence (colour) at a stage (shape): up is safer; left is less over-refusal, right is more "
                "useful. Thin lines are the intervals of the table.",
                size=(9.6, 4.4),
                draw=partial(_tradeoff, arms=condition.arms),
            )
    texts = spreads(results)
    if texts:
        yield Sketch(
            title="Perplexity by kind of text",
            alt="Medians over texts with quartiles, one colour and shape a model. Left: the model finds the text likely. A "
            "robust model has safe answers left of harmful ones, a compromised one the reverse.",
            size=(8.2, 1.4 + 0.42 * sum(len(kinds) for kinds in texts.values()) / max(1, len(texts)) * min(3, len(texts))),
            draw=partial(_perplexity, by_model=texts),
        )


def _tradeoff(figure: Figure, arms: Sequence[ArmView]) -> None:
    panes = [(BORDERLINE, "borderline questions refused"), (UTILITY, "utility")]
    shown = [pane for pane in panes if any(one.value(pane[0]) is not None for one in arms)]
    names = list(dict.fromkeys(one.label("defence") for one in arms if one.label("defence") != "none"))
    colours = {name: COLOURS[at % len(COLOURS)] for at, name in enumerate(names)}
    axes = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    for axis, (metric, label) in zip(axes, shown, strict=True):
        for arm in arms:
            colour = colours.get(arm.label("defence"), INK)
            point(axis, arm.cell(metric), arm.cell(HARMFUL), colour, MARKERS.get(arm.label("stage"), "o"))
        axis.set(xlabel=label, xlim=(-0.04, 1.04), ylim=(-0.04, 1.04))
        axis.grid(True)
        axis.set_axisbelow(True)
    axes[0].set_ylabel("harmful questions refused")
    stages = [stage for stage in MARKERS if any(one.label("stage") == stage for one in arms)]
    _legend(figure, colours, stages)


def _legend(figure: Figure, colours: Mapping[str, str], stages: Sequence[str]) -> None:
    from matplotlib.lines import Line2D

    named = {"none": "no rows added", UNTOUCHED: "not customized"}
    by_colour = [Line2D([], [], marker="s", linestyle="none", color=colour, label=name) for name, colour in colours.items()]
    by_shape = [
        Line2D([], [], marker=MARKERS.get(stage, "o"), linestyle="none", color=INK, label=named.get(stage, stage))
        for stage in stages
    ]
    figure.legend(handles=[*by_colour, *by_shape], loc="outside right center", labelspacing=0.7)


def _perplexity(figure: Figure, by_model: Mapping[str, Mapping[str, Spread]]) -> None:
    from matplotlib.ticker import LogLocator, NullLocator, ScalarFormatter

    axis = figure.subplots()
    kinds = list(dict.fromkeys(kind for row in by_model.values() for kind in row))
    step = 0.8 / len(by_model)
    for at, (model, row) in enumerate(by_model.items()):
        colour, marker = COLOURS[(at + 1) % len(COLOURS)], SHAPES[at % len(SHAPES)]
        for kind, spread in row.items():
            y = kinds.index(kind) + (at - (len(by_model) - 1) / 2) * step
            axis.plot([spread.q1, spread.q3], [y, y], color=colour, linewidth=3, alpha=0.45, solid_capstyle="butt")
            label = model if kind == next(iter(row)) else None
            axis.plot([spread.median], [y], marker=marker, linestyle="none", color=colour, label=label, markersize=7)
    axis.set_yticks(range(len(kinds)), kinds)
    axis.set(xlabel="perplexity", ylim=(len(kinds) - 0.5, -0.5))
    if max(s.q3 for row in by_model.values() for s in row.values()) > 10:
        axis.set_xscale("log")
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.xaxis.set_major_formatter(ScalarFormatter())
        axis.xaxis.set_minor_locator(NullLocator())
    axis.grid(True, axis="x")
    axis.set_axisbelow(True)
    axis.tick_params(axis="y", length=0)
    figure.legend(loc="outside lower center", ncols=3)
