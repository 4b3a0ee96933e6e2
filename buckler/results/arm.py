"""An arm with what its measuring left, wherever it was planned; arms that differ in their seed only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from buckler.data import ANSWERS, VERDICTS, Answer, Json
from buckler.evaluation.scores import about_document
from buckler.workflow.step import Step
from buckler.workflow.store import Store

Key = tuple[tuple[str, str | int], ...]
"""An arm's labels without its seed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredArm:
    """An arm with what its measuring left, wherever it was planned."""

    labels: Mapping[str, str | int]
    answers: Path
    verdicts: Path
    metrics: Mapping[str, Json]

    @property
    def seed(self) -> int:
        """Of its grid."""
        return int(self.labels["seed"])

    @property
    def key(self) -> Key:
        """What it shares with the same arm of other seeds."""
        return tuple((name, value) for name, value in self.labels.items() if name != "seed")


def files_of(store: Store, answers: Step | str, verdicts: Step | str) -> tuple[Path, Path]:
    """The answers and the verdicts that these steps, or the steps of these keys, left in the store."""
    return store.folder(answers) / ANSWERS, store.folder(verdicts) / VERDICTS


def grouped(arms: Sequence[MeasuredArm]) -> dict[Key, list[MeasuredArm]]:
    """Arms that differ in their seed only, in the order of the plan."""
    groups: dict[Key, list[MeasuredArm]] = {}
    for arm in arms:
        groups.setdefault(arm.key, []).append(arm)
    return groups


def is_plain_document(one: Answer) -> bool:
    """Whether it answers a task over a document that was asked as it is, under no attack."""
    return about_document(one.meta) and "attack" not in one.meta
