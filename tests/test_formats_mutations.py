"""No damage to a published file gives a traceback or a hang: rows, or one clear line that names the file."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import random
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from test_formats import CSV_FILES, JSON_ROWS, lines

from buckler.data import Chat
from buckler.errors import DataError
from buckler.evaluation.probes import describe, in_set, pairs_between
from buckler.evaluation.utility import ask
from buckler.formats import read_chats, read_documents

LARGEST = 8 << 20
"""Bytes of a damaged file: it may grow fourfold and more at a time."""
MANY = int(os.environ.get("BUCKLER_MUTATIONS", "2000"))
Mutation = Callable[[random.Random, bytes], bytes]

SHARDS = [
    *(mark.encode() for mark in ('"', "'", ",", ";", "\t", "\n", "\r\n", "\r", "\\", "{", "}", "[", "]", ":", " ", "####")),
    *(value.encode() for value in ("null", "true", "-1", "1e999", "NaN", "9" * 5000, '""', "[]", "{}", '"\\ud800"', "\u2028")),
    *(b"\0", b"\xff", b"\xc3", b"\xef\xbb\xbf", b"\x1f\x8b", b"PAR1", b"[" * 3000, b'{"a":' * 3000, b"x" * 30_000),
]
VALUES = [
    None,
    True,
    False,
    0,
    -1,
    1e308,
    "",
    " ",
    "A",
    "yes",
    "\ud800",
    [],
    {},
    [None],
    ["a", 1],
    {"text": None},
    [["a"]],
    "x" * 30_000,
]
NAMES = [
    "prompt",
    "question",
    "answer",
    "choices",
    "label",
    "text",
    "messages",
    "content",
    "meta",
    "id",
    "history",
    "gold",
    "pair",
    "category",
    "set",
    "",
]


def cut(rng: random.Random, raw: bytes) -> bytes:
    at, to = sorted(rng.randrange(len(raw) + 1) for _ in range(2))
    return raw[:at] + raw[to:]


def put_in(rng: random.Random, raw: bytes) -> bytes:
    at = rng.randrange(len(raw) + 1)
    return raw[:at] + rng.choice(SHARDS) + raw[at:]


def flip(rng: random.Random, raw: bytes) -> bytes:
    at = rng.randrange(len(raw))
    return raw[:at] + bytes([rng.randrange(256)]) + raw[at + 1 :]


def repeat(rng: random.Random, raw: bytes) -> bytes:
    at, to = sorted(rng.randrange(len(raw) + 1) for _ in range(2))
    return raw[:to] + raw[at:to] * rng.choice([1, 2, 50]) + raw[to:]


def move(rng: random.Random, raw: bytes) -> bytes:
    a, b, c = sorted(rng.randrange(len(raw) + 1) for _ in range(3))
    return raw[:a] + raw[b:c] + raw[a:b] + raw[c:]


def other_value(rng: random.Random, raw: bytes) -> bytes:
    """One node of the JSON values, one name or one key made another; where there is no JSON, one cell."""
    try:
        rows = [json.loads(line) for line in raw.splitlines() if line.strip()]
    except (ValueError, RecursionError):
        cells = raw.split(b",")
        cells[rng.randrange(len(cells))] = rng.choice(SHARDS)
        return b",".join(cells)
    places = [place for row in rows for place in _places(row)]
    if places:
        holder, key = rng.choice(places)
        if isinstance(holder, dict) and rng.random() < 0.3:
            value = holder.pop(key)
            if rng.random() < 0.7:
                holder[rng.choice(NAMES)] = value
        else:
            holder[key] = json.loads(json.dumps(rng.choice(VALUES)))
    return "\n".join(json.dumps(row) for row in rows).encode()


def _places(value: object) -> Iterator[tuple[dict | list, str | int]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in list(inner):
        yield value, key
        yield from _places(part)


MUTATIONS: tuple[Mutation, ...] = (cut, put_in, flip, repeat, move, other_value, other_value, other_value)


def _parquet() -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    out = io.BytesIO()
    rows = {"instruction": ["a", "b"], "input": [None, "c"], "output": ["d", "e"], "label": [0, 1]}
    pq.write_table(pa.table(rows), out, compression="none")
    return out.getvalue()


COMVE = "Correct Statement,Incorrect Statement,Right Reason1,Confusing Reason1,Confusing Reason2,Right Reason2,Right Reason3\n"
FIXTURES: dict[str, bytes] = {
    **{f"{name}.jsonl": lines(row, row).encode() for name, (row, *_) in JSON_ROWS.items()},
    **{f"{name}.{'tsv' if name == 'sst2' else 'csv'}": text.encode() for name, (text, *_) in CSV_FILES.items()},
    "list.json": json.dumps([JSON_ROWS["alpaca"][0]] * 3, indent=1).encode(),
    "turns.json": json.dumps([JSON_ROWS["messages"][0]["messages"]] * 2).encode(),
    "columns.json": b'{"name": "set", "instructions": ["a", "b"], "inputs": [], "outputs": ["c", "d"]}',
    "packed.json.gz": gzip.compress(lines({"prompt": "a"}, {"prompt": "b"}).encode(), mtime=0),
    "comve.csv": f"{COMVE}Fish swim,Fish knit,No hands,c,c,No wool,No need\n".encode(),
    "comve-a.csv": b"id,sent0,sent1\r\n7,Fish swim,Fish knit\r\n9,Hats eat,Hats fit",
    "comve-b.csv": b"id,FalseSent,OptionA,OptionB,OptionC\n7,Fish knit,a,b,c\n",
    "comve-c.csv": b"id,FalseSent\n7,Fish knit\n",
    "shots.de-en.json": b'[{"source": "eins", "target": "one"}]',
    "lines.txt": b"Tell of hats.\nTell of brims.\n\n",
    "documents.jsonl": lines({"text": "a", "harmful": True}, {"text": "b", "label": "benign"}).encode(),
    "index.csv": b',prompt,category\r\n0,"two\nlines {x}",a\r\n1,"say ""so""",b',
    "parquet.parquet": b"",
}


NEIGHBOURS: dict[str, tuple[bytes, str, bytes]] = {
    # A file of answers, and the file it lies beside, which is the one that is read.
    "valid-labels.lst": (b"0\n1\n", "valid.jsonl", lines(JSON_ROWS["piqa"][0], JSON_ROWS["piqa"][0]).encode()),
    "subtaskA_gold_answers.csv": (b"7,1\n9,0\n", "subtaskA_dev_data.csv", FIXTURES["comve-a.csv"]),
    "subtaskB_gold_answers.csv": (b"7,C\n", "subtaskB_dev_data.csv", FIXTURES["comve-b.csv"]),
    "subtaskC_gold_answers.csv": (b'7,No hands,"No wool, none",No need\n', "subtaskC_dev_data.csv", FIXTURES["comve-c.csv"]),
}


@contextlib.contextmanager
def at_most(seconds: int) -> Iterator[None]:
    """Fail what hangs, where the system has an alarm."""
    if not hasattr(signal, "setitimer"):
        yield
        return

    def late(*_: object) -> None:
        raise AssertionError(f"not done after {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def look(path: Path) -> list[Chat]:
    """Read the rows and do all that is done before a model is asked."""
    rows = read_chats(path)
    assert describe(rows, str(path)) and pairs_between(rows) >= 0
    for row in rows:
        for prepare in (in_set, ask):
            with contextlib.suppress(DataError):
                prepare(row)
    return rows


def survive(folder: Path, name: str, seeds: range) -> None:
    """Damage `name` once to four times, once a seed, and read it, or the file it lies beside."""
    path = read = folder / name
    raw, readers = FIXTURES.get(name) or _parquet(), (look, read_documents)
    if name in NEIGHBOURS:
        raw, beside, rows = NEIGHBOURS[name]
        read, readers = folder / beside, (look,)
        read.write_bytes(rows)
    whole = 0
    for seed in seeds:
        rng = random.Random(f"{name} {seed}")
        damaged = raw
        for _ in range(rng.choice([1, 1, 1, 2, 4])):
            damaged = rng.choice(MUTATIONS)(rng, damaged or b"x")[:LARGEST]
        path.write_bytes(damaged)
        for reader in readers:
            try:
                with at_most(20):
                    assert reader(read)
                whole += 1
            except DataError as fault:
                message = str(fault)
                assert str(folder) in message and "\n" not in message and len(message) < 2 * len(str(path)) + 600, message
            except Exception as fault:
                raise AssertionError(f"{name}, seed {seed}: {type(fault).__name__}: {fault}\n{damaged[:500]!r}") from fault
    assert whole, "not one damaged file could be read: they are damaged too much to test anything"


@pytest.mark.parametrize("name", [*FIXTURES, *NEIGHBOURS])
def test_damaged_files_give_rows_or_one_clear_line(tmp_path, name):
    survive(tmp_path, name, range(100))


@pytest.mark.slow
@pytest.mark.parametrize("name", [*FIXTURES, *NEIGHBOURS])
def test_files_damaged_in_two_thousand_ways_give_rows_or_one_clear_line(tmp_path, name):
    survive(tmp_path, name, range(100, 100 + MANY))
