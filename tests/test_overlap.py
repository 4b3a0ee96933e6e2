"""Overlap: the same id, the same text, nearly the same text; templates of short questions are not overlap."""

import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buckler.data import Chat, Document
from buckler.data.near_duplicates import MIN_SHINGLES, find_overlap, normalise, require_disjoint, shingles, text_of
from buckler.errors import ConfigError, DataError

LONG = "The old miller of the north valley keeps nine grey geese and sells their feathers at the spring fair every year."


def test_same_id_same_text_and_near_text_are_found():
    train = [Chat.pair("Where do geese sleep?", "In the barn."), Chat.pair(LONG, "a"), Chat.pair("Else?", "b")]
    probes = [
        train[2],
        Chat.pair("  where do GEESE sleep ", None),
        Chat.pair(LONG.replace("spring", "autumn"), None),
        Chat.pair("How are you?", None),
    ]
    found = find_overlap(train, probes, threshold=0.6)
    assert [(pair.kind, pair.left.id, pair.right.id) for pair in found] == [
        ("id", train[2].id, probes[0].id),
        ("text", train[0].id, probes[1].id),
        ("near", train[1].id, probes[2].id),
    ]
    assert [pair.similarity == 1 for pair in found] == [True, True, False]
    assert found[2].similarity == pytest.approx(16 / 22)


def test_short_questions_of_one_template_are_not_near():
    names = ["brindle", "morrow", "quince", "tansy", "velvet"]
    rows = [[Chat.pair(f"How do I make the {name} soup?", None)] for name in names]
    assert not find_overlap([row for part in rows[:2] for row in part], [row for part in rows[2:] for row in part])
    assert find_overlap(rows[0], [Chat.pair("how do i make the BRINDLE soup", "x")])[0].kind == "text"


def test_documents_and_long_fields():
    words = [f"word{number}" for number in range(5000)]
    one, other = Document.of(" ".join(words)), Document.of(" ".join([*words[:-20], "and", "so", "on"]))
    (pair,) = find_overlap([one], [other])
    assert pair.kind == "near" and pair.similarity > 0.99
    assert text_of(one).startswith("word0")


def test_words_are_folded_and_texts_without_spaces_or_words_keep_apart():
    assert normalise("  Fu\uff4cl\u2014WIDTH, 'quoted' ") == "full width quoted"
    assert normalise("\u732b\u304c") == "\u732b \u304c"
    assert normalise("!!") == "!!" != normalise("??")
    assert not find_overlap([Document.of("!!")], [Document.of("??")])


def test_require_disjoint_shows_the_first_pairs_short():
    train = [Chat.pair(f"{LONG} {number}", "a") for number in range(9)]
    with pytest.raises(DataError) as caught:
        require_disjoint(train, [row.tagged(probe=True) for row in train], threshold=1)
    message = str(caught.value)
    assert message.startswith("9 pairs") and message.count("\n") == 3
    assert train[0].id in message and "1.00" in message and LONG not in message
    require_disjoint(train, [Chat.pair("Quite another thing.", None)])


@pytest.mark.parametrize("threshold", [0, -1, 1.1, float("nan")])
def test_a_threshold_that_means_nothing_is_refused(threshold):
    with pytest.raises(ConfigError, match="threshold"):
        find_overlap([Document.of("a")], [Document.of("b")], threshold=threshold)


sentences = st.lists(st.sampled_from("abcde"), min_size=8, max_size=24).map(" ".join).map(Document.of)


@given(st.lists(sentences, max_size=8), st.lists(sentences, max_size=8), st.sampled_from([0.1, 0.25, 0.5, 0.7, 1.0]))
def test_the_index_finds_what_comparing_all_pairs_finds(left, right, threshold):
    expected = {}
    for one in left:
        for other in right:
            a, b = shingles(one.text), shingles(other.text)
            if one.text != other.text and min(len(a), len(b)) >= MIN_SHINGLES:
                similarity = len(a & b) / len(a | b)
                if similarity >= threshold:
                    expected[one.id, other.id] = similarity
    found = find_overlap(left, right, threshold=threshold)
    assert {(pair.left.id, pair.right.id): pair.similarity for pair in found if pair.kind == "near"} == expected
    assert {pair.right.id for pair in found if pair.kind == "id"} == {row.id for row in left} & {row.id for row in right}
    back = find_overlap(right, left, threshold=threshold)
    assert {(pair.right.id, pair.left.id) for pair in back} == {(pair.left.id, pair.right.id) for pair in found}


def test_a_common_phrase_does_not_make_it_quadratic():
    rng = random.Random(0)
    words = [f"w{number}" for number in range(2000)]

    def rows(count):
        opening = "Below is an instruction that describes a task please write a good response to it now"
        return [Document.of(f"{opening} {' '.join(rng.choices(words, k=30))}") for _ in range(count)]

    left, right = rows(4000), rows(4000)
    start = time.process_time()
    assert not find_overlap(left, right)
    assert time.process_time() - start < 10  # all pairs would be 16 million comparisons: minutes
