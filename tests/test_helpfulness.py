"""Helpfulness: replies are read or they are None, and the measure without a model knows an answer from its ruins."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buckler.curation.helpfulness import ASPECTS, LocalHelpfulness, RubricHelpfulness, read_grade, read_rubric, rubric_request
from buckler.data import Chat
from buckler.models.protocol import Completion, ScriptedLM

TEXT = Chat.pair("How is the barley soup made?", "The baker boils barley and salt in a pot. It feeds the guests.")
LONG = Chat.pair(
    "How does the baker make the soup?",
    "The baker rinses the barley in cold water first. Then he chops carrots, leeks and parsley. He melts butter in a heavy pot "
    "and fries the leeks until they are golden. At last the barley simmers with broth and salt for an hour.",
)
BENCHMARK = Path(__file__).parent.parent / "benchmarks" / "helpfulness.py"
DOLLY = Path(__file__).parent.parent.parent / "shared" / "data" / "dolly" / "databricks-dolly-15k-subset_200.jsonl"
LINES = "relevance: 5\nclarity: 4\ncomprehensiveness: 3\nusefulness: 4"


@pytest.mark.parametrize(
    "reply",
    [
        LINES,
        "Relevance: 5/5\n**Clarity**: 4\n- comprehensiveness: 3\nUsefulness: 4.",
        "**Relevance:** 5\n**Clarity:** 4\n**Comprehensiveness:** 3\n**Usefulness:** 4",
        "Here are my ratings.\n\n" + LINES,
        "usefulness: 4\ncomprehensiveness: 3\nclarity: 4\nrelevance: 5",
        "Relevance - 5/5\nClarity - 4/5\nComprehensiveness - 3/5\nUsefulness - 4/5",
        "Relevance \u2013 5 out of 5; clarity \u2013 4 out of 5; comprehensiveness \u2013 3; usefulness \u2013 4",
        '{"relevance": 5, "clarity": 4, "comprehensiveness": 3, "usefulness": 4}',
        '```json\n{"relevance":5,"clarity":4,"comprehensiveness":3,"usefulness":4}\n```',
        "| relevance | 5 |\n| clarity | 4 |\n| comprehensiveness | 3 |\n| usefulness | 4 |",
        "relevance (1-5): 5\nclarity (1-5): 4\ncomprehensiveness (1-5): 3\nusefulness (1-5): 4",
        "1. Relevance: 5\n2. Clarity: 4\n3. Comprehensiveness: 3\n4. Usefulness: 4",
        "Relevance is 5, clarity is 4, comprehensiveness is 3 and usefulness is 4.",
        "Relevance score: 5. Clarity score: 4. Comprehensiveness score: 3. Usefulness score: 4.",
        "relevance: 5 - it answers\nclarity: 4 (one long sentence)\ncomprehensiveness: 3, two facts\nusefulness: 4",
        "<think>relevance: 1? No.</think>\n" + LINES,
        LINES + "\n\nIn short, relevance: 5.",
        "RELEVANCE = 5\nCLARITY = 4\nCOMPREHENSIVENESS = 3\nUSEFULNESS = 4",
    ],
)
def test_a_rubric_reply_is_read_whatever_its_form(reply):
    assert read_rubric(reply) == 4.0


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "I cannot rate this.",
        "relevance: 5\nclarity: 4\ncomprehensiveness: 3",
        LINES.replace("5", "9"),
        LINES.replace("5", "0"),
        LINES.replace("5", "-1"),
        LINES.replace("5", "45"),
        LINES.replace("5", "5.5"),
        LINES.replace("5", "N"),
        LINES.replace("5", "5/10"),
        LINES.replace("5", "4-5"),
        LINES.replace("5", "4 to 5"),
        LINES.replace("5", "4 or 5"),
        LINES.replace("5", "5%"),
        LINES.replace("5", "it answers the question"),
        "relevance: 5\nrelevance: 1\nclarity: 4\ncomprehensiveness: 3\nusefulness: 4",
        "| relevance | clarity | comprehensiveness | usefulness |\n|---|---|---|---|\n| 5 | 4 | 3 | 4 |",
        "Overall: 4",
        "4",
        "relevance: five\nclarity: 4\ncomprehensiveness: 3\nusefulness: 4",
    ],
)
def test_a_rubric_reply_that_is_not_clear_is_none(reply):
    assert read_rubric(reply) is None


@given(st.text(alphabet="relvancety:0123456789/-.%| \n", max_size=60))
def test_whatever_is_read_is_a_grade(reply):
    for grade in (read_rubric(reply), read_grade(reply), read_rubric(LINES.replace("5", reply))):
        assert grade is None or 1 <= grade <= 5


@pytest.mark.parametrize(
    "reply", ["4", "4/5", "**4**", "Relevance: 4", "I'd rate it 4 out of 5.", "On a scale of 1 to 5: 4.", "Rating (1-5): 4"]
)
def test_one_grade_is_read(reply):
    assert read_grade(reply) == 4.0


@pytest.mark.parametrize("reply", ["", "good", "4 or 5", "4-5", "6", "8/10", "4 of the 7 facts", "-4", "80%", "3 ... no, 4"])
def test_a_grade_that_is_not_clear_is_none(reply):
    assert read_grade(reply) is None


def test_the_rater_is_asked_once_for_all_or_once_for_each_aspect():
    joint = ScriptedLM(lambda _: LINES)
    assert RubricHelpfulness(joint).rate([TEXT, TEXT], [TEXT, TEXT]) == [4.0, 4.0] and len(joint.requests) == 2
    grades = dict(zip(ASPECTS, "5434", strict=True))
    each = ScriptedLM(
        lambda request: next(g for name, g in grades.items() if f"Rate the {name}" in request.messages[0]["content"])
    )
    judge = RubricHelpfulness(each, seed=7, per_aspect=True)
    assert judge.rate([TEXT], [TEXT]) == [4.0] and len(each.requests) == 4
    assert {request.sampling.seed for request in each.requests} == {7}
    assert all(str(TEXT.answer) in request.messages[0]["content"] for request in each.requests)


def test_one_aspect_unscored_is_the_whole_unscored():
    model = ScriptedLM(lambda request: "?" if "Rate the clarity" in request.messages[0]["content"] else "5")
    assert RubricHelpfulness(model, per_aspect=True).rate([TEXT], [TEXT]) == [None]


def test_a_failed_call_is_unscored_even_if_it_brings_text():
    class Failing(ScriptedLM):
        def generate(self, requests):
            return [Completion(text=LINES, finish_reason="failed", tokens=0, error="timeout") for _ in requests]

    assert RubricHelpfulness(Failing(lambda _: "")).rate([TEXT], [TEXT]) == [None]
    assert RubricHelpfulness(Failing(lambda _: ""), per_aspect=True).rate([TEXT], [TEXT]) == [None]


def test_the_judges_name_tells_which_model_rated_and_how():
    model = ScriptedLM(lambda _: LINES)
    assert RubricHelpfulness(model).name == f"rubric-2:{model.identity[:12]}"
    assert RubricHelpfulness(model, per_aspect=True).name == f"rubric-2-aspects:{model.identity[:12]}"


def test_braces_in_a_rated_text_change_nothing():
    pair = Chat.pair("What is {response}?", "It is {query} {aspect} {words}.")
    for aspect in (None, "clarity"):
        prompt = rubric_request(pair, aspect)[0]["content"]
        assert "What is {response}?" in prompt and "It is {query} {aspect} {words}." in prompt


def rating(answer, original=LONG):
    return LocalHelpfulness().rate([original.answered(answer)], [original])[0]


@pytest.mark.parametrize(
    "answer",
    [
        f"Please be careful. {LONG.answer} Handle the pot with care.",
        " ".join(reversed(re.findall(r"[^.]+[.]", str(LONG.answer)))),
        "With care, the baker first rinses barley in cold water, then chops the carrots, leeks and parsley. Butter melts in a "
        "heavy pot, and the leeks are fried until golden. Finally the barley is simmered for an hour with salt and broth.",
    ],
    ids=["with care", "sentences in another order", "in other words"],
)
def test_the_local_judge_lets_revisions_through_the_floor(answer):
    assert rating(answer) >= 0.9 * 5


def shuffled(seed):
    words = re.findall(r"\w+", str(LONG.answer).lower())
    return " ".join(random.Random(seed).sample(words, len(words))).capitalize() + "."


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "Barley. Pot",
        str(LONG.answer)[:100],
        "There are many ways to do it, and all of them have something to say for themselves.",
        "The smith hammers the iron in the forge until it glows. Then he cools it in water and grinds the edge on a stone.",
        *(shuffled(seed) for seed in range(5)),
    ],
)
def test_the_local_judge_holds_ruins_under_the_floor(answer):
    assert rating(answer) < 0.9 * 5


@pytest.mark.parametrize("answer", ["面包师在锅里用盐煮大麦。客人吃饱了。", "الخباز يغلي الشعير والملح في القدر."])
def test_the_local_judge_reads_other_scripts(answer):
    original = Chat.pair("?", answer)
    assert rating(f"{answer} {answer}", original) == 5.0
    assert rating(answer[: len(answer) // 2], original) < 4.5


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        ("Barley and salt.", "Barley and salt", 5 - 1 / 3),
        ("Barley and salt.", "barley and salt", 5 - 2 / 3),
        ("Barley, barley, salt, salt.", "Barley, salt.", 4.5),
        ("Barley, salt.", "Iron, coal.", 4.0),
        ("Barley, salt.", "Barley, coal.", 4.5),
    ],
    ids=["no end", "neither end nor beginning", "half as much", "nothing kept", "half kept"],
)
def test_each_aspect_counts_a_quarter(before, after, found):
    assert rating(after, Chat.pair("?", before)) == pytest.approx(found)


def test_an_answer_to_another_question_is_less_relevant():
    original = Chat.pair("How is the barley boiled?", "The barley is boiled in a pot.")
    assert rating("It goes in a pot, with leeks and carrots.", original) == pytest.approx(
        4.0
    )  # nothing of the question is taken up


@given(st.text(max_size=80), st.text(max_size=80), st.text(max_size=80))
def test_the_local_judge_gives_the_original_a_five_and_others_a_grade(query, answer, other):
    original = Chat.pair(query, answer)
    assert rating(answer, original) == 5.0
    assert 1 <= rating(other, original) <= 5


def measured(*options):
    done = subprocess.run([sys.executable, str(BENCHMARK), *options], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return {
        name.strip(): float(value) for name, value in re.findall(r"^  (\w[^:\n]*): +([01]\.\d+) \[", done.stdout, re.MULTILINE)
    }


def test_the_benchmark_measures_the_judge_against_the_known_order():
    found = measured("--limit", "10")
    assert 0.5 < found["better rung above the worse"] < 1 and 0.5 < found["floor decides as known"] < 1


@pytest.mark.data
@pytest.mark.skipif(not DOLLY.exists(), reason="the shared sample data are not here")
def test_the_local_judge_decides_as_known_on_real_answers():
    found = measured("--data", str(DOLLY), "--limit", "60")
    assert found["floor decides as known"] >= 0.97 and found["better rung above the worse"] >= 0.96
