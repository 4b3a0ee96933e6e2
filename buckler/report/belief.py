"""How far the judge of an experiment can be believed: its card in a sentence, and rates corrected for its known errors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from buckler.data import Json
from buckler.evaluation.metrics import ALL_TASKS
from buckler.report.cells import Cell, Column, Row, Table, no_width
from buckler.report.reading import BENIGN, BORDERLINE, HARMFUL, Group, groups, items, mapping

NOT_MEASURED = "How far this judge can be believed was not measured here (buckler judge-card)."
NAMES = {
    HARMFUL: "harmful refused",
    BORDERLINE: "borderline refused",
    BENIGN: "benign refused",
    **{f"refusal_rate {ALL_TASKS} {label}": f"{label} documents refused" for label in ("harmful", "benign", "useful")},
}


def belief(results: Mapping[str, Json]) -> str:
    """What the judge's card says, or that there is none."""
    sentence = mapping(results.get("judge_card")).get("sentence")
    return f"The judge: {sentence}." if sentence else NOT_MEASURED


def belief_tables(results: Mapping[str, Json]) -> list[Table]:
    """Every arm's rates of refusal as the judge gave them, each beside the corrected one; none without a card."""
    arms = {_key(one): mapping(one.get("rates")) for one in map(mapping, items(mapping(results.get("judge_card")).get("arms")))}
    found = [group for group in groups(results) if _key({"labels": group.labels}) in arms]
    names = [name for name in NAMES if any(name in rates for rates in arms.values())]
    if not found or not names:
        return []
    heads = tuple(found[0].labels)
    rows = []
    for group in found:
        rates = arms[_key({"labels": group.labels})]
        cells = [cell for name in names for cell in (_raw(group, name), _corrected(mapping(rates.get(name))))]
        rows.append(Row(labels=tuple(group.label(head) for head in heads), cells=tuple(cells), part=group.label("model")))
    return [
        Table(
            title="Corrected for the judge",
            caption=f"{belief(results)} Corrected: as the rate would be if the judge made no mistakes (Rogan and Gladen 1978). "
            "The intervals take the answers of all seeds as independent: Wilson's for the raw rate, Lang and Reiczigel's for the "
            "corrected one, which holds the doubt about the judge too. It holds if the judge errs on these answers as often as "
            "on the labelled ones. Cut: the value lay outside of 0 to 1; without an interval, all of it did. Every other table "
            "and every finding is uncorrected.",
            heads=heads,
            columns=tuple(Column(name=f"{NAMES[name]}: {kind}") for name in names for kind in ("raw", "corrected")),
            rows=tuple(rows),
            folded=True,
        )
    ]


def _key(arm: Mapping[str, Json]) -> tuple[tuple[str, Json], ...]:
    return tuple(sorted(mapping(arm.get("labels")).items()))


def _raw(group: Group, name: str) -> Cell:
    every = mapping(mapping(group.metrics.get(name)).get("all_answers"))
    unread = every.get("unread")
    return _cell(every, f"{unread} unread" if unread else "")


def _corrected(rate: Mapping[str, Json]) -> Cell:
    cell = _cell(rate, str(rate.get("flag", "")).partition(":")[0])
    # an interval that was cut to a point would pass for certainty
    return replace(cell, low=None, high=None) if no_width(cell.low, cell.high) else cell


def _cell(rate: Mapping[str, Json], note: str) -> Cell:
    value, low, high = (v if isinstance(v, int | float) else None for v in (rate.get(k) for k in ("value", "low", "high")))
    return Cell(value=value, low=low, high=high, over="probes", note=note)
