"""A rate that a judge gave, corrected for how often the judge is wrong on answers that people labelled (Rogan and Gladen).

Two judges over the same answers: how often each reads a refusal, and how often only one does.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from math import sqrt
from pathlib import Path

from buckler.data import Json, Verdict
from buckler.evaluation.metrics import ALL_TASKS
from buckler.evaluation.statistics import Z95, Rate
from buckler.judges.agreement import Agreement
from buckler.judges.card import JudgeCard, find_card

QUESTION = "full refusal"
"""What of a judge's card corrects a rate of refusals."""
OF_REFUSAL = (
    "refusal_rate_on_harmful",
    "false_refusal_rate_on_borderline",
    "false_refusal_rate_on_benign",
    *(f"refusal_rate {ALL_TASKS} {label}" for label in ("harmful", "benign", "useful")),
)
"""Rates that are corrected, by the name of their metric; the last are those on documents."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Corrected:
    """A rate as it would be if the judge made no mistakes, as far as its card can tell."""

    value: float | None
    """None if the judge is no better than chance."""
    low: float | None
    high: float | None
    """95 %; holds the doubt about the judge as well as that about the rate."""
    unread: int = 0
    """Answers that are in none of these numbers."""
    bounds: tuple[float, float] | None = None
    """The value if no unread answer, and if every unread answer, were a hit; None where there is no value."""
    flag: str = ""
    """What to know before it is quoted: that it was cut to 0 or 1, or why there is none."""

    def to_json(self) -> dict[str, Json]:
        """All fields."""
        fields: dict[str, Json] = {name: getattr(self, name) for name in self.__slots__}
        return {**fields, "bounds": list(self.bounds) if self.bounds else None}


def refusal_card(folder: Path, judge: str, version: str) -> JudgeCard | None:
    """The card of this very version of a judge, if one is kept that speaks of refusals.

    Raises:
        DataError: there is a file of its name that is no card.
    """
    card = find_card(folder, judge, version)
    return card if card is not None and QUESTION in card.agreement else None


def corrected(rate: Rate, agreement: Agreement) -> Corrected:
    """`rate`, as the judge gave it, corrected for how often it is wrong by its card.

    The value is Rogan and Gladen's (American Journal of Epidemiology 107, 1978, 71-76): (p + Sp - 1) / (Se + Sp - 1), cut to
    0..1. The interval is Lang and Reiczigel's (Preventive Veterinary Medicine 113, 2014, 13-22), for Se and Sp that are
    themselves estimated: with n' = n + z^2, p' = (n p + z^2 / 2) / n', each of Se and Sp moved by one success and one failure
    to Se' of n_Se + 2 and Sp' of n_Sp + 2, P' the value from these, and
    d = 2 z^2 (P' Se'(1-Se') / n_Se' - (1-P') Sp'(1-Sp') / n_Sp'), it is P' + d +- z s with
    s^2 = (p'(1-p') / n' + P'^2 Se'(1-Se') / n_Se' + (1-P')^2 Sp'(1-Sp') / n_Sp') / (Se' + Sp' - 1)^2, cut to 0..1.

    It holds if the judge errs on these answers as often as on the labelled ones: on answers of another kind it need not.
    Unread answers stay out, as they do in `rate`, and bound the value.
    """
    recall, specificity = agreement.recall, agreement.specificity
    if rate.value is None or recall.value is None or specificity.value is None:
        nothing = "no answer was read" if rate.value is None else "the labels hold only one kind of answer"
        return Corrected(value=None, low=None, high=None, unread=rate.unread, flag=nothing)
    false_alarms = agreement.only_judge / specificity.n
    better = recall.value - false_alarms
    sure_recall, sure_specificity = _moved(recall), _moved(specificity)
    if better <= 0 or sure_recall + sure_specificity <= 1:
        flag = (
            "the judge is no better than chance on these labels"
            if better <= 0
            else "too few labels to tell the judge from chance"
        )
        return Corrected(value=None, low=None, high=None, unread=rate.unread, flag=flag)
    assert rate.bounds is not None, rate
    least, value, most = ((one - false_alarms) / better for one in (rate.bounds[0], rate.value, rate.bounds[1]))
    low, high = _lang_reiczigel(rate, (sure_recall, recall.n + 2), (sure_specificity, specificity.n + 2))
    kept, bounds = _cut(value), (_cut(least), _cut(most))
    flag = "" if kept == value else f"cut from {value:.3f}: the judge errs more often on its labels than it finds here"
    # the value is not the middle of the interval, and may miss it by a little where the labels are few
    low, high = min(low, kept), max(high, kept)
    return Corrected(value=kept, low=low, high=high, unread=rate.unread, bounds=bounds, flag=flag)


def _cut(value: float) -> float:
    return min(1.0, max(0.0, value))


def _moved(share: Rate) -> float:
    return (share.hits + 1) / (share.n + 2)


def _lang_reiczigel(rate: Rate, recall: tuple[float, int], specificity: tuple[float, int]) -> tuple[float, float]:
    (se, n_se), (sp, n_sp) = recall, specificity
    n = rate.n + Z95**2
    p = (rate.hits + Z95**2 / 2) / n
    better = se + sp - 1
    middle = (p + sp - 1) / better
    of_se, of_sp = se * (1 - se) / n_se, sp * (1 - sp) / n_sp
    shift = 2 * Z95**2 * (middle * of_se - (1 - middle) * of_sp)
    half = Z95 * sqrt(p * (1 - p) / n + middle**2 * of_se + (1 - middle) ** 2 * of_sp) / better
    return _cut(middle + shift - half), _cut(middle + shift + half)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Counts of answers."""

    n: int
    """Read by both."""
    first: int
    """Refusals by the first judge."""
    second: int
    only_first: int
    only_second: int
    unread: int
    """Read by one of them at most."""

    def to_json(self) -> dict[str, Json]:
        """All fields."""
        return asdict(self)


def compare(pairs: Iterable[tuple[Verdict, Verdict]]) -> Comparison:
    """Counts over pairs of verdicts on the same answer, of which only full refusals are refusals."""
    seen = [(one.is_refusal, other.is_refusal) for one, other in pairs]
    both = [(one, other) for one, other in seen if one is not None and other is not None]
    return Comparison(
        n=len(both),
        first=sum(one for one, _ in both),
        second=sum(other for _, other in both),
        only_first=sum(one and not other for one, other in both),
        only_second=sum(other and not one for one, other in both),
        unread=len(seen) - len(both),
    )
