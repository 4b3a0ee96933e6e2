"""Published sets recognised by their content, whatever the file is called and however it is laid out.

`published_sets.json` holds of each set how many questions it has and short digests of them, by what a good model does with
them: no text. Of large sets the smallest digests are kept, so that a copy and a sample of it still show their share.
`python -m tools.fingerprints NAME FILE` adds a set.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from buckler.data import Chat, bounded_json
from buckler.data.near_duplicates import normalise
from buckler.data.reading import read_bytes

KEPT = 512
"""Digests of a set that are kept; of fewer questions all are."""
DIGITS = 8
LOOKED_AT = 400
"""Rows of a file that are compared."""
LEAST, SHARE = 3, 0.6
"""A file is of a set if so many of its questions are, and this share of those that a copy of the set would show."""
_LEAD = re.compile(r"(?:question:|common sense\?)\s*")


def digest(question: str) -> str:
    """The digest of a question's words."""
    return hashlib.sha256(normalise(question).encode("utf-8", "surrogatepass")).hexdigest()[:DIGITS]


def digests(chat: Chat) -> set[str]:
    """Of what may be the question of a row: its last question, each line of it, and what follows `question:`."""
    question = str(chat.meta.get("question") or chat.query)
    lines = [line for line in question.split("\n", 40)[:40] if line.strip()]
    parts = {question, *lines, *(_LEAD.split(line, maxsplit=1)[-1] for line in lines)}
    return {digest(part) for part in parts if part.strip()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """The published sets."""

    by_digest: Mapping[str, Sequence[tuple[str, str]]]
    """The sets that have a question, and what a good model does with it there."""
    shares: Mapping[str, float]
    """By set, the share of its digests that is kept."""
    kinds: Mapping[str, Sequence[str]]
    """By set, what a good model does with its questions."""

    @classmethod
    def of(cls, saved: Mapping[str, Any]) -> Published:
        """The sets of `published_sets.json`."""
        by_digest: dict[str, list[tuple[str, str]]] = {}
        for name, one in saved.items():
            for kind, joined in one["sets"].items():
                for at in range(0, len(joined), DIGITS):
                    by_digest.setdefault(joined[at : at + DIGITS], []).append((name, kind))
        kept = Counter(name for found in by_digest.values() for name, _ in found)
        shares = {name: kept[name] / one["questions"] for name, one in saved.items()}
        return cls(by_digest=by_digest, shares=shares, kinds={name: list(one["sets"]) for name, one in saved.items()})


@cache
def published() -> Published:
    """Those that come with the program."""
    return Published.of(bounded_json(read_bytes(Path(__file__).with_name("published_sets.json"))))


def benchmark_of(chats: Sequence[Chat]) -> str | None:
    """The published set that the rows are of, whole or in part; None if they are of none."""
    sets, looked_at = published(), chats[:LOOKED_AT]
    hits = Counter(name for chat in looked_at for name in {one for at in digests(chat) for one, _ in sets.by_digest.get(at, ())})
    found = {name: count / (sets.shares[name] * len(looked_at)) for name, count in hits.items() if count >= LEAST}
    best = max(found, key=lambda name: (found[name], name), default=None)
    return best if best is not None and found[best] >= SHARE else None


def kind_of(chat: Chat, benchmark: str) -> str | None:
    """What a good model does with a row of a published set: harmful, borderline or benign; None where its halves do not tell."""
    sets = published()
    kinds = {kind for at in digests(chat) for name, kind in sets.by_digest.get(at, ()) if name == benchmark}
    if not kinds and sets.shares.get(benchmark, 1) < 1:
        kinds = set(sets.kinds[benchmark])  # its digest is not among those that are kept
    return kinds.pop() if len(kinds) == 1 else None
