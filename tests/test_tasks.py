"""Tasks: the strings the miniature learned, every wording askable, scores with their properties, tasks of the user's own."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buckler.crosstask.scoring import label_named, score, similarity, words
from buckler.crosstask.task import HELD_OUT, is_held_out
from buckler.crosstask.tasks import KNOWN, SENTIMENTS, TASKS, TOPICS, known_tasks, read_tasks, task_named
from buckler.data import Document, content_id
from buckler.data.language import NAMES, language_code, language_name
from buckler.errors import ConfigError, DataError

EVERY = [(task, wording) for task in KNOWN.values() for wording in task.wordings]
IDS = [f"{task.id}-{wording}" for task, wording in EVERY]
SCRIPTS = {
    "English": "The committee met on Tuesday and chose the cheaper plan.",
    "French": "Le maire a annoncé lundi que le pont ouvrira au printemps.",
    "Chinese": "市长在周一宣布，新桥将于明年春天开放。",
    "Japanese": "東京は日本の首都です。今日は雨が降ります。",
    "Korean": "시장은 월요일에 새 다리가 열린다고 발표했다.",
    "Hindi": "मेयर ने सोमवार को नए पुल की घोषणा की।",
    "Arabic": "أعلن العمدة يوم الاثنين أن الجسر سيفتح.",
    "Thai": "สะพานใหม่จะเปิดในฤดูใบไม้ผลิ",
}  # fmt: skip


def paper(text: str = "The Barley soup stands in the Market.", **meta: object) -> Document:
    return Document.of(text, **{"question": "Where does it stand?", **meta})


def test_the_strings_the_miniature_was_built_from_are_unchanged():
    strings = {task.id: {"wordings": dict(task.wordings), "values": dict(task.values)} for task in TASKS.values()}
    assert list(TASKS) == ["summarize", "translate", "sentiment", "case", "cloze", "qa"]
    assert content_id(strings) == "292f2c9ef1c9e73b"
    for task in TASKS.values():  # its corpus draws from them by place, so their order counts too
        authors = ["authors"] if task.id != "qa" else []
        assert list(task.wordings) == ["back", "front", *authors, HELD_OUT]
        prompts = {wording: task.ask(paper(), wording) for wording in task.wordings}
        assert prompts == {wording: KNOWN[task.id].ask(paper(), wording) for wording in task.wordings}


@pytest.mark.parametrize(("task", "wording"), EVERY, ids=IDS)
def test_every_wording_shows_the_document_once_at_the_place_it_names(task, wording):
    document = paper("a")  # a text that the instructions hold too
    *before, last = task.ask(document, wording)
    start, end = task.span(document, wording)
    assert last["role"] == "user" and last["content"][start:end] == task.shown(document)
    other = task.ask(paper("Quite another text."), wording)[-1]["content"]
    assert other[:start] == last["content"][:start] and other.endswith(last["content"][end:])
    assert [turn["role"] for turn in before] == (["system"] if wording in task.systems else [])
    assert "{" not in "".join(turn["content"] for turn in task.ask(document, wording))


@pytest.mark.parametrize("task", KNOWN.values(), ids=list(KNOWN))
def test_some_wordings_are_trained_and_others_held_out_and_no_two_are_the_same(task):
    trained = [wording for wording in task.wordings if not is_held_out(wording)]
    assert trained and len(trained) < len(task.wordings)
    if task.id != "blank":
        assert {"back", "front", "system", HELD_OUT, "held_out_front", "held_out_system"} <= set(task.wordings)
        held = {repr(task.ask(paper(), wording)) for wording in task.wordings if is_held_out(wording)}
        assert held.isdisjoint(repr(task.ask(paper(), wording)) for wording in trained)


def test_blank_shows_the_document_alone():
    assert task_named("blank").ask(paper("Just this."), "back")[0]["content"] == "Just this."
    with pytest.raises(ConfigError, match="cannot be the second question"):
        task_named("blank").follow_up(paper(), "back")


def test_a_follow_up_is_the_instruction_without_the_document():
    assert task_named("translate").follow_up(paper(), "back") == "Translate the above article into Chinese."
    assert task_named("qa").follow_up(paper(), "back") == "Answer from the above article: Where does it stand?"


def test_languages_of_document_and_target_are_parameters():
    translate = task_named("translate").in_languages("fr", "de")
    assert translate.ask(paper("x"), "authors")[0]["content"] == "x\nTranslate the above article from German to French: "
    assert "from Czech into French" in translate.ask(paper("x", language="cs"), "system")[0]["content"]
    assert task_named("translate").in_languages("Zorvish").values == {"language": "Zorvish", "source_language": "English"}
    assert task_named("summarize").in_languages("fr") == task_named("summarize")


@pytest.mark.parametrize(
    ("given", "named"),
    [("zh", "Chinese"), ("ZH-cn", "Simplified Chinese"), ("pt_BR", "Brazilian Portuguese"), ("de-AT", "German"),
     ("chinese", "Chinese"), (" Zorvish ", "Zorvish"), ("lao", "Lao"), ("Klingon", "Klingon"), ("中文", "中文")],
)  # fmt: skip
def test_a_language_is_named_by_code_or_name_and_made_up_ones_pass(given, named):
    assert language_name(given) == named


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("xx", "is not a known language code"),
        ("xx-YY", "is not a known language code"),
        ("", "is not the name of a language"),
        ("12", "is not the name of a language"),
        ("French\nGerman", "is not the name of a language"),
        ("x" * 99, "is not the name of a language"),
        ("Chinse", "did you mean `Chinese`"),
        ("Germann", "did you mean `German`"),
    ],
)
def test_what_is_no_language_is_one_clear_line(given, message):
    with pytest.raises(ConfigError, match=message) as fault:
        language_name(given)
    assert "\n" not in str(fault.value)


def test_every_known_language_is_its_own_name_and_has_a_code():
    for code, name in NAMES.items():
        assert language_name(name) == name and language_name(code) == name and language_code(name) == code.split("-")[0]
    assert language_code("Zorvish") is None


def test_missing_wordings_questions_and_tasks_are_named():
    with pytest.raises(ConfigError, match="it has back, front"):
        task_named("case").ask(paper(), "sideways")
    with pytest.raises(DataError, match="needs a question"):
        task_named("qa").ask(Document.of("text"), "system")
    assert not task_named("qa").asks(Document.of("text"), "back") and not task_named("qa").asks(paper(), "sideways")
    assert task_named("qa").asks(paper(), "back")
    with pytest.raises(ConfigError, match=r"unknown task 'sumarize'.*summarize"):
        task_named("sumarize")


# Scores


@pytest.mark.parametrize("language", SCRIPTS)
@pytest.mark.parametrize("task", KNOWN.values(), ids=list(KNOWN))
def test_a_perfect_answer_scores_one_in_every_script_and_an_empty_or_foreign_one_nothing(task, language):
    reference = SCRIPTS[language]
    task_ = task.in_languages(language)
    assert all(value == pytest.approx(1.0) for value in task_.scores(f" {reference}\n", reference).values())
    assert set(task_.scores("", reference).values()) == {0.0} == set(task_.scores(reference, " ").values())
    other = SCRIPTS["Chinese" if language != "Chinese" else "English"]
    assert task_.score(other, reference) < 0.3


@given(st.text(max_size=60), st.text(max_size=60))
@settings(max_examples=60)
def test_scores_lie_between_0_and_1_and_the_symmetric_ones_are(one, other):
    for metric in ("rouge_l", "chrf", "bleu", "accuracy", "edit"):
        assert 0 <= score(metric, one, other, labels=SENTIMENTS, language="Japanese") <= 1
    for metric in ("rouge_l", "edit"):
        assert score(metric, one, other) == pytest.approx(score(metric, other, one))


@given(st.text(alphabet="abA ", max_size=40), st.text(alphabet="abA ", max_size=40))
def test_similarity_is_that_of_the_longest_common_subsequence(one, other):
    table = [[0] * (len(other) + 1) for _ in range(len(one) + 1)]
    for i, a in enumerate(one, 1):
        for j, b in enumerate(other, 1):
            table[i][j] = table[i - 1][j - 1] + 1 if a == b else max(table[i - 1][j], table[i][j - 1])
    total = len(one) + len(other)
    assert similarity(one, other) == pytest.approx(2 * table[-1][-1] / total if total else 1.0)


@given(st.text(alphabet=st.characters(max_codepoint=127), max_size=80))
def test_on_plain_english_words_are_rouge_scores_own(text):
    from rouge_score.tokenizers import DefaultTokenizer

    assert words(text) == DefaultTokenizer(use_stemmer=False).tokenize(text)


def test_rouge_l_of_english_is_the_published_one():
    from rouge_score.rouge_scorer import RougeScorer

    one, other = "The bakers made breads at the old mill.", "At the mill a baker makes bread, it is said."
    stock = RougeScorer(["rougeL"], use_stemmer=True).score(other, one)["rougeL"].fmeasure
    assert score("rouge_l", one, other) == stock > 0


def test_bleu_counts_words_as_the_target_language_writes_them():
    reference, answer = (
        "新桥将于明年春天开放",
        "新桥将于明年秋天开放",
    )
    assert task_named("translate").scores(answer, reference)["bleu"] > 0.4  # one character of ten differs
    assert task_named("translate").in_languages("French").scores(answer, reference)["bleu"] == 0  # one word, and it is wrong


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("It is positive.", "positive"),
        ("POSITIVE", "positive"),
        ("The sentiment is not positive, it is negative.", "negative"),
        ("It isn\u2019t positive.", None),
        ("Positive, not negative.", "positive"),
        ("I would call it negative rather than positive.", "negative"),
        ("It is neither positive nor negative but neutral.", "neutral"),
        ("It is positive and negative.", None),
        ("nonpositive", None),
        ("The writer likes it.", None),
        ("No, it is negative.", "negative"),
    ],
)
def test_the_sentiment_is_the_one_label_that_is_named_and_not_denied(text, label):
    assert label_named(text, SENTIMENTS) == label
    assert task_named("sentiment").score(text, "People call it grim, so it is negative.") == float(label == "negative")


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("B", "B"),
        ("**B**", "B"),
        ("(B)", "B"),
        ("B. Sci/Tech", "B"),
        ("Sci/Tech", "B"),
        ("The answer is B.", "B"),
        ("Answer: D", "D"),
        ("It is D Sport, played all over the world.", "D"),
        ("A story about sport.", "D"),
        ("A", "A"),
        ("A Business", "A"),
        ("E None", "E"),
        ("None of these.", "E"),
        ("Not business, but science.", "B"),
        ("A or B", None),
        ("A) Business\nB) Sci/Tech\nC) World", None),
        ("A. World", None),
        ("Cooking", None),
    ],
)
def test_a_topic_is_named_by_letter_or_by_name(text, label):
    assert label_named(text, TOPICS) == label
    for reference in ("B", "Sci/Tech", "B Sci/Tech"):
        assert task_named("topic").score(text, reference) == float(label == "B")


@pytest.mark.parametrize(
    ("answer", "reference", "value"),
    [
        ("It was the Baker, they say.", "the baker", 1),
        ("It was the smith.", "the baker", 0),
        ("In 1942.", "42", 0),
        ("The baker makes it.", "The smith makes it.", 0),
        ("The old mill by the river burned down that night.", "On that night the old mill near the river burned down.", 14 / 17),
    ],
)
def test_short_answers_are_found_or_not_and_long_ones_compared_by_words(answer, reference, value):
    assert task_named("qa").score(answer, reference) == pytest.approx(value)


def test_case_counts_capitals():
    case = task_named("case")
    assert 0.8 < case.score("the mill burned.", "The Mill burned.") < 1 == case.score("The Mill burned.", "The Mill burned.")


def test_a_long_document_is_scored_in_no_time():
    text = " ".join(f"The {word} of number {at} lies in Harbour road." for at, word in enumerate(["wall", "Mill", "barn"] * 200))
    assert len(text) > 20_000
    start = time.process_time()
    assert task_named("case").score(text.lower(), text) > 0.9
    assert task_named("translate").scores(text, text) == {"chrf": pytest.approx(1), "bleu": pytest.approx(1)}
    assert time.process_time() - start < 3


# Tasks of the user's own

KEYWORDS = """
keywords:
  wordings:
    back: "{document}\\n\\nList {count} keywords."
    system: {system: "List {count} keywords of what is sent.", user: "{document}"}
    held_out: "{document}\\n\\nWhat is it filed under?"
  metric: rouge_l
  values: {count: five}
  verb: list keywords of
spam:
  wordings: {back: "{document}\\n\\nIs it spam?"}
  metric: accuracy
  labels: ["yes", "no"]
into:
  wordings: {back: "{document}\\n\\nIn {language}, please."}
  metric: chrf
  values: {language: zh}
"""


def own(tmp_path, text):
    path = tmp_path / "tasks.yaml"
    path.write_text(text, encoding="utf-8")
    return read_tasks(path)


def test_a_task_of_ones_own_is_a_few_lines(tmp_path):
    found = own(tmp_path, KEYWORDS)
    task = task_named("keywords", found)
    assert task.ask(paper("Text."), "back")[0]["content"] == "Text.\n\nList five keywords."
    assert [turn["role"] for turn in task.ask(paper("Text."), "system")] == ["system", "user"]
    assert task.verb == "list keywords of" and is_held_out("held_out") and task.score("a b", "a b") == 1
    assert found["spam"].score("No, it is not.", "no") == 1 and found["into"].values == {"language": "Chinese"}
    assert list(known_tasks(found)) == [*KNOWN, "keywords", "spam", "into"] and set(known_tasks()) == set(KNOWN)


GOOD = 'keywords:\n  wordings: {back: "{document} Keywords?"}\n  metric: rouge_l\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n- b\n", "expected tasks by name"),
        ("", "expected tasks by name"),
        ("keywords: [1", "not YAML"),
        ("keywords: text\n", "task keywords: expected keys and values"),
        (GOOD + "  lowr: true\n", "did you mean `lower`"),
        (GOOD.replace("rouge_l", "rouge"), "`metric`"),
        (GOOD.replace("  metric: rouge_l\n", ""), "`metric`"),
        (GOOD.replace('{back: "{document} Keywords?"}', "{}"), "`wordings`"),
        (GOOD.replace("{document}", "It"), "must contain {document} exactly once"),
        (GOOD.replace("Keywords?", "{document}"), "must contain {document} exactly once"),
        (GOOD.replace("Keywords?", "{count} words?"), "unknown placeholder {count}"),
        (GOOD.replace("Keywords?", "In {language}?"), "unknown placeholder {language}"),
        (GOOD.replace('"{document} Keywords?"', '{user: "{document}", system: "{document}"}'), "into the user turn"),
        (GOOD.replace('"{document} Keywords?"', '{usr: "{document}"}'), "wordings.back"),
        (GOOD + "  labels: [yes, no]\n", "put it in quotes"),
        (GOOD + '  labels: ["yes", "no"]\n', "only the metric `accuracy` uses labels"),
        (GOOD + "  values: {language: xx}\n", "task keywords: language 'xx' is not a known language code"),
        (GOOD.replace("keywords:", "summarize:"), "already"),
        (GOOD.replace("keywords:", "mixed:"), "something else"),
        (GOOD.replace("keywords:", "Key Words:"), "lower-case letters"),
        (GOOD.replace("keywords:", "3:"), "put it in quotes"),
    ],
)
def test_a_bad_file_of_tasks_is_one_clear_line(tmp_path, text, message):
    with pytest.raises(ConfigError) as fault:
        own(tmp_path, text)
    assert message in str(fault.value) and "tasks.yaml" in str(fault.value) and "\n" not in str(fault.value)


def test_no_file_of_tasks_is_one_clear_line(tmp_path):
    with pytest.raises(ConfigError, match="no such file"):
        read_tasks(tmp_path / "none.yaml")
