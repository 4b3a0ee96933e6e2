"""Non-inferiority: whether one model does worse than another by more than a margin, on the same probes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from math import sqrt
from typing import Literal, TypeAlias

from buckler.data import Json
from buckler.stats.pairs import Difference, adjusted_wald, difference, newcombe, score_difference, tango, wider
from buckler.stats.power import pairs_needed

Values: TypeAlias = Mapping[str, float | None]
"""By probe: how well a model did, from 0 to 1; None where it could not be read."""
_Read: TypeAlias = dict[str, float]
Decision: TypeAlias = Literal["pass", "fail", "undecided"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NonInferiority:
    """How much worse b does than a, with an interval, against a margin. Negative numbers are gains."""

    loss: float | None
    """Over the pairs read for both; None without any."""
    low: float | None
    """The interval's better end, every unread value taken in b's favour."""
    high: float | None
    """The interval's worse end, every unread value taken against b."""
    margin: float
    n: int
    """Pairs read for both."""
    unread: int
    """Pairs in which a side could not be read: never left out of `low` and `high`."""
    worse: int
    """Pairs on which b does worse."""
    better: int
    p: float | None
    """Exact two-sided test that b does worse as often as better."""
    decision: Decision
    needed: int | None = None
    """Undecided: probes that would decide, four times in five, if they go on as these, the unread share of them too; None if
    no number of them would."""
    held_up_by_unread: bool = False
    """Undecided only because of what was not read: the pairs that were read decide."""

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
        return {field.name: getattr(self, field.name) for field in fields(self)}


def noninferiority(a: Values, b: Values, *, margin: float, z: float) -> NonInferiority:
    """Compare b with a where 1 is good and 0 is bad.

    Passes if the interval's worse end is within the margin: a one-sided test, at the level of one tail of `z`, of the
    hypothesis that b is worse by more than the margin. Fails if its better end is beyond the margin: as sure the other way.
    What is between is undecided, whatever the point estimate. An unread value may be anything from 0 to 1: each end is
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
    read_alone = _decide(*_turned(seen), margin) if seen.n else "undecided"
    return NonInferiority(
        loss=None if seen.value is None else 0.0 - seen.value,
        low=low,
        high=high,
        margin=margin,
        n=seen.n,
        unread=seen.left_out,
        worse=seen.only_a,
        better=seen.only_b,
        p=seen.p,
        decision=decision,
        needed=_needed(a, b, margin, z) if decision == "undecided" and seen.n else None,
        held_up_by_unread=decision == "undecided" and read_alone != "undecided",
    )


def _decide(low: float | None, high: float | None, margin: float) -> Decision:
    if low is None or high is None:
        return "undecided"
    return "pass" if high <= margin else "fail" if low > margin else "undecided"


def _compare(a: Values, b: Values, z: float) -> Difference:
    if _is_graded(a, b):
        return score_difference(a, b, z=z)
    found = difference(_hits(a), _hits(b), z=z)
    if found.low is None or found.high is None:
        return found
    low, high = wider((found.low, found.high), tango(found.only_b, found.only_a, found.n, z))
    return replace(found, low=low, high=high)


def _is_graded(*sides: Values) -> bool:
    """Whether a value lies between 0 and 1 rather than at them."""
    return any(value not in (None, 0, 1) for side in sides for value in side.values())


def _hits(values: Values) -> dict[str, bool | None]:
    return {at: None if value is None else bool(value) for at, value in values.items()}


def _readings(a: Values, b: Values) -> tuple[tuple[_Read, _Read], tuple[_Read, _Read]]:
    """Every unread value in b's favour, then every one against it."""
    return (_filled(a, 0.0), _filled(b, 1.0)), (_filled(a, 1.0), _filled(b, 0.0))


def _filled(values: Values, unread: float) -> _Read:
    return {at: unread if value is None else value for at, value in values.items()}


def _turned(found: Difference) -> tuple[float, float]:
    """The interval of the loss: a minus b."""
    assert found.low is not None and found.high is not None
    return 0.0 - found.high, 0.0 - found.low


def _needed(a: Values, b: Values, margin: float, z: float) -> int | None:
    """Probes that decide if they go on as these: with as many pairs that differ, and as many unread."""
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
