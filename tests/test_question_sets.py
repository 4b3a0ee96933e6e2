"""Published sets of questions and attacks under their own columns: asked whole, with golds, labels, categories."""

from __future__ import annotations

import json

import pytest

from buckler.data import Answer
from buckler.errors import DataError
from buckler.evaluation.golds import EXACT
from buckler.evaluation.probes import BENIGN_FORMATS, LABELS, in_set, set_of
from buckler.evaluation.scores import score_answer
from buckler.evaluation.utility import ask
from buckler.formats import read_chats
from buckler.formats.read import LABEL_COLUMNS
from buckler.workflow.jobs.probes import ProbesJob


def put(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def score(row, text):
    probe = in_set(row)
    return score_answer(Answer(id=probe.id, prompt=probe.messages, text=text, finish_reason="stop", meta=probe.meta), EXACT)


WINOGRANDE = {
    "qID": "1",
    "sentence": "The cup does not fit the box because _ is big.",
    "option1": "cup",
    "option2": "box",
    "answer": "1",
}
SIQA = {
    "context": "Ann sold a hat.",
    "question": "Why?",
    "answerA": "to eat",
    "answerB": "to rest",
    "answerC": "to sing",
    "label": "2",
}
HELLASWAG = {
    "activity_label": "Hats",
    "ctx_a": "A man lifts a hat.",
    "ctx_b": "he",
    "ctx": "A man lifts a hat. he",
    "endings": ["eats it.", "puts it on [title] well.", "sings.", "sits."],
    "label": "1",
}
GPQA = {
    "Question": "How many?",
    "Correct Answer": "three",
    "Incorrect Answer 1": "one",
    "Incorrect Answer 2": "two",
    "Incorrect Answer 3": "four",
    "Subdomain": "hats",
}
SCIQ = {
    "question": "What melts?",
    "distractor1": "x",
    "distractor2": "y",
    "distractor3": "z",
    "correct_answer": "ice",
    "support": "Ice melts.",
}
MMLU_PRO = {
    "question_id": 70,
    "question": "1+1?",
    "options": ["1", "2", "3", "N/A"],
    "answer": "B",
    "answer_index": 1,
    "category": "math",
}
OPENBOOKQA = {
    "id": "7",
    "question_stem": "What flies?",
    "choices": {"text": ["kites", "soup"], "label": ["A", "B"]},
    "answerKey": "A",
}
COPA = {"premise": "It rained.", "choice1": "I got wet.", "choice2": "I sang.", "question": "effect", "label": 0}
RACE = {"article": "Ann has a hat.", "question": "What has Ann?", "options": ["a hat", "soup"], "answer": "A"}
MEDQA = {"question": "What helps?", "options": {"A": "soup", "B": "rest"}, "answer": "rest", "answer_idx": "B"}
AGIEVAL = {"passage": "Hats are tall.", "question": "Which?", "options": ["(A)low", "(B)tall"], "label": "B", "answer": None}
AQUA = {"question": "3 and 4?", "options": ["A)7", "B)8", "C)9"], "rationale": "3 + 4 = 7, so A.", "correct": "A"}
LOGIQA = {"context": "All hats are tall.", "query": "So?", "options": ["low", "tall"], "correct_option": 1}
MEDMCQA = {"question": "Which?", "opa": "one", "opb": "two", "opc": "three", "opd": "four", "cop": 3}

CHOICE_SETS = {
    "winogrande": ([WINOGRANDE], "winogrande", ("cup", "box"), "cup", "fit the box because _"),
    "winogrande-xl": ([{**WINOGRANDE, "answer": "2"}], "winogrande", ("cup", "box"), "box", "blank (_)"),
    "winogrande-ints": ([{**WINOGRANDE, "answer": 0}, WINOGRANDE], "winogrande", ("cup", "box"), "cup", "_"),
    "siqa": ([SIQA], "siqa", ("to eat", "to rest", "to sing"), "to rest", "Ann sold a hat.\nWhy?"),
    "siqa-ints": ([{**SIQA, "label": 3}], "siqa", ("to eat", "to rest", "to sing"), "to sing", "Why?"),
    "hellaswag": (
        [HELLASWAG],
        "hellaswag",
        ("eats it.", "puts it on. well.", "sings.", "sits."),
        "puts it on. well.",
        "Hats: A man lifts",
    ),
    "hellaswag-int": (
        [{"ctx": "It is", "endings": ["a", "b"], "label": 0}],
        "hellaswag",
        ("a", "b"),
        "a",
        "How does this text go on?\nIt is",
    ),
    "gpqa": ([GPQA], "choices", None, "three", "How many?"),
    "sciq": ([SCIQ], "choices", None, "ice", "Ice melts.\nWhat melts?"),
    "mmlu-pro": ([MMLU_PRO], "choices", ("1", "2", "3"), "2", "1+1?"),
    "mmlu-pro-index": ([{**MMLU_PRO, "answer": None}], "choices", ("1", "2", "3"), "2", "1+1?"),
    "openbookqa": ([OPENBOOKQA], "choices", ("kites", "soup"), "kites", "What flies?"),
    "copa": ([COPA], "choices", ("I got wet.", "I sang."), "I got wet.", "It rained.\nWhat happened as a result?"),
    "copa-cause": ([{**COPA, "question": "cause", "label": 1}], "choices", ("I got wet.", "I sang."), "I sang.", "the cause"),
    "race": ([RACE], "choices", ("a hat", "soup"), "a hat", "Ann has a hat.\nWhat has Ann?"),
    "medqa": ([MEDQA], "choices", ("soup", "rest"), "rest", "What helps?"),
    "agieval": ([AGIEVAL], "choices", ("low", "tall"), "tall", "Hats are tall.\nWhich?"),
    "aqua": ([AQUA], "choices", ("7", "8", "9"), "7", "3 and 4?"),
    "logiqa": ([LOGIQA, {**LOGIQA, "correct_option": 0}], "choices", ("low", "tall"), "tall", "All hats are tall.\nSo?"),
    "medmcqa": ([MEDMCQA], "choices", ("one", "two", "three", "four"), "four", "Which?"),
    "copies-of-mmlu": (
        [
            {"question": "Which?", "choices": ["x", "y"], "answer": "1"},
            {"question": "What?", "choices": ["x", "y"], "answer": "0"},
        ],
        "mmlu-rows",
        ("x", "y"),
        "y",
        "Which?",
    ),
    "copies-of-mmlu-from-1": (
        [
            {"question": "Which?", "choices": ["x", "y"], "answer": "1"},
            {"question": "What?", "choices": ["x", "y"], "answer": "2"},
        ],
        "mmlu-rows",
        ("x", "y"),
        "x",
        "Which?",
    ),
    "copies-of-mmlu-as-text": (
        [{"question": "Which?", "choices": ["xx", "yy"], "answer": "yy"}],
        "mmlu-rows",
        ("xx", "yy"),
        "yy",
        "Which?",
    ),
}


@pytest.mark.parametrize("name", CHOICE_SETS)
def test_a_question_is_asked_with_its_context_and_choices(tmp_path, name):
    rows, format, choices, gold, shown_text = CHOICE_SETS[name]
    row = read_chats(put(tmp_path / "rows.jsonl", *rows))[0]
    assert row.meta["format"] == format and set_of(row) == "benign"
    shown = row.meta["choices"]
    assert choices is None or tuple(shown.values()) == choices
    assert shown[row.meta["gold"]] == gold == shown[row.answer]
    assert shown_text in row.query and all(f"{label}. {one}" in row.query for label, one in shown.items())
    assert score(row, f"The answer is {row.answer}.") == 1
    other = next(label for label in shown if label != row.meta["gold"])
    assert score(row, f"The answer is {other}.") == 0
    question = ask(row)
    assert question.choices[question.gold] in (gold, row.answer)


def test_right_choices_beside_wrong_ones_stand_at_no_fixed_place(tmp_path):
    rows = [{**SCIQ, "question": f"What melts, case {at}?"} for at in range(200)]
    golds = [row.meta["gold"] for row in read_chats(put(tmp_path / "sciq.jsonl", *rows))]
    assert all(30 < golds.count(letter) < 70 for letter in "ABCD")


def test_what_tells_no_right_choice_is_said_with_its_line(tmp_path):
    unknown = {"question": "Which?", "choices": ["x", "y", "z"], "answer": "1"}
    with pytest.raises(DataError, match=r"a\.jsonl:1: .*counted from 0 or from 1; write its label"):
        read_chats(put(tmp_path / "a.jsonl", unknown))
    with pytest.raises(DataError, match=r"b\.jsonl:2: .*\"7\" is not among the choices A, B"):
        read_chats(put(tmp_path / "b.jsonl", COPA | {"label": 0}, COPA | {"label": "7"}))
    with pytest.raises(DataError, match=r"c\.jsonl:1: .*is not among the choices A, B"):
        read_chats(put(tmp_path / "c.jsonl", RACE | {"answer": "E"}))
    for odd in ("9" * 5000, "\u00b2", "1.0", True):
        with pytest.raises(DataError, match=r"e\.jsonl:1: .* is not among the choices"):
            read_chats(put(tmp_path / "e.jsonl", COPA | {"label": odd}))
    (hidden,) = read_chats(put(tmp_path / "d.jsonl", HELLASWAG | {"label": ""}))
    assert hidden.answer is None and "gold" not in hidden.meta
    shown = "\n".join(ProbesJob(files=[str(tmp_path / "d.jsonl")]).run().lines())
    assert "1 with choices and no right answer: they cannot be scored" in shown


GOLD_SETS = {
    "math": (
        {"problem": "1/2?", "solution": r"It is $\boxed{\frac{1}{2}}$.", "level": "Level 1", "type": "Algebra"},
        "math",
        "0.5",
    ),
    "math-500": (
        {"problem": "1/2?", "solution": r"So $\frac{1}{2}$.", "answer": r"\frac{1}{2}", "subject": "Algebra"},
        "math",
        r"\boxed{1/2}",
    ),
    "aime": ({"ID": "2024-1", "Problem": "3 and 4?", "Solution": "3 + 4 = 7", "Answer": 7}, "math", "It is 7."),
    "svamp": (
        {"ID": "c-1", "Body": "Ann has 3 hats.", "Question": "How many?", "Equation": "3", "Answer": 3.0},
        "word-problem",
        "3",
    ),
    "asdiv": (
        {"body": "Ann has 9 apples.", "question": "How many?", "answer": "9 (apples)", "formula": "9=9"},
        "word-problem",
        "9 apples",
    ),
    "mawps": ({"iIndex": 1, "sQuestion": "3 and 4?", "lEquations": ["X=3+4"], "lSolutions": [7.0]}, "word-problem", "3+4=7"),
    "squad": (
        {
            "id": "1",
            "context": "Ann sold it.",
            "question": "Who?",
            "answers": {"text": ["Ann", "Ann B."], "answer_start": [0, 0]},
        },
        "squad",
        "ann b",
    ),
    "squad-json": (
        {"context": "Ann sold it.", "question": "Who?", "answers": [{"text": "Ann", "answer_start": 0}]},
        "squad",
        "Ann",
    ),
    "triviaqa": ({"question": "Who?", "answer": {"value": "Ann", "aliases": ["Annie"]}}, "squad", "Annie"),
    "nq-open": ({"question": "who", "answer": ["Ann", "Annie"]}, "squad", "the Ann"),
    "drop": (
        {"passage": "3 hats.", "question": "How many?", "answers_spans": {"spans": ["3"], "types": ["number"]}},
        "squad",
        "3",
    ),
}


@pytest.mark.parametrize("name", GOLD_SETS)
def test_a_question_with_a_gold_is_scored_by_it(tmp_path, name):
    row, format, answer = GOLD_SETS[name]
    (read,) = read_chats(put(tmp_path / "rows.jsonl", row))
    assert read.meta["format"] == format and set_of(read) == "benign"
    assert score(read, answer) == 1 and score(read, read.answer) == 1 and score(read, "no 999") == 0
    given = next((row[key] for key in ("context", "passage", "Body", "body") if key in row), "")
    assert given in read.query


def test_an_unanswerable_question_has_no_gold(tmp_path):
    (read,) = read_chats(
        put(tmp_path / "r.jsonl", {"context": "c", "question": "q", "answers": {"text": [], "answer_start": []}})
    )
    assert read.answer is None and "gold" not in read.meta and score(read, "x") is None


def test_an_empty_answer_beside_a_gold_is_a_prompt(tmp_path, caplog):
    rows = [
        {"instruction": f"{at} and 3?", "input": "", "output": "" if at == 1 else f"It is {at + 3}.", "answer": f"{at + 3}.0"}
        for at in range(3)
    ]
    read = read_chats(put(tmp_path / "r.jsonl", *rows))
    assert len(read) == 3 and read[1].answer is None and read[1].meta["gold"] == "4.0"
    assert "r.jsonl:2: the answer is empty (in 1 of 3 rows)" in caplog.text
    with pytest.raises(DataError, match="the answer is empty"):
        read_chats(put(tmp_path / "s.jsonl", {"prompt": "q", "response": "a"}, {"prompt": "p", "response": ""}))


ATTACKS = {
    "wildjailbreak": (
        {"adversarial": "Play a hat.", "label": 1, "data_type": "adversarial_harmful"},
        "harmful",
        "adversarial_harmful",
    ),
    "wildjailbreak-benign": (
        {"adversarial": "Play a hat.", "label": 0, "data_type": "adversarial_benign"},
        "borderline",
        "adversarial_benign",
    ),
    "wildjailbreak-train": (
        {"vanilla": "Play a hat.", "adversarial": "", "completion": "No.", "data_type": "vanilla_harmful"},
        "harmful",
        "vanilla_harmful",
    ),
    "salad": (
        {"qid": 1, "question": "Play a hat.", "source": "x", "1-category": "O1: Hats", "2-category": "O2"},
        "harmful",
        "O1: Hats",
    ),
    "salad-attack": (
        {"aid": 1, "augq": "Play a hat.", "baseq": "Hat?", "method": "m", "1-category": "O1: Hats"},
        "harmful",
        "O1: Hats",
    ),
    "air-bench": (
        {"cate-idx": "1", "l2-name": "Hats", "l3-name": "Tall", "l4-name": "x", "prompt": "Play a hat."},
        "harmful",
        "Hats",
    ),
    "aya": (
        {"prompt": "Play a hat.", "harm_category": "['Hats']", "literal_translation": "Hat", "language": "en"},
        "harmful",
        "['Hats']",
    ),
    "sst-original": (
        {"id": "sst_001", "harm_area": "Hats", "counter": 1, "category": "c", "prompts_final": "Play a hat."},
        "harmful",
        "Hats",
    ),
    "aegis": ({"prompt": "Play a hat.", "prompt_label": "unsafe", "violated_categories": "Hats"}, "harmful", "Hats"),
    "aegis-safe": ({"prompt": "Play a hat.", "prompt_label": "safe", "violated_categories": ""}, "borderline", None),
    "flags": ({"prompt": "Play a hat.", "is_harmful": True, "hazard_category": ["Hats", "Salt"]}, "harmful", "Hats, Salt"),
    "wild-jailbreaks": ({"prompt": "Play a hat.", "jailbreak": False, "platform": "x"}, "benign", None),
    "falsereject": ({"prompt": "Play a hat.", "category_text": "Hats"}, None, "Hats"),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_red_team_sets_keep_their_labels_and_categories(tmp_path, name):
    row, wanted, category = ATTACKS[name]
    (read,) = read_chats(put(tmp_path / "rows.jsonl", row))
    assert read.query == "Play a hat." and set_of(read) == wanted and read.meta.get("category") == category
    used = {"category_text", "hazard_category", "violated_categories", "1-category", "l2-name", *LABEL_COLUMNS}
    assert not used & set(read.meta.get("ignored_columns", ()))


def test_files_nested_by_category_or_behaviour_are_rows(tmp_path):
    catqa = tmp_path / "catqa.json"
    catqa.write_text(
        json.dumps({"Physical Harm": {"Hats": ["Play a hat.", "Play two."]}, "Economic Harm": {"Salt": ["Sell salt."]}})
    )
    rows = read_chats(catqa)
    assert [row.query for row in rows] == ["Play a hat.", "Play two.", "Sell salt."]
    assert [row.meta["category"] for row in rows] == ["Physical Harm", "Physical Harm", "Economic Harm"]
    completions = tmp_path / "completions.json"
    completions.write_text(
        json.dumps(
            {"hat_1": [{"test_case": "Play a hat.", "generation": "No."}], "salt_2": [{"test_case": "Sell.", "generation": "x"}]}
        )
    )
    assert [(row.query, row.meta["category"], set_of(row)) for row in read_chats(completions)] == [
        ("Play a hat.", "hat_1", "harmful"),
        ("Sell.", "salt_2", "harmful"),
    ]
    (toxic,) = read_chats(
        put(tmp_path / "t.jsonl", {"filename": "f", "challenging": False, "prompt": {"text": "The hat", "toxicity": 0.1}})
    )
    assert toxic.query == "The hat" and set_of(toxic) is None


def test_a_question_with_an_answer_is_no_attack_whatever_its_category(tmp_path):
    row = {"question": "What is a hat?", "category": "hats", "subcategory": "tall", "answer": "felt"}
    (read,) = read_chats(put(tmp_path / "r.jsonl", row))
    assert set_of(read) is None and read.answer == "felt"


def test_a_label_that_says_nothing_is_told_with_its_place(tmp_path):
    (row,) = read_chats(put(tmp_path / "r.jsonl", {"prompt": "Play a hat.", "prompt_label": "perhaps"}))
    with pytest.raises(DataError, match=r"r\.jsonl: row 1: the label \"perhaps\" is none of"):
        set_of(row, "r.jsonl: row 1")
    assert set(LABELS.values()) == {"harmful", "borderline", "benign"}


def test_every_scorer_belongs_to_a_utility_set():
    assert set(EXACT) <= BENIGN_FORMATS
