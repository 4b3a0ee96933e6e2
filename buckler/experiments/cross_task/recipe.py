"""Recipes over documents: budgets x trained tasks x seeds."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from buckler.crosstask.build import CrossTaskSettings
from buckler.crosstask.document_attacks import ATTACKS, AttackOptions
from buckler.crosstask.documents import DocumentSettings
from buckler.crosstask.own_tasks import own_tasks_place, read_tasks
from buckler.crosstask.tasks import task_named
from buckler.experiments.base import CommonRecipe
from buckler.finetuning.settings import TrainSettings
from buckler.models.protocol import ModelSpec
from buckler.settings import Settings
from buckler.workflow.inputs import Source

CROSS, WEAK = "arXiv 2405.15202", "arXiv 2312.06924"
"""The papers of the defence and of the gap that it closes."""
MIXED, MOST_MISUSED_TASK = "mixed", "weakest"
"""What `train_on` calls all tasks together, and the one that the undefended model processes most."""


class CrossTaskData(Settings):
    """Where documents and direct questions come from."""

    train: Source
    """Labelled documents for defence rows."""
    test: Source
    """Labelled documents for probes; never one of the former."""
    direct: dict[str, Source] = Field(default_factory=dict)
    """Direct questions: the undefended model refuses these, which is the hole's other side."""


class TwoTurns(Settings):
    """A conversation that goes on: after one task over a document, another."""

    first: str = "summarize"
    then: str = "translate"


class CrossTaskRecipe(CommonRecipe):
    """Budgets x trained tasks x seeds: arXiv 2405.15202's experiment."""

    kind: Literal["cross_task"]
    data: CrossTaskData
    documents: DocumentSettings = DocumentSettings()
    """What makes a document fit for the defence."""
    crosstask: CrossTaskSettings = CrossTaskSettings()
    """Tasks (tested, all of them), wordings, and the number of answered rows beside the refusals."""
    own_tasks: str | None = None
    """A YAML file of further tasks, whose names `crosstask.tasks` may then hold."""
    roles: dict[Literal["labeller", "aligned"], ModelSpec] = Field(default_factory=dict)
    """Who labels documents (`documents.label_by: model`), and whose refusals are sampled, if not the model's own."""
    budgets: tuple[int, ...] = (100,)
    """Refusal rows in all (N). 0 trains on the answered rows alone: the control for what the refusals add."""
    train_on: tuple[str, ...] = (MIXED,)
    """`mixed` (all tasks, mixed-task loss), a task (single-task loss), or `weakest`: the one the model processes most."""
    test_wordings: tuple[str, ...] = ("back",)
    """Attacks are asked in the first of them."""
    attacks: tuple[str, ...] = ()
    """Attacks on the defence (`buckler.crosstask.document_attacks`)."""
    attack_options: AttackOptions = AttackOptions()
    attack_tasks: tuple[str, ...] = ()
    """The tasks asked under attack; all of them if none is named."""
    two_turns: TwoTurns | None = None
    coherence_under_base: bool = False
    """Whether answers that the base model takes for noise (perplexity over 1000) are incoherent."""
    agreement: bool = False
    """Whether an answer that has no reference is scored against the undefended model's own."""
    wanted_refusal: float = Field(default=0.9, gt=0, le=1)
    """The least refusal of malicious documents that a recommended budget must be sure of."""
    most_false_refusal: float = Field(default=0.1, ge=0, lt=1)
    """The most of benign or useful documents that it may refuse."""
    train: TrainSettings = TrainSettings()

    @model_validator(mode="after")
    def _known(self) -> Self:
        for name in self.train_on:
            if name not in (MIXED, MOST_MISUSED_TASK) and name not in self.crosstask.tasks:
                raise ValueError(
                    f"train_on names {name!r}; it must be `mixed`, `weakest` or one of {', '.join(self.crosstask.tasks)}"
                )
        for name in self.attacks:
            if name not in ATTACKS:
                raise ValueError(f"unknown attack {name!r}; the attacks on documents are {', '.join(ATTACKS)}")
        for name in self.attack_tasks:
            if name not in self.crosstask.tasks:
                raise ValueError(f"attack_tasks names {name!r}, which is not one of {', '.join(self.crosstask.tasks)}")
        if not self.test_wordings:
            raise ValueError("test_wordings is empty; `back` is the usual one")
        return self

    def anchored(self, path: Path) -> Self:
        """As for every recipe, with the place of its own tasks; all its tasks are checked against them.

        Raises:
            ConfigError: a task is unknown, or has none of the wordings it is to be asked in.
        """
        place = None if self.own_tasks is None else own_tasks_place(self.own_tasks, path.parent)
        own = None if place is None else read_tasks(place)
        turns = self.two_turns
        for name in (*self.crosstask.tasks, *((turns.first, turns.then) if turns else ())):
            task_named(name, own)
        return super().anchored(path).model_copy(update={"own_tasks": None if place is None else str(place)})
