"""What the steps of a plan left beside answers and verdicts: training, figures, the task that `weakest` stood for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from buckler.config.crosstask import WEAKEST
from buckler.data import Json, read_json
from buckler.plan import Arm, Plan
from buckler.results.arm import MeasuredArm, files_of
from buckler.workflow.step import in_order
from buckler.workflow.store import Store


def measured(arm: Arm, store: Store) -> MeasuredArm:
    """An arm whose steps are finished."""
    answers, verdicts = files_of(store, arm.measured.answers, arm.measured.verdicts)
    metrics = cast("Mapping[str, Json]", read_json(store.folder(arm.measured.metrics) / "metrics.json"))
    return MeasuredArm(labels=arm.labels, answers=answers, verdicts=verdicts, metrics=metrics)


def told(arm: Arm, metrics: Mapping[str, Json], store: Store) -> dict[str, Json]:
    """An arm as results keep it: its labels, numbers, training, and the keys of the steps that measured it."""
    training: list[Json] = []
    for phase in arm.phases:
        seen = cast(Mapping[str, Json], read_json(store.folder(phase) / "training.json"))
        cut, dropped = cast(Sequence[str], seen["cut"]), cast(Sequence[str], seen["dropped"])
        training.append({"rows": seen["rows"], "cut": len(cut), "dropped": len(dropped), "steps": seen["steps"]})
    steps: dict[str, Json] = {
        "answers": store.folder(arm.measured.answers).name,
        "verdicts": store.folder(arm.measured.verdicts).name,
        "metrics": store.folder(arm.measured.metrics).name,
    }
    return {"labels": dict(arm.labels), "metrics": metrics, "training": training, "steps": steps}


def figures(plan: Plan, store: Store, prefix: str, file: str) -> dict[str, Json]:
    """What the plan's figures of this prefix left in their `file`, by the rest of their name."""
    return {
        name.removeprefix(prefix): read_json(store.folder(step) / file)
        for name, step in plan.figures.items()
        if name.startswith(prefix)
    }


def weakest(arms: Sequence[Arm], store: Store) -> list[Json]:
    """The task that `weakest` stood for, by model and seed, with the process rates on training documents that named it."""
    found: dict[tuple[str | int, int], dict[str, Json]] = {}
    for arm in (one for one in arms if one.labels.get("trained on") == WEAKEST):
        step = next(step for step in in_order(arm.phases) if step.name == "most-misused-task")
        named = cast(Mapping[str, Json], read_json(store.folder(step) / "weakest.json"))
        model, seed = arm.labels["model"], int(arm.labels["seed"])
        found[model, seed] = {"model": model, "seed": seed, **named}
    return list(found.values())
