"""Content words: endings, function words and scripts without spaces do not make kept information look lost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buckler.data.language import content_words, kept_share


def test_kept_information_counts_content_words_only():
    assert kept_share("The soup is made of salt", "salt and soup were made") == 1.0
    assert kept_share("The soup is made of salt", "iron") == 0.0
    assert kept_share("it is", "iron") == 1.0


def test_what_the_question_says_is_no_news():
    assert kept_share("The soup needs salt", "It needs iron", known="What goes into the soup?") == 0.0
    assert kept_share("The soup needs salt", "Salt", known="What goes into the soup?") == 1.0


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("boils", "boiled"),
        ("boiling", "boil"),
        ("baking", "baked"),
        ("berries", "berry"),
        ("dried", "dry"),
        ("stopped", "stops"),
        ("dishes", "dish"),
        ("carefully", "careful"),
        ("Carrots", "CARROT"),
        ("Ｓｏｕｐ", "soup"),
        ("солёная", "солёного"),
        ("الملح", "ملح"),
    ],
)
def test_the_same_word_with_another_ending_is_kept(one, other):
    assert content_words(one) == content_words(other) != set()


@pytest.mark.parametrize(
    ("one", "other"), [("glass", "glad"), ("iron", "irony"), ("red", "reed"), ("fermole", "fermine"), ("s", "")]
)
def test_different_words_stay_different(one, other):
    assert not content_words(one) or content_words(one) != content_words(other)


def test_chinese_is_compared_by_pairs_of_characters():
    before = "面包师用盐煮大麦"  # the baker boils barley with salt
    longer = "请小心。面包师用盐煮大麦，再加水。"
    other = "铁匠在炉子里炼铁"  # the smith works iron in the forge
    assert kept_share(before, longer) == 1.0
    assert kept_share(before, other) == 0.0
    assert content_words("麦") == {"麦"} and content_words("大麦") == {"大麦"}


def test_marks_do_not_cut_words_in_two():
    hindi = "हलवाई जौ उबालता है"
    assert len(content_words(hindi)) == 4


@given(st.text(max_size=60), st.text(max_size=60))
def test_a_text_keeps_itself_and_more_words_never_lose_any(text, more):
    assert kept_share(text, text) == 1.0
    assert kept_share(text, f"{text} {more}") >= kept_share(text, text) or any(char for char in more if not char.isascii())
    assert 0.0 <= kept_share(text, more) <= 1.0
