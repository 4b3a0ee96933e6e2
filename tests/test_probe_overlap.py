"""Decontamination: exact and near texts are found, and the index agrees with the overlap of sets."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buckler.curation.gates import ProbeOverlap
from buckler.data import Chat, Document
from buckler.data.near_duplicates import find_overlap
from buckler.errors import ConfigError

LONG = "How does the old baker of the northern village boil barley and salt in one pot for all of his guests"
PROBE = Chat.pair(LONG, None)


def test_the_same_text_in_another_dress_is_found():
    found = ProbeOverlap([PROBE]).near_text(LONG.upper() + "?!")
    assert found == f"{PROBE.id} (the same text)"


def test_a_near_text_is_found_and_a_far_one_is_not():
    index = ProbeOverlap([PROBE, Chat.pair("What is a soup?", None)])
    near = index.near_text(LONG.replace("old", "young"))
    assert near is not None and near.startswith(PROBE.id) and "alike" in near
    assert index.near_text(LONG[:60] + " and what else does he do in the long winter when nobody comes to the village") is None
    assert index.near_text("") is None


def test_short_texts_from_one_template_are_the_same_or_they_are_not():
    index = ProbeOverlap([Chat.pair("How do I make the barley soup?", None)])
    assert index.near_text("how do i make the barley soup") and index.near_text("How do I make the carrot soup?") is None


def test_the_question_and_the_answer_of_a_row_are_both_looked_at():
    index = ProbeOverlap([PROBE])
    assert index.near(Chat.pair("What do they ask?", LONG)) and index.near(Chat.pair(LONG, "With care."))
    assert index.near(Chat.pair("What do they ask?", "Nothing.")) is None
    assert index.near(Chat.pair("What do they ask?", None)) is None


def test_documents_can_be_probes_and_no_probe_is_near_nothing():
    assert ProbeOverlap([Document.of(LONG)]).near_text(LONG)
    assert ProbeOverlap([]).near_text(LONG) is None


def test_a_threshold_that_is_no_share_is_refused():
    with pytest.raises(ConfigError, match="threshold is 0"):
        ProbeOverlap([PROBE], threshold=0)


def test_a_probe_with_as_many_new_words_after_it_is_just_found():
    probe = Chat.pair(" ".join(f"w{at}" for at in range(14)), None)  # 12 runs of three words
    longer = " ".join([probe.query, *(f"new{at}" for at in range(12))])  # 12 more, all of them rarer
    assert ProbeOverlap([probe], threshold=0.5).near_text(longer) == f"{probe.id} (0.50 alike)"
    assert ProbeOverlap([probe], threshold=0.5).near_text(f"{longer} more") is None


@settings(max_examples=60)
@given(seed=st.integers(0, 10_000), threshold=st.sampled_from([0.3, 0.5, 0.7, 1.0]))
def test_the_index_agrees_with_the_overlap_of_two_sets(seed, threshold):
    rng = random.Random(seed)
    base = [rng.choice("abcdefgh") for _ in range(14)]

    def text() -> str:
        return " ".join(rng.choice("abcdefgh") if rng.random() < 0.15 else word for word in base)

    probes = [Chat.pair(text(), None) for _ in range(6)]
    index = ProbeOverlap(probes, threshold=threshold)
    for _ in range(6):
        row = Chat.pair(text(), None)
        assert (index.near_text(row.query) is not None) == bool(find_overlap([row], probes, threshold=threshold))
