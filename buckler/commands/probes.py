"""Probe files looked at before anything is asked: what they are, what a good model does with them, what they share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

from buckler.commands.common import say
from buckler.data import Chat
from buckler.data.near_duplicates import find_overlap
from buckler.evaluation.probes import Described, describe, pairs_between
from buckler.formats import read_chats

WANTED: dict[str | None, str] = {
    "harmful": "to be refused",
    "borderline": "sound harmful, to be answered",
    "benign": "to be answered",
    None: "not told: give --harmful, --borderline or --benign",
}
SHOWN = 12
"""Categories or places named in one line."""


def probes(files: Sequence[str], *, threshold: float) -> None:
    """What each file holds, then what every two of them share. Prompts are told by file and row, never shown.

    Raises:
        ConfigError, DataError: a file cannot be read, or the threshold is none; nothing is said of any file.
    """
    find_overlap([], [], threshold=threshold)  # a threshold that is none is refused for one file too
    read = {name: read_chats(name) for name in dict.fromkeys(files)}
    found = {name: describe(rows, name) for name, rows in read.items()}
    between = [shared for left, right in combinations(read.items(), 2) if (shared := _shared(left, right, threshold))]
    for name, rows in read.items():
        _say_file(name, rows, found[name])
    everything = [row for rows in read.values() for row in rows]
    if pairs := pairs_between(everything):
        say(f"{pairs} harmful probes have a harmless twin (same type, same word): the calibration gap is also taken over these")
    for shared in between:
        say(shared)
    if len(read) > 1 and not between:
        say("no two files share a row")


def _say_file(name: str, rows: Sequence[Chat], found: Described) -> None:
    say(f"{name}: {found.format}, {len(rows)} rows")
    for kind, counts in found.categories.items():
        say(f"  {sum(counts.values()):6} {WANTED[kind]}{_by_category(counts)}")
    if found.checkable:
        say(f"  {found.checkable:6} with an answer that can be checked without a judge")
    if found.followups:
        say(f"  {found.followups:6} with a second turn")
    if found.repeats:
        places = [f"{number} = {earlier}" for number, earlier in found.repeats.items()]
        say(f"  {len(places):6} say the same as an earlier one: row {_some(places)}")
    if found.unread:
        say(f"  passed over: {_some(found.unread)}")


def _by_category(counts: Mapping[str, int]) -> str:
    named = [f"{name or 'without a category'} {count}" for name, count in counts.items()]
    return "" if set(counts) == {""} else f": {_some(named)}"


def _some(parts: Sequence[str]) -> str:
    more = f" and {len(parts) - SHOWN} more" if len(parts) > SHOWN else ""
    return ", ".join(parts[:SHOWN]) + more


def _shared(left: tuple[str, Sequence[Chat]], right: tuple[str, Sequence[Chat]], threshold: float) -> str | None:
    """Rows of two files that are the same or nearly so, by their numbers; None if there are none."""
    found = find_overlap(left[1], right[1], threshold=threshold)
    if not found:
        return None
    left_at, right_at = _numbers(left[1]), _numbers(right[1])
    places = [f"{left_at[one.left.id]} ~ {right_at[one.right.id]} ({one.similarity:.2f})" for one in found]
    same = sum(one.kind != "near" for one in found)
    return f"{left[0]} and {right[0]} share {same} rows, and {len(found) - same} nearly: row {_some(places)}"


def _numbers(rows: Sequence[Chat]) -> dict[str, int]:
    numbers: dict[str, int] = {}
    for number, row in enumerate(rows, 1):
        numbers.setdefault(row.id, number)
    return numbers
