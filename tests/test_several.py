"""Several values after one list option, the form of the previous release: one line shows the new one."""

from __future__ import annotations

import pytest

from buckler.cli import load_command
from buckler.cli.build import several_values, values_as_arguments, values_with_commas


@pytest.mark.parametrize(
    ("command", "given", "written"),
    [
        ("evaluate", "MODEL --probes a b c --judge keyword", "--probes a --probes b --probes c"),
        ("evaluate", "MODEL --judge keyword --probes a b", "--probes a --probes b"),
        ("evaluate", "--harmful a --benign c d MODEL", "--benign c --benign d --benign MODEL"),
        ("evaluate", "MODEL --probes=a b", "--probes a --probes b"),
        ("gate", "--base x --tuned y --probes a b", "--probes a --probes b"),
        ("judge-card", "--labels a b --judge keyword", "--labels a --labels b"),
        ("curate", "texts --decontaminate a b", "--decontaminate a --decontaminate b"),
        ("train", "rows --set seed=1 train.epochs=2", "--set seed=1 --set train.epochs=2"),
    ],
)
def test_the_new_form_is_shown(command, given, written):
    assert several_values(given.split(), load_command(command).params) == (
        f"{written.split()[0]} takes one value at a time; write {written}"
    )


@pytest.mark.parametrize(
    ("command", "given"),
    [
        ("evaluate", "MODEL --probes a --probes b"),
        ("evaluate", "--out here --probes a"),
        ("evaluate", "--probes=a"),
        ("evaluate", "--probes"),
        ("evaluate", "--judge keyword MODEL"),
        ("evaluate", "--probes a -- MODEL b"),
        ("crosstask", "a b --harmful c"),
    ],
)
def test_what_is_written_the_new_way_needs_no_hint(command, given):
    assert several_values(given.split(), load_command(command).params) is None


@pytest.mark.parametrize(
    ("command", "given", "written"),
    [
        ("crosstask", "docs --tasks summarize qa --out o", "--tasks summarize --tasks qa, or put the documents"),
        ("crosstask", "--wordings back front docs", "--wordings back --wordings front --wordings docs, or put the documents"),
        ("crosstask", "docs --harmful a.jsonl b.jsonl", "--harmful a.jsonl --harmful b.jsonl, or put the documents"),
        ("train", "rows --lora-targets=q_proj v_proj", "--lora-targets q_proj --lora-targets v_proj, or put the rows"),
    ],
)
def test_values_that_a_commands_arguments_would_take_are_shown_one_by_one(command, given, written, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("docs", "a.jsonl", "b.jsonl", "rows"):
        (tmp_path / name).write_text("")
    says = values_as_arguments(given.split(), load_command(command).params)
    assert says == f"{written.split()[0]} takes one value at a time; write {written} before the options"


@pytest.mark.parametrize(
    ("command", "given"),
    [
        ("crosstask", "--tasks summarize docs --out o"),
        ("crosstask", "--tasks summarize miniature:documents"),
        ("crosstask", "docs --harmful a.jsonl --harmful b.jsonl"),
        ("judge", "--metric mine:number answers.jsonl"),
        ("evaluate", "--probes a.jsonl miniature"),
    ],
)
def test_an_argument_after_one_value_is_an_argument(command, given, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("docs", "a.jsonl", "b.jsonl", "answers.jsonl"):
        (tmp_path / name).write_text("")
    assert values_as_arguments(given.split(), load_command(command).params) is None


@pytest.mark.parametrize(
    ("command", "given", "written"),
    [
        ("crosstask", "docs --tasks summarize,qa --out o", "--tasks summarize --tasks qa"),
        ("crosstask", "docs --wordings=back,front", "--wordings back --wordings front"),
        ("evaluate", "MODEL --official arc_easy,boolq", "--official arc_easy --official boolq"),
        ("evaluate", "MODEL --probes a.csv,b.csv", "--probes a.csv --probes b.csv"),
    ],
)
def test_values_in_one_text_are_shown_one_by_one(command, given, written):
    assert values_with_commas(given.split(), load_command(command).params) == (
        f"{written.split()[0]} takes one value at a time; write {written}"
    )


def test_a_file_whose_name_has_a_comma_is_one_value(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a,b.csv").write_text("")
    params = load_command("evaluate").params
    assert values_with_commas(["MODEL", "--probes", "a,b.csv", "--harmful", "harmful=a,b.csv"], params) is None
    assert values_with_commas(["MODEL", "--set", "max_new_tokens=[1,2]", "--judge", "keyword,paper"], params) is None


def test_the_hint_is_the_whole_message(tmp_path, monkeypatch, capsys):
    from buckler.cli import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["buckler", "gate", "--base", "x", "--probes", "a", "b", "--out", "o"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert capsys.readouterr().err == "error: gate: --probes takes one value at a time; write --probes a --probes b\n"


def test_an_argument_may_follow_one_value(capsys, monkeypatch, tmp_path):
    from buckler.cli import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["buckler", "evaluate", "--harmful", "nowhere.csv", "miniature-small", "--out", "o"])
    with pytest.raises(SystemExit):
        main()
    assert "nowhere.csv: no such file" in capsys.readouterr().err


def test_a_value_of_set_with_blanks_is_to_be_quoted():
    says = several_values(["texts", "--set", "curation={rounds:", "2}"], load_command("curate").params)
    assert says == "--set curation={rounds: has blanks in its value; put it in quotes: --set 'curation={rounds: 2}'"
