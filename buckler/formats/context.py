"""What a file says of its rows outside them: answers in a file beside it, languages and subjects in its name, where numbers count
from."""

from __future__ import annotations

import re
from pathlib import Path

from buckler.data import Json
from buckler.errors import DataError
from buckler.formats.files import load_table
from buckler.formats.question_sets import counted_from
from buckler.formats.rows import Fields, shorten

NUMBERED = ("choices", "hellaswag", "winogrande", "siqa", "mmlu-rows")
"""Formats whose right choice may be a number: every row of the file tells where they count from."""


def languages_in(path: Path | str) -> re.Match[str] | None:
    """The two languages in a file's name, `shots.de-en.json`."""
    return re.search(r"(?:^|[._-])([a-z]{2})-([a-z]{2})(?=[._-]|$)", Path(path).name)


def companion(path: Path | str) -> dict[str, Json] | None:
    """The account of a file that only says the answers of another (ComVE); None for every other file.

    Raises:
        DataError: it is such a file, and a record of it is none.
    """
    found = re.fullmatch(r"(subtask|task)([ABC])_(gold_answers|answers_all|trial_answers?)\.csv", Path(path).name)
    if found is None or not Path(path).is_file():
        return None
    number, beside = len(_gold_answers(Path(path))), f"{found[1]}{found[2]}_*.csv"
    rows: dict[str, Json] = {"read": number, "kept": number}
    return {
        "layout": f"gold answers, read with {beside} beside it",
        "rows": rows,
        "columns": {},
        "answers": {"learnt": 0, "masked": 0},
    }


def with_context(path: Path | str, name: str, rows: list[tuple[str, Fields]]) -> list[tuple[str, Fields]]:
    """The rows of a file with what its neighbour or its name says of them: ComVE, PIQA, MMLU, translations."""
    place = Path(path)
    if name == "translation" and (pair := languages_in(place)):
        languages: Fields = {"source_language": pair[1], "target_language": pair[2]}
        return [(where, {**languages, **row}) for where, row in rows]
    if name == "mmlu" and (subject := re.fullmatch(r"(.+)_(?:dev|val|test|train)\.csv(?:\.gz)?", place.name)):
        return [(where, {**row, "subject": subject[1]}) for where, row in rows]
    if name in NUMBERED and (start := counted_from(name, rows)) is not None:
        return [(where, {**row, "number_from": start}) for where, row in rows]
    if name == "piqa" and all("label" not in row for _, row in rows) and (labels := _labels_file(place)):
        return _labelled(rows, labels)
    if name in ("comve-a", "comve-b", "comve-c") and (gold := _gold_file(place, name[-1].upper())):
        answers = _gold_answers(gold)
        for where, row in rows:
            if str(row["id"]) not in answers:
                raise DataError(f"{where}: no answer for id {shorten(row['id'])} in {gold}; complete that file or remove it")
        return [(where, {**row, "gold": answers[str(row["id"])]}) for where, row in rows]
    return rows


def _gold_file(path: Path, task: str) -> Path | None:
    parts = ("subtask{}_gold_answers.csv", "subtask{}_answers_all.csv", "task{}_trial_answer.csv", "task{}_trial_answers.csv")
    names = [one.format(task) for one in parts]
    return next((path.with_name(name) for name in names if path.with_name(name).is_file()), None)


def _gold_answers(path: Path) -> dict[str, list[Json]]:
    """ComVE's gold files have no header: an id, then one or three answers."""
    answers: dict[str, list[Json]] = {}
    for where, cells in load_table(path).rows:
        if not isinstance(cells, list) or len(cells) < 2 or not str(cells[0]).strip().isdigit():
            raise DataError(f"{where}: expected an id and its answers without a header, got {shorten(cells)}")
        answers[str(cells[0]).strip()] = cells[1:]
    return answers


def _labels_file(path: Path) -> Path | None:
    """`valid-labels.lst` beside `valid.jsonl`."""
    beside = path.with_name(f"{path.name.split('.')[0]}-labels.lst")
    return beside if beside.is_file() else None


def _labelled(rows: list[tuple[str, Fields]], labels: Path) -> list[tuple[str, Fields]]:
    """PIQA's labels: a number a line, in the order of the rows."""
    labels_ = [value for _, value in load_table(labels).rows]
    if len(labels_) < len(rows):
        raise DataError(f"{labels}: {len(labels_)} labels, but {len(rows)} rows; complete that file or remove it")
    return [(where, {**row, "label": label}) for (where, row), label in zip(rows, labels_, strict=False)]
