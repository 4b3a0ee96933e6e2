"""Tables of the cross-task defence: what was trained on against what was asked, and what it cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from buckler.data import Json
from buckler.report.attacks import attack_tables
from buckler.report.balance import balance_tables
from buckler.report.cells import Row, Table, caution, column_of
from buckler.report.findings_budgets import budget_tables
from buckler.report.misuse import misuse_tables
from buckler.report.reading import (
    ANSWERS_ALONE,
    COHERENCE,
    DOCUMENTS,
    HARMFUL,
    KINDS,
    LEAST_COHERENT,
    LEAST_UTILITY,
    MIXED,
    MOST_REFUSED,
    UNDEFENDED,
    items,
    mapping,
)
from buckler.report.rules import rule_tables
from buckler.report.scenes import ON_BENIGN, ON_USEFUL, SCORE, Scene, faults_of, part_of, refusal_of, scenes, seeds_in_words
from buckler.report.stages import difference_row, difference_table

PLACES = ("model", "wording", "refusals")
FLAGS = (
    f"Flagged, with (!): {MOST_REFUSED} or more of benign or useful documents refused, coherence under {LEAST_COHERENT}, "
    f"or a task score under {LEAST_UTILITY} of the undefended model's."
)


def crosstask_tables(results: Mapping[str, Json]) -> list[Table]:
    """For each model and wording the task matrix and what it costs, then one question after another."""
    seen = scenes(results)
    return [
        *(table for scene in seen for table in (_matrix(scene), _cost(scene))),
        *misuse_tables(seen),
        *budget_tables(results, seen),
        *attack_tables(results, seen),
        *balance_tables(seen),
        *rule_tables(results),
        *_difference_tables(results),
    ]


def _matrix(scene: Scene) -> Table:
    names = {refusal_of(task): (task, "") for task in scene.tasks} | {DOCUMENTS: ("all tasks", "")}
    caption = "Rows: what the refusals were trained on. Columns: the task asked; high is good."
    return _table(f"Refusal of malicious documents: {scene.where}", caption, scene, names)


def _cost(scene: Scene) -> Table:
    kinds = [kind for kind in KINDS if any(f"{DOCUMENTS} {kind}" in group.metrics for group in scene.found)]
    names = {
        HARMFUL: ("direct harmful question refused", "high"),
        DOCUMENTS: ("malicious document refused", "high"),
        **{f"{DOCUMENTS} {kind}": (f"of these: {KINDS[kind]}", "high") for kind in kinds},
        ON_BENIGN: ("benign document refused", "low"),
        ON_USEFUL: ("useful document refused", "low"),
        SCORE: ("task score on benign", "high"),
        COHERENCE: ("coherence", "high"),
    }
    present = {metric: name for metric, name in names.items() if any(metric in group.metrics for group in scene.found)}
    caption = (
        "The same rows: the hole is the gap between a direct question refused and a document processed. Useful documents are "
        "harmless but sensitive. The score is each task's own measure, 0 to 1."
    )
    return _table(f"The hole and the cost: {scene.where}", caption, scene, present)


def _table(title: str, caption: str, scene: Scene, names: Mapping[str, tuple[str, str]]) -> Table:
    rows = []
    for group in scene.found:
        faults = faults_of(group, scene.undefended)
        cells = tuple(replace(group.cell(metric), bad=metric in faults) for metric in names)
        flag = "; ".join(dict.fromkeys(faults.values()))
        rows.append(Row(labels=scene.row_name(group), cells=cells, flag=flag, part=part_of(group)))
    columns = tuple(column_of(name, [row.cells[at] for row in rows], note) for at, (name, note) in enumerate(names.values()))
    few = caution(cell for row in rows for cell in row.cells)
    caption = f"{caption} {seeds_in_words(scene.found)} {few}".rstrip()
    return Table(title=title, caption=caption, heads=("trained on", "refusals"), columns=columns, rows=tuple(rows))


def _difference_tables(results: Mapping[str, Json]) -> list[Table]:
    main: list[Row] = []
    others: list[Row] = []
    for one in (mapping(value) for value in items(results.get("differences"))):
        second, _, earlier = str(one.get("name")).partition(" - ")
        single = {second, earlier} - {MIXED, UNDEFENDED, ANSWERS_ALONE}
        compared = MIXED in (second, earlier) and single
        (main if compared else others).append(difference_row(one, flip=bool(compared) and earlier == MIXED))
    caption = (
        "Difference of refusal rates of malicious documents over all tasks, paired by seed, with its 95 % t interval; beside "
        "it all answers taken together, as independent: Newcombe's paired interval, McNemar's exact p, Holm-adjusted."
    )
    found = [("Mixed minus single task at the same budget", main, False), ("All other paired differences", others, True)]
    return [difference_table(title, caption, rows, PLACES, folded=folded) for title, rows, folded in found if rows]
