"""Overlap between two sets of rows: the same id, the same text, or nearly the same text."""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from buckler.data.rows import Chat, Document
from buckler.errors import ConfigError, DataError

SHINGLE_WORDS = 3
MIN_SHINGLES = 8
"""Texts with fewer shingles are compared exactly only: they are mostly template."""

_CJK = r"\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
# Languages written without spaces: there a character is a word.
_WORD = re.compile(rf"[{_CJK}]|[^\W{_CJK}]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlap:
    """One pair of rows that say the same, or nearly so."""

    left: Chat | Document
    right: Chat | Document
    similarity: float
    """1 for the same id or text, else the Jaccard similarity of the two sets of shingles."""

    kind: Literal["id", "text", "near"]


def text_of(row: Chat | Document) -> str:
    """What is compared: the text of a document, the last question of a chat (not its answer)."""
    return row.text if isinstance(row, Document) else row.query


def normalise(text: str) -> str:
    """The words alone, case and width folded; a text without a word stays as it is."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(_WORD.findall(folded)) or folded.strip()


def shingles(text: str) -> frozenset[str]:
    """All runs of `SHINGLE_WORDS` words of a normalised text."""
    words = text.split()
    return frozenset(" ".join(words[at : at + SHINGLE_WORDS]) for at in range(len(words) - SHINGLE_WORDS + 1))


def find_overlap(
    left: Sequence[Chat] | Sequence[Document], right: Sequence[Chat] | Sequence[Document], *, threshold: float = 0.7
) -> list[Overlap]:
    """The pairs of rows of two sets that are the same or at least `threshold` alike: ids first, then by the right set.

    Rows of one set with the same normalised text are shown by the first of them. Short texts (fewer than
    `MIN_SHINGLES` shingles, that is ten words) are the same or they are not: two questions from one template ("How do I
    make the X soup?") share most of their words and ask for different things. Longer texts are compared by shingles;
    all pairs that reach the threshold are found, none is guessed.

    Raises:
        ConfigError: the threshold is not above 0 and at most 1.
    """
    lefts, rights = _by_text(left), _by_text(right)
    ids: dict[str, Chat | Document] = {row.id: row for row in left}
    index = NearIndex(lefts, threshold)
    same_id: dict[str, Chat | Document] = {row.id: row for row in right if row.id in ids}
    overlaps = [Overlap(left=ids[row.id], right=row, similarity=1.0, kind="id") for row in same_id.values()]
    for text, row in rights.items():
        if text in lefts and row.id not in same_id:
            overlaps.append(Overlap(left=lefts[text], right=row, similarity=1.0, kind="text"))
        for other, similarity in index.near(text):
            if other == text:
                continue
            overlaps.append(Overlap(left=lefts[other], right=row, similarity=similarity, kind="near"))
    return overlaps


def require_disjoint(
    train: Sequence[Chat] | Sequence[Document],
    probes: Sequence[Chat] | Sequence[Document],
    *,
    threshold: float = 0.7,
    shown: int = 3,
) -> None:
    """Refuse training rows that are, or nearly are, among the probes.

    Raises:
        DataError: some are; the first pairs are shown.
        ConfigError: the threshold is not above 0 and at most 1.
    """
    overlaps = find_overlap(train, probes, threshold=threshold)
    if overlaps:
        lines = "".join(
            f"\n  {pair.kind} {pair.similarity:.2f}: {pair.left.id} {_short(pair.left)} = {pair.right.id} {_short(pair.right)}"
            for pair in overlaps[:shown]
        )
        raise DataError(
            f"{len(overlaps)} pairs of training and probe rows overlap (same text or near-duplicates); "
            f"remove them from one of the two sets:{lines}"
        )


def _short(row: Chat | Document) -> str:
    text = " ".join(text_of(row).split())
    return ascii(text if len(text) <= 60 else text[:57] + "...")


def _by_text(rows: Iterable[Chat | Document]) -> dict[str, Chat | Document]:
    texts: dict[str, Chat | Document] = {}
    for row in rows:
        texts.setdefault(normalise(text_of(row)), row)
    return texts


class NearIndex:
    """Normalised texts, indexed once, to find those that another text is near.

    Two sets of Jaccard similarity t share at least one of their n - ceil(t * n) + 1 first elements in any one order (prefix
    filtering), so an index of those few alone finds every pair. The order is by rarity among the indexed texts, so that
    common phrases never bring texts together.
    """

    def __init__(self, texts: Iterable[str], threshold: float) -> None:
        """An index of `texts`.

        Raises:
            ConfigError: the threshold is not above 0 and at most 1.
        """
        if not 0 < threshold <= 1:
            raise ConfigError(f"threshold is {threshold}; give a similarity above 0 and at most 1")
        self.threshold = threshold
        self._shingles = {text: of_text for text in texts if len(of_text := shingles(text)) >= MIN_SHINGLES}
        self._counts = Counter(part for of_text in self._shingles.values() for part in of_text)
        self._index: defaultdict[str, list[str]] = defaultdict(list)
        for text, of_text in self._shingles.items():
            for part in self._rarest(of_text):
                self._index[part].append(text)

    def near(self, text: str) -> list[tuple[str, float]]:
        """The indexed texts at least `threshold` like a normalised text, the text itself among them, most alike first."""
        wanted = shingles(text)
        if len(wanted) < MIN_SHINGLES:
            return []
        # A dict, since a set of texts has another order in each process.
        others = dict.fromkeys(other for part in self._rarest(wanted) for other in self._index.get(part, ()))
        scored = [(other, _jaccard(wanted, self._shingles[other])) for other in others]
        return sorted(((o, s) for o, s in scored if s >= self.threshold), key=lambda pair: (-pair[1], pair[0]))

    def _rarest(self, wanted: frozenset[str]) -> list[str]:
        kept = len(wanted) - math.ceil(self.threshold * len(wanted) - 1e-9) + 1
        return sorted(wanted, key=lambda part: (self._counts[part], part))[:kept]


def _jaccard(one: frozenset[str], other: frozenset[str]) -> float:
    shared = len(one & other)
    return shared / (len(one) + len(other) - shared)
