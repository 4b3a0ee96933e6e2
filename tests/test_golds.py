"""Gold answers by their authors' rules; every scorer on reference answers that the files bring, and on those of other rows."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from buckler.crosstask.tasks import scorers
from buckler.data import Answer
from buckler.evaluation.golds import (
    boxed,
    choice_match,
    closed_match,
    kind_match,
    math_match,
    number_match,
    number_of,
    span_match,
    text_match,
)
from buckler.evaluation.probes import in_set
from buckler.evaluation.scores import score_answer
from buckler.formats import read_chats

DATA = Path(__file__).parents[1].parent / "shared" / "data"


@pytest.mark.parametrize(
    ("gold", "value"),
    [
        ("72", 72),
        ("15.0", 15),
        ("1,250", 1250),
        ("12,34,567", 1234567),
        ("1\u202f250", 1250),
        ("$18", 18),
        ("\u20ac1,000.50", 1000.5),
        ("-5", -5),
        ("\u22125", -5),
        ("3/4", 0.75),
        ("1 1/2", 1.5),
        ("2\u00bd", 2.5),
        (r"\frac{3}{4}", 0.75),
        (r"-\dfrac12", -0.5),
        (".5", 0.5),
        ("1.5e3", 1500),
        (r"3 \times 10^4", 30000),
        ("50%", 50),
        ("72 km", 72),
        ("12 m^2", 12),
        ("90^\\circ", None),
        ("yes", None),
        ("answer2", None),
        ("3:30", None),
        ("4 July 1776", None),
        ("1/0", None),
        ("", None),
    ],
)
def test_a_gold_is_the_number_it_says(gold, value):
    assert number_of(gold) == (None if value is None else pytest.approx(value))


@pytest.mark.parametrize(
    ("answer", "gold", "right"),
    [
        ("30 - 15 = 15. The answer is 15.", "15.0", True),
        ("4 are here and 5 there. The answer is 9.", "4", False),
        ("<<30+42=72>>72\n#### 72", "72", True),
        ("#### 72\nThat took 3 steps.", "72", True),
        (r"So \boxed{72}, as 2 checks show.", "72.0", True),
        ("It costs $1,250.00.", "1250", True),
        ("It is 2 - 3", "3", True),
        ("There are 20-30 of them", "30", True),
        ("It covers 72 m^2, in H2O", "72", True),
        ("The share is 3/4.", "0.75", True),
        ("The share is 3/4.", "4", False),
        ("One third, 0.3333", "1/3", True),
        ("The loss is -5 dollars", "-5", True),
        ("15.002", "15", False),
        ("seven", "7", False),
        ("", "7", False),
        ("9" * 400, "7", False),
        ("1" * 5000 + "/" + "0" * 9, "7", False),
    ],
)
def test_the_last_or_the_marked_number_is_the_answer(answer, gold, right):
    assert number_match(answer, gold) == right


@pytest.mark.parametrize(
    ("answer", "gold", "right"),
    [
        (r"Thus $x = \boxed{\frac{1}{2}}$.", r"\dfrac{1}{2}", True),
        (r"\boxed{0.5}", r"\frac12", True),
        (r"The answer is $\left( 3, \frac{\pi}{2} \right)$.", r"(3,\frac{\pi}{2})", True),
        (r"first \boxed{1}, then \boxed{\text{Evelyn}}", "Evelyn", True),
        (r"\boxed{10,000}", "10000", True),
        (r"\boxed{90^\circ}", "90", True),
        (r"\boxed{x = 5}", "5", True),
        (r"\boxed{3\sqrt2}", r"3\sqrt{2}", True),
        ("**Answer: 42**", "42", True),
        ("We get 42 in the end, of 43", "42", False),
        (r"\boxed{\frac{1}{3}}", r"\frac{1}{2}", False),
        (r"\boxed{5", "5", True),
        (r"\boxed{(1,2)}", "(2,1)", False),
    ],
)
def test_latex_is_compared_without_its_spelling(answer, gold, right):
    assert math_match(answer, gold) == right


def test_the_last_box_counts_with_its_braces():
    assert boxed(r"\boxed{1} and \boxed{\frac{a}{b^{2}}}") == r"\frac{a}{b^{2}}"
    assert boxed(r"\boxed 7 so") == "7" and boxed("none") is None


HATS = {"A": "a tall hat", "B": "a hat", "C": "soup", "D": "none of these"}


@pytest.mark.parametrize(
    ("answer", "chosen"),
    [
        ("B", "B"),
        ("b.", "B"),
        ("(C)", "C"),
        ("The answer is (D).", "D"),
        ("The correct answer is: **C**", "C"),
        ("A hat keeps it dry, so the answer is B.", "B"),
        ("B. a hat", "B"),
        ("B) a hat, not A) a tall hat", "B"),
        (r"Since A is too tall, \boxed{\text{B}}", "B"),
        ("It is a tall hat.", "A"),
        ("Soup!", "C"),
        ("I would take option D", "D"),
        ("A good question", None),
        ("a hat or soup", None),
        ("", None),
    ],
)
def test_a_choice_is_named_by_its_letter_or_by_its_words(answer, chosen):
    assert [label for label in HATS if choice_match(answer, label, HATS)] == ([chosen] if chosen else [])


def test_golds_of_one_file_are_told_apart_by_what_they_are():
    assert kind_match("So the answer is C.", "C") and not kind_match("A car needs 3 hours. The answer is D.", "C")
    assert kind_match("the correct answer is answer2", "answer2") and not kind_match("it is answer12", "answer1")
    assert kind_match("about 15 dollars", "15.0") and not kind_match("5 of 15, then 9", "5")
    assert kind_match("It is the North Wall, I think.", "north wall") and not kind_match("the wall", "north wall")
    assert closed_match("Yes", "yes") and text_match("a Caf\u00e9.", "caf\u00e9")


def test_a_span_has_the_words_it_shares_with_its_gold():
    assert span_match("The North Wall.", "north wall") == 1 and span_match("soup", "north wall") == 0
    assert span_match("the north wall of town", "north wall") == pytest.approx(2 * 2 / (4 + 2))


def score(row, text):
    probe = in_set(row, "benign")
    answer = Answer(id=probe.id, prompt=probe.messages, text=text, finish_reason="stop", meta=probe.meta)
    return score_answer(answer, scorers())


def of_references(path):
    """The mean score of the file's own reference answers, and of the same answers under other rows."""
    rows = read_chats(path)
    answers = [row.answer or "" for row in rows]
    own = [score(row, answer) for row, answer in zip(rows, answers, strict=True)]
    other = list(answers)
    random.Random(5).shuffle(other)
    moved = [score(row, answer) for row, answer in zip(rows, other, strict=True)]
    assert None not in own
    return sum(own) / len(own), sum(moved) / len(moved)


WRITTEN = {
    "gsm8k": (
        lambda at: {"question": f"{at} and {at}?", "answer": f"<<{at}+{at}={2 * at}>>It makes {2 * at}.\n#### {2 * at:,}"},
        0,
    ),
    "float": (
        lambda at: {
            "instruction": f"{at} and 3?",
            "input": "",
            "output": f"{at} + 3 = {at + 3}. So {at + 3}.",
            "answer": f"{at + 3}.0",
        },
        0,
    ),
    "letters": (
        lambda at: {
            "instruction": f"Row {at}?",
            "input": "",
            "output": f"A hat. The answer is {'ABCDE'[at % 5]}.",
            "answer": "ABCDE"[at % 5],
        },
        0.2,
    ),
    "words": (
        lambda at: {
            "instruction": f"Row {at}?",
            "input": "",
            "output": f"it is {at % 2 == 0}",
            "answer": str(at % 2 == 0).lower(),
        },
        0.5,
    ),
    "choices": (
        lambda at: {"question": f"Row {at}?", "choices": ["x1", "x2", "x3", "x4"], "answer": at % 4, "subject": "hats"},
        0.25,
    ),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_reference_answers_are_right_and_those_of_other_rows_are_not(tmp_path, name):
    make, chance = WRITTEN[name]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(make(at)) + "\n" for at in range(200)))
    own, moved = of_references(path)
    assert own == 1 and abs(moved - chance) < 0.12


@pytest.mark.skipif(not DATA.is_dir(), reason="the published sample files are not at hand")
@pytest.mark.parametrize(
    ("name", "chance"),
    [
        ("gsm8k/train_first1000.jsonl", 0),
        ("csqa2/CSQA2_dev.json.gz", 0.5),
        ("llm_adapters/ARC-Easy_train.json", 0.25),
        ("llm_adapters/boolq_train_first1000.json", 0.5),
        ("comve/subtaskA_dev_data.csv", 0.5),
    ],
)
def test_published_references_are_right_by_their_own_golds(name, chance):
    own, moved = of_references(DATA / name)
    assert own == 1 and abs(moved - chance) < 0.06
