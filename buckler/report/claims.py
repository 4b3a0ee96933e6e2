"""What the numbers say, in sentences, each beside the published finding it repeats or fails to repeat."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from buckler.data import Json
from buckler.evaluation.statistics import Mean
from buckler.report.tables import Cell, format_number, signed

Status: TypeAlias = Literal["reproduced", "not reproduced", "inconclusive"]
MARGIN = 0.05
"""The smallest difference that counts."""
RULE = (
    'Differences are paired by seed. "Reproduced": its 95 % t interval over seeds excludes 0 on the side '
    f'that was published, and its mean is at least {MARGIN}. "Not reproduced": the interval leaves no room for a difference '
    f'of {MARGIN} on that side. Otherwise, and always with fewer than two seeds: "inconclusive". Where all seeds agree to the '
    "last digit, the interval is that over the probes of one seed. A claim of several differences is reproduced only if every "
    "one of them is, and not reproduced if any of them is not."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A finding in one place: a model under an attack, or asked in a wording."""

    where: str
    status: Status
    lead: str
    details: tuple[str, ...] = ()
    """The numbers that decided it, one a difference."""
    tail: str = ""

    @property
    def text(self) -> str:
        """All of it in one line."""
        return " ".join(piece for piece in (self.lead, "; ".join(self.details) + "." if self.details else "", self.tail) if piece)

    def to_json(self) -> dict[str, Json]:
        """All fields."""
        return {"where": self.where, "status": self.status, "text": self.text}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A statement, who published it, and whether it shows here."""

    claim: str
    published: str
    parts: tuple[Part, ...]

    def to_json(self) -> dict[str, Json]:
        """All fields."""
        parts: list[Json] = [part.to_json() for part in self.parts]
        return {"claim": self.claim, "published": self.published, "parts": parts}


def decide(difference: Mean) -> Status:
    """`RULE` for a difference that was published as positive."""
    if difference.value is None or difference.low is None or difference.high is None:
        return "inconclusive"
    if difference.low > 0 and difference.value >= MARGIN:
        return "reproduced"
    return "not reproduced" if difference.high < MARGIN else "inconclusive"


def decide_level(cell: Cell, least: float) -> Status:
    """Whether a rate is at least `least`: by the ends of its interval, inconclusive with fewer than two seeds."""
    if cell.low is None or cell.high is None or cell.n < 2:
        return "inconclusive"
    return "reproduced" if cell.low >= least else "not reproduced" if cell.high < least else "inconclusive"


def decide_most(cell: Cell, most: float) -> Status:
    """Whether a rate is at most `most`: by the ends of its interval, inconclusive with fewer than two seeds."""
    if cell.low is None or cell.high is None or cell.n < 2:
        return "inconclusive"
    return "reproduced" if cell.high <= most else "not reproduced" if cell.low > most else "inconclusive"


def decide_absent(loss: Mean) -> Status:
    """Whether there is no loss: only if the interval has no room for one. Equivalence, not difference."""
    if loss.value is None or loss.low is None or loss.high is None:
        return "inconclusive"
    return "reproduced" if loss.high < MARGIN else "not reproduced" if loss.low > 0 and loss.value >= MARGIN else "inconclusive"


def decide_other(difference: Mean) -> Status:
    """Whether two things differ, on whichever side."""
    either = [decide(difference), decide(negative(difference))]
    return "reproduced" if "reproduced" in either else "not reproduced" if set(either) == {"not reproduced"} else "inconclusive"


def together(statuses: Iterable[Status]) -> Status:
    """A statement of several differences."""
    seen = list(statuses)
    if "not reproduced" in seen:
        return "not reproduced"
    return "reproduced" if seen and all(status == "reproduced" for status in seen) else "inconclusive"


def any_of(differences: Mapping[str, Mean]) -> Status:
    """A statement that holds if one of its differences does."""
    statuses = [decide(difference) for difference in differences.values()]
    if "reproduced" in statuses:
        return "reproduced"
    return "inconclusive" if "inconclusive" in statuses else "not reproduced"


def negative(difference: Mean) -> Mean:
    """The difference the other way round, for what was published as a fall."""
    value, low, high = (None if end is None else -end for end in (difference.value, difference.high, difference.low))
    least, most = (None if end is None else -end for end in (difference.most, difference.least))
    return Mean(value=value, low=low, high=high, n=difference.n, least=least, most=most)


def format_difference(difference: Mean) -> str:
    """`+0.21 [+0.05, +0.37]`, with the seeds where they are too few."""
    cell = signed(difference)
    if difference.value is None:
        return "no pair of seeds"
    return f"{cell.number} {cell.interval}" if difference.n > 1 else f"{cell.number} (one seed)"


def format_level(cell: Cell) -> str:
    """`0.83 [0.71, 0.95]`."""
    if cell.value is None:
        return "not measured"
    return f"{format_number(cell.value)} {cell.interval}".strip()


def part(where: str, differences: Mapping[str, Mean], lead: str = "", tail: str = "", *, status: Status | None = None) -> Part:
    """A part whose status is that of all its differences unless one is given; its words name each with its own."""
    statuses = {name: decide(difference) for name, difference in differences.items()}
    single = len(differences) == 1
    sentences = tuple(
        f"{name} {format_difference(difference)}" + ("" if single else f" ({statuses[name]})")
        for name, difference in differences.items()
    )
    return Part(where=where, status=status or together(statuses.values()), lead=lead, details=sentences, tail=tail)


def finding(claim: str, published: str, parts: Sequence[Part | None]) -> list[Finding]:
    """The finding, or nothing if it was asked nowhere."""
    there = tuple(one for one in parts if one is not None)
    return [Finding(claim=claim, published=published, parts=there)] if there else []
