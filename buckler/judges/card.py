"""A judge's card: how often one judge, in one version, agrees with people who labelled the same answers; how it is kept."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from pydantic import TypeAdapter, ValidationError

from buckler.data import Json, Verdict, content_id, read_json, write_json, write_text
from buckler.errors import DataError
from buckler.evaluation.statistics import Rate
from buckler.judges.agreement import RATES, UNSCORED, Agreement, Confusion
from buckler.judges.labels import Labelled
from buckler.settings import plain

QUESTIONS: dict[str, tuple[Callable[[Labelled], bool | None], Callable[[Verdict], bool | None]]] = {
    "declines": (lambda row: None if row.refused is None else row.refused != "no", lambda one: one.declines),
    "full refusal": (lambda row: None if row.refused is None else row.refused == "full", lambda one: one.is_refusal),
    "harmful": (lambda row: row.harmful, lambda one: one.harmful),
}
"""What a card measures, by name: what the people say and what the judge says. `declines`: wholly or in part."""
FULL_PARTIAL_NO = "full, partial or no refusal"
"""The question with three answers."""
REFUSAL_QUESTION = "full refusal"
"""What of a judge's card corrects a rate of refusals."""
Pair: TypeAlias = tuple[Labelled, Verdict]


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeCard:
    """How one judge, in one version, agrees with one set of labels."""

    judge: str
    version: str
    models: tuple[str, ...] = ()
    """The language models it is made of."""
    labels: tuple[str, ...]
    """The names of the files of labels."""
    digest: str
    """The hash of the labelled answers."""
    without_label: int = 0
    agreement: Mapping[str, Agreement]
    """By question."""
    groups: Mapping[str, Mapping[str, Mapping[str, Agreement]]] = field(default_factory=dict)
    """By question, then by kind of group (category, model), then by group."""
    how_far: Confusion | None = None
    """Full, partial or no refusal; None where the labels speak of something else."""
    how_far_by: Mapping[str, Mapping[str, Confusion]] = field(default_factory=dict)
    """The same by kind of group, then by group."""

    def sentence(self, question: str) -> str:
        """What a report says beside a rate that this judge gave."""
        agreement = self.agreement[question]
        return (
            f"{self.judge} ({self.version}) agrees with people on `{question}` in {_in_words(agreement)};"
            f" recall {_percent(agreement.recall)}, specificity {_percent(agreement.specificity)} ({', '.join(self.labels)})"
        )

    def lines(self) -> list[str]:
        """What is printed: every question, and each model for itself where there are several."""
        tables: list[tuple[str, Mapping[str, Agreement | Confusion]]] = [
            (self.sentence(name), self.groups.get(name, {}).get("model", {})) for name in self.agreement
        ]
        if self.how_far is not None:
            headline = f"{self.judge} ({self.version}) agrees with people on {FULL_PARTIAL_NO} in {_in_words(self.how_far)}"
            tables.append((headline, self.how_far_by.get("model", {})))
        return [
            line
            for headline, models in tables
            for line in (headline, *(f"  {name}: {_in_words(one)}" for name, one in models.items() if len(models) > 1))
        ]

    def to_json(self) -> dict[str, Json]:
        """As it is kept."""
        groups: dict[str, Json] = {
            question: {kind: {name: one.to_json() for name, one in of.items()} for kind, of in kinds.items()}
            for question, kinds in self.groups.items()
        }
        how_far_by: dict[str, Json] = {
            kind: {name: one.to_json() for name, one in of.items()} for kind, of in self.how_far_by.items()
        }
        return {
            "judge": self.judge,
            "version": self.version,
            "models": list(self.models),
            "labels": list(self.labels),
            "digest": self.digest,
            "without_label": self.without_label,
            "agreement": {name: one.to_json() for name, one in self.agreement.items()},
            "groups": groups,
            "how_far": self.how_far.to_json() if self.how_far else None,
            "how_far_by": how_far_by,
        }


def make_card(
    judge: str,
    version: str,
    rows: Sequence[Labelled],
    verdicts: Sequence[Verdict],
    *,
    labels: Sequence[str],
    models: Sequence[str] = (),
    without_label: int = 0,
) -> JudgeCard:
    """Compare verdicts with labels, row by row; only the questions that the labels answer are on the card.

    Raises:
        DataError: the judge answered none of them on any row.
    """
    pairs = list(zip(rows, verdicts, strict=True))
    questions = [name for name, (truth, _) in QUESTIONS.items() if any(truth(row) is not None for row in rows)]
    agreement = {name: _agreement(name, pairs) for name in questions}
    if not any(one.accuracy.n for one in agreement.values()):
        why = next((f"; the first: {one.reason}" for one in verdicts if one.reason), "")
        raise DataError(
            f"judge {judge} gave no verdict on `{'`, `'.join(questions)}` of any of {len(rows)} labelled answers{why}"
        )
    groups = _by_group(pairs)
    refusals = [pair for pair in pairs if pair[0].refused is not None]
    return JudgeCard(
        judge=judge,
        version=version,
        models=tuple(models),
        labels=tuple(labels),
        digest=content_id([[row.answer.id, row.refused, row.harmful] for row in rows]),
        without_label=without_label,
        agreement=agreement,
        groups={
            name: {kind: {group: _agreement(name, some) for group, some in of.items()} for kind, of in groups.items()}
            for name in questions
        },
        how_far=_how_far(refusals) if refusals else None,
        how_far_by={kind: {group: _how_far(some) for group, some in of.items()} for kind, of in _by_group(refusals).items()},
    )


def _how_far(pairs: Sequence[Pair]) -> Confusion:
    counts: dict[str, Counter[str]] = {}
    for row, verdict in pairs:
        assert row.refused is not None, row
        counts.setdefault(row.refused, Counter())[verdict.refused or UNSCORED] += 1
    return Confusion(counts={label: dict(counted) for label, counted in sorted(counts.items())})


def _agreement(question: str, pairs: Sequence[Pair]) -> Agreement:
    truth, read = QUESTIONS[question]
    cells = Counter((truth(row), read(verdict)) for row, verdict in pairs)
    return Agreement(
        both=cells[True, True],
        only_judge=cells[False, True],
        only_people=cells[True, False],
        neither=cells[False, False],
        unscored_yes=cells[True, None],
        unscored_no=cells[False, None],
    )


def _by_group(pairs: Sequence[Pair]) -> dict[str, dict[str, list[Pair]]]:
    groups: dict[str, dict[str, list[Pair]]] = {}
    for row, verdict in pairs:
        for kind, name in row.groups.items():
            groups.setdefault(kind, {}).setdefault(name, []).append((row, verdict))
    return {kind: dict(sorted(names.items())) for kind, names in sorted(groups.items())}


def card_path(folder: Path, judge: str, version: str) -> Path:
    """Where the card of a judge's version lies."""
    return folder / f"{re.sub(r'[^A-Za-z0-9_.+-]+', '-', f'{judge}-{version}')}.json"


def write_card(card: JudgeCard, folder: Path) -> list[Path]:
    """Keep a card, as JSON and as Markdown; the files written. An older card of the same version is replaced."""
    path = card_path(folder, card.judge, card.version)
    write_json(path, card.to_json())
    write_text(path.with_suffix(".md"), markdown(card))
    return [path, path.with_suffix(".md")]


def find_card(folder: Path, judge: str, version: str) -> JudgeCard | None:
    """The card of this very version of a judge, if one is kept.

    Raises:
        DataError: there is a file of its name that is no card.
    """
    path = card_path(folder, judge, version)
    return card_from_json(read_json(path), str(path)) if path.exists() else None


def refusal_card(folder: Path, judge: str, version: str) -> JudgeCard | None:
    """The card of this very version of a judge, if one is kept that measures refusals.

    Raises:
        DataError: there is a file of its name that is no card.
    """
    card = find_card(folder, judge, version)
    return card if card is not None and REFUSAL_QUESTION in card.agreement else None


def card_from_json(value: Json, where: str) -> JudgeCard:
    """Read a card; only counts and names are read, the rest follows from them.

    Raises:
        DataError: it is no card.
    """
    try:
        return TypeAdapter(JudgeCard).validate_python(value)
    except ValidationError as fault:
        first = fault.errors()[0]
        place = f"`{'.'.join(map(str, first['loc']))}` " if first["loc"] else "it "
        raise DataError(
            f"{where}: not a judge card: {place}{plain(first['msg'])}; create one with `buckler judge-card`"
        ) from None


def markdown(card: JudgeCard) -> str:
    """The card as people read it."""
    models = f" on {', '.join(card.models)}" if card.models else ""
    lines = [
        f"# Judge card: {card.judge}{models}",
        "",
        f"Version `{card.version}`; labels: {', '.join(card.labels)} (`{card.digest}`).",
    ]
    if card.without_label:
        lines.append(f"{card.without_label} rows without a label are left out.")
    lines += ["", "Intervals are 95 %: Wilson for rates, bootstrap for kappa. Unscored answers are in no rate but counted.", ""]
    for question, whole in card.agreement.items():
        lines += [f"## {question}", "", _HEAD, _RULE, _row("all", whole)]
        for kind, groups in card.groups.get(question, {}).items():
            lines += [_row(f"{kind}: {_cell(name)}", one) for name, one in groups.items()]
        lines.append("")
    if card.how_far is not None:
        lines += [f"## {FULL_PARTIAL_NO}", "", "| answers | n | unscored | accuracy | kappa |", "|---|---:|---:|---:|---:|"]
        lines.append(_row("all", card.how_far, ("accuracy",)))
        for kind, of in card.how_far_by.items():
            lines += [_row(f"{kind}: {_cell(name)}", one, ("accuracy",)) for name, one in of.items()]
        kinds = ("full", "partial", "no", UNSCORED)
        lines += ["", f"| people say | {' | '.join(f'judge: {kind}' for kind in kinds)} |", "|---|" + "---:|" * 4]
        for level in (kind for kind in kinds if kind in card.how_far.counts):
            lines.append(f"| {level} | {' | '.join(str(card.how_far.counts[level].get(kind, 0)) for kind in kinds)} |")
        lines.append("")
    return "\n".join(lines)


_HEAD = f"| answers | n | unscored | {' | '.join(RATES)} | kappa |"
_RULE = "|---|---:|---:|" + "---:|" * (len(RATES) + 1)


def _row(name: str, one: Agreement | Confusion, shown: Sequence[str] = RATES) -> str:
    rates = " | ".join(_with_interval(getattr(one, rate)) for rate in shown)
    interval = one.kappa_interval
    kappa = "" if one.kappa is None else f"{one.kappa:.2f}" + (f" [{interval[0]:.2f}, {interval[1]:.2f}]" if interval else "")
    return f"| {name} | {one.accuracy.n} | {one.accuracy.unscored} | {rates} | {kappa} |"


def _in_words(one: Agreement | Confusion) -> str:
    unscored = f", {one.accuracy.unscored} more unscored" if one.accuracy.unscored else ""
    kappa = "" if one.kappa is None else f", kappa {one.kappa:.2f}"
    return f"{_percent(one.accuracy)} of {one.accuracy.n} answers{unscored}{kappa}"


def _with_interval(rate: Rate) -> str:
    return "" if rate.value is None else f"{rate.value:.3f} [{rate.low:.3f}, {rate.high:.3f}]"


def _percent(rate: Rate) -> str:
    return "none" if rate.value is None else f"{rate.value:.1%} [{rate.low:.1%}, {rate.high:.1%}]"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
