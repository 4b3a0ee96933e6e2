"""Questions with choices: ARC, CommonsenseQA, MMLU, BoolQ, PIQA, TruthfulQA's single choice, ComVE A and B.

The turns ask for the letter. What is needed to score the choices by their likelihood instead stands in meta: `question`
(and `passage`), `choices` (a text for each label, in the file's order) and `gold`, the right one's label.
"""

from __future__ import annotations

from collections.abc import Mapping

from buckler.data import Json
from buckler.errors import DataError
from buckler.formats.rows import Fields, Parsed, conversation, optional, shorten, text
from buckler.formats.rows import listed as listed_

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def choose(question: str, choices: Mapping[str, str], gold: str | None, where: str) -> Parsed:
    """A question with lettered choices; the answer is the letter alone."""
    if len(choices) < 2:
        raise DataError(f"{where}: {len(choices)} distinct choices; a question needs two or more")
    if gold is not None and gold not in choices:
        raise DataError(f"{where}: the answer {shorten(gold)} is not among the choices {listed_(choices)}; correct it")
    shown = "\n".join(f"{letter}. {text}" for letter, text in choices.items())
    meta: dict[str, Json] = {"question": question, "choices": dict(choices)}
    turns = conversation(f"{question}\n{shown}\nAnswer with the letter.", gold)
    return turns, meta if gold is None else {**meta, "gold": gold}


def lettered(listed: Json, where: str) -> dict[str, str]:
    """A list of texts under letters."""
    if not isinstance(listed, list) or not all(isinstance(choice, str) for choice in listed):
        raise DataError(f"{where}: the choices must be a list of texts, got {shorten(listed)}; write them as a list of texts")
    if len(listed) > len(LETTERS):
        raise DataError(f"{where}: {len(listed)} choices; at most {len(LETTERS)} are supported; remove some")
    return dict(zip(LETTERS, map(str, listed), strict=False))


def arc(row: Fields, where: str) -> Parsed:
    """ARC and CommonsenseQA: the nested original and the flat copy of the hub. A test set has no `answerKey`."""
    nested = row["question"] if isinstance(row["question"], dict) else row
    stem = nested.get("stem", row["question"])
    choices: dict[str, str] = {}
    for choice in _labelled(nested.get("choices"), where):
        if not isinstance(choice, dict) or not isinstance(choice.get("text"), str):
            raise DataError(f"{where}: a choice needs a 'label' and a 'text', got {shorten(choice)}; add what is missing")
        label = str(choice.get("label"))
        if label in choices:
            raise DataError(f"{where}: two choices are labelled {shorten(label)}; give each choice its own label")
        choices[label] = choice["text"]
    gold = optional(row, "answerkey", where)
    turns, meta = choose(text({"stem": stem}, "stem", where), choices, gold or None, where)
    concept = nested.get("question_concept")
    return turns, {**meta, "concept": concept} if concept else meta


def _labelled(listed: Json, where: str) -> list[Json]:
    """One choice after the other, also from the hub's two parallel lists."""
    if isinstance(listed, Mapping):
        labels, texts = listed.get("label"), listed.get("text")
        if not isinstance(labels, list) or not isinstance(texts, list) or len(labels) != len(texts):
            raise DataError(f"{where}: 'choices' needs a 'label' and a 'text' list of one length, got {shorten(listed)}")
        return [{"label": label, "text": text} for label, text in zip(labels, texts, strict=True)]
    return listed if isinstance(listed, list) else [listed]


def is_choice(row: Fields) -> bool:
    """A question with a list of labelled choices, nested or flat."""
    question = row.get("question")
    return (isinstance(question, dict) and "stem" in question) or (
        isinstance(question, str) and isinstance(row.get("choices"), dict)
    )


def is_commonsenseqa(row: Fields) -> bool:
    """Distinguished from ARC by the concept that each of its questions is about."""
    question = row.get("question")
    return is_choice(row) and "question_concept" in (question if isinstance(question, dict) else row)


def mmlu(row: Fields, where: str) -> Parsed:
    """A record of the original CSV files; the reader puts in the subject, which stands in the file's name."""
    cells = [str(cell) for cell in row["cells"]]  # type: ignore[union-attr]
    if len(cells) != 6:
        raise DataError(f"{where}: {len(cells)} cells; a question, four choices and a letter are 6: {shorten(cells)}")
    turns, meta = choose(cells[0], dict(zip("ABCD", cells[1:5], strict=True)), cells[5].strip(), where)
    subject = row.get("subject")
    return turns, {**meta, "category": subject} if subject else meta


def is_mmlu(row: Fields) -> bool:
    """Six cells without a header, the last one a letter."""
    cells = row.get("cells")
    return isinstance(cells, list) and len(cells) == 6 and str(cells[5]).strip() in {"A", "B", "C", "D"}


def is_mmlu_row(row: Fields) -> bool:
    """A question, its answer, and the choices in a list or in a column each (simple-evals, MMMLU)."""
    return {"question", "answer"} <= row.keys() and ("choices" in row or set("abcd") <= row.keys())


def mmlu_row(row: Fields, where: str) -> Parsed:
    """Copies of MMLU: the choices and the right one's letter, text or number, counted from where the file's rows tell."""
    choices = row["choices"] if "choices" in row else [text(row, letter, where) for letter in "abcd"]
    named, answer = lettered(choices, where), row["answer"]
    start, stated = row.get("number_from"), str(answer).strip()
    if stated.isdigit() and stated not in named and not isinstance(start, int):
        raise DataError(
            f"{where}: the answer is {shorten(answer)}, and no row tells whether the choices are counted from 0 or from 1; "
            f"write its label ({listed_(named)})"
        )
    at = int(stated) - start if stated.isdigit() and isinstance(start, int) else -1
    alike = [label for label, one in named.items() if one.strip() == stated]
    gold = LETTERS[at] if 0 <= at < len(named) else alike[0] if alike and stated not in named else stated
    turns, meta = choose(text(row, "question", where), named, gold, where)
    subject = row.get("subject")
    return turns, {**meta, "category": subject} if subject else meta


TRUTHS: dict[str, str | None] = {
    **dict.fromkeys(("true", "yes", "1"), "yes"),
    **dict.fromkeys(("false", "no", "0"), "no"),
    **dict.fromkeys(("-1", ""), None),
}
"""How BoolQ and its copies write an answer; -1 is how SuperGLUE hides those of its test set."""


def _truth(row: Fields) -> str:
    """The original has true or false in `answer`, SuperGLUE 0 or 1 in `label`."""
    answer = row.get("label") if row.get("answer") is None else row["answer"]
    return "" if answer is None else str(answer).strip().lower()


def is_boolq(row: Fields) -> bool:
    """A passage and a question of yes or no; other questions about passages have other answers."""
    return isinstance(row.get("passage"), str) and isinstance(row.get("question"), str) and _truth(row) in TRUTHS


def boolq(row: Fields, where: str) -> Parsed:
    """A passage, and a question about it that is answered by yes or no."""
    passage, question, gold = text(row, "passage", where), text(row, "question", where), TRUTHS.get(_truth(row))
    meta: dict[str, Json] = {"question": question, "passage": passage, "choices": {"no": "no", "yes": "yes"}}
    turns = conversation(f"{passage}\n{question.rstrip('?')}?\nAnswer yes or no.", gold)
    return turns, meta if gold is None else {**meta, "gold": gold}


def piqa(row: Fields, where: str) -> Parsed:
    """Two ways to a goal. The original keeps the labels in a file beside it: the reader puts them in as `label`."""
    label = optional(row, "label", where)
    gold = {None: None, "": None, "-1": None, "0": "A", "1": "B"}.get(label, "?")
    ways = {"A": text(row, "sol1", where), "B": text(row, "sol2", where)}
    return choose(text(row, "goal", where), ways, gold, where)


def truthfulqa_choice(row: Fields, where: str) -> Parsed:
    """MC1 of TruthfulQA: exactly one choice is true. The hub has two parallel lists, the original a label by choice."""
    targets: Mapping[str, Json] = row["mc1_targets"]  # type: ignore[assignment]
    listed, labels = (
        (targets["choices"], targets.get("labels")) if "choices" in targets else (list(targets), list(targets.values()))
    )
    named = lettered(listed, where)
    if not isinstance(labels, list) or len(labels) != len(named) or labels.count(1) != 1:
        raise DataError(f"{where}: 'mc1_targets' needs labels with exactly one 1, got {shorten(labels)}; correct the row")
    return choose(text(row, "question", where), named, LETTERS[labels.index(1)], where)


def why(statement: str) -> str:
    """How the reason against a statement is asked for (ComVE)."""
    return f"Why is this against common sense? {statement}"


def comve_a(row: Fields, where: str) -> Parsed:
    """The gold number names the sentence that makes no sense. `gold` is put in by the reader of the two files."""
    gold = row.get("gold")
    letter = None if gold is None else {"0": "A", "1": "B"}.get(str(gold[0] if isinstance(gold, list) else gold), "?")
    sentences = {"A": text(row, "sent0", where), "B": text(row, "sent1", where)}
    return choose("Which of the two sentences is against common sense?", sentences, letter, where)


def comve_b(row: Fields, where: str) -> Parsed:
    """Which of three reasons; `gold` is put in by the reader of the two files."""
    gold = row.get("gold")
    letter = None if gold is None else str(gold[0] if isinstance(gold, list) else gold)
    reasons = {letter: text(row, f"option{letter.lower()}", where) for letter in "ABC"}
    return choose(why(text(row, "falsesent", where)), reasons, letter, where)
