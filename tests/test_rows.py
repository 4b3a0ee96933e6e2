"""`buckler rows`, and the account that every command prints: what became of each row and column, splits, columns by name."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from conftest import make_model

import buckler
from buckler.errors import BucklerError, ConfigError, DataError
from buckler.formats import Reading, account_lines, read_accounted, read_chats, read_documents, splits_of
from buckler.workflow.jobs import ExportJob, RowsJob
from buckler.workflow.rows import rows_of
from buckler.workflow.sources import Source, accounted_chats, accounted_documents, require_one_split, source_chats

DATA = Path(__file__).parents[1].parent / "shared" / "data"


def put(path, *rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


def pairs(*names, **more):
    return [{"prompt": f"question {name}", "completion": f"answer {name}", **more} for name in names]


def test_rows_and_columns_are_accounted_for(tmp_path):
    rows = [
        *pairs("a", "b", "a", topic="x"),
        {"prompt": "long " * 50, "completion": "c", "flag": True, "topic": "y", "note": "n"},
    ]
    report = RowsJob(files=(str(put(tmp_path / "r.jsonl", *rows)),)).run(tmp_path)
    (account,) = report.files
    assert account["rows"]["read"] == 4 and account["rows"]["kept"] == 3 and account["rows"]["merged"] == 1
    assert account["columns"]["used"] == ["prompt", "completion", "note"]
    assert account["columns"]["ignored"] == {"topic": "x 3, y 1", "flag": "true 1"}
    assert account["longest"][0] == {"place": "r.jsonl:4", "characters": 251}
    assert account["first"] == "user: question a\nassistant: >>>answer a<<<"
    text = "\n".join(report.lines())
    assert "4 rows read, 3 kept" in text and "topic (x 3, y 1)" in text and ">>>answer a<<<" in text
    assert report.to_json()["read"] == [account]


def test_an_object_that_is_marked_harmful_is_not_shown(tmp_path):
    path = put(tmp_path / "r.jsonl", *pairs("a", harmful=True))
    assert "redacted" in read_accounted(path, Reading())[1].first


def test_bad_rows_are_set_aside_where_that_is_wanted(tmp_path):
    bad = [
        {"prompt": "q", "completion": ""},
        {"prompt": "", "completion": "x"},
        {"other": 1},
        "text",
        {**pairs("z")[0], "images": ["i"]},
    ]
    path = put(tmp_path / "r.jsonl", *pairs("a", "b", "c"), *bad)
    with pytest.raises(DataError, match=r"r\.jsonl:"):
        RowsJob(files=(str(path),)).run(tmp_path)
    report = RowsJob(files=(str(path),), skip_bad=True).run(tmp_path)
    assert report.files[0]["rows"]["kept"] == 3 and sum(report.files[0]["rows"]["dropped"].values()) == 5
    rejected = [json.loads(line) for line in (tmp_path / "rejected.jsonl").read_text().splitlines()]
    assert sorted(one["place"].rpartition(":")[2] for one in rejected) == ["4", "5", "6", "7", "8"]
    assert all(one["reason"] for one in rejected)
    out = tmp_path / "out"
    exported = buckler.export(str(path), "chat", skip_bad=True, out=out, store=tmp_path / "store")
    assert exported.account["rows_read"] == 3 and len((out / "rejected.jsonl").read_text().splitlines()) == 5
    torn = put(tmp_path / "torn.jsonl", *pairs("a", "b"))
    torn.write_text(torn.read_text() + '\n{"prompt": "c", \n[oops\n' + json.dumps(pairs("d")[0]))
    rows, account = read_accounted(torn, Reading(skip_bad=True))
    assert [row.query for row in rows] == ["question a", "question b", "question d"] and account.read == 5
    assert [one["place"].rpartition(":")[2] for one in account.bad] == ["3", "4"]
    alone = put(tmp_path / "n.jsonl", {"prompt": "", "completion": "x"})
    with pytest.raises(DataError, match="none of the 1 rows can be read"):
        read_chats(alone, reading=Reading(skip_bad=True))


@pytest.mark.parametrize(
    "names",
    [
        ("train-00000-of-00001.jsonl", "test-00000-of-00001.jsonl"),
        ("data/train-00000-of-00002.jsonl", "data/test-00000-of-00001.jsonl"),
        ("train.jsonl", "validation.jsonl"),
        ("my_train.jsonl", "my_eval.json"),
        ("train/part.jsonl", "test/part.jsonl"),
        ("train_sft-00000-of-00001.jsonl", "test_sft-00000-of-00001.jsonl"),
    ],
    ids=str,
)
def test_splits_of_a_folder_are_told_apart(tmp_path, names):
    folder = tmp_path / "set"
    put(folder / names[0], *pairs("a", "b"))
    put(folder / names[1], *pairs("held out"))
    (folder / "README.md").write_text("# A set")
    with pytest.raises(DataError, match=r"has the splits .*--split train"):
        read_chats(folder)
    with pytest.raises(DataError, match="has the splits"):
        rows_of(Source(source=str(folder)))
    rows, account = accounted_chats(Source(source=str(folder), split="train"), is_planned=True)
    assert [row.query for row in rows] == ["question a", "question b"]
    assert sorted(account.splits.values()) == [1, 2] and account.split.startswith("train")
    with pytest.raises(DataError, match="no split 'other'"):
        read_chats(folder, reading=Reading(split="other"))
    step = rows_of(Source(source=str(folder), split="train"))
    assert step.key == rows_of(Source(source=str(folder), split="train")).key


def test_splits_within_a_file_are_told_apart(tmp_path):
    wrapper = tmp_path / "w.json"
    wrapper.write_text(json.dumps({"train": pairs("a", "b"), "test": pairs("c")}))
    column = put(tmp_path / "c.jsonl", *pairs("a", "b", split="train"), *pairs("c", split="test"))
    for path in (wrapper, column):
        with pytest.raises(DataError, match="has the splits"):
            rows_of(Source(source=str(path)))
        assert [row.query for row in read_chats(path, reading=Reading(split="test"))] == ["question c"]
    same = put(tmp_path / "one.jsonl", *pairs("a", "b", split="train"))
    assert len(source_chats(Source(source=str(same)))) == 2
    topics = put(tmp_path / "topics.jsonl", *pairs("a", split="north"), *pairs("b", split="south"))
    assert len(read_chats(topics)) == 2  # no names of splits
    with pytest.raises(ConfigError, match="has no splits, so 'test' chooses nothing"):
        accounted_chats(Source(source=str(topics), split="test"), is_planned=True)


def test_a_commands_split_concerns_the_files_that_have_several(tmp_path):
    put(tmp_path / "set" / "train.jsonl", *pairs("a", "b"))
    put(tmp_path / "set" / "test.jsonl", *pairs("c"))
    plain = put(tmp_path / "more.jsonl", *pairs("d"))
    job = ExportJob(rows=(str(tmp_path / "set"), str(plain)), to="chat", split="train")
    assert job.run(tmp_path / "out").account["rows_read"] == 3


def test_columns_are_taken_as_their_user_names_them(tmp_path):
    row = {"Frage": "q", "gut": "a", "anders": "b", "rolle": "s", "dazu": "c", "instruction": "not this"}
    path = put(tmp_path / "r.jsonl", row)
    columns = {"prompt": "Frage", "answer": "gut", "system": "rolle", "context": "dazu"}
    (chat,), account = read_accounted(path, Reading(columns=columns))
    assert [turn["content"] for turn in chat.messages] == ["s", "q\n\nc", "a"]
    assert account.ignored == {"anders": ""}
    job = RowsJob(files=(str(path),), columns="prompt=frage,answer=gut")
    assert "user: q\nassistant: >>>a<<<" in job.run(tmp_path).files[0]["first"]
    with pytest.raises(DataError, match="no column 'nein'; the columns are frage"):
        read_chats(path, reading=Reading(columns={"prompt": "nein"}))
    for wrong, message in (("prompt", "names no column"), ("speech=frage", "'speech' must be one of prompt")):
        with pytest.raises(ConfigError, match=message):
            RowsJob.of({"files": [str(path)], "columns": wrong}, "rows")
    messages = put(tmp_path / "m.jsonl", {"talk": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]})
    assert read_chats(messages, reading=Reading(columns={"messages": "talk"}))[0].answer == "a"
    texts = put(tmp_path / "t.jsonl", {"prose": "A long text.", "n": 1})
    assert read_documents(texts, reading=Reading(columns={"text": "prose"}))[0].text == "A long text."


def test_columns_and_a_split_that_concern_no_file_are_refused_and_it_is_said_which_they_do_not(tmp_path):
    plain = put(tmp_path / "plain.jsonl", *pairs("a", "b"))
    other = put(tmp_path / "other.jsonl", {"question": "q", "response": "a", "note": 1})
    parts = put(tmp_path / "parts.jsonl", *pairs("c", split="train"), *pairs("d", split="test"))
    empty = tmp_path / "headless.csv"
    empty.write_text("Frage,gut\nWer?,Anna\n")
    no = {
        "prompt=nope": r"no file has 'nope'; the columns are .*plain.jsonl: completion, prompt",
        "prompt=Prompt,answer=completion,ignore=note+typo": "no file has 'note', 'typo'",
    }
    for columns, message in no.items():
        with pytest.raises(ConfigError, match=message):
            RowsJob(files=(str(plain),), columns=columns).run(tmp_path)
        with pytest.raises(ConfigError, match=message):
            buckler.export(str(plain), "chat", columns=columns, out=tmp_path / "out", store=tmp_path)
    with pytest.raises(ConfigError, match=r"no file has 'nein'; the columns are .*: frage, gut"):
        RowsJob(files=(str(empty),), columns="prompt=nein").run(tmp_path)
    with pytest.raises(ConfigError, match=r"`split` is test, but .*plain.jsonl has no splits"):
        RowsJob(files=(str(plain),), split="test").run(tmp_path)
    with pytest.raises(ConfigError, match="`columns` is of files of rows, and miniature:customer is none"):
        ExportJob(rows=(Source(source="miniature:customer", count=2),), to="chat", columns="prompt=a").run(tmp_path / "o")
    files = (str(plain), str(other), str(parts))
    report = RowsJob(files=files, columns="prompt=question,answer=response", split="test").run(tmp_path)
    options = ["--split test", "--columns prompt=question,answer=response"]
    assert [one.get("not_concerned_by") for one in report.files] == [options, options[:1], options[1:]]
    assert "  not concerned by --split test" in report.lines()
    exported = buckler.export([str(plain), str(parts)], "chat", split="train", out=tmp_path / "some", store=tmp_path)
    assert [one.get("not_concerned_by") for one in exported.to_json()["read"]] == [["--split train"], None]


def test_a_csv_file_of_unknown_columns_is_read_by_their_names(tmp_path):
    path = tmp_path / "own.csv"
    path.write_text("My Question,gut,Other\nWer?,Anna,1\nWo?,Rom,2\n")
    with pytest.raises(DataError, match="unknown header"):
        read_chats(path)
    rows = read_chats(path, reading=Reading(columns={"prompt": "my question", "answer": "GUT", "ignore": "other"}))
    assert [row.answer for row in rows] == ["Anna", "Rom"] and "ignored_columns" not in rows[0].meta
    assert read_documents(path, reading=Reading(columns={"text": "my question"}))[1].text == "Wo?"


@pytest.mark.parametrize("names", [("query", "response"), ("prompt", "completion"), ("question", "answer"), ("x", "y")])
@pytest.mark.parametrize("history", [[["q0", "a0"]], '[["q0", "a0"]]'])
def test_what_was_said_before_a_question_is_read_whatever_the_columns_are_called(tmp_path, names, history):
    path = put(tmp_path / "r.jsonl", {**dict(zip(names, ("q", "a"), strict=True)), "system": "s", "history": history})
    columns = {"prompt": "x", "answer": "y"} if names[0] == "x" else {}
    (row,) = read_chats(path, reading=Reading(columns=columns))
    assert [turn["content"] for turn in row.messages] == ["s", "q0", "a0", "q", "a"]
    odd = put(tmp_path / "odd.jsonl", {names[0]: "q", names[1]: "a", "history": "some text"})
    with pytest.raises(DataError, match=r"'history' must be a list .* got \"some text\"; or --columns ignore=history"):
        read_chats(odd, reading=Reading(columns=columns))
    assert len(read_chats(odd, reading=Reading(columns={**columns, "ignore": "history"}))[0].messages) == 2


def test_a_weight_of_zero_leaves_a_row_out_of_training(tmp_path):
    rows = [*pairs("a", weight=0), *pairs("b", loss_weight=0.0), *pairs("c", weight=2)]
    report = RowsJob(files=(str(put(tmp_path / "r.jsonl", *rows)),)).run(tmp_path)
    assert report.files[0]["rows"]["not_learnt"] == {"weight: 0": 2} and "user: question c" in report.files[0]["first"]


def test_an_error_names_the_columns_as_the_file_has_them(tmp_path):
    with pytest.raises(DataError, match="no known format has the columns inputs, goals"):
        read_chats(put(tmp_path / "r.jsonl", *[{"inputs": name, "goals": "a"} for name in "xy"]))
    assert read_chats(put(tmp_path / "r.jsonl", {"inputs": "q", "targets": "a"}))[0].answer == "a"


def test_a_row_with_an_empty_answer_is_rejected_whole(tmp_path):
    path = put(tmp_path / "r.jsonl", *pairs("a"), {"prompt": "p", "completion": ""})
    RowsJob(files=(str(path),), skip_bad=True).run(tmp_path)
    assert json.loads((tmp_path / "rejected.jsonl").read_text())["row"] == {"prompt": "p", "completion": ""}


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8"])
def test_a_table_with_tabs_is_one_whatever_its_ending(tmp_path, encoding):
    path = tmp_path / "excel.txt"
    path.write_bytes("prompt\tcompletion\r\nWer läuft?\tAnna, heute.\r\n".encode(encoding))
    assert [(row.query, row.answer) for row in read_chats(path)] == [("Wer läuft?", "Anna, heute.")]
    path.write_text("prompt engineering is\tfun\nWho runs?\n")
    assert len(read_chats(path)) == 2


def test_columns_of_documents_that_are_not_used_are_in_their_account(tmp_path):
    path = put(tmp_path / "t.jsonl", {"text": "A text.", "extra": 1})
    assert RowsJob(files=(str(path),)).run(tmp_path).files[0]["columns"]["ignored"] == {"extra": ""}


def test_a_use_that_concerns_no_row_is_refused(tmp_path):
    path = put(tmp_path / "r.jsonl", *pairs("a"))
    with pytest.raises(ConfigError, match="no row of these files has two answers"):
        RowsJob(files=(str(path),), use="chosen").run(tmp_path)


def test_repeated_rows_are_kept_where_they_are_meant(tmp_path):
    path = put(tmp_path / "r.jsonl", *pairs("a", "a", "a", "b"))
    assert len(source_chats(Source(source=str(path)))) == 2
    kept = Source(source=str(path), repeats="keep")
    assert len(source_chats(kept)) == 4 and rows_of(kept).key != rows_of(Source(source=str(path))).key
    assert rows_of(Source(source=str(path), repeats="merge")).key == rows_of(Source(source=str(path))).key
    again = source_chats(Source(source=str(path), repeats="keep", count=3))
    assert len(again) == 3 and again == source_chats(Source(source=str(path), repeats="keep", count=3))
    exported = buckler.export(str(path), "chat", repeats="keep", out=tmp_path / "out", store=tmp_path)
    assert exported.account["rows_read"] == 4


@pytest.mark.ml
def test_training_tells_the_account_first_and_learns_no_marked_answer(tmp_path, caplog):
    turns = [("user", "q1"), ("assistant", "a bad answer"), ("user", "sure?"), ("assistant", "a good answer")]
    messages = [{"role": role, "content": text} for role, text in turns]
    messages[1]["weight"] = 0
    undesired = {"messages": messages[:1] + messages[3:], "label": False}
    path = put(tmp_path / "r.jsonl", {"messages": messages, "extra": "x"}, undesired)
    model = make_model(tmp_path / "model", "llama")
    with caplog.at_level(logging.INFO, logger="buckler"):
        result = buckler.train(str(path), model=str(model), epochs=1, out=tmp_path / "out", store=tmp_path / "store")
    assert "2 rows read, 2 kept" in caplog.text and "columns ignored: extra" in caplog.text
    first = (tmp_path / "out" / "first_row.txt").read_text()
    assert "a bad answer" in first and ">>>" not in first.split("a bad answer")[0] and ">>>a good answer" in first
    record = result.record
    assert (record["answers_learnt"], record["answers_masked"], record["dropped_as_marked"]) == (1, 1, {"label: false": 1})
    assert result.to_json()["read"][0]["rows"]["not_learnt"] == {"label: false": 1}
    assert any("1 answers are marked as not to be learnt" in line for line in result.lines())
    (account,) = RowsJob(files=(str(path),), model={"name": str(model)}).run(tmp_path).files
    assert account["tokens"]["supervised_tokens"] == record["supervised_tokens"]
    assert account["first"] == first.rstrip("\n")
    assert any("to learn of" in line for line in account_lines(account))


def test_a_row_that_learns_nothing_else_is_refused(tmp_path):
    path = put(tmp_path / "r.jsonl", *pairs("a", "b", label=False))
    with pytest.raises(BucklerError, match=r"none of the 2 rows can be written .*marked as not to be learnt .label: false"):
        buckler.export(str(path), "chat", out=tmp_path / "out", store=tmp_path)
    classes = put(tmp_path / "c.jsonl", *pairs("a", label=0), *pairs("b", label=1))
    with pytest.raises(DataError, match=r"c\.jsonl: 'label' is 0: .* --columns learn=label or --columns ignore=label"):
        buckler.export(str(classes), "chat", out=tmp_path / "asked", store=tmp_path)
    known = buckler.export(str(classes), "chat", columns={"learn": "label"}, out=tmp_path / "told", store=tmp_path)
    assert known.account["rows_written"] == 1


COUNTS = {
    "commonsenseqa/test_rand_split_no_answers.jsonl": 1140,
    "comve/dev.csv": 1000,
    "comve/subtaskA_dev_data.csv": 997,
    "comve/subtaskA_gold_answers.csv": 997,
    "comve/subtaskC_dev_data.csv": 997,
    "comve/subtaskC_gold_answers.csv": 997,
    "csqa2/CSQA2_dev.json.gz": 2541,
    "documents/c4_demo_filtered.jsonl": 281,
    "documents/wiki_demo.txt": 30,
    "dolly/databricks-dolly-15k-subset_200.jsonl": 200,
    "finetune_formats/harmful-examples-demonstration-10-shot.jsonl": 10,
    "finetune_formats/pure_bad_10_demo.jsonl": 10,
    "gsm8k/train_first1000.jsonl": 1000,
    "llama_factory/identity.json": 91,
    "llm_adapters/ARC-Easy_train.json": 2251,
    "llm_adapters/boolq_train_first1000.json": 1000,
    "mmlu/global_facts_dev.csv": 5,
    "mt_bench/question.jsonl": 80,
    "translation/shots.de-en.json": 5,
    "translation/shots.en-zh.json": 5,
    "xstest/xstest_prompts.csv": 450,
}


@pytest.mark.skipif(not DATA.is_dir(), reason="the published sample files are not at hand")
@pytest.mark.data
@pytest.mark.parametrize("name", COUNTS)
def test_a_published_sample_has_the_rows_that_its_list_says(name, tmp_path):
    (account,) = RowsJob(files=(str(DATA / name),)).run(tmp_path).files
    assert account["rows"]["read"] == COUNTS[name]


def test_a_folder_of_texts_has_no_splits_and_is_read_as_documents(tmp_path):
    for label in ("harmful", "benign"):
        (tmp_path / "docs" / label).mkdir(parents=True)
        (tmp_path / "docs" / label / "a.txt").write_text(f"A {label} text about pots.")
    assert splits_of(tmp_path / "docs", None) == {}
    require_one_split(Source(source=str(tmp_path / "docs")))
    rows, account = accounted_documents(Source(source=str(tmp_path / "docs")))
    assert len(rows) == 2 and account.split == ""
