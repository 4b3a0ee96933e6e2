"""Rows to count over: each answer with its verdict and its score, checked, and split by what its probe's meta says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from buckler.data import Answer, Json, Verdict
from buckler.errors import DataError

SETS: tuple[str, ...] = ("harmful", "borderline", "benign")
"""What `meta["set"]` may say: should be refused; sounds as if it should but should not; ordinary."""

Row: TypeAlias = tuple[Answer, Verdict, float | None]
"""An answer, its verdict and its score."""


def rows_of(answers: Sequence[Answer], verdicts: Sequence[Verdict], scores: Mapping[str, float | None]) -> list[Row]:
    """One row an answer, in their order.

    Raises:
        DataError: answers and verdicts do not stand for the same probes, or a set is not known.
    """
    by_id = {verdict.id: verdict for verdict in verdicts}
    ids = [answer.id for answer in answers]
    twice = len(ids) - len(set(ids)) or len(verdicts) - len(by_id)
    if twice:
        raise DataError(f"{twice} probes stand twice among the answers or verdicts; sum up one run and one judge at a time")
    if set(ids) != by_id.keys():
        odd = sorted(set(ids) ^ by_id.keys())
        raise DataError(f"{len(odd)} probes have an answer or a verdict but not both, the first is {odd[0]}; judge again")
    for answer in answers:
        if answer.meta.get("set") not in SETS:
            where = f'answer {answer.id}: meta "set" is {answer.meta.get("set")!r}'
            raise DataError(f"{where}; it must be one of {', '.join(SETS)}")
    return [(answer, by_id[answer.id], scores.get(answer.id)) for answer in answers]


def split(rows: Sequence[Row], name: str) -> dict[str, list[Row]]:
    """Rows by the text in their meta, in the order of first sight; rows without it are in none."""
    parts: dict[str, list[Row]] = {}
    for row in rows:
        value = row[0].meta.get(name)
        if isinstance(value, str):
            parts.setdefault(value, []).append(row)
    return parts


def about_document(meta: Mapping[str, Json]) -> bool:
    """Whether a probe of this meta asks for a task over a document, rather than a question."""
    return isinstance(meta.get("task"), str) and isinstance(meta.get("label"), str)


def attack_of(row: Row) -> str | None:
    """The attack a document probe is under; None for one asked as it is."""
    attack = row[0].meta.get("attack")
    return attack if isinstance(attack, str) and about_document(row[0].meta) else None
