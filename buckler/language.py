"""Which scripts and which language a text is written in, so that a revision or an answer in another one is seen.

Scripts come from the names of the characters. Languages that share a script are told apart by their function words: few
words (`languages.json`), but in every sentence, and a text of made-up or rare words keeps them. What is not clear is None,
never a guess.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files

_FAMILY = {"HIRAGANA": "CJK", "KATAKANA": "CJK", "KATAKANA-HIRAGANA": "CJK"}
"""Japanese mixes these freely, so that their shares say nothing."""

LEAST_HITS = 3
"""Function words that a language must have in a text to be its language."""
LEAST_SHORT = 2
"""Function words that a question must have to show that it is not in a certain other language."""
LEAST_SHARE = 0.12
"""Their least share of the words; running text has 0.3 and more, a list of nouns far less."""
LEAST_LEAD = 2.0
"""How many times the hits of the next language."""


def scripts(text: str) -> dict[str, float]:
    """Share of each script among the letters of `text`; empty if there are none."""
    found: Counter[str] = Counter()
    for char, times in Counter(text).items():
        if char.isalpha():
            name = unicodedata.name(char, "UNKNOWN").split(" ")[0]
            name = "LATIN" if name in ("FEMININE", "MASCULINE", "FULLWIDTH") else name
            found[_FAMILY.get(name, name)] += times
    return {name: times / found.total() for name, times in found.items()}


def script_distance(one: str, other: str) -> float:
    """Half the summed differences of the scripts' shares: 0 for one mix, 1 for nothing in common; 0 where one has no letters."""
    here, there = scripts(one), scripts(other)
    if not here or not there:
        return 0.0
    return sum(abs(here.get(name, 0.0) - there.get(name, 0.0)) for name in here.keys() | there.keys()) / 2


def language(text: str) -> str | None:
    """The two-letter code of the language of `text`; None where it is not clear or not one of those known here."""
    written = scripts(text)
    if written.get("CJK", 0.0) > 0.5:
        kana = len(re.findall("[\u3041-\u3096\u30a1-\u30fa]", text))
        han = len(re.findall("[\u3400-\u9fff]", text))
        return None if kana + han < 8 else "ja" if kana > 0.2 * (kana + han) else "zh" if kana == 0 else None
    words = _words(text)
    (first, most), (_, next_most) = _hits(words).most_common(2)
    if most < max(LEAST_HITS, LEAST_SHARE * len(words)) or most < LEAST_LEAD * next_most:
        return None
    return first


def strayed(question: str, answer: str) -> str:
    """How an answer is in another language or script than its question; "" if it is not, or if that is not clear.

    A question is often too short to tell its language among all; that it is not the answer's language shows in fewer words.
    """
    now, asked = language(answer), language(question)
    if now is not None and asked is None:
        hits = _hits(_words(question))
        (first, most), *_ = hits.most_common(1)
        asked = first if most >= LEAST_SHORT and most >= LEAST_LEAD * hits[now] else None
    if now is not None and asked is not None:
        return f"in another language: {now}, asked in {asked}" if now != asked else ""
    written, wanted = _script(answer, 8), _script(question, 4)
    # a question with a little of the answer's script may well be in it: names of firms outweigh a few Chinese characters
    if written is None or wanted is None or scripts(question).get(written, 0.0) > 0.1:
        return ""
    return f"in another script: {written.lower()}, asked in {wanted.lower()}"


def _script(text: str, least: int) -> str | None:
    """The script of most letters of a text, if it has as many letters as that."""
    if sum(map(str.isalpha, text)) < least:
        return None
    return next((name for name, share in scripts(text).items() if share > 0.5), None)


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W\d_]+", text.lower())


def _hits(words: Sequence[str]) -> Counter[str]:
    """How many of the words are function words of each language."""
    return Counter({code: sum(word in known for word in words) for code, known in _function_words().items()})


@cache
def _function_words() -> Mapping[str, frozenset[str]]:
    text = files("buckler").joinpath("languages.json").read_text(encoding="utf-8")
    return {code: frozenset(words.split()) for code, words in json.loads(text).items()}
