"""The data set card: the hub reads its front matter, its numbers are the rows', and no text can break out of its place."""

from __future__ import annotations

import itertools
import json
import re
import statistics
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from markdown_it import MarkdownIt

from buckler.crosstask.build import CrossTaskSettings
from buckler.crosstask.card import defence_card
from buckler.curation.dataset_card import About, bars, dataset_card, fenced, inline
from buckler.curation.settings import CurateSettings
from buckler.data import Chat, features, is_plain, write_jsonl, write_rows

REJECTED = [
    {"source": "a", "round": 0, "text": "x", "reason": "too long for the model by 12 tokens"},
    {"source": "b", "round": 1, "text": "y", "reason": "helpfulness 3.10 is below the minimum of 4.50"},
    {"source": "b", "round": 2, "text": "z", "reason": "helpfulness 2.00 is below the minimum of 4.50"},
]
HAZARDS = [
    "a | b `c` *d* [e](http://f) # g",
    "first\n---\nlicense: mit\n---\n# Injected",
    "<script>alert(1)</script> <!-- gone",
    "```\n# out of the block\n````text",
    "'quoted' \"twice\": {yaml: [1]} & !!python/object:os.system",
    "\u202eturned\u202c \x1b[31mred\x00 \ud800 lone \u2028line",
    "no",
]


def row(number: int, *, answer: str | None = None, revised: bool = True, words: tuple[str, ...] = ("care",), **meta) -> Chat:
    original, text = f"The pot boils. {number}", answer or f"Take care. The pot boils. {number}"
    record = {
        "source": Chat.pair(f"Question {number}?", original).id,
        "revised": revised,
        "round": 1 + number % 2 if revised else 0,
        "words": list(words) if revised else [],
        "candidates": 12,
        "perplexity": {"original": 2.0 + number, "chosen": (4.0 + 3 * number) if revised else 2.0 + number},
        "helpfulness": {"original": 4.0, "chosen": 4.5 if revised else 4.0},
        "model": "0123456789abcdef",
        "reviser": "0123456789abcdef",
        "measured_by": "0123456789abcdef",
        "judge": "local-1",
    }
    return Chat.pair(f"Question {number}?", text if revised else original, curation=record, **meta)


def originals(count: int) -> Iterator[Chat]:
    return (Chat.pair(f"Question {number}?", f"The pot boils. {number}") for number in range(count))


ROWS = [row(number, revised=number != 3) for number in range(8)]


def card(rows=ROWS, rejected=REJECTED, about=None, before=(), counts=None, **settings) -> str:
    settings_ = CurateSettings(**{"rounds": 3, **settings})
    given = about or About(title="Curated pots")
    return dataset_card(iter(rows), iter(rejected), counts or {"texts": 9}, settings_, given, originals=before)


def front_matter(text: str) -> dict:
    assert text.startswith("---\n")
    return yaml.safe_load(text[4:].split("\n---\n", 1)[0])


def tokens(text: str):
    body = text[4:].split("\n---\n", 1)[1]
    return MarkdownIt("commonmark", {"html": True}).enable("table").parse(body)


def blocks(text: str) -> list[str]:
    return [token.content for token in tokens(text) if token.type == "fence"]


def tables(text: str) -> list[list[list[str]]]:
    found: list[list[list[str]]] = []
    for token, inner in zip(tokens(text), [*tokens(text)[1:], None], strict=True):
        if token.type == "table_open":
            found.append([])
        elif token.type == "tr_open":
            found[-1].append([])
        elif token.type in ("th_open", "td_open"):
            found[-1][-1].append(inner.content)
    return found


def test_the_front_matter_says_what_the_hub_asks():
    front = front_matter(card(about=About(title="Pots", licence="CC-BY-4.0", source="someone/pots", languages=("en", "no"))))
    assert front["license"] == "cc-by-4.0" and front["pretty_name"] == "Pots" and front["language"] == ["en", "no"]
    assert front["task_categories"] == ["text-generation"] and front["size_categories"] == ["n<1K"]
    assert front["source_datasets"] == ["someone/pots"]
    assert [(one["config_name"], one["data_files"]) for one in front["configs"]] == [
        ("default", [{"split": "train", "path": "curated.jsonl"}]),
        ("rejected", [{"split": "train", "path": "rejected.jsonl"}]),
    ]
    assert [one["config_name"] for one in front_matter(card(rejected=[]))["configs"]] == ["default"]


@pytest.mark.ml
def test_the_hubs_own_reader_and_load_dataset_read_it(tmp_path):
    import datasets
    from huggingface_hub import DatasetCard

    folder = tmp_path / "set"
    write_rows(folder / "curated.jsonl", ROWS)
    write_jsonl(folder / "rejected.jsonl", REJECTED)
    (folder / "counts.json").write_text(json.dumps({"texts": 9}))
    (folder / "curated.alpaca.json").write_text(json.dumps([{"instruction": "x", "output": "y"}]))
    text = card(about=About(title=HAZARDS[1], licence="Our own terms"))
    (folder / "README.md").write_text(text, encoding="utf-8")
    data = DatasetCard(text).data
    assert (data.license, data.license_name, data.pretty_name) == ("other", "our-own-terms", " ".join(HAZARDS[1].split()))
    read = datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))
    assert list(read) == ["train"] and read["train"]["id"] == [one.id for one in ROWS]
    rejected = datasets.load_dataset(str(folder), "rejected", cache_dir=str(tmp_path / "cache"))
    assert rejected["train"]["reason"] == [one["reason"] for one in REJECTED]


@pytest.mark.parametrize("hazard", HAZARDS)
def test_no_text_breaks_out_of_its_place(hazard):
    plain = card([row(1)], before=originals(2))
    about = About(title=hazard, source=hazard, licence=hazard, models={"model": hazard})
    risky = dataset_card(
        [row(1, answer=f"Take care. {hazard}", words=(hazard,))],
        REJECTED,
        {"texts": 9, hazard: 1},
        CurateSettings(rounds=3, seed_words=hazard),
        about,
        originals=originals(2),
    )
    risky.encode("utf-8")
    front = front_matter(risky)
    assert front["configs"] == front_matter(plain)["configs"] and set(front) <= {
        *front_matter(plain),
        "license_name",
        "license_details",
    }
    assert front["license"] == "other" and isinstance(front["pretty_name"], str)
    kinds = [token.type for token in tokens(risky)]
    assert "html_block" not in kinds
    inlines = [child for token in tokens(risky) for child in token.children or ()]
    assert not any(
        child.type == "html_inline" or (child.type == "link_open" and "//f" in child.attrs["href"]) for child in inlines
    )
    assert [
        token.content for token in tokens(risky) if token.type == "inline" and token.level == 1 and token.content == "Injected"
    ] == []
    assert kinds.count("heading_open") == kinds_of(plain, "heading_open") and kinds.count("fence") == kinds_of(plain, "fence")
    for table in tables(risky):
        first_number = 1 if table[0][0] in ("what", "reason", "seed word") else len(table[0])
        assert all(number.isdigit() for cells in table[1:] for number in cells[first_number:])
    example = next(block for block in blocks(risky) if block.startswith("Question: "))
    shown = "".join(char for char in hazard if char.isprintable() or char == "\n")
    assert "Take care." in example and all(word in example for word in re.findall(r"\w{4,}", shown))
    assert not set("\x00\x1b\ud800\u202e\u2028") & set(risky)


def kinds_of(text: str, kind: str) -> int:
    return [token.type for token in tokens(text)].count(kind)


def test_numbers_are_those_of_the_rows():
    text = card(before=originals(8))
    counts = dict(next(table for table in tables(text) if table[0] == ["what", "number"]))
    assert (counts["rows"], counts["revised"], counts["kept original"], counts["texts"]) == ("8", "7", "1", "9")
    quantiles = {table_row[0]: table_row[1:] for table_row in next(table for table in tables(text) if "median" in table[0])[1:]}
    for side in ("original", "chosen"):
        values = [one.meta["curation"]["perplexity"][side] for one in ROWS]
        shown = quantiles[side]
        assert shown[0] == f"{min(values):.3g}" and shown[3] == f"{statistics.median(values):.3g}"
        assert shown[6] == f"{max(values):.3g}" and shown[7] == f"{statistics.fmean(values):.3g}"
    assert "It rose in 7 rows, fell in 0 and stayed in 1." in text
    assert "Words in a revised text: median 4 before, 6 after, over 7 texts." in text


def test_rejections_are_counted_by_kind_and_by_when():
    table = next(table for table in tables(card()) if table[0][0] == "reason")
    assert {(name.split()[0], *numbers) for name, *numbers in table[1:]} == {("helpfulness", "0", "2"), ("too", "1", "0")}
    assert "Nothing was rejected." in card(rejected=[])


def test_seed_words_tell_how_often_the_rows_say_them():
    rows = [row(0, words=("Care", "proof")), row(1, words=("care",)), row(2, revised=False)]
    table = next(table for table in tables(card(rows)) if table[0][0] == "seed word")
    assert table[1:] == [["Care", "1", "1"], ["care", "1", "1"], ["proof", "1", "0"]]


def test_bars_stand_in_line_and_show_every_count():
    shown = [block for block in blocks(card()) if "#" in block]
    assert len(shown) == 3
    for block in shown:
        lines = block.rstrip("\n").split("\n")
        assert len({len(line) for line in lines}) == 1
    for block, total in zip(shown, (8, 8, 8), strict=True):
        for line in block.splitlines()[1:]:
            for drawn, count in re.findall(r"  (#*) +(\d+)(?=  |$)", line):
                assert bool(drawn) == bool(int(count))
        assert sum(int(line.split()[-1]) for line in block.splitlines()[1:]) == total
    assert bars(["a", "bb"], [[1, 1000], [0, 3]], ["x", "y"]).splitlines()[1].startswith("a   # ")


def test_the_bins_of_perplexity_are_equal_in_the_logarithm_and_hold_both_ends():
    block = next(block for block in blocks(card()) if "original" in block and " - " in block)
    edges = [(float(low), float(high)) for low, high in re.findall(r"^ *(\S+) - (\S+)", block, re.MULTILINE)]
    assert edges[0][0] == 2.0 and edges[-1][1] == 25.0 and len(edges) == 12
    assert max(high / low for low, high in edges) < 1.02 * min(high / low for low, high in edges)
    same = [row(0, revised=False)]
    assert re.search(r"2 - 2 +#{24} +1 +#{24} +1", card(same))


@pytest.mark.parametrize(
    ("direction", "stated", "unsaid"),
    [
        ("raise", "highest perplexity was kept, as in Data to Defense ([arXiv 2410.02220])", "lowest"),
        ("lower", "lowest perplexity was kept, as in CTRL ([arXiv 2405.19358])", "the text of the highest"),
        ("contrast", "surprises a compromised copy", "chosen at random:"),
        ("random", "one revision was chosen at random", "was kept, as in"),
    ],
)
def test_the_method_is_the_one_of_the_direction(direction, stated, unsaid):
    opening = card(direction=direction).split("## Files")[0]
    assert stated in opening and unsaid not in opening


def test_a_plain_rewrite_claims_no_seed_words():
    assert "without seed words" in card(words_per_prompt=0) and "with seed words of care" in card()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, {"license": "unknown"}),
        (" \n", {"license": "unknown"}),
        ("MIT", {"license": "mit"}),
        ("Pot Guild 2.0", {"license": "other", "license_name": "pot-guild-2.0", "license_details": "Pot Guild 2.0"}),
    ],
)
def test_a_licence_is_told_as_it_was_given_or_as_unknown(given, expected):
    text = card(about=About(title="x", licence=given))
    front = front_matter(text)
    assert {name: value for name, value in front.items() if name.startswith("license")} == expected
    assert ("unknown: ask before you share" in text) == (expected["license"] == "unknown")


def test_examples_go_from_the_original_to_the_revision_and_show_nothing_harmful():
    rows = [row(number, harmful=True) for number in range(20)] + [row(20), row(21)]
    shown = [block for block in blocks(card(rows, before=originals(21))) if block.startswith("Question: ")]
    assert sorted(shown) == [
        "Question: Question 20?\nAnswer: The pot boils. 20\n\nRevised answer: Take care. The pot boils. 20\n",
        "Question: Question 21?\nRevised answer: Take care. The pot boils. 21\n",
    ]
    assert len([block for block in blocks(card()) if block.startswith("Question: ")]) == 3


def test_nothing_of_the_machine_is_told():
    about = About(
        title="x",
        source="/home/someone/secret/rows.jsonl",
        models={"model": "C:\\secret\\pots", "reviser": "a/b@http://10.0.0.1:80/v1"},
    )
    text = card(about=about, seed_words="/home/someone/secret/words.yaml")
    assert "secret" not in text and "10.0.0.1" not in text
    assert "rows.jsonl" in text and "words.yaml" in text and "| a/b |" in text and "| pots |" in text


def test_a_set_without_rows_or_measures_has_a_card_too():
    bare = row(1)
    bare.meta["curation"]["perplexity"] = {"original": 2.0, "chosen": None}
    assert "Not measured." in card([bare]) and "Left out: 1 without" in card([bare, row(2)])
    assert "0 harmless conversations" in card([]) and front_matter(card([]))["size_categories"] == ["n<1K"]


@pytest.mark.parametrize(("rows", "name"), [(999, "n<1K"), (1000, "1K<n<10K"), (10_000, "10K<n<100K")])
def test_the_size_is_the_hubs_name_for_it(rows, name):
    assert front_matter(card(ROWS[:1] * rows))["size_categories"] == [name]


def test_thousands_of_rows_are_read_as_they_come():
    import numpy  # noqa: F401 - its import is no part of what is measured

    long = "pot" * 1500

    def many() -> Iterator[Chat]:
        return (row(number, answer=long) for number in range(3_000))

    card([row(1)])
    tracemalloc.start()
    text = dataset_card(many(), iter(REJECTED), {}, CurateSettings(), About(title="x"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3_000 * len(long) / 4
    assert "3000 harmless conversations" in text


def test_the_same_rows_give_the_same_bytes_in_any_order():
    assert card(before=originals(8)) == card(ROWS[::-1], REJECTED[::-1], before=reversed(list(originals(8))))


def test_text_in_a_line_and_in_a_block_is_read_back_as_it_was():
    for text in HAZARDS[:5]:
        (paragraph,) = [token for token in MarkdownIt().parse("x " + inline(text)) if token.type == "inline"]
        assert "".join(child.content for child in paragraph.children) == "x " + " ".join(text.split())
        (block,) = MarkdownIt().parse(fenced(text))
        assert block.content == text + "\n"


@pytest.mark.ml
def test_files_load_in_any_order_with_the_columns_that_the_page_on_trainers_names(tmp_path):
    from datasets import load_dataset

    page = (Path(__file__).parents[1] / "docs" / "trainers.md").read_text()
    code = page[page.index("from datasets import Features") : page.index("files = [")]
    known: dict[str, object] = {}
    exec(code, known)
    question = Chat.pair("Why?", None).messages
    thinking = [*question, {"role": "assistant", "content": "So.", "reasoning_content": "Hm."}]
    call = {"type": "function", "function": {"name": "f", "arguments": {"x": 1}}}
    calling = [*question, {"role": "assistant", "content": "", "tool_calls": [call]}, {"role": "tool", "content": "3"}]
    sets = {
        "plain": [Chat.pair("Who?", "Anna.", task="a"), Chat.pair("Who else?", "Ben.", task="b")],
        "one": [Chat.pair("Where?", "Here.")],
        "thinking": [Chat.of(thinking, label="x")],
        "calling": [Chat.of([*calling, {"role": "assistant", "content": "3."}])],
    }
    for name, rows in sets.items():
        write_rows(tmp_path / f"{name}.jsonl", rows)
    for names in itertools.permutations(sets, 2):
        files = [str(tmp_path / f"{name}.jsonl") for name in names]
        where = {"split": "train", "cache_dir": str(tmp_path / "cache")}
        loaded = load_dataset("json", data_files=files, features=known["columns"], **where)
        assert [row["messages"] for row in loaded] == [row.to_json()["messages"] for name in names for row in sets[name]]


@pytest.mark.ml
def test_curated_and_defence_rows_load_with_one_schema_whatever_their_meta(tmp_path):
    from datasets import concatenate_datasets, load_dataset

    thinking = Chat.of([*Chat.pair("Why?", None).messages, {"role": "assistant", "content": "So.", "reasoning_content": "Hm."}])
    sets = {
        "curated": (ROWS, card),
        "defence": (
            [Chat.pair("Summarize: ...", "I cannot.", task="summarize", document=[0, 4], label="harmful", harmful=True)],
            lambda rows: defence_card(rows, "defence.jsonl", CrossTaskSettings(), {"is defended": "/a/folder/model"}, 3),
        ),
    }
    loaded = {}
    for name, (rows, made) in sets.items():
        folder = tmp_path / name
        write_rows(folder / f"{name}.jsonl", rows)
        write_jsonl(folder / "rejected.jsonl", REJECTED)
        (folder / "README.md").write_text(made(rows))
        loaded[name] = load_dataset(str(folder), split="train", cache_dir=str(tmp_path / "cache"))
    assert loaded["curated"].features == loaded["defence"].features
    both = concatenate_datasets([loaded["defence"], loaded["curated"]])
    assert len(both) == 1 + len(ROWS)
    assert both[0]["meta"]["task"] == "summarize" and both[1]["meta"]["curation"]["candidates"] == 12
    assert features(plain=is_plain(thinking))[1] == {"name": "messages", "dtype": "json"}
    text = sets["defence"][1](sets["defence"][0])
    assert "| summarize | 1 |" in text and "`model` is defended" in text and "/a/folder" not in text
