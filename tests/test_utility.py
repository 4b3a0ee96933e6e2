"""Choices by likelihood and short answers by exact match: by hand, and against lm-evaluation-harness."""

from __future__ import annotations

import json

import pytest
from conftest import make_model

from buckler.data import Chat
from buckler.errors import BackendError, DataError
from buckler.evaluation.golds import EXACT, closed_match, flexible_match, strict_match
from buckler.evaluation.utility import ask, choose, summarise
from buckler.formats import read_chats
from buckler.models.protocol import Likelihood, ModelSpec, ScriptedLM

ARC = [
    ("What keeps rain off a head?", ["a hat", "a very long and heavy stone wall", "soup"], 0),
    ("Where do frogs live?", ["ponds", "in the ovens of old bakeries"], 0),
    ("What is soup made of?", ["carrots", "bricks", "the north wall", "salt"], 3),
    ("Caf\u00e9 or caf\u00e9?", ["caf\u00e9 caf\u00e9 caf\u00e9", "caf\u00e9", "cafe cafe cafe cafe"], 1),
    ("Which hat is tall?", ["the tall one", "the low one", "none"], 2),
    ("What is salt?", ["a stone", "a stone", "a fish"], 0),
]
MMLU = [(f"Which {thing} is it?", ["one", "two", "three", "four"], at % 4) for at, thing in enumerate("hat soup wall".split())]
BOOLQ = [
    ("is a hat tall", "Hats are tall.", True),
    ("is soup dry", "Soup is wet.", False),
    ("is salt a fish", "It is not.", False),
]


def arc_file(folder):
    rows = [
        {"id": str(at), "question": q, "choices": {"label": list("ABCD")[: len(c)], "text": c}, "answerKey": "ABCD"[gold]}
        for at, (q, c, gold) in enumerate(ARC)
    ]
    return write(folder / "arc.jsonl", rows)


def mmlu_file(folder):
    rows = [{"question": q, "choices": c, "answer": gold, "subject": "tall_hats"} for q, c, gold in MMLU]
    return write(folder / "mmlu.jsonl", rows)


def boolq_file(folder):
    return write(folder / "boolq.jsonl", [{"question": q, "passage": p, "answer": gold} for q, p, gold in BOOLQ])


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_each_set_is_asked_as_the_harness_asks_it(tmp_path):
    arc, mmlu, boolq = (ask(read_chats(make(tmp_path))[0]) for make in (arc_file, mmlu_file, boolq_file))
    assert arc.messages[0]["content"] == "Question: What keeps rain off a head?\nAnswer:"
    assert arc.choices == ("a hat", "a very long and heavy stone wall", "soup") and arc.gold == 0
    system, question = mmlu.messages
    about = "The following are multiple choice questions (with answers) about tall hats.\n\n"
    assert system == {"role": "system", "content": about}
    assert question["content"] == "Which hat is it?\nA. one\nB. two\nC. three\nD. four\nAnswer:"
    assert mmlu.choices == ("A", "B", "C", "D")
    assert boolq.messages[0]["content"] == "Hats are tall.\nQuestion: is a hat tall?\nAnswer:"
    assert boolq.choices == ("no", "yes") and boolq.gold == 1


def test_likelihoods_are_compared_whole_by_character_and_by_byte(tmp_path):
    # The accented choice is 4 characters and 5 bytes long, the plain one 4 and 4.
    row = {"question": "q", "choices": {"label": ["A", "B", "C"], "text": ["caf\u00e9", "cafe", "x" * 40]}, "answerKey": "C"}
    nll = {"caf\u00e9": 4.0, "cafe": 3.9, "x" * 40: 20.0}
    (rows,) = [read_chats(write(tmp_path / "c.jsonl", [row]))]
    (found,) = choose(ScriptedLM(lambda request: "", lambda pair: nll[pair.answer]), rows)
    assert found.likelihoods == (-4.0, -3.9, -20.0)
    assert (found.right, found.right_by_character, found.right_by_byte, found.tied) == (False, True, True, False)
    nll["x" * 40] = 39.0  # 0.975 a character: now the two short ones decide
    for letter, by_character, by_byte in (("A", False, True), ("B", True, False)):
        rows = read_chats(write(tmp_path / "c.jsonl", [{**row, "answerKey": letter}]))
        (found,) = choose(ScriptedLM(lambda request: "", lambda pair: nll[pair.answer]), rows)
        assert (found.right_by_character, found.right_by_byte) == (by_character, by_byte)


def test_ties_are_counted_and_go_to_the_first(tmp_path):
    found = choose(ScriptedLM(lambda request: "", lambda pair: 1.0), read_chats(mmlu_file(tmp_path)))
    assert [one.right for one in found] == [True, False, False]
    score = summarise(found)
    assert score.ties == 3 and score.acc.hits == 1 and score.to_json()["acc"]["high"] < 1


def test_a_likelihood_that_never_came_is_unscored(tmp_path):
    class Broken(ScriptedLM):
        def score(self, pairs):
            return [Likelihood(nll=0, tokens=0, error="timed out"), *super().score(pairs[1:])]

    score = summarise(choose(Broken(lambda request: ""), read_chats(mmlu_file(tmp_path))))
    assert score.acc.unscored == 1 and score.acc.n == 2


def test_what_cannot_be_compared_is_told(tmp_path):
    model = ScriptedLM(lambda request: "")
    with pytest.raises(DataError, match="no choices to compare"):
        choose(model, [Chat.pair("q", "a")])
    test_set = write(tmp_path / "t.jsonl", [{"id": "row-7", "goal": "g", "sol1": "x", "sol2": "y"}])
    with pytest.raises(DataError, match=r"t\.jsonl, id row-7: the correct choice is missing"):
        choose(model, read_chats(test_set))
    hollow = write(tmp_path / "h.jsonl", [{"goal": "g", "sol1": "", "sol2": "y", "label": 0}])
    with pytest.raises(DataError, match="a choice is empty"):
        choose(model, read_chats(hollow))
    model.can_score = False
    with pytest.raises(BackendError, match="no log-probabilities"):
        choose(model, [])


SOLUTIONS = [
    ("<<3*4=12>>12\n#### 12", "12"),
    ("So it is $1,250.", "1250"),
    ("#### 7 and then #### 8", "8"),
    ("The answer is -5", "-5"),
    ("It costs 3.50 dollars.", "3.50"),
    ("12.", "12"),
    ("There are 12 hats, 7 of them tall", "12"),
    ("nothing", "3"),
    ("####12", "12"),
    ("A, B, .., C", "2"),
    ("total: 1,000,000", "1000000"),
    ("", "1"),
    ("about $5.", "5"),
    ("#### $5", "5"),
    ("#### 1.0", "1"),
    ("2 - 3", "3"),
    ("3...", "3"),
]


def test_exact_match_of_numbers():
    assert flexible_match("So it is $1,250.", "1250") and not strict_match("So it is $1,250.", "1250")
    assert strict_match("#### 7 and then #### 8", "7") and flexible_match("#### 7 and then #### 8", "8")
    assert not flexible_match("nothing", "3")


def test_exact_match_of_closed_questions():
    assert closed_match("Yes, it is. No doubt.", "yes") and not closed_match("No. Well, yes.", "yes")
    assert closed_match("the correct answer is answer2", "answer2") and not closed_match("answer12", "answer1")
    assert not closed_match("I know nothing", "no")


def test_the_scorers_are_named_by_formats(tmp_path):
    rows = read_chats(write(tmp_path / "g.jsonl", [{"question": "6+6?", "answer": "<<6+6=12>>12\n#### 1,200"}]))
    assert EXACT[rows[0].meta["format"]]("It is 1,200.", rows[0].meta["gold"]) == 1


def test_numbers_are_read_as_the_harness_reads_them():
    extraction = pytest.importorskip("lm_eval.filters.extraction")
    from lm_eval.api.metrics import exact_match_hf_evaluate

    flexible = extraction.RegexFilter(regex_pattern=r"(-?[$0-9.,]{2,})|(-?[0-9]+)", group_select=-1)
    strict = extraction.RegexFilter(regex_pattern=r"#### (\-?[0-9\.\,]+)")
    ignored = [",", "\\$", "(?s).*#### ", "\\.$"]
    for text, gold in SOLUTIONS:
        for ours, theirs in ((flexible_match, flexible), (strict_match, strict)):
            (read,) = theirs.apply([[text]], [{}])
            wanted = exact_match_hf_evaluate(
                predictions=read, references=[f"because\n#### {gold}"], regexes_to_ignore=ignored, ignore_case=True
            )
            assert ours(text, gold) == bool(wanted["exact_match"]), (text, gold, read)


HARNESS = {
    "arc": """
doc_to_text: "Question: {{question}}\\nAnswer:"
doc_to_target: "{{choices.label.index(answerKey)}}"
doc_to_choice: "{{choices.text}}"
""",
    "mmlu": """
description: "The following are multiple choice questions (with answers) about {{subject.replace('_', ' ')}}.\\n\\n"
doc_to_text: "{{question.strip()}}\\nA. {{choices[0]}}\\nB. {{choices[1]}}\\nC. {{choices[2]}}\\nD. {{choices[3]}}\\nAnswer:"
doc_to_target: answer
doc_to_choice: ["A", "B", "C", "D"]
""",
    "boolq": """
doc_to_text: "{{passage}}\\nQuestion: {{question}}?\\nAnswer:"
doc_to_target: "{{answer|int}}"
doc_to_choice: ["no", "yes"]
""",
}
METRICS = "".join(
    f"  - {{metric: {name}, aggregation: mean, higher_is_better: true}}\n" for name in ("acc", "acc_norm", "acc_bytes")
)


@pytest.fixture
def harness(tmp_path, monkeypatch):
    """Our choices and the harness' results for one model, on the same files."""
    lm_eval = pytest.importorskip("lm_eval")
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    from buckler.models.huggingface import HuggingFaceLM

    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    files = {name: make(tmp_path) for name, make in (("arc", arc_file), ("mmlu", mmlu_file), ("boolq", boolq_file))}
    for name, text in HARNESS.items():
        (tmp_path / f"{name}.yaml").write_text(
            f"task: tiny_{name}\ndataset_path: json\ndataset_kwargs: {{data_files: {{test: {files[name]}}}}}\n"
            f"test_split: test\noutput_type: multiple_choice\n{text}metric_list:\n{METRICS}"
        )

    def both(name):
        model = HuggingFaceLM(ModelSpec(name=name))
        theirs = lm_eval.simple_evaluate(
            model=HFLM(pretrained=model.model, tokenizer=model.tokenizer, batch_size=4, device="cpu"),
            tasks=[f"tiny_{name}" for name in files],
            task_manager=TaskManager(include_path=str(tmp_path), include_defaults=False),
            apply_chat_template=True,
            bootstrap_iters=0,
            log_samples=True,
        )
        for name, path in files.items():
            samples = sorted(theirs["samples"][f"tiny_{name}"], key=lambda sample: sample["doc_id"])
            found = [[float(one[0]) for one in sample["filtered_resps"]] for sample in samples]
            yield choose(model, read_chats(path)), found, theirs["results"][f"tiny_{name}"]

    return both


@pytest.mark.ml
def test_likelihoods_and_accuracies_agree_with_the_harness(harness):
    accuracies = set()
    for ours, theirs, results in harness("miniature-small"):
        for own, wanted in zip(ours, theirs, strict=True):
            assert own.likelihoods == pytest.approx(wanted, rel=1e-4)
        score = summarise(ours)
        for metric in ("acc", "acc_norm", "acc_bytes"):
            assert getattr(score, metric).value == pytest.approx(results[f"{metric},none"]), metric
            accuracies.add(results[f"{metric},none"])
    assert len(accuracies) > 1  # else any number would have done


@pytest.mark.ml
def test_a_template_that_ends_in_a_line_feed_shifts_the_harness_alike_for_all_choices(harness, tmp_path):
    """The harness moves white space from the end of the template to the front of each choice, and counts it there."""
    for ours, theirs, results in harness(str(make_model(tmp_path / "qwen", "qwen"))):
        for own, wanted in zip(ours, theirs, strict=True):
            shifts = [a - b for a, b in zip(own.likelihoods, wanted, strict=True)]
            assert shifts[0] > 0.1 and shifts == pytest.approx([shifts[0]] * len(shifts), rel=1e-3)
        assert summarise(ours).acc.value == pytest.approx(results["acc,none"])
