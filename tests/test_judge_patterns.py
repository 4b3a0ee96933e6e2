"""The refusal judge looks for words before it searches patterns, and finds what the patterns find by themselves."""

from __future__ import annotations

import json
import random
import re
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buckler.judges import coherence
from buckler.judges.refusal import english, false_premise, grammar, keyword, partial_compliance
from buckler.judges.refusal.patterns import Gated, alternatives_of, compiled, needs_of

MODULES = (english, false_premise, partial_compliance, keyword)
NAMED = {f"{module.__name__.rpartition('.')[2]}.{name}": value for module in MODULES for name, value in vars(module).items()}
PATTERNS = {
    f"{name} {number}": one
    for name, value in NAMED.items()
    for number, one in enumerate(value if isinstance(value, list) else value.values() if isinstance(value, dict) else [value])
    if isinstance(one, Gated)
}
PATTERNS |= {
    f"{code} {kind} {number}": one
    for code, kinds in grammar._languages().items()
    for kind, several in kinds.items()
    for number, one in enumerate(several)
}
PLAIN = {name: re.compile(one.match.__self__.pattern) for name, one in PATTERNS.items()}
ROWS = [json.loads(line) for line in (Path(__file__).parent / "fixtures" / "keyword_golden.jsonl").read_text().splitlines()]
TEXTS = [row[part] for row in ROWS for part in ("text", "query", "document") if row.get(part)]
SENTENCES = list(dict.fromkeys(one.text for text in TEXTS for one in grammar.sentences(text)))
WORDS = sorted({word for text in SENTENCES for word in re.findall(r"[\w']+|[^\w\s]", text)})


def span(match: re.Match[str] | None) -> tuple[int, int] | None:
    return None if match is None else match.span()


def recombined(count: int) -> list[str]:
    """Sentences cut and joined anew, and words in any order: patterns match in part, twice, and where nothing was meant."""
    draw = random.Random(0)
    cut = [(draw.choice(SENTENCES), draw.choice(SENTENCES)) for _ in range(count)]
    joined = [f"{one[: draw.randrange(len(one) + 1)]}{other[draw.randrange(len(other) + 1) :]}" for one, other in cut]
    return joined + [" ".join(draw.choices(WORDS, k=draw.randrange(1, 12))) for _ in range(count)]


def test_every_pattern_finds_what_it_finds_by_itself():
    draw = random.Random(1)
    texts = [*draw.sample(SENTENCES, 80), *draw.sample(TEXTS, 20), *recombined(30), "", " "]
    found = 0
    for name, pattern in PATTERNS.items():
        for text in texts:
            whole = PLAIN[name].search(text)
            assert span(pattern.search(text)) == span(whole), (name, text)
            found += whole is not None
            if whole is not None:
                begin = whole.start() + 1
                assert span(pattern.search(text, begin)) == span(PLAIN[name].search(text, begin)), (name, text)
    assert found > 500, "the texts show something"


def test_verdicts_on_all_texts_of_the_tests_are_those_of_whole_patterns(monkeypatch):
    texts = [row["text"] for row in ROWS] + [" ".join(two) for two in pairwise(recombined(60))]
    questions = [(text, ROWS[number % len(ROWS)]["query"]) for number, text in enumerate(texts)]
    found = [keyword.read_refusal(text, [query], query) for text, query in questions]
    whole = {id(one): re.compile(one.match.__self__.pattern) for one in PATTERNS.values()}
    monkeypatch.setattr(Gated, "search", lambda self, text, start=0: whole[id(self)].search(text, start))
    monkeypatch.setattr(grammar, "possible", lambda patterns, text: patterns)
    assert found == [keyword.read_refusal(text, [query], query) for text, query in questions]


@given(st.lists(st.sampled_from(WORDS), max_size=14).map(" ".join), st.sampled_from(sorted(PATTERNS)))
def test_words_in_any_order_are_found_as_by_the_pattern_itself(text, name):
    assert span(PATTERNS[name].search(text)) == span(PLAIN[name].search(text))


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (r"\b(?:a|ab)c?\b", "xa ab abc a"),
        ("^(?:no|not)x?|o", "notx no"),
        (r"(?:b|a)+", "xab"),
        (r"a(?:b|c)|ab", "xacab"),
        (r"\b(?:in|inside)(?= the)", "inside the in the"),
        (r"[|()]x|y\|z", "ax |x y|z"),
        (r"(?<!un)(?:fair|just)\b", "unfair unjust just"),
        (r"(?:x|y|)", "zx"),
    ],
)
def test_the_leftmost_match_of_the_first_alternative_wins(source, text):
    for begin in range(len(text)):
        assert span(compiled(source).search(text, begin)) == span(re.compile(source).search(text, begin))


def test_what_a_pattern_needs_is_found_and_alternatives_are_told_apart():
    texts, verbs = needs_of(r"\bi can(?:not|'t) (?:help|say)\b")
    assert {*texts} == {"i can't say", "i cannot say", "i can't help", "i cannot help"} and {*verbs} == {"say", "help"}
    assert needs_of(r"\w+(?:ly|s)?") == () and needs_of(r"(?!never)x?") == ()
    assert alternatives_of(r"\b(?:a|b(?:c|d))e|[|]f") == [r"\b(?:a)e", r"\b(?:b(?:c|d))e", "[|]f"]
    assert alternatives_of("(?:a|b)*c") == ["(?:a|b)*c"]


def slow_loop(spoken: list[str]) -> str:
    """Loops as they were first looked for: every n-gram is counted."""
    run = longest = 0
    for at, word in enumerate(spoken):
        run = run + 1 if at and word == spoken[at - 1] else 1
        longest = max(longest, 0 if word.isdigit() else run)
    if longest > coherence.MAX_RUN:
        return f"the same word {longest} times in a row"
    if len(spoken) < coherence.MIN_WORDS:
        return ""
    for size in range(1, 9):
        grams = coherence.Counter(tuple(spoken[at : at + size]) for at in range(len(spoken) - size + 1))
        gram, times = grams.most_common(1)[0]
        if times >= 4 and times * size / len(spoken) > coherence.MAX_SHARE:
            return f"{times} times {' '.join(gram)[:60]!r}"
    if len(spoken) >= 200 and len(set(spoken)) / len(spoken) < coherence.MIN_DISTINCT:
        return f"only {len(set(spoken))} different words among {len(spoken)}"
    return coherence._tail(spoken, "stop")


def slow_noise(visible: str) -> str:
    """Noise as it was first looked for: every character is looked at."""
    category = coherence.unicodedata.category
    odd = sum(category(char) in ("Cc", "Cn", "Co", "Cs") or char == "\ufffd" for char in visible)
    if odd and odd / len(visible) > 0.02:
        return f"{odd} control or replacement characters"
    drawn = [char for char in visible if char not in coherence._RULES]
    letters = sum(char.isalnum() or category(char)[0] == "M" for char in drawn)
    if len(visible) >= 8 and letters <= coherence.MIN_LETTERS * len(drawn):
        return f"only {letters} letters in {len(visible)} characters"
    run = re.search(r"([^\s.=_*#\-])\1{19,}", visible)
    return f"one character {len(run.group())} times in a row" if run else ""


@given(st.lists(st.sampled_from(["a", "b", "c", "7", "soup", "salt"]), max_size=60), st.integers(1, 6))
def test_loops_are_found_as_by_counting_every_n_gram(words, times):
    assert coherence._loop(words * times, "stop") == slow_loop(words * times)


@given(st.text(alphabet="ab1.=#-\ufffd\x07\u0301\u4e00", max_size=60), st.integers(1, 25))
def test_noise_is_found_as_by_looking_at_every_character(text, times):
    visible = "".join(text.split()) * times
    assert coherence._noise(visible, coherence.Counter(visible)) == slow_noise(visible)


def test_loops_and_noise_of_all_texts_of_the_tests_are_found_as_before():
    for one, other in pairwise([*TEXTS, TEXTS[0]]):
        for text in (one, f"{one} {other} {one}", one * 5):
            visible, spoken = "".join(text.split()), [word for word in coherence._WORD.findall(text.lower()) if word[0].isalnum()]
            assert coherence._noise(visible, coherence.Counter(visible)) == slow_noise(visible)
            assert coherence._loop(coherence._WORD.findall(text.lower()), "stop") == slow_loop(spoken)
