"""Parquet, and Hugging Face data sets on disk or of the hub, as rows."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from buckler.data import Json
from buckler.errors import BackendError, DataError


def parquet(path: Path, raw: bytes, limit: int | None) -> Iterator[Json]:
    """The rows of a Parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        rows = pq.read_table(pa.BufferReader(raw)).slice(0, limit).to_pylist()
    except (pa.ArrowException, OSError, UnicodeDecodeError) as fault:  # the last: a name or a text that is no UTF-8
        raise DataError(f"{path}: not a whole Parquet file: {str(fault).splitlines()[0]}; fetch it again") from None
    return (_plain(row) for row in rows)


def shards(path: Path) -> list[Path]:
    """The files of a dataset in pieces, in the order of their names: Parquet or JSONL, with nothing of another kind."""
    files = sorted(file for file in path.iterdir() if file.is_file() and not file.name.startswith("."))
    kinds = {file.suffix.lower() for file in files}
    return files if len(kinds) == 1 and kinds <= {".parquet", ".jsonl"} else []


def saved_dataset(path: Path, limit: int | None) -> Iterator[Json]:
    """The rows of a data set that `datasets` saved to disk; one of several splits must be named by its folder."""
    if (path / "dataset_dict.json").is_file():
        splits = sorted(part.name for part in path.iterdir() if (part / "state.json").is_file())
        if len(splits) != 1:
            raise DataError(f"{path}: holds {len(splits)} splits; name one of them: {', '.join(splits) or 'none found'}")
        path = path / splits[0]
    if not (path / "state.json").is_file():
        raise DataError(f"{path}: is a folder, but no dataset saved to disk; name the file in it")
    from datasets import load_from_disk

    try:
        data = load_from_disk(str(path))
    except (OSError, ValueError, KeyError) as fault:
        raise DataError(f"{path}: the saved dataset cannot be read: {fault}; save it again") from None
    count = len(data) if limit is None else min(limit, len(data))
    return (_plain(data[index]) for index in range(count))


def hub_dataset(name: re.Match[str], limit: int | None) -> Iterator[Json]:
    """The rows of a data set of the hub: `owner/name:config@split`, the split `train` if none is named."""
    import datasets

    split = name["split"] or "train"
    wanted = split if limit is None else f"{split}[:{limit}]"
    try:
        data = datasets.load_dataset(name["name"], name["config"], split=wanted)
    except datasets.exceptions.DatasetNotFoundError as fault:
        raise DataError(f"{name[0]}: the hub has no such dataset that may be read: {fault}") from None
    except (OSError, RuntimeError, datasets.exceptions.DatasetsError) as fault:
        raise BackendError(
            f"{name[0]}: the hub cannot be reached ({type(fault).__name__}); "
            "download the dataset where it can be, and give its path"
        ) from None
    except ValueError as fault:
        raise DataError(f"{name[0]}: {fault}; name the config and the split as `owner/name:config@split`") from None
    return (_plain(row) for row in data)


def _plain(value: object) -> Json:
    """A cell as JSON: numbers that are not, and what JSON cannot say, become missing or text."""
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
