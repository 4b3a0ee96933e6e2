"""The 13 phrases of arXiv 2312.06924 over the stored answers about documents, beside the recipe's judge."""

from __future__ import annotations

from collections.abc import Sequence

from buckler.data import Json, Verdict, read_answers, read_verdicts
from buckler.judges.base import judge_named
from buckler.judges.phrases import compare
from buckler.results.arm import MeasuredArm, is_plain_document
from buckler.results.judge import RunJudge
from buckler.results.samples import sample

PAPER = "paper"
"""The judge whose readings stand beside the recipe's."""
EXAMPLES = 5
"""Answers shown that the two read otherwise."""


def paper_rule(kind: str, seeds: Sequence[int], arms: Sequence[MeasuredArm], judge: RunJudge) -> dict[str, Json]:
    """The stored answers about documents judged once more by the authors' phrases, documents under attack apart.

    Returns:
        `judge` (the recipe's), `cells` (by model, seed, task and label over all arms: counts of `compare`), `examples` (a few
        answers of the first seed that the two read otherwise). Empty if there is nothing to compare.
    """
    if kind != "cross_task" or judge.name == PAPER:
        return {}
    pairs: dict[tuple[str | int, ...], list[tuple[Verdict, Verdict]]] = {}
    examples: dict[tuple[Json, ...], dict[str, Json]] = {}
    paper = judge_named(PAPER)
    for arm in arms:
        answers = [one for one in read_answers(arm.answers) if is_plain_document(one)]
        ours = {one.id: one for one in read_verdicts(arm.verdicts)}
        for one, theirs in zip(answers, paper.judge(answers), strict=True):
            mine, task, label = ours[one.id], str(one.meta["task"]), str(one.meta["label"])
            pairs.setdefault((arm.labels["model"], arm.seed, task, label), []).append((mine, theirs))
            if arm.seed == seeds[0] and None is not mine.is_refusal != theirs.is_refusal is not None:
                # one of a kind: the same answer comes back in many arms
                examples.setdefault((mine.refused, label, task), {**sample(arm, one, mine), "paper": theirs.refused})
    names = ("model", "seed", "task", "label")
    cells: list[Json] = [{**dict(zip(names, at, strict=True)), **compare(some).to_json()} for at, some in pairs.items()]
    return {"judge": judge.name, "cells": cells, "examples": list(examples.values())[:EXAMPLES]} if cells else {}
