"""How far a judge and people agree: accuracy, precision, recall, specificity, kappa, with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, TypeAlias

from pydantic import Field

from buckler.data import Json
from buckler.evaluation.statistics import Rate

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Count: TypeAlias = Annotated[int, Field(ge=0)]
"""Checked where a card is read from a file."""
RATES = ("accuracy", "precision", "recall", "specificity")
RESAMPLES = 2000
"""Of the bootstrap for kappa."""
UNREAD = "unread"
"""What a judge says that could not read an answer."""


class _Told:
    """Answers told by people and by the judge, as a square table of counts."""

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
class Agreement(_Told):
    """A yes/no question answered by people and by the judge. People are taken to be right."""

    both: Count = 0
    """Both say yes."""
    only_judge: Count = 0
    only_people: Count = 0
    neither: Count = 0
    unread_yes: Count = 0
    """Answers the judge could not read, of which people say yes."""
    unread_no: Count = 0

    @property
    def accuracy(self) -> Rate:
        """Of the answers read, those the judge is right about."""
        n = self.both + self.only_judge + self.only_people + self.neither
        return Rate(hits=self.both + self.neither, n=n, unread=self.unread_yes + self.unread_no)

    @property
    def recall(self) -> Rate:
        """Sensitivity: of those that are, the share the judge finds."""
        return Rate(hits=self.both, n=self.both + self.only_people, unread=self.unread_yes)

    @property
    def specificity(self) -> Rate:
        """Of those that are not, the share the judge leaves."""
        return Rate(hits=self.neither, n=self.neither + self.only_judge, unread=self.unread_no)

    @property
    def precision(self) -> Rate:
        """Of those the judge names, the share that is. Any answer that it could not read might be among them."""
        return Rate(hits=self.both, n=self.both + self.only_judge, unread=self.unread_yes + self.unread_no)

    @property
    def _table(self) -> list[list[int]]:
        return [[self.both, self.only_people], [self.only_judge, self.neither]]

    def to_json(self) -> dict[str, Json]:
        """The counts, and what follows from them."""
        counts: dict[str, Json] = {name: getattr(self, name) for name in self.__slots__}
        rates: dict[str, Json] = {name: getattr(self, name).to_json() for name in RATES}
        return {**counts, **rates, "kappa": self._kappa_json()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Confusion(_Told):
    """A question with several answers, such as how far an answer refuses, answered by people and by the judge."""

    counts: Mapping[str, Mapping[str, Count]]
    """What people say, then what the judge says (`unread` included), counted."""

    @property
    def accuracy(self) -> Rate:
        """Of the answers read, those of which both say the same."""
        said = [(people, judge, count) for people, row in self.counts.items() for judge, count in row.items()]
        unread = sum(count for _, judge, count in said if judge == UNREAD)
        read = sum(count for _, _, count in said) - unread
        return Rate(hits=sum(count for people, judge, count in said if people == judge), n=read, unread=unread)

    @property
    def _table(self) -> list[list[int]]:
        names = sorted({*self.counts, *(name for row in self.counts.values() for name in row)} - {UNREAD})
        return [[self.counts.get(people, {}).get(judge, 0) for judge in names] for people in names]

    def to_json(self) -> dict[str, Json]:
        """The counts, and what follows from them."""
        counts: dict[str, Json] = {people: dict(row) for people, row in self.counts.items()}
        return {"counts": counts, "accuracy": self.accuracy.to_json(), "kappa": self._kappa_json()}


def kappa(table: Sequence[Sequence[int]]) -> float | None:
    """Cohen's kappa of a square table of counts (people by judge, or the reverse): Educational and Psychological Measurement
    20 (1960), 37-46. None where both always say the same one thing, or nothing was said."""
    import numpy as np

    found = float(_kappas(np.array(table, dtype=np.int64)[None])[0]) if table else float("nan")
    return None if found != found else found


def kappa_interval(table: Sequence[Sequence[int]]) -> tuple[float, float] | None:
    """The 95 % percentile bootstrap of kappa over answers, from a fixed seed; None where too few resamples have a kappa."""
    import numpy as np

    cells = np.array(table, dtype=np.int64)
    total = int(cells.sum())
    if not total:
        return None
    drawn = np.random.default_rng(0).multinomial(total, cells.ravel() / total, size=RESAMPLES)
    found = _kappas(drawn.reshape(-1, *cells.shape))
    kept = found[~np.isnan(found)]
    if len(kept) < 0.95 * RESAMPLES:
        return None
    low, high = np.percentile(kept, [2.5, 97.5]).tolist()
    return low, high


def _kappas(tables: NDArray[np.int64]) -> NDArray[np.float64]:
    """Kappa of each table (R, K, K); NaN where there is none."""
    import numpy as np

    n = tables.sum(axis=(1, 2))
    chance = (tables.sum(axis=1) * tables.sum(axis=2)).sum(axis=1)  # times n squared: whole numbers, so 1 is told exactly
    agreed = np.trace(tables, axis1=1, axis2=2) * n
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(n * n == chance, np.nan, (agreed - chance) / (n * n - chance))
