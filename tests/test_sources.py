"""Sources: how many rows of a file are taken."""

from __future__ import annotations

import pytest

from buckler.errors import DataError
from buckler.workflow.sources import Source, at_most, fingerprint, source_chats


def test_a_limit_takes_what_is_there_and_a_count_must_be_there(tmp_path):
    file = tmp_path / "mine.txt"
    file.write_text("Why?\nHow?\nWhy?\nWhen?\n")
    whole = Source(source=str(file))
    assert (
        at_most(3, Source(source=str(file))) == at_most(9, Source(source=str(file))) == whole
    )  # the same rows are the same step
    assert len(source_chats(whole)) == 3  # one of the four says what another says
    assert len(source_chats(at_most(2, Source(source=str(file), seed=1)))) == 2
    with pytest.raises(DataError, match=r"mine\.txt: 9 rows requested, but it has only 3 distinct rows"):
        source_chats(Source(source=str(file), count=9))


def test_a_limit_on_documents_takes_what_is_there(tmp_path):
    for name in "abc":
        (tmp_path / f"{name}.txt").write_text(f"A text named {name}.")
    assert at_most(2, Source(source=str(tmp_path)), documents=True).count == 2
    assert at_most(5, Source(source=str(tmp_path)), documents=True).count is None


def test_a_path_that_is_not_there_is_no_data_set_of_the_hub():
    with pytest.raises(DataError, match="/nowhere: no such file"):
        fingerprint(Source(source="/nowhere"))


def test_a_set_without_an_end_is_given_the_limit():
    assert at_most(7, Source(source="miniature:probes-harmful")).count == 7
