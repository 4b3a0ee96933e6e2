"""A rate: how often something was so, with its interval, and the bounds that unread cases leave open."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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
    unread: int = 0
    """Cases that could not be read: never in the denominator, always shown."""

    def __post_init__(self) -> None:
        assert 0 <= self.hits <= self.n and self.unread >= 0, self

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
        """The rate if no unread case, and if every unread case, were a hit; None if there is no case at all."""
        cases = self.n + self.unread
        return (self.hits / cases, (self.hits + self.unread) / cases) if cases else None

    @classmethod
    def from_json(cls, row: Mapping[str, Json]) -> Rate:
        """The rate that `to_json` wrote: what else stands there follows from its counts."""
        return cls(hits=cast(int, row["hits"]), n=cast(int, row["n"]), unread=cast(int, row["unread"]))

    def to_json(self) -> dict[str, Json]:
        """All of it, derived numbers too, so that a reader of the file need not recompute."""
        return {
            "value": self.value,
            "hits": self.hits,
            "n": self.n,
            "unread": self.unread,
            "low": self.low,
            "high": self.high,
            "bounds": list(self.bounds) if self.bounds else None,
        }


def rate(values: Iterable[bool | None]) -> Rate:
    """The rate of True among the values that are not None."""
    seen = list(values)
    read = [value for value in seen if value is not None]
    return Rate(hits=sum(read), n=len(read), unread=len(seen) - len(read))


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
