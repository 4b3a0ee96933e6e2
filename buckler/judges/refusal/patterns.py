"""Compiled patterns that are searched only in texts that hold the words without which they cannot match.

Most sentences hold none of them, and looking for a word is far cheaper than a search. What a pattern needs is found from its own
parse tree: sets of texts, of each of which every match holds one. A pattern of alternatives is searched for those alone whose
words are there; the leftmost match wins, and of several at one place the first alternative, as in the whole pattern. Searches
give what they would give without all this.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from math import exp
from typing import Any

MOST = 64
"""Texts in a set; larger ones are not built."""
FEW = 6
"""Characters of a class that is written out."""
SETS = 2
"""Sets of texts that are looked for, of those that a pattern needs."""
GRAMS = (5, 3)
"""Characters in a row by which needed texts are looked up: by as many as they have."""
BY_FREQUENCY = "zqxjkvbpgywmfculdrhsniotae "
Exact = frozenset[str] | None
"""All texts that a part can match, where they are few."""
Needs = tuple[tuple[str, ...], ...]
"""Sets of texts, of each of which every match holds one."""
NOTHING: frozenset[str] = frozenset({""})
UNREGISTERED = -1
SHORT = ""
"""Stands for texts of fewer characters, which are looked for everywhere."""
_of_bit: list[Alternative] = []
"""Every alternative that has a bit of its own."""
_holding: dict[str, dict[str, int]] = {}
"""For a few characters in a row, the needed texts that hold them, and the bits of the alternatives that need each."""


class Alternative:
    """One of the alternatives of a pattern."""

    __slots__ = ("find", "further", "needs", "order", "source")

    def __init__(self, source: str, order: int) -> None:
        self.source, self.order = source, order
        self.needs = needs_of(source)
        self.further = self.needs[1:]  # the first set is looked for together with those of all patterns
        self.find: Any = None

    def search(self, text: str, start: int) -> re.Match[str] | None:
        """The first match from `start` on; the pattern is compiled when a text first holds what it needs."""
        for texts in self.further:
            for one in texts:
                if one in text:
                    break
            else:
                return None
        if self.find is None:
            self.find = re.compile(self.source).search
        found: re.Match[str] | None = self.find(text, start)
        return found


class Gated:
    """A compiled pattern."""

    __slots__ = ("bits", "finditer", "match", "source", "unsure")

    def __init__(self, source: str) -> None:
        pattern = re.compile(source)
        self.source, self.match, self.finditer = source, pattern.match, pattern.finditer
        self.bits = UNREGISTERED
        self.unsure: list[Alternative] = []
        """Alternatives that may match a text whatever stands in it."""

    def register(self) -> None:
        """Find out what its alternatives need, when it is first searched."""
        self.bits = 0
        for order, one in enumerate(alternatives_of(self.source)):
            alternative = Alternative(one, order)
            if not alternative.needs:
                self.unsure.append(alternative)
                continue
            bit = 1 << len(_of_bit)
            _of_bit.append(alternative)
            self.bits |= bit
            for need in alternative.needs[0]:
                needing = _holding.setdefault(_rarest(need), {})
                needing[need] = needing.get(need, 0) | bit
        _bits.cache_clear()

    def search(self, text: str, start: int = 0) -> re.Match[str] | None:
        """The first match from `start` on."""
        if self.bits == UNREGISTERED:
            self.register()
        bits = _bits(text) & self.bits
        if not bits and not self.unsure:
            return None
        first: re.Match[str] | None = None
        order = 0
        for one in (*_alternatives(bits), *self.unsure):
            found = one.search(text, start)
            if found is not None and (first is None or (found.start(), one.order) < (first.start(), order)):
                first, order = found, one.order
        return first


def _alternatives(bits: int) -> Iterator[Alternative]:
    while bits:
        lowest = bits & -bits
        yield _of_bit[lowest.bit_length() - 1]
        bits ^= lowest


def compiled(source: str) -> Gated:
    """The pattern, case as written."""
    return Gated(source)


def possible(patterns: Sequence[Gated], text: str) -> list[Gated]:
    """Those of several patterns that may match a text, in their order."""
    for pattern in patterns:
        if pattern.bits == UNREGISTERED:
            pattern.register()
    bits = _bits(text)
    return [pattern for pattern in patterns if pattern.bits & bits or pattern.unsure]


@lru_cache(maxsize=2048)
def _bits(text: str) -> int:
    """The alternatives that may match a text."""
    found = 0
    grams = {SHORT}.union(*([text[at : at + size] for at in range(len(text) - size + 1)] for size in GRAMS))
    for gram in _holding.keys() & grams:
        for need, bits in _holding[gram].items():
            if need in text:
                found |= bits
    return found


def _rarest(need: str) -> str:
    """The characters of a text by which it is looked up."""
    size = next((size for size in GRAMS if size <= len(need)), len(need) + 1)
    return min((need[at : at + size] for at in range(len(need) - size + 1)), key=_frequency, default=SHORT)


def _frequency(gram: str) -> int:
    """Larger for characters that English texts hold more often."""
    return sum(BY_FREQUENCY.find(char) for char in gram)


def alternatives_of(source: str) -> list[str]:
    r"""Patterns whose leftmost match, the first of them where several begin at one place, is that of `source`.

    `a|b` are two, and so are `\b(?:a|b)c` and `^(?:a|b)c`: nothing before the alternatives can be matched in several ways.
    """
    parts = _split(source)
    if len(parts) > 1:
        return [one for part in parts for one in alternatives_of(part)]
    opening = re.match(r"(?:\\b|\^)?\(\?:", source)
    if opening is None:
        return [source]
    end = _closing(source, opening.end())
    inner, rest = _split(source[opening.end() : end]), source[end + 1 :]
    if len(inner) < 2 or rest[:1] in ("?", "*", "+", "{"):
        return [source]
    return [f"{opening.group()}{one}){rest}" for one in inner]


def _split(source: str) -> list[str]:
    """A pattern at the bars outside groups and classes."""
    parts, begin = [], 0
    for at, depth, char in _walk(source):
        if char == "|" and not depth:
            parts.append(source[begin:at])
            begin = at + 1
    return [*parts, source[begin:]]


def _closing(source: str, begin: int) -> int:
    """Where the group whose content begins at `begin` is closed."""
    return next(begin + at for at, depth, char in _walk(source[begin:]) if char == ")" and depth < 0)


def _walk(source: str) -> Iterator[tuple[int, int, str]]:
    """The characters that structure a pattern: where, in how many groups of it, which."""
    depth, in_class, at = 0, False, 0
    while at < len(source):
        char = source[at]
        if char == "\\":
            at += 1
        elif in_class:
            in_class = char != "]"
        elif char == "[":
            in_class = True
            at += source[at + 1 : at + 2] == "^"
            at += source[at + 1 : at + 2] == "]"
        else:
            depth += (char == "(") - (char == ")")
            yield at, depth, char
        at += 1


def needs_of(source: str) -> Needs:
    """Sets of texts, the rarest first, of each of which every match holds one; none where nothing is known of the pattern."""
    try:
        from re import _parser  # type: ignore[attr-defined]

        _, found = _sequence(list(_parser.parse(source)))
    except (ImportError, AttributeError, TypeError, ValueError):  # another version of Python, with another tree
        return ()
    return tuple(tuple(sorted(one, key=len)) for one in sorted(found, key=_cost)[:SETS])


def _sequence(items: Sequence[Any]) -> tuple[Exact, list[frozenset[str]]]:
    """All texts of parts that follow one another, and sets of texts of which each match holds one."""
    found: list[frozenset[str]] = []
    run: frozenset[str] = NOTHING
    whole = True
    for exact, needs in map(_part, items):
        found += needs
        if exact is not None and len(run) * len(exact) <= MOST:
            run = frozenset(before + after for before in run for after in exact)
            continue
        found.append(run)
        whole, run = False, NOTHING if exact is None else exact
    found.append(run)
    return (run if whole else None), [_least(one) for one in found if "" not in one]


def _part(item: Any) -> tuple[Exact, list[frozenset[str]]]:  # noqa: ANN401 - the tree of `re` has no types
    kind, value = str(item[0]), item[1]
    if kind == "LITERAL":
        return frozenset({chr(value)}), []
    if kind == "IN":
        return _characters(value), []
    if kind == "BRANCH":
        parts = [_sequence(list(branch)) for branch in value[1]]
        best = _union(min(needs, key=_cost, default=None) for _, needs in parts)
        return _union(exact for exact, _ in parts), [] if best is None else [best]
    if kind == "SUBPATTERN" and not (value[1] or value[2]):
        return _sequence(list(value[3]))
    if kind in ("MAX_REPEAT", "MIN_REPEAT"):
        least, most, inner = value
        exact, needs = _sequence(list(inner))
        if least == 0:
            return (exact | NOTHING if exact is not None and most == 1 else None), []
        return (exact if least == most == 1 else None), needs
    if kind == "ASSERT":
        return NOTHING, _sequence(list(value[1]))[1]
    return (NOTHING if kind in ("AT", "ASSERT_NOT") else None), []


def _characters(items: Sequence[Any]) -> Exact:
    if any(str(kind) != "LITERAL" for kind, _ in items) or len(items) > FEW:
        return None
    return frozenset(chr(value) for _, value in items)


def _union(sets: Iterator[Exact]) -> Exact:
    found: set[str] = set()
    for one in sets:
        if one is None or len(found) + len(one) > 2 * MOST:
            return None
        found |= one
    return frozenset(found)


def _least(texts: frozenset[str]) -> frozenset[str]:
    """The set without texts that hold another one of it."""
    return frozenset(one for one in texts if not any(other in one and other != one for other in texts))


def _cost(texts: frozenset[str]) -> float:
    """Smaller for fewer and longer texts, which are found more rarely."""
    return sum(0.02 + exp(-1.3 * len(one)) * 8 for one in texts)
