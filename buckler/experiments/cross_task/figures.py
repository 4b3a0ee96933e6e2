"""Figures of the cross-task defence: the task matrix, the curves over budgets, and what no other arm beats."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

from buckler.experiments.cross_task.budgets import Limits, Point, curves, enough, front, limits_of, points_of
from buckler.experiments.cross_task.conditions import DocumentCondition, document_conditions, refusal_of
from buckler.experiments.results import RunResult
from buckler.experiments.results_view import DOCUMENTS
from buckler.report.figures import COLOURS, INK, SHAPES, Sketch, arms, point
from buckler.report.tables import Cell

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def cross_task_figures(results: RunResult) -> Iterator[Sketch]:
    """For each model and wording the task matrix, and where there are budgets their curves and the front."""
    limits = limits_of(results)
    for condition in document_conditions(results):
        if condition.tasks:
            yield Sketch(
                title=f"Refusal of malicious documents by task: {condition.where}",
                alt="Rows: what the refusals were trained on. Columns: the task asked. Each field is the rate over seeds; light "
                "is refused, dark is processed.",
                size=(8.2, 1.2 + 0.42 * len(condition.arms)),
                draw=partial(_matrix, condition=condition),
            )
        if any(len(points) > 1 for points in curves(condition).values()):
            yield Sketch(
                title=f"Refusals bought by budget: {condition.where}",
                alt="Against the number of refusals trained on: malicious documents refused, benign (filled) and useful (hollow) "
                "documents refused, the task score (filled) and the utility of direct answers (hollow). Thin lines are intervals "
                "over seeds, dotted ones the recipe's limits; a ring is the recommended number.",
                size=(10.4, 3.8),
                draw=partial(_budgets, condition=condition, limits=limits),
            )
            yield Sketch(
                title=f"What no other arm beats: {condition.where}",
                alt="Each point is an arm with its number of refusals: up is safer; left is less over-refusal, right is a better "
                "score. Filled: on the front, no other arm is as good in all and better in one. Hollow: beaten.",
                size=(9.6, 4.4),
                draw=partial(_front, condition=condition),
            )


def _matrix(figure: Figure, condition: DocumentCondition) -> None:
    import matplotlib

    tasks, arms = condition.tasks, condition.arms
    metrics = [*(refusal_of(task) for task in tasks), DOCUMENTS]
    axis = figure.subplots()
    colours = matplotlib.colormaps["cividis"]
    for y, one in enumerate(arms):
        for x, metric in enumerate(metrics):
            value = one.value(metric)
            left = x + (0.15 if metric == DOCUMENTS else 0)  # the mean stands a little apart
            colour = "none" if value is None else colours(value)
            axis.add_patch(matplotlib.patches.Rectangle((left, y), 0.96, 0.94, facecolor=colour, edgecolor="none"))
            text = "-" if value is None else f"{value:.2f}"
            ink = INK if value is None else "#ffffff" if value < 0.55 else "#111111"
            axis.text(left + 0.48, y + 0.47, text, ha="center", va="center", color=ink)
    axis.set(xlim=(0, len(metrics) + 0.15), ylim=(len(arms), 0))
    axis.set_xticks([x + 0.48 + (0.15 if x == len(tasks) else 0) for x in range(len(metrics))], [*tasks, "all tasks"])
    names = [" ".join(part for part in condition.row_name(arm) if part != "-") for arm in arms]
    axis.set_yticks([y + 0.47 for y in range(len(arms))], names)
    axis.tick_params(length=0, top=False, labeltop=True, bottom=False, labelbottom=False)
    for spine in axis.spines.values():
        spine.set_visible(False)


def _budgets(figure: Figure, condition: DocumentCondition, limits: Limits) -> None:
    panes: list[tuple[str, list[Callable[[Point], Cell]]]] = [
        ("malicious documents refused", [lambda one: one.malicious]),
        ("benign, useful refused", [lambda one: one.benign, lambda one: one.useful]),
        ("task score, direct utility", [lambda one: one.score, lambda one: one.utility]),
    ]
    axes = figure.subplots(1, len(panes), sharex=True)
    for axis, (label, reads) in zip(axes, panes, strict=True):
        for at, (name, points) in enumerate(curves(condition).items()):
            for index, read in enumerate(reads):
                _curve(axis, [(one.refusals, read(one)) for one in points], at, "" if index else name, hollow=bool(index))
        axis.set(title=label, ylim=(-0.04, 1.04))
        axis.set_xticks(sorted({one.refusals for points in curves(condition).values() for one in points}))
        axis.grid(True)
    for axis, limit in zip(axes, (limits.refusal, limits.false_refusal), strict=False):
        axis.axhline(limit, color=INK, linestyle=":", linewidth=1)
    for at, points in enumerate(curves(condition).values()):
        best = enough(points, limits)
        if best is not None and best.malicious.value is not None:
            axes[0].plot(
                [best.refusals], [best.malicious.value], "o", color=COLOURS[at % len(COLOURS)], markersize=15, mfc="none"
            )
    figure.supxlabel("refusals trained on", fontsize=10)
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside right center")


def _curve(axis: Axes, seen: Sequence[tuple[int, Cell]], at: int, name: str, *, hollow: bool) -> None:
    colour, marker = COLOURS[at % len(COLOURS)], SHAPES[at % len(SHAPES)]
    there = [(x, cell.value, cell) for x, cell in seen if cell.value is not None]
    style, face = ("--", "none") if hollow else ("-", colour)
    xs, ys = [x for x, _, _ in there], [y for _, y, _ in there]
    axis.plot(xs, ys, style, marker=marker, color=colour, markerfacecolor=face, label=name or None)
    for x, y, cell in there:
        axis.errorbar(x, y, yerr=arms(cell), color=colour, elinewidth=0.8, alpha=0.5, fmt="none")


def _front(figure: Figure, condition: DocumentCondition) -> None:
    points = points_of(condition)
    leads = front(points)
    names = list(dict.fromkeys(condition.row_name(arm)[0] for arm in condition.arms))
    panes: list[tuple[str, Callable[[Point], Cell]]] = [
        ("benign or useful documents refused, the worse", lambda one: one.false_refusal),
        ("task score", lambda one: one.score),
    ]
    axes = figure.subplots(1, len(panes), sharey=True)
    for axis, (label, read) in zip(axes, panes, strict=True):
        for arm, one, leading in zip(condition.arms, points, leads, strict=True):
            at = names.index(condition.row_name(arm)[0])
            x, y = read(one), one.malicious
            point(axis, x, y, COLOURS[at % len(COLOURS)], SHAPES[at % len(SHAPES)], hollow=not leading)
            if x.value is not None and y.value is not None and one.refusals:
                axis.annotate(str(one.refusals), (x.value, y.value), (5, 5), textcoords="offset points", fontsize=8)
        axis.set(xlabel=label, xlim=(-0.04, 1.04), ylim=(-0.04, 1.04))
        axis.grid(True)
        axis.set_axisbelow(True)
    axes[0].set_ylabel("malicious documents refused")
    _legend(figure, names)


def _legend(figure: Figure, names: Sequence[str]) -> None:
    from matplotlib.lines import Line2D

    figure.legend(
        handles=[
            Line2D([], [], marker=SHAPES[at % len(SHAPES)], linestyle="none", color=COLOURS[at % len(COLOURS)], label=name)
            for at, name in enumerate(names)
        ],
        loc="outside right center",
        labelspacing=0.7,
    )
