"""What a model can still do: questions with choices by the choices' likelihood (answers that are read: `golds`).

Definitions are those of lm-evaluation-harness, whose numbers these agree with on the same model and rows. Of choices the one
counts that the model finds likeliest: no sampling, no reading of answers.

How each set is asked, and whether the texts or the letters compete, is as lm-evaluation-harness has it (tasks arc_easy,
arc_challenge, piqa, boolq, commonsense_qa, mmlu), without examples and through the model's chat template: the question is
what the user says, a choice what the assistant begins to answer (its `--apply_chat_template`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from buckler.data import Chat, Json, Message, fill
from buckler.errors import BackendError, DataError
from buckler.evaluation.statistics import Rate, rate
from buckler.models.protocol import LM, Likelihood, ScoreRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """How a set is asked."""

    prompt: str
    """With places for `question`, `passage` and `choices` (one a line, each after its label)."""
    compete: Literal["texts", "labels"]
    system: str = ""
    """What the system says of rows that tell their `subject`."""


_BARE = Form(prompt="Question: {question}\nAnswer:", compete="texts")
_LISTED = Form(prompt="{question}\n{choices}\nAnswer:", compete="labels")
# The blank lines at its end are the harness' own.
_MMLU = replace(_LISTED, system="The following are multiple choice questions (with answers) about {subject}.\n\n")
FORMS: dict[str, Form] = {
    "arc": _BARE,
    "piqa": _BARE,
    "hellaswag": Form(prompt="{question}", compete="texts"),
    "mmlu": _MMLU,
    "mmlu-rows": _MMLU,
    "truthfulqa-choice": Form(prompt="Q: {question}\nA:", compete="texts"),
    "boolq": Form(prompt="{passage}\nQuestion: {question}?\nAnswer:", compete="labels"),
    "commonsenseqa": Form(prompt="Question: {question}\n{choices}\nAnswer:", compete="labels"),
}
"""By the format of the rows; in all others the choices are listed and the letters compete."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One question as the model is asked it."""

    id: str
    messages: tuple[Message, ...]
    choices: tuple[str, ...]
    """What the assistant might say."""
    gold: int
    """The place of the right one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What a model found of one question; each reading is None where a likelihood could not be had."""

    id: str
    likelihoods: tuple[float | None, ...]
    """The log-likelihood of each choice, in nats."""
    right: bool | None
    """Whether the likeliest choice is the right one; of equals the first counts, as in the harness (`acc`)."""
    right_by_character: bool | None
    """The same by likelihood over the choice's length in characters (`acc_norm`)."""
    right_by_byte: bool | None
    """The same over its length in bytes of UTF-8 (`acc_bytes`)."""
    tied: bool | None
    """Whether several choices are equally the likeliest: then their order decided, not the model."""

    @classmethod
    def from_json(cls, row: Json) -> Choice:
        """The row that `to_json` wrote."""
        values: dict[str, Any] = dict(row) if isinstance(row, Mapping) else {}
        return cls(**{**values, "likelihoods": tuple(values.get("likelihoods", ()))})

    def to_json(self) -> dict[str, Json]:
        """The row as it stands on disk."""
        names = ("id", "right", "right_by_character", "right_by_byte", "tied")
        return {**{name: getattr(self, name) for name in names}, "likelihoods": list(self.likelihoods)}


@dataclass(frozen=True, slots=True, kw_only=True)
class UtilityScore:
    """How often a model knew better, with Wilson intervals."""

    acc: Rate
    acc_norm: Rate
    """By character. Where texts compete this is the number to quote: long choices are not held against themselves."""
    acc_bytes: Rate
    ties: int

    def to_json(self) -> dict[str, Json]:
        """All of it."""
        rates = {"acc": self.acc, "acc_norm": self.acc_norm, "acc_bytes": self.acc_bytes}
        return {**{name: one.to_json() for name, one in rates.items()}, "ties": self.ties}


def ask(row: Chat) -> Question:
    """A row of a set with choices as it is asked.

    Raises:
        DataError: the row has no choices or no right one among them, or an empty choice.
    """
    meta = row.meta
    source = f"{meta.get('source', 'row')}, id {meta.get('id', row.id)}"
    choices, question, gold = meta.get("choices"), meta.get("question"), meta.get("gold")
    if not isinstance(choices, Mapping) or not isinstance(question, str):
        raise DataError(
            f"{source}: no choices to compare (format {meta.get('format')}); use it as a probe that the model answers instead"
        )
    if not isinstance(gold, str) or gold not in choices:
        raise DataError(f"{source}: the correct choice is missing (a test split?); use the validation split")
    form = FORMS.get(str(meta.get("format")), _LISTED)
    options = choices.values() if form.compete == "texts" else choices.keys()
    answers = tuple(str(one) for one in options)
    if not all(answers):
        raise DataError(f"{source}: a choice is empty; fill it in or remove the row")
    listed = "\n".join(f"{label}. {text}" for label, text in choices.items())
    # The harness strips a question that stands above its choices, and no other.
    stem = question.strip() if "{choices}" in form.prompt else question
    prompt = fill(form.prompt, {"question": stem, "choices": listed, "passage": str(meta.get("passage", ""))})
    system = fill(form.system, {"subject": str(meta["subject"]).replace("_", " ")}) if meta.get("subject") else ""
    conversation = Chat.pair(prompt, None, system=system or None)
    return Question(id=row.id, messages=conversation.messages, choices=answers, gold=list(choices).index(gold))


def choose(model: LM, rows: Sequence[Chat]) -> list[Choice]:
    """What the model finds of each row, in order.

    Raises:
        BackendError: the model gives no log-probabilities.
        DataError: a row has no choices or no right one among them.
    """
    if not model.can_score:
        raise BackendError("this model returns no log-probabilities, so choices cannot be compared; use local weights or vLLM")
    questions = [ask(row) for row in rows]
    pairs = [ScoreRequest(messages=question.messages, answer=choice) for question in questions for choice in question.choices]
    likelihoods = iter(model.score(pairs))
    return [_choice(one, [next(likelihoods) for _ in one.choices]) for one in questions]


def _choice(question: Question, likelihoods: Sequence[Likelihood]) -> Choice:
    known = [-likelihood.nll for likelihood in likelihoods if not likelihood.error]
    if len(known) < len(likelihoods):
        log_likelihoods = tuple(None if one.error else -one.nll for one in likelihoods)
        return Choice(
            id=question.id, likelihoods=log_likelihoods, right=None, right_by_character=None, right_by_byte=None, tied=None
        )

    def right(length: Callable[[str], int]) -> bool:
        by_length = [value / length(choice) for value, choice in zip(known, question.choices, strict=True)]
        return by_length.index(max(by_length)) == question.gold

    return Choice(
        id=question.id,
        likelihoods=tuple(known),
        right=right(lambda choice: 1),
        right_by_character=right(len),
        right_by_byte=right(lambda choice: len(choice.encode("utf-8", "surrogatepass"))),
        tied=known.count(max(known)) > 1,
    )


def summarise(choices: Iterable[Choice]) -> UtilityScore:
    """The shares of questions that were got right; unscored ones are counted and in no denominator."""
    seen = list(choices)
    return UtilityScore(
        acc=rate(one.right for one in seen),
        acc_norm=rate(one.right_by_character for one in seen),
        acc_bytes=rate(one.right_by_byte for one in seen),
        ties=sum(one.tied is True for one in seen),
    )


def pooled(rows: Iterable[Json]) -> UtilityScore:
    """The same over the saved questions of several files, each question once: as it was answered where it stands first."""
    choices: dict[str, Choice] = {}
    for row in rows:
        one = Choice.from_json(row)
        choices.setdefault(one.id, one)
    return summarise(choices.values())
