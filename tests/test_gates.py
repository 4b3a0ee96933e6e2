"""The gates: each rejects with its own reason, lets the border pass, can be switched off, and knows other scripts."""

from __future__ import annotations

import pytest

from buckler.curation.gates import SLACK, gate, gate_perplexity
from buckler.curation.revise import PROMPTS
from buckler.curation.settings import Gates
from buckler.data import Chat

SOUP = "The baker boils barley and salt in a pot. It feeds the guests."
TEXT = Chat.pair("How is the barley soup made?", SOUP)
CARE = f"Please be careful. {SOUP}"
NONE = Gates(
    cut_off=None,
    repetition=None,
    incoherent=None,
    copied_prompt=None,
    refusal=None,
    script=None,
    language=None,
    length_ratio=None,
    kept_information=None,
    perplexity_ratio=None,
)
LOOP = " ".join(["barley salt"] * 8)
RUSSIAN = "Пекарь варит ячмень и соль в горшке для своих гостей."
ARABIC = "الخباز يغلي الشعير والملح في القدر."
CHINESE = "面包师在锅里用盐煮大麦。客人吃饱了。"


def reason(text, gates=None, original=TEXT, target="response", finish_reason="stop", **more):
    return gate(text, finish_reason, original, target, gates or Gates(), **more).reason


def only(**changes):
    return NONE.model_copy(update=changes)


def test_a_revision_with_care_passes_every_gate():
    reading = gate(CARE, "stop", TEXT, "response", Gates())
    assert reading.reason == "" and reading.chat is not None
    assert reading.chat.answer == CARE and reading.chat.query == TEXT.query


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("repetition", f"{SOUP} {SOUP} {SOUP}", "repeats itself: "),
        ("incoherent", LOOP, "incoherent: "),
        ("incoherent", SOUP + " \ufffd\ufffd\ufffd\ufffd", "incoherent: "),
        ("copied_prompt", f"Rewrite the answer from another angle. {SOUP}", "copies the revision prompt: "),
        ("copied_prompt", f"{SOUP} Add new ideas that fit.", "copies the revision prompt: "),
        ("copied_prompt", f"I kept all and work in some of these words: care. {SOUP}", "copies the revision prompt: "),
        ("copied_prompt", f"I tried to keep all the information of them. {SOUP}", "copies the revision prompt: "),
        ("refusal", "I cannot help with that.", "is a refusal"),
        ("script", RUSSIAN, "in another script: "),
        ("script", f"{SOUP} {CHINESE}", "in another script: "),
        (
            "language",
            "Der Bäcker kocht die Gerste und das Salz in dem Topf. Es ist für die Gäste.",
            "in another language: de",
        ),
        ("length_ratio", "Please be careful.", "length is 0.29 times"),
        ("kept_information", "The smith hammers iron in a forge. It warms the town.", "keeps 0% of"),
    ],
)
def test_each_gate_gives_its_reason_and_can_be_switched_off(name, text, says):
    original = (
        Chat.pair("How is the soup made?", SOUP + " That is all that there is to it, and they like it so.")
        if name == "language"
        else TEXT
    )
    value = getattr(Gates(), name)
    assert reason(text, only(**{name: value}), original).startswith(says)
    assert reason(text, NONE, original) == ""


@pytest.mark.parametrize("prompt", PROMPTS.values())
def test_every_rule_line_of_every_prompt_gives_a_copy_away(prompt):
    lines = [line for line in prompt.splitlines() if line and not line.startswith(("Question", "Answer"))]
    for line in lines:
        copied = line.replace("{words}", "care")
        assert reason(f"{SOUP} {copied}", only(copied_prompt=True)).startswith("copies the revision prompt"), line


def test_words_of_the_prompt_that_the_original_has_are_no_copy():
    original = Chat.pair("How do I edit?", "Rewrite the answer from another angle. Keep all the information of the answer.")
    text = "Be kind. Rewrite the answer from another angle. Keep all the information of the answer."
    assert reason(text, only(copied_prompt=True), original) == ""


@pytest.mark.parametrize("text", ["Rewrite the letter.", "Keep all the information in one place.", "Another angle helps."])
def test_a_few_words_of_the_prompt_are_no_copy(text):
    assert reason(text, only(copied_prompt=True)) == ""


def test_repetition_is_told_apart_from_noise_and_measured_against_the_original():
    assert reason(f"{SOUP} {SOUP} {SOUP}").startswith("repeats itself")
    song = Chat.pair("Sing.", "Row the boat and row the boat and row the boat and row the boat.")
    assert reason("Row the boat and row the boat and row the boat, dear.", only(repetition=0.3), song) == ""
    assert reason(LOOP, Gates(incoherent=None, length_ratio=None)).startswith("repeats itself")


def test_repetition_at_the_border():
    text = "one two three four five six seven eight one two three four five six"  # 3 of 11 runs stood before
    assert reason(text, only(repetition=3 / 11)) == ""
    assert reason(text, only(repetition=3 / 11 - 0.01)) == "repeats itself: 27% of its runs of four words"


def test_a_reply_cut_off_at_the_limit_is_rejected():
    assert reason("The baker boils barley and", finish_reason="length") == "cut off at the token limit"
    assert reason(CARE, NONE, finish_reason="length") == ""


def test_an_answer_that_never_came_says_why():
    assert (
        reason("", NONE, finish_reason="failed", error="the server said 500") == "the model did not answer: the server said 500"
    )


def test_the_original_over_again_is_no_candidate():
    assert reason(f" {SOUP}\n", NONE) == "same as the original"


def test_length_at_the_border():
    short = Chat.pair("Who?", "x" * 10)
    assert reason("y" * 5, only(length_ratio=(0.5, 2.0)), short) == ""
    assert reason("y" * 4, only(length_ratio=(0.5, 2.0)), short) == "length is 0.40 times the original's"
    assert reason("y" * (10 + SLACK), only(length_ratio=(0.5, 2.0)), short) == ""
    assert reason("y" * (11 + SLACK), only(length_ratio=(0.5, 2.0)), short) == "length is 13.10 times the original's"


def test_a_chinese_character_is_as_long_as_two_letters():
    short = Chat.pair("?", "麦" * 10)
    assert reason("y" * 10, only(length_ratio=(0.5, 2.0)), short) == ""
    assert reason("y" * 9, only(length_ratio=(0.5, 2.0)), short) == "length is 0.45 times the original's"


def test_kept_information_at_the_border():
    original = Chat.pair("What?", "barley salt pepper thyme onion")
    assert reason("barley salt pepper iron coal", only(kept_information=0.6), original) == ""
    assert reason("barley salt iron coal", only(kept_information=0.6), original) == "keeps 40% of the original's information"


def test_perplexity_at_the_border():
    gates = Gates(perplexity_ratio=50)
    assert gate_perplexity(100.0, 2.0, gates) == ""
    assert gate_perplexity(100.1, 2.0, gates) == "perplexity 100.1 is over 50 times the original's 2"
    assert gate_perplexity(float("inf"), 2.0, NONE) == ""
    assert gate_perplexity(float("inf"), 2.0, gates)


def test_script_at_the_border():
    gates = only(script=0.2)
    original = Chat.pair("What?", "a" * 40)
    assert reason("b" * 8 + "б" * 2, gates, original) == ""
    assert reason("b" * 79 + "б" * 21, gates, original) == "in another script: 21% apart from the original's letters"


@pytest.mark.parametrize(
    ("query", "answer", "text"),
    [
        ("What is pi?", "π = 3.14", "Pi (π) is about 3.14, so be careful when you round it."),
        ("What is six times seven?", "42", "Six times seven is 42."),
        (
            "Say hello in Russian.",
            "Привет",
            "Привет, друзья!",
        ),
        ("6 x 7?", "42", "It is 42."),
    ],
)
def test_a_short_answer_may_be_spoken_of_in_the_scripts_of_its_question(query, answer, text):
    original = Chat.pair(query, answer)
    assert reason(text, only(script=0.2), original) == ""


def test_a_short_answer_does_not_let_a_third_script_in():
    assert reason(CHINESE, only(script=0.2), Chat.pair("What is six times seven?", "42")).startswith("in another script")


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (CHINESE, f"请小心，注意安全。{CHINESE}"),
        (RUSSIAN, f"Будьте осторожны. {RUSSIAN}"),
        (ARABIC, f"كن حذراً. {ARABIC}"),
    ],
    ids=["chinese", "russian", "arabic"],
)
def test_a_careful_revision_in_any_script_passes_every_gate(answer, text):
    assert reason(text, original=Chat.pair("?", answer)) == ""
    assert reason(SOUP, only(kept_information=0.6), Chat.pair("?", answer)).startswith("keeps 0%")


def test_languages_that_are_not_clear_pass():
    assert reason("Barley, salt: a pot.", only(language=True)) == ""
    assert reason("Die Gerste kocht.", only(language=True), Chat.pair("What?", "Barley.")) == ""


def test_a_revised_question_keeps_its_answer_and_may_say_that_it_cannot():
    reading = gate("I cannot help with the barley soup. How is it made?", "stop", TEXT, "query", Gates())
    assert reading.reason == "" and reading.chat is not None
    assert reading.chat.answer == TEXT.answer and reading.chat.query.startswith("I cannot")
    assert reason("I cannot help with that.", only(refusal=True), target="query") == "is a refusal"


def test_the_last_question_of_a_conversation_is_the_one_revised():
    turns = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}, *TEXT.messages]
    reading = gate("How do they make the barley soup?", "stop", Chat.of(turns, source="x"), "query", Gates())
    assert reading.chat is not None and reading.chat.meta == {"source": "x"}
    assert [turn["content"] for turn in reading.chat.messages] == ["Hello", "Hi", "How do they make the barley soup?", SOUP]
