"""Rows of Parquet files, and of data sets that the `datasets` library saved or that the hub has."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from buckler.data import Json
from buckler.data.hub import hub_or_cache
from buckler.data.reading import LARGEST
from buckler.errors import BackendError, DataError

MOST_CELLS = 500_000_000
"""Cells of a Parquet file: runs of one value take no room in it."""


def parquet(path: Path, raw: bytes, limit: int | None) -> Iterator[Json]:
    """The rows of a Parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(pa.BufferReader(raw))
        size = sum(file.metadata.row_group(at).total_byte_size for at in range(file.num_row_groups))
        cells = file.metadata.num_rows * file.metadata.num_columns
        if size > LARGEST or cells > MOST_CELLS:
            raise DataError(f"{path}: unpacks to {size / 2**20:,.0f} MiB and {cells:,} cells, more than is read; split it")
        rows = file.read().slice(0, limit).to_pylist()
    except (pa.ArrowException, OSError, UnicodeDecodeError) as fault:  # the last: a name or a text that is no UTF-8
        raise DataError(f"{path}: not a complete Parquet file: {str(fault).splitlines()[0]}; download it again") from None
    return (_plain(row) for row in rows)


def saved_dataset(path: Path, limit: int | None) -> Iterator[Json]:
    """The rows of one split that `datasets` saved to disk."""
    from datasets import load_from_disk

    try:
        data = load_from_disk(str(path))
        data.data.table.validate(full=True)  # offsets that lead out of a file would be followed
        count = len(data) if limit is None else min(limit, len(data))
        return iter([_plain(data[index]) for index in range(count)])
    except MemoryError:
        raise
    except Exception as fault:  # noqa: BLE001 - the library raises whatever a damaged file leads it into
        reason = " ".join(str(fault).split())[:300]
        raise DataError(f"{path}: the saved dataset cannot be read: {type(fault).__name__}: {reason}; save it again") from None


def hub_dataset(name: re.Match[str], limit: int | None, split: str | None = None) -> Iterator[Json]:
    """The rows of a data set of the hub: `owner/name:config@split`, the split `train` if none is named."""
    import datasets

    split = name["split"] or split or "train"
    wanted = split if limit is None else f"{split}[:{limit}]"
    try:
        with hub_or_cache():
            data = datasets.load_dataset(name["name"], name["config"], split=wanted)
    except datasets.exceptions.DatasetNotFoundError as fault:
        raise DataError(f"{name[0]}: the hub has no such dataset, or access is denied: {fault}") from None
    except (OSError, RuntimeError, datasets.exceptions.DatasetsError) as fault:
        fix = "download the dataset on a machine with access, and give its path"
        raise BackendError(f"{name[0]}: the hub cannot be reached ({type(fault).__name__}); {fix}") from None
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
