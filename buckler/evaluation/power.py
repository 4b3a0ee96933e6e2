"""How much a number of probes can show, and how many a question needs."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, sqrt

FEW = 200
"""Beside a rate over fewer probes stands what so few cannot show."""
CAUTION = "80 % power, unpaired, equal numbers of probes, rates near 0.5; paired tests detect smaller ones"
"""What `unseen` goes by."""


def detectable(n: int, base: float = 0.5, *, power: float = 0.8, alpha: float = 0.05) -> float | None:
    """The least difference from a rate `base` that `n` probes on each side show with this power; None if none does.

    Two-sided test of two unpaired rates, normal approximation: n d^2 = (z_alpha sqrt(2 m(1-m)) + z_power sqrt(
    p(1-p) + q(1-q)))^2 with q = p + d and m their mean; the smaller of the two directions. Pairing makes it smaller
    still, by how much depends on the pairs, so this is a safe word of warning beside a small set.
    """
    gaps = [gap for sign in (1, -1) if (gap := _gap(n, base, sign, power, alpha)) is not None]
    return min(gaps, default=None)


def unseen(n: int) -> str:
    """The differences that `n` probes do not show."""
    gap = detectable(n)
    return "no difference is detectable" if gap is None else f"differences under {gap:.2f} are not detectable"


def _gap(n: int, base: float, sign: int, power: float, alpha: float) -> float | None:
    from scipy.stats import norm

    z_alpha, z_power = float(norm.ppf(1 - alpha / 2)), float(norm.ppf(power))

    def shown(gap: float) -> bool:
        other = base + sign * gap
        middle = (base + other) / 2
        needed = z_alpha * sqrt(2 * middle * (1 - middle)) + z_power * sqrt(base * (1 - base) + other * (1 - other))
        return n * gap * gap >= needed * needed

    room = 1 - base if sign > 0 else base
    if n <= 0 or room <= 0 or not shown(room):
        return None
    low, high = 0.0, room
    for _ in range(50):
        half = (low + high) / 2
        low, high = (low, half) if shown(half) else (half, high)
    return high


MOST_PAIRS = 10_000_000
"""Beyond this many probes the honest answer is that more probes are not the way."""


def pairs_needed(
    ends: Callable[[float], tuple[float, float]], loss: float, spread: float, margin: float, *, power: float = 0.8
) -> int | None:
    """How many probes decide whether a loss is within a margin, with this power, if they go on as the ones at hand.

    A loss below the margin needs so many that its interval's upper end is expected below the margin by z_power standard
    errors; a loss above it, the lower end above. With Wald ends this is the textbook n = (z_alpha + z_power)^2 s^2 /
    (margin - loss)^2 (Liu, Hsueh, Hsieh and Chen, Statistics in Medicine 21 (2002), 231-245); the ends of the interval that
    really decides also count what that formula forgets: 20 equal pairs of 20 are not proof.

    Args:
        ends: The interval of the loss that so many pairs would have.
        loss: As expected.
        spread: Standard deviation of a pair's difference.
        margin: The greatest loss that is put up with.
        power: Probability of a decision.

    Returns:
        None if no number of probes up to `MOST_PAIRS` decides: the loss lies on the margin.
    """
    from scipy.stats import norm

    z_power = float(norm.ppf(power))

    def decides(n: float) -> bool:
        low, high = ends(n)
        slack = z_power * spread / sqrt(n)
        return high + slack <= margin if loss < margin else low - slack > margin

    enough = 1.0
    while not decides(enough):
        enough *= 2
        if enough > MOST_PAIRS:
            return None
    few = enough / 2
    while enough - few > 0.5:
        half = (few + enough) / 2
        few, enough = (few, half) if decides(half) else (half, enough)
    return ceil(enough)
