"""Tasks of the user's own, from a few lines of YAML.

keywords:
  wordings:
    back: "{document}\n\nList five keywords of this text."
    system: {system: "List five keywords of what the user sends.", user: "{document}"}
    held_out: "{document}\n\nWhat would this text be filed under?"
  metric: rouge_l
  verb: list keywords of
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields

from pydantic import Field, field_validator, model_validator

from buckler.crosstask.scoring import Metric
from buckler.crosstask.task import ALL, DOCUMENT, MIXED, MOST_MISUSED_TASK, Task, places_in
from buckler.data.language import language_name
from buckler.errors import ConfigError
from buckler.settings import VALUES, Settings, parse

RESERVED = frozenset((ALL, MIXED, MOST_MISUSED_TASK, *VALUES["trained on"], "undefended"))
"""What recipes and reports call something else."""
NAME = re.compile(r"[a-z][a-z0-9_-]*")


class _Turns(Settings):
    """One wording."""

    user: str
    system: str | None = None


class OwnTask(Settings):
    """A task as a user writes it down; see `buckler.crosstask.task.Task` for what each key means."""

    wordings: dict[str, _Turns] = Field(min_length=1)
    """Instruction wordings by name; a plain text is the user turn. A name that begins with `held_out` is reserved for the
    test."""
    metric: Metric
    also: tuple[Metric, ...] = ()
    lower: bool = False
    values: dict[str, str] = Field(default_factory=dict)
    labels: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """Labels for the metric `accuracy`, each with its accepted spellings; a plain list if every label has one spelling."""
    verb: str = Field(default="work on", min_length=1)

    @field_validator("wordings", mode="before")
    @classmethod
    def _texts_are_user_turns(cls, value: object) -> object:
        if not isinstance(value, Mapping):
            return value
        return {name: {"user": turn} if isinstance(turn, str) else turn for name, turn in value.items()}

    @field_validator("labels", mode="before")
    @classmethod
    def _names_are_spellings(cls, value: object) -> object:
        if not isinstance(value, list | dict):
            return value
        if any(not isinstance(name, str) for name in value):
            odd = next(name for name in value if not isinstance(name, str))
            raise ValueError(f"the label {odd!r} is not text; put it in quotes, since YAML converts yes, no and numbers")
        if isinstance(value, list):
            return {name: (name,) for name in value}
        return {name: (names,) if isinstance(names, str) else names for name, names in value.items()}

    @model_validator(mode="after")
    def _places_can_be_filled(self) -> OwnTask:
        fillable = {"document", "question", *self.values}
        for name, turns in self.wordings.items():
            if turns.user.count(DOCUMENT) != 1:
                raise ValueError(f"wording {name}: its user turn must contain {DOCUMENT} exactly once, in place of the text")
            if turns.system is not None and DOCUMENT in turns.system:
                raise ValueError(f"wording {name}: put the document into the user turn, not the system turn")
            unknown = sorted((places_in(turns.user) | places_in(turns.system or "")) - fillable)
            if unknown:
                raise ValueError(
                    f"wording {name}: unknown placeholder {{{unknown[0]}}}; the placeholders are "
                    f"{', '.join(sorted(fillable))}, and others by a default in `values`"
                )
        if self.labels and "accuracy" not in (self.metric, *self.also):
            raise ValueError("only the metric `accuracy` uses labels; choose it, or remove the labels")
        return self

    def task(self, name: str) -> Task:
        """The task, called `name`.

        Raises:
            ConfigError: a default language is none.
        """
        languages = ("language", "source_language")
        values = {place: language_name(value) if place in languages else value for place, value in self.values.items()}
        return Task(
            id=name,
            wordings={wording: turns.user for wording, turns in self.wordings.items()},
            systems={wording: turns.system for wording, turns in self.wordings.items() if turns.system is not None},
            metric=self.metric,
            also=self.also,
            lower=self.lower,
            values=values,
            labels=self.labels,
            verb=self.verb,
        )


def require_sound(task: Task, where: str) -> None:
    """A task made in Python is what one in YAML must be.

    Raises:
        ConfigError: a metric, a place in a wording or another value is none.
    """
    if not isinstance(task.id, str) or not NAME.fullmatch(task.id):
        raise ConfigError(f"{where}: its id must consist of lower-case letters, digits, - and _, got {task.id!r}")
    values = {one.name: getattr(task, one.name) for one in fields(Task) if one.name not in ("id", "systems")}
    turns: object = task.wordings
    if isinstance(turns, Mapping) and isinstance(task.systems, Mapping):
        turns = {name: {"user": user, "system": task.systems.get(name)} for name, user in turns.items()}
    parse(OwnTask, {**values, "wordings": turns}, where)
