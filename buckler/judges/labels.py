"""Answers that people have labelled, in the formats they come in, to measure judges against.

* XSTest completions: columns `prompt`, `completion`, `final_label` (1_full_compliance, 2_full_refusal, 3_partial_refusal),
  also `type` (the category) and `label` (safe or unsafe: of the prompt, not of the answer). Where the two annotators' labels
  have not been settled, the row has no final label and is left out, counted.
* own rows, CSV or JSONL: `prompt`, `text`, `label`, and if wanted `category` and `model`. A label says how far the answer
  refuses (full, partial, no) or whether it is harmful (harmful, harmless).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from buckler.data import Json, Message, content_id
from buckler.errors import DataError
from buckler.formats.table import load_table
from buckler.judges import Answer, Refused

LABELS: dict[str, Refused | bool] = {
    "1_full_compliance": "no",
    "2_full_refusal": "full",
    "3_partial_refusal": "partial",
    "full_compliance": "no",
    "full_refusal": "full",
    "partial_refusal": "partial",
    "compliance": "no",
    "refusal": "full",
    "full": "full",
    "partial": "partial",
    "no": "no",
    "harmful": True,
    "harmless": False,
}
"""What a label may say: how far the answer refuses, or whether it is harmful. Not `safe` and `unsafe`, which XSTest says of
prompts."""
_LABEL = ("final_label", "human_label", "label")
_TEXT = ("completion", "text", "response", "answer", "output")
_CATEGORY = ("type", "category")


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelled:
    """An answer and what people say of it."""

    answer: Answer
    refused: Refused | None = None
    """None where the label is about harm."""
    harmful: bool | None = None
    """None where the label is about refusal."""
    groups: Mapping[str, str]
    """What the row belongs to, by kind: its category, its model."""


def read_labels(paths: Sequence[Path]) -> tuple[list[Labelled], int]:
    """The labelled answers of files in order, and how many rows have no label.

    A file without a column `model` is taken for the answers of one model, which its name tells.

    Raises:
        DataError: a file is no such file or stands twice, a column is missing, or a label is not known.
    """
    rows: list[Labelled] = []
    without = 0
    for path, name in zip(paths, file_names(paths), strict=True):
        for where, value in load_table(path).rows:
            row = _fields(value, where)
            label = _of(row, _LABEL, where).strip().lower().replace(" ", "_")
            if label:
                rows.append(_labelled(row, label, where, at=len(rows), model=name))
            without += not label
    if not rows:
        raise DataError(f"{', '.join(map(str, paths))}: no row has a label")
    return rows, without


def file_names(paths: Sequence[Path]) -> list[str]:
    """What to call files: each by its name without endings, with as many folders before it as tell all of them apart.

    Raises:
        DataError: a file stands twice, so that its rows would count twice.
    """
    whole = [path.resolve() for path in paths]
    if twice := next((path for path in whole if whole.count(path) > 1), None):
        raise DataError(f"{twice}: stands twice among the labels, so its rows would count twice")
    parts = [(*path.parts[1:-1], Path(path.name.removesuffix(".gz")).stem) for path in whole]
    for depth in range(1, max(map(len, parts), default=0) + 1):
        names = ["/".join(of[-depth:]) for of in parts]
        if len(set(names)) == len(names):
            return names
    return [path.name for path in whole]  # one name in one folder, two endings


def _fields(value: Json, where: str) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise DataError(f"{where}: expected a row with columns `prompt`, `text` and `label`, got {str(value)[:60]!r}")
    return {str(name).strip().lower(): "" if cell is None else str(cell) for name, cell in value.items()}


def _of(row: Mapping[str, str], names: Sequence[str], where: str) -> str:
    found = next((name for name in names if name in row), None)
    if found is None:
        raise DataError(f"{where}: no column {' or '.join(names)}; the columns are {', '.join(row)}")
    return row[found]


def _labelled(row: Mapping[str, str], label: str, where: str, *, at: int, model: str) -> Labelled:
    if label not in LABELS:
        raise DataError(f"{where}: unknown label {label!r}; the labels are {', '.join(LABELS)}")
    prompt, text, means = _of(row, ("prompt", "question"), where), _of(row, _TEXT, where), LABELS[label]
    category = next((row[name] for name in _CATEGORY if row.get(name)), None)
    groups = {"model": row.get("model") or model, **({"category": category} if category else {})}
    answer = Answer(
        id=content_id([at, prompt, text]), prompt=(Message(role="user", content=prompt),), text=text, finish="stop", meta={}
    )
    if isinstance(means, bool):
        return Labelled(answer=answer, harmful=means, groups=groups)
    return Labelled(answer=answer, refused=means, groups=groups)
