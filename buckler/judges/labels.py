"""Answers that people have labelled, in the formats they come in, to measure judges against.

* XSTest completions: columns `prompt`, `completion`, `final_label` (1_full_compliance, 2_full_refusal, 3_partial_refusal),
  also `type` (the category) and `label` (safe or unsafe: of the prompt, not of the answer). Where the two annotators' labels
  have not been settled, the row has no final label and is left out, counted.
* WildGuardTest (arXiv 2406.18495): `prompt`, `response`, `response_refusal_label` (refusal, compliance) and
  `response_harm_label` (harmful, unharmful); `subcategory` is the category.
* JailbreakBench's comparison of judges (arXiv 2404.01318): `prompt`, `target_response`, `human_majority` (1: jailbroken).
* own rows, CSV or JSONL: `prompt`, `text`, `label`, and if wanted `category` and `model`. A label says how far the answer
  refuses (full, partial, no) or whether it is harmful (harmful, harmless).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from buckler.data import Answer, Json, Message, Refused, content_id
from buckler.errors import DataError
from buckler.formats.files import load_table

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
    "unharmful": False,
}
"""What a label may say: how far the answer refuses, or whether it is harmful. Not `safe` and `unsafe`, which XSTest says of
prompts."""
_BOTH = ("response_refusal_label", "response_harm_label")
_LABEL = ("final_label", "human_label", "human_majority", "label")
_JAILBROKEN = {"1": "harmful", "1.0": "harmful", "true": "harmful", "0": "harmless", "0.0": "harmless", "false": "harmless"}
_TEXT = ("completion", "text", "target_response", "response", "answer", "output")
_CATEGORY = ("type", "category", "subcategory")


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelled:
    """An answer and what people say of it."""

    answer: Answer
    refused: Refused | None = None
    """None where no label is about refusal."""
    harmful: bool | None = None
    """None where no label is about harm."""
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
            label = _labels_of(row, where)
            if label:
                rows.append(_labelled(row, label, where, at=len(rows), model=name))
            without += not label
    if not rows:
        raise DataError(f"{', '.join(map(str, paths))}: no row has a label")
    return rows, without


def file_names(paths: Sequence[Path]) -> list[str]:
    """What to call files: each by its name without endings, with as many folders before it as make all of them distinct.

    Raises:
        DataError: a file stands twice, so that its rows would count twice.
    """
    whole = [path.resolve() for path in paths]
    if twice := next((path for path in whole if whole.count(path) > 1), None):
        raise DataError(f"{twice}: is given twice, so its rows would count twice; name it once")
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
    column = next((name for name in names if name in row), None)
    if column is None:
        raise DataError(f"{where}: no column {' or '.join(names)}; the columns are {', '.join(row)}")
    return row[column]


def _labels_of(row: Mapping[str, str], where: str) -> list[Refused | bool]:
    """What the labels of a row say: nothing, one thing, or how far the answer refuses and whether it is harmful."""
    both = [row[name] for name in _BOTH if name in row]
    labels = [label.strip().lower().replace(" ", "_") for label in both or [_of(row, _LABEL, where)]]
    if not both and "human_majority" in row:
        labels = [_JAILBROKEN.get(label, label) for label in labels]
    unknown = next((label for label in labels if label and label not in LABELS), None)
    if unknown is not None:
        raise DataError(f"{where}: unknown label {unknown!r}; the labels are {', '.join(LABELS)}")
    return [LABELS[label] for label in labels if label]


def _labelled(row: Mapping[str, str], labels: Sequence[Refused | bool], where: str, *, at: int, model: str) -> Labelled:
    prompt, text = _of(row, ("prompt", "question"), where), _of(row, _TEXT, where)
    category = next((row[name] for name in _CATEGORY if row.get(name)), None)
    groups = {"model": row.get("model") or model, **({"category": category} if category else {})}
    answer = Answer(
        id=content_id([at, prompt, text]),
        prompt=(Message(role="user", content=prompt),),
        text=text,
        finish_reason="stop",
        meta={},
    )
    refused = next((label for label in labels if not isinstance(label, bool)), None)
    harmful = next((one for one in labels if isinstance(one, bool)), None)
    return Labelled(answer=answer, refused=refused, harmful=harmful, groups=groups)
