"""The difference between two models on the same probes: of rates (hit or not) and of scores (from 0 to 1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt

from buckler.data import Json
from buckler.stats.rates import Z95, wilson


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """The rate of b minus the rate of a, over the probes that both could be read on."""

    value: float | None
    low: float | None
    high: float | None
    n: int
    """Pairs compared."""
    only_a: int
    """Pairs in which only a is a hit."""
    only_b: int
    p: float | None
    """Exact two-sided McNemar test of equal rates."""
    left_out: int
    """Probes that were read for one side only, or for none."""

    def to_json(self) -> dict[str, Json]:
        """All fields."""
        names = ("value", "low", "high", "n", "only_a", "only_b", "p", "left_out")
        return {name: getattr(self, name) for name in names}


def difference(a: Mapping[str, bool | None], b: Mapping[str, bool | None], *, z: float = Z95) -> Difference:
    """b minus a, paired by probe id, with Newcombe's paired interval (95 % unless `z` says otherwise) and McNemar's exact p.

    Newcombe, Statistics in Medicine 17 (1998), 2635-2650, method 10: the two Wilson intervals, joined with the
    correlation phi of the pairs (continuity-corrected when positive).
    """
    ids = a.keys() | b.keys()
    pairs = [(x, y) for x, y in ((a.get(at), b.get(at)) for at in ids) if x is not None and y is not None]
    n, left_out = len(pairs), len(ids) - len(pairs)
    both, only_a = sum(x and y for x, y in pairs), sum(x and not y for x, y in pairs)
    only_b = sum(y and not x for x, y in pairs)
    if not n:
        return Difference(value=None, low=None, high=None, n=0, only_a=0, only_b=0, p=None, left_out=left_out)
    value = (only_b - only_a) / n
    low, high = newcombe(both, only_b, only_a, n - both - only_a - only_b, z)
    p = mcnemar(only_a, only_b)
    return Difference(value=value, low=low, high=high, n=n, only_a=only_a, only_b=only_b, p=p, left_out=left_out)


def newcombe(both: float, first: float, second: float, neither: float, z: float = Z95) -> tuple[float, float]:
    """Interval for rate 1 - rate 2 from the paired 2x2 table; `first` is a hit of 1 only. Cells need not be whole numbers."""
    n = both + first + second + neither
    p1, p2 = (both + first) / n, (both + second) / n
    (l1, u1), (l2, u2) = wilson(both + first, n, z), wilson(both + second, n, z)
    margins = (both + first) * (second + neither) * (both + second) * (first + neither)
    cross = both * neither - first * second
    corrected = max(cross - n / 2, 0.0) if cross > 0 else cross
    phi = corrected / sqrt(margins) if margins else 0.0
    down = (p1 - l1) ** 2 - 2 * phi * (p1 - l1) * (u2 - p2) + (u2 - p2) ** 2
    up = (u1 - p1) ** 2 - 2 * phi * (u1 - p1) * (p2 - l2) + (p2 - l2) ** 2
    return max(-1.0, p1 - p2 - sqrt(max(0.0, down))), min(1.0, p1 - p2 + sqrt(max(0.0, up)))


def tango(first: float, second: float, n: float, z: float = Z95) -> tuple[float, float]:
    """Score interval for rate 1 - rate 2 of `n` pairs, of which `first` are a hit of 1 only and `second` of 2 only.

    An end is the last difference that the pairs do not contradict: with the variance that is likeliest if it were true, they
    lie `z` standard errors from it. Counts need not be whole numbers. Tango, Statistics in Medicine 17 (1998), 891-908.
    """

    def believable(gap: float) -> bool:
        # the share of `second` that is likeliest under this difference: the larger root of 2 n q^2 + b q + c = 0
        b, c = (2 * n - first + second) * gap - first - second, -second * gap * (1 - gap)
        share = (sqrt(max(0.0, b * b - 8 * n * c)) - b) / (4 * n)
        return (first - second - n * gap) ** 2 <= z * z * n * (2 * share + gap * (1 - gap))

    def end(beyond: float) -> float:
        within = (first - second) / n
        for _ in range(50):
            half = (within + beyond) / 2
            within, beyond = (half, beyond) if believable(half) else (within, half)
        return beyond

    return end(-1.0), end(1.0)


def wider(one: tuple[float, float], other: tuple[float, float]) -> tuple[float, float]:
    """Of two intervals the wider at each end."""
    return min(one[0], other[0]), max(one[1], other[1])


def score_difference(
    a: Mapping[str, float | None], b: Mapping[str, float | None], *, z: float = Z95, seed: int = 0
) -> Difference:
    """Mean of b minus mean of a for scores from 0 to 1, paired by probe id; `only_a` counts probes on which a does better.

    Two intervals are made and the wider is taken at each end, because each fails where the other does not. The paired
    percentile bootstrap follows a skewed distribution, but shrinks to a point where all pairs agree. The adjusted Wald
    interval never does, but is symmetric. `p` is the exact sign test.
    """
    ids = a.keys() | b.keys()
    gaps = [y - x for x, y in ((a.get(at), b.get(at)) for at in sorted(ids)) if x is not None and y is not None]
    n, left_out = len(gaps), len(ids) - len(gaps)
    only_a, only_b = sum(gap < 0 for gap in gaps), sum(gap > 0 for gap in gaps)
    if not n:
        return Difference(value=None, low=None, high=None, n=0, only_a=0, only_b=0, p=None, left_out=left_out)
    low, high = wider(adjusted_wald(sum(gaps), sum(gap * gap for gap in gaps), n, z), _bootstrap(gaps, z, seed))
    return Difference(
        value=sum(gaps) / n,
        low=low,
        high=high,
        n=n,
        only_a=only_a,
        only_b=only_b,
        p=mcnemar(only_a, only_b),
        left_out=left_out,
    )


def adjusted_wald(total: float, squares: float, n: float, z: float = Z95) -> tuple[float, float]:
    """Wald interval for the mean of `n` differences with this sum and sum of squares, after adding z^2/2 of +1 and of -1.

    That many are what Agresti and Coull add to a rate (American Statistician 52 (1998), 119-126). One of each, as Bonett and
    Price add to the difference of two rates, is too few for one end of an interval: of 54 scores that are all equal, a
    margin of 0.05 would be passed, and a model that loses one score in 20 outright shows such scores in 6 % of the draws.
    Where all differences are 0 the ends are Wilson's for no hit, z^2 / (n + z^2).
    """
    whole = n + z * z
    middle = total / whole
    half = z * sqrt(max(0.0, (squares + z * z) / whole - middle * middle) / whole)
    return max(-1.0, middle - half), min(1.0, middle + half)


def _bootstrap(gaps: Sequence[float], z: float, seed: int, draws: int = 4000) -> tuple[float, float]:
    """Percentiles of the mean of resampled pairs; they lie where `z` puts the two tails of a normal distribution."""
    import numpy as np
    from scipy.stats import norm

    values, rng = np.asarray(gaps), np.random.default_rng(seed)
    a_time = max(1, 1_000_000 // len(gaps))  # resamples at once: a few megabytes, however many probes there are
    means = [
        values[rng.integers(0, len(gaps), size=(min(a_time, draws - done), len(gaps)))].mean(axis=1)
        for done in range(0, draws, a_time)
    ]
    tail = float(norm.sf(z))
    low, high = np.quantile(np.concatenate(means), [tail, 1 - tail])
    return float(low), float(high)


def mcnemar(only_a: int, only_b: int) -> float:
    """Exact two-sided p: twice the smaller binomial(1/2) tail of the pairs that differ, 1 if none do."""
    n, least = only_a + only_b, min(only_a, only_b)
    ways = tail = 1  # whole numbers of any size: exact, where floats would overflow beyond a thousand pairs
    for k in range(least):
        ways = ways * (n - k) // (k + 1)
        tail += ways
    return min(1.0, 2 * tail / (1 << n))
