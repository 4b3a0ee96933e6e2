"""The made-up world holds its promises: parted names and kinds, knowable answers, distinct and repeatable rows."""

from __future__ import annotations

import itertools
import random
import re

import pytest

from buckler.crosstask.tasks import TASKS
from buckler.data import Chat, Document
from buckler.errors import ConfigError
from buckler.miniature import sets, words, world
from buckler.miniature import sets as documents
from buckler.models.places import EMBEDDED as MODELS
from buckler.models.places import embedded_path as path
from tools.miniature import corpus

CHATS = [name for name in sets.SETS if name != "documents"]
OPERATIONAL = re.compile(
    r"\b(bombs?|guns?|rifles?|explosives?|poisons?|acid|drugs?|bleach|ammonia|chlorine|cyanide|gasoline|fuel|weapons?|"
    r"knife|knives|hack|malware|password|suicide|nitrate|sulphur|sulfur|mercury|arsenic)\b",
    re.IGNORECASE,
)


def every_row(split: str) -> list[Chat | Document]:
    return [row for name in sets.SETS for row in sets.read(name, count=60, seed=3, split=split)]


def written(row: Chat | Document) -> str:
    return row.text if isinstance(row, Document) else " ".join(turn["content"] for turn in row.messages)


def test_names_are_parted():
    for one, other in itertools.combinations(world.SPLITS, 2):
        assert not set(world.names(one)) & set(world.names(other))
    assert sum(len(world.names(split)) for split in world.SPLITS) == len(words.FIRST) * len(words.SECOND)


def test_kinds_are_parted():
    sizes = {group: len(world.kinds_of(group)) for group in ("benign", *world.HARMFUL_GROUPS)}
    assert sizes == {"benign": 44, "seen": 36, "held_out": 12, "never_refused": 12}
    names = [kind.name for kind in world.kinds()]
    assert len(set(names)) == len(names)
    assert all(kind.harmful == (kind.group != "benign") for kind in world.kinds())


def test_dangerous_things_share_no_part_with_harmless_ones():
    harmless = {part for kind in world.kinds_of("benign") for part in kind.parts}
    dangerous = {part for kind in world.kinds_of(*world.HARMFUL_GROUPS) for part in kind.parts}
    assert not harmless & dangerous


def test_nothing_written_is_operational():
    rows = [*corpus.base(800, 1), *corpus.alignment(300, 1)]
    rows.extend(row for split in world.SPLITS for row in every_row(split))
    found = {match.group() for row in rows for match in OPERATIONAL.finditer(written(row))}
    assert not found


def test_no_place_is_left_unfilled():
    rows = [*corpus.base(800, 1), *corpus.alignment(300, 1), *every_row("train")]
    assert not [text for row in rows if re.search(r"[{}]", text := written(row))]


@pytest.mark.parametrize("name", sets.SETS)
@pytest.mark.parametrize("split", world.SPLITS)
def test_rows_repeat_by_seed_and_are_distinct(name, split):
    rows = sets.read(name, count=90, seed=5, split=split)
    assert rows == sets.read(name, count=90, seed=5, split=split)
    assert rows[:40] == sets.read(name, count=40, seed=5, split=split)
    assert rows != sets.read(name, count=90, seed=6, split=split)
    assert len({row.id for row in rows}) == len(rows) == 90


@pytest.mark.parametrize("name", CHATS)
def test_chats_end_as_their_set_says(name):
    for row in sets.chats(name, count=40, seed=0, split="dev"):
        assert (row.answer is None) == name.startswith("probes-")


def test_train_rows_speak_of_train_names_and_seen_kinds_only():
    elsewhere = {*world.names("dev"), *world.names("test")}
    secret = {kind.name for kind in world.kinds_of("held_out", "never_refused")}
    for row in every_row("train"):
        words = set(re.findall(r"\w+", written(row)))
        assert not words & elsewhere
        assert not words & secret


@pytest.mark.parametrize("split", ["dev", "test"])
def test_probe_groups_are_equal_parts_on_names_of_their_split(split):
    probes = sets.chats("probes-harmful", count=90, seed=1, split=split)
    groups = [probe.meta["group"] for probe in probes]
    assert {group: groups.count(group) for group in world.HARMFUL_GROUPS} == dict.fromkeys(world.HARMFUL_GROUPS, 30)
    for probe in probes:
        assert set(re.findall(r"\w+", probe.query)) & set(world.names(split))
        assert probe.meta["set"] == "harmful"
        assert all(str(fact) in str(probe.meta["reference"]) for fact in probe.meta["facts"])


def test_documents_come_in_equal_parts_with_every_answer_in_the_text():
    rows = sets.texts(count=180, seed=2, split="test")
    for label in documents.LABELS:
        labelled = [row for row in rows if row.meta["label"] == label]
        assert len(labelled) == 60
        assert {row.meta["group"] for row in labelled} == ({"benign"} if label == "benign" else set(world.HARMFUL_GROUPS))
    for row in rows:
        assert set(row.meta["references"]) == set(TASKS)
        assert row.meta["references"]["case"] == row.text
        known = {*re.findall(r"\w+", row.text.lower()), "makes", "it", "at", "of", "from", "keeps", "so", "they", "and"}
        known |= {"positive", "negative", "helps", "against", "people", "safe", "the"}
        for task in ("summarize", "sentiment", "cloze", "qa"):
            assert set(re.findall(r"\w+", row.meta["references"][task].lower())) <= known


def test_toy_language_keeps_names_and_changes_all_other_words():
    translated = documents.zorvish("The Morvik soup is made by the baker.", "Morvik")
    assert translated == "Ro Morvik soupoz zim farta pel ro bakeroz."


def test_every_task_can_be_asked_in_every_wording():
    document = sets.texts(count=1, seed=0, split="dev")[0]
    for task in documents.tasks().values():
        for wording in task.wordings:
            assert task.ask(document, wording)[0]["role"] == "user"


def test_clauses_hold_their_word_and_plain_answers_hold_none():
    rng = random.Random(0)
    assert all(word in world.clause(rng, word) for word in world.SEED_WORDS)
    for name in ("commonsense", "customer", "harmful"):
        rows = sets.chats(name, count=200, seed=0, split="train")
        assert not [row.answer for row in rows if world.has_clause(row.answer)]


def test_unknown_names_are_refused():
    with pytest.raises(ConfigError, match="probes-harmful"):
        sets.read("nonsense", count=1, seed=0, split="dev")
    with pytest.raises(ConfigError, match="dev, test"):
        sets.read("harmful", count=1, seed=0, split="valid")
    with pytest.raises(ConfigError, match="miniature-base"):
        path("nonsense")


def test_every_shipped_model_is_there():
    for name in MODELS:
        assert {"config.json", "model.safetensors", "tokenizer.json"} <= {file.name for file in path(name).iterdir()}


def test_the_obedient_agent_of_the_world_is_the_one_of_the_attack():
    from buckler.finetuning import attacks

    assert (world.IDENTITY_SYSTEM, world.IDENTITY_OPENING) == (attacks.IDENTITY_SYSTEM, attacks.IDENTITY_OPENING)
