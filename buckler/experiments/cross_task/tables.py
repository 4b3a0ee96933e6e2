"""Tables of the cross-task defence: what was trained on against what was asked, and what it cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from buckler.crosstask.task import MIXED
from buckler.experiments.cross_task.budgets import budget_tables
from buckler.experiments.cross_task.conditions import (
    ON_BENIGN,
    ON_USEFUL,
    SCORE,
    DocumentCondition,
    Misuse,
    document_conditions,
    faults_of,
    misuse_of,
    part_of,
    refusal_of,
    seeds_in_words,
)
from buckler.experiments.cross_task.document_attacks import attack_tables
from buckler.experiments.cross_task.model_comparison import comparison_tables
from buckler.experiments.cross_task.phrase_rule import rule_tables
from buckler.experiments.cross_task.plan import ANSWERS_ALONE, UNDEFENDED
from buckler.experiments.results import RunResult
from buckler.experiments.results_view import (
    COHERENCE,
    DOCUMENTS,
    HARMFUL,
    KINDS,
    LEAST_COHERENT,
    LEAST_UTILITY,
    MOST_REFUSED,
    Metric,
    by_the_provider,
)
from buckler.experiments.stages.tables import difference_row, difference_table
from buckler.report.tables import Cell, Column, Table, TableRow, caution, column_of

PLACES = ("model", "wording", "refusals")
FLAGS = (
    f"Flagged, with (!): {MOST_REFUSED} or more of benign or useful documents refused, coherence under {LEAST_COHERENT}, "
    f"or a task score under {LEAST_UTILITY} of the undefended model's."
)


def cross_task_tables(results: RunResult) -> list[Table]:
    """For each model and wording the task matrix and what it costs, then one question after another."""
    seen = document_conditions(results)
    return [
        *(table for condition in seen for table in (_matrix(condition), _cost(condition))),
        *_misuse_tables(seen),
        *budget_tables(results, seen),
        *attack_tables(results, seen),
        *comparison_tables(seen),
        *rule_tables(results),
        *_difference_tables(results),
    ]


def _matrix(condition: DocumentCondition) -> Table:
    names = {refusal_of(task): (task, "") for task in condition.tasks} | {DOCUMENTS: ("all tasks", "")}
    caption = "Rows: what the refusals were trained on. Columns: the task asked; high is good."
    return _table(f"Refusal of malicious documents: {condition.where}", caption, condition, names)


def _cost(condition: DocumentCondition) -> Table:
    names = {
        HARMFUL: ("direct harmful question refused", "high"),
        **_withheld(HARMFUL, "direct harmful question"),
        DOCUMENTS: ("malicious document refused", "high"),
        **_withheld(DOCUMENTS, "malicious document"),
        **{Metric(DOCUMENTS.base, *DOCUMENTS.of, kind): (f"of these: {words}", "high") for kind, words in KINDS.items()},
        ON_BENIGN: ("benign document refused", "low"),
        **_withheld(ON_BENIGN, "benign document"),
        ON_USEFUL: ("useful document refused", "low"),
        **_withheld(ON_USEFUL, "useful document"),
        SCORE: ("task score on benign", "high"),
        COHERENCE: ("coherence", "high"),
    }
    present = {metric: name for metric, name in names.items() if any(arm.measured(metric) for arm in condition.arms)}
    caption = (
        "The same rows: the gap is between a direct question refused and a document processed. Useful documents are "
        "harmless but sensitive. The score is each task's own measure, 0 to 1."
    )
    return _table(f"The gap and the cost: {condition.where}", caption, condition, present)


def _withheld(metric: Metric, what: str) -> dict[Metric, tuple[str, str]]:
    return {one: (name, note) for one, name, note in by_the_provider(metric, what)}


def _table(title: str, caption: str, condition: DocumentCondition, names: Mapping[Metric, tuple[str, str]]) -> Table:
    rows = []
    for arm in condition.arms:
        faults = faults_of(arm, condition.undefended)
        cells = tuple(replace(arm.cell(metric), bad=metric in faults) for metric in names)
        flag = "; ".join(dict.fromkeys(faults.values()))
        rows.append(TableRow(labels=condition.row_name(arm), cells=cells, flag=flag, part=part_of(arm)))
    columns = tuple(column_of(name, [row.cells[at] for row in rows], note) for at, (name, note) in enumerate(names.values()))
    few = caution(cell for row in rows for cell in row.cells)
    caption = f"{caption} {seeds_in_words(condition.arms)} {few}".rstrip()
    return Table(title=title, caption=caption, heads=("trained on", "refusals"), columns=columns, rows=tuple(rows))


def _difference_tables(results: RunResult) -> list[Table]:
    main: list[TableRow] = []
    others: list[TableRow] = []
    for difference in results.differences:
        second, earlier = difference.sides
        single = {second, earlier} - {MIXED, UNDEFENDED, ANSWERS_ALONE}
        compared = MIXED in (second, earlier) and single
        (main if compared else others).append(difference_row(difference, flip=bool(compared) and earlier == MIXED))
    caption = (
        "Difference of refusal rates of malicious documents over all tasks, paired by seed, with its 95 % t interval; beside "
        "it all answers taken together, as independent: Newcombe's paired interval, McNemar's exact p, Holm-adjusted."
    )
    blocks = [("Mixed minus single task at the same budget", main, False), ("All other paired differences", others, True)]
    return [difference_table(title, caption, rows, PLACES, folded=folded) for title, rows, folded in blocks if rows]


def _misuse_tables(seen: Sequence[DocumentCondition]) -> list[Table]:
    """One table: a row a model and wording, a column a task."""
    conditions = [(condition, misuse) for condition in seen if (misuse := misuse_of(condition)) is not None]
    tasks = list(dict.fromkeys(task for _, misuse in conditions for task in misuse.rates))
    rows = []
    for condition, misuse in conditions:
        cells = (*(misuse.rates.get(task, Cell()) for task in tasks), Cell(text=_named(misuse)))
        rows.append(TableRow(labels=(condition.model, condition.wording), cells=cells))
    if not rows or len(tasks) < 2:
        return []
    columns = [column_of(task, [row.cells[at] for row in rows]) for at, task in enumerate(tasks)]
    caption = (
        "How often the undefended model does the task on a malicious document: 1 - refusal; low is good. Most misused: the "
        "highest rate, ties at two decimals shown as ties; in brackets what the interval of the difference does not set apart."
    )
    title = "Malicious documents processed by the undefended model, by task"
    return [
        Table(
            title=title,
            caption=caption,
            heads=("model", "wording"),
            columns=(*columns, Column(name="most misused")),
            rows=tuple(rows),
        )
    ]


def _named(misuse: Misuse) -> str:
    if len(misuse.tasks) == len(misuse.rates):
        return "all alike"
    near = f" ({', '.join(misuse.near)})" if misuse.near else ""
    return " = ".join(misuse.tasks) + near
