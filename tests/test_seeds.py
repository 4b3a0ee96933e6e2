"""The shipped seed words are many, different and fit for use; a lexicon is read in both shapes; draws are seeded."""

from __future__ import annotations

import re
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rapidfuzz import fuzz

from buckler.curation.lexicon import draw, key_of, parts_of, read_lexicon
from buckler.errors import ConfigError

ALIKE = 88
"""Two shipped words whose lemmas are this alike (rapidfuzz ratio, 100 is equal) are one word said twice."""

HARM = "abuse attack bomb breach crime death drug exploit fraud hate kill malicious murder poison steal toxic violence weapon"
GUARDED = {"report abuse", "fraud protection", "poison control centre", "non-toxic"}
"""Shipped words that name a harm to speak of its prevention."""


def shipped() -> list[str]:
    return [word for words in read_lexicon().values() for word in words]


def test_over_five_hundred_different_words_are_shipped():
    words = shipped()
    assert len({key_of(word) for word in words}) == len(words) >= 560


def test_the_published_examples_are_among_them():
    assert {"evidence-based", "responsible agent", "reliable sources"} <= set(shipped())


def test_no_shipped_word_is_a_near_duplicate_of_another():
    keys = {key_of(word): word for word in shipped()}
    close = [(keys[a], keys[b]) for a, b in combinations(keys, 2) if fuzz.ratio(a, b) >= ALIKE]
    assert close == []


def test_shipped_words_are_short_and_plain():
    bad = [word for word in shipped() if not re.fullmatch(r"[a-z]+(?:[-' ][a-z]+)*", word) or len(word.split()) > 4]
    assert bad == []


def test_no_shipped_word_is_harmful():
    harm = {key_of(word) for word in HARM.split()}
    named = {word for word in shipped() if harm & {key_of(part) for part in parts_of(word)}}
    assert named == GUARDED


def test_every_category_is_of_some_size():
    sizes = {name: len(words) for name, words in read_lexicon().items()}
    assert min(sizes.values()) >= 15 and max(sizes.values()) <= 30, sizes


def test_both_shapes_are_read_and_a_word_counts_once(tmp_path):
    file = tmp_path / "words.yaml"
    file.write_text(
        "care: [take care, ' ask first ']\nmined:\n- term: informed consent\n  score: 3.2\n  sentences: []\n- term: take care\n"
    )
    assert read_lexicon(file) == {"care": ["take care", "ask first"], "mined": ["informed consent"]}


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("care: [take care, no]", "care, entry 2: .*got False"),
        ("care: ['']", "care, entry 1"),
        ("mined: [{score: 2}]", "mined, entry 1"),
        ("mined: [{term: [a]}]", "mined, entry 1"),
        ("care: take care", "categories with lists"),
        ("[take care]", "categories with lists"),
        ("care: []", "no seed words"),
    ],
)
def test_a_lexicon_that_is_not_understood_is_one_clear_line(tmp_path, text, names):
    file = tmp_path / "words.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=names) as fault:
        read_lexicon(file)
    assert str(fault.value).startswith(str(file)) and "\n" not in str(fault.value)


WORDS = st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=30, unique=True)
ROW = st.text(max_size=10)


@given(words=WORDS, count=st.integers(0, 40), seed=st.integers(), row=ROW, turn=st.integers(0, 9), others=st.lists(ROW))
def test_a_draw_depends_on_its_arguments_alone(words, count, seed, row, turn, others):
    first = draw(words, count, seed=seed, row=row, turn=turn)
    for other in others:
        draw(words, count, seed=seed, row=other, turn=turn + 1)
    assert draw(tuple(words), count, seed=seed, row=row, turn=turn) == first


@given(words=WORDS, count=st.integers(0, 40), seed=st.integers(), row=ROW, turn=st.integers(0, 9))
def test_a_draw_holds_different_words_and_as_many_as_asked_for(words, count, seed, row, turn):
    drawn = draw(words, count, seed=seed, row=row, turn=turn)
    assert len(drawn) == len(set(drawn)) == min(count, len(words)) and set(drawn) <= set(words)


def test_every_shipped_word_is_reached_about_as_often_as_any_other():
    words = shipped()
    draws = 20 * len(words)
    counts = dict.fromkeys(words, 0)
    for row in range(draws):
        for word in draw(words, 3, seed=0, row=str(row), turn=1):
            counts[word] += 1
    # 60 a word on average with a deviation of 7.7: five deviations either side.
    assert min(counts.values()) > 20 and max(counts.values()) < 100


@pytest.mark.parametrize("change", [{"seed": 1}, {"row": "b"}, {"turn": 2}])
def test_another_seed_row_or_turn_draws_other_words(change):
    arguments = {"seed": 0, "row": "a", "turn": 1}
    assert draw(shipped(), 5, **arguments) != draw(shipped(), 5, **{**arguments, **change})
