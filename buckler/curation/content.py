"""What a text tells: its content words, and how many of them another text keeps.

Words are compared without their endings, so that "boils barley" keeps "boiled barley". English endings go by rule; words of
other alphabets are compared by their first letters (their endings carry the grammar), and scripts without spaces by pairs
of characters.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Set
from functools import lru_cache

_STOP = frozenset(
    (
        "a also an and are as at be been bring brings but by call called calls can could did do does find finds for found "
        "from get gets give given gives go goes gone got had has have he her him his how i if in into is it its just keep "
        "keeps kept let lets look looks made make makes making may me more most much my need needed needs no not of on or "
        "our people put puts said say says she should so some such take taken takes tell tells than that the their them "
        "then there these they thing things this those to told too use used uses want wants was we were what when where "
        "which who why will with would you your"
    ).split()
)


_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]+")
"""Thai, Lao, Burmese, Khmer, kana and Chinese characters: there no space tells where a word ends."""
_JOINS = "-'\u2019"
_ASCII_GAPS = re.compile("[^a-z0-9'-]+")
_DOUBLED = re.compile(r"([b-df-hj-np-rtv-xz])\1$")
_FIRST_LETTERS = 5
"""What is compared of a word that is not written in Latin letters (Can et al., 2008, found five to serve Turkish)."""


def content_words(text: str) -> set[str]:
    """The words that carry the information, case folded, without endings, function words and one-letter words."""
    return set(content_list(text))


def content_list(text: str) -> list[str]:
    """The same in their order, as often as they stand there (pairs of characters come after the words)."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    spaced = _UNSPACED.sub(" ", folded)
    if spaced.isascii():
        bare = _ASCII_GAPS.sub(" ", spaced)
    else:
        bare = "".join(char if char in _JOINS or unicodedata.category(char)[0] in "LMN" else " " for char in spaced)
    words = (word.strip(_JOINS) for word in bare.split())
    found = [_stem(word) for word in words if word and word not in _STOP and (len(word) > 1 or not word.isascii())]
    for run in _UNSPACED.findall(folded):
        found += [run[at : at + 2] for at in range(max(len(run) - 1, 1))]
    return found


def kept_share(before: str, after: str, known: str = "") -> float:
    """Share of the content words of `before`, without those of `known`, that stand in `after`; 1 if there are none."""
    return share_of(content_words(before) - content_words(known), content_words(after))


def share_of(wanted: Set[str], found: Set[str]) -> float:
    """Share of the wanted words that were found; 1 if none is wanted."""
    return len(wanted & found) / len(wanted) if wanted else 1.0


@lru_cache(maxsize=1 << 16)
def _stem(word: str) -> str:
    if word.isascii():
        return _english_stem(word)
    if "\u0600" <= word[0] <= "\u06ff":
        word = re.sub("^\u0648?(?:\u0627\u0644|\u0644\u0644|\u0628\u0627\u0644)(?=...)", "", word)  # the Arabic article
    return word[:_FIRST_LETTERS] if "LATIN" not in unicodedata.name(word[0], "") else word


def _english_stem(word: str) -> str:
    for ending, least in (("ings", 3), ("ing", 3), ("ied", 2), ("ies", 2), ("ed", 3), ("es", 3), ("ly", 3), ("s", 3)):
        if word.endswith(ending) and len(word) - len(ending) >= least and not word.endswith("ss"):
            word = word[: -len(ending)] + ("y" if ending in ("ied", "ies") else "")
            break
    return _DOUBLED.sub(r"\1", word).removesuffix("e") if len(word) > 3 else word
