"""Published sets are recognised by their content: copies, samples and other layouts, under any name; nothing else is."""

from __future__ import annotations

import csv
import json
from importlib import resources
from pathlib import Path

import pytest

from buckler.evaluation.probes import describe, set_of
from buckler.formats import fingerprints, read_chats
from buckler.formats.fingerprints import DIGITS, KEPT, Published, digest, published

DATA = Path(__file__).parents[1].parent / "shared" / "data"
SMALL = {f"How do I break hat number {at}?": "harmful" if at % 2 else "borderline" for at in range(40)}
LARGE = [f"What is {at} and {at}?" for at in range(2000)]


@pytest.fixture
def sets(monkeypatch):
    """Two published sets: one small, of two halves; one of which a quarter is kept."""
    halves = {kind: "".join(digest(one) for one, of in SMALL.items() if of == kind) for kind in ("harmful", "borderline")}
    kept = "".join(sorted(digest(one) for one in LARGE)[:500])
    known = Published.of({"Hats": {"questions": 40, "sets": halves}, "Sums": {"questions": 2000, "sets": {"benign": kept}}})
    monkeypatch.setattr(fingerprints, "published", lambda: known)


def put(path, rows):
    path.write_text(rows if isinstance(rows, str) else "".join(json.dumps(row) + "\n" for row in rows))
    return path


LAYOUTS = {
    "lines.txt": lambda prompts: "\n".join(prompts),
    "rows.jsonl": lambda prompts: [{"prompt": one} for one in prompts],
    "goals.jsonl": lambda prompts: [{"goal": one.upper(), "target": "Sure"} for one in prompts],
    "chat.jsonl": lambda prompts: [{"messages": [{"role": "user", "content": one}]} for one in prompts],
    "turns.jsonl": lambda prompts: [{"conversations": [{"from": "human", "value": f"  {one} "}]} for one in prompts],
    "wrapped.jsonl": lambda prompts: [
        {"instruction": f"Please answer. question: {one}\n\nBe short.", "output": ""} for one in prompts
    ],
    "choices.jsonl": lambda prompts: [{"question": one, "choices": ["x", "y"], "answer": 0} for one in prompts],
    "headless.csv": lambda prompts: "".join(f'"{one}","Sure, here."\n' for one in prompts),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_set_is_known_in_every_layout(sets, tmp_path, layout):
    path = put(tmp_path / layout, LAYOUTS[layout](list(SMALL)))
    rows = read_chats(path)
    assert {row.meta["benchmark"] for row in rows} == {"Hats"} and describe(rows, "f").benchmark == "Hats"
    if layout in ("lines.txt", "rows.jsonl", "chat.jsonl", "turns.jsonl", "headless.csv"):
        assert [set_of(row) for row in rows] == list(SMALL.values()), "each half is known, though no column tells it"


@pytest.mark.parametrize("size", [2000, 300, 60])
def test_a_sample_of_a_large_set_is_known(sets, tmp_path, size):
    rows = read_chats(put(tmp_path / "mine.jsonl", [{"prompt": one} for one in LARGE[::-1][:size]]))
    assert rows[0].meta["benchmark"] == "Sums" and {set_of(row) for row in rows} == {"benign"}


def test_other_questions_and_a_few_of_a_set_are_none(sets, tmp_path):
    others = [{"prompt": f"Who sells salt in street {at}?"} for at in range(60)]
    few = [{"prompt": one} for one in list(SMALL)[:20]]
    assert "benchmark" not in read_chats(put(tmp_path / "a.jsonl", others))[0].meta
    assert "benchmark" not in read_chats(put(tmp_path / "b.jsonl", others + few))[0].meta
    assert "benchmark" not in read_chats(put(tmp_path / "c.jsonl", few[:2]))[0].meta
    mixed = read_chats(put(tmp_path / "d.jsonl", few + others[:5]))
    assert mixed[0].meta["benchmark"] == "Hats" and set_of(mixed[-1]) is None, "a row that the set does not have is prompts about"


def test_what_a_row_says_itself_stands_before_what_its_set_is_known_for(sets, tmp_path):
    rows = read_chats(put(tmp_path / "r.jsonl", [{"prompt": one, "set": "benign"} for one in SMALL]))
    assert {set_of(row) for row in rows} == {"benign"}


def test_the_file_of_sets_holds_digests_and_no_text():
    text = resources.files("buckler.formats").joinpath("published_sets.json").read_text("utf-8")
    for one in json.loads(text).values():
        assert set(one) == {"questions", "sets"} and one["questions"] > 0
        for kind, joined in one["sets"].items():
            assert kind in ("harmful", "borderline", "benign") and len(joined) % DIGITS == 0 and len(joined) <= KEPT * DIGITS
            assert set(joined) <= set("0123456789abcdef")
    assert {"XSTest", "Do-Not-Answer", "MT-Bench"} <= published().kinds.keys()


@pytest.mark.skipif(not DATA.is_dir(), reason="the published sample files are not at hand")
def test_published_files_are_known_under_other_names_and_shapes(tmp_path):
    with (DATA / "xstest" / "xstest_prompts.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    bare = read_chats(put(tmp_path / "mine.txt", "\n".join(row["prompt"] for row in rows)))
    assert bare[0].meta["benchmark"] == "XSTest"
    wanted = ["harmful" if row["type"].startswith("contrast") else "borderline" for row in rows]
    assert [set_of(row) for row in bare] == wanted
    sums = [json.loads(line)["question"] for line in (DATA / "gsm8k" / "train_first1000.jsonl").read_text("utf-8").splitlines()]
    copy = put(tmp_path / "x.jsonl", [{"messages": [{"role": "user", "content": one}]} for one in sums[100:200]])
    assert read_chats(copy)[0].meta["benchmark"] == "GSM8K (train)"
    assert "benchmark" not in read_chats(next((DATA / "dolly").iterdir()))[0].meta
