"""`buckler export`: what each layout holds, what it leaves out and says, weights, repetitions, and trainers' configurations."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

import buckler
from buckler.data import Chat, Message, write_rows
from buckler.errors import BucklerError, ConfigError, DataError
from buckler.finetuning.other_trainers import by_answer, learnt_answers, weighted
from buckler.finetuning.settings import Objective, row_weights
from buckler.formats import read_chats

TASKS = (("summarize", 6), ("translate", 3), ("qa", 2))


def turn(role: str, content: str, **more: str) -> Message:
    return {"role": role, "content": content, **more}  # type: ignore[typeddict-item, typeddict-unknown-key, misc]


def defence() -> list[Chat]:
    """Document rows of three tasks, some more often than others."""
    return [
        Chat.pair(f"Do {task}: document {at}", f"I cannot {task} it, number {at}.", task=task, part="defence")
        for task, number in TASKS
        for at in range(number)
    ]


def mixed() -> list[Chat]:
    """A row of each kind that some layout cannot hold, after a plain one."""
    greeting = [turn("assistant", "Hello."), turn("user", "Why?"), turn("assistant", "So.")]
    two = [turn("system", "Be brief."), turn("user", "A?"), turn("assistant", "B."), turn("user", "C?"), turn("assistant", "D.")]
    return [
        Chat.pair("Q?", "R."),
        Chat.of(two),
        Chat.of([turn("user", "T?"), turn("assistant", "U.", reasoning_content="I think.")]),
        Chat.of([turn("user", "1"), turn("user", "2"), turn("assistant", "3")]),
        Chat.of(greeting),
        Chat.pair("V?", "<think>only a thought</think>"),
        Chat.pair("nobody answers", None),
    ]


def exported(folder: Path, rows: list[Chat], to: str, **settings: object):
    return buckler.export(rows, to, out=folder / to, store=folder / "store", **settings)


def lines_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_trl_learns_one_answer_a_row_and_a_row_of_two_answers_stands_twice(tmp_path):
    result = exported(tmp_path, mixed(), "trl")
    rows = lines_of(result.path)
    assert [row["completion"][0]["content"] for row in rows] == ["R.", "B.", "D.", "U.", "3", "So."]
    assert all(len(row["completion"]) == 1 and row["completion"][0]["role"] == "assistant" for row in rows)
    assert [one["content"] for one in rows[2]["prompt"]] == ["Be brief.", "A?", "B.", "C?"]
    assert rows[3]["completion"][0]["reasoning_content"] == "I think."
    first, *halves = [row["loss_weight"] for row in rows[:3]]
    assert halves == [pytest.approx(first / 2)] * 2 and sum(row["loss_weight"] for row in rows) == pytest.approx(len(rows))
    assert {len(names) for names in result.account["left_out"].values()} == {2}
    assert any("1 rows with several answers" in line for line in result.lines())


@pytest.mark.parametrize(
    ("to", "written", "reasons"),
    [
        ("alpaca", 3, {"no answer to learn": 2, "has answers that are not to be learnt": 1, "needs alternating": 1}),
        ("sharegpt", 3, {"no answer to learn": 2, "has answers that are not to be learnt": 1, "needs alternating": 1}),
        ("openai", 5, {"no answer to learn": 2}),
        ("axolotl", 5, {"no answer to learn": 2}),
        ("chat", 5, {"no answer to learn": 2}),
    ],
)
def test_what_a_layout_cannot_hold_is_counted_and_said(tmp_path, to, written, reasons):
    masked = Chat.of([turn("user", "a"), turn("assistant", "<think>t</think>"), turn("user", "b"), turn("assistant", "c")])
    rows = [row for row in mixed() if row.messages[0]["role"] != "assistant"]
    result = exported(tmp_path, [*rows, masked], to)
    assert result.account["rows_written"] == written
    assert {
        name: len(ids) for full, ids in result.account["left_out"].items() for name in reasons if full.startswith(name)
    } == reasons
    output = "\n".join(result.lines())
    assert ("lose the reasoning" in output) == (to in ("alpaca", "sharegpt", "openai"))
    for ids in result.account["left_out"].values():
        assert ids[0] in output
    if to in ("openai", "axolotl"):
        marks = [
            one for row in lines_of(result.path) for one in row["messages"] if one.get("weight") == 0 or one.get("train") is False
        ]
        assert [one["content"] for one in marks] == ["<think>t</think>"]
        assert all("reasoning_content" not in one for row in lines_of(result.path) for one in row["messages"]) or to == "axolotl"


def test_tools_stand_where_the_trainer_looks_for_them(tmp_path):
    tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
    call = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Oslo"}}}
    turns = [
        {"role": "user", "content": "Weather?", "tools": [tool]},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "rain", "name": "weather"},
        {"role": "assistant", "content": "It rains."},
    ]
    row = Chat.of(turns)
    [asks, answers] = lines_of(exported(tmp_path, [row], "trl").path)
    assert asks["tools"] == answers["tools"] == [tool]
    assert asks["completion"][0]["tool_calls"] == [call] and answers["completion"][0]["content"] == "It rains."
    assert [one["role"] for one in answers["prompt"]] == ["user", "assistant", "tool"]
    [openai] = lines_of(exported(tmp_path, [row], "openai").path)
    assert openai["messages"][1]["tool_calls"][0]["function"]["arguments"] == '{"city": "Oslo"}' and openai["tools"] == [tool]
    [axolotl] = lines_of(exported(tmp_path, [row], "axolotl").path)
    assert axolotl["tools"] == [tool] and axolotl["messages"][1]["tool_calls"] == [call]
    for to in ("alpaca", "sharegpt", "llamafactory"):
        result = exported(tmp_path, [row, Chat.pair("a", "b")], to)
        assert list(result.account["left_out"].values()) == [[row.id]] and "with tools" in "\n".join(result.lines())


def test_llama_factory_learns_last_answers_where_some_are_masked(tmp_path):
    plain = exported(tmp_path, mixed()[:2], "llamafactory")
    assert "mask_history" not in yaml.safe_load((plain.out / "llamafactory.yaml").read_text())
    assert len(lines_of(plain.path)) == 2
    masked = Chat.of([turn("user", "a"), turn("assistant", "<think>t</think>"), turn("user", "b"), turn("assistant", "c")])
    result = exported(tmp_path, [*mixed()[:2], masked], "llamafactory")
    assert yaml.safe_load((result.out / "llamafactory.yaml").read_text())["mask_history"] is True
    assert [row["messages"][-1]["content"] for row in lines_of(result.path)] == ["R.", "B.", "D.", "c"]


@pytest.mark.parametrize("to", ["alpaca", "sharegpt", "llamafactory"])
def test_every_layout_of_llama_factory_has_its_entry_and_keeps_those_of_others(tmp_path, to):
    (tmp_path / to).mkdir()
    (tmp_path / to / "dataset_info.json").write_text('{"mine": {"file_name": "m.json"}}')
    result = exported(tmp_path, mixed()[:2], to)
    known = json.loads((result.out / "dataset_info.json").read_text())
    config = yaml.safe_load((result.out / f"{to}.yaml").read_text())
    entry = known[config["dataset"]]
    assert known["mine"] == {"file_name": "m.json"} and (result.out / entry["file_name"]) == result.path
    rows = json.loads(result.path.read_text()) if result.path.suffix == ".json" else lines_of(result.path)
    columns = {name for row in rows for name in row}
    assert set(entry["columns"].values()) <= columns
    assert config["dataset_dir"] == "." and config["stage"] == "sft" and config["learning_rate"] == 2e-5


def test_weights_of_the_mixed_task_loss_come_back_when_the_rows_are_read(tmp_path):
    rows = defence()
    for to in ("chat", "trl"):
        back = read_chats(exported(tmp_path, rows, to, loss_averaging="task").path)
        exact = row_weights(rows, Objective(loss_averaging="task"))
        assert row_weights(back, Objective(loss_averaging="row")) == pytest.approx(exact)
    assert len(TASKS) == len({round(one, 6) for one in exact})


def test_balance_repeats_whole_rows_and_prints_the_difference_that_remains(tmp_path):
    result = exported(tmp_path, defence(), "llamafactory", balance="task")
    written = [row["messages"][-1]["content"].split()[2] for row in lines_of(result.path)]
    assert {task: written.count(task) for task, _ in TASKS} == {"summarize": 6, "translate": 6, "qa": 6}
    assert result.account["largest_difference"] == {"as_read": pytest.approx(0.212121), "as_written": 0}
    uneven = [*defence(), Chat.pair("Do qa: more", "I cannot qa more", task="qa", part="defence"), *[
        Chat.pair(f"Do qa: {at}", f"I cannot qa {at}.", task="qa", part="defence") for at in range(20, 22)
    ]]  # fmt: skip
    result = exported(tmp_path, uneven, "trl", balance="task")
    after = result.account["largest_difference"]["as_written"]
    assert 0 < after < result.account["largest_difference"]["as_read"]
    assert any(f"up to {100 * after:.1f} percentage points" in line for line in result.lines())
    back = lines_of(result.path)
    shares = {task: sum(row["loss_weight"] for row in back if f"Do {task}" in row["prompt"][0]["content"]) for task, _ in TASKS}
    assert list(shares.values()) == [pytest.approx(len(back) / 3)] * 3


def test_weights_are_read_from_tables_and_honoured_in_training(tmp_path):
    table = tmp_path / "rows.csv"
    table.write_text("prompt,completion,loss_weight\na,b,0.5\nc,d,\ne,f,2\n")
    rows = read_chats(table)
    assert row_weights(rows, Objective()) == [0.5, 1.0, 2.0]
    assert all("ignored_columns" not in row.meta for row in rows)
    for bad in ("-1", "heavy", "nan", "inf"):
        table.write_text(f"prompt,completion,loss_weight\na,b,1\nc,d,{bad}\n")
        with pytest.raises(DataError, match=r"rows\.csv:3: loss_weight must be a number of at least 0"):
            read_chats(table)
    with pytest.raises(DataError, match="loss_weight"):
        row_weights([Chat.pair("a", "b", loss_weight=True)], Objective())


def test_rows_of_weight_zero_are_left_out_where_a_trainer_would_learn_them(tmp_path):
    rows = [Chat.pair("a", "b"), Chat.pair("c", "d", loss_weight=0.0)]
    for to in ("trl", "openai", "chat"):
        result = exported(tmp_path, rows, to)
        assert result.account["rows_written"] == 1 and result.account["left_out"] == {
            "marked as not to be learnt (weight: 0)": [rows[1].id]
        }


def test_a_configuration_names_the_file_and_the_way_to_start_it(tmp_path):
    for to, start in (("trl", "trl sft --config trl.yaml"), ("axolotl", "axolotl train axolotl.yaml")):
        result = exported(tmp_path, mixed()[:2], to, max_length=512)
        text = (result.out / f"{to}.yaml").read_text()
        assert text.splitlines()[0].endswith(start) and "MODEL" in text
        values = yaml.safe_load(text)
        [data] = values["datasets"]
        assert data.get("data_files", data["path"]) == result.path.name
        assert values.get("max_length", values.get("sequence_len")) == 512
    assert not list(exported(tmp_path, mixed()[:2], "openai").out.glob("*.yaml"))


def test_an_entry_of_a_pipeline_exports_what_an_earlier_one_made(tmp_path):
    write_rows(tmp_path / "rows.jsonl", defence())
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "kind: pipeline\nname: hand-over\nsteps:\n- attack: {customer: rows.jsonl, attack: {kind: drift, rows: 4}}\n"
        "- export: {rows: ['@attack'], to: trl, loss_averaging: task}\n"
    )
    result = buckler.run(recipe, store=tmp_path / "store")
    assert len(lines_of(result.out / "export" / "trl.jsonl")) == 4


def test_settings_without_effect_are_refused(tmp_path):
    for settings, message in (
        ({"to": "parquet"}, "trl"),
        ({"to": "chat", "balance": "task"}, "reads each row once"),
        ({"to": "trl", "balance": "task", "loss_averaging": "row"}, "leave one of them out"),
        ({"to": "openai", "model": "miniature"}, "trl and axolotl only"),
        ({"to": "trl", "loss_averaging": "task"}, "no row names its task"),
    ):
        with pytest.raises(BucklerError, match=message):
            buckler.export(mixed(), out=tmp_path / "out", store=tmp_path, **settings)
    with pytest.raises(BucklerError, match="none of the 1 rows can be written as trl"):
        exported(tmp_path, [Chat.pair("a", None)], "trl")
    with pytest.raises(ConfigError, match="repeat a row 2000 times"):
        weighted([Chat.pair("a", "b", loss_weight=2000), Chat.pair("c", "d")], Objective(), balance=True)


def test_the_option_of_the_last_release_names_the_command():
    with pytest.raises(ConfigError, match=r"buckler export curated/curated\.jsonl --to"):
        buckler.curate([Chat.pair("a", "b")], export=["alpaca"])


def test_learnt_answers_are_those_that_training_learns():
    rows = mixed()
    assert [learnt_answers(row) for row in rows] == [[1], [2, 4], [1], [2], [2], [], []]
    assert [one.answer for one in by_answer(rows[1])] == ["B.", "D."]
