"""Mining: planted safety terms rank on top with their sentences, English and shop talk do not; what is said twice is one term."""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from commands import buckler
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2_contingency

from buckler.curation.lexicon import CommonEnglish, Texts, candidates, key_of, keyness, read_lexicon
from buckler.curation.papers import Paper, sentences
from buckler.curation.seed_words import MineSettings, dump, extract_seed_words
from buckler.errors import DataError

ROOT = Path(__file__).parent.parent
LEXICON = [word for words in read_lexicon().values() for word in words]

TEXTS = {
    "a.txt": "Informed consent protects privacy and autonomy. Each large language model was trained by gradient descent. "
    "We think that people in the house like it. Gradient descent takes a small step each time.",
    "b.txt": "Nothing replaces informed consent and human oversight. The language models were trained by gradient descent. "
    "People like a door. A refusal pathway leads to human judgement and transparency.",
    "c.txt": "With informed consent, personal data stay under data protection. A language-model is small. "
    "Gradient descent is old. The house is red. Refusal pathways need accountability, privacy and due process.",
    "d.txt": "Ethical review asks for informed consents. A language model reads. Gradient descent is run by night. "
    "Refusal pathways show respect for persons.",
}


def papers(texts):
    return [Paper(name=name, sentences=tuple(sentences(text))) for name, text in texts.items()]


def extracted(texts, like=LEXICON, background=None, **settings):
    return extract_seed_words(papers(texts), background or CommonEnglish(), like, MineSettings(**settings))


def names(terms):
    return [term.term for term in terms]


def test_planted_safety_terms_rank_on_top_and_everyday_words_do_not():
    found = names(extracted(TEXTS))
    assert found[:2] == ["informed consent", "refusal pathways"]
    assert "gradient descent" in found[2:]
    assert not {"house", "people", "like", "door", "the"} & set(found)


def test_company_is_what_puts_safety_above_shop_talk():
    plain = names(extracted(TEXTS, like=[]))
    assert plain.index("gradient descent") < plain.index("informed consent")
    terms = {term.term: term for term in extracted(TEXTS)}
    assert terms["gradient descent"].keyness > terms["informed consent"].keyness
    assert terms["gradient descent"].company < 0.3 < 0.6 < terms["informed consent"].company


def test_a_word_of_the_lexicon_is_no_company_for_itself():
    alone = {"a.txt": "Informed consent is old. Doors are red.", "b.txt": "Informed consent is new. Doors are blue."}
    term = next(term for term in extracted(alone, like=["informed consent", "consent"]) if term.term == "informed consent")
    # No hit, so only the prior is left: half of all sentences hold a word, and four such count beside the term's own two.
    assert term.company == pytest.approx(4 * 0.5 / (2 + 4))


def test_the_score_is_company_times_the_logarithm_of_keyness():
    for term in extracted(TEXTS):
        assert term.score == pytest.approx(term.company * math.log(1 + term.keyness)) and term.keyness >= 10.83


def test_inflections_and_hyphens_are_one_term_with_all_its_papers():
    term = next(term for term in extracted(TEXTS) if term.term == "language model")
    assert term.papers == 4 and term.count == 4 and {"language models", "language-model"} <= set(term.also)


def test_spelling_variants_are_one_term_and_opposites_are_two():
    texts = {
        name: f"Moral behaviour {n}. Moral behavior {n}. Supervised gizmology {n}. Unsupervised gizmology {n}."
        for name, n in (("a.txt", "is it"), ("b.txt", "was it"))
    }
    terms = {term.term: term for term in extracted(texts, like=[], max_words=2)}
    assert "moral behaviour" in terms and "moral behavior" in terms["moral behaviour"].also
    assert terms["moral behaviour"].count == 4
    assert {"supervised gizmology", "unsupervised gizmology"} <= set(terms)


def test_a_part_that_is_hardly_said_alone_goes_into_the_whole():
    terms = {term.term: term for term in extracted(TEXTS)}
    assert not {"gradient", "descent", "informed", "consent", "pathways"} & set(terms)
    assert {"gradient", "descent"} <= set(terms["gradient descent"].also)


def test_a_part_that_is_often_said_alone_stays():
    texts = {name: f"Informed consent {n}. Consent {n}. Consent again {n}." for name, n in (("a.txt", "is"), ("b.txt", "was"))}
    assert {"consent", "informed consent"} <= set(names(extracted(texts, like=[])))


def test_sentences_are_the_papers_own_of_different_papers_first():
    texts = {**TEXTS, "a.txt": TEXTS["a.txt"] + " Informed consent again."}
    own = {(paper.name, sentence) for paper in papers(texts) for sentence in paper.sentences}
    for term in extracted(texts):
        assert set(term.sentences) <= own
        for _, sentence in term.sentences:
            assert key_of(term.term) in {key for key, _ in candidates(sentence, 4)}
    first = next(term for term in extracted(texts, sentences=5) if term.term == "informed consent")
    assert [name for name, _ in first.sentences] == ["a.txt", "b.txt", "c.txt", "d.txt", "a.txt"]
    assert first.sentences[-1] == ("a.txt", "Informed consent again.")
    assert extracted(texts, sentences=0)[0].sentences == ()


def test_the_settings_hold():
    assert len(extracted(TEXTS, max_terms=2)) == 2 and names(extracted(TEXTS, max_terms=2)) == names(extracted(TEXTS))[:2]
    assert all(term.papers >= 4 for term in extracted(TEXTS, min_papers=4))
    assert all(len(term.term.split()) == 1 for term in extracted(TEXTS, max_words=1))
    assert "refusal pathways" in names(extracted(TEXTS, min_papers=3)) and "refusal pathways" not in names(
        extracted(TEXTS, min_papers=4)
    )


def test_a_background_of_ones_own_decides_what_is_common():
    talk = {f"{n}.txt": f"Gradient descent number {'x' * n} is run by gradient descent. A language model." for n in range(2, 40)}
    found = names(extracted(TEXTS, background=Texts(papers(talk), 4)))
    assert "informed consent" in found and "gradient descent" not in found and "language model" not in found


def test_the_same_papers_give_the_same_bytes(tmp_path):
    # Two spellings, two terms and two papers that tie: nothing but their names may decide, not the order of a set.
    texts = {**TEXTS, "e.txt": "Grey-box gizmos. A tidy widget.", "f.txt": "Grey box gizmos. A tidy widget."}
    (tmp_path / "papers").mkdir()
    for name, text in texts.items():
        (tmp_path / "papers" / name).write_text(text)
    for seed in ("1", "2"):
        command = [sys.executable, "-m", "buckler", "seeds", "papers", "--out", f"{seed}.yaml"]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env={**os.environ, "PYTHONHASHSEED": seed})
        assert done.returncode == 0, done.stderr
    first = (tmp_path / "1.yaml").read_bytes()
    assert first == (tmp_path / "2.yaml").read_bytes() == dump(extracted(texts)).encode()
    assert b"- term: grey box gizmos" in first and b"  - grey-box gizmos" in first


def test_what_is_written_is_a_lexicon(tmp_path):
    file = tmp_path / "words.yaml"
    file.write_text(dump(extracted(TEXTS)), encoding="utf-8")
    assert read_lexicon(file) == {"mined": names(extracted(TEXTS))}


def test_too_few_papers_and_no_terms_are_told_apart():
    with pytest.raises(DataError, match="1 readable papers, but a term must occur in 2; lower --min-papers"):
        extracted({"a.txt": TEXTS["a.txt"]})
    with pytest.raises(DataError, match="no term occurs in 2 of the 2 papers"):
        extracted({"a.txt": "A red door.", "b.txt": "One blue house."})


@given(a=st.integers(0, 50), b=st.integers(0, 50), n=st.integers(51, 5000), m=st.integers(51, 5000))
def test_keyness_is_the_likelihood_ratio_of_the_two_by_two_table(a, b, n, m):
    if a + b == 0:
        assert keyness(a, n, b, m) == 0
        return
    other = chi2_contingency([[a, b], [n - a, m - b]], correction=False, lambda_="log-likelihood").statistic
    assert abs(keyness(a, n, b, m)) == pytest.approx(other, abs=1e-6)
    assert keyness(a, n, b, m) * (a * m - b * n) >= 0


def test_candidates_keep_to_punctuation_function_words_and_whole_words():
    found = {spelling for _, spelling in candidates("The duty of care, the GPT4 model's 19th state-of-the-art (safe) use.", 4)}
    assert found == {"duty", "duty of care", "care", "model", "state-of-the-art", "safe"}


def test_a_phrase_is_no_commoner_than_its_rarest_word():
    english = CommonEnglish()
    assert english.count(["evidence of care"]) == min(english.count([word]) for word in ("evidence", "of", "care"))
    assert english.count(["models", "model"]) == english.count(["models"]) + english.count(["model"])


def test_the_page_is_true(tmp_path):
    page = (ROOT / "docs" / "seed-words.md").read_text(encoding="utf-8")
    for name, text in re.findall(r"`(\w+\.\w+)`:\n\n```text\n(.*?)```", page, re.DOTALL):
        (tmp_path / "papers").mkdir(exist_ok=True)
        (tmp_path / "papers" / name).write_text(text)
    command, *_ = re.findall(r"```bash\n(.*?)```", page, re.DOTALL)
    done = buckler(*command.split()[1:], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    shown, *_ = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    assert (tmp_path / "words.yaml").read_text(encoding="utf-8").startswith(shown)
    order = re.findall(r"^\d\. \*(.*?)\*", page, re.MULTILINE)
    assert order == read_lexicon(tmp_path / "words.yaml")["mined"]


def test_the_command_names_what_it_skipped_and_overrules_nothing(tmp_path):
    (tmp_path / "papers").mkdir()
    for name, text in TEXTS.items():
        (tmp_path / "papers" / name).write_text(text)
    (tmp_path / "papers" / "bad.pdf").write_text("no pdf")
    (tmp_path / "talk.txt").write_text("Gradient descent is run in the house of the people. " * 300)
    (tmp_path / "mine.yaml").write_text("care: [privacy]\n")
    options = ("--background", "talk.txt", "--safety-vocabulary", "mine.yaml", "--max-terms", 3)
    done = buckler("seeds", "papers", "--out", "w.yaml", *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "skipped bad.pdf: damaged PDF" in done.stderr
    assert done.stdout == "wrote w.yaml: 3 terms of 4 papers; 1 files skipped\n"
    assert len(yaml.safe_load((tmp_path / "w.yaml").read_text())["mined"]) == 3


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--max-terms", "0"], "seeds: --max-terms"),
        (["--safety-vocabulary", "nowhere.yaml"], "nowhere.yaml: no such file"),
        (["--background", "nowhere.txt"], "nowhere.txt: no such file"),
        ([], "the folder is empty"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line(tmp_path, options, says):
    (tmp_path / "papers").mkdir()
    if options:
        (tmp_path / "papers" / "a.txt").write_text("A text.")
    done = buckler("seeds", "papers", "--out", "w.yaml", *options, cwd=tmp_path)
    assert done.returncode == 2 and says in done.stderr.splitlines()[-1] and "Traceback" not in done.stderr
    assert not (tmp_path / "w.yaml").exists()
