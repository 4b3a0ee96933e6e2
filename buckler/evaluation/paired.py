"""Two models on the same probes: the difference of their rates (hit or not) or scores (from 0 to 1), and non-inferiority.

`difference` and `score_difference` give b minus a with intervals; `noninferiority` decides whether b does worse than a by more
than a margin.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from math import sqrt
from typing import Literal, TypeAlias

from buckler.data import Json
from buckler.evaluation.power import pairs_needed
from buckler.evaluation.statistics import Z95, wilson

Values: TypeAlias = Mapping[str, float | None]
"""By probe: how well a model did, from 0 to 1; None where it could not be read."""
_Read: TypeAlias = dict[str, float]
Decision: TypeAlias = Literal["pass", "fail", "inconclusive"]


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


@lru_cache(maxsize=4096)
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


@dataclass(frozen=True, slots=True, kw_only=True)
class NonInferiority:
    """How much worse b does than a, with an interval, against a margin. Negative numbers are gains."""

    loss: float | None
    """Over the pairs read for both; None without any."""
    low: float | None
    """The interval's better end, every unscored value taken in b's favour."""
    high: float | None
    """The interval's worse end, every unscored value taken against b."""
    margin: float
    n: int
    """Pairs read for both."""
    unscored: int
    """Pairs in which a side could not be read: never left out of `low` and `high`."""
    worse: int
    """Pairs on which b does worse."""
    better: int
    p: float | None
    """Exact two-sided test that b does worse as often as better."""
    decision: Decision
    needed: int | None = None
    """Inconclusive: probes that would decide, four times in five, if they go on as these, the unscored share of them too; None if
    no number of them would."""
    held_up_by_unscored: bool = False
    """Inconclusive only because of what was not read: the pairs that were read decide."""

    @property
    def is_loss(self) -> bool:
        """Whether b surely does worse, be it within the margin."""
        return self.low is not None and self.low > 0

    @property
    def is_gain(self) -> bool:
        """Whether b surely does better."""
        return self.high is not None and self.high < 0

    def to_json(self) -> dict[str, Json]:
        """All fields."""
        return {field.name.replace("unscored", "unread"): getattr(self, field.name) for field in fields(self)}


def noninferiority(a: Values, b: Values, *, margin: float, z: float) -> NonInferiority:
    """Compare b with a where 1 is good and 0 is bad.

    Passes if the interval's worse end is within the margin: a one-sided test, at the level of one tail of `z`, of the
    hypothesis that b is worse by more than the margin. Fails if its better end is beyond the margin: as sure the other way.
    What is between is inconclusive, whatever the point estimate. An unscored value may be anything from 0 to 1: each end is
    computed with all of them as far against it as they go (the ends for rates move with every single one, so these are exact
    bounds).

    Rates, and scores that are all 0 or 1, get the wider of Newcombe's interval and Tango's at each end, for each keeps the
    level where the other does not. At a true loss of the margin Newcombe's passes up to 10 % where 2.5 % are meant (rates in
    the middle, losses and no gains) and Tango's fails up to 5 %; over margins of 0.02 to 0.10, rates, gains and 20 to 200
    pairs, the wider of them does neither more often than 3 %. Scores between 0 and 1 get `score_difference`.

    Args:
        a: The model to compare with, by probe.
        b: The model in question, by the same probes.
        margin: The greatest loss that is put up with, from 0 to 1.
        z: Normal quantile of the interval; 1.96 for 95 %, or a level of 0.025 one-sided.
    """
    assert a.keys() == b.keys(), "non-inferiority compares the same probes"
    seen, (best, worst) = _compare(a, b, z), _readings(a, b)
    if not a:
        low = high = None
    elif not seen.left_out:
        low, high = _turned(seen)
    else:
        low, high = _turned(_compare(*best, z))[0], _turned(_compare(*worst, z))[1]
    decision = _decide(low, high, margin)
    read_alone = _decide(*_turned(seen), margin) if seen.n else "inconclusive"
    return NonInferiority(
        loss=None if seen.value is None else 0.0 - seen.value,
        low=low,
        high=high,
        margin=margin,
        n=seen.n,
        unscored=seen.left_out,
        worse=seen.only_a,
        better=seen.only_b,
        p=seen.p,
        decision=decision,
        needed=_needed(a, b, margin, z) if decision == "inconclusive" and seen.n else None,
        held_up_by_unscored=decision == "inconclusive" and read_alone != "inconclusive",
    )


def _decide(low: float | None, high: float | None, margin: float) -> Decision:
    if low is None or high is None:
        return "inconclusive"
    return "pass" if high <= margin else "fail" if low > margin else "inconclusive"


def _compare(a: Values, b: Values, z: float) -> Difference:
    if _is_graded(a, b):
        return score_difference(a, b, z=z)
    interval = difference(_hits(a), _hits(b), z=z)
    if interval.low is None or interval.high is None:
        return interval
    low, high = wider((interval.low, interval.high), tango(interval.only_b, interval.only_a, interval.n, z))
    return replace(interval, low=low, high=high)


def _is_graded(*sides: Values) -> bool:
    """Whether a value lies between 0 and 1 rather than at them."""
    return any(value not in (None, 0, 1) for side in sides for value in side.values())


def _hits(values: Values) -> dict[str, bool | None]:
    return {at: None if value is None else bool(value) for at, value in values.items()}


def _readings(a: Values, b: Values) -> tuple[tuple[_Read, _Read], tuple[_Read, _Read]]:
    """Every unscored value in b's favour, then every one against it."""
    return (_filled(a, 0.0), _filled(b, 1.0)), (_filled(a, 1.0), _filled(b, 0.0))


def _filled(values: Values, value_of_unscored: float) -> _Read:
    return {at: value_of_unscored if value is None else value for at, value in values.items()}


def _turned(difference: Difference) -> tuple[float, float]:
    """The interval of the loss: a minus b."""
    assert difference.low is not None and difference.high is not None
    return 0.0 - difference.high, 0.0 - difference.low


def _needed(a: Values, b: Values, margin: float, z: float) -> int | None:
    """Probes that decide if they go on as these: with as many pairs that differ, and as many unscored."""
    gaps = [x - y for x, y in ((a[at], b[at]) for at in a) if x is not None and y is not None]
    loss = sum(gaps) / len(gaps)
    spread = sqrt(sum((gap - loss) ** 2 for gap in gaps) / len(gaps))
    graded = _is_graded(a, b)
    best, worst = (_ends_of(*sides, graded, z) for sides in _readings(a, b))
    return pairs_needed(lambda size: (best(size)[0], worst(size)[1]), loss, spread, margin)


def _ends_of(a: _Read, b: _Read, graded: bool, z: float) -> Callable[[float], tuple[float, float]]:
    """The interval of the loss that more or fewer of such pairs would have, by their number."""
    pairs = [(a[at], b[at]) for at in a]
    n = len(pairs)
    total, squares = sum(x - y for x, y in pairs) / n, sum((x - y) ** 2 for x, y in pairs) / n
    both, first, second, neither = (sum(pair == kind for pair in pairs) / n for kind in ((1, 1), (1, 0), (0, 1), (0, 0)))

    def ends(size: float) -> tuple[float, float]:
        if graded:
            return adjusted_wald(total * size, squares * size, size, z)
        whole = newcombe(both * size, first * size, second * size, neither * size, z)
        return wider(whole, tango(first * size, second * size, size, z))

    return ends
