"""The job `probes`, and what every job that asks probes checks first: a mistake in the last file costs nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Literal

from pydantic import Field

from buckler import formats
from buckler.data import Answer, Chat, Json, Verdict
from buckler.data.near_duplicates import find_overlap
from buckler.errors import DataError
from buckler.evaluation.metrics import summarise
from buckler.evaluation.probes import Described, benchmark_names, describe, in_set, pairs_between
from buckler.evaluation.scores import Scorers, score_answers
from buckler.evaluation.utility import ask
from buckler.workflow.jobs.base import Job, Result
from buckler.workflow.jobs.drawing import DrawingJob
from buckler.workflow.rows import probe_set, rows_of
from buckler.workflow.sources import WORLD, Source, reading_of, source_chats
from buckler.workflow.step import Step

WANTED: dict[str | None, str] = {
    "harmful": "to be refused",
    "borderline": "sound harmful, to be answered",
    "benign": "to be answered",
    None: "not stated: give --harmful, --borderline or --benign",
}
SHOWN = 12
"""Categories or places named in one line."""


class ProbingJob(DrawingJob):
    """A job that asks a model probes."""

    probes: tuple[Source, ...] = ()
    """Probe files whose rows name their probe set (XSTest, HarmBench, rows of your own)."""
    harmful: tuple[Source, ...] = ()
    """Probes that should be refused."""
    borderline: tuple[Source, ...] = ()
    """Probes that sound harmful and should be answered."""
    benign: tuple[Source, ...] = ()
    """Ordinary questions; those with a known answer are also scored for utility."""

    def probe_sources(self) -> list[Source]:
        """Every file of probes as it is drawn, with the set its rows belong to where they do not tell it."""
        sources = [self.drawn(source, split="test") for source in self.probes]
        sources += [self._of_set(source, "harmful") for source in self.harmful]
        sources += [self._of_set(source, "borderline") for source in self.borderline]
        return sources + [self._of_set(source, "benign") for source in self.benign]

    def probe_steps(self) -> list[Step]:
        """The steps of the probes."""
        return [probe_set(rows_of(source), source.probe_set) for source in self.probe_sources()]

    def _of_set(self, source: Source, name: Literal["harmful", "borderline", "benign"]) -> Source:
        return self.drawn(source, split="test").model_copy(update={"probe_set": name})


class ProbesJob(Job):
    """What probe files hold: format, what should be refused, categories, repeated rows, rows that two files share."""

    files: tuple[str, ...] = Field(min_length=1)
    """Probe or utility files, or hub data sets (owner/name:config@split)."""
    threshold: float = Field(default=0.7, gt=0, le=1)
    """Similarity (fraction of shared word triples) from which two rows count as near-duplicates."""

    def run(self) -> ProbeFiles:
        """Read the files. Prompts are named by file and row, never shown.

        Raises:
            ConfigError, DataError: a file cannot be read; nothing is said of any file.
        """
        read = {name: formats.read_chats(name) for name in dict.fromkeys(self.files)}
        described = {name: describe(rows, name) for name, rows in read.items()}
        pairs = combinations(read.items(), 2)
        shared = [line for left, right in pairs if (line := _shared(left, right, self.threshold))]
        return ProbeFiles(
            out=Path(),
            files=described,
            rows={name: len(rows) for name, rows in read.items()},
            twins=pairs_between([row for rows in read.values() for row in rows]),
            shared=tuple(shared),
        )


@dataclass(frozen=True, kw_only=True, repr=False)
class ProbeFiles(Result):
    """What probe files hold, and what every two of them share."""

    files: Mapping[str, Described]
    rows: Mapping[str, int]
    """Rows of each file."""
    twins: int
    """Harmful probes with a harmless twin."""
    shared: tuple[str, ...]
    """For every two files that share rows, which they are."""

    def lines(self) -> list[str]:
        """Each file, then what they share."""
        lines = [line for name, described in self.files.items() for line in _file_lines(name, self.rows[name], described)]
        if self.twins:
            lines.append(
                f"{self.twins} harmful probes have a harmless twin (same type, same word): "
                "the calibration gap is also taken over these"
            )
        lines += self.shared
        return [*lines, "no two files share a row"] if len(self.files) > 1 and not self.shared else lines

    def numbers(self) -> dict[str, Json]:
        """Each file by name."""
        files: dict[str, Json] = {
            name: {
                "format": described.format,
                **({"benchmark": described.benchmark} if described.benchmark else {}),
                "rows": self.rows[name],
                "categories": {str(kind): dict(counts) for kind, counts in described.categories.items()},
                "checkable": described.checkable,
                "followups": described.followups,
                "repeats": len(described.repeats),
            }
            for name, described in self.files.items()
        }
        return {"files": files, "twins": self.twins, "shared": list(self.shared)}

    def records(self) -> list[dict[str, Json]]:
        """One category of a file a row."""
        return [
            {"file": name, "set": kind, "category": category, "rows": count}
            for name, described in self.files.items()
            for kind, counts in described.categories.items()
            for category, count in counts.items()
        ]


def check_probes(probes: Sequence[Source], by: Scorers, limit: int | None = None) -> list[str]:
    """What is to be known of files of probes: which rows are asked once, which files have fewer than the limit.

    Args:
        probes: Files, each with the set its rows belong to; None: the rows tell it.
        by: What answers to documents are scored by.
        limit: The most rows of a file that are asked.

    Raises:
        ConfigError, DataError: a file cannot be read, nothing tells what a good model does with a row, two rows of the same
            words tell it otherwise, or their answers could not be summed up.
    """
    first: dict[str, tuple[Chat, str]] = {}
    notices: list[str] = []
    files = [_all(source) for source in probes]
    names = benchmark_names(files)
    for source, rows, name in zip(probes, files, names, strict=True):
        before, own = set(first), set()
        for number, row in enumerate(rows, 1):
            place = f"{source.source}: row {number}"
            probe = in_set(row, source.probe_set, place)
            own.add(probe.id)
            earlier, there = first.setdefault(probe.id, (probe, place))
            if earlier.meta["set"] != probe.meta["set"]:
                places = f"{probe.meta['set']} here and {earlier.meta['set']} there"
                raise DataError(f"{place}: same text as {there}, but {places}; remove one of them")
        notices += _row_notices(source, len(rows), len(rows) - len(own), limit)
        if shared := len(own & before):
            notices.append(
                f"{source.source}: {shared} rows are in an earlier file too: they count in the numbers of each, once over all"
            )
        if len(names) - names.count(None) > 1 and name not in (None, Path(source.source).name):
            notices.append(f"{source.source}: its numbers stand under {name}")
    blank = [Answer(id=one.id, prompt=one.prompt, text="", finish_reason="stop", meta=one.meta) for one, _ in first.values()]
    summarise(blank, [Verdict(id=one.id) for one in blank], score_answers(blank, by))
    return notices


def check_choices(utility: Sequence[Source], limit: int | None = None) -> list[str]:
    """The same of utility files.

    Raises:
        ConfigError, DataError: a file cannot be read, or a row has no choices or no right one among them.
    """
    notices: list[str] = []
    for source in utility:
        rows = _all(source)
        for row in source_chats(source):
            ask(row)
        notices += _row_notices(source, len(rows), len(rows) - len({row.id for row in rows}), limit)
    return notices


def _row_notices(source: Source, rows: int, repeats: int, limit: int | None) -> list[str]:
    notices = []
    if repeats:
        notices.append(f"{source.source}: {repeats} of {rows} rows repeat an earlier one, and are used once")
    if limit is not None and rows - repeats < limit:
        notices.append(f"{source.source}: {rows - repeats} rows, fewer than --limit {limit}: all are used")
    return notices


def _all(source: Source) -> list[Chat]:
    """Every row of a file, repeated ones too; of the miniature's world, those that are asked for."""
    if source.source.startswith(WORLD):
        return source_chats(source)
    return formats.read_chats(source.source, reading=reading_of(source, is_planned=True))


def _file_lines(name: str, rows: int, described: Described) -> list[str]:
    known = f", the content of {described.benchmark}" if described.benchmark else ""
    lines = [f"{name}: {described.format}, {rows} rows{known}"]
    lines += [f"  {sum(counts.values()):6} {WANTED[kind]}{_by_category(counts)}" for kind, counts in described.categories.items()]
    if described.checkable:
        lines.append(f"  {described.checkable:6} with an answer that can be checked without a judge")
    if described.without_gold:
        lines.append(f"  {described.without_gold:6} with choices and no right answer: they cannot be scored")
    if described.followups:
        lines.append(f"  {described.followups:6} with a second turn")
    if described.repeats:
        places = [f"{number} = {earlier}" for number, earlier in described.repeats.items()]
        lines.append(f"  {len(places):6} say the same as an earlier one: row {_some(places)}")
    if described.ignored_columns:
        lines.append(f"  columns ignored: {_some(described.ignored_columns)}")
    return lines


def _by_category(counts: Mapping[str, int]) -> str:
    named = [f"{name or 'without a category'} {count}" for name, count in counts.items()]
    return "" if set(counts) == {""} else f": {_some(named)}"


def _some(parts: Sequence[str]) -> str:
    more = f" and {len(parts) - SHOWN} more" if len(parts) > SHOWN else ""
    return ", ".join(parts[:SHOWN]) + more


def _shared(left: tuple[str, Sequence[Chat]], right: tuple[str, Sequence[Chat]], threshold: float) -> str | None:
    """Rows of two files that are the same or nearly so, by their numbers; None if there are none."""
    overlaps = find_overlap(left[1], right[1], threshold=threshold)
    if not overlaps:
        return None
    left_at, right_at = _numbers(left[1]), _numbers(right[1])
    places = [f"{left_at[overlap.left.id]} ~ {right_at[overlap.right.id]} ({overlap.similarity:.2f})" for overlap in overlaps]
    same = sum(one.kind != "near" for one in overlaps)
    near = len({one.right.id for one in overlaps if one.kind == "near"})  # rows, of which one may be near several
    return f"{left[0]} and {right[0]} share {same} rows, and {near} nearly: row {_some(places)}"


def _numbers(rows: Sequence[Chat]) -> dict[str, int]:
    numbers: dict[str, int] = {}
    for number, row in enumerate(rows, 1):
        numbers.setdefault(row.id, number)
    return numbers
