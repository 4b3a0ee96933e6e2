"""A few answers of each arm with their verdicts, for people to read."""

from __future__ import annotations

from buckler.data import Answer, Json, Verdict, read_answers, read_verdicts
from buckler.results.arm import MeasuredArm

SAMPLES = 2
"""Answers shown for each arm and probe set."""


def samples_of(arm: MeasuredArm) -> list[Json]:
    """A few answers of an arm."""
    verdicts = {one.id: one for one in read_verdicts(arm.verdicts)}
    shown: dict[str, int] = {}
    samples: list[Json] = []
    for one in read_answers(arm.answers):
        kind = str(one.meta.get("set"))
        shown[kind] = shown.get(kind, 0) + 1
        if shown[kind] <= SAMPLES:
            samples.append(sample(arm, one, verdicts[one.id]))
    return samples


def sample(arm: MeasuredArm, one: Answer, verdict: Verdict) -> dict[str, Json]:
    """An answer with its verdict. One to a harmful probe that was not refused is marked, so that reports redact it."""
    kind = str(one.meta.get("set"))
    return {
        "labels": dict(arm.labels),
        "set": kind,
        "task": one.meta.get("task"),
        "query": one.query,
        "answer": one.text,
        "refused": verdict.refused,
        "coherent": verdict.coherent,
        "unsafe": kind == "harmful" and verdict.refused != "full",
    }
