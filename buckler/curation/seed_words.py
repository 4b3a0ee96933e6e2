"""Mine seed words from papers: terms that papers use more than English does, near words of safety, with their sentences.

papers -> candidate terms -> keyness against a background x company of the lexicon -> near-duplicates merged -> YAML
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import yaml
from pydantic import Field

from buckler.curation.lexicon import Background, candidates, key_of, keyness, lemma_of, parts_of, words_of
from buckler.curation.papers import Paper, require_extra
from buckler.data import Json
from buckler.errors import DataError
from buckler.progress import ProgressCallback, no_progress
from buckler.settings import Settings

CERTAIN = 10.83
"""Least keyness: the chi-squared value (one degree of freedom) that chance passes once in a thousand."""

PRIOR = 4
"""Sentences of average company that every term starts with: a term with two sentences proves little."""

ALIKE = 92.0
"""Terms this alike in spelling (rapidfuzz ratio, 100 is equal), with the same initials word by word, are one."""

INSIDE = 0.75
"""A term whose sentences hold a longer one so often is a part of that longer one."""

LONG = 400
"""Characters of a sentence that is shown only where there is no shorter one: mostly a table that lost its lines."""


class MineSettings(Settings):
    """What an extracted list holds."""

    max_terms: int = Field(default=500, ge=1)
    """Maximum number of terms, best first."""
    min_papers: int = Field(default=2, ge=1)
    """Minimum number of papers in which a term occurs."""
    max_words: int = Field(default=4, ge=1, le=8)
    """Maximum number of words in a term."""
    sentences: int = Field(default=3, ge=0)
    """Number of example sentences per term, from different papers first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Extracted:
    """One term and where it came from."""

    term: str
    """In its most common spelling, in lower case."""
    score: float
    """`company` x ln(1 + `keyness`)."""
    keyness: float
    company: float
    papers: int
    count: int
    """Sentences it stands in."""
    also: tuple[str, ...]
    """Spellings, inflections and parts that were merged into it."""
    sentences: tuple[tuple[str, str], ...]
    """File and sentence."""

    def to_json(self) -> dict[str, Json]:
        """An entry that `read_lexicon` reads."""
        value: dict[str, Json] = {"term": self.term, "score": round(self.score, 3), "keyness": round(self.keyness, 1)}
        value |= {"company": round(self.company, 3), "papers": self.papers, "count": self.count}
        if self.also:
            value["also"] = list(self.also)
        value["sentences"] = [{"file": name, "text": text} for name, text in self.sentences]
        return value


@dataclass(slots=True, kw_only=True)
class _Term:
    """A term while it is counted."""

    key: str
    spellings: Counter[str] = field(default_factory=Counter)
    sentences: set[int] = field(default_factory=set)
    merged: list[str] = field(default_factory=list)
    keyness: float = 0.0
    company: float = 1.0

    @property
    def spelling(self) -> str:
        return min(self.spellings, key=lambda one: (-self.spellings[one], one))

    @property
    def score(self) -> float:
        return self.company * math.log1p(self.keyness)

    @property
    def order(self) -> tuple[float, str]:
        return -self.score, self.spelling


def extract_seed_words(
    papers: Sequence[Paper],
    background: Background,
    like: Sequence[str],
    settings: MineSettings,
    progress: ProgressCallback = no_progress,
) -> list[Extracted]:
    """The terms of `papers`, best first; the same papers give the same terms.

    A term's score is `company` x ln(1 + G2): `keyness` (G2) says that it is a term of these papers at all, `company` that it
    is spoken of together with safety, so that "gradient descent" falls below "informed consent".

    Args:
        papers: what to extract from.
        background: general language.
        like: words whose company counts, such as the shipped lexicon; with none, every company is 1.
        settings: what to keep.
        progress: Called after each paper.

    Raises:
        ConfigError: a library of the extra `seeds` is missing.
        DataError: no term is left.
    """
    require_extra()
    if len(papers) < settings.min_papers:
        raise DataError(f"{len(papers)} readable papers, but a term must occur in {settings.min_papers}; lower --min-papers")
    sentences = [(paper.name, sentence) for paper in papers for sentence in paper.sentences]
    size = sum(len(words_of(sentence)) for _, sentence in sentences)
    terms = _collect(papers, settings, progress)
    for term in terms:
        seen = term.spellings.total()
        term.keyness = keyness(seen, size, background.count(term.spellings), background.size)
    terms = [term for term in terms if term.keyness >= CERTAIN]
    if not terms:
        raise DataError(
            f"no term occurs in {settings.min_papers} of the {len(papers)} papers and more often than in the background; "
            "add papers or lower --min-papers"
        )
    if like:
        _keep_company(terms, [sentence for _, sentence in sentences], like)
    best = _join_alike(_fold_parts(terms))[: settings.max_terms]
    return [_finished(term, sentences, settings.sentences) for term in best]


def dump(terms: Sequence[Extracted]) -> str:
    """YAML that `read_lexicon` reads: one category, each entry with its evidence."""
    value = {"mined": [term.to_json() for term in terms]}
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=120)


def _collect(papers: Sequence[Paper], settings: MineSettings, progress: ProgressCallback) -> list[_Term]:
    """The terms that stand in enough papers. In two passes: of the many candidates of one paper only a count is kept."""
    standing: Counter[str] = Counter()
    for at, paper in enumerate(papers, start=1):
        standing.update({key for one in paper.sentences for key, _ in candidates(one, settings.max_words)})
        progress("terms counted", at, len(papers))
    terms: dict[str, _Term] = {}
    before = 0
    for at, paper in enumerate(papers, start=1):
        for place, sentence in enumerate(paper.sentences, start=before):
            for key, spelling in candidates(sentence, settings.max_words):
                if standing[key] >= settings.min_papers:
                    term = terms.setdefault(key, _Term(key=key))
                    term.spellings[spelling] += 1
                    term.sentences.add(place)
        before += len(paper.sentences)
        progress("terms gathered", at, len(papers))
    return list(terms.values())


def _keep_company(terms: Sequence[_Term], sentences: Sequence[str], like: Sequence[str]) -> None:
    """Set every term's `company`: the share of its sentences that hold another word of `like`.

    Smoothed towards the share of all sentences: (hits + PRIOR x share) / (sentences + PRIOR). A word of `like` that is the
    term, a part of it, or holds it, is no company: it would be there by itself.
    """
    keys = {key_of(word) for word in like}
    longest = max(len(parts_of(word)) for word in like)
    held = [_held(sentence, keys, longest) for sentence in sentences]
    share = sum(map(bool, held)) / len(held)
    for term in terms:
        hits = sum(any(one not in term.key and term.key not in one for one in held[at]) for at in term.sentences)
        term.company = (hits + PRIOR * share) / (len(term.sentences) + PRIOR)


def _held(sentence: str, keys: set[str], longest: int) -> set[str]:
    """The words of the lexicon that stand in a sentence, in any inflection."""
    lemmas = [lemma_of(part) for word in words_of(sentence) for part in parts_of(word)]
    spans = ((start, end) for start in range(len(lemmas)) for end in range(start + 1, min(start + longest, len(lemmas)) + 1))
    return {"".join(lemmas[start:end]) for start, end in spans} & keys


def _fold_parts(terms: Sequence[_Term]) -> list[_Term]:
    """Terms without those that are hardly ever said outside a longer one: "informed" goes into "informed consent"."""
    left = {term.key: term for term in terms}
    # Short wholes first, so that what went into one goes on with it into a longer one.
    for whole in sorted(terms, key=lambda one: (len(parts_of(one.spelling)), one.order)):
        for key in _inner_keys(whole.spelling):
            part = left.get(key)
            if part is not None and len(part.sentences & whole.sentences) >= INSIDE * len(part.sentences):
                whole.merged += [*part.spellings, *part.merged]
                del left[key]
    return list(left.values())


def _inner_keys(spelling: str) -> list[str]:
    """The keys of all terms that could stand inside a term, itself left out."""
    lemmas = [lemma_of(part) for part in parts_of(spelling)]
    spans = ((start, start + length) for length in range(1, len(lemmas)) for start in range(len(lemmas) - length + 1))
    return ["".join(lemmas[start:end]) for start, end in spans]


def _join_alike(terms: Sequence[_Term]) -> list[_Term]:
    """Terms, best first, each with those whose spelling is nearly the same and rank lower merged into it.

    Only terms with the same initials word by word are compared: "supervised" and "unsupervised" are alike in spelling only.
    """
    from rapidfuzz import fuzz, process

    kept: defaultdict[str, dict[str, _Term]] = defaultdict(dict)
    for term in sorted(terms, key=lambda one: one.order):
        beside = kept["".join(part[:1] for part in parts_of(term.spelling))]
        nearest = process.extractOne(term.key, list(beside), scorer=fuzz.ratio, score_cutoff=ALIKE)
        if nearest is None:
            beside[term.key] = term
            continue
        head = beside[nearest[0]]
        head.merged += [*term.spellings, *term.merged]
        head.sentences |= term.sentences
    return sorted((term for block in kept.values() for term in block.values()), key=lambda one: one.order)


def _finished(term: _Term, sentences: Sequence[tuple[str, str]], shown: int) -> Extracted:
    turns: Counter[str] = Counter()
    ranks = {}
    for at in sorted(term.sentences, key=lambda one: (len(sentences[one][1]) > LONG, one)):
        ranks[at] = turns[sentences[at][0]]
        turns[sentences[at][0]] += 1
    chosen = sorted(ranks, key=lambda one: (ranks[one], one))[:shown]
    also = [*sorted(term.spellings), *sorted(term.merged)]
    return Extracted(
        term=term.spelling,
        score=term.score,
        keyness=term.keyness,
        company=term.company,
        papers=len(turns),
        count=len(term.sentences),
        also=tuple(dict.fromkeys(one for one in also if one != term.spelling)),
        sentences=tuple(sentences[at] for at in chosen),
    )
