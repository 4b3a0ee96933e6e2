"""What a model is to be asked, read and checked before any model is loaded: a mistake in the last file costs nothing."""

from __future__ import annotations

from collections.abc import Sequence

from buckler import formats
from buckler.commands.common import say
from buckler.data import Chat
from buckler.errors import DataError
from buckler.judges import Answer, Verdict
from buckler.metrics import score_answers, summarise
from buckler.probes import in_set
from buckler.sources import WORLD, Source, read_chats
from buckler.utility import ask, scorers


def check_probes(probes: Sequence[tuple[Source, str | None]]) -> None:
    """Say which rows say the same; they are asked once.

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
        if repeats:
            say(f"{source.source}: {repeats} of {len(rows)} rows repeat an earlier one, and are asked once")
    blank = [Answer(id=one.id, prompt=one.prompt, text="", finish="stop", meta=one.meta) for one, _ in first.values()]
    summarise(blank, [Verdict(id=one.id) for one in blank], score_answers(blank, scorers()))


def check_choices(utility: Sequence[Source]) -> None:
    """Say how many rows of a utility file are the same; they are asked once.

    Raises:
        ConfigError, DataError: a file cannot be read, or a row has no choices or no right one among them.
    """
    for source in utility:
        rows = _all(source)
        for row in read_chats(source):
            ask(row)
        if repeats := len(rows) - len({row.id for row in rows}):
            say(f"{source.source}: {repeats} of {len(rows)} rows repeat an earlier one, and are asked once")


def _all(source: Source) -> list[Chat]:
    """Every row of a file, repeated ones too; of the miniature's world, those that are asked for."""
    return read_chats(source) if source.source.startswith(WORLD) else formats.read_chats(source.source)
