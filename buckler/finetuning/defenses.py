"""Defences: builders of training rows, and filters over the customer's rows.

Random drop and perplexity drop are the baselines of arXiv 2410.02220.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeGuard

from pydantic import Field, JsonValue, ValidationInfo, field_validator

from buckler.data import Chat
from buckler.errors import BackendError, ConfigError, DataError
from buckler.finetuning.settings import Stage
from buckler.models.protocol import LM, ScoreRequest
from buckler.registry import Registry
from buckler.settings import Settings


class DefenseSettings(Settings):
    """Rows that a defender adds, or a filter over the customer's rows."""

    unwritten_if_empty = ("options",)
    kind: str
    """Defence: curated, uncurated, safety, random_drop, perplexity_drop, or your own as `module:name`."""
    stages: tuple[Stage, ...] = ("pre", "in", "post", "all")
    """Stages at which its rows are trained on; a filter always acts before customization."""
    share: float = Field(default=0.2, gt=0, lt=1)
    """For a filter: fraction of rows dropped. For plain safety rows: their number relative to the customer's rows."""
    options: dict[str, JsonValue] = Field(default_factory=dict)
    """Options of a defence of your own."""

    @field_validator("kind")
    @classmethod
    def _is_known(cls, value: str) -> str:
        DEFENSES.get(value)
        return value

    @field_validator("options")
    @classmethod
    def _options_have_effect(cls, value: dict[str, JsonValue], info: ValidationInfo) -> dict[str, JsonValue]:
        DEFENSES.require_no_options(info.data.get("kind"), value)
        return value

    @property
    def is_filter(self) -> bool:
        """Whether it drops rows instead of adding some."""
        return defense_named(self.kind).filter is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Screened:
    """What a filter kept, and what it dropped with the reason of each."""

    kept: list[Chat]
    dropped: list[Chat]
    """Rows with `reason` in their meta."""


def random_drop(rows: Sequence[Chat], share: float, *, seed: int) -> Screened:
    """Drop `share` of the rows at random.

    Raises:
        ConfigError: the share is not between 0 and 1.
    """
    lots = list(range(len(rows)))
    random.Random(f"drop:{seed}").shuffle(lots)
    return _without(rows, set(lots[: _number(rows, share)]), [f"dropped at random ({share:.0%} of rows)"] * len(rows))


def perplexity_drop(rows: Sequence[Chat], perplexities: Sequence[float], share: float) -> Screened:
    """Drop the `share` of rows whose answers have the highest perplexity under the aligned model.

    A robust model gives harmful answers a high perplexity (arXiv 2410.02220, its motivation figure), so they should go first.

    Raises:
        ConfigError: the share is not between 0 and 1.
    """
    order = sorted(range(len(rows)), key=lambda at: (-perplexities[at], rows[at].id))
    reasons = [f"perplexity {value:.3g} is among the highest {share:.0%}" for value in perplexities]
    return _without(rows, set(order[: _number(rows, share)]), reasons)


def _number(rows: Sequence[Chat], share: float) -> int:
    if not 0 <= share < 1:
        raise ConfigError(f"the drop share is {share}; it must be at least 0 and below 1, such as 0.2")
    return round(share * len(rows))


def _without(rows: Sequence[Chat], gone: set[int], reasons: Sequence[str]) -> Screened:
    return Screened(
        kept=[row for at, row in enumerate(rows) if at not in gone],
        dropped=[row.tagged(reason=reasons[at]) for at, row in enumerate(rows) if at in gone],
    )


Builder: TypeAlias = Callable[[Sequence[Chat], Sequence[Chat], DefenseSettings, int], Sequence[Chat]]
"""Harmless texts, plain safety rows (none where none are given), settings and seed -> the defence's rows."""
Filter: TypeAlias = Callable[..., "Screened | Sequence[Chat]"]
"""The customer's rows, settings, seed and, for a filter that uses one, the aligned model -> the rows that are kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Defense:
    """A builder of rows or a filter. A class with a method of either name stands for it.

    Neither, for Buckler's own builders: the steps of the plan make their rows.
    """

    rows: Builder | None = None
    filter: Filter | None = None
    uses_model: bool = False
    """Whether the filter asks the aligned model."""


def defense_named(kind: str) -> Defense:
    """The defence of a name, or at a `module:name`.

    Raises:
        ConfigError: there is none, or it cannot be made.
    """
    part = DEFENSES.get(kind)
    if isinstance(part, Defense):
        return part
    if isinstance(part, type):
        with DEFENSES.boundary(kind):
            part = part()
    optional = {name: getattr(part, name) for name in ("rows", "filter", "uses_model") if hasattr(part, name)}
    return Defense(**optional)


def defense_rows(defense: DefenseSettings, *, texts: Sequence[Chat], refusals: Sequence[Chat], seed: int) -> list[Chat]:
    """The rows of a builder.

    Raises:
        DataError: it made none, or something else than rows.
    """
    build = defense_named(defense.kind).rows
    assert build is not None, defense
    with DEFENSES.boundary(defense.kind):
        built = build(texts, refusals, defense, seed)
    rows = DEFENSES.list_of(defense.kind, built, Chat, needs="answer", by="rows")
    if not rows:
        raise DataError(f"defence {defense.kind!r} returned no rows for {len(texts)} texts and {len(refusals)} safety rows")
    return [row.tagged(part=row.meta.get("part", "defence")) for row in rows]


def filtered(defense: DefenseSettings, rows: Sequence[Chat], *, seed: int, model: LM | None = None) -> Screened:
    """The customer's rows through a filter.

    Raises:
        BackendError: the model it asks does not answer.
        DataError: it returned something else than rows it was given.
    """
    part = defense_named(defense.kind)
    assert part.filter is not None, defense
    with DEFENSES.boundary(defense.kind):
        result = part.filter(rows, defense, seed, model) if part.uses_model else part.filter(rows, defense, seed)
    if isinstance(result, Screened):
        return result
    kept = {row.id for row in DEFENSES.list_of(defense.kind, result, Chat, by="filter")}
    if not kept <= {row.id for row in rows}:
        raise DataError(
            f"defence {defense.kind!r} is a filter: it may only drop rows, but it returned rows that it was not given"
        )
    gone = {at for at, row in enumerate(rows) if row.id not in kept}
    return _without(rows, gone, [f"dropped by {defense.kind}"] * len(rows))


def _drop_at_random(rows: Sequence[Chat], settings: DefenseSettings, seed: int) -> Screened:
    return random_drop(rows, settings.share, seed=seed)


def _answer_text(row: Chat) -> str:
    """The last answer as a text, calls of tools as JSON."""
    calls = row.messages[-1].get("tool_calls")
    return "\n".join(filter(None, (row.answer, json.dumps(calls, ensure_ascii=False) if calls else "")))


def _drop_by_perplexity(rows: Sequence[Chat], settings: DefenseSettings, seed: int, model: LM) -> Screened:
    likelihoods = model.score([ScoreRequest(messages=row.prompt, answer=_answer_text(row)) for row in rows])
    failed = [likelihood.error for likelihood in likelihoods if likelihood.error]
    if failed:  # their perplexity would look infinite
        raise BackendError(
            f"{len(failed)} of {len(likelihoods)} perplexities could not be computed: {failed[0]}; run the same "
            "command again to resume"
        )
    return perplexity_drop(rows, [one.perplexity for one in likelihoods], settings.share)


def _accepts(part: object) -> TypeGuard[Any]:
    methods = [name for name in ("rows", "filter") if callable(getattr(part, name, None))]
    return isinstance(part, Defense) or len(methods) == 1


DEFENSES: Registry[Any] = Registry(
    "defence",
    "buckler.defenses",
    {
        "curated": Defense(),
        "uncurated": Defense(),
        "safety": Defense(),
        "random_drop": Defense(filter=_drop_at_random),
        "perplexity_drop": Defense(filter=_drop_by_perplexity, uses_model=True),
    },
    _accepts,
    "a class with `rows(texts, refusals, settings, seed)`, which builds rows, or with `filter(rows, settings, seed)`",
)
