"""Answers against gold answers by the rules of the sets' authors: numbers, LaTeX, choices, closed words, spans of text.

A number is the one marked by `####` or `\\boxed{}`, else the last of the answer (GSM8K, arXiv 2110.14168; LLM-Adapters,
arXiv 2304.01933, which lets 0.001 pass); LaTeX is compared as MATH's authors do (arXiv 2103.03874: last box, spelling aside);
a span has SQuAD's F1 (arXiv 1606.05250) against the best of its golds.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Mapping

from buckler.data import Json

_STRICT = re.compile(r"#### (\-?[0-9\.\,]+)")
_FLEXIBLE = re.compile(r"(-?[$0-9.,]{2,})|(-?[0-9]+)")
_CLOSED = (
    r"yes|no",
    r"true|false",
    r"positive|negative",
    *(rf"{name}\d+" for name in ("answer", "solution", "option", "ending")),
)
NEAR = 0.001
"""How far a number may be from its gold (LLM-Adapters, `evaluate.py`)."""
_WHOLE = r"(?:\d{1,3}(?:,\d{3})+|\d{1,2}(?:,\d{2})+,\d{3}|\d+)(?!,\d{3}(?!\d)|\d)"
_FRACTION = r"\\[dt]?frac\s*(?:\{\s*(?P<la>\d+)\s*\}\s*\{\s*(?P<lb>\d+)\s*\}|(?P<lc>\d)(?P<ld>\d))"
_NUMBER = re.compile(
    rf"(?<![\w^\\])(?P<sign>-)?[$\u20ac\u00a3]?(?:"
    rf"(?:(?P<units>\d+)\s*)?{_FRACTION}"
    rf"|(?:(?P<mixed>\d+)\s+)?(?P<top>{_WHOLE})\s?/\s?(?P<bottom>\d+)(?![\d/])"
    rf"|(?P<plain>{_WHOLE}(?:\.\d+)?|\.\d+)(?:[eE](?P<e>[+-]?\d{{1,3}})(?!\w)"
    rf"|\s*(?:\u00d7|\\times|\*)\s*10\s*\^\s*\{{?(?P<power>-?\d{{1,3}})\}}?)?)"
)
_VULGAR = re.compile(r"(?<=\d)(?=[\u00bc-\u00be\u2150-\u215e])")
_UNIT = re.compile(r"\s*(?:%|\\%|[\u00b0/\\]?\s*[^\W\d_][^\d=+*<>]*(?:\^?\{?\d\}?)?)?[\s.]*")


def strict_match(text: str, gold: str) -> bool:
    """Whether the first number after `#### ` is `gold` (filter `strict-match` of the harness' task gsm8k)."""
    match = _STRICT.search(text)
    return match is not None and _number(match[1]) == _number(gold)


def flexible_match(text: str, gold: str) -> bool:
    """Whether the last number of the answer is `gold`, as text (filter `flexible-extract` of the harness)."""
    numbers = [match[0] for match in _FLEXIBLE.finditer(text)]
    return bool(numbers) and _number(numbers[-1]) == _number(gold)


def _number(text: str) -> str:
    """A number as the harness compares it: as text, without commas, dollar signs, and one full stop at its end."""
    return re.sub(r"\.$", "", re.sub(r"[,$]", "", text.strip())).lower()


def numbers_in(text: str) -> Iterator[tuple[float, int, int]]:
    """Every number with its place: thousands separators, fractions, powers of ten; no exponent, and no digit of a name (`m2`)."""
    for found in _NUMBER.finditer(text):
        part = found.groupdict()
        top, bottom = part["la"] or part["lc"] or part["top"], part["lb"] or part["ld"] or part["bottom"]
        if top is not None and bottom is not None:
            if not float(bottom):
                continue
            value = float(part["units"] or part["mixed"] or 0) + float(top.replace(",", "")) / float(bottom)
        else:
            value = float(f"{part['plain'].replace(',', '')}e{part['e'] or part['power'] or 0}")
        yield (-value if part["sign"] else value), found.start(), found.end()


def _plain(text: str) -> str:
    """Digits, minus signs, fractions and LaTeX's separators in one spelling."""
    text = re.sub(r"(?<=\d)[\u00a0\u2009\u202f'\u2019](?=\d{3}(?!\d))", "", _VULGAR.sub(" ", text))
    folded = unicodedata.normalize("NFKC", text).replace("\u2044", "/").replace("\u2212", "-")
    return re.sub(r"(?<=\d)(?:\\,|\\!)(?=\d)", "", folded.replace("{,}", ",").replace("\\$", "$"))


def number_of(gold: str) -> float | None:
    """The number that a gold answer is, also with a currency before or a unit behind it; None for any other text."""
    text = _plain(gold.strip()).strip().strip("$").strip()
    for value, start, end in numbers_in(text):
        alone = start == 0 or (start == 1 and text[0] in "$+")
        return value if alone and _UNIT.fullmatch(text, end) else None
    return None


def boxed(text: str) -> str | None:
    r"""What the last `\boxed{...}` holds; None if there is none that is closed."""
    for found in reversed(list(re.finditer(r"\\f?boxed\s*(?:\{| (?=\S))", text))):
        if not found[0].endswith("{"):
            return re.split(r"\$|\s", text[found.end() :], maxsplit=1)[0]
        depth = 1
        for at in range(found.end(), len(text)):
            depth += (text[at] == "{") - (text[at] == "}")
            if not depth:
                return text[found.end() : at]
    return None


def _marked(text: str) -> str | None:
    """The answer that is marked as such."""
    after = re.search(r"####\s*(\S[^\n]*)", text)
    return after[1] if after else boxed(text)


def number_match(text: str, gold: str) -> bool:
    """Whether the answer's number is `gold`, by value: the marked one, else the last one."""
    wanted, marked = number_of(gold), _marked(text)
    if wanted is None:
        return text_match(text, gold)
    found = [value for value, _, _ in numbers_in(_plain(text if marked is None else marked))]
    return bool(found) and abs(found[-1 if marked is None else 0] - wanted) <= NEAR


def math_match(text: str, gold: str) -> bool:
    """Whether the answer's box, or what it says the answer is, is `gold`: as LaTeX without its spelling, or as a number."""
    stated, wanted = _statement(text), boxed(gold) or gold
    if _latex(stated) == _latex(wanted):
        return True
    value, numbers = number_of(wanted), [number for number, _, _ in numbers_in(_plain(stated))]
    if value is None or not numbers:
        return False
    given = number_of(stated)
    number = numbers[-1] if given is None and _marked(text) is None else given
    return number is not None and abs(number - value) <= 1e-6 * max(1.0, abs(value))


def _statement(text: str) -> str:
    if (marked := _marked(text)) is not None:
        return marked
    statements = re.findall(r"\banswer\s*(?:is|:|=)\s*:?\s*(.+)", text, re.IGNORECASE)
    last = statements[-1] if statements else next(iter(re.findall(r"\$([^$]+)\$\W*$", text)), text)
    return re.sub(r"[.!\s]+$", "", last.strip().replace("**", "")).strip("$ ")


def _latex(text: str) -> str:
    """One spelling of LaTeX, after `_strip_string` of MATH's authors."""
    text = re.sub(r"\\text(?:rm|bf|it)?\{([^{}]*)\}|\\mathrm\{([^{}]*)\}", r"\1\2", _plain(text.strip().strip("$")))
    text = re.sub(r"\\(?:left|right|displaystyle)(?![a-z])|\\[!,;: ]|\^\{?\\circ\}?|\\?[$%]|\s+", "", text)
    text = re.sub(r"\\[dt]frac", r"\\frac", text).rstrip(".")
    text = re.sub(r"\\frac([^{\\])([^{\\])", r"\\frac{\1}{\2}", re.sub(r"\\frac(\d)\{", r"\\frac{\1}{", text))
    text = re.sub(r"\\sqrt([^{\\])", r"\\sqrt{\1}", text)
    text = re.sub(r"^(-?\d+)/(-?\d+)$", r"\\frac{\1}{\2}", re.sub(r"(?<!\d)\.(?=\d)", "0.", text))
    return re.sub(r"^[a-zA-Z]=(?=.)", "", re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", text)).casefold()


def closed_match(text: str, gold: str) -> bool:
    """Whether the first of the words that could answer is `gold`: yes or no, true or false, answer1, answer2, ...

    This is how LLM-Adapters reads its models' answers (arXiv 2304.01933), with whole words and case aside.
    """
    words = next((words for words in _CLOSED if re.fullmatch(words, gold, re.IGNORECASE)), re.escape(gold))
    match = re.search(rf"\b(?:{words})\b", text, re.IGNORECASE)
    return match is not None and match[0].casefold() == gold.casefold()


def text_match(text: str, gold: str) -> bool:
    """Whether the words of `gold` stand in the answer, one after the other, without articles, case and punctuation."""
    wanted = _words(gold)
    return bool(wanted) and f" {' '.join(wanted)} " in f" {' '.join(_words(text))} "


def span_match(text: str, gold: str) -> float:
    """SQuAD's F1 over the words of an answer and its gold."""
    given, wanted = _words(text), _words(gold)
    if not given or not wanted:
        return float(given == wanted)
    return 2 * (Counter(given) & Counter(wanted)).total() / (len(given) + len(wanted))


def _words(text: str) -> list[str]:
    bare = "".join(char for char in text.casefold() if char not in string.punctuation)
    return re.sub(r"\b(?:a|an|the)\b", " ", bare).split() or bare.split()


def letter_in(text: str, labels: Mapping[str, Json]) -> str | None:
    """The label that an answer chooses: alone, called the answer, at the beginning of a line, in brackets, or the last."""
    names = {label.casefold(): label for label in labels}
    marked = _marked(text)
    whole = re.sub(r"\\text\{([^{}]*)\}", r"\1", text if marked is None else marked)
    bare = whole.strip(" \t\n.()[]*:\"'")
    if bare.casefold() in names:
        return names[bare.casefold()]
    one = "(" + "|".join(re.escape(label) for label in sorted(labels, key=len, reverse=True)) + ")"
    ends = r"(?![\w'\u2019])(?!\s+[a-z])"
    ways = (
        rf"(?i:answer|choice|option|letter)\W*(?i:(?:is|would be|should be)\W+)?(?i:(?:option|choice)\W+)?{one}{ends}",
        rf"^\W*{one}(?:[.):\]*]|\s*$)",
        rf"[(\[]{one}[)\]]",
        rf"(?<![\w'\u2019]){one}{ends}",
    )
    for at, way in enumerate(ways):
        if found := re.findall(way, whole, re.MULTILINE):
            return names[str(found[0 if at == 1 else -1]).casefold()]
    return None


def choice_match(text: str, gold: str, choices: Mapping[str, Json]) -> bool:
    """Whether the answer chooses `gold`: by its label, else as the only choice whose words stand in it."""
    if not all(len(label) == 1 or label.isdigit() for label in choices):
        return closed_match(text, gold)
    if (label := letter_in(text, choices)) is not None:
        return label == gold
    stated = {label: f" {' '.join(_words(str(one)))} " for label, one in choices.items() if text_match(text, str(one))}
    longest = [label for label, one in stated.items() if not any(one != other and one in other for other in stated.values())]
    return longest == [gold]


def kind_match(text: str, gold: str) -> bool:
    """By what the gold is: a number, a letter (AQuA's A to E), a closed word, else words that must stand in the answer."""
    if re.fullmatch(r"\(?[A-J]\)?", gold.strip()):
        return choice_match(text, gold.strip(" ()"), dict.fromkeys("ABCDEFGHIJ", ""))
    if number_of(gold) is not None:
        return number_match(text, gold)
    return closed_match(text, gold) if any(re.fullmatch(one, gold, re.IGNORECASE) for one in _CLOSED) else text_match(text, gold)


def _right(match: Callable[[str, str], bool]) -> Callable[[str, str], float]:
    return lambda text, gold: float(match(text, gold))


BY_CHOICE = ("arc commonsenseqa mmlu mmlu-rows piqa truthfulqa-choice comve-a comve-b hellaswag winogrande siqa choices").split()
"""Formats whose rows have choices."""
EXACT: dict[str, Callable[[str, str], float]] = {
    **dict.fromkeys(("gsm8k", "word-problem"), _right(number_match)),
    **dict.fromkeys(("boolq", "csqa2", "sst2"), _right(closed_match)),
    **dict.fromkeys(BY_CHOICE, _right(kind_match)),
    "llm-adapters": _right(kind_match),
    "math": _right(math_match),
    "squad": span_match,
}
"""By the format of the rows: how well an answer meets `meta["gold"]`, from 0 to 1; with `meta["choices"]`, which it chooses."""


def gold_score(text: str, meta: Mapping[str, Json], scorer: Callable[[str, str], float]) -> float | None:
    """How well an answer meets the gold of its probe, the best of several; None where the probe brings none."""
    gold, choices = meta.get("gold"), meta.get("choices")
    if isinstance(choices, Mapping) and isinstance(gold, str):
        return float(choice_match(text, gold, choices))
    golds = [gold] if isinstance(gold, str) else gold if isinstance(gold, list | tuple) else []
    return max((scorer(text, one) for one in golds if isinstance(one, str)), default=None)
