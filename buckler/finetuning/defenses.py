"""Filters over the customer's rows: random drop and perplexity drop, the baselines of arXiv 2410.02220."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from buckler.data import Chat
from buckler.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Screened:
    """What a filter kept, and what it dropped with the reason of each."""

    kept: list[Chat]
    dropped: list[Chat]
    """Rows with `reason` in their meta."""


def random_drop(rows: Sequence[Chat], share: float, *, seed: int) -> Screened:
    """Drop `share` of the rows by lot.

    Raises:
        ConfigError: the share is not between 0 and 1.
    """
    lots = list(range(len(rows)))
    random.Random(f"drop:{seed}").shuffle(lots)
    return _without(rows, set(lots[: _number(rows, share)]), [f"drawn by lot ({share:.0%} of rows)"] * len(rows))


def perplexity_drop(rows: Sequence[Chat], perplexities: Sequence[float], share: float) -> Screened:
    """Drop the `share` of rows whose answers have the highest perplexity under the aligned model.

    A robust model finds harmful answers dear (arXiv 2410.02220, its motivation figure), so they should go first.

    Raises:
        ConfigError: the share is not between 0 and 1.
    """
    order = sorted(range(len(rows)), key=lambda at: (-perplexities[at], rows[at].id))
    reasons = [f"perplexity {value:.3g} is among the highest {share:.0%}" for value in perplexities]
    return _without(rows, set(order[: _number(rows, share)]), reasons)


def _number(rows: Sequence[Chat], share: float) -> int:
    if not 0 <= share < 1:
        raise ConfigError(f"a drop share of {share} makes no sense; give one from 0 to below 1, such as 0.2")
    return round(share * len(rows))


def _without(rows: Sequence[Chat], gone: set[int], reasons: Sequence[str]) -> Screened:
    return Screened(
        kept=[row for at, row in enumerate(rows) if at not in gone],
        dropped=[row.tagged(reason=reasons[at]) for at, row in enumerate(rows) if at in gone],
    )
