"""Questions with choices, spans or numbers whose columns go by many names: read by what a column is, not by which set it is of.

HellaSwag, Winogrande, SIQA, SciQ, GPQA, MMLU-Pro, OpenBookQA, COPA, RACE, MedQA, MedMCQA, LogiQA, AGIEval, AQuA; SQuAD, TriviaQA,
NQ-open, DROP; MATH, SVAMP, MAWPS, ASDiv. A row becomes a question with all that it needs: its context, its passage, its choices.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from buckler.data import Json, content_id
from buckler.errors import DataError
from buckler.formats.choices import LETTERS, choose, lettered
from buckler.formats.rows import Fields, Parsed, conversation, listed, optional, shorten, text

QUESTION = ("question", "question_stem", "stem", "query", "sentence", "goal", "problem", "prompt", "ctx")
CONTEXT = ("context", "passage", "article", "support", "background", "paragraph", "story", "body")
CHOICES = ("options", "choices", "endings", "answer_choices", "candidates", "mc_answers")
GOLD = (
    "answerkey answer_key answer label answer_idx answer_index gold correct correct_option cop correct_choice "
    "correct_answer target"
).split()
"""Columns of the right choice, the surer first: a label, a number, or the choice itself."""
_OWN_COLUMN = re.compile(r"(?:option|choice|ending|opt|answer|op)_?([a-j]|\d)")
_WRONG = re.compile(r"(?:distractor|incorrect_answer|wrong_answer)_?\d")
COUNTED_FROM: dict[str, int] = {"hellaswag": 0, "winogrande": 1, "siqa": 1}
"""Sets whose authors count their choices from 0 or 1; of others the file's numbers tell it."""


def _columns(row: Fields) -> list[str]:
    """Columns that hold a choice each, in order: option1, answerA, opa, ending0."""
    found = sorted((match[1], name) for name in row if (match := _OWN_COLUMN.fullmatch(name)) and isinstance(row[name], str))
    return [name for _, name in found]


def _wrong(row: Fields) -> list[str]:
    return sorted(name for name in row if _WRONG.fullmatch(name) and row[name])


def _named(row: Fields, names: Sequence[str]) -> str | None:
    return next((name for name in names if isinstance(row.get(name), str) and str(row[name]).strip()), None)


def _is_listed(value: Json) -> bool:
    if isinstance(value, Mapping):
        return len(value) > 1 and (all(isinstance(one, str) for one in value.values()) or {"label", "text"} <= value.keys())
    return (
        isinstance(value, list)
        and len(value) > 1
        and (all(isinstance(one, str) for one in value) or all(isinstance(one, Mapping) and "text" in one for one in value))
    )


def is_choices(row: Fields) -> bool:
    """A question and its choices: in a list, under their labels, in a column each, or the right one beside the wrong ones."""
    if _named(row, QUESTION) is None and not {"premise", "ctx_a"} & row.keys():
        return False
    own = len(_columns(row)) > 1 and any(name in row for name in GOLD)
    return own or any(_is_listed(row.get(name)) for name in CHOICES) or (len(_wrong(row)) > 1 and "correct_answer" in row)


def is_hellaswag(row: Fields) -> bool:
    """The beginning of a text, and four endings."""
    return isinstance(row.get("endings"), list) and bool({"ctx", "ctx_a"} & row.keys())


def is_winogrande(row: Fields) -> bool:
    """A sentence with a blank and two words for it: no sentence to tell the sentiment of."""
    return {"sentence", "option1", "option2"} <= row.keys()


def is_siqa(row: Fields) -> bool:
    """Social IQa: a context, a question, three answers."""
    return {"context", "question", "answera", "answerb", "answerc"} <= row.keys()


def hellaswag(row: Fields, where: str) -> Parsed:
    """As its authors and lm-evaluation-harness clean it: no marks of WikiHow's, the activity in front."""
    first = optional(row, "ctx_a", where)
    whole = text(row, "ctx", where) if first is None else f"{first} {(optional(row, 'ctx_b', where) or '').capitalize()}"
    about = optional(row, "activity_label", where)
    endings = {label: _clean(ending) for label, ending in lettered(row["endings"], where).items()}
    question = _clean(f"{about}: {whole}" if about else whole)
    turns, meta = choose(question, endings, right(row, list(endings), endings, where), where)
    turns[0]["content"] = f"How does this text go on?\n{turns[0]['content']}"
    return turns, {**meta, "category": about} if about else meta


def _clean(text: str) -> str:
    bare = re.sub(r"\[.*?\]", "", text.strip().replace(" [title]", ". "))
    return bare.replace("  ", " ")


def choices(row: Fields, where: str) -> Parsed:
    """Any other question with choices; what stands before it, stands before it here too."""
    of = listed_choices(row, where)
    question_column = _named(row, QUESTION)
    question = text(row, question_column, where) if question_column else ""
    if "premise" in row and question.strip().lower() in ("", "cause", "effect"):  # COPA
        why = "What was the cause?" if question.strip().lower() == "cause" else "What happened as a result?"
        question = f"{text(row, 'premise', where)}\n{why if question else ''}".strip()
    if is_winogrande(row):
        question = f"What belongs in the blank (_)?\n{question}"
    context = next((name for name in CONTEXT if name != question_column and _named(row, (name,))), None)
    if context:
        question = f"{text(row, context, where).strip()}\n{question}"
    turns, meta = choose(question, of, right(row, list(of), of, where), where)
    subject = row.get("subject")
    return turns, {**meta, "category": subject} if subject and not row.get("category") else meta


def listed_choices(row: Fields, where: str) -> dict[str, str]:
    """The choices under their labels, without those that only fill a list (`N/A` of MMLU-Pro)."""
    name = next((name for name in CHOICES if _is_listed(row.get(name))), None)
    if name is None and len(wrong := _wrong(row)) > 1 and "correct_answer" in row:
        texts = [text(row, column, where).strip() for column in ("correct_answer", *wrong)]
        # No order is given: that of their hashes keeps the right one from standing at one place.
        return lettered(sorted(texts, key=lambda one: content_id([str(row.get("question")), one])), where)
    if name is None:
        return lettered([text(row, column, where) for column in _columns(row)], where)
    value = row[name]
    if isinstance(value, Mapping) and {"label", "text"} <= value.keys():
        labels, texts_of = value["label"], value["text"]
        if not isinstance(labels, list) or not isinstance(texts_of, list) or len(labels) != len(texts_of):
            raise DataError(f"{where}: {name!r} needs a 'label' and a 'text' list of one length, got {shorten(value)}")
        return dict(zip(map(str, labels), map(str, texts_of), strict=True))
    if isinstance(value, Mapping):
        return {str(label): str(one) for label, one in value.items() if one is not None}
    parts = [str(one["text"]) if isinstance(one, Mapping) else str(one) for one in value] if isinstance(value, list) else []
    while len(parts) > 2 and parts[-1].strip() in ("N/A", ""):
        parts.pop()
    marked = [re.match(rf"\(?{LETTERS[at % 26]}\s?[.):]\s*", one) for at, one in enumerate(parts)]
    return lettered([one[mark.end() if mark and all(marked) else 0 :] for one, mark in zip(parts, marked, strict=True)], where)


def right(row: Fields, labels: Sequence[str], of: Mapping[str, str], where: str) -> str | None:
    """The label of the right choice; None where the file hides it.

    Raises:
        DataError: what stands there is no choice, or a number of which nothing tells where it counts from.
    """
    name = next((name for name in GOLD if str(row.get(name, "")).strip() not in ("", "-1", "None")), None)
    if name is None:
        return None
    fallen = None
    for name in (name for name in GOLD if str(row.get(name, "")).strip() not in ("", "-1", "None")):
        value = str(row[name]).strip()
        if (found := next((label for label in labels if label.casefold() == value.strip("().").casefold()), None)) is not None:
            return found
        if (alike := [label for label, one in of.items() if one.strip().casefold() == value.casefold()]) and not value.isdigit():
            return alike[0]
        if value.isdigit():
            start = row.get("number_from")
            if not isinstance(start, int):
                raise DataError(
                    f"{where}: {name!r} is {shorten(row[name])}, and no row tells whether the choices are counted from 0 or "
                    f"from 1; write its label ({listed(labels)})"
                )
            if start <= int(value) < start + len(labels):
                return labels[int(value) - start]
        fallen = fallen or name
    raise DataError(f"{where}: the answer {shorten(row[fallen or name])} is not among the choices {listed(labels)}; correct it")


def counted_from(name: str, rows: Sequence[tuple[str, Fields]]) -> int | None:
    """Where the file's numbers of right choices begin: 0 if one is 0, 1 if one is as many as there are choices.

    Whole numbers, which are Python's or pandas' own, count from 0 where nothing tells it; texts of digits do not.
    """
    seen: list[tuple[Json, int]] = []
    for where, row in rows:
        gold = next((row[one] for one in GOLD if str(row.get(one, "")).strip().isdigit()), None)
        if gold is not None:
            count = len(row["endings"]) if isinstance(row.get("endings"), list) else len(listed_choices(row, where))  # type: ignore[arg-type]
            seen.append((gold, count))
    if any(int(str(value)) == 0 for value, _ in seen):
        return 0
    if any(int(str(value)) >= count for value, count in seen):
        return 1
    if name in COUNTED_FROM:
        return COUNTED_FROM[name]
    return 0 if seen and all(isinstance(value, int) for value, _ in seen) else None


def _spans(row: Fields) -> list[str] | None:
    """The good answers of a question for a span of text; None where the row is none."""
    for name in ("answers", "answers_spans", "answer"):
        value = row.get(name)
        if isinstance(value, Mapping):
            parts = value.get("text") or value.get("spans") or [value.get("value"), *(_texts(value.get("aliases")))]
            if {"text", "spans", "value"} & value.keys():
                return list(dict.fromkeys(_texts(parts)))
        if isinstance(value, list) and (name != "answers" or all(isinstance(one, str | Mapping) for one in value)):
            return list(dict.fromkeys(_texts([one.get("text") if isinstance(one, Mapping) else one for one in value])))
    return None


def _texts(value: Json) -> list[str]:
    return [one for one in value if isinstance(one, str) and one.strip()] if isinstance(value, list) else []


def is_squad(row: Fields) -> bool:
    """A question, about a passage or not, with one or more spans that answer it."""
    return isinstance(row.get("question"), str) and _spans(row) is not None


def squad(row: Fields, where: str) -> Parsed:
    """Every span is a gold; a question that its passage does not answer (SQuAD 2) has none."""
    golds = _spans(row) or []
    context = _named(row, CONTEXT)
    question = text(row, "question", where)
    prompt = f"{text(row, context, where)}\n{question}" if context else question
    return conversation(prompt, golds[0] if golds else None), {"gold": list(golds)} if golds else {}


def is_math(row: Fields) -> bool:
    """A problem, and a solution with its answer boxed or beside it."""
    solved = isinstance(row.get("solution"), str) and "\\boxed" in str(row["solution"])
    return isinstance(row.get("problem"), str) and (solved or isinstance(row.get("answer"), str | int | float))


def math(row: Fields, where: str) -> Parsed:
    """MATH, its copies, AIME: the answer beside the solution, or what the solution boxes."""
    solution, answer = optional(row, "solution", where), optional(row, "answer", where)
    meta: dict[str, Json] = {"gold": answer if answer and answer.strip() else solution}
    kind = _named(row, ("subject", "type", "category"))
    return conversation(text(row, "problem", where), solution or answer), {**meta, "category": row[kind]} if kind else meta


def _number_answer(row: Fields) -> Json:
    value = row.get("answer")
    value = next(iter(value), None) if isinstance(value := row.get("lsolutions", value), list) else value
    if isinstance(value, str):
        value = re.sub(r"\s*\([^)]*\)$", "", value.strip())  # ASDiv: 9 (apples)
        return value if re.fullmatch(r"-?[\d,]+(?:\.\d+)?(?:/\d+)?", value) else None
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def is_word_problem(row: Fields) -> bool:
    """A question in words with a number for its answer: SVAMP, ASDiv, MAWPS (AddSub, SingleEq, MultiArith)."""
    has_question = "squestion" in row or ("question" in row and ("body" in row or not isinstance(row.get("answer"), str)))
    return has_question and isinstance(row.get("squestion", row.get("question")), str) and _number_answer(row) is not None


def word_problem(row: Fields, where: str) -> Parsed:
    """The body, where there is one, before the question."""
    question, body = text(row, "squestion" if "squestion" in row else "question", where), optional(row, "body", where)
    gold = str(_number_answer(row))
    return conversation(f"{body.strip()} {question}" if body else question, gold), {"gold": gold}
