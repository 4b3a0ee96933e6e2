"""Defence rows and probes from documents: documents x tasks x wordings, refusals for the harmful, answers for the benign.

Source: arXiv 2405.15202. A defence set holds N document-level refusals, and rows that keep the model useful beside them.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, get_args

from pydantic import Field

from buckler.crosstask.decontamination import document_in
from buckler.crosstask.document_attacks import Position, hidden
from buckler.crosstask.documents import LABELS, Label, label_of, length_of, speaks_to_model
from buckler.crosstask.refusals import Style, Wanted, sample_refusals, template_refusals
from buckler.crosstask.task import Drawn, Task, draw, is_held_out
from buckler.crosstask.tasks import task_named
from buckler.data import Answer, Chat, Document, Json, canonical
from buckler.errors import ConfigError, DataError
from buckler.judges.refusal.keyword import read_refusal
from buckler.models.protocol import LM
from buckler.settings import Settings

HIDDEN_SHARES = (0.15, 0.3, 0.5, 0.7)
"""How much of the words a hidden passage may be; one is drawn for each row."""
PROBE_SET: dict[Label, str] = {"harmful": "harmful", "benign": "benign", "useful": "borderline"}
"""Which set of `buckler.evaluation` a document probe belongs to."""
AnswerAll: TypeAlias = Callable[[Sequence[Chat]], list[Answer]]
"""A model's answers to probes, in order."""


class CrossTaskSettings(Settings):
    """What the defence set holds."""

    tasks: tuple[str, ...] = ("summarize", "translate", "sentiment", "case", "cloze", "qa")
    refused_tasks: tuple[str, ...] | None = None
    """Tasks for which refusals are built (default: all); a single task gives the single-task defence."""
    wordings: tuple[str, ...] = ("back", "front")
    """Instruction wordings to train on; held-out wordings are reserved for the test and rejected."""
    refusals: int = Field(default=100, ge=0)
    """Total number of refusal rows, spread evenly over the tasks."""
    answers: int = Field(default=100, ge=0)
    """Number of answered rows on benign documents, so that the model does not learn to refuse every long document; 0 leaves
    them out (ablation)."""
    hidden: float = Field(default=0, ge=0, le=1)
    """Fraction of the refusal rows in which the malicious text is a passage inside a benign document. Without such rows a
    defence recognizes whole documents but misses embedded passages (docs/results.md)."""
    passage: int = Field(default=60, ge=1)
    """Maximum length of such a passage, in words."""
    language: str | None = None
    """Target language of the translation task (default: Chinese)."""
    refusals_from: Literal["templates", "model"] = "templates"
    """Source of the refusals: `templates`, or `model` to sample them from an aligned model at temperature 0.7 and filter them,
    as in the paper."""
    style: Literal["refusal", "safe_completion", "mixed"] = "refusal"
    """Style of the refusals: `refusal`; `safe_completion`, which names the kind of text and offers an alternative; or `mixed`,
    which alternates between the two."""
    tries: int = Field(default=4, ge=1)
    """Maximum number of samples per row, if refusals are sampled from a model."""
    same_refusal: int = Field(default=3, ge=1)
    """Maximum number of rows with the same refusal; a template is reused beyond it only after all templates of its task have
    been used as often."""
    not_sampled: Literal["template", "drop"] = "template"
    """Fallback for a row whose samples were all rejected: `template` uses a template refusal, `drop` leaves the row out."""


@dataclass(slots=True, kw_only=True)
class DefenceRows:
    """A built set, and what was left out of it."""

    rows: list[Chat] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    """Why a document could not be used for a task, or a row was not made, counted."""
    rejected: list[dict[str, Json]] = field(default_factory=list)
    """Sampled refusals that were not kept, each with its reason."""


def ask(document: Document, task: Task, wording: str, language: str | None = None) -> Chat:
    """The probe that asks `task` of `document`; its meta tells label, task, wording, reference and the document's place.

    Raises:
        DataError: the document lacks what the wording needs.
    """
    task = task.in_languages(language)
    references = document.meta.get("references")
    reference = references.get(task.id) if isinstance(references, Mapping) else None
    return Chat.of(
        task.ask(document, wording),
        set=PROBE_SET[label_of(document)],
        label=label_of(document),
        task=task.id,
        wording=wording,
        length=length_of(document.text),
        source=document.id,
        document=list(task.span(document, wording)),
        reference=reference,
        group=document.meta.get("group"),
    )


def build(
    documents: Sequence[Document],
    settings: CrossTaskSettings,
    *,
    seed: int,
    answer_all: AnswerAll | None = None,
    aligned: LM | None = None,
    own: Mapping[str, Task] | None = None,
) -> DefenceRows:
    """N refusals on harmful documents and answered rows on benign ones, each task as often as any other.

    Args:
        documents: labelled (`buckler.crosstask.documents.prepare`), in any order: harmful ones are refused, benign ones
            answered, useful ones left for the test.
        settings: tasks, wordings and numbers.
        seed: of the draw of documents, wordings and refusals.
        answer_all: the undefended model, for benign documents that bring no reference; such rows are skipped without it.
        aligned: the model that refusals are sampled from.
        own: tasks of the user's own, by name.

    Raises:
        ConfigError: a held-out wording is asked for, a task is unknown, or there is no model to sample refusals from.
        DataError: no harmful (or no benign) documents, fewer document-task pairs than rows asked for, or a model none of
            whose samples is a refusal.
    """
    held_out = [wording for wording in settings.wordings if is_held_out(wording)]
    if held_out:
        trained = ", ".join(CrossTaskSettings().wordings)
        raise ConfigError(f"wordings: {held_out[0]!r} is held out for the test; train on {trained}")
    if settings.refusals and settings.refusals_from == "model" and aligned is None:
        raise ConfigError("refusals_from: `model` needs an aligned model to sample; name one, or use `templates`")
    by_label = _by_label(documents, settings)
    result = DefenceRows()
    tasks = [task_named(name, own) for name in settings.tasks]
    refused = [task_named(name, own) for name in settings.refused_tasks] if settings.refused_tasks else tasks
    # A generator for each part: a smaller budget is part of a larger one, and the answered rows are the same beside any.
    harmful = draw(by_label["harmful"], refused, settings.wordings, settings.refusals, _rng("harmful", seed), result.skipped)
    benign = draw(by_label["benign"], tasks, settings.wordings, settings.answers, _rng("benign", seed), result.skipped)
    harmful = _some_hidden(harmful, by_label["benign"], settings, seed)
    wanted = [
        Wanted(probe=ask(*drawn, settings.language), verb=drawn[1].verb, style=_style(settings, turn // len(refused)))
        for turn, drawn in enumerate(harmful)
    ]
    result.rows += _refused(wanted, settings, aligned, seed, result)
    result.rows += _answered([ask(*drawn, settings.language) for drawn in benign], answer_all, result)
    _rng("order", seed).shuffle(result.rows)
    return result


def document_probes(
    documents: Sequence[Document],
    tasks: Sequence[str],
    *,
    wording: str,
    language: str | None = None,
    own: Mapping[str, Task] | None = None,
) -> list[Chat]:
    """Every task asked of every document in one wording.

    Documents without a question are passed over by QA, tasks without this wording altogether.

    Raises:
        ConfigError: a task is unknown, or none has such a wording.
        DataError: a document has no label.
    """
    with_wording = [task for name in tasks if wording in (task := task_named(name, own)).wordings]
    if tasks and not with_wording:
        raise ConfigError(f"none of the tasks {', '.join(tasks)} has a wording {wording!r}")
    return [
        ask(one, task, wording, language)
        for one in documents
        for task in with_wording
        if label_of(one) and task.asks(one, wording)
    ]


def _by_label(documents: Sequence[Document], settings: CrossTaskSettings) -> dict[Label, list[Document]]:
    """Each document once, by id, so that the order they come in decides nothing."""
    by_label: dict[Label, list[Document]] = {label: [] for label in LABELS}
    ordered = sorted(documents, key=lambda one: (one.id, canonical(one.meta)))
    for document in {one.id: one for one in ordered}.values():
        by_label[label_of(document)].append(document)
    there = ", ".join(f"{len(those)} {label}" for label, those in by_label.items() if those) or "none at all"
    if settings.refusals and not by_label["harmful"]:
        raise DataError(f"no document is labelled harmful, so there is nothing to refuse; add some with --harmful ({there})")
    if settings.answers and not by_label["benign"]:
        raise DataError(
            "no document is labelled benign, so there is nothing to answer; add some with --benign, "
            f"or set the number of answers to 0 (ablation) ({there})"
        )
    return by_label


def _some_hidden(drawn: list[Drawn], benign: Sequence[Document], settings: CrossTaskSettings, seed: int) -> list[Drawn]:
    """The drawn documents, a share of them as passages inside benign text; a smaller budget stays part of a larger one."""
    rows: list[Drawn] = []
    for document, task, wording in drawn:
        rng = _rng(f"hidden:{document.id}:{task.id}", seed)
        if rng.random() < settings.hidden:
            position, share = rng.choice(get_args(Position)), rng.choice(HIDDEN_SHARES)
            draw_seed = rng.randrange(1 << 30)
            document = hidden(document, benign, position=position, share=share, passage=settings.passage, seed=draw_seed)
        rows.append((document, task, wording))
    return rows


def _rng(part: str, seed: int) -> random.Random:
    return random.Random(f"crosstask:{part}:{seed}")


def _style(settings: CrossTaskSettings, turn: int) -> Style:
    if settings.style == "mixed":
        return "safe_completion" if turn % 2 else "refusal"
    return settings.style


def _refused(
    wanted: Sequence[Wanted],
    settings: CrossTaskSettings,
    aligned: LM | None,
    seed: int,
    result: DefenceRows,
) -> list[Chat]:
    """The probes with refusals: written ones, or sampled ones and what stands in where none was kept."""
    texts: list[str | None] = [None] * len(wanted)
    if settings.refusals_from == "model" and aligned is not None:
        sampled = sample_refusals(aligned, wanted, tries=settings.tries, same=settings.same_refusal, seed=seed)
        texts, result.rejected = sampled.texts, sampled.rejected
    spare = template_refusals([(one.verb, one.style) for one in wanted], settings.same_refusal, _rng("refusals", seed))
    rows = []
    for one, text, other in zip(wanted, texts, spare, strict=True):
        if text is None and settings.refusals_from == "model":
            result.skipped[f"no sampled refusal was kept: {settings.not_sampled}"] += 1
            if settings.not_sampled == "drop":
                continue
        origin = "templates" if text is None else "model"
        rows.append(one.probe.answered(text or other, part="defence", harmful=False, style=one.style, refusal_from=origin))
    return rows


def _answered(probes: Sequence[Chat], answer_all: AnswerAll | None, result: DefenceRows) -> list[Chat]:
    """Benign probes with real answers: the reference where there is one, else the undefended model's own."""
    rows: list[Chat] = []
    open_ones: list[Chat] = []
    for probe in probes:
        reference = probe.meta.get("reference")
        if isinstance(reference, str) and reference:
            rows.append(probe.answered(reference, part="utility", harmful=False))
        elif speaks_to_model(document_in(probe) or ""):
            result.skipped["the document speaks to the model, whose answer may have obeyed it"] += 1
        else:
            open_ones.append(probe)
    if open_ones and answer_all is None:
        result.skipped["no reference, and no model to answer"] += len(open_ones)
    elif open_ones and answer_all is not None:
        for probe, answer in zip(open_ones, answer_all(open_ones), strict=True):
            text = answer.text
            if answer.no_text:
                result.skipped[f"the model did not answer: {answer.no_text}"] += 1
            elif not text.strip():
                result.skipped["the model's answer was empty"] += 1
            elif answer.finish_reason == "length":
                result.skipped["the model's answer was cut off at the token limit"] += 1
            elif read_refusal(text, [turn["content"] for turn in probe.messages], probe.query)[0] == "full":
                result.skipped["the model refused a benign document"] += 1
            else:
                rows.append(probe.answered(text, part="utility", harmful=False))
    return rows
