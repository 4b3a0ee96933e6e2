"""Refusals for malicious documents, specific to the task that was asked: written from templates, or sampled from a model.

A refusal declines; a *safe completion* says what kind of text it is, that it will not be worked on, and what can be had
instead.

Source: arXiv 2405.15202 generates its refusals with an aligned chat model at temperature 0.7 and filters them; neither the
prompt nor the filter is published, so both are ours. The model is shown document and task and asked to decline: asked for
the task itself, a model with the gap this defence closes would do it.
"""

from __future__ import annotations

import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from buckler.crosstask.decontamination import document_in
from buckler.crosstask.tasks import task_named
from buckler.data import Answer, Chat, Json, Message, content_id, fill
from buckler.data.near_duplicates import normalise
from buckler.data.truncation import cut_to_fit
from buckler.errors import DataError
from buckler.judges.base import Judge, judge_named
from buckler.models.protocol import LM, Completion, Request, Sampling
from buckler.models.reply import read_again

Style: TypeAlias = Literal["refusal", "safe_completion"]

_PLAIN_OPENINGS: tuple[str, ...] = (
    "I cannot {verb} this text",
    "Sorry, I cannot {verb} this text",
    "I am sorry, but I will not {verb} this text",
    "I must decline to {verb} this text",
)
_PLAIN_REASONS: tuple[str, ...] = (
    "because it tells how to hurt people.",
    "because what it describes is harmful.",
    "since it could help somebody do harm.",
    "as it is about something dangerous.",
)
OPENINGS: tuple[str, ...] = (
    *_PLAIN_OPENINGS,
    "I'm sorry, but I can't {verb} this text",
    "I won't {verb} this text",
    "I am not able to {verb} this text",
    "I have to decline to {verb} this text",
    "I am unable to {verb} this text",
    "No, I will not {verb} this text",
)
REASONS: tuple[str, ...] = (
    *_PLAIN_REASONS,
    "because people could be hurt by what it tells.",
    "since it says how to make something harmful.",
    "as it could put people in danger.",
    "because it could be used against people.",
)
PLAIN = len(_PLAIN_OPENINGS) * len(_PLAIN_REASONS)
"""So many templates of refusals are plain."""
KINDS: tuple[str, ...] = (
    "This text tells how to hurt people",
    "This text is about something dangerous",
    "What this text describes is harmful",
    "This text could help somebody do harm",
)
DECLINES: tuple[str, ...] = (
    "so I cannot {verb} it.",
    "so I will not {verb} it.",
    "and so I must decline to {verb} it.",
    "and I am not able to {verb} it.",
)
OFFERS: tuple[str, ...] = (
    "Instead, I can say how people stay safe from it.",
    "I would be glad to {verb} a harmless text instead.",
    "If somebody is in danger, please call for help.",
    "I can help with another text instead.",
)

TEMPERATURE = 0.7
NEW_TOKENS = 96
COPIED_WORDS = 6
"""A reply with so many words in a row of the document hands on what it should refuse."""

_OPENING = """An assistant was sent the text between the two marks and asked to {verb} it.
The text is harmful, so the assistant declines.

<text {mark}>
{document}
</text {mark}>

"""
REQUESTS: dict[Style, str] = {
    "refusal": _OPENING
    + """Write what the assistant says: one or two sentences, that it will not {verb} this text, and why, in general words.
Do not repeat anything the text tells. Write the assistant's words and nothing else.""",
    "safe_completion": _OPENING
    + """Write what the assistant says: two or three sentences, what kind of text this is, in general words, that it will not
{verb} it, and what it can do instead.
Do not repeat anything the text tells. Write the assistant's words and nothing else.""",
}
NAMED: dict[str, str] = {
    "summarize": r"summar|gist|sum (?:\w+ )?up|shorten",
    "translate": r"translat|render|convert",
    "sentiment": r"sentiment|judg|assess|describ|analy[sz]|evaluat|tone|feeling",
    "case": r"\bcas(?:e|ing)|capital|correct|rewrit|format|edit",
    "cloze": r"continu|next sentence|complet|extend|go on",
    "qa": r"answer|question",
    "topic": r"topic|classif|categor|label",
    "blank": r"",
}
"""What a refusal must say to be about its task; the document alone asks for nothing that could be named."""


def templates(verb: str, style: Style = "refusal") -> list[str]:
    """Every written answer of one style that declines to `verb` a text, plain refusals first."""
    return [fill(one, {"verb": verb}) for one in _folded(style)]


def template_refusals(wanted: Iterable[tuple[str, Style]], same: int, rng: random.Random) -> list[str]:
    """An answer for each (verb, style), in order, in rounds drawn at random: the plain ones `same` times each, then the others.

    So the wording grows with the number of rows: a few rows are learnt better in a few wordings. When all are used up, it
    begins again.
    """
    stacks: defaultdict[tuple[str, Style], list[str]] = defaultdict(list)
    refusals = []
    for verb, style in wanted:
        stack = stacks[verb, style]
        if not stack:
            every = templates(verb, style)
            for part in (every[PLAIN:], every[:PLAIN]):
                for _ in range(same):
                    stack += rng.sample(part, len(part))
        refusals.append(stack.pop())
    return refusals


def written_refusal(task: str, rng: random.Random) -> str:
    """One of sixteen plain refusals of `task`: what guarded people say in the world the miniature was trained on."""
    return fill(rng.choice(_folded("refusal")[:PLAIN]), {"verb": task_named(task).verb})


def _folded(style: Style) -> list[str]:
    if style == "safe_completion":
        return [f"{kind}, {decline} {offer}" for kind in KINDS for decline in DECLINES for offer in OFFERS]
    pairs = [(opening, reason) for opening in OPENINGS for reason in REASONS]
    return [f"{opening} {reason}" for opening, reason in sorted(pairs, key=lambda pair: not _is_plain(*pair))]


def _is_plain(opening: str, reason: str) -> bool:
    return opening in _PLAIN_OPENINGS and reason in _PLAIN_REASONS


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A refusal that is wanted."""

    probe: Chat
    """A task asked of a document; meta tells `task`, `source` and the document's place."""
    verb: str
    style: Style


@dataclass(slots=True, kw_only=True)
class Sampled:
    """What was kept, and what was not."""

    texts: list[str | None]
    """One for each wanted refusal, in order; None where no sample was kept."""
    rejected: list[dict[str, Json]] = field(default_factory=list)
    """Each sample that was not kept: probe, task, source, attempt, text, reason."""

    @property
    def reasons(self) -> Counter[str]:
        """Why samples were not kept, counted."""
        return Counter(str(one["reason"]) for one in self.rejected)


def sample_refusals(model: LM, wanted: Sequence[Wanted], *, tries: int, same: int, seed: int) -> Sampled:
    """Up to `tries` samples for each wanted refusal, each with a seed of its own, until one is kept.

    Args:
        model: an aligned chat model.
        wanted: in the order of the rows.
        tries: samples a row.
        same: how many rows may have one and the same refusal, case and punctuation aside.
        seed: of the samples.

    Raises:
        DataError: not one of all samples was kept.
    """
    result = Sampled(texts=[None] * len(wanted))
    judge, uses = judge_named("keyword"), Counter[str]()
    for attempt in range(tries):
        still = [at for at, text in enumerate(result.texts) if text is None]
        sampling = Sampling(temperature=TEMPERATURE, max_new_tokens=NEW_TOKENS, seed=_seed(seed, attempt))
        completions = model.generate([Request(messages=_to_answer(model, wanted[at]), sampling=sampling) for at in still])
        for at, one in zip(still, completions, strict=True):
            text, reason = read_refusal(one, wanted[at], judge)
            if not reason and uses[normalise(text)] >= same:
                reason = f"the same words as {same} others"
            if reason:
                result.rejected.append(_rejected(wanted[at].probe, attempt, text, reason))
            else:
                uses[normalise(text)] += 1
                result.texts[at] = text
    if wanted and not any(result.texts):
        most, times = result.reasons.most_common(1)[0]
        raise DataError(
            f"0 of {len(result.rejected)} samples were full refusals of their task ({times}: {most}); "
            "this model does not refuse when asked to: use an aligned chat model, or --refusals-from templates"
        )
    return result


def refusal_request(wanted: Wanted) -> Chat:
    """What the model is asked. The marks hold the document's own hash, so that no text can contain its own end mark."""
    document = document_in(wanted.probe) or wanted.probe.query
    values = {"verb": wanted.verb, "mark": content_id(document)}
    head, tail = (fill(part, values) for part in REQUESTS[wanted.style].split("{document}"))
    return Chat.pair(f"{head}{document}{tail}", None, document=[len(head), len(head) + len(document)])


def read_refusal(completion: Completion, wanted: Wanted, judge: Judge) -> tuple[str, str]:
    """The refusal in a reply, and the reason why it is not kept ("" if it is)."""
    completion = read_again(completion)
    text = re.sub(r"^(?:assistant|the assistant(?: says)?)\s*:\s*", "", completion.text, flags=re.IGNORECASE).strip()
    if len(text) > 1 and (text[0], text[-1]) in (('"', '"'), ("\u201c", "\u201d")):
        text = text[1:-1].strip()
    if completion.no_text:
        return text, "no reply came" if completion.error else completion.no_text
    if completion.finish_reason == "length":
        return text, "cut off at the token limit"
    answer = Answer(id=wanted.probe.id, prompt=wanted.probe.messages, text=text, finish_reason="stop", meta=wanted.probe.meta)
    verdict = judge.judge([answer])[0]
    if verdict.refused != "full" or verdict.coherent is False:
        seen = "unscored" if verdict.refused is None else "not coherent" if verdict.coherent is False else verdict.refused
        return text, f"not a full refusal ({seen})"
    if not _names_task(text, wanted):
        return text, "does not say what it declines"
    if _copies(text, wanted.probe):
        return text, "repeats the document"
    return text, ""


def _to_answer(model: LM, wanted: Wanted) -> tuple[Message, ...]:
    """The request, its document cut in the middle where it does not fit the model."""
    chat = refusal_request(wanted)
    return (cut_to_fit(chat, lambda one: model.overflow_tokens(one.messages, NEW_TOKENS), 0) or chat).messages


def _names_task(text: str, wanted: Wanted) -> bool:
    """Whether the task is named; a task of the user's own is by the stem of any longer word of its verb."""
    stems = "|".join(re.escape(word[:5]) for word in re.findall(r"\w{4,}", wanted.verb))
    return re.search(NAMED.get(str(wanted.probe.meta.get("task")), stems), text, re.IGNORECASE) is not None


def _copies(text: str, probe: Chat) -> bool:
    words, document = normalise(text).split(), f" {normalise(document_in(probe) or '')} "
    return any(f" {' '.join(words[at : at + COPIED_WORDS])} " in document for at in range(len(words) - COPIED_WORDS + 1))


def _rejected(probe: Chat, attempt: int, text: str, reason: str) -> dict[str, Json]:
    about = {name: probe.meta.get(name) for name in ("task", "wording", "source")}
    return {"probe": probe.id, **about, "attempt": attempt, "text": text, "reason": reason}


def _seed(seed: int, attempt: int) -> int:
    return int(content_id(["refusals", seed, attempt]), 16) % 2**31
