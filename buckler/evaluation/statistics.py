"""Rates and means with their intervals, over answers and over seeds, and p-values of several tests adjusted.

A `Rate` also has the bounds that unscored cases leave open.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import cast

from buckler.data import Json

Z95 = 1.959963984540054
"""The 97.5 % point of the normal distribution."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """How often something was the case among what could be read."""

    hits: int
    n: int
    """Readable cases: the denominator."""
    unscored: int = 0
    """Cases that could not be read: never in the denominator, always shown."""

    def __post_init__(self) -> None:
        assert 0 <= self.hits <= self.n and self.unscored >= 0, self

    @property
    def value(self) -> float | None:
        """hits / n; None if nothing was readable."""
        return self.hits / self.n if self.n else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % Wilson score interval; None if nothing was readable."""
        return wilson(self.hits, self.n) if self.n else None

    @property
    def low(self) -> float | None:
        """Lower end of `interval`."""
        return self.interval[0] if self.interval else None

    @property
    def high(self) -> float | None:
        """Upper end of `interval`."""
        return self.interval[1] if self.interval else None

    @property
    def bounds(self) -> tuple[float, float] | None:
        """The rate if no unscored case, and if every unscored case, were a hit; None if there is no case at all."""
        cases = self.n + self.unscored
        return (self.hits / cases, (self.hits + self.unscored) / cases) if cases else None

    @classmethod
    def from_json(cls, row: Mapping[str, Json]) -> Rate:
        """The rate that `to_json` wrote: what else stands there follows from its counts."""
        return cls(hits=cast(int, row["hits"]), n=cast(int, row["n"]), unscored=cast(int, row["unread"]))

    def to_json(self) -> dict[str, Json]:
        """All of it, derived numbers too, so that a reader of the file need not recompute."""
        return {
            "value": self.value,
            "hits": self.hits,
            "n": self.n,
            "unread": self.unscored,
            "low": self.low,
            "high": self.high,
            "bounds": list(self.bounds) if self.bounds else None,
        }


def rate(values: Iterable[bool | None]) -> Rate:
    """The rate of True among the values that are not None."""
    seen = list(values)
    read = [value for value in seen if value is not None]
    return Rate(hits=sum(read), n=len(read), unscored=len(seen) - len(read))


def wilson(hits: float, n: float, z: float = Z95) -> tuple[float, float]:
    """Wilson's score interval for `hits` of `n`: (p + z^2/2n +- z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n).

    Unlike p +- z sqrt(p(1-p)/n) it stays inside [0, 1] and does not shrink to a point at 0 and n. Counts need not be whole
    numbers, so that sets which are only planned can be asked about. Wilson, JASA 22 (1927), 209-212.
    """
    assert 0 <= hits <= n and n > 0, (hits, n)
    p, scale = hits / n, 1 + z * z / n
    middle, half = (p + z * z / (2 * n)) / scale, z * sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / scale
    # at the ends the formula is exact in real numbers but may miss by a rounding step
    return (0.0 if hits == 0 else max(0.0, middle - half)), (1.0 if hits == n else min(1.0, middle + half))


@dataclass(frozen=True, slots=True, kw_only=True)
class Mean:
    """A mean over seeds with its 95 % t interval."""

    value: float | None
    low: float | None
    """None with fewer than two seeds: one seed says nothing of the spread."""
    high: float | None
    n: int
    """Seeds with a value."""
    least: float | None
    most: float | None

    def to_json(self) -> dict[str, Json]:
        """All fields."""
        return {name: getattr(self, name) for name in ("value", "low", "high", "n", "least", "most")}


def mean(values: Iterable[float | None]) -> Mean:
    """m +- t(n-1) s / sqrt(n) over the values that are not None. Not clipped: it may reach past what is possible."""
    from scipy.stats import t

    seen = [value for value in values if value is not None]
    n = len(seen)
    if not n:
        return Mean(value=None, low=None, high=None, n=0, least=None, most=None)
    middle = sum(seen) / n
    least, most = min(seen), max(seen)
    if n == 1:
        return Mean(value=middle, low=None, high=None, n=1, least=least, most=most)
    half = float(t.ppf(0.975, n - 1)) * sqrt(sum((value - middle) ** 2 for value in seen) / (n - 1) / n)
    return Mean(value=middle, low=middle - half, high=middle + half, n=n, least=least, most=most)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pooled:
    """One rate over several seeds, said twice.

    `over_seeds` treats the seed as the unit (answers of one seed come from one model and stand or fall together), and
    is the one to quote; `all_answers` takes every answer as independent: its interval is too narrow when seeds differ.
    """

    over_seeds: Mean
    all_answers: Rate

    def to_json(self) -> dict[str, Json]:
        """Both."""
        return {"over_seeds": self.over_seeds.to_json(), "all_answers": self.all_answers.to_json()}


def pooled(rates: Iterable[Rate]) -> Pooled:
    """The mean of the seeds' rates, each seed weighing the same, t interval cut to [0, 1]; beside it the rate of all."""
    seeds = list(rates)
    spread = mean(one.value for one in seeds)
    if spread.low is not None and spread.high is not None:
        low, high = max(0.0, spread.low), min(1.0, spread.high)
        spread = Mean(value=spread.value, low=low, high=high, n=spread.n, least=spread.least, most=spread.most)
    hits, n, unscored = (sum(getattr(one, name) for one in seeds) for name in ("hits", "n", "unscored"))
    return Pooled(over_seeds=spread, all_answers=Rate(hits=hits, n=n, unscored=unscored))


def difference_over_seeds(a: Mapping[int, float | None], b: Mapping[int, float | None]) -> Mean:
    """b minus a, paired by seed, with a t interval over the seeds that both have."""
    return mean(_minus(b[seed], a[seed]) for seed in sorted(a.keys() & b.keys()))


def _minus(b: float | None, a: float | None) -> float | None:
    return None if a is None or b is None else b - a


def holm(pvalues: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down adjusted p-values, in the order given; tests that were not done (None) do not count.

    p~(i) = max over j <= i of min(1, (m - j + 1) p(j)). Holm, Scandinavian Journal of Statistics 6 (1979).
    """
    order = sorted((p, at) for at, p in enumerate(pvalues) if p is not None)
    adjusted: list[float | None] = [None] * len(pvalues)
    reached = 0.0
    for rank, (p, at) in enumerate(order):
        reached = max(reached, min(1.0, (len(order) - rank) * p))
        adjusted[at] = reached
    return adjusted
