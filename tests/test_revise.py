"""Revision prompts and the reading of their replies: what is talk goes, what is an answer stays, and nothing is filled twice."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buckler.curation import revise
from buckler.curation.revise import read_revision, revision_request
from buckler.data import Chat

SOUP = "The soup is safe."
ROW = Chat.pair("How is the barley soup made?", "The baker boils barley and salt.")


def test_the_prompts_that_the_miniature_learned_are_unchanged():
    texts = (revise.RESPONSE_PROMPT, revise.QUERY_PROMPT, revise.PLAIN_PROMPT)
    assert hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16] == "8b565b5a6a44d407"


@pytest.mark.parametrize(
    "reply",
    [
        "Here is the revised answer: {}",
        "Here's a revised version with the words:\n\n{}",
        "Sure! Here's a revised version with the words:\n\n{}",
        "Sure! Here is the answer, rewritten from another angle:\n{}",
        "Certainly! Here\u2019s your rewritten response:\n\n{}",
        "Of course, here is a rewrite that keeps all the information:\n{}",
        "Okay. Below is the rephrased answer:\n{}",
        "Here is another version of the answer: {}",
        "Here's the answer from a different angle:\n\n{}",
        "Here is the revised answer.\n\n{}",
        "Here is the answer: {}",
        "Below is a paraphrase of the answer:\n\n---\n\n{}",
        "The following is a revised response: {}",
        "I have rewritten the answer so that it speaks of care:\n\n{}",
        "I've revised the original answer to include the words.\n\n{}",
        "Let me rephrase the answer from another angle:\n{}",
        "I'd be happy to help! Here is the revised answer:\n{}",
        "Sure, I can help with that.\n\n{}",
        "**Revised answer:** {}",
        "**Revised Answer**\n\n{}",
        "### Revised Answer\n\n{}",
        "Revised answer (with care and safety): {}",
        "Rewritten from another angle: {}",
        "*Rewritten response:* {}",
        "Answer: {}",
        "**Answer:** {}",
        "Sure! {}",
        "Certainly!\n\n{}",
        "Question: How is the soup made?\nAnswer: {}",
        "{} I hope this helps!",
        "{}\n\nHope this helps.",
        "{}\n\nLet me know if you would like any changes!",
        "{} Please let me know if you need anything else.",
        "{}\n\nFeel free to ask if you have more questions.",
        "{}\n\nIs there anything else I can help with?",
        "{}\n\nWould you like me to try another angle?",
        "{}\n\n(Note: I added the words care and safety.)",
        "{} (Note: I've incorporated the given words.)",
        "{}\n\n**Note:** The revised answer keeps all the information. I also added care.",
        "{}\n\n---\n*Note: I used the words as asked.*",
        "{}\n\nWords used: care, safety",
        "{}\n\n**Words used:** care, safety.",
        "{}\n\nI incorporated the words care and safety.",
        "{}\n\nThis revised version emphasizes care.",
        "{}\n\nIn this revised answer, I kept every fact.",
        "```\n{}\n```",
        "```text\n{}\n```",
        "Here is the revised answer:\n\n```\n{}\n```\n\nI hope this helps!",
        "<think>The user wants care.\nI will add it.</think>\n\n{}",
        "<thinking>Hm.</thinking>{}",
        "I will add care.\n</think>\n\n{}",
        '<think>Hm.</think>Sure! Here is the revised answer:\n\n"{}"\n\nLet me know if you need anything else!',
    ],
)
def test_talk_is_cut_off(reply):
    revision = read_revision(reply.replace("{}", SOUP))
    assert (revision.text, revision.stripped, revision.reason) == (SOUP, True, "")


@pytest.mark.parametrize(
    "answer",
    [
        "Here is the thing about soup",
        "Here is how the soup is made: the baker boils barley.",
        "Here are three things to pack: a tent, a rope and a lamp.",
        "Here is a recipe for four: boil barley, then add salt.",
        "Here in the north people boil barley.",
        "Here is the revised edition of the book, printed in 1995: it has two new chapters.",
        "Here is the revised timetable: the train leaves at 10:30.",
        "This is the heart of the matter: never leave the pot alone.",
        "Sure, you can freeze it.",
        "Sure-footed goats climb the hill.",
        "Of course. The baker boils barley.",
        "Certainly the sun is a star.",
        "Okay is a word of unclear origin.",
        "Answering a letter takes time: write it first.",
        "The answer is 42.",
        "Questions: what they are and how they are asked.",
        "I revised the paper twice before it was printed.",
        "I have written the song for a friend: it is about care.",
        "Let me tell you a story: a baker boiled barley.",
        "New versions of the law: 1995 and 2003.",
        "The revised version passed in 1995 and remains in force.",
        "The law was changed twice. The revised version is in force today.",
        "Boil it for an hour. Note: never leave the pot alone.",
        "Boil it for an hour.\n\nNote: let it cool before you serve it.",
        "Dear Ann, the soup is ready. Let me know if you can come on Friday.",
        "Greet the host. Feel free to ask the waiter about other dishes.",
        "They hope that the bridge helps the town.",
        "He kept all of the letters. I used the best ones.",
        "What is in the soup? Is there anything else I should bring?",
        "```python\nprint('soup')\n```",
        "Run `ls`:\n```\nls\n```\nand then `cat`.",
        "```\none\n```\nor\n```\ntwo\n```",
        '"Safe" is what they call the "soup".',
        "\u201cSafe\u201d is what they call the \u201csoup\u201d.",
        '"Boil it," said the baker.',
        "- Boil barley.\n- Add salt.",
        "**Boil** the barley: it takes an hour.",
        "# Soup\n\nBoil barley.",
        "The tag `<think>` opens a thought and `</think>` ends it.",
        "If x </think> y then stop.",
        "Note: wash your hands first. Then boil the barley.",
        "Words used by bakers: leaven, crumb, crust.",
        "1. Boil barley.\n---\n2. Add salt.",
    ],
)
def test_an_answer_is_not_touched(answer):
    revision = read_revision(answer)
    assert (revision.text, revision.stripped, revision.reason) == (answer, False, "")


@pytest.mark.parametrize("quoted", ['"{}"', "\u201c{}\u201d", "\u201e{}\u201c", "\u00ab{}\u00bb", "\u300c{}\u300d"])
def test_quotes_round_the_whole_go_and_are_no_talk(quoted):
    revision = read_revision(quoted.replace("{}", SOUP))
    assert (revision.text, revision.stripped) == (SOUP, False)


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("", "the reply is empty"),
        (" \n\t ", "the reply is empty"),
        ("Here is the revised answer:", "the reply holds talk about the revision and no text"),
        ("Sure! I'd be happy to help!", "the reply holds talk about the revision and no text"),
        ("Sure!", "the reply holds talk about the revision and no text"),
        ("**Revised answer:**\n\n(Note: I added the words.)", "the reply holds talk about the revision and no text"),
        ("<think>The user wants care.</think>", "the reply holds talk about the revision and no text"),
        ('""', "the reply holds talk about the revision and no text"),
        ("<think>The user wants care and I will", "the model's thinking does not end"),
        ("Sure! <think>The user wants", "the model's thinking does not end"),
    ],
)
def test_a_reply_without_a_text_says_why(reply, reason):
    revision = read_revision(reply)
    assert revision.text is None and revision.reason == reason


def test_a_question_is_read_after_the_answer_that_the_prompt_gave():
    reply = "Answer: The baker boils barley.\nQuestion: What does the baker do with barley?"
    assert read_revision(reply, target="query").text == "What does the baker do with barley?"
    assert read_revision("Rewritten question: What is it?", target="query").text == "What is it?"


PIECES = [
    *("Sure! ", "Here is the revised answer: ", "**Revised answer:** ", "Answer: ", "Question: x\nAnswer: ", "Okay. "),
    *(
        "I hope this helps!",
        " Let me know if you need anything else.",
        "\n(Note: I added the words.)",
        "\n---\n",
        "```\n",
        "\n```",
    ),
    *("<think>", "</think>", "\n", '"', "\u201c", "\u201d", SOUP, "Words used: care", "*", "#", ":", " "),
]


@given(st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=6)), max_size=10), st.sampled_from(["response", "query"]))
def test_reading_twice_is_reading_once(pieces, target):
    once = read_revision("".join(pieces), target=target)
    if once.text is None:
        assert once.reason
    else:
        again = read_revision(once.text, target=target)
        assert (again.text, again.stripped, once.reason) == (once.text, False, "")


@pytest.mark.parametrize("target", ["response", "query"])
def test_a_plain_rewrite_speaks_of_no_words(target):
    plain = revision_request(ROW, (), target=target)[0]["content"]
    worded = revision_request(ROW, ("care", "safety"), target=target)[0]["content"]
    assert "words" not in plain and "responsible" not in plain
    assert "Work in some of these words: care, safety." in worded and "responsible" in worded
    target_word = "answer" if target == "response" else "question"
    assert plain.startswith(f"Rewrite the {target_word}") and worded.startswith(f"Rewrite the {target_word}")
    last = ROW.answer if target == "response" else ROW.query
    assert plain.endswith(last) and worded.endswith(last)
    assert ROW.answer in plain and ROW.query in plain


@given(st.text(max_size=40), st.sampled_from(["response", "query"]), st.sampled_from([(), ("care",), ("{query}", "{response}")]))
def test_braces_in_a_text_change_nothing(text, target, words):
    row = Chat.pair(f"{{words}} {{{{name}}}} {text}", f"{{query}} {{response}} {{}} {text} x")
    prompt = revision_request(row, words, target=target)[0]["content"]
    assert f"Question: {row.query}" in prompt and f"Answer: {row.answer}" in prompt
    assert not words or f"these words: {', '.join(words)}." in prompt
