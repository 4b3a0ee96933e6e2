"""Splits of a data set: train and test are known by the names of files, folders, columns and keys."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from buckler.data.reading import kind_at
from buckler.errors import DataError
from buckler.formats.rows import Fields, listed

_KINDS = {
    **dict.fromkeys(("train", "training", "train_sft"), "train"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation", "test_sft"), "test"),
    **dict.fromkeys(("validation", "valid", "val", "dev", "development"), "validation"),
}
"""Names of splits, as `datasets` reads them from the names of files."""
_SHARD = re.compile(r"(.+?)-\d{3,}-of-\d{3,}")
_WORD = re.compile(rf"(?:^|[^a-z])({'|'.join(_KINDS)})(?:[^a-z]|$)")
COLUMNS = ("split", "data_split", "dataset_split")
DATA = ("*.parquet", "*.jsonl", "*.json", "*.csv", "*.tsv", "*.jsonl.gz", "*.json.gz", "*.csv.gz")
BESIDE = re.compile(r"readme|licen[cs]e|dataset_infos?|dataset_dict|state\.json|notice|citation|requirements", re.IGNORECASE)
"""Files that a folder of data has beside the data."""


def split_named(name: str) -> str:
    """The split that a file or folder is of by its name; "" where the name does not tell."""
    stem = name.split(".")[0].lower()
    if shard := _SHARD.fullmatch(stem):
        return shard[1]
    found = _WORD.search(stem)
    return found[1] if found else ""


def is_split(name: str) -> bool:
    """Whether a name is that of a split and nothing else."""
    return name.strip().lower() in _KINDS or re.fullmatch(r"(?:train|test|validation|val|dev|eval)[_-]\w+", name) is not None


def is_saved(folder: Path) -> bool:
    """Whether `datasets` saved a data set in this folder."""
    return bool(kind_at(folder / "dataset_dict.json") or kind_at(folder / "state.json"))


def splits_in(folder: Path) -> dict[str, list[Path]]:
    """The data files of a folder by split, in the order of their names; also of the `data/` of a downloaded data set, and of
    folders named as splits. Empty where the folder is no data set of one kind of file."""
    found: dict[str, list[Path]] = {}
    for place in (folder, *sorted(one for one in folder.iterdir() if one.is_dir() and not one.name.startswith("."))):
        of_folder = "" if place in (folder, folder / "data", folder / "default") else split_named(place.name)
        if place != folder and place.name not in ("data", "default") and not is_split(place.name):
            continue
        for file in sorted(one for pattern in DATA for one in place.glob(pattern)):
            if file.is_file() and not file.name.startswith(".") and not BESIDE.search(file.name):
                found.setdefault(of_folder or split_named(file.name), []).append(file)
    return found


def chosen(splits: Mapping[str, object], wanted: str | None, place: object) -> str:
    """The one of several splits that is meant.

    Raises:
        DataError: none is named, or there is none of that name.
    """
    if len(splits) == 1:
        return next(iter(splits))
    names = {name or "(no name)": name for name in splits}
    if wanted is None:
        example = next((name for name in splits if _KINDS.get(name) == "train"), next(iter(splits)))
        raise DataError(
            f"{place}: has the splits {listed(names)}; say which is meant with --split {example}, in a recipe "
            f"`split: {example}`, or name a file"
        )
    alike = [name for name in splits if name == wanted] or [
        name for name in splits if name and _KINDS.get(name) == _KINDS.get(wanted, wanted)
    ]
    if not alike:
        raise DataError(f"{place}: no split {wanted!r}; the splits are {listed(names)}")
    return alike[0]


def of_split(
    rows: list[tuple[str, Fields]], wanted: str | None, splits: dict[str, int], split: str, place: object
) -> tuple[list[tuple[str, Fields]], dict[str, int], str]:
    """The rows of the split that is meant, where a column tells them apart; with the rows of each split and its name."""
    name = next((one for one in COLUMNS if rows and all(one in row for _, row in rows)), None)
    counts = Counter(str(row[name]).strip() for _, row in rows) if name else Counter[str]()
    if splits or len(counts) < 2 or not all(map(is_split, counts)):
        return rows, splits, split
    one = chosen(counts, wanted, place)
    return [(where, row) for where, row in rows if str(row[name or ""]).strip() == one], dict(counts), one
