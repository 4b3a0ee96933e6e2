"""The lexicon of seed words, and what a term of a text is.

Seed words are safety words and phrases that a revision is asked to work in, by category (arXiv 2410.02220, step 1):
`read_lexicon` reads them, `draw` draws some for one revision. `candidates`, `keyness` and the backgrounds say which terms a
text uses more than general English does: what `extract` finds new seed words by.
"""

from __future__ import annotations

import math
import random
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Protocol

from buckler.curation.papers import Paper
from buckler.data.yaml_text import read_yaml
from buckler.errors import ConfigError

LEXICON = Path(__file__).with_name("lexicon.yaml")
_WORD = re.compile(r"(?<!\w)[^\W\d_]+(?:['-][^\W\d_]+)*(?!\w)")
_LINKS = frozenset("of to in by for with on".split())
"""Function words that may stand inside a term ("duty of care"), never at its ends."""

_EMPTY = frozenset(
    """a about above across after again against all almost along already also although always am among an and another any are
    around as at be became because been before behind being below between both but by can cannot could did do does doing done
    down during each either else enough especially etc even ever every few for from further had has have having he hence her
    here hers him his how however i if in indeed instead into is it its itself just least less let like many may me might more
    moreover most much must my neither never nevertheless no nor not nothing now of off often on once one only onto or other
    others our ours out over own per perhaps quite rather same see several shall she should show shows since so some still such
    than that the their theirs them then there thereby therefore these they this those though through throughout thus to
    together too toward towards two under unless until up upon us use used uses using very via was we well were what when where
    whereas whether which while who whom whose why will with within without would yet you your yours
    al eq et fig figure ie eg sec section table appendix arxiv preprint""".split()
)


def read_lexicon(path: Path = LEXICON) -> dict[str, list[str]]:
    """Words by category from a YAML file of lists.

    An entry is a word or phrase, or a mapping that names it `term`: what `buckler seeds` writes, with its evidence beside it.
    An entry that stood before is left out, so that each word is drawn as often as any other.

    Raises:
        ConfigError: it is not a mapping of names to lists, an entry is neither shape, or there are no words.
    """
    value = read_yaml(path)
    if not isinstance(value, dict) or not all(isinstance(words, list) for words in value.values()):
        raise ConfigError(f"{path}: expected categories with lists of words, such as `care: [be careful, check first]`")
    seen: set[str] = set()
    lexicon: dict[str, list[str]] = {}
    for name, entries in value.items():
        words = [_word(entry, f"{path}: {name}, entry {at}") for at, entry in enumerate(entries, start=1)]
        lexicon[str(name)] = [word for word in dict.fromkeys(words) if word not in seen]
        seen.update(words)
    if not seen:
        raise ConfigError(f"{path}: contains no seed words")
    return lexicon


def _word(entry: object, where: str) -> str:
    word = entry.get("term") if isinstance(entry, Mapping) else entry
    if not isinstance(word, str) or not word.strip():
        raise ConfigError(f"{where}: expected a word, or a mapping with `term`, got {entry!r}; a word such as no needs quotes")
    return word.strip()


def draw(words: Sequence[str], count: int, *, seed: int, row: str, turn: int) -> list[str]:
    """`count` different words for one revision of one row: the draw depends on nothing else."""
    rng = random.Random(f"words:{seed}:{row}:{turn}")
    return rng.sample(list(words), min(count, len(words)))


class Background(Protocol):
    """General language, to compare with."""

    @property
    def size(self) -> float:
        """Words in all."""

    def count(self, spellings: Collection[str]) -> float:
        """How often a term stands in it, given the spellings and inflections that were seen of the term."""


class CommonEnglish:
    """Frequencies of English words of web, books, news, subtitles and encyclopaedias (the library wordfreq).

    It knows single words only. A phrase is at most as common as its rarest word, so that word's frequency stands for it and
    its keyness comes out too low, never too high. The frequencies are taken as counts in a billion words.
    """

    size = 1e9

    def count(self, spellings: Collection[str]) -> float:
        """The counts of each spelling's rarest word, added up."""
        from wordfreq import word_frequency

        return self.size * sum(min(word_frequency(word, "en") for word in parts_of(one)) for one in sorted(spellings))


class Texts:
    """A background of one's own: papers, articles, anything that is not about safety."""

    def __init__(self, papers: Sequence[Paper], max_words: int) -> None:
        every = [sentence for paper in papers for sentence in paper.sentences]
        self.size = float(sum(len(words_of(sentence)) for sentence in every))
        self._counts = Counter(key for sentence in every for key, _ in candidates(sentence, max_words))

    def count(self, spellings: Collection[str]) -> float:
        """How often the term stands in the texts, in any inflection."""
        return float(sum(self._counts[key] for key in {key_of(spelling) for spelling in spellings}))


def candidates(sentence: str, max_words: int) -> Iterator[tuple[str, str]]:
    """Every possible term of a sentence as its key and its spelling in lower case.

    A term lies between punctuation marks, begins and ends with a content word, and holds no other function word than "of",
    "to", "in", "by", "for", "with", "on".
    """
    for run in _runs(sentence):
        for start, first in enumerate(run):
            if not _carries(first):
                continue
            for end in range(start, min(start + max_words, len(run))):
                last = run[end]
                if _carries(last) and (end > start or len(last) > 2):
                    spelling = " ".join(run[start : end + 1]).removesuffix("'s")
                    yield key_of(spelling), spelling
                elif last in _EMPTY and last not in _LINKS:
                    break


def words_of(text: str) -> list[str]:
    """The words of a text; a hyphen or an apostrophe inside a word belongs to it."""
    return _WORD.findall(text)


def parts_of(term: str) -> list[str]:
    """The words of a term in lower case, those between hyphens too."""
    return re.split(r"[ -]", term.lower())


@lru_cache(maxsize=2**16)
def lemma_of(word: str) -> str:
    """The dictionary form of an English word; a word that is in no dictionary stays as it is."""
    from simplemma import lemmatize

    return lemmatize(word.lower().removesuffix("'s"), "en").lower()


@lru_cache(maxsize=2**18)
def key_of(term: str) -> str:
    """What spellings of one term share: the lemmas of its words, joined ("Fine-tuned models" and "finetune model")."""
    return "".join(lemma_of(word) for word in parts_of(term))


def keyness(a: float, n: float, b: float, m: float) -> float:
    """Dunning's log-likelihood ratio G2 (1993) of `a` in `n` words against `b` in `m`; negative where the term is rarer.

    G2 = 2 sum O ln(O / E) over the four cells a, b, n - a, m - b, with E = row total x column total / (n + m). Under no
    difference it is distributed as chi-squared with one degree of freedom.
    """
    total, hits = n + m, a + b
    cells = ((a, n * hits), (b, m * hits), (n - a, n * (total - hits)), (m - b, m * (total - hits)))
    g2 = 2 * sum(seen * math.log(seen * total / expected) for seen, expected in cells if seen > 0)
    return g2 if a * m >= b * n else -g2


def _carries(word: str) -> bool:
    return len(word) > 1 and word not in _EMPTY


def _runs(sentence: str) -> Iterator[list[str]]:
    """Words in lower case between marks of punctuation."""
    run: list[str] = []
    end = 0
    for match in _WORD.finditer(sentence):
        if sentence[end : match.start()].strip():
            yield run
            run = []
        run.append(match.group().lower())
        end = match.end()
    yield run
