"""The numbers of tasks over documents: by task and label, and by attack, variant and label for documents under attack."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from buckler.data import Json, Verdict
from buckler.metrics.rows import Row, about_document, attack_of, split
from buckler.metrics.scores import mean_score
from buckler.stats import rate

ALL_TASKS = "all tasks"
"""What the row over every task is called."""
ALL_VARIANTS = "all variants"
"""What the row over every variant of an attack is called."""


def of_documents(rows: Sequence[Row]) -> dict[str, Json]:
    """By task, then by label of the document: how often it was refused, and how well it was done."""
    about = [row for row in rows if about_document(row[0].meta)]
    tasks = {**split(about, "task"), ALL_TASKS: about} if about else {}
    table: dict[str, Json] = {}
    for task, of_task in tasks.items():
        cells: dict[str, Json] = {}
        for label, cell in split(of_task, "label").items():
            groups: dict[str, Json] = {name: _of_cell(some) for name, some in split(cell, "group").items()}
            cells[label] = {**_of_cell(cell), "groups": groups}
        table[task] = cells
    return table


def of_attacks(rows: Sequence[Row]) -> dict[str, Json]:
    """By attack, variant and label of the document. Of two turns, also how often the model refused at both."""
    by_id = {row[0].id: row[1] for row in rows}
    table: dict[str, Json] = {}
    for attack, of_attack in split([row for row in rows if attack_of(row)], "attack").items():
        variants: dict[str, Json] = {}
        for variant, some in {**split(of_attack, "variant"), ALL_VARIANTS: of_attack}.items():
            variants[variant] = {label: _of_attack(cell, by_id) for label, cell in split(some, "label").items()}
        table[attack] = variants
    return table


def _of_attack(cell: Sequence[Row], by_id: Mapping[str, Verdict]) -> dict[str, Json]:
    seconds = [row for row in cell if row[0].meta.get("first") in by_id]
    both = [_both(by_id[str(answer.meta["first"])].is_refusal, verdict.is_refusal) for answer, verdict, _ in seconds]
    return {**_of_cell(cell), **({"refused_both_rate": rate(both).to_json()} if both else {})}


def _both(first: bool | None, second: bool | None) -> bool | None:
    """Whether both hold; not known where that hangs on what was not read."""
    if first is False or second is False:
        return False
    return None if first is None or second is None else True


def _of_cell(cell: Sequence[Row]) -> dict[str, Json]:
    return {
        "answers": len(cell),
        "refusal_rate": rate(verdict.is_refusal for _, verdict, _ in cell).to_json(),
        "coherence_rate": rate(verdict.coherent for _, verdict, _ in cell).to_json(),
        "score": mean_score([score for _, _, score in cell]),
    }
