"""What a model is to be asked, read and checked before any model is loaded: a mistake in the last file costs nothing."""

from __future__ import annotations

from collections.abc import Sequence

from buckler import formats
from buckler.commands.common import say
from buckler.data import Answer, Chat, Verdict
from buckler.errors import DataError
from buckler.evaluation.metrics import summarise
from buckler.evaluation.probes import in_set
from buckler.evaluation.scores import Scorers, score_answers
from buckler.evaluation.utility import ask
from buckler.workflow.sources import WORLD, Source, read_chats


def check_probes(probes: Sequence[tuple[Source, str | None]], by: Scorers, limit: int | None = None) -> None:
    """Say how many rows say the same, which are asked once, and which files have fewer than the limit.

    Args:
        probes: Files, each with the set its rows belong to; None: the rows tell it.
        by: What answers to documents are scored by.
        limit: The most rows of a file that are asked.

    Raises:
        ConfigError, DataError: a file cannot be read, nothing tells what a good model does with a row, two rows of the same
            words tell it otherwise, or their answers could not be summed up.
    """
    first: dict[str, tuple[Chat, str]] = {}
    for source, name in probes:
        rows = _all(source)
        repeats = 0
        for number, row in enumerate(rows, 1):
            place = f"{source.source}: row {number}"
            probe = in_set(row, name, place)
            repeats += probe.id in first
            earlier, there = first.setdefault(probe.id, (probe, place))
            if earlier.meta["set"] != probe.meta["set"]:
                told = f"{probe.meta['set']} here and {earlier.meta['set']} there"
                raise DataError(f"{place}: the same words as {there}, {told}; take one of them out")
        _say_rows(source, len(rows), repeats, limit)
    blank = [Answer(id=one.id, prompt=one.prompt, text="", finish="stop", meta=one.meta) for one, _ in first.values()]
    summarise(blank, [Verdict(id=one.id) for one in blank], score_answers(blank, by))


def check_choices(utility: Sequence[Source], limit: int | None = None) -> None:
    """The same of utility files.

    Raises:
        ConfigError, DataError: a file cannot be read, or a row has no choices or no right one among them.
    """
    for source in utility:
        rows = _all(source)
        for row in read_chats(source):
            ask(row)
        _say_rows(source, len(rows), len(rows) - len({row.id for row in rows}), limit)


def _say_rows(source: Source, rows: int, repeats: int, limit: int | None) -> None:
    if repeats:
        say(f"{source.source}: {repeats} of {rows} rows repeat an earlier one, and are asked once")
    if limit is not None and rows - repeats < limit:
        say(f"{source.source}: {rows - repeats} rows where --limit allows {limit}: all are asked")


def _all(source: Source) -> list[Chat]:
    """Every row of a file, repeated ones too; of the miniature's world, those that are asked for."""
    return read_chats(source) if source.source.startswith(WORLD) else formats.read_chats(source.source, format=source.format)
