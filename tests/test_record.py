"""Reasons by kind, and parts of a curation joined."""

from __future__ import annotations

from collections import Counter

import pytest

from buckler.curation.record import COUNTS, REJECTED, Curated, join, kind_of
from buckler.data import Chat
from buckler.data.rows import ROWS


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("keeps 45% of the original's information", "keeps N of the original's information"),
        ("perplexity 1.2e+03 is over 50 times the original's 3.4", "perplexity N is over N times the original's N"),
        ("too long for the model by 12 tokens", "too long for the model by N tokens"),
        ("the model did not answer: HTTP 500 at 10:12", "the model did not answer"),
        ("incoherent: loops", "incoherent"),
        ("same as the original", "same as the original"),
    ],
)
def test_a_kind_has_no_numbers(reason, kind):
    assert kind_of(reason) == kind


def test_parts_are_joined_in_order_and_their_counts_added(tmp_path):
    made = [
        Curated(rows=[Chat.pair("q", str(n))], rejected=[{"source": str(n)}], counts=Counter(texts=1, revised=n))
        for n in range(3)
    ]
    for at, part in enumerate(made):
        part.write(tmp_path / str(at))
    assert join([tmp_path / str(at) for at in range(3)], tmp_path / "all") == Counter(texts=3, revised=3)
    for name in (ROWS, REJECTED):
        assert (tmp_path / "all" / name).read_text() == "".join((tmp_path / str(at) / name).read_text() for at in range(3))
    assert '"texts": 3' in (tmp_path / "all" / COUNTS).read_text()
