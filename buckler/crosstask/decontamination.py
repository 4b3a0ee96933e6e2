"""Documents that say the same, or nearly: each kept once, and never on both sides of train and test, whatever the task."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from buckler.data import Chat, Document, content_id
from buckler.data.near_duplicates import find_overlap, normalise, require_disjoint
from buckler.data.truncation import document_span
from buckler.errors import ConfigError

NEAR = 0.7
"""The Jaccard similarity of word triples from which two documents are one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Documents to train with and documents to test with."""

    train: list[Document]
    test: list[Document]


def near_duplicates(
    documents: Sequence[Document], near: float | None = NEAR, test_documents: Sequence[Document] = ()
) -> Iterator[tuple[Document, str, str]]:
    """Each document with the reason why it is left out ("" where it stays) and what it is alike.

    Documents are gone through by id: one stays unless it is near one of `test_documents` or one that stays. So which one of two
    stays does not depend on their order, and of three in a chain both ends may stay.
    """
    threshold = near or 1.0
    outside = {pair.left.id: pair for pair in find_overlap(documents, test_documents, threshold=threshold)}
    alike: defaultdict[str, list[tuple[str, float]]] = defaultdict(list)
    if near is not None:
        for pair in find_overlap(documents, documents, threshold=near):
            if pair.kind == "near":
                alike[pair.left.id].append((pair.right.id, pair.similarity))
    kept: set[str] = set()
    for document in sorted(documents, key=lambda one: one.id):
        if document.id in outside:
            overlap = outside[document.id]
            yield document, "is in the test", f"{overlap.right.id} ({overlap.similarity:.2f} alike)"
            continue
        twin = next(((other, score) for other, score in sorted(alike[document.id]) if other in kept), None)
        if twin is None:
            kept.add(document.id)
            yield document, "", ""
        else:
            yield document, "nearly the same as another", f"{twin[0]} ({twin[1]:.2f} alike)"


def split(documents: Sequence[Document], share: float, seed: int, *, near: float = NEAR) -> Split:
    """`share` of the documents of each label for the test, by content: near-duplicates always fall on one side.

    Groups of documents that hang together by nearness, of whatever labels, are ordered by the hash of seed and content and
    go to the test until each label has its share there, so the order the documents come in does not count. A group is
    never torn, so the share is met to within the size of a group.

    Raises:
        ConfigError: the share is not between 0 and 1.
    """
    if not 0 <= share <= 1:
        raise ConfigError(f"share is {share}; it must be the fraction of documents for the test, from 0 to 1")
    groups = near_groups(documents, near)
    wanted = {label: share * len(of_label) for label, of_label in _by_label(documents).items()}
    parts = Split(train=[], test=[])
    for group in sorted(groups, key=lambda one: content_id([seed, normalise(one[0].text)])):
        has = {label: len(of_label) for label, of_label in _by_label(parts.test).items()}
        room = all(has.get(label, 0) + len(of_label) / 2 <= wanted[label] for label, of_label in _by_label(group).items())
        (parts.test if room else parts.train).extend(group)
    for part in (parts.train, parts.test):
        part.sort(key=lambda one: one.id)
    return parts


def near_groups(documents: Sequence[Document], near: float = NEAR) -> list[list[Document]]:
    """The documents in groups that hang together: the same text, or at least `near` alike, directly or through others."""
    texts: defaultdict[str, list[Document]] = defaultdict(list)
    for document in sorted(documents, key=lambda one: one.id):
        texts[normalise(document.text)].append(document)
    head = {text: text for text in sorted(texts)}

    def top(text: str) -> str:
        while head[text] != text:
            head[text] = head[head[text]]
            text = head[text]
        return text

    firsts = [same_text[0] for same_text in texts.values()]
    for pair in find_overlap(firsts, firsts, threshold=near):
        if pair.kind == "near" and isinstance(pair.left, Document) and isinstance(pair.right, Document):
            one, other = sorted((top(normalise(pair.left.text)), top(normalise(pair.right.text))))
            head[other] = one
    groups: defaultdict[str, list[Document]] = defaultdict(list)
    for text in head:
        groups[top(text)] += texts[text]
    return [sorted(group, key=lambda one: one.id) for group in groups.values()]


def document_in(row: Chat) -> str | None:
    """The document that stands in a row or probe, by the place its meta tells; None where it tells none."""
    span = document_span(row)
    return None if span is None else row.query[span[0] : span[1]]


def documents_in(rows: Sequence[Chat]) -> list[Document]:
    """The documents of rows or probes, each once; rows without one are passed over."""
    documents = {}
    for row in rows:
        text = document_in(row)
        if text is not None:
            documents[text] = Document.of(text)
    return list(documents.values())


def require_disjoint_documents(rows: Sequence[Chat], probes: Sequence[Chat], *, threshold: float = NEAR) -> None:
    """Refuse training rows over a document that a probe is over too, in whatever task, wording or case.

    `require_disjoint` on the rows themselves compares whole questions: over a short document two tasks' instructions make most
    of the words, and the same document passes for another question.

    Raises:
        DataError: some share a document; the first pairs are shown.
    """
    require_disjoint(documents_in(rows), documents_in(probes), threshold=threshold)


def _by_label(documents: Sequence[Document]) -> dict[str, list[Document]]:
    by_label: defaultdict[str, list[Document]] = defaultdict(list)
    for document in documents:
        by_label[str(document.meta.get("label"))].append(document)
    return dict(by_label)
