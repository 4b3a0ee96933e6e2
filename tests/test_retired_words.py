"""Words that the project no longer uses stand nowhere but in the data that has them."""

from tools.retired_words import WORDS, findings, findings_in, read_words


def found(source, path="buckler/made_up.py"):
    return [(one.line, one.word) for one in findings_in(path, source, *read_words(WORDS.read_text(encoding="utf-8")))]


def test_no_retired_word_is_left():
    assert "\n".join(map(str, findings())) == ""


def test_prose_and_names_are_looked_at_each_by_its_own_words():
    assert found('"""Drawn by lot."""\n\n\ndef f(told):\n    unread_rows = told  # mended\n') == [
        (1, "by lot"),
        (4, "told"),
        (5, "unread"),
        (5, "told"),
        (5, "mended"),
    ]


def test_ordinary_words_pass():
    assert found('"""A foretold rule was given, found and made; spelling counts."""\nuntold = spelling = 1\n') == []


def test_strings_of_tests_are_data_and_their_docstrings_are_not():
    source = '"""Unread answers."""\nTEXT = "unread"\n'
    assert found(source, "tests/test_x.py") == [(1, "Unread")] and found(source) == [(1, "Unread")]
    assert found('TEXT = "told so"\n') == [(1, "told")] and found('TEXT = "told so"\n', "tests/test_x.py") == []
