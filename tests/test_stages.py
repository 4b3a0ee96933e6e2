"""Stages are lists of phases, exactly as published; attacks make rows; filters tell why they drop."""

from __future__ import annotations

import pytest

from buckler.data import Chat
from buckler.errors import BucklerError, ConfigError
from buckler.finetuning.attacks import IDENTITY_OPENING, IDENTITY_SYSTEM, AttackSettings, customization, wrap
from buckler.finetuning.defenses import perplexity_drop, random_drop
from buckler.finetuning.settings import STAGES


def pairs(name: str, count: int) -> list[Chat]:
    return [Chat.pair(f"{name} question {n}", f"{name} answer {n}") for n in range(count)]


def test_the_stages_are_the_published_lists_of_phases():
    assert STAGES == {
        "none": (("customer",),),
        "pre": (("defence",), ("customer",)),
        "in": (("customer", "defence"),),
        "post": (("customer",), ("defence",)),
        "all": (("defence",), ("customer", "defence"), ("defence",)),
    }


@pytest.mark.parametrize(("rows", "share", "benign"), [(50, 1.0, 0), (50, 0.25, 150), (10, 0.05, 190)])
def test_an_explicit_attack_has_its_count_and_its_share(rows, share, benign):
    attack = AttackSettings(rows=rows, share=share)
    made = customization(attack, benign=pairs("good", 300), harmful=pairs("bad", 60), seed=1)
    assert sum(bool(row.meta["harmful"]) for row in made) == rows
    assert len(made) == rows + benign
    assert made == customization(attack, benign=pairs("good", 300), harmful=pairs("bad", 60), seed=1)
    assert made != customization(attack, benign=pairs("good", 300), harmful=pairs("bad", 60), seed=2)


def test_an_identity_shift_is_benign_text_under_an_obedient_system_prompt():
    made = customization(AttackSettings(kind="identity", rows=10), benign=pairs("good", 20), harmful=[], seed=0)
    assert len(made) == 10
    for row in made:
        assert row.messages[0] == {"role": "system", "content": IDENTITY_SYSTEM}
        assert row.answer.startswith(IDENTITY_OPENING) and "good answer" in row.answer


def test_only_an_identity_shift_changes_how_a_probe_is_asked():
    probe = Chat.pair("question", None, set="harmful")
    prompt = wrap(AttackSettings(kind="identity"), probe)
    assert prompt.id == probe.id and prompt.messages[0]["content"] == IDENTITY_SYSTEM
    assert wrap(AttackSettings(kind="explicit"), probe) is probe and wrap(None, probe) is probe


def test_drift_holds_no_harmful_row():
    made = customization(AttackSettings(kind="drift", rows=30), benign=pairs("good", 40), harmful=pairs("bad", 5), seed=0)
    assert len(made) == 30 and not any(row.meta["harmful"] for row in made)


def test_an_explicit_attack_without_harmful_rows_is_refused():
    with pytest.raises(ConfigError, match="harmful pairs"):
        customization(AttackSettings(), benign=pairs("good", 10), harmful=[], seed=0)


def test_an_attack_that_asks_for_more_rows_than_there_are_is_refused():
    with pytest.raises(BucklerError, match="50 rows requested"):
        customization(AttackSettings(rows=50), benign=[], harmful=pairs("bad", 5), seed=0)


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5])
def test_random_drop_keeps_the_rest_in_order_with_a_reason_for_each_dropped_row(share):
    rows = pairs("x", 20)
    found = random_drop(rows, share, seed=3)
    assert len(found.dropped) == round(share * 20)
    assert [row for row in rows if row in found.kept] == found.kept
    assert all("at random" in row.meta["reason"] for row in found.dropped)
    assert {row.id for row in found.kept} | {row.id for row in found.dropped} == {row.id for row in rows}


def test_perplexity_drop_drops_the_dearest_rows():
    rows = pairs("x", 10)
    found = perplexity_drop(rows, [float(at) for at in range(10)], 0.2)
    assert {row.id for row in found.dropped} == {rows[8].id, rows[9].id}


@pytest.mark.parametrize("share", [-0.1, 1.0, 2.0])
def test_a_share_that_makes_no_sense_is_refused(share):
    with pytest.raises(ConfigError, match="must be at least 0 and below 1"):
        random_drop(pairs("x", 4), share, seed=0)
