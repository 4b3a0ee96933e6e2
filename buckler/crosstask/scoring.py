"""How an answer to a task is scored against a reference: every metric is from 0 to 1, higher is better.

The reference is the data's own, or the undefended model's answer: then a score is agreement with that model. Counting is
done by rouge-score and sacrebleu; what is here is how labels are read, and a longest common subsequence that is quick
enough for whole documents (difflib takes 2.7 s on 10,000 characters, this 0.03 s on 20,000).
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

from buckler.data.language import language_code

Metric: TypeAlias = Literal["rouge_l", "chrf", "bleu", "accuracy", "edit"]
Labels: TypeAlias = Mapping[str, Sequence[str]]
"""Labels an answer may name, each with its spellings. One-letter capitals are read as the letters of a choice."""
SPAN = 6
"""A reference of at most so many words is a fact that the answer has or has not; a longer one is compared word by word."""
NEGATION_REACH = 3
"""How many words before a label a "not" may stand and still deny it."""

_NEGATIONS = frozenset("not no never neither nor without hardly nothing than cannot".split())
_BOUNDARY = frozenset((*".,;:!?()\n", "but", "however"))
_ARTICLES = frozenset(("a", "an", "the"))
_TOKEN = re.compile(r"\w+|[.,;:!?()\n]")
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
_BLEU_TOKENIZERS = {"zh": "zh", **dict.fromkeys(("ja", "ko", "th", "lo", "my", "km"), "char")}
"""By target language. sacrebleu's own tokenizers for Japanese and Korean need dictionaries that are not installed with it."""


def score(metric: Metric, answer: str, reference: str, *, labels: Labels | None = None, language: str = "") -> float:
    """How well `answer` agrees with `reference` by `metric`; an empty answer or reference scores 0.

    Args:
        metric: `rouge_l`: F1 of the longest common subsequence of words; `chrf`: character n-gram F2; `bleu`: sentence BLEU
            with effective order; `accuracy`: the same label, or the same short answer; `edit`: `similarity`, case counts.
        answer: The model's.
        reference: The data's, or another model's answer.
        labels: For `accuracy`: what is to be named.
        language: For `bleu`: the name of the language both are in.
    """
    answer, reference = (unicodedata.normalize("NFC", one).strip() for one in (answer, reference))
    if not answer or not reference:
        return 0.0
    if metric == "rouge_l":
        return _rouge_l(answer, reference)
    if metric == "chrf":
        return _chrf(answer, reference)
    if metric == "bleu":
        return _bleu(answer, reference, language)
    return _accuracy(answer, reference, labels or {}) if metric == "accuracy" else similarity(answer, reference)


def similarity(one: str, other: str) -> float:
    """Share of the characters of both texts that stand in their longest common subsequence; 1 for two empty texts."""
    total = len(one) + len(other)
    return 2 * _common(one, other) / total if total else 1.0


def label_named(text: str, labels: Labels) -> str | None:
    """The one label that `text` names; None where it names none, or several.

    A spelling counts as whole words, case aside, unless it is denied ("not positive", "neither ... nor", "rather than").
    One-letter labels count as a choice is written ("B", "(B)", "B. Sci/Tech", "the answer is B"), so that the article in "A
    story about sport" is no choice; where letters are given the spellings only confirm them.
    """
    names = {label for label, spellings in labels.items() if _affirmed(text, spellings)}
    letters = _letters(text, labels)
    if letters:
        return letters.pop() if len(letters) == 1 and (not names or letters & names) else None
    return names.pop() if len(names) == 1 else None


def words(text: str) -> list[str]:
    """The words of a text in any script, lower-cased; scripts without spaces give one word a character.

    On ASCII text they are rouge-score's own.
    """
    parts: list[str] = []
    run = ""
    for char in (*text.lower(), " "):
        spaced = _UNSPACED.match(char) is None
        # Vowel signs are marks, not letters, and belong to their word.
        if spaced and (char.isalnum() or (run and unicodedata.category(char)[0] == "M")):
            run += char
            continue
        if run:
            parts.append(run)
            run = ""
        if not spaced and unicodedata.category(char)[0] in "LMN":
            parts.append(char)
    return parts


class _Stems:
    """`words` with rouge-score's stemming of English, as its scorer wants its tokenizer."""

    def __init__(self) -> None:
        from rouge_score.tokenizers import DefaultTokenizer

        self._english = DefaultTokenizer(use_stemmer=True)

    def tokenize(self, text: str) -> list[str]:
        return [part for word in words(text) for part in (self._english.tokenize(word) if word.isascii() else (word,))]


def _rouge_l(answer: str, reference: str) -> float:
    from rouge_score.rouge_scorer import RougeScorer

    return float(RougeScorer(["rougeL"], tokenizer=_Stems()).score(reference, answer)["rougeL"].fmeasure)


def _chrf(answer: str, reference: str) -> float:
    from sacrebleu.metrics import CHRF

    return min(1.0, float(CHRF().sentence_score(answer, [reference]).score) / 100)


def _bleu(answer: str, reference: str, language: str) -> float:
    from sacrebleu.metrics import BLEU

    tokenizer = _BLEU_TOKENIZERS.get(language_code(language) or "", "13a")
    return min(1.0, float(BLEU(effective_order=True, tokenize=tokenizer).sentence_score(answer, [reference]).score) / 100)


def _accuracy(answer: str, reference: str, labels: Labels) -> float:
    """Same label as the reference names; where that names none, found or not (short), else F1 over words (as SQuAD's)."""
    wanted = label_named(reference, labels)
    if wanted is not None:
        return float(label_named(answer, labels) == wanted)
    given_label, gold_label = (_bare(one) for one in (answer, reference))
    if not gold_label or any(
        given_label[at : at + len(gold_label)] == gold_label for at in range(len(given_label) - len(gold_label) + 1)
    ):
        return float(bool(gold_label))
    if len(gold_label) <= SPAN:
        return 0.0
    return 2 * (Counter(given_label) & Counter(gold_label)).total() / (len(given_label) + len(gold_label))


def _bare(text: str) -> list[str]:
    """Words without articles, unless there is nothing else."""
    parts = words(text)
    return [word for word in parts if word not in _ARTICLES] or parts


def _affirmed(text: str, spellings: Sequence[str]) -> bool:
    tokens = _tokens(text)
    for spelling in spellings:
        wanted = [token for token in _tokens(spelling) if token not in _BOUNDARY]
        for at in range(len(tokens) - len(wanted) + 1):
            if tokens[at : at + len(wanted)] == wanted and not _denied(tokens[:at]):
                return True
    return False


def _denied(before: Sequence[str]) -> bool:
    for token in reversed(before[-NEGATION_REACH:]):
        if token in _BOUNDARY:
            return False
        if token in _NEGATIONS:
            return True
    return False


def _tokens(text: str) -> list[str]:
    straight = text.lower().replace("\u2019", "'").replace("_", " ")
    return _TOKEN.findall(re.sub(r"n't\b", " not", straight))


def _letters(text: str, labels: Labels) -> set[str]:
    """Which one-letter labels are chosen."""
    letters = "".join(label for label in labels if re.fullmatch("[A-Z]", label))
    if not letters:
        return set()
    names = "|".join(re.escape(name) for spellings in labels.values() for name in spellings) or "(?!)"
    one, named = f"([{letters}])", rf"\W+(?i:{names})\b"
    lead = r"\b(?i:option|choice|answer|topic|category|letter|is)\W+(?:(?i:is|would be)\W+)?"
    ways = (
        rf"^\W*{one}(?=\W*$|[.)\]:]|{named})",  # stands alone, or opens a line as an item does
        rf"(?<!\w){one}\)",
        rf"{lead}{one}(?=\W*$|[.,;]|{named})",
    )
    return {letter for way in ways for letter in re.findall(way, text, re.MULTILINE)}


def _common(one: str, other: str) -> int:
    """Length of the longest common subsequence, a machine word of columns at a time.

    Source: Hyyro, Bit-parallel LCS-length computation revisited, 2004. A zero bit is a column where the length grows.
    """
    long, short = (one, other) if len(one) >= len(other) else (other, one)
    places: dict[str, int] = {}
    for at, char in enumerate(long):
        places[char] = places.get(char, 0) | 1 << at
    full = row = (1 << len(long)) - 1
    for char in short:
        kept = row & places.get(char, 0)
        row = ((row + kept) | (row - kept)) & full
    return len(long) - row.bit_count()
