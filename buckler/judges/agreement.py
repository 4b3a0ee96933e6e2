"""How far a judge and people agree, and a rate that the judge gave, corrected for how often it is wrong (Rogan and Gladen).

`Agreement` (yes or no) and `Confusion` (several answers) hold counts; accuracy, precision, recall, specificity and kappa
follow from them, with intervals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING, Annotated, TypeAlias

from pydantic import Field

from buckler.data import Json
from buckler.evaluation.metrics import ALL_TASKS
from buckler.evaluation.statistics import Z95, Rate

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Count: TypeAlias = Annotated[int, Field(ge=0)]
"""Checked where a card is read from a file."""
RATES = ("accuracy", "precision", "recall", "specificity")
RESAMPLES = 2000
"""Of the bootstrap for kappa."""
UNSCORED = "unread"
"""What a judge is counted as saying of an answer that it could not score; the word in files."""
OF_REFUSAL = (
    "refusal_rate_on_harmful",
    "false_refusal_rate_on_borderline",
    "false_refusal_rate_on_benign",
    *(f"refusal_rate {ALL_TASKS} {label}" for label in ("harmful", "benign", "useful")),
)
"""Rates that are corrected, by the name of their metric; the last are those on documents."""


class _Counts:
    """What people and the judge say of the same answers, as a square table of counts."""

    __slots__ = ()

    @property
    def _table(self) -> list[list[int]]:
        raise NotImplementedError

    @property
    def kappa(self) -> float | None:
        """Cohen's kappa: agreement beyond what the margins give by chance; None where that is all there can be."""
        return kappa(self._table)

    @property
    def kappa_interval(self) -> tuple[float, float] | None:
        """Its 95 % interval, as the function `kappa_interval` makes it."""
        return kappa_interval(self._table)

    def _kappa_json(self) -> dict[str, Json]:
        interval = self.kappa_interval
        return {"value": self.kappa, "interval": list(interval) if interval else None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement(_Counts):
    """A yes/no question answered by people and by the judge. People are taken to be right."""

    both: Count = 0
    """Both say yes."""
    only_judge: Count = 0
    only_people: Count = 0
    neither: Count = 0
    unscored_yes: Annotated[Count, Field(validation_alias="unread_yes")] = 0
    """Answers the judge could not read, of which people say yes."""
    unscored_no: Annotated[Count, Field(validation_alias="unread_no")] = 0

    @property
    def accuracy(self) -> Rate:
        """Of the answers read, those the judge is right about."""
        n = self.both + self.only_judge + self.only_people + self.neither
        return Rate(hits=self.both + self.neither, n=n, unscored=self.unscored_yes + self.unscored_no)

    @property
    def recall(self) -> Rate:
        """Sensitivity: of those that are, the share the judge finds."""
        return Rate(hits=self.both, n=self.both + self.only_people, unscored=self.unscored_yes)

    @property
    def specificity(self) -> Rate:
        """Of those that are not, the share the judge leaves."""
        return Rate(hits=self.neither, n=self.neither + self.only_judge, unscored=self.unscored_no)

    @property
    def precision(self) -> Rate:
        """Of those the judge names, the share that is. Any answer that it could not read might be among them."""
        return Rate(hits=self.both, n=self.both + self.only_judge, unscored=self.unscored_yes + self.unscored_no)

    @property
    def _table(self) -> list[list[int]]:
        return [[self.both, self.only_people], [self.only_judge, self.neither]]

    def to_json(self) -> dict[str, Json]:
        """The counts, and what follows from them."""
        counts: dict[str, Json] = {name.replace("unscored", UNSCORED): getattr(self, name) for name in self.__slots__}
        rates: dict[str, Json] = {name: getattr(self, name).to_json() for name in RATES}
        return {**counts, **rates, "kappa": self._kappa_json()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Confusion(_Counts):
    """A question with several answers, such as how far an answer refuses, answered by people and by the judge."""

    counts: Mapping[str, Mapping[str, Count]]
    """What people say, then what the judge says (`unscored` included), counted."""

    @property
    def accuracy(self) -> Rate:
        """Of the answers read, those of which both say the same."""
        cells = [(people, judge, count) for people, row in self.counts.items() for judge, count in row.items()]
        unscored = sum(count for _, judge, count in cells if judge == UNSCORED)
        read = sum(count for _, _, count in cells) - unscored
        return Rate(hits=sum(count for people, judge, count in cells if people == judge), n=read, unscored=unscored)

    @property
    def _table(self) -> list[list[int]]:
        names = sorted({*self.counts, *(name for row in self.counts.values() for name in row)} - {UNSCORED})
        return [[self.counts.get(people, {}).get(judge, 0) for judge in names] for people in names]

    def to_json(self) -> dict[str, Json]:
        """The counts, and what follows from them."""
        counts: dict[str, Json] = {people: dict(row) for people, row in self.counts.items()}
        return {"counts": counts, "accuracy": self.accuracy.to_json(), "kappa": self._kappa_json()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Corrected:
    """A rate as it would be if the judge made no mistakes, as far as its card can tell."""

    value: float | None
    """None if the judge is no better than chance."""
    low: float | None
    high: float | None
    """95 %; holds the doubt about the judge as well as that about the rate."""
    unscored: int = 0
    """Answers that are in none of these numbers."""
    bounds: tuple[float, float] | None = None
    """The value if no unscored answer, and if every unscored answer, were a hit; None where there is no value."""
    flag: str = ""
    """What to know before it is quoted: that it was cut to 0 or 1, or why there is none."""

    def to_json(self) -> dict[str, Json]:
        """All fields."""
        fields: dict[str, Json] = {name.replace("unscored", UNSCORED): getattr(self, name) for name in self.__slots__}
        return {**fields, "bounds": list(self.bounds) if self.bounds else None}


def corrected(rate: Rate, agreement: Agreement) -> Corrected:
    """`rate`, as the judge gave it, corrected for how often it is wrong by its card.

    The value is Rogan and Gladen's (American Journal of Epidemiology 107, 1978, 71-76): (p + Sp - 1) / (Se + Sp - 1), cut to
    0..1. The interval is Lang and Reiczigel's (Preventive Veterinary Medicine 113, 2014, 13-22), for Se and Sp that are
    themselves estimated: with n' = n + z^2, p' = (n p + z^2 / 2) / n', each of Se and Sp moved by one success and one failure
    to Se' of n_Se + 2 and Sp' of n_Sp + 2, P' the value from these, and
    d = 2 z^2 (P' Se'(1-Se') / n_Se' - (1-P') Sp'(1-Sp') / n_Sp'), it is P' + d +- z s with
    s^2 = (p'(1-p') / n' + P'^2 Se'(1-Se') / n_Se' + (1-P')^2 Sp'(1-Sp') / n_Sp') / (Se' + Sp' - 1)^2, cut to 0..1.

    It holds if the judge errs on these answers as often as on the labelled ones: on answers of another kind it need not.
    Unscored answers stay out, as they do in `rate`, and bound the value.
    """
    recall, specificity = agreement.recall, agreement.specificity
    if rate.value is None or recall.value is None or specificity.value is None:
        nothing = "no answer was read" if rate.value is None else "the labels hold only one kind of answer"
        return Corrected(value=None, low=None, high=None, unscored=rate.unscored, flag=nothing)
    false_alarms = agreement.only_judge / specificity.n
    better = recall.value - false_alarms
    sure_recall, sure_specificity = _moved(recall), _moved(specificity)
    if better <= 0 or sure_recall + sure_specificity <= 1:
        flag = (
            "the judge is no better than chance on these labels"
            if better <= 0
            else "too few labels to tell the judge from chance"
        )
        return Corrected(value=None, low=None, high=None, unscored=rate.unscored, flag=flag)
    assert rate.bounds is not None, rate
    least, value, most = ((one - false_alarms) / better for one in (rate.bounds[0], rate.value, rate.bounds[1]))
    low, high = _lang_reiczigel(rate, (sure_recall, recall.n + 2), (sure_specificity, specificity.n + 2))
    kept, bounds = _cut(value), (_cut(least), _cut(most))
    flag = "" if kept == value else f"cut from {value:.3f}: the judge errs more often on its labels than it finds here"
    # the value is not the middle of the interval, and may miss it by a little where the labels are few
    low, high = min(low, kept), max(high, kept)
    return Corrected(value=kept, low=low, high=high, unscored=rate.unscored, bounds=bounds, flag=flag)


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


def kappa(table: Sequence[Sequence[int]]) -> float | None:
    """Cohen's kappa of a square table of counts (people by judge, or the reverse): Educational and Psychological Measurement
    20 (1960), 37-46. None where both always say the same one thing, or nothing was said."""
    import numpy as np

    value = float(_kappas(np.array(table, dtype=np.int64)[None])[0]) if table else float("nan")
    return None if value != value else value


def kappa_interval(table: Sequence[Sequence[int]]) -> tuple[float, float] | None:
    """The 95 % percentile bootstrap of kappa over answers, from a fixed seed; None where too few resamples have a kappa."""
    import numpy as np

    cells = np.array(table, dtype=np.int64)
    total = int(cells.sum())
    if not total:
        return None
    drawn = np.random.default_rng(0).multinomial(total, cells.ravel() / total, size=RESAMPLES)
    kappas = _kappas(drawn.reshape(-1, *cells.shape))
    kept = kappas[~np.isnan(kappas)]
    if len(kept) < 0.95 * RESAMPLES:
        return None
    low, high = np.percentile(kept, [2.5, 97.5]).tolist()
    return low, high


def _kappas(tables: NDArray[np.int64]) -> NDArray[np.float64]:
    """Kappa of each table (R, K, K); NaN where there is none."""
    import numpy as np

    n = tables.sum(axis=(1, 2))
    chance = (tables.sum(axis=1) * tables.sum(axis=2)).sum(axis=1)  # times n squared: whole numbers, so 1 is exact
    agreed = np.trace(tables, axis1=1, axis2=2) * n
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(n * n == chance, np.nan, (agreed - chance) / (n * n - chance))
