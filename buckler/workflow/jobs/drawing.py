"""Jobs that draw rows from files, with the account of their rows and columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field, field_validator

from buckler import formats
from buckler.data import write_json, write_jsonl
from buckler.errors import ConfigError, DataError
from buckler.formats import Account, account_lines
from buckler.formats.account import named_in
from buckler.formats.rows import listed
from buckler.progress import LOG
from buckler.workflow.jobs.base import ACCOUNTS, EARLIER, WORK, Earlier, Job, named_step
from buckler.workflow.rows import rows_of
from buckler.workflow.sources import WORLD, Source, Use, accounted_chats, accounted_documents, at_most, columns_of
from buckler.workflow.step import Step

REJECTED_ROWS = "rejected.jsonl"


class DrawingJob(Job):
    """A job that draws rows from files or from sets of the miniature's world."""

    unwritten_if_empty: ClassVar[tuple[str, ...]] = ("split", "columns", "use", "skip_bad")
    unwritten_if_default: ClassVar[tuple[str, ...]] = ("repeats",)

    seed: int = 0
    """Random seed; the same seed gives the same files."""
    rejected_rows: ClassVar[str] = REJECTED_ROWS
    """The file of rows that cannot be read."""
    limit: int | None = Field(default=None, ge=1)
    """Maximum number of rows used from each file: a random sample drawn with the seed (default: all rows)."""
    split: str | None = None
    """Split of the files and folders that have several, such as train (default: the only one)."""
    columns: str = ""
    """Columns by what they are, instead of a guess, as in prompt=a,answer=b."""
    use: Use | None = None
    """Answer that is meant where rows have two; prompt is the question alone (default: such rows are refused)."""
    repeats: Literal["merge", "keep"] = "merge"
    """Repeated rows: merged into one and counted, or kept as often as they stand."""
    skip_bad: bool = False
    """Go on after rows that cannot be read, and write them to `rejected.jsonl` with the reasons."""

    @field_validator("columns", mode="before")
    @classmethod
    def _columns_are_named(cls, value: object) -> object:
        if isinstance(value, Mapping):
            value = ",".join(f"{name}={column}" for name, column in value.items())
        if isinstance(value, str):
            columns_of(value)
        return value

    def source_rows(
        self,
        source: Source,
        earlier: Earlier,
        *,
        documents: bool = False,
        split: Literal["train", "test"] = "train",
        of_world: int | None = None,
    ) -> Step:
        """The step that draws a source, or the earlier job that it names.

        Args:
            source: What the user named; its own count, seed and split stand before the job's.
            earlier: Earlier jobs of the pipeline.
            documents: Whether they are documents, not chats.
            split: Of a set of the miniature's world.
            of_world: How many rows of such a set, where nobody says how many.
        """
        if source.source.startswith(EARLIER):
            return named_step(source.source, earlier, "rows").result
        return rows_of(self.drawn(source, documents=documents, split=split, of_world=of_world), documents=documents)

    def drawn(
        self, source: Source, *, documents: bool = False, split: Literal["train", "test"] = "train", of_world: int | None = None
    ) -> Source:
        """The source with the job's limit and seed, and `split`, where it has none of its own."""
        is_world = source.source.startswith(WORLD)
        limit = self.limit or (of_world if is_world else None)
        own: dict[str, object] = (
            {"split": split} if is_world else self._how_read(source)
        )  # a file is the same rows, whoever reads it
        given = {name: getattr(source, name) for name in source.model_fields_set if name != "source"}
        filled = Source(source=source.source, seed=self.seed).model_copy(update={**own, **given})
        return filled if "count" in given else at_most(limit, filled, documents=documents)

    def account_rows(
        self,
        sources: Iterable[Source],
        out: Path,
        *,
        also: Iterable[Source] = (),
        documents: bool = False,
        first: bool = False,
        learns: bool = True,
    ) -> None:
        """Say, before anything starts, what becomes of every row and column of files, and write it down for the result.

        Args:
            sources: As they are drawn.
            out: The folder of the job's results.
            also: Others that the job reads, and gives no account of.
            documents: Whether they are documents, not chats.
            first: Whether the first row is shown.
            learns: Whether answers of theirs are learnt.

        Raises:
            DataError: a file cannot be read.
            ConfigError: `use`, `split` or `columns` concern none of them.
        """
        accounts: list[Account] = []
        self.concerned([*(drawn := list(sources)), *also])
        for source in (one for one in drawn if not one.source.startswith((WORLD, EARLIER))):
            found = accounted_documents(source, is_planned=True) if documents else accounted_chats(source, is_planned=True)
            if found[1] is not None:
                accounts.append(self.noted(found[1], source))
        if self.use is not None and accounts and not any(one.preferences for one in accounts):
            raise ConfigError(f"`use` is {self.use}, but no row of these files has two answers; remove it")
        unclear = ((one.source, mark) for one in accounts for mark in one.unclear)
        if learns and not documents and (mark := next(unclear, None)):
            raise DataError(": ".join(mark))
        for one in accounts:
            for line in account_lines(one.to_json(), first=first, learns=learns and not documents):
                LOG.info("%s", line)
        bad = [row for one in accounts for row in one.bad]
        if bad:
            write_jsonl(out / self.rejected_rows, bad)
            LOG.warning("%d rows that cannot be read are in %s", len(bad), out / self.rejected_rows)
        if accounts:
            write_json(out / WORK / ACCOUNTS, [one.to_json() for one in accounts])

    def concerned(self, every: Sequence[Source]) -> None:
        """Refuse a `split` and `columns` that concern none of the sources as they are drawn (ConfigError)."""
        files = [one for one in every if not one.source.startswith((WORLD, EARLIER))]
        if not files and (given := [name for name in ("split", "columns", "use") if getattr(self, name)]):
            named = f"{', '.join(one.source for one in every)} is none" if every else "none is named"
            raise ConfigError(f"`{given[0]}` is of files of rows, and {named}; remove it")
        wanted = named_in(columns_of(self.columns))
        if wanted and (missing := wanted.difference(*(self._columns(one) for one in files))):
            missing.difference_update(*(self._columns(one, whole=True) for one in files))
            there = "; ".join(f"{one.source}: {listed(sorted(self._columns(one)))}" for one in files[:3])
            if missing:
                raise ConfigError(f"`columns`: no file has {listed(map(repr, sorted(missing)))}; the columns are {there}")
        if self.split is not None and not any("split" in one.model_fields_set for one in files):
            names = ", ".join(one.source for one in files)
            raise ConfigError(f"`split` is {self.split}, but {names} {'have' if len(files) > 1 else 'has'} no splits; remove it")

    def noted(self, account: Account, source: Source) -> Account:
        """The account of a file, with the options of the job that concern others only."""
        account.not_for = [
            f"--{name} {value}"
            for name, value in (("split", self.split), ("columns", self.columns))
            if value and name not in source.model_fields_set
        ]
        return account

    def _how_read(self, source: Source) -> dict[str, object]:
        """What the job says of reading files, as far as it concerns this one."""
        settings: dict[str, object] = {"use": self.use, "repeats": self.repeats, "skip_bad": self.skip_bad}
        if self.split is not None and formats.splits_of(source.source, self.split):
            settings |= {"split": self.split}
        columns = columns_of(self.columns)
        if columns and named_in(columns) & self._columns(source):
            settings |= {"columns": columns}
        return settings

    def _columns(self, source: Source, *, whole: bool = False) -> set[str]:
        """The columns of a file, those that `columns` names among them."""
        return formats.columns_of(source.source, self.split, named_in(columns_of(self.columns)), whole=whole)
