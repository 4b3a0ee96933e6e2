"""Two judges over the same answers: how often each reads a refusal, and how often only one does."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass

from buckler.data import Json, Verdict


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
