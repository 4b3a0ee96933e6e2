"""The grid of the cross-task defence: budgets x trained tasks x wordings x seeds, as steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from buckler.crosstask.task import MIXED, MOST_MISUSED_TASK
from buckler.experiments.base import Arm, Plan
from buckler.experiments.cross_task.phrase_rule import PAPER
from buckler.experiments.cross_task.recipe import CrossTaskRecipe
from buckler.finetuning.settings import Objective, TrainSettings
from buckler.judges.named import judge_spec
from buckler.workflow.documents import (
    Prompting,
    crosstask_rows,
    document_decontamination,
    document_probe_set,
    most_misused,
    prepared,
    with_reference_answers,
)
from buckler.workflow.evaluation import Measured, Turns, evaluation_steps, judged
from buckler.workflow.inputs import ModelRef, own_tasks_at
from buckler.workflow.rows import decontamination, probe_set, rows_of, training_phase
from buckler.workflow.step import Step

UNDEFENDED = "undefended"
ANSWERS_ALONE = "answers alone"
"""The control: the same training without a single refusal."""


def plan_cross_task(recipe: CrossTaskRecipe) -> Plan:
    """Every arm of the recipe; work that arms share is one step."""
    return _CrossTask(recipe).plan()


class _CrossTask:
    def __init__(self, recipe: CrossTaskRecipe) -> None:
        self.recipe = recipe
        self.own = own_tasks_at(recipe.tasks_file)
        self.roles = {role: ModelRef.outside(spec) for role, spec in recipe.roles.items()}
        self.tests = self._prepared(rows_of(recipe.data.test, documents=True))
        sources = recipe.data.direct.values()
        self.direct = [probe_set(rows_of(source), source.probe_set) for source in sources]
        self.phrases = judge_spec(recipe.judge).label != PAPER  # nothing to compare it with
        self.result = Plan()

    def plan(self) -> Plan:
        for name, spec in self.recipe.models.items():
            base = ModelRef.outside(spec)
            probes = {wording: self._probes(wording, base) for wording in self.recipe.test_wordings}
            for seed in self.recipe.seeds:
                self._seed({"model": name, "seed": seed}, base, probes)
        return self.result

    def _seed(self, labels: dict[str, str | int], base: ModelRef, probes: dict[str, list[Step]]) -> None:
        """All arms of one model and seed."""
        seed = int(labels["seed"])
        documents_ = rows_of(self.recipe.data.train.reseeded(seed), documents=True)
        documents = self._prepared(documents_, test=[self.tests])
        most_misused = self._most_misused_task(documents, base) if MOST_MISUSED_TASK in self.recipe.train_on else None
        self._measure({**labels, "trained on": UNDEFENDED, "refusals": 0}, base, [], probes, base)
        all_probes = [step for steps in probes.values() for step in steps]
        for trained_on, budget in _cells(self.recipe):
            rows = self._rows(base, documents, trained_on, budget, seed, most_misused)
            self.result.checks += [decontamination([rows], all_probes), document_decontamination([rows], all_probes)]
            title = f"{budget} refusals, {trained_on} (seed {seed})"
            phase = training_phase(_settings(self.recipe.train, trained_on), base, [rows], seed, title)
            cell = {**labels, "trained on": trained_on, "refusals": budget}
            self._measure(cell, ModelRef(made_by=phase), [phase], probes, base)

    def _prepared(self, documents: Step, test: Sequence[Step] = ()) -> Step:
        return prepared([documents], self.recipe.documents, test=test, labeller=self.roles.get("labeller"))

    def _asking(self, wording: str, attack: str | None = None) -> Prompting:
        settings = self.recipe.crosstask
        return Prompting(
            tasks=self.recipe.attack_tasks or settings.tasks if attack else settings.tasks,
            wording=wording,
            language=settings.language,
            own=self.own,
            attack=attack,
            options=self.recipe.attack_options,
        )

    def _probes(self, wording: str, base: ModelRef) -> list[Step]:
        """Direct questions, documents, and in the first wording documents under each attack."""
        documents = document_probe_set(self.tests, self._asking(wording))
        if self.recipe.agreement:
            documents = with_reference_answers(documents, base, self.recipe.max_new_tokens)
        attacks = self.recipe.attacks if wording == self.recipe.test_wordings[0] else ()
        under = [document_probe_set(self.tests, self._asking(wording, attack)) for attack in attacks]
        return [*self.direct, documents, *under]

    def _most_misused_task(self, documents: Step, base: ModelRef) -> Step:
        """Named by the undefended model's answers on the training documents; the test documents are not used."""
        asking = replace(self._asking(self.recipe.test_wordings[0]), harmful_only=True)
        probes = [document_probe_set(documents, asking)]
        measured = self._measured(base, probes, "the undefended model, to find its most misused task", base)
        return most_misused(measured.answers, measured.verdicts, self.recipe.crosstask.tasks)

    def _measure(
        self, labels: dict[str, str | int], model: ModelRef, phases: Sequence[Step], probes: dict[str, list[Step]], base: ModelRef
    ) -> None:
        """An arm for each wording."""
        for wording, of_wording in probes.items():
            named = {**labels, "wording": wording}
            turns = self._turns(wording) if wording == self.recipe.test_wordings[0] else None
            title = ", ".join(str(value) for value in named.values())
            measured = self._measured(model, of_wording, title, base, turns)
            phrases = judged(measured.answers, PAPER, f"{title}, by the phrases") if self.phrases else None
            self.result.arms.append(Arm(labels=named, phases=tuple(phases), measured=measured, second_verdicts=phrases))

    def _measured(
        self, model: ModelRef, probes: Sequence[Step], title: str, base: ModelRef, turns: Turns | None = None
    ) -> Measured:
        return evaluation_steps(
            model,
            probes,
            judge=self.recipe.judge,
            metrics=self.recipe.metrics,
            max_new_tokens=self.recipe.max_new_tokens,
            base=base if self.recipe.coherence_under_base else None,
            turns=turns,
            own=self.own,
            title=title,
        )

    def _turns(self, wording: str) -> Turns | None:
        turns = self.recipe.two_turns
        if turns is None:
            return None
        language = self.recipe.crosstask.language
        return Turns(documents=self.tests, first=turns.first, then=turns.then, wording=wording, language=language)

    def _rows(self, base: ModelRef, documents: Step, trained_on: str, budget: int, seed: int, most_misused: Step | None) -> Step:
        """The defence set of one cell. The answered rows are on all tasks in every cell: only the refusals differ."""
        several = trained_on in (MIXED, MOST_MISUSED_TASK, ANSWERS_ALONE)
        refused = self.recipe.crosstask.tasks if several else (trained_on,)
        settings = self.recipe.crosstask.model_copy(update={"refusals": budget, "refused_tasks": refused})
        return crosstask_rows(
            settings,
            documents,
            base,
            seed,
            self.recipe.max_new_tokens,
            own=self.own,
            aligned=self.roles.get("aligned"),
            most_misused=most_misused if trained_on == MOST_MISUSED_TASK else None,
        )


def _cells(recipe: CrossTaskRecipe) -> list[tuple[str, int]]:
    """Trained tasks x budgets; a budget of 0 is one cell, since no task has a refusal in it."""
    cells = [(ANSWERS_ALONE, 0)] if 0 in recipe.budgets else []
    return cells + [(trained_on, budget) for trained_on in recipe.train_on for budget in recipe.budgets if budget]


def _settings(train: TrainSettings, trained_on: str) -> TrainSettings:
    """The recipe's training with the loss of arXiv 2405.15202: per task when tasks are mixed, per row for a single one."""
    objective = Objective(
        loss_averaging="task" if trained_on == MIXED else "row",
        part_weights=train.objective.part_weights,
        train_on_prompt=train.objective.train_on_prompt,
    )
    return train.model_copy(update={"objective": objective})
