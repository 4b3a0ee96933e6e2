"""What others wrote is read within limits: regular files, bounded in size, depth and digits; one line names file and fix."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os

import pytest
from commands import buckler

from buckler.data import read_json, read_jsonl, reading
from buckler.data.reading import json_value
from buckler.data.yaml_text import parse_yaml, read_yaml
from buckler.errors import ConfigError, DataError
from buckler.formats import read_chats

ROW = {"prompt": "Say é.", "completion": "é"}
LINE = json.dumps(ROW, ensure_ascii=False) + "\n"
LAUGHS = "a0: &a0 [x, x, x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))
MERGES = "a0: &a0 {x: 1}\n" + "".join(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}\n" for n in range(1, 9))

YAML = {
    "? [a, b]\n: 1": ":1: a key is a list",
    "a: 1\n2: b": ":2: `2` is read as int",
    "a:\n  no: b": ":2: `no` is read as bool",
    "2026-01-01T: b\nnull: c": ":2: `null` is read as null",
    "a: !!int abc": ":1: `!!int` is a tag",
    "a: !!timestamp x": ":1: `!!timestamp` is a tag",
    "a: !!python/object/apply:os.system [ls]": "is a tag",
    "a: " + "[" * 5000: ":1: nested more than 100 levels deep",
    "a: " + "{b: " * 3000: ":1: nested more than 100 levels deep",
    "a: " + "9" * 5000: "a number of 5000 digits",
    "a: .nan": "`.nan` is no finite number",
    "a:\n- -.inf": ":2: `-.inf` is no finite number",
    "a: 1:30": "`1:30` is a number in base 60",
    "a: 010": "`010` is a number in base 8",
    "a: 0b_": "`0b_` is no number",
    "a: &x [*x]": "`*x` stands within what it names",
    "a: &x {b: {c: *x}}": "`*x` stands within what it names",
    'a: "\\ud800"': "half a character or a NUL",
    'a: "b\\0"': "half a character or a NUL",
    "a: b\n\0": ":2: not YAML: the character U+0000",
    "a: 1\na: 2": ":2: not YAML: `a` is given twice",
    "a: 1\n---\nb: 2": "expected a single document in the stream but found another document",
    LAUGHS: "more than 200,000 values",
    MERGES: "more than 200,000 values",
}


@pytest.mark.parametrize("text", YAML)
def test_yaml_that_no_setting_means_is_one_line_with_its_place(tmp_path, text):
    (tmp_path / "recipe.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_yaml(tmp_path / "recipe.yaml")
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'recipe.yaml'}:") and YAML[text] in message and "\n" not in message, message


def test_dates_are_texts_and_anchors_work():
    assert parse_yaml("a: 2020-13-45\nb: 2026-01-01", "x") == {"a": "2020-13-45", "b": "2026-01-01"}
    assert parse_yaml("a: &a {b: 1}\nc: {<<: *a, d: 1.5}\ne: *a", "x") == {"a": {"b": 1}, "c": {"b": 1, "d": 1.5}, "e": {"b": 1}}
    assert parse_yaml("yes", "x") is True and parse_yaml("1_000", "x") == 1000 and parse_yaml("'010'", "x") == "010"


def test_a_number_where_a_text_belongs_is_told_to_be_quoted(tmp_path):
    (tmp_path / "r.yaml").write_text("kind: pipeline\nname: on\nsteps: []\n")
    done = buckler("run", "r.yaml", cwd=tmp_path)
    assert done.returncode == 2 and "`name`: must be a valid string, got True; put it in quotes" in done.stderr


ODD = {
    "pipe": lambda path: os.mkfifo(path),
    "loop": lambda path: path.symlink_to(path),
    "folder": lambda path: path.mkdir(),
    "device": lambda path: path.symlink_to("/dev/zero"),
}


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize(
    "command",
    [
        ("judge", "X", "--out", "out"),
        ("report", "X", "--out", "out"),
        ("run", "X"),
        ("probes", "X"),
        ("crosstask", "X", "--out", "out"),
        ("gate", "--base", "X", "--tuned", "X", "--out", "out"),
        ("train", "X", "--model", "miniature", "--out", "out"),
        ("gate", "--margins", "X", "--base", "miniature", "--tuned", "miniature", "--out", "out"),
    ],
    ids=lambda words: " ".join(words[:2]),
)
def test_what_is_no_regular_file_is_one_line_and_nothing_waits_for_it(tmp_path, kind, command):
    ODD[kind](tmp_path / "x.jsonl")
    done = buckler(*(word.replace("X", "x.jsonl") for word in command), cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1 and "x.jsonl" in done.stderr


PACKED = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress, "zst": lambda raw: _zstd(raw)}


def _zstd(raw: bytes) -> bytes:
    import pyarrow

    out = pyarrow.BufferOutputStream()
    with pyarrow.CompressedOutputStream(out, "zstd") as packed:
        packed.write(raw)
    return out.getvalue().to_pybytes()


@pytest.mark.parametrize("kind", PACKED)
def test_packed_rows_are_read_and_bombs_and_damage_are_not(tmp_path, kind, monkeypatch):
    pack, path = PACKED[kind], tmp_path / f"rows.jsonl.{kind}"
    path.write_bytes(pack(LINE.encode() * 2))
    assert [chat.messages[0]["content"] for chat in read_chats(path)] == ["Say é."] * 2
    path.write_bytes(pack(LINE.encode())[:-9])
    with pytest.raises(DataError, match="data is damaged or truncated"):
        read_chats(path)
    path.write_bytes(pack(pack(pack(pack(LINE.encode())))))
    with pytest.raises(DataError, match="packed more than 3 times over"):
        read_chats(path)
    monkeypatch.setattr(reading, "FREE", 1000)
    path.write_bytes(pack(b" " * 3_000_000))
    with pytest.raises(DataError, match="bytes unpack to more than"):
        read_chats(path)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_says_how_a_file_is_encoded(tmp_path, encoding):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(LINE.encode(encoding))
    assert read_chats(path)[0].messages[1]["content"] == "é"
    assert read_json(path) == ROW
    path.write_bytes(LINE.encode(encoding) + b"\xff")
    with pytest.raises(DataError, match=r"not UTF-.* at byte"):
        read_chats(path)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("[" * 101 + "]" * 101, "nested more than 100 levels deep"),
        ('{"a":' * 90_000, "nested more than 100 levels deep"),
        ("1" * 301, "a number of 301 digits"),
        ("-1e999", "the number -1e999 is too large"),
        ("NaN", "NaN is no JSON number"),
    ],
)
def test_json_has_a_depth_and_numbers_an_end(tmp_path, value, message):
    path = tmp_path / "rows.jsonl"
    path.write_text(f'{{"a": 1}}\n{{"a": {value}}}\n')
    with pytest.raises(DataError, match=rf"rows.jsonl:2: .*{message}.*; fix or remove this line"):
        list(read_jsonl(path))
    path.write_text(f'{{"a": {value}}}')
    with pytest.raises(DataError, match=message):
        read_json(path)
    path.write_text(f'{{"prompt": "a"}}\n{{"prompt": "b", "index": {value}}}\n')
    if value == "NaN":  # how pandas writes what is missing
        assert len(read_chats(path)) == 2
    else:
        with pytest.raises(DataError, match=f"rows.jsonl:2: .*{message}"):
            read_chats(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"prompt": "a", "completion": "b"}\n{"prompt": "a", "completion": "b", "prompt": "c"}\n', r':2: .*the key "prompt"'),
        ('{"messages": [{"role": "user", "content": "a", "content": "b"}]}\n', r':1: .*the key "content"'),
        ('[\n{"prompt": "a"},\n\n{"prompt": "c",\n "id": 1, "id": 1}\n]', r':4: .*the key "id"'),
        (json.dumps({"messages": '[{"role": "user", "role": "user", "content": "a"}]'}), r':1: .*the key "role"'),
        ('{"prompt": "a"}\n{"Prompt": "b", "prompt": "c"}\n', ":2: the columns 'Prompt', 'prompt' are one name"),
        ('{"Id": 2, "ID ": 3, "prompt": "c"}\n', ":1: the columns 'Id', 'ID ' are one name"),
    ],
)
def test_a_key_that_stands_twice_is_refused_where_it_stands(tmp_path, text, message):
    path = tmp_path / "rows.jsonl"
    path.write_text(text)
    with pytest.raises(DataError, match=rf"rows.jsonl{message}"):
        read_chats(path)


def test_stored_json_has_each_key_once_and_of_a_reply_the_last_counts(tmp_path):
    (tmp_path / "stored.json").write_text('{"a": {"b": 1, "b": 2}}')
    with pytest.raises(DataError, match='the key "b" stands twice'):
        read_json(tmp_path / "stored.json", constants=True)
    assert reading.bounded_json('{"b": 1, "b": 2}') == {"b": 2}


def test_files_and_rows_have_a_size(tmp_path, monkeypatch):
    path = tmp_path / "rows.jsonl"
    monkeypatch.setattr(reading, "LONGEST", 1000)
    for text in (json.dumps({"prompt": "a" * 1001}) + "\n" + LINE, f"prompt,completion\n{'a' * 1001},b\n", f"{'a ' * 501}\n"):
        path = tmp_path / ("rows.csv" if text.startswith("prompt") else "rows.txt")
        path.write_text(text)
        with pytest.raises(DataError, match=r"a row of 1,\d+ characters"):
            read_chats(path)
    with pytest.raises(DataError, match="MiB, and the limit is"):
        reading.read_bytes(path, most=10)
    (tmp_path / "recipe.yaml").write_text("#" * (5 << 20))
    with pytest.raises(ConfigError, match="5 MiB, and the limit is 4"):
        read_yaml(tmp_path / "recipe.yaml")


def test_the_key_that_stands_twice_is_found_among_many_in_one_pass():
    text = "{" + ", ".join(f'"k{number}": 1' for number in range(200_000)) + ', "k199999": 2}'
    with pytest.raises(ValueError, match='the key "k199999" stands twice'):
        json_value(text)
