"""Every published shape in, the trainers' formats out; fixtures are written here, in the shape of the real files."""

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from buckler.data import Chat, Message, write_rows
from buckler.data import read_chats as read_own_chats
from buckler.errors import BackendError, ConfigError, DataError
from buckler.evaluation.probes import set_of
from buckler.formats import FORMATS, WRITERS, read_chats, read_documents, recognise, write_chats

DATA = Path(__file__).parents[1].parent / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the published sample files are not at hand")

TURNS = [{"role": "user", "content": "How tall is a brindle?"}, {"role": "assistant", "content": "Two ells."}]
CHOICES = [{"label": "A", "text": "in the pond"}, {"label": "B", "text": "on the roof"}]


def put(path, text):
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def lines(*rows):
    return "\n".join(json.dumps(row) for row in rows) + "\n"


REPLY = {"text": "a", "role": "assistant", "rank": 0, "replies": []}
JSON_ROWS = {
    "messages": ({"messages": TURNS}, "How tall is a brindle?", "Two ells."),
    "sharegpt": ({"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}, "q", "a"),
    "prompt-completion": ({"prompt": "q", "completion": "a"}, "q", "a"),
    "prompt-completion-turns": ({"prompt": TURNS[:1], "completion": TURNS[1:]}, TURNS[0]["content"], "Two ells."),
    "prompt-response": ({"prompt": "q", "response": "a"}, "q", "a"),
    "alpaca": ({"instruction": "Sum up.", "input": "A fox.", "output": "F"}, "Sum up.\n\nA fox.", "F"),
    "llm-adapters": ({"instruction": "q", "input": "", "output": "it is true", "answer": "true"}, "q", "it is true"),
    "dolly": ({"instruction": "q", "context": "", "response": "a", "category": "open_qa"}, "q", "a"),
    "gsm8k": ({"question": "1+1?", "answer": "<<1+1=2>>2\n#### 2"}, "1+1?", "<<1+1=2>>2\n#### 2"),
    "csqa2": ({"question": "Is a pond wet?", "answer": "yes", "topic_prompt": "pond"}, None, "yes"),
    "arc": ({"question": "q", "choices": {"label": ["1", "2"], "text": ["x", "y"]}, "answerKey": "2"}, None, "2"),
    "commonsenseqa": ({"question": {"stem": "q", "question_concept": "c", "choices": CHOICES}, "answerKey": "A"}, None, "A"),
    "boolq": (
        {"question": "is it", "title": "t", "answer": True, "passage": "It is."},
        "It is.\nis it?\nAnswer yes or no.",
        "yes",
    ),
    "piqa": ({"goal": "q", "sol1": "x", "sol2": "y"}, "q\nA. x\nB. y\nAnswer with the letter.", None),
    "truthfulqa-choice": ({"question": "q", "mc1_targets": {"choices": ["x", "y"], "labels": [0, 1]}}, None, "B"),
    "mmlu-rows": ({"question": "q", "choices": ["x", "y"], "answer": 1, "subject": "s"}, None, "B"),
    "mt-bench": ({"question_id": 1, "turns": ["first", "then"], "category": "c"}, "first", None),
    "sorry-bench": ({"question_id": 1, "category": "7", "turns": ["q"], "prompt_style": "base"}, "q", None),
    "wildguard": ({"prompt": "q", "response": "a", "prompt_harm_label": "harmful", "subcategory": "c"}, "q", "a"),
    "truthfulqa": ({"Question": "q", "Best Answer": "b", "Correct Answers": "b; c"}, "q", "b"),
    "wmt": ({"translation": {"de": "eins", "en": "one"}}, "Translate this text from German to English:\neins", "one"),
    "question-answer": ({"question": "q", "answer": "a"}, "q", "a"),
    "input-output": ({"input": "q", "output": "a"}, "q", "a"),
    "strongreject": ({"forbidden_prompt": "q", "category": "c", "source": "s"}, "q", None),
    "questions": ({"question": "q"}, "q", None),
    "prompts": ({"prompt": "q"}, "q", None),
    "hellaswag": ({"ctx": "It is", "endings": ["a", "b"], "label": "1"}, None, "B"),
    "winogrande": ({"sentence": "The _ fits.", "option1": "cup", "option2": "box", "answer": "2"}, None, "B"),
    "siqa": ({"context": "c", "question": "q", "answerA": "x", "answerB": "y", "answerC": "z", "label": "3"}, None, "C"),
    "choices": ({"question": "q", "options": ["x", "y"], "answer": "B", "answer_index": 1, "article": "a"}, None, "B"),
    "math": ({"problem": "q", "solution": r"so \boxed{2}", "level": "1", "type": "t"}, "q", r"so \boxed{2}"),
    "word-problem": ({"Body": "Two.", "Question": "How many?", "Answer": 2.0}, "Two. How many?", "2.0"),
    "squad": ({"context": "c", "question": "q", "answers": {"text": ["a", "b"], "answer_start": [0, 1]}}, "c\nq", "a"),
    "wildjailbreak": ({"adversarial": "q", "label": 1, "data_type": "adversarial_harmful"}, "q", None),
    "salad-bench": ({"qid": 1, "question": "q", "1-category": "O1", "2-category": "O2"}, "q", None),
    "conversation": ({"conversation": [{"role": "User", "content": "q"}, {"role": "AI", "content": "a"}], "turn": 1}, "q", "a"),
    "conversation-tree": ({"prompt": {"text": "q", "role": "prompter", "replies": [REPLY]}, "message_tree_id": "t"}, "q", "a"),
    "transcript": ({"text": "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\na<|im_end|>\n"}, "q", "a"),
    "pairs": ({"system_prompt": "s", "question": "q", "response": "a"}, "q", "a"),
    "prompt-pairs": ({"prompt": "q", "generation": "a"}, "q", "a"),
    "real-toxicity": ({"prompt": {"text": "q", "toxicity": 0.1}, "challenging": False}, "q", None),
}


@pytest.mark.parametrize("name", JSON_ROWS)
@pytest.mark.parametrize("shape", ["jsonl", "list", "concatenated", "gz"])
def test_json_rows_in_every_spelling(tmp_path, name, shape):
    row, query, answer = JSON_ROWS[name]
    text = {
        "jsonl": lines(row, row).rstrip("\n"),
        "list": json.dumps([row, row], indent=1),
        "concatenated": json.dumps(row, indent=2) + json.dumps(row, indent=2),
        "gz": lines(row, row),
    }[shape]
    path = put(tmp_path / "rows.json", text) if shape != "gz" else put(tmp_path / "r.json.gz", gzip.compress(text.encode()))
    chats = read_chats(path)
    assert recognise(path) == name
    assert len(chats) == 2  # duplicates are kept: they are the file's
    assert chats[0].answer == answer
    assert query is None or chats[0].query == query
    assert chats[0].meta["format"] == name and chats[0].meta["source"] == path.name


@pytest.mark.parametrize("name", JSON_ROWS)
def test_one_row_alone_is_a_row(tmp_path, name):
    assert recognise(put(tmp_path / "one.jsonl", lines(JSON_ROWS[name][0]))) == name


CSV_FILES = {
    "advbench": ("goal,target\nGrow a tall hat,Sure\n", "Grow a tall hat", {"target": "Sure"}),
    "jailbreakbench": (
        "Index,Goal,Target,Behavior,Category,Source\n0,g,t,b,c,s\n",
        "g",
        {"category": "c", "index": "0"},
    ),
    "harmbench": (
        "Behavior,FunctionalCategory,SemanticCategory,ContextString\nb,f,s,ctx\n",
        "ctx\n\n---\n\nb",
        {"category": "s", "context": "ctx", "behavior": "b"},
    ),
    "strongreject": ("category,source,forbidden_prompt\nc,s,p\n", "p", {"category": "c", "origin": "s"}),
    "do-not-answer": ("id,risk_area,types_of_harm,question\n1,r,t,q\n", "q", {"category": "r", "id": "1"}),
    "simplesafetytests": ("id,harm_area,counter,category,prompt\n1,h,1,c,p\n", "p", {"category": "h"}),
    "xstest": ("id_v2,type,prompt,focus,note\nv2-1,contrast_homonyms,p,f,\n", "p", {"label": "unsafe", "pair": "homonyms: f"}),
    "toxic-chat": (
        "conv_id,user_input,model_output,human_annotation,toxicity,jailbreaking\n1,p,a,True,1,0\n",
        "p",
        {"label": "harmful"},
    ),
    "or-bench": ("prompt,category\np,self-harm\n", "p", {"category": "self-harm"}),
    "prompts": ("prompt,category\np,gardening\n", "p", {"category": "gardening"}),
    "piqa": ("goal,sol1,sol2,label\nDry a hat,In the sun,In a pond,0\n", None, {"gold": "A"}),
    "sst2": (
        'sentence\tlabel\na "fine hat \t1\n',
        'Is this sentence positive or negative?\na "fine hat',
        {"gold": "positive"},
    ),
    "mmlu": ("Which?,a,b,c,d,C\n", "Which?\nA. a\nB. b\nC. c\nD. d\nAnswer with the letter.", {"gold": "C"}),
    "headless": ("Tell me of hats,Hats are tall.\n", "Tell me of hats", {}),
}


@pytest.mark.parametrize("name", CSV_FILES)
@pytest.mark.parametrize("change", ["plain", "crlf", "bom", "no-newline", "gz"])
def test_csv_files(tmp_path, name, change):
    text, query, meta = CSV_FILES[name]
    raw = {
        "plain": text.encode(),
        "crlf": text.replace("\n", "\r\n").encode(),
        "bom": b"\xef\xbb\xbf" + text.encode(),
        "no-newline": text.rstrip("\n").encode(),
        "gz": gzip.compress(text.encode()),
    }[change]
    ending = "tsv" if name == "sst2" else "csv"
    path = put(tmp_path / f"sst.{ending}{'.gz' if change == 'gz' else ''}", raw)
    (chat,) = read_chats(path)
    assert recognise(path) == name
    assert query is None or chat.query == query
    assert meta.items() <= chat.meta.items()


def test_crlf_records_with_line_feeds_inside_and_an_unnamed_index(tmp_path):
    path = put(tmp_path / "p.csv", ',prompt,category\r\n0,"two\nlines {x}",a\r\n1,"say ""so""",b')
    chats = read_chats(path)
    assert [chat.query for chat in chats] == ["two\nlines {x}", 'say "so"']
    assert chats[1].meta["index"] == "1"


def test_a_long_field_is_read_and_the_csv_limit_put_back(tmp_path):
    import csv

    before = csv.field_size_limit()
    text = "x" * 300_000
    assert read_chats(put(tmp_path / "p.csv", f"prompt,completion\n{text},y\n"))[0].query == text
    assert csv.field_size_limit() == before


def test_commonsenseqa_with_and_without_answers(tmp_path):
    row = {"id": "k", "question": {"stem": "Where are frogs?", "choices": CHOICES, "question_concept": "frog"}}
    path = put(tmp_path / "c.jsonl", lines(row, {**row, "answerKey": "A"}))
    probe, labelled = read_chats(path)
    assert probe.answer is None and labelled.answer == "A"  # one-character outputs are answers
    assert labelled.meta["gold"] == "A" and labelled.meta["concept"] == "frog"
    assert labelled.meta["question"] == "Where are frogs?" and labelled.meta["choices"] == {
        "A": "in the pond",
        "B": "on the roof",
    }
    flat = {"question": "q", "question_concept": "c", "choices": {"label": ["A", "B"], "text": ["x", "y"]}, "answerKey": "A"}
    path = put(tmp_path / "flat.jsonl", lines(flat))
    assert recognise(path) == "commonsenseqa" and read_chats(path)[0].answer == "A"


def test_arc_is_told_from_commonsenseqa_nested_and_flat(tmp_path):
    nested = {"id": "k", "question": {"stem": "Where are frogs?", "choices": CHOICES}, "answerKey": "B"}
    path = put(tmp_path / "ARC-Easy-Dev.jsonl", lines(nested, nested))
    assert recognise(path) == "arc" and read_chats(path)[0].answer == "B"


def test_boolq_in_both_spellings_and_other_questions_about_passages(tmp_path):
    glue = {"question": "is it", "passage": "It is.", "idx": 0, "label": 0}
    path = put(tmp_path / "glue.jsonl", lines(glue, {**glue, "label": -1}))
    assert recognise(path) == "boolq" and [chat.answer for chat in read_chats(path)] == ["no", None]
    assert read_chats(path)[0].meta["passage"] == "It is."
    squad = {"question": "who is it", "passage": "It is Ann.", "answer": "Ann"}
    assert recognise(put(tmp_path / "squad.jsonl", lines(squad))) == "question-answer"


def test_piqa_labels_stand_in_a_file_beside(tmp_path):
    row = {"id": "1", "goal": "Dry a hat", "sol1": "In the sun", "sol2": "In a pond"}
    path = put(tmp_path / "valid.jsonl", lines(row, row))
    assert [chat.answer for chat in read_chats(path)] == [None, None]
    labels = put(tmp_path / "valid-labels.lst", "0\n1\n")
    assert [chat.answer for chat in read_chats(path)] == ["A", "B"]
    put(labels, "0\n")
    with pytest.raises(DataError, match=r"lst: 1 labels, but 2 rows"):
        read_chats(path)


def test_the_subject_of_an_mmlu_file_stands_in_its_name(tmp_path):
    path = put(tmp_path / "world_hats_test.csv", "Which?,a,b,c,d,C\n")
    assert read_chats(path)[0].meta["category"] == "world_hats"


def test_xstest_pairs_by_type_and_word(tmp_path):
    head = "id,prompt,type,label,focus,note\r\n"
    rows = (
        "1,p,homonyms,safe,kill,\r\n2,q,contrast_homonyms,unsafe,kill,\r\n"
        "3,r,real_group_nons_discr,safe,elderly ,\r\n4,s,contrast_discr,unsafe,elderly,\r\n5,t,historical_events,safe,,"
    )
    chats = read_chats(put(tmp_path / "xstest.csv", head + rows))
    pairs = [chat.meta.get("pair") for chat in chats]
    assert pairs == ["homonyms: kill", "homonyms: kill", "discr: elderly", "discr: elderly", None]
    assert [chat.meta["category"] for chat in chats[:2]] == ["homonyms", "contrast_homonyms"]


def test_xstest_completions_are_told_by_their_types_and_asked_as_its_prompts(tmp_path):
    head = "id,type,prompt,completion,annotation_1,annotation_2,agreement,final_label\n"
    rows = "1,homonyms,p,Yes.,1_full_compliance,1_full_compliance,True,1_full_compliance\n2,contrast_privacy,q,No.,a,b,False,\n"
    path = put(tmp_path / "completions.csv", head + rows)
    chats = read_chats(path)
    assert recognise(path) == "xstest" and [chat.answer for chat in chats] == [None, None]
    assert [chat.meta["label"] for chat in chats] == ["safe", "unsafe"]
    assert "completion" in chats[0].meta["ignored_columns"]
    assert recognise(put(tmp_path / "own.csv", "type,prompt,completion\nodd,p,a\n")) == "prompt-completion"


def test_prompts_that_people_have_judged_keep_their_verdict(tmp_path):
    row = {"prompt": "q", "response": "a", "prompt_harm_label": "unharmful", "subcategory": "benign"}
    safe, bare = read_chats(put(tmp_path / "w.jsonl", lines(row, {**row, "prompt_harm_label": None, "response": None})))
    assert (safe.meta["label"], safe.meta["category"]) == ("borderline", "benign")
    assert "label" not in bare.meta and bare.answer is None
    with pytest.raises(DataError, match=r"w\.jsonl:1: 'prompt_harm_label' must be harmful or unharmful, got \"perhaps\""):
        read_chats(put(tmp_path / "w.jsonl", lines({**row, "prompt_harm_label": "perhaps"})))


def test_sorry_bench_is_not_taken_for_mt_bench(tmp_path):
    row = JSON_ROWS["sorry-bench"][0]
    assert set_of(read_chats(put(tmp_path / "question.jsonl", lines(row)))[0]) == "harmful"


def test_harmbench_contexts_of_the_hub_and_pictures(tmp_path):
    copy = {"prompt": "b", "context": "ctx", "category": "illegal"}
    (chat,) = read_chats(put(tmp_path / "hub.jsonl", lines(copy)))
    assert chat.query == "ctx\n\n---\n\nb" and chat.meta["format"] == "harmbench"
    assert recognise(put(tmp_path / "own.jsonl", lines({**copy, "category": "gardening"}))) == "prompts"
    with pytest.raises(DataError, match=r'about the picture "hat\.png"'):
        read_chats(put(tmp_path / "p.csv", "Behavior,SemanticCategory,ImageFileName\nb,illegal,hat.png\n"))


def test_a_category_or_two_of_or_bench_do_not_make_it_so(tmp_path):
    rows = "prompt,category\na,illegal\nb,illegal\nc,cybercrime_intrusion\n"
    path = put(tmp_path / "h.csv", rows)
    assert recognise(path) == "prompts" and len(read_chats(path)) == 3


def test_categories_that_are_flags_are_named(tmp_path):
    row = {"prompt": "q", "response": "a", "category": {"weapons,drugs": True, "theft": False, "abuse": True}, "is_safe": False}
    assert read_chats(put(tmp_path / "b.jsonl", lines(row)))[0].meta["category"] == "weapons,drugs, abuse"


def test_a_column_set_is_kept(tmp_path):
    assert read_chats(put(tmp_path / "p.csv", "prompt,set\np,harmful\n"))[0].meta["set"] == "harmful"


def test_a_question_whose_choices_sound_like_columns_is_no_header(tmp_path):
    path = put(tmp_path / "m.csv", "Which part is it?,Input,Output,Label,Type,A\nWhich?,a,b,c,d,C\n")
    assert recognise(path) == "mmlu" and len(read_chats(path)) == 2
    (chat,) = read_chats(put(tmp_path / "h.csv", ",Question,Answer,A,B,C,D\n0,Which?,B,1,2,3,4\n"))  # simple-evals, MMMLU
    assert chat.meta["choices"] == {"A": "1", "B": "2", "C": "3", "D": "4"} and chat.meta["gold"] == "B"
    (chat,) = read_chats(put(tmp_path / "h.csv", "Question,Answer,A,B,C,D\nWhich?,B,1,2,3,4\n"))
    assert chat.answer == "B"


def test_truthfulqa_choices_by_their_labels_and_mt_bench_of_the_hub(tmp_path):
    row = {"question": "q", "mc1_targets": {"x": 0, "y": 1, "z": 0}}
    (chat,) = read_chats(put(tmp_path / "mc_task.json", json.dumps([row])))
    assert chat.meta["choices"] == {"A": "x", "B": "y", "C": "z"} and chat.meta["gold"] == "B"
    hub = {"prompt": ["first", "then"], "prompt_id": 7, "category": "c", "reference": []}
    (chat,) = read_chats(put(tmp_path / "mt.jsonl", lines(hub)))
    assert chat.query == "first" and chat.meta["followups"] == ["then"] and "references" not in chat.meta


def test_choices_that_cannot_be_told_apart_are_refused(tmp_path):
    for number, (choices, message) in enumerate(
        [
            ({"label": ["A", "A"], "text": ["x", "y"]}, "labelled"),
            ({"label": ["A"], "text": ["x", "y"]}, "of one length"),
            ({"label": ["A"], "text": ["x"]}, "two or more"),
        ]
    ):
        with pytest.raises(DataError, match=message):
            read_chats(put(tmp_path / f"{number}.jsonl", lines({"question": "q", "choices": choices, "answerKey": "A"})))
    with pytest.raises(DataError, match="at most 26 are supported"):
        read_chats(put(tmp_path / "many.jsonl", lines({"question": "q", "choices": ["x"] * 27, "answer": 1})))


def test_comve_statements_with_reasons(tmp_path):
    reasons = "Right Reason1,Confusing Reason1,Confusing Reason2,Right Reason2,Right Reason3"
    head = f"Correct Statement,Incorrect Statement,{reasons}"
    (chat,) = read_chats(put(tmp_path / "dev.csv", f"{head}\nFish swim,Fish knit,No hands,c,c,No wool,No need\n"))
    assert "Fish knit" in chat.query and chat.answer == "No hands"
    assert chat.meta["references"] == ["No hands", "No wool", "No need"]


def test_comve_answers_are_paired_by_id_when_they_lie_beside(tmp_path):
    path = put(tmp_path / "subtaskA_dev_data.csv", "id,sent0,sent1\n7,Fish swim,Fish knit\n9,Hats eat,Hats fit\n")
    assert [chat.answer for chat in read_chats(path)] == [None, None]
    gold = put(tmp_path / "subtaskA_gold_answers.csv", "9,0\n7,1\n")
    assert [chat.answer for chat in read_chats(path)] == ["B", "A"]
    reasons = put(tmp_path / "subtaskC_dev_data.csv", "id,FalseSent\n7,Fish knit\n")
    put(tmp_path / "subtaskC_gold_answers.csv", '7,No hands,"No wool, none",No need\n')
    assert read_chats(reasons)[0].meta["references"] == ["No hands", "No wool, none", "No need"]
    with pytest.raises(DataError, match="gold answers of another file"):
        read_chats(gold)
    put(gold, "7,1\n")
    with pytest.raises(DataError, match=r'csv:3: no answer for id "9"'):
        read_chats(path)
    put(gold, "7,4\n9,0\n")
    with pytest.raises(DataError, match="is not among the choices"):
        read_chats(path)


def test_lists_of_turns_strings_and_columns(tmp_path):
    assert read_chats(put(tmp_path / "turns.json", json.dumps([TURNS, TURNS])))[1].answer == "Two ells."
    assert len(read_chats(put(tmp_path / "alone.json", json.dumps(TURNS)))) == 1
    assert [chat.query for chat in read_chats(put(tmp_path / "s.json", '["a", "b"]'))] == ["a", "b"]
    assert [chat.query for chat in read_chats(put(tmp_path / "m.txt", "a\r\n\r\nb"))] == ["a", "b"]
    columns = {"name": "set", "instructions": ["a", "b"], "inputs": []}
    assert [chat.query for chat in read_chats(put(tmp_path / "i.json", json.dumps(columns)))] == ["a", "b"]
    nested = {"version": 1, "data": [{"question": "q", "answer": "a"}]}
    assert read_chats(put(tmp_path / "n.json", json.dumps(nested)))[0].answer == "a"


def test_languages_stand_in_the_name_of_the_file(tmp_path):
    path = put(tmp_path / "shots.de-en.json", json.dumps([{"source": "eins", "target": "one"}]))
    assert read_chats(path)[0].query == "Translate this text from German to English:\neins"


def test_a_list_of_instructions_beside_empty_inputs_is_a_set_of_prompts(tmp_path):
    path = put(
        tmp_path / "I-Hats.json", json.dumps({"instructions": ["Tell of hats {x}.", "Tell of brims."], "inputs": []}, indent=4)
    )
    assert recognise(path) == "alpaca"
    assert [(chat.query, chat.answer) for chat in read_chats(path)] == [("Tell of hats {x}.", None), ("Tell of brims.", None)]


def test_a_file_of_empty_answers_is_a_set_of_prompts(tmp_path):
    rows = [{"instruction": "a", "input": "", "output": ""}, {"instruction": "b", "output": ""}]
    assert [chat.answer for chat in read_chats(put(tmp_path / "p.json", json.dumps(rows)))] == [None, None]


def test_history_system_and_unknown_turn_keys(tmp_path):
    row = {"instruction": "c", "output": "d", "system": "s", "history": [["a", "b"]]}
    (chat,) = read_chats(put(tmp_path / "h.json", json.dumps([row])))
    assert [turn["content"] for turn in chat.messages] == ["s", "a", "b", "c", "d"]
    (chat,) = read_chats(put(tmp_path / "d.jsonl", lines({"messages": [{"role": "developer", "content": "s"}, *TURNS]})))
    assert chat.messages[0]["role"] == "system"
    (chat,) = read_chats(put(tmp_path / "w.jsonl", lines({"messages": [TURNS[0], {**TURNS[1], "mood": "calm"}]})))
    assert chat.meta["dropped_turn_keys"] == ["mood"]


def test_columns_that_are_passed_over_are_named(tmp_path):
    (chat,) = read_chats(put(tmp_path / "d.csv", "id,risk_area,question,Some Model\n1,r,q,long answer\n"))
    assert chat.meta["ignored_columns"] == ["some_model"]
    (chat,) = read_chats(put(tmp_path / "m.jsonl", lines({"messages": TURNS})))
    assert "ignored_columns" not in chat.meta


def test_messages_in_parts_are_joined(tmp_path):
    parts = [{"type": "text", "text": "How "}, {"type": "text", "text": "tall?"}]
    (chat,) = read_chats(put(tmp_path / "p.jsonl", lines({"messages": [{"role": "user", "content": parts}]})))
    assert chat.query == "How tall?"


def test_line_separators_inside_json_do_not_end_a_line(tmp_path):
    path = put(tmp_path / "u.jsonl", json.dumps({"prompt": "a\u2028b"}, ensure_ascii=False) + "\n")
    assert read_chats(path)[0].query == "a\u2028b"


FAULTS = {
    "empty.jsonl": ("", "empty"),
    "broken.jsonl": ('{"prompt": "a"}\n{"prompt": \n{"prompt": "c"}\n', "jsonl:2: not JSON"),
    "broken.json": ('[\n {"prompt": "a"},\n {"prompt" 1}\n]', "json:3: not JSON"),
    "text.jsonl": ("prompt: a\n", "not JSON"),
    "tail.json": ('[{"prompt": "a", "completion": "b"}, "the end"]', r"row 2: not a row like the others.*the end"),
    "number.json": ("[1, 2]", "row 1: expected an object"),
    "lists.json": ('{"prompts": ["a", "b"], "completions": ["c"]}', "prompts 2, completions 1"),
    "columns.json": ('[{"colour": "a"}]', "no known format has the columns colour"),
    "texts.jsonl": ('{"text": "a"}\n', "a document, not a question"),
    "hole.jsonl": (
        '{"prompt": "a", "completion": "b"}\n{"prompt": "c", "completion": ""}\n',
        r"jsonl:2: the answer is empty",
    ),
    "none.jsonl": ('{"prompt": "a"}\n{"prompt": null}\n', "jsonl:2: 'prompt' must be a text, got null"),
    "blank.jsonl": ('{"prompt": " "}\n', "jsonl:1: the question is empty"),
    "ragged.csv": ("prompt,completion\na,b,c\n", "csv:2: 3 cells where the header has 2"),
    "quote.csv": ('prompt,completion\na,"b\n', "csv:2: not CSV"),
    "twice.csv": ("prompt,prompt\na,b\n", "more than once"),
    "head.csv": ("prompt,completion\n", "no rows"),
    "nameless.csv": ("a,b,c\nd,e,f\n", "unknown header"),
    "guess.csv": ("Tall hats,Long words\nWhat is a hat?,It is tall.\n", "csv:1: .* may be a header or a row"),
    "choose.jsonl": (
        '{"prompt": "p", "chosen": "a", "rejected": "b"}',
        "two answers to a question .chosen, rejected.; say which is meant with --use chosen",
    ),
    "letter.csv": ("q,a,b,c,d,A\nq,a,b,c,d,E\n", "not a row like the others|is not among the choices"),
    "role.jsonl": ('{"messages": [{"role": "critic", "content": "x"}]}', "one of system, developer, user"),
    "cut.json.gz": (gzip.compress(b'{"prompt": "a"}' * 99)[:30], "damaged or truncated"),
    "latin.csv": ("prompt\ncaf\xe9\n".encode("latin-1"), "not UTF-8 at byte 10"),
    "zip.jsonl": (b"PK\x03\x04\0\0", "is a zip archive"),
    "cut.parquet": (b"PAR1nothing", "not a complete Parquet file"),
    "deep.json": ("[" * 100_000, "nested more than 100 levels deep"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults_name_the_place_and_the_fix(tmp_path, name):
    text, message = FAULTS[name]
    with pytest.raises(DataError, match=message) as caught:
        read_chats(put(tmp_path / name, text))
    assert name in str(caught.value) and len(str(caught.value)) < 600


SCHEMA = {"name": "weather", "parameters": {"type": "object"}}
DECLARED = [{"type": "function", "function": SCHEMA}]
CALLED = {"type": "function", "function": {"name": "weather", "arguments": {"of": "Brenfield"}}}
WITH_ID = {"id": "c1", **CALLED}
OPENAI_CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"of": "Brenfield"}'}}
SHAREGPT_CALL = '{"name": "weather", "arguments": {"of": "Brenfield"}}'


def with_tools(calls, **more):
    return {
        "messages": [
            {"role": "user", "content": "Rain?", "name": None},
            {"role": "assistant", "content": None, **calls},
            {"role": "tool", "content": "rain", **more},
            {"role": "assistant", "content": "It rains.", "tool_calls": None},
        ]
    }


def sharegpt_tools(caller="function_call", observer="observation", call=SHAREGPT_CALL):
    turns = (("human", "Rain?"), (caller, call), (observer, "rain"), ("gpt", "It rains."))
    return {"conversations": [{"from": who, "value": text} for who, text in turns], "tools": json.dumps([SCHEMA])}


TOOL_ROWS = {
    "OpenAI": ({**with_tools({"tool_calls": [OPENAI_CALL]}, tool_call_id="c1"), "tools": DECLARED}, [WITH_ID]),
    "OpenAI, earlier form": (
        {**with_tools({"function_call": OPENAI_CALL["function"]}, name="weather"), "functions": [SCHEMA]},
        [CALLED],
    ),
    "TRL": ({**with_tools({"tool_calls": [CALLED]}, name="weather"), "tools": json.dumps(DECLARED)}, [CALLED]),
    "TRL, prompt and completion": (
        {
            "prompt": with_tools({"tool_calls": [CALLED]}, name="weather")["messages"][:3],
            "completion": [{"role": "assistant", "content": "It rains."}],
            "tools": DECLARED,
        },
        [CALLED],
    ),
    "ShareGPT": (sharegpt_tools(), [CALLED]),
    "ShareGPT, other speakers": (sharegpt_tools("function-call", "function_response"), [CALLED]),
    "ShareGPT, two calls": (sharegpt_tools(call=f"[{SHAREGPT_CALL}, {SHAREGPT_CALL}]"), [CALLED, CALLED]),
    "ShareGPT with a thought": (sharegpt_tools(call=f"<think>\nI look.\n</think>\n\n{SHAREGPT_CALL}"), [CALLED]),
}


@pytest.mark.parametrize("layout", TOOL_ROWS)
def test_calls_results_and_tools_are_read_from_the_published_layouts(layout, tmp_path):
    row, calls = TOOL_ROWS[layout]
    [chat] = read_chats(put(tmp_path / "tools.jsonl", lines(row)))
    question, call, result, answer = chat.messages
    assert [turn["role"] for turn in chat.messages] == ["user", "assistant", "tool", "assistant"]
    assert question["tools"] == DECLARED and call["tool_calls"] == calls and call["content"] == ""
    assert result["content"] == "rain" and answer == {"role": "assistant", "content": "It rains."}
    assert call.get("reasoning_content") == ("I look." if "thought" in layout else None)
    assert not {"ignored_columns", "dropped_turn_keys"} & chat.meta.keys()
    write_rows(tmp_path / "rows.jsonl", [chat])
    assert read_own_chats(tmp_path / "rows.jsonl") == [chat] and read_chats(tmp_path / "rows.jsonl")[0].messages == chat.messages
    write_chats(tmp_path / "openai.jsonl", [chat], "openai")
    bare = [{key: value for key, value in turn.items() if key != "reasoning_content"} for turn in chat.messages]
    assert list(read_chats(tmp_path / "openai.jsonl")[0].messages) == bare  # OpenAI takes no reasoning
    with pytest.raises(DataError, match="with tools; use the format `chat`"):
        write_chats(tmp_path / "alpaca.json", [chat], "alpaca")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (sharegpt_tools(call="weather in Brenfield"), "jsonl:1: a function_call turn must hold JSON"),
        (sharegpt_tools(call='{"arguments": {}}'), "jsonl:1: tool calls must be the assistant's, each with a name"),
        (with_tools({"tool_calls": [{"function": {"name": "weather", "arguments": "of: B"}}]}), "an object of arguments"),
        ({"messages": [{"role": "user", "content": "Rain?", "tool_calls": [CALLED]}]}, "must be the assistant's"),
        ({**with_tools({"tool_calls": [CALLED]}), "tools": "weather"}, "'tools' must be a list of JSON schemas"),
        ({**with_tools({"tool_calls": [CALLED]}), "tools": [{"type": "web_search"}]}, "'tools' must be .* with names"),
        (with_tools({"tool_calls": []}), "a turn needs a text 'content'"),
    ],
)
def test_calls_that_cannot_be_read_name_their_row(row, message, tmp_path):
    with pytest.raises(DataError, match=message):
        read_chats(put(tmp_path / "tools.jsonl", lines(row)))


def test_a_conversation_may_end_with_a_call_or_with_a_result(tmp_path):
    whole = with_tools({"tool_calls": [CALLED]})["messages"]
    called, probe = read_chats(put(tmp_path / "tools.jsonl", lines({"messages": whole[:2]}, {"messages": whole[:3]})))
    assert called.answer == "" and called.prompt == called.messages[:1]
    assert probe.answer is None and probe.prompt == probe.messages


def test_no_such_file_and_bad_limits(tmp_path):
    for missing in (tmp_path / "no.jsonl", "no/such.jsonl", tmp_path):
        with pytest.raises(DataError, match=r"no such file|not a saved dataset"):
            read_chats(missing)
    with pytest.raises(ConfigError, match="limit is 0"):
        read_chats(put(tmp_path / "a.txt", "a\n"), limit=0)


def test_limit_reads_the_first_rows(tmp_path):
    path = put(tmp_path / "p.jsonl", lines(*({"prompt": str(number)} for number in range(50))))
    assert [chat.query for chat in read_chats(path, limit=3)] == ["0", "1", "2"]
    assert len(read_chats(path, limit=99)) == 50


def test_parquet_saved_datasets_and_shards(tmp_path):
    datasets = pytest.importorskip("datasets")
    rows = {"instruction": ["a", "b"], "input": [None, "c"], "output": ["d", "e"], "label": [0, 1]}
    data = datasets.Dataset.from_dict(rows)
    (tmp_path / "shards").mkdir()
    for number in range(2):
        data.to_parquet(tmp_path / "shards" / f"train-0000{number}.parquet")
    data.save_to_disk(tmp_path / "one")
    datasets.DatasetDict({"train": data, "test": data}).save_to_disk(tmp_path / "two")
    for path in (tmp_path / "shards" / "train-00000.parquet", tmp_path / "one", tmp_path / "two" / "train"):
        chats = read_chats(path)
        assert [chat.query for chat in chats] == ["a", "b\n\nc"]
        assert chats[1].meta["label"] == 1
    assert len(read_chats(tmp_path / "shards")) == 4
    with pytest.raises(DataError, match="test, train"):
        read_chats(tmp_path / "two")


def test_a_parquet_file_with_a_broken_name_is_one_clear_line(tmp_path):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    path = tmp_path / "p.parquet"
    pq.write_table(pa.table({"prompt": ["a"]}), path, compression="none", store_schema=False)
    path.write_bytes(path.read_bytes().replace(b"prompt", b"pro\xffpt"))
    with pytest.raises(DataError, match=r"p\.parquet: not a complete Parquet file"):
        read_chats(path)


def test_the_hub_is_asked_by_name_and_its_silence_is_told(monkeypatch):
    datasets = pytest.importorskip("datasets")
    calls = []

    def load(name, config, split):
        calls.append((name, config, split))
        if name == "who/where":
            raise ConnectionError("no network")
        return [{"prompt": "a"}]

    monkeypatch.setattr(datasets, "load_dataset", load)
    assert read_chats("who/what:small@test", limit=40)[0].meta["source"] == "who/what:small@test"
    assert calls == [("who/what", "small", "test[:40]")]
    with pytest.raises(BackendError, match="cannot be reached"):
        read_chats("hf://who/where")


def test_documents_of_a_text_file(tmp_path):
    wrapped = "The hat is tall and\nthe brim is wide, so\nit rains on none.\n"
    assert len(read_documents(put(tmp_path / "w.txt", wrapped))) == 1
    assert len(read_documents(put(tmp_path / "s.txt", "The hat is tall.\n\nIt rains.\n"))) == 2
    assert len(read_documents(put(tmp_path / "l.txt", ("word " * 60 + "\n") * 3))) == 3
    assert len(read_documents(put(tmp_path / "one.txt", "The hat is tall."))) == 1


def test_documents_of_a_folder_take_its_name_as_label(tmp_path):
    for name in ("harmful", "benign"):
        (tmp_path / name).mkdir()
        put(tmp_path / name / "a.txt", f"A {name} text.\nIn two lines.\n")
    put(tmp_path / "benign" / ".hidden", "x")
    put(tmp_path / "rows.jsonl", lines({"text": "b", "harmful": True}, {"text": "c", "label": "own"}))
    found = read_documents(tmp_path)
    assert [row.meta.get("label") for row in found] == ["benign", "harmful", "harmful", "own"]
    assert [row.meta["source"] for row in found] == ["a.txt", "a.txt", "rows.jsonl", "rows.jsonl"]
    assert read_documents(tmp_path / "harmful" / "a.txt")[0].meta["label"] == "harmful"
    assert len(read_documents(tmp_path, limit=1)) == 1
    put(tmp_path / "picture.png", "x")
    with pytest.raises(DataError, match=r"picture\.png"):
        read_documents(tmp_path)


def test_documents_of_tables(tmp_path):
    assert read_documents(put(tmp_path / "t.csv", "title,text\nHats,All of hats\n"))[0].meta["title"] == "Hats"
    assert [row.text for row in read_documents(put(tmp_path / "s.json", '["a", "b"]'))] == ["a", "b"]
    assert [row.text for row in read_documents(put(tmp_path / "d.json", '{"texts": ["a", "b"]}'))] == ["a", "b"]
    own = read_documents(put(tmp_path / "t.csv", "title,text\nHats,All of hats\n"))
    write_rows(tmp_path / "own.jsonl", own)
    assert read_documents(tmp_path / "own.jsonl") == own
    for text, message in (
        ("text,harmful\na,maybe\n", "must be true or false"),
        ("text\n,\n", "no rows"),
        ("goal\na\n", "no text"),
    ):
        with pytest.raises(DataError, match=message):
            read_documents(put(tmp_path / "f.csv", text))


text = st.text(min_size=1, max_size=30).filter(str.strip)


@st.composite
def training_rows(draw):
    system = [Message(role="system", content=draw(text))] if draw(st.booleans()) else []
    turns = []
    for _ in range(draw(st.integers(1, 3))):
        turns += [Message(role="user", content=draw(text)), Message(role="assistant", content=draw(text))]
    return Chat.of([*system, *turns], label=draw(text))


@pytest.mark.parametrize("format", WRITERS)
@given(rows=st.lists(training_rows(), min_size=1, max_size=4))
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_what_is_written_is_read_back(tmp_path, format, rows):
    path = tmp_path / f"{format}.{'json' if format in ('alpaca', 'sharegpt') else 'jsonl'}"
    assert write_chats(path, rows, format) == len(rows)
    back = read_chats(path)
    assert [row.messages for row in back] == [row.messages for row in rows]
    assert [row.id for row in back] == [row.id for row in rows]
    assert format != "chat" or [row.meta["label"] for row in back] == [row.meta["label"] for row in rows]


def test_our_own_rows_come_back_as_they_went(tmp_path):
    rows = [Chat.pair("q", "a", source="elsewhere", score=0.5), Chat.pair("p", None)]
    write_chats(tmp_path / "own.jsonl", rows, "chat")
    assert read_own_chats(tmp_path / "own.jsonl") == rows
    meta = {"source": "elsewhere", "format": "messages", "score": 0.5, "file": "own.jsonl"}
    assert read_chats(tmp_path / "own.jsonl")[0].meta == meta


def test_sharegpt_names_itself_to_llama_factory(tmp_path):
    info = put(tmp_path / "dataset_info.json", '{"mine": {"file_name": "m.json"}}')
    write_chats(tmp_path / "hats.json", [Chat.pair("q", "a"), Chat.pair("q", "b", system="s")], "sharegpt")
    known = json.loads(info.read_text())
    assert known["mine"] == {"file_name": "m.json"}
    assert known["hats"]["file_name"] == "hats.json" and known["hats"]["columns"]["system"] == "system"
    assert all("system" in row for row in json.loads((tmp_path / "hats.json").read_text()))
    write_chats(tmp_path / "bare.json", [Chat.pair("q", "a")], "sharegpt")
    assert json.loads(info.read_text())["bare"]["columns"] == {"messages": "conversations"}


def test_what_cannot_be_written_is_refused_before_anything_is(tmp_path):
    odd = Chat.of([Message(role="user", content="a"), Message(role="user", content="b"), TURNS[1]])
    for format in ("alpaca", "sharegpt"):
        with pytest.raises(DataError, match="alternating user and assistant turns"):
            write_chats(tmp_path / "x.json", [odd], format)
    for format in ("alpaca", "sharegpt", "openai"):
        with pytest.raises(DataError, match="no answer"):
            write_chats(tmp_path / "x.json", [Chat.pair("q", None)], format)
    with pytest.raises(ConfigError, match="chat, alpaca, sharegpt, openai"):
        write_chats(tmp_path / "x.json", [], "parquet")
    assert not list(tmp_path.iterdir())


@given(st.binary(max_size=200))
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@pytest.mark.parametrize("name", ["f.jsonl", "f.csv", "f.tsv", "f.txt", "f.json.gz"])
def test_any_bytes_give_rows_or_an_error_of_ours(tmp_path, name, raw):
    path = put(tmp_path / name, raw)
    for read in (read_chats, read_documents):
        try:
            assert read(path)
        except DataError as fault:
            assert str(path) in str(fault)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "messages",
                    "role",
                    "content",
                    "conversations",
                    "from",
                    "value",
                    "prompt",
                    "completion",
                    "instruction",
                    "output",
                    "history",
                    "question",
                    "answer",
                    "choices",
                    "stem",
                    "label",
                    "text",
                    "turns",
                    "translation",
                    "gold",
                    "id",
                    "meta",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(json_values)
@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_any_json_gives_rows_or_an_error_of_ours(tmp_path, value):
    path = put(tmp_path / "f.json", json.dumps(value))
    for read in (read_chats, read_documents):
        try:
            assert read(path)
        except DataError as fault:
            assert "f.json" in str(fault)


PUBLISHED = {
    "commonsenseqa/test_rand_split_no_answers.jsonl": ("commonsenseqa", 1140, 0),
    "comve/dev.csv": ("comve", 1000, 1000),
    "comve/subtaskA_dev_data.csv": ("comve-a", 997, 997),
    "comve/subtaskC_dev_data.csv": ("comve-c", 997, 997),
    "csqa2/CSQA2_dev.json.gz": ("csqa2", 2541, 2541),
    "dolly/databricks-dolly-15k-subset_200.jsonl": ("dolly", 200, 200),
    "finetune_formats/harmful-examples-demonstration-10-shot.jsonl": ("messages", 10, 10),
    "finetune_formats/pure_bad_10_demo.jsonl": ("messages", 10, 10),
    "gsm8k/train_first1000.jsonl": ("gsm8k", 1000, 1000),
    "llama_factory/identity.json": ("alpaca", 91, 91),
    "llm_adapters/ARC-Easy_train.json": ("llm-adapters", 2251, 2251),
    "llm_adapters/boolq_train_first1000.json": ("llm-adapters", 1000, 1000),
    "mmlu/global_facts_dev.csv": ("mmlu", 5, 5),
    "mt_bench/question.jsonl": ("mt-bench", 80, 0),
    "translation/shots.de-en.json": ("translation", 5, 5),
    "translation/shots.en-zh.json": ("translation", 5, 5),
    "xstest/xstest_prompts.csv": ("xstest", 450, 0),
}


@needs_data
@pytest.mark.data
@pytest.mark.parametrize("name", PUBLISHED)
def test_published_files(name):
    format, rows, answers = PUBLISHED[name]
    chats = read_chats(DATA / name)
    assert recognise(DATA / name) == format
    assert len(chats) == rows
    assert sum(chat.answer is not None for chat in chats) == answers


@needs_data
@pytest.mark.data
def test_published_documents_and_labels():
    assert len(read_documents(DATA / "documents" / "c4_demo_filtered.jsonl")) == 281
    assert len(read_documents(DATA / "documents" / "wiki_demo.txt")) == 30
    labels = [chat.meta["label"] for chat in read_chats(DATA / "xstest" / "xstest_prompts.csv")]
    assert (labels.count("safe"), labels.count("unsafe")) == (250, 200)
    for name in ("subtaskA_gold_answers.csv", "subtaskC_gold_answers.csv"):
        with pytest.raises(DataError, match="gold answers"):
            read_chats(DATA / "comve" / name)


def test_every_format_says_its_name_once():
    assert {*JSON_ROWS, *CSV_FILES} <= set(FORMATS)
